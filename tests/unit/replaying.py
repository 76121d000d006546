"""RFC 8448 through backends whose secrets cannot be read: what they produce is compared."""

from __future__ import annotations

from collections.abc import Callable

from tpmtls.violations import TlsError
from vectors.vectorlib import library
from vectors.vectorlib.reference_replay.difference import Difference
from vectors.vectorlib.reference_replay.observation import Observed
from vectors.vectorlib.reference_replay.play import play
from vectors.vectorlib.reference_replay.session import Session


class BlackBox(Observed):
    """A backend that notes nothing: its records are compared, and those of the peer accepted."""


def replayed(name: str, role: str, make_backend: Callable[[list[bytes]], Observed]) -> list[str]:
    """What is different from the trace in one role; the trace that it resumes is played before."""
    shelf, session = library.Library(), Session()
    trace = shelf.trace(name)
    resumes = trace.data["resumes"]
    try:
        if resumes:
            play(shelf.trace(resumes), role, session, make_backend)
        play(trace, role, session, make_backend)
    except Difference as difference:
        return [f"{difference.path}: {difference.what}"]
    except TlsError as error:
        return [str(error)]
    return []
