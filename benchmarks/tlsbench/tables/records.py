"""Records: sealing and opening, per cipher suite, large and small, beside other stacks."""

from __future__ import annotations

import os
from collections.abc import Sequence

import tpmtls
from tlsbench.measure import CPU, Effort, Missing, Probe, Progress, interleave
from tlsbench.results import Ratio, Row, Table, figures, rate, target
from tlsbench.stacks import STACKS, Files, Stack, certificates
from tlsbench.stacks.base import Stream
from tpmtls.algorithms import SUITES

SEAL, OPEN = "seal", "open"
LARGE, SMALL = 2**14, 64
LUMP = 2**16
"""Octets that come from the transport at once."""
QUICK_SUITES = (
    tpmtls.CipherSuite.TLS_AES_128_GCM_SHA256,
    tpmtls.CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
)
ABOUT = (
    "A client that is connected to a server of the reference: sealing takes one call for each "
    f"record's data, and gives the octets for the transport; opening takes {LUMP // 1024} KiB "
    "from the transport at a time, and gives the data. MB are 10⁶ octets of data. CPython's "
    "`ssl` is linked with the machine's OpenSSL, pyOpenSSL with that of `cryptography`, which "
    "does the reference's AES and ChaCha20 too."
)


def measure(effort: Effort, progress: Progress) -> Table:
    """The table."""
    rows: list[Row] = []
    ratios: list[Ratio] = []
    with certificates() as files:
        for size in (LARGE, SMALL):
            for suite in QUICK_SUITES if effort.quick else tuple(SUITES):
                case = f"{size} octets, {suite.name}"
                probes: dict[str, Probe] = {}
                absent: list[Row] = []
                for stack in STACKS:
                    try:
                        probes[stack.name] = _probe(stack, files, suite, size)
                    except Missing as reason:
                        absent.append(Row(case, stack.name, absent=str(reason)))
                turns = interleave(probes, effort, progress, f"records: {case}")
                beside = [name for name in probes if name != STACKS[0].name]
                more = figures(turns, case, (SEAL, OPEN), rate(size / 1e6), beside=beside)
                rows += more[0] + absent
                ratios += more[1]
    large = [ratio for ratio in ratios if ratio.case.startswith(f"{LARGE} ")]
    return Table(
        name="records",
        title="Records",
        about=ABOUT,
        columns={SEAL: "MB/s", OPEN: "MB/s"},
        rows=rows,
        ratios=ratios,
        targets=(
            target("16 KiB records beside ssl", "at least", 0.5, large, beside="CPython ssl"),
        ),
    )


def _probe(stack: Stack, files: Files, suite: tpmtls.CipherSuite, size: int) -> Probe:
    """Seals so many records and opens as many, in lumps; the seconds of each."""
    server = tpmtls.ServerConnection(
        tpmtls.ServerConfig(credentials=(files.credential(),), suites=(suite,), tickets=0)
    )
    stream = stack.stream(server, files, suite)
    data = os.urandom(size)
    server.send_data(data)
    record = server.data_to_send()
    if stream.open(record) != size:
        raise RuntimeError("the data did not come through")
    lump = max(1, LUMP // len(record))

    def probe(count: int) -> Sequence[float]:
        start = CPU()
        for _ in range(count):
            stream.seal(data)
        sealing, opening = CPU() - start, 0.0
        for done in range(0, count, lump):
            opening += _open(stream, server, data, min(lump, count - done))
        return sealing, opening

    return probe


def _open(stream: Stream, server: tpmtls.ServerConnection, data: bytes, count: int) -> float:
    """The seconds that opening so many records at once took."""
    for _ in range(count):
        server.send_data(data)
    octets = server.data_to_send()
    start = CPU()
    opened = stream.open(octets)
    spent = CPU() - start
    if opened != count * len(data):
        raise RuntimeError("data is missing")
    return spent
