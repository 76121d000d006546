"""Where the time of a handshake goes: samples of the processor's time, by module."""

from __future__ import annotations

import signal
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Final

from tlsbench.measure import CPU, Effort, Progress, Spread
from tlsbench.results import Row, Table
from tlsbench.stacks import certificates
from tlsbench.stacks.base import Run
from tlsbench.stacks.reference import Reference
from tpmtls.codepoints import NamedGroup

SHARE, TIME = "share", "time"
PACKAGE: Final = "tpmtls."
INTERVAL: Final = 0.001
ABOUT = (
    "Samples of where the processor was during full handshakes of the reference, both ends, by the "
    "module of `tpmtls` that was running or had called a library: `backends` and `certificates` "
    "are mostly the primitives that they call, the others are Python alone. The time is that share "
    "of a handshake's."
)


def measure(effort: Effort, progress: Progress) -> Table:
    """The table."""
    rows: list[Row] = []
    with certificates() as files:
        for group in (NamedGroup.secp256r1, NamedGroup.x25519):
            case = f"full, {group.name}"
            progress.say(f"profile: {case}")
            run = Reference().handshakes(files, group, resumed=False)
            rows += _rows(case, run, effort.seconds * 4)
    return Table(
        name="profile",
        title="Profile of a handshake",
        about=ABOUT,
        columns={SHARE: "%", TIME: "µs"},
        rows=rows,
    )


def _rows(case: str, run: Run, seconds: float) -> list[Row]:
    run()
    start, number = CPU(), 0
    found: Counter[str] = Counter()
    with _sampling(found):
        while not number or not found or CPU() - start < seconds:
            run()
            number += 1
    each = 1e6 * (CPU() - start) / number
    samples = found.total()
    return [
        Row(case, name, {SHARE: _one(100 * hits / samples), TIME: _one(each * hits / samples)})
        for name, hits in found.most_common()
    ]


def _one(value: float) -> Spread:
    return Spread(value, value, value, 1)


@contextmanager
def _sampling(found: Counter[str]) -> Iterator[None]:
    """Count, while the block runs, which module each sample falls into."""

    def sample(_number: int, frame: FrameType | None) -> None:
        found[_module(frame)] += 1

    before = signal.signal(signal.SIGPROF, sample)
    signal.setitimer(signal.ITIMER_PROF, INTERVAL, INTERVAL)
    try:
        yield
    finally:
        signal.setitimer(signal.ITIMER_PROF, 0)
        time.sleep(0)  # a signal on its way is still ours
        signal.signal(signal.SIGPROF, before)


def _module(frame: FrameType | None) -> str:
    """The first part of the name of the innermost module of ours, or that it is the benchmark's."""
    while frame is not None:
        name = str(frame.f_globals.get("__name__", ""))
        if name.startswith(PACKAGE):
            return name.split(".")[1]
        if name.startswith("tlsbench."):
            break
        frame = frame.f_back
    return "the benchmark"
