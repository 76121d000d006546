"""Many connections at once: what each keeps, and how fast they are made."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path

from tlsbench.crowd import STACKS
from tlsbench.measure import Effort, Progress, Spread
from tlsbench.programs import failure
from tlsbench.results import Ratio, Row, Table, Target
from tlsbench.stacks import Files, certificates

MEMORY, RATE = "memory of an end", "rate"
BOUND = 100.0
TIMEOUT = 120.0
ABOUT = (
    "So many connections in one process, both ends, all in the same flight at the same time, then "
    "idle. Memory is what the process has grown by, as the kernel counts it, over twice the number "
    "of connections; below a few dozen it is mostly the granularity of pages. The rate is by "
    "processor time. Full handshakes in x25519, no tickets."
)


def measure(effort: Effort, progress: Progress) -> Table:
    """The table."""
    rows: list[Row] = []
    ratios: list[Ratio] = []
    worst: tuple[float, str] | None = None
    with certificates() as files:
        for number in effort.sizes((1, 100), (1, 10, 100, 1000)):
            case = f"{number} at once"
            progress.say(f"connections: {case}")
            turns = _turns(files, number, effort)
            rows += [Row(case, name, _figures(each)) for name, each in turns.items()]
            ratios += _ratios(case, turns["tpmtls"], turns["CPython ssl"])
            if number >= 100:
                median = rows[-len(turns)].figures[MEMORY].median
                worst = max(worst or (0.0, ""), (median, case))
    value, where = worst or (None, "")
    text = "KiB of memory for an end that is idle, of 100 and more"
    return Table(
        name="connections",
        title="Connections at once",
        about=ABOUT,
        columns={MEMORY: "KiB", RATE: "handshakes/s"},
        rows=rows,
        ratios=ratios,
        targets=(Target(text, "at most", BOUND, value, where),),
    )


Turn = tuple[float, float]
"""KiB for each end, handshakes a second."""


def _turns(files: Files, number: int, effort: Effort) -> dict[str, list[Turn]]:
    """Both stacks by turns, each time in a new process."""
    turns: dict[str, list[Turn]] = {name: [] for name in STACKS}
    for _ in range(min(effort.rounds, 5)):
        for name, found in turns.items():
            found.append(_turn(name, number, files.ca.parent))
    return turns


def _turn(name: str, number: int, folder: Path) -> Turn:
    command = [sys.executable, "-m", "tlsbench.crowd", name, str(number), str(folder)]
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=TIMEOUT)
    if done.returncode:
        raise failure(done)
    told = json.loads(done.stdout)
    return told["octets"] / number / 2 / 1024, number / told["seconds"]


def _figures(turns: list[Turn]) -> dict[str, Spread]:
    memory, rates = zip(*turns, strict=True)
    return {MEMORY: Spread.of(memory), RATE: Spread.of(rates)}


def _ratios(case: str, ours: list[Turn], theirs: list[Turn]) -> list[Ratio]:
    """Of the rates; memory of single connections is too coarse to divide by."""
    values = [own[1] / other[1] for own, other in zip(ours, theirs, strict=True)]
    return [Ratio(case, RATE, "tpmtls", "CPython ssl", Spread.of(values))]
