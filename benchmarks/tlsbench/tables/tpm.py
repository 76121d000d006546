"""Handshakes with one end's secrets in a TPM, per protection level: what they cost, and where."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding

import tpmtls
from tlsbench.measure import Effort, Missing, Probe, Progress, Spread, interleave
from tlsbench.results import Row, Table, Target
from tlsbench.stacks.base import HOST
from tlsbench.swtpm import Swtpm
from tpmtls.backends.base import Backend
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.software_signer import SoftwareSigner
from tpmtls.backends.tpm import commands, keys
from tpmtls.backends.tpm.backend import LEVELS, TpmBackend
from tpmtls.backends.tpm.chained import CHAINED, ChainedBackend
from tpmtls.backends.tpm.chained_provisioning import provision_opened
from tpmtls.backends.tpm.frames import encode
from tpmtls.backends.tpm.opening import Tpm, open_tpm
from tpmtls.backends.tpm.signing import TpmSigner
from tpmtls.certificates import issuing
from tpmtls.violations import TpmUnavailable

GROUPS = (tpmtls.NamedGroup.secp256r1,)
SUITES = (tpmtls.CipherSuite.TLS_AES_128_GCM_SHA256,)
SOFTWARE: tuple[str, ...] = ()
LEVEL_SETS: tuple[tuple[str, ...], ...] = (
    SOFTWARE,
    *((level,) for level in LEVELS),
    ("ecdhe", "hkdf", "aead"),
    LEVELS,
    (CHAINED,),
)
OWN, INSIDE, RAW, COMMANDS = "own", "in the TPM", "raw", "commands"
OVER_INSIDE, OVER_RAW, LEAST = "own / in the TPM", "own / raw", "at the least"
COLUMNS = {
    OWN: "ms",
    INSIDE: "ms",
    OVER_INSIDE: "×",
    LEAST: "×",
    RAW: "ms",
    OVER_RAW: "×",
    COMMANDS: "",
}
BOUND = 1.25
ABOUT = (
    "Full handshakes in P-256 with TLS_AES_128_GCM_SHA256, both ends in this process, on the wall. "
    "The server's certificate is ECDSA P-256; with the level sign its key is in the TPM, or else "
    "the client has a certificate too, with its key there. “Own” is all that the end with the TPM "
    "does from its making to its last call, the verification of the peer's certificate included; "
    "“in the TPM” is the part of it inside the transport. “Raw” is the floor: the same commands, "
    "recorded, sent again with nothing around them; encrypted chaining cannot be repeated so. “At "
    "the least” is what own / in the TPM would be if commands cost the host nothing: the time in "
    "the TPM and that of a handshake in software, over the former. Each handshake finds the TPM's "
    "slots empty, as after a pause."
)


def measure(effort: Effort, progress: Progress) -> Table:
    """The table."""
    rows: list[Row] = []
    for kind, opened in TPMS.items():
        cases = [(role, f"{kind}, {role}") for role in ("client", "server")]
        try:
            with opened() as tpm:
                for role, case in cases:
                    rows += _case(tpm, role, case, effort, progress)
        except (Missing, TpmUnavailable) as reason:
            rows += [Row(case, "all levels", absent=str(reason)) for _, case in cases]
    return Table(
        name="tpm",
        title="Handshakes with a TPM",
        about=ABOUT,
        columns=COLUMNS,
        rows=rows,
        targets=_targets(rows),
    )


def _targets(rows: Sequence[Row]) -> list[Target]:
    """All levels beside the time in the TPM: the worst of both roles, for each TPM."""
    found = []
    for kind in ("libtpms", "swtpm"):
        values = {
            row.case: row.figures[OVER_INSIDE].median
            for row in rows
            if row.subject == _name(LEVELS) and row.case.startswith(kind) and row.figures
        }
        worst = max(values, key=lambda case: values[case], default="")
        text = f"handshakes with all levels on {kind}, beside the time in the TPM"
        found.append(Target(text, "at most", BOUND, values.get(worst), worst))
    return found


@contextmanager
def _libtpms() -> Iterator[Tpm]:
    with open_tpm("libtpms:") as tpm:
        yield tpm


@contextmanager
def _swtpm() -> Iterator[Tpm]:
    with (
        tempfile.TemporaryDirectory(prefix="tlsbench-") as folder,
        Swtpm(Path(folder) / "swtpm") as server,
        open_tpm(server.tcti) as tpm,
    ):
        yield tpm


TPMS: Mapping[str, Callable[[], AbstractContextManager[Tpm]]] = {
    "libtpms in process": _libtpms,
    "swtpm": _swtpm,
}
"""Two TPMs in software: without a way to it, and with one."""


def _name(levels: tuple[str, ...]) -> str:
    return ",".join(levels) or "software"


def _case(tpm: Tpm, role: str, case: str, effort: Effort, progress: Progress) -> list[Row]:
    """One TPM, one role: all level sets take turns."""
    with ExitStack() as stack:
        ends = {
            _name(levels): stack.enter_context(_ends(tpm, role, levels)) for levels in LEVEL_SETS
        }
        frames = {name: _frames(each, tpm) for name, each in ends.items()}
        probes = {name: _probe(each, tpm, frames[name]) for name, each in ends.items()}
        turns = interleave(probes, effort, progress, f"tpm: {case}")
    host = [turn[0] for turn in turns[_name(SOFTWARE)]]
    return [Row(case, name, _figures(turns[name], host, len(frames[name]))) for name in ends]


def _figures(
    turns: Sequence[Sequence[float]], host: Sequence[float], number: int
) -> Mapping[str, Spread]:
    """Of one level set; `host` is what handshakes in software take, turn by turn."""
    own, inside, raw = zip(*turns, strict=True)
    found = {OWN: Spread.of([1e3 * seconds for seconds in own])}
    for column, over, seconds in ((INSIDE, OVER_INSIDE, inside), (RAW, OVER_RAW, raw)):
        if min(seconds) > _NEGLIGIBLE:
            found[column] = Spread.of([1e3 * each for each in seconds])
            found[over] = Spread.of([a / b for a, b in zip(own, seconds, strict=True)])
    if number:
        found[LEAST] = Spread.of([(a + b) / a for a, b in zip(inside, host, strict=True)])
        found[COMMANDS] = Spread.of([float(number)])
    return found


_NEGLIGIBLE = 1e-6
"""Seconds: less than any command takes."""


# -- one handshake ---------------------------------------------------------------------------------


@dataclass(slots=True)
class _Cost:
    """Of one handshake, in seconds."""

    own: float
    inside: float


class _Ends:
    """What handshakes are made of: configurations and backends."""

    def __init__(self, role: str, backend: Backend, signer: TpmSigner | None) -> None:
        credential, other = _credential(None), _credential(signer)
        if role == "server":
            credential, other = other, credential
        trust, client_trust = (each.leaf.public_bytes(Encoding.PEM) for each in (credential, other))
        self._client = tpmtls.ClientConfig(
            trust=trust, server_name=HOST, groups=GROUPS, suites=SUITES
        )
        self._server = tpmtls.ServerConfig(
            credentials=(credential,), groups=GROUPS, suites=SUITES, tickets=0
        )
        if role == "client" and signer is not None:
            self._client = self._client.replace(credentials=(other,))
            self._server = self._server.replace(
                client_trust=client_trust, require_client_certificate=True
            )
        software = SoftwareBackend()
        self._backends = (backend, software) if role == "client" else (software, backend)
        self._role = role

    def handshake(self, tpm: Tpm) -> _Cost:
        """One, and what it cost."""
        spent = {"client": 0.0, "server": 0.0}

        def clocked(role: str, action: Callable[[], bytes | None]) -> bytes | None:
            start = time.perf_counter()
            result = action()
            spent[role] += time.perf_counter() - start
            return result

        before = tpm.device.statistics
        start = time.perf_counter()
        client = tpmtls.ClientConnection(self._client, self._backends[0])
        middle = time.perf_counter()
        server = tpmtls.ServerConnection(self._server, self._backends[1])
        spent["client"] += middle - start
        spent["server"] += time.perf_counter() - middle
        while not (client.handshake_complete and server.handshake_complete):
            for role, source, peer, target in (
                ("client", client, "server", server),
                ("server", server, "client", client),
            ):
                octets = clocked(role, source.data_to_send)
                if octets:
                    clocked(peer, lambda: target.receive_data(octets))  # noqa: B023 - called at once
        inside = tpm.device.statistics.seconds - before.seconds
        client.forget()
        server.forget()
        return _Cost(spent[self._role], inside)


def _credential(signer: TpmSigner | None) -> tpmtls.Credential:
    """A certificate that vouches for itself, with a key in the TPM or on the host."""
    known = signer or SoftwareSigner(ec.generate_private_key(ec.SECP256R1()))
    name = issuing.parse_name(HOST)
    certificate = issuing.self_signed(
        known, issuing.subject_for(name), [name], now=datetime.now(UTC), days=1
    )
    return tpmtls.Credential.load(certificate.public_bytes(Encoding.PEM), None, lambda _: known)


@contextmanager
def _ends(tpm: Tpm, role: str, levels: tuple[str, ...]) -> Iterator[_Ends]:
    """Ends with these levels, in an opening of the TPM that is theirs."""
    backend: Backend
    if CHAINED in levels:
        provision_opened(tpm)
        backend = ChainedBackend(tpm.beside())
    else:
        backend = TpmBackend(tpm.beside(), levels) if levels else SoftwareBackend()
    try:
        signer = None
        if "sign" in levels:
            key = keys.load_key(tpm, keys.create_key(tpm, "ecc-p256"))
            signer = TpmSigner(tpm, key, closes_tpm=False)
        yield _Ends(role, backend, signer)
    finally:
        backend.close()


# -- its commands, raw -----------------------------------------------------------------------------


def _frames(ends: _Ends, tpm: Tpm) -> list[bytes]:
    """The commands of a handshake that finds the TPM's slots empty."""
    for _ in range(2):  # what is done once at first is not repeated
        ends.handshake(tpm)
        tpm.evict()
    with tpm.device.recording() as recorder:
        ends.handshake(tpm)
    tpm.evict()
    return [exchange.command for exchange in recorder.exchanges]


def _repeat(frames: Sequence[bytes], tpm: Tpm) -> float | None:
    """The seconds that these commands take by themselves; None where one fails."""
    transmit = tpm.device.transport.transmit
    start = time.perf_counter()
    responses = [transmit(frame) for frame in frames]
    spent = time.perf_counter() - start
    for handle in _SLOTS:
        transmit(encode(commands.flush_context(handle), None))
    return spent if all(response[6:10] == bytes(4) for response in responses) else None


_SLOTS = range(0x80000000, 0x80000003)


def _probe(ends: _Ends, tpm: Tpm, frames: Sequence[bytes]) -> Probe:
    """Handshakes: own, inside the TPM; and as often their commands, raw."""
    repeatable = bool(frames) and _repeat(frames, tpm) is not None

    def probe(count: int) -> Sequence[float]:
        own = inside = raw = 0.0
        for _ in range(count):
            tpm.evict()
            cost = ends.handshake(tpm)
            own += cost.own
            inside += cost.inside
            tpm.evict()
            if repeatable:
                raw += _repeat(frames, tpm) or 0.0
        return own, inside, raw

    return probe
