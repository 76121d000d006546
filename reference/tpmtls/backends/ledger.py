"""The ledger: every crossing of a secret over a boundary, so that exposure can be read, not argued.

Two boundaries exist. Between protocol and backend, a secret crosses only by `reveal`, `mac` or
`wrap`; between backend and TPM, each command has its secret inputs and outputs.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Literal, NamedTuple

Boundary = Literal["protocol", "tpm"]
Direction = Literal["in", "out"]
Visibility = Literal["clear", "encrypted"]


class Crossing(NamedTuple):
    """One way in which one secret crossed.

    `secret` is the RFC's name of it, `via` the operation or TPM command that carried it, and
    `visibility` whether a reader of the boundary sees it in clear.
    """

    secret: str
    boundary: Boundary
    direction: Direction
    via: str
    visibility: Visibility = "clear"


class Ledger:
    """Counts crossings by kind; as large as the set of kinds, however long the process runs."""

    claim: str = ""
    """What `encrypted` is worth where it is worth less than it says, and against whom."""

    def __init__(self) -> None:
        self._counts: Counter[Crossing] = Counter()

    def record(self, crossing: Crossing) -> None:
        """Add one."""
        self._counts[crossing] += 1

    def __iter__(self) -> Iterator[tuple[Crossing, int]]:
        return iter(self._counts.items())

    def __len__(self) -> int:
        return len(self._counts)

    def crossings(self, secret: str | None = None) -> list[Crossing]:
        """The kinds seen, all or those of one secret."""
        return [c for c in self._counts if secret is None or c.secret == secret]
