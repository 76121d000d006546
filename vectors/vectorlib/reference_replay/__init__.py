"""Asks the reference: replays a trace in both roles; `protection` runs the AEAD cases.

The only part that imports `tpmtls`.

A role is given its ephemeral keys, what is `injected`, and its peer's records. It must send the
recorded messages and records octet for octet and compute the recorded values, no more and no fewer.
"""

from collections.abc import Iterator
from typing import Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.x509 import InvalidVersion

from tpmtls.violations import TlsError

from ..names import PEER
from ..problems import Problem
from ..trace import Trace
from .comparison import differences
from .difference import Difference
from .observation import ObservedBackend
from .play import MakeBackend, play
from .session import Session

_BROKEN: Final = (
    TlsError,
    UnsupportedAlgorithm,
    InvalidVersion,
    ValueError,
    LookupError,
    TypeError,
    AttributeError,
    RuntimeError,
)


def replay(trace: Trace, resumed: Trace | None) -> Iterator[Problem]:
    """What the reference does otherwise than the trace, in either role.

    `resumed` is the trace whose ticket this one uses.
    """
    for role in PEER:
        yield from replay_role(trace, resumed, role)


def replay_role(
    trace: Trace, resumed: Trace | None, role: str, make_backend: MakeBackend = ObservedBackend
) -> Iterator[Problem]:
    """The same in one role; `make_backend` makes a backend for each connection."""
    try:
        session = Session()
        if resumed is not None:
            play(resumed, role, session, make_backend)
        observed = play(trace, role, session, make_backend)
        for path, what in differences(trace, role, observed):
            yield Problem(trace.name, path, f"as {role}: {what}")
    except Difference as difference:
        yield Problem(trace.name, difference.path, f"as {role}: {difference.what}")
    except _BROKEN as error:
        summary = str(error) or type(error).__name__
        yield Problem(trace.name, "steps", f"as {role}: cannot be replayed: {summary}")
