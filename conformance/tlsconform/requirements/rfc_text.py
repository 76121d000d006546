"""RFC 9846's sections and statements, read from its own text.

A requirement's ID is `<section>-<n>`: the n-th BCP 14 key word of the section. The text stays where
it is: what goes further is numbers, key words and digests.
"""

from __future__ import annotations

import hashlib
import re
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Final

MAX_TEXT: Final = 4 << 20
"""Octets read of a text, at most: RFC 9846 has a tenth of this."""

_KEY_WORD: Final = re.compile(
    r"\b(?:MUST NOT|MUST|SHALL NOT|SHALL|SHOULD NOT|SHOULD|REQUIRED|NOT RECOMMENDED|RECOMMENDED"
    r"|MAY|OPTIONAL)\b"
)
_FIRST_HEADING: Final = "1.  Introduction"
_HEADING: Final = re.compile(r"(?:Appendix )?((?:\d+|[A-Z])(?:\.\d+)*)\.  \S")
_SENTENCE_END: Final = re.compile(r'(?<=[.:;])\s+(?=[A-Z"(*])')


class TextError(ValueError):
    """A file is not the text of an RFC; the message names it, in one line."""


@dataclass(frozen=True)
class Statement:
    """One key word of BCP 14, and the sentence that it stands in."""

    section: str
    keyword: str
    sentence: str

    @property
    def digest(self) -> str:
        """The digest by which a catalogue knows the sentence again: see `digest`."""
        return digest(self.sentence)


def digest(sentence: str) -> str:
    """16 hex digits of SHA-256 over the sentence's letters and digits, in lower case."""
    normalised = re.sub(r"[^a-z0-9]", "", sentence.lower())
    return hashlib.sha256(normalised.encode("ascii")).hexdigest()[:16]


def read_lines(path: Path) -> tuple[str, ...]:
    """The text's lines from its first section on.

    Raises `TextError` where the file cannot be read, is longer than 4 MiB, or is no such text.
    """
    try:
        with path.open("rb") as file:
            octets = file.read(MAX_TEXT + 1)
    except OSError as error:
        raise TextError(f"{path}: {(error.strerror or str(error)).lower()}") from None
    if len(octets) > MAX_TEXT:
        raise TextError(f"{path}: too long for the text of an RFC")
    lines = octets.decode("utf-8", errors="replace").splitlines()
    starts = [number for number, line in enumerate(lines) if line.startswith(_FIRST_HEADING)]
    if not starts:
        raise TextError(f"{path}: not the text of an RFC: no section is called Introduction")
    return tuple(lines[starts[-1] :])  # the one before it is in the table of contents


def sections(lines: tuple[str, ...]) -> dict[str, str]:
    """The text of each section and appendix by its number, subsections apart."""
    gathered: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines:
        if heading := _HEADING.match(line):
            current = gathered.setdefault(heading[1], [])
        else:
            current.append(line)
    return {number: "\n".join(body) for number, body in gathered.items()}


def statements(texts: dict[str, str]) -> dict[str, Statement]:
    """Every statement of these sections by its ID."""
    found: dict[str, Statement] = {}
    count: Counter[str] = Counter()
    for section, body in texts.items():
        for paragraph in re.split(r"\n\s*\n", body):
            for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
                for keyword in _KEY_WORD.findall(sentence):
                    count[section] += 1
                    found[f"{section}-{count[section]}"] = Statement(section, keyword, sentence)
    return found


def read_statements(path: Path) -> dict[str, Statement]:
    """Every statement of the text at this path by its ID; raises `TextError`."""
    return statements(sections(read_lines(path)))
