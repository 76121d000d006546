"""Records sealed and opened by a TPM: GCM and CCM beside its own rate at encrypting blocks."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from itertools import count

from tlsbench.measure import CPU, WALL, Clock, Effort, Missing, Probe, Progress, interleave
from tlsbench.results import Ratio, Row, Table, Target, figures, rate, target
from tlsbench.tables.tpm import TPMS
from tpmtls.aead import Ccm, Gcm, Mode, Records, libcrypto
from tpmtls.aead.ghash import Ghash
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.constants import Alg
from tpmtls.backends.tpm.frames import encode
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.records import MAX_COMMAND, TpmBlockCipher
from tpmtls.violations import TpmUnavailable

SEAL, OPEN = "seal", "open"
RAW = "EncryptDecrypt2, raw"
GCM, CCM = "GCM", "CCM"
CFB_GCM, PYTHON_GCM = "GCM from CFB alone", "GCM, GHASH in Python"
FULL, FEW, SHORT = 16384, 1000, 100
HEADER = bytes(5)
ABOUT = (
    "AES-128 under a key in the TPM. “EncryptDecrypt2, raw” sends one recorded command of 1 KiB in "
    "ECB again and again, with nothing around it: the rate at which this TPM encrypts. GCM needs "
    "that once for each octet, and GHASH on the host, which is libcrypto's where it is there; CCM "
    "needs it twice, so that half of the raw rate is the most that any CCM can reach. Short "
    "records share commands with the keystream of later ones."
)
MODES = {
    GCM: frozenset(Mode),
    CCM: frozenset(Mode),
    CFB_GCM: frozenset({Mode.CFB}),
    PYTHON_GCM: frozenset(Mode),
}


def measure(effort: Effort, progress: Progress) -> Table:
    """The table."""
    rows: list[Row] = []
    ratios: list[Ratio] = []
    for kind, opened in TPMS.items():
        clock = CPU if kind.startswith("libtpms") else WALL
        for size in effort.sizes((FULL,), (FULL, FEW, SHORT)):
            case = f"{kind}, {size} octets"
            try:
                with opened() as tpm:
                    more = _case(tpm, size, case, clock, effort, progress)
            except (Missing, TpmUnavailable) as reason:
                rows.append(Row(case, "GCM and CCM", absent=str(reason)))
                continue
            rows += more[0]
            ratios += more[1]
    return Table(
        name="aead",
        title="Records by a TPM",
        about=ABOUT,
        columns={SEAL: "MB/s", OPEN: "MB/s"},
        rows=rows,
        ratios=ratios,
        targets=list(_targets(ratios)),
    )


def _targets(ratios: Sequence[Ratio]) -> Iterator[Target]:
    """For each TPM: full records, of which the worse of sealing and opening counts."""
    for kind in TPMS:
        full = [each for each in ratios if each.case == f"{kind}, {FULL} octets"]
        for name, bound in ((CCM, 0.6), (GCM, 0.4)):
            of_one = [each for each in full if each.subject == name]
            text = f"{name} on {kind}, of the raw rate"
            yield target(text, "at least", bound, of_one, beside=RAW)


def _case(
    tpm: Tpm, size: int, case: str, clock: Clock, effort: Effort, progress: Progress
) -> tuple[list[Row], list[Ratio]]:
    """One TPM, one size of records."""
    with ExitStack() as stack:
        key = stack.enter_context(tpm.load(commands.load_aes_key(os.urandom(16))))
        probes: dict[str, Probe] = {RAW: _raw(tpm, key, size, clock)}
        for name, modes in MODES.items():
            cipher = TpmBlockCipher(tpm, key, 16)
            cipher.modes &= modes
            if not cipher.modes:
                continue
            ghash = Ghash if name == PYTHON_GCM else libcrypto.ghash
            mode = Ccm(cipher) if name == CCM else Gcm(cipher, ghash=ghash)
            probes[name] = _records(mode, size, clock)
        turns = interleave(probes, effort, progress, f"aead: {case}")
    rows, ratios = [], []
    for name in probes:
        of_two = {name: turns[name], RAW: turns[RAW]}
        more = figures(of_two, case, (SEAL, OPEN), rate(size / 1e6), beside=(RAW,), subject=name)
        rows.append(more[0][0])
        ratios += more[1] if name != RAW else []
    return rows, ratios


def _raw(tpm: Tpm, key: TpmObject, size: int, clock: Clock) -> Probe:
    """As many octets as a record has, in full commands."""
    transmit = tpm.device.transport.transmit

    def probe(number: int) -> Sequence[float]:
        command = commands.encrypt_decrypt2(key, os.urandom(MAX_COMMAND), Alg.ECB)
        tpm.run(command)  # so that the key is in its slot
        frame = encode(command, None)
        start = clock()
        for _ in range(number):
            for _ in range(max(1, size // MAX_COMMAND)):
                transmit(frame)
        spent = (clock() - start) * size / (max(1, size // MAX_COMMAND) * MAX_COMMAND)
        return spent, spent

    return probe


def _records(mode: Gcm | Ccm, size: int, clock: Clock) -> Probe:
    """Sealing one record after another, and opening them."""
    plaintext = os.urandom(size)

    def probe(number: int) -> Sequence[float]:
        iv = os.urandom(12)
        spent = []
        sealed: list[bytes] = []
        for act in (
            _sealing(Records(mode, iv), plaintext, sealed),
            _opening(Records(mode, iv), sealed),
        ):
            start = clock()
            for _ in range(number):
                act()
            spent.append(clock() - start)
        return spent

    return probe


def _sealing(records: Records, plaintext: bytes, sealed: list[bytes]) -> Callable[[], None]:
    sequences = count()
    return lambda: sealed.append(records.seal(next(sequences), HEADER, plaintext))


def _opening(records: Records, sealed: list[bytes]) -> Callable[[], None]:
    sequences = count()

    def act() -> None:
        number = next(sequences)
        if records.open(number, HEADER, sealed[number]) is None:
            raise RuntimeError("a record does not verify")

    return act
