"""What was said in one test: the evidence for its verdict, and what a capture is made from."""

from __future__ import annotations

import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Literal

Direction = Literal["sent", "received"]
MAX_ENTRIES: Final = 2000
"""Entries kept of one test; what comes later is counted."""


@dataclass(frozen=True, slots=True)
class Entry:
    """One record, or what else crossed the wire.

    `octets` are those on the wire, empty for a remark; `connection` counts from 1 in its test;
    `details` is the decoded content, a line each, with edits marked by `>`.
    """

    direction: Direction | None
    what: str
    details: tuple[str, ...] = ()
    octets: bytes = b""
    connection: int = 0
    time: float = 0.0


class Journal:
    """The entries of one test in their order, over all of its connections, and their key log."""

    def __init__(self) -> None:
        self.entries: list[Entry] = []
        self.key_log: list[str] = []
        self.connections = 0
        self.dropped = 0

    def add(
        self,
        direction: Direction | None,
        what: str,
        details: Sequence[str] = (),
        octets: bytes = b"",
    ) -> None:
        """Append one entry to the connection that is open now."""
        if len(self.entries) >= MAX_ENTRIES:
            self.dropped += 1
            return
        entry = Entry(direction, what, tuple(details), octets, self.connections, time.time())
        self.entries.append(entry)

    def remark(self, what: str) -> None:
        """Append something that is not on the wire."""
        self.add(None, what)

    def render(self) -> list[str]:
        """All of it as lines: `->` is what the suite sent, `<-` what it received."""
        arrows = {"sent": "->", "received": "<-", None: "--"}
        lines = []
        for entry in self.entries:
            lines.append(f"{arrows[entry.direction]} {entry.what}")
            lines += [f"     {line}" for line in entry.details]
        if self.dropped:
            lines.append(f"-- {self.dropped} entries more")
        return lines
