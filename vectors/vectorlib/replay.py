"""The hook for what the reference is asked; nothing else here needs `tpmtls`."""

import importlib
import importlib.util
from collections.abc import Callable, Iterator
from types import ModuleType
from typing import Final

from .library import COLLECTED, TRACES, Library, load
from .problems import Problem
from .trace import Trace

# The package beside this module that imports `tpmtls` and offers `replay` for both roles
HOOK: Final = "reference_replay"
Replay = Callable[[Trace, Trace | None], Iterator[Problem]]


def find_replay() -> Replay | None:
    """The replay, or None where the reference or the replay is not there."""
    hook = _find()
    if hook is None:
        return None
    found: Replay = hook.replay
    return found


def _find(module: str = "") -> ModuleType | None:
    package = __package__ or "vectorlib"
    if (
        importlib.util.find_spec("tpmtls") is None
        or importlib.util.find_spec(f"{package}.{HOOK}") is None
    ):
        return None
    return importlib.import_module(f"{package}.{HOOK}{module}")


def replay_problems(library: Library, name: str) -> Iterator[Problem]:
    """What the reference does otherwise than a document; nothing where that is not a trace."""
    replay = find_replay()
    if replay is None or name not in TRACES:
        return
    trace = library.trace(name)
    resumed = trace.data["resumes"]
    yield from replay(trace, library.trace(resumed) if resumed else None)


def protection_problems(library: Library, name: str) -> Iterator[Problem]:
    """What the reference does otherwise than a document of AEAD cases; nothing for another one."""
    hook = _find(".protection")
    if hook is not None and (name == "records" or name in COLLECTED):
        document = library.documents[name] if name in library.documents else load(name)
        yield from hook.protection_problems(name, document)
