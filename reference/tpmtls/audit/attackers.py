"""The attackers, their goals, and the words of verdicts, stated for people who read them.

Verdicts go by what an observation says is kept. What Python and OpenSSL copied and cannot wipe
stays in memory longer: where that would make a difference to a snapshot, the cell's note says so.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final, Literal

from tpmtls.audit.evidence import Way
from tpmtls.audit.model import Goal

When = Literal["always", "theft", "between", "during"]

_NOTHING: Final[frozenset[Way]] = frozenset()


@dataclass(frozen=True, slots=True)
class Attacker:
    """One attacker. All of them also record and alter the network.

    `ways` are where it looks; `passing` is what is good only while it does. `when` says at which
    instants: `always`, or at a single one, the best for it, of those.
    """

    key: str
    title: str
    statement: str
    ways: frozenset[Way]
    passing: frozenset[Way] = _NOTHING
    when: When = "always"
    leaves: bool = False
    """It is judged by what it knows after it has left."""
    takes_tpm: bool = False
    residue: bool = False
    """It finds in memory what was there once, too: Python leaves copies that nobody wipes."""

    @property
    def has_code(self) -> bool:
        """Whether it runs code on the host, and so could use the TPM."""
        return "use" in self.passing


_MEMORY: Final = frozenset[Way]({"memory"})
_HOST: Final = frozenset[Way]({"memory", "bus", "file"})
_THERE: Final = frozenset[Way]({"use", "memory data", "bus data"})

ATTACKERS: Final = (
    Attacker(
        "network",
        "network only",
        "Records and alters everything on the network, and sees nothing of the host.",
        _NOTHING,
    ),
    Attacker(
        "disk",
        "thief of the disk",
        "Has a copy, made at the instant that suits it best, of the client's files: session cache, "
        "key files, PSK files; not the TPM.",
        frozenset({"file"}),
        when="theft",
    ),
    Attacker(
        "bus",
        "bus reader",
        "Reads everything that passes between host and TPM during the whole run, and alters none "
        "of it. The handle-only model's pipe counts as the bus of the TPM that it stands for.",
        frozenset({"bus"}),
        frozenset({"bus data"}),
    ),
    Attacker(
        "snapshot-between",
        "one snapshot between sessions",
        "Has one image of the client's memory from between the two connections.",
        _MEMORY,
        when="between",
    ),
    Attacker(
        "snapshot-during",
        "one snapshot during a session",
        "Has one image of the client's memory from within a connection, taken at the instant that "
        "is worst for the client.",
        _MEMORY,
        when="during",
    ),
    Attacker(
        "memory",
        "memory at all times",
        "Reads the client's memory at all instants of the run, and cannot use the TPM.",
        _MEMORY,
        frozenset({"memory data"}),
    ),
    Attacker(
        "host",
        "code on the host, while there",
        "Runs code on the host during the whole run: reads memory, files and bus, and uses every "
        "object of the TPM, or of the model, for as long as the object exists.",
        _HOST,
        _THERE,
    ),
    Attacker(
        "host-left",
        "code on the host, after it left",
        "Was code on the host until the instant that suits it best; has left with all that it came "
        "to know, and can use the TPM no more.",
        _HOST,
        _THERE,
        leaves=True,
    ),
    Attacker(
        "host-tpm",
        "code on the host, with the TPM taken",
        "As the one before, and took the TPM (or the model) and the disk along: it can use the "
        "keys that are stored; objects that were only loaded went with the power.",
        _HOST,
        _THERE,
        leaves=True,
        takes_tpm=True,
    ),
)
"""From the weakest to the strongest, as far as they compare."""

GOALS: Final[dict[Goal, str]] = {
    "read recorded traffic": "Application data of either connection, 0-RTT data too, that was sent "
    "before the attacker's instant: decrypted from a recording of the network, or seen as it "
    "passed. What stands in the application's buffers in a snapshot does not count.",
    "read future traffic": "Application data that is sent after the attacker's instant: in the "
    "same connection across KeyUpdates, or in the next one, be it by playing the server there.",
    "resume the session elsewhere": "A handshake that the server completes as a resumption of a "
    "session that the client made, from another machine.",
    "impersonate the client": "A CertificateVerify in the client's name in a new handshake.",
    "impersonate by PSK": "A new handshake under the external PSK, from another machine.",
    "forge records": "A record of application data, in a connection between client and server that "
    "is open, that the receiver takes for the other's.",
}
"""Each goal's exact meaning."""

VERDICTS: Final = {
    "yes": "With what it knows, or has taken, it can.",
    "while there": "It can for as long as it is where it is: by asking the TPM or the model, or by "
    "reading what passes. It leaves with nothing to go on with.",
    "no": "It cannot, as far as rules and observation go.",
    "not applicable": "There is no such thing in this profile.",
}

NOT_MODELLED: Final = (
    (
        "The state of a libtpms in this process, or of the handle-only model's: they stand for a "
        "chip, and are taken to be out of reach."
    ),
    (
        "The server's side: its keys and its memory are out of reach, and it keeps to the "
        "protocol. Whether it takes a ticket twice is its affair; the attacker may be the first."
    ),
    "An attacker who alters the bus. Against `chained` he can do what code on the host can.",
    (
        "Passwords and policies of keys: those that are observed have none. A key file with a "
        "password is of use to a thief of the disk only when he has that, too."
    ),
    "The application: what it says, and what a replay of 0-RTT data does to it.",
    "Broken primitives, side channels, faults, and TPMs with bugs.",
)
"""What verdicts do not speak of, beside what an audit says of itself (`conduct`)."""
