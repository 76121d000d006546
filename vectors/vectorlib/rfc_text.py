"""Takes values out of an RFC's text: pages joined, each value with the line it stands on.

Only values and the words that introduce them are read; no sentence of the RFC goes any further.
"""

import re
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final


class RfcTextError(ValueError):
    """The text is not what this reader expects; says on which line."""


@dataclass(frozen=True)
class Line:
    """One line of body text, with its place in the published text."""

    number: int
    page: int
    text: str


@dataclass(frozen=True)
class Value:
    """Octets as the RFC prints them, and the line where they start."""

    octets: bytes
    line: int


@dataclass
class Item:
    """One step as RFC 8448 prints it: who, in what words, where, with which values."""

    by: str
    head: str
    line: int
    page: int
    values: dict[str, Value] = field(default_factory=dict)


_FOOTER: Final = re.compile(r"^\S.*\[Page (\d+)\]$")
_HEX: Final = re.compile(r"^(?:[0-9a-f]{2} ?)+$")
_VALUE: Final = re.compile(
    r"^(?P<label>[A-Za-z][A-Za-z0-9 ]*?)(?: \((?:(?P<count>\d+) octets|public)\))?:  (?P<first>.+)$"
)
_HEAD: Final = re.compile(r"^   \{(?P<by>client|server)\}  (?P<head>.*)$")
_EMPTY: Final = {"0 (all zero octets)", "(empty)"}


def read_lines(path: Path) -> list[Line]:
    """The body of an RFC: no form feeds, no page headers and footers, no blank lines."""
    lines: list[Line] = []
    page = 1
    header_next = False
    for number, raw in enumerate(path.read_text("ascii").split("\n"), 1):
        text = raw.rstrip()  # a form feed too
        footer = _FOOTER.match(text)
        if not text:
            continue
        if footer:
            page, header_next = int(footer[1]) + 1, True
        elif header_next:
            header_next = False
        else:
            lines.append(Line(number, page, text))
    return lines


def section(lines: list[Line], number: str) -> list[Line]:
    """The lines of one top-level section or appendix part (`3`, `A.1`), its heading first."""
    inside: list[Line] = []
    for line in lines:
        if line.text.startswith(f"{number}.  "):
            inside = [line]
        elif inside and not line.text.startswith(" "):
            break
        elif inside:
            inside.append(line)
    if not inside:
        raise RfcTextError(f"no section {number}")
    return inside


def _octets(text: str, line: Line) -> bytes:
    if text in _EMPTY:
        return b""
    if not _HEX.match(text):
        raise RfcTextError(f"line {line.number}: octets expected")
    return bytes.fromhex(text)


class _Values:
    """Collects `label (n octets):  aa bb …` with its continuation lines."""

    def __init__(self) -> None:
        self.values: dict[str, Value] = {}
        self._label = ""
        self._count: str | None = None

    def start(self, line: Line) -> bool:
        """Begin a value, if the line begins one."""
        match = _VALUE.match(line.text.strip())
        if not match:
            return False
        self.finish()
        self._label, self._count = match["label"], match["count"]
        if self._label in self.values:
            raise RfcTextError(f"line {line.number}: {self._label} again")
        self.values[self._label] = Value(_octets(match["first"], line), line.number)
        return True

    def go_on(self, line: Line) -> None:
        """Add a continuation line."""
        if not self._label:
            raise RfcTextError(f"line {line.number}: octets that belong to nothing")
        value = self.values[self._label]
        self.values[self._label] = Value(
            value.octets + _octets(line.text.strip(), line), value.line
        )

    def finish(self) -> None:
        """Compare the last value's length with the one that the RFC states."""
        if self._count is not None and len(self.values[self._label].octets) != int(self._count):
            raise RfcTextError(
                f"line {self.values[self._label].line}: {self._label} has not {self._count} octets"
            )
        self._label, self._count = "", None


def values_at(lines: list[Line], indent: int) -> dict[str, Value]:
    """The values of a section that prints them without steps, at a given indentation."""
    found = _Values()
    for line in lines:
        depth = len(line.text) - len(line.text.lstrip())
        if depth == indent and found.start(line):
            continue
        if depth == indent + 3 and _HEX.match(line.text.strip()):
            found.go_on(line)
    found.finish()
    return found.values


def items(lines: list[Line]) -> list[Item]:
    """The steps of one trace, in the order in which the RFC prints them."""
    found: list[Item] = []
    values = _Values()
    for line in lines:
        head = _HEAD.match(line.text)
        if head:
            values.finish()
            values = _Values()
            found.append(Item(head["by"], head["head"], line.number, line.page, values.values))
        elif found and line.text.startswith(" " * 6):
            _belongs_to(found[-1], values, line)
    values.finish()
    return found


def _belongs_to(item: Item, values: _Values, line: Line) -> None:
    if not item.head.endswith((":", ")")):
        item.head += " " + line.text.strip()
    elif line.text.startswith(" " * 9):
        values.go_on(line)
    elif not values.start(line):
        raise RfcTextError(f"line {line.number}: neither a value nor octets")
