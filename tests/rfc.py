"""RFC 9846 as data, read from its own text where that is at hand, for tests to compare with."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path

import pytest

from tlsconform.requirements import rfc_text

TEXT = Path(__file__).resolve().parents[2] / "shared" / "specs" / "rfc9846.txt"


@cache
def lines() -> tuple[str, ...]:
    """The RFC from its first section on."""
    if not TEXT.exists():
        pytest.skip("the text of RFC 9846 is not at ../shared/specs/rfc9846.txt")
    return rfc_text.read_lines(TEXT)


@cache
def sections() -> dict[str, str]:
    """The text of each section and appendix by its number, subsections apart."""
    return rfc_text.sections(lines())


@cache
def statements() -> dict[str, rfc_text.Statement]:
    """Every statement by its ID."""
    return rfc_text.statements(sections())


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
