"""The hook for the replay through the reference; nothing else here needs `tpmtls`."""

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from typing import Final

from .library import TRACES, Library
from .problems import Problem
from .trace import Trace

# The package beside this module that imports `tpmtls` and offers `replay` for both roles
HOOK: Final = "reference_replay"
Replay = Callable[[Trace, Trace | None], Iterator[Problem]]


def find_replay() -> Replay | None:
    """The replay, or None where the reference or the replay is not there."""
    package = __package__ or "vectorlib"
    if (
        importlib.util.find_spec("tpmtls") is None
        or importlib.util.find_spec(f"{package}.{HOOK}") is None
    ):
        return None
    found: Replay = importlib.import_module(f"{package}.{HOOK}").replay
    return found


def replay_problems(library: Library, name: str) -> Iterator[Problem]:
    """What the reference does otherwise than a document; nothing where that is not a trace."""
    replay = find_replay()
    if replay is None or name not in TRACES:
        return
    trace = library.trace(name)
    resumed = trace.data["resumes"]
    yield from replay(trace, library.trace(resumed) if resumed else None)
