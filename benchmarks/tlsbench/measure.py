"""Taking turns: what is compared runs A B A B …, so that a busy machine slows all alike."""

from __future__ import annotations

import gc
import statistics
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

Clock = Callable[[], float]
Probe = Callable[[int], Sequence[float]]
"""Does its work so many times, and gives the seconds that each of its figures took in all."""

CPU: Final[Clock] = time.process_time
"""Seconds of this process's processors: others on the machine count for little."""
WALL: Final[Clock] = time.perf_counter
"""Seconds on the wall: where a second process, such as a swtpm, does a part of the work."""

_SHORTEST: Final = 1e-9


class Missing(Exception):
    """A peer, a program or a feature is not here; the message says which, and why."""


@dataclass(frozen=True, slots=True)
class Effort:
    """How much time a figure gets: seconds for each contender, in so many turns.

    `quick` leaves out large sizes, and variants. With `seconds` 0 each contender runs once: a smoke
    test.
    """

    seconds: float = 2.0
    rounds: int = 25
    quick: bool = False

    def sizes(self, few: Sequence[int], all_of_them: Sequence[int]) -> Sequence[int]:
        """The sizes to measure: but the first, when it is only about whether it runs."""
        if not self.seconds:
            return few[:1]
        return few if self.quick else all_of_them


FULL: Final = Effort()
QUICK: Final = Effort(0.15, 3, quick=True)
SMOKE: Final = Effort(0.0, 1, quick=True)


@dataclass(frozen=True, slots=True)
class Spread:
    """The median of some measurements, the least, the most, and how many there were."""

    median: float
    low: float
    high: float
    count: int

    @classmethod
    def of(cls, values: Sequence[float]) -> Spread:
        """Of at least one value."""
        return cls(statistics.median(values), min(values), max(values), len(values))


class Progress:
    """Says on stderr what is being measured: in one line that changes, where that is a terminal."""

    def __init__(self, *, silent: bool = False) -> None:
        self._silent = silent
        self._live = sys.stderr.isatty()

    def say(self, what: str) -> None:
        """Something new begins."""
        if not self._silent:
            before, after = ("\r\033[K", "") if self._live else ("", "\n")
            print(before + what, end=after, file=sys.stderr, flush=True)

    def turn(self, what: str, done: int, of: int) -> None:
        """So many of its turns are done; only a terminal shows it."""
        if self._live:
            self.say(f"{what}  {done}/{of}")

    def done(self) -> None:
        """Leave a clean line behind."""
        if self._live:
            self.say("")


def timed(run: Callable[[], object], clock: Clock = CPU) -> Probe:
    """A probe with one figure: the time that `run` takes."""

    def probe(count: int) -> Sequence[float]:
        start = clock()
        for _ in range(count):
            run()
        return (clock() - start,)

    return probe


def interleave(
    probes: Mapping[str, Probe], effort: Effort, progress: Progress, what: str
) -> dict[str, list[tuple[float, ...]]]:
    """Let all take turns; for each, the seconds that one execution took, by turn and by figure.

    How often a probe executes in a turn is settled by a first run, which is not counted.
    """
    progress.say(what)
    slice_ = effort.seconds / effort.rounds
    counts = {name: _fitting(probe, slice_) for name, probe in probes.items()}
    turns: dict[str, list[tuple[float, ...]]] = {name: [] for name in probes}
    for number in range(effort.rounds):
        for name, probe in probes.items():
            gc.collect()  # what the others left is not this one's to clear away
            spent = probe(counts[name])
            turns[name].append(tuple(max(s, _SHORTEST) / counts[name] for s in spent))
        progress.turn(what, number + 1, effort.rounds)
    return turns


def _fitting(probe: Probe, seconds: float) -> int:
    """How many executions fill so many seconds."""
    if not seconds:
        return 1
    probe(1)  # imports, caches: the first time costs more
    count = 1
    while (spent := sum(probe(count))) < seconds / 10:
        count *= 4
    return max(1, round(count * seconds / spent))
