"""RFC 9846 as data, read from its own text where that is at hand, for tests to compare with.

A requirement's ID is `<section>-<n>`: the n-th BCP 14 key word of the section.
"""

from __future__ import annotations

import re
from collections import Counter
from dataclasses import dataclass
from functools import cache
from pathlib import Path

import pytest

TEXT = Path(__file__).resolve().parents[2] / "shared" / "specs" / "rfc9846.txt"

KEY_WORD = re.compile(
    r"\b(?:MUST NOT|MUST|SHALL NOT|SHALL|SHOULD NOT|SHOULD|REQUIRED|NOT RECOMMENDED|RECOMMENDED"
    r"|MAY|OPTIONAL)\b"
)
_HEADING = re.compile(r"(?:Appendix )?((?:\d+|[A-Z])(?:\.\d+)*)\.  \S")
_SENTENCE_END = re.compile(r'(?<=[.:;])\s+(?=[A-Z"(*])')


@dataclass(frozen=True)
class Statement:
    """One key word of BCP 14, and the sentence that it stands in."""

    section: str
    keyword: str
    sentence: str


@cache
def lines() -> tuple[str, ...]:
    """The RFC from its first section on."""
    if not TEXT.exists():
        pytest.skip("the text of RFC 9846 is not at ../shared/specs/rfc9846.txt")
    found = TEXT.read_text("utf-8").splitlines()
    start = max(n for n, line in enumerate(found) if line.startswith("1.  Introduction"))
    return tuple(found[start:])


@cache
def sections() -> dict[str, str]:
    """The text of each section and appendix by its number, subsections apart."""
    gathered: dict[str, list[str]] = {}
    current: list[str] = []
    for line in lines():
        if heading := _HEADING.match(line):
            current = gathered.setdefault(heading[1], [])
        else:
            current.append(line)
    return {number: "\n".join(body) for number, body in gathered.items()}


@cache
def statements() -> dict[str, Statement]:
    """Every statement by its ID."""
    found: dict[str, Statement] = {}
    count: Counter[str] = Counter()
    for section, body in sections().items():
        for paragraph in re.split(r"\n\s*\n", body):
            for sentence in _SENTENCE_END.split(" ".join(paragraph.split())):
                for keyword in KEY_WORD.findall(sentence):
                    count[section] += 1
                    found[f"{section}-{count[section]}"] = Statement(section, keyword, sentence)
    return found


def _appendix_b() -> str:
    return "\n".join(body for number, body in sections().items() if number.split(".")[0] == "B")


@cache
def enumerations() -> dict[str, dict[str, int]]:
    """The enumerations of Appendix B, and its cipher suites: name → value, reserved ones too."""
    text = _appendix_b()
    found = {
        name: {
            entry: int(value, 0)
            for entry, value in re.findall(r"(\w+)\((0x[0-9A-Fa-f]+|\d+)\)", body)
        }
        for body, name in re.findall(r"enum \{(.*?)\} (\w+);", text, re.DOTALL)
    }
    found["CipherSuite"] = {
        name: int(high + low, 16)
        for name, high, low in re.findall(r"\| (TLS_\w+) +\| \{0x(..),0x(..)\}", text)
    }
    return found


@cache
def vectors() -> dict[str, dict[str, tuple[int, int]]]:
    """The variable-length fields of Appendix B's structures: structure → field → bounds."""
    return {
        name: {
            field: (_number(low), _number(high))
            for field, low, high in re.findall(r"(\w+)<(\S+)\.\.(\S+)>", body)
        }
        for body, name in re.findall(r"struct \{(.*?)\} (\w+);", _appendix_b(), re.DOTALL)
    }


def _number(expression: str) -> int:
    """A bound such as `2^16-2`."""
    power, _, minus = expression.partition("-")
    base, _, exponent = power.partition("^")
    bound: int = int(base) ** int(exponent or 1)
    return bound - int(minus or 0)


@cache
def placement() -> dict[str, frozenset[str]]:
    """Table 1 of §4.3: extension → the messages that it may stand in, abbreviated as there."""
    return {
        name: frozenset(places.replace(" ", "").split(","))
        for name, places in re.findall(
            r"\| (\w+) \[[^|]*\] +\| +([A-Z]+(?:, [A-Z]+)*) \|", sections()["4.3"]
        )
    }
