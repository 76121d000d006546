"""What was seen of the secrets of one run: plain data, between the observer, the model of the
attackers, and the reports."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from tpmtls.backends.base import Place
from tpmtls.backends.ledger import Boundary, Direction, Visibility

Goal = Literal[
    "read recorded traffic",
    "read future traffic",
    "resume the session elsewhere",
    "impersonate the client",
    "impersonate by PSK",
    "forge records",
]

Verdict = Literal["yes", "while there", "no", "not applicable"]


@dataclass(frozen=True, slots=True)
class Crossed:
    """One crossing of a secret at one instant; `times` at that instant."""

    boundary: Boundary
    direction: Direction
    via: str
    """The TPM command or operation of the backend, as the ledger names it."""
    visibility: Visibility
    instant: int
    times: int = 1


@dataclass(frozen=True, slots=True)
class Stay:
    """From `first` to `last` instant, both included, the secret was at `place`.

    `stored`: it is there in what the client keeps between connections (session cache, key file), so
    that it is on the disk in the same form: in clear for `host`, wrapped for this TPM for `tpm`.
    """

    place: Place
    first: int
    last: int
    stored: bool = False


@dataclass(frozen=True, slots=True)
class SecretSeen:
    """One secret of one connection.

    `connection` is 1 for the full handshake, 2 for the resumed one, 0 for what is there before
    (external PSK, the key of the certificate). `parent` is the name of the secret that it was
    expanded from where the name alone would not tell: the `write_key` of which traffic secret.

    Names are the ledger's, and beside them `signing_key` (0) and `ephemeral_key`. These need care:

        0/PSK                            an external PSK
        0/finished_key  0/derived        the two keys that it was provisioned as
        0/authValue                      what a chain's ciphertexts are encrypted under
        1/PSK                            the PSK of a ticket that connection 1 brought: also while
                                         it is stored, and when connection 2 unwraps it
        2/early_secret                   its Early Secret: also when connection 1 has it made and
                                         wrapped, since a TPM stores that in the PSK's place
        1/early_secret/derived           and so on: which of the two
        2/binder_key/finished_key        and so on: whose
        1/server_application_traffic_secret_0/ghash_key
    """

    connection: int
    name: str
    parent: str
    born: str
    """The TPM command whose response or object it first was, `host`, or the model's operation."""
    stays: tuple[Stay, ...]
    crossings: tuple[Crossed, ...]

    @property
    def id(self) -> str:
        """`1/client_application_traffic_secret_0/write_key`."""
        return "/".join(filter(None, (str(self.connection), self.parent, self.name)))

    def in_clear_on_host(self, instant: int) -> bool:
        """Whether one who reads this process's memory at the instant finds it."""
        return any(
            stay.place == "host" and stay.first <= instant <= stay.last for stay in self.stays
        ) or any(c.visibility == "clear" and c.instant == instant for c in self.crossings)


@dataclass(frozen=True, slots=True)
class Moment:
    """A named stretch of the run, such as `1 ServerHello`; instants count operations.

    `connection` is 0 before, between and after the connections.
    """

    name: str
    connection: int
    first: int
    last: int

    @property
    def has_data(self) -> bool:
        """Whether application data is sent meanwhile."""
        return self.name.endswith((" data", " data again"))


@dataclass(frozen=True, slots=True)
class Observation:
    """One run of the scenario by one profile."""

    profile: str
    title: str
    suite: str
    group: str
    tpm: str | None
    """The TPM's name, None without one."""
    psk: bool
    """Whether an external PSK was used."""
    early_data: bool
    """Whether the resumed connection had 0-RTT data."""
    moments: Sequence[Moment]
    secrets: Sequence[SecretSeen]
    claim: str = ""
    """What `encrypted` is worth where it is worth less than it says (`Ledger.claim`)."""
    commands: int = 0
    """TPM commands that the run took."""
    seconds: float = 0.0

    def moment(self, instant: int) -> Moment:
        """The stretch that an instant is in."""
        return next(m for m in self.moments if m.first <= instant <= m.last)


@dataclass(frozen=True, slots=True)
class Step:
    """One application of a rule: from the `premises` follows the `conclusion`."""

    rule: str
    premises: tuple[str, ...]
    conclusion: str


@dataclass(frozen=True, slots=True)
class Cell:
    """What one attacker can do against one profile."""

    attacker: str
    profile: str
    goal: Goal
    verdict: Verdict
    derivation: tuple[Step, ...]
    """The shortest, from what the attacker has to the goal; empty for `no`."""
    note: str = ""


@dataclass(frozen=True, slots=True)
class Unavailable:
    """A profile that was asked for and cannot be had here, and why."""

    profile: str
    title: str
    reason: str


@dataclass(frozen=True, slots=True)
class Audit:
    """All of it: what `--json` writes and the page shows."""

    version: str
    date: str
    observations: Sequence[Observation]
    cells: Sequence[Cell]
    unavailable: Sequence[Unavailable] = ()
    notes: Sequence[str] = ()
    """What has to be said beside it, a sentence or two each."""
