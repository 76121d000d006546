"""Transfers from 1 KiB to 64 MiB over one connection."""

from __future__ import annotations

import os
from collections.abc import Sequence

import tpmtls
from tlsbench.measure import CPU, Effort, Probe, Progress, interleave
from tlsbench.results import Ratio, Row, Table, figures, rate
from tlsbench.stacks import Files, Stack, certificates
from tlsbench.stacks.cpython import CPython
from tlsbench.stacks.reference import Reference

SEND, RECEIVE = "send", "receive"
KIB, MIB = 1024, 1024 * 1024
PIECE = 64 * KIB
"""Octets in one call, as a program that reads a file would have them."""
STACKS: tuple[Stack, ...] = (Reference(), CPython())
SUITE = tpmtls.CipherSuite.TLS_AES_128_GCM_SHA256
ABOUT = (
    f"A client that sends so much in pieces of {PIECE // KIB} KiB, and one that receives it so, "
    "after the handshake, with TLS_AES_128_GCM_SHA256. MB are 10⁶ octets."
)


def measure(effort: Effort, progress: Progress) -> Table:
    """The table."""
    rows: list[Row] = []
    ratios: list[Ratio] = []
    with certificates() as files:
        for size in effort.sizes((KIB, MIB), (KIB, 64 * KIB, MIB, 16 * MIB, 64 * MIB)):
            case = f"{size // MIB} MiB" if size >= MIB else f"{size // KIB} KiB"
            probes = {stack.name: _probe(stack, files, size) for stack in STACKS}
            turns = interleave(probes, effort, progress, f"transfers: {case}")
            others = [stack.name for stack in STACKS[1:]]
            more = figures(turns, case, (SEND, RECEIVE), rate(size / 1e6), beside=others)
            rows += more[0]
            ratios += more[1]
    return Table(
        name="transfers",
        title="Transfers",
        about=ABOUT,
        columns={SEND: "MB/s", RECEIVE: "MB/s"},
        rows=rows,
        ratios=ratios,
    )


def _probe(stack: Stack, files: Files, size: int) -> Probe:
    """So many transfers in each direction, on one connection; the seconds of each."""
    server = tpmtls.ServerConnection(
        tpmtls.ServerConfig(credentials=(files.credential(),), suites=(SUITE,), tickets=0)
    )
    stream = stack.stream(server, files, SUITE)
    data = os.urandom(min(size, PIECE))
    pieces = max(1, size // PIECE)

    def probe(count: int) -> Sequence[float]:
        sending = receiving = 0.0
        for _ in range(count * pieces):
            start = CPU()
            stream.seal(data)
            middle = CPU()
            server.send_data(data)
            octets = server.data_to_send()
            after = CPU()
            if stream.open(octets) != len(data):
                raise RuntimeError("data is missing")
            receiving += CPU() - after
            sending += middle - start
        return sending, receiving

    return probe
