"""How a command ends: its exit status, and the line that it says."""

from __future__ import annotations

import contextlib
import sys
from typing import Final

SUCCESS: Final = 0
VIOLATED: Final = 1
"""A requirement is violated, or what was to agree does not."""
USAGE: Final = 2
"""An option or a file cannot be used."""
NOTHING_THERE: Final = 3
"""There is nothing to test."""
INTERRUPTED: Final = 130
"""Ctrl-C: 128 and the number of the signal, as shells have it."""


class CommandError(Exception):
    """Ends the command with one line on stderr, which says what to do, and a status."""

    def __init__(self, message: str, status: int = USAGE) -> None:
        super().__init__(message)
        self.status = status


def say(line: str) -> None:
    """A line on stderr; where nobody reads it any more, it is lost."""
    with contextlib.suppress(OSError, ValueError):
        print(line, file=sys.stderr, flush=True)
