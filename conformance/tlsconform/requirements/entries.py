"""One entry of the catalogue: its type, and the strict reading of it."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, TypeVar

ABSENT: Final = "absent"
"""What `rfc8446_level` says where RFC 8446 asks for nothing of the kind."""
MAX_SUMMARY: Final = 160

_IDENTIFIER: Final = re.compile(r"((?:[1-9]\d*|[A-Z])(?:\.[1-9]\d*)*)-([1-9]\d*)")
_SECTION_8446: Final = re.compile(r"(?:(?:[1-9]\d*|[A-F])(?:\.[1-9]\d*)*)?")
_DIGEST: Final = re.compile(r"[0-9a-f]{16}")


class CatalogueError(ValueError):
    """A catalogue file that cannot be used; the message says which entry and why, in one line."""


class Strength(StrEnum):
    """How much a key word asks for."""

    MUST = "must"
    SHOULD = "should"
    MAY = "may"


class Level(StrEnum):
    """The key words of BCP 14."""

    MUST = "MUST"
    MUST_NOT = "MUST NOT"
    REQUIRED = "REQUIRED"
    SHALL = "SHALL"
    SHALL_NOT = "SHALL NOT"
    SHOULD = "SHOULD"
    SHOULD_NOT = "SHOULD NOT"
    RECOMMENDED = "RECOMMENDED"
    NOT_RECOMMENDED = "NOT RECOMMENDED"
    MAY = "MAY"
    OPTIONAL = "OPTIONAL"

    @property
    def strength(self) -> Strength:
        """What not to heed it is: a violation (`must`), a deviation (`should`), or nothing."""
        if self in (Level.MAY, Level.OPTIONAL):
            return Strength.MAY
        advice = (Level.SHOULD, Level.SHOULD_NOT, Level.RECOMMENDED, Level.NOT_RECOMMENDED)
        return Strength.SHOULD if self in advice else Strength.MUST


class Role(StrEnum):
    """The two ends of a connection."""

    CLIENT = "client"
    SERVER = "server"


class Method(StrEnum):
    """What can show whether a requirement is met."""

    CLIENT = "client"
    """a scripted server sees it in what a client under test sends"""
    SERVER = "server"
    """a scripted client sees it in what a server under test sends"""
    UNIT = "unit"
    """a unit test of the reference"""


@dataclass(frozen=True)
class Requirement:
    """One BCP 14 statement of RFC 9846."""

    id: str
    """`<section>-<n>`: the n-th key word of the section"""
    level: Level
    summary: str
    """in our own words, at most 160 characters"""
    binds: tuple[Role, ...]
    """who has to do it; empty where it binds somebody else"""
    verify: tuple[Method, ...]
    """how it is verified; empty where it cannot be"""
    rfc8446: str
    """the section of RFC 8446 that says it, or nothing"""
    sentence: str
    """the digest of the sentence"""
    reason: str = ""
    """why a role that is bound is not verified, or why nothing is"""
    rfc8446_level: Level | None = None
    """RFC 8446's key word, where `laxer_in_8446` and it has one"""
    laxer_in_8446: bool = False
    change: str = ""
    """what became stricter since RFC 8446"""
    code: str = ""
    """why the reference has no line that answers for it"""

    @property
    def section(self) -> str:
        """The section that it stands in."""
        return self.id.rpartition("-")[0]

    @property
    def number(self) -> int:
        """Which key word of its section it is, from 1."""
        return int(self.id.rpartition("-")[2])

    def strength(self, rfc: int = 9846) -> Strength | None:
        """How much RFC 9846 asks for, or RFC 8446; `None` where that does not ask."""
        if rfc == 8446 and self.laxer_in_8446:
            return self.rfc8446_level.strength if self.rfc8446_level else None
        return self.level.strength

    def to_json(self) -> dict[str, object]:
        """As plain data, by the keys of the catalogue's files; what is empty is left out."""
        laxer = (self.rfc8446_level or ABSENT) if self.laxer_in_8446 else ""
        optional: dict[str, object] = {
            "reason": self.reason,
            "rfc8446_level": laxer,
            "change": self.change,
            "code": self.code,
        }
        always: dict[str, object] = {
            "id": self.id,
            "level": self.level,
            "binds": self.binds,
            "verify": self.verify,
            "summary": self.summary,
            "rfc8446": self.rfc8446,
            "sentence": self.sentence,
        }
        return always | {key: value for key, value in optional.items() if value}


def file_of(section: str) -> str:
    """The name of the file that a section is catalogued in.

    An appendix is in one file, and a subsection of the fourth depth in its parent's.
    """
    parts = section.split(".")
    return f"{parts[0] if parts[0].isalpha() else '.'.join(parts[:3])}.toml"


def read_entry(identifier: str, table: object) -> Requirement:
    """Make a requirement of a table of a catalogue file; raises `CatalogueError`."""
    try:
        return _read_entry(identifier, table)
    except ValueError as error:
        raise CatalogueError(f"{identifier}: {error}") from None


_REQUIRED: Final = ("level", "binds", "rfc8446", "summary", "verify", "sentence")
_OPTIONAL: Final = ("reason", "rfc8446_level", "change", "code")


def _read_entry(identifier: str, table: object) -> Requirement:
    if not _IDENTIFIER.fullmatch(identifier):
        raise ValueError("not an ID, which is a section, a hyphen and a number from 1")
    if not isinstance(table, dict):
        raise ValueError("not a table")
    if missing := [key for key in _REQUIRED if key not in table]:
        raise ValueError(f"{missing[0]} is missing")
    if unknown := sorted(set(table) - set(_REQUIRED + _OPTIONAL)):
        raise ValueError(f"unknown key {unknown[0]}")
    laxer = _line(table, "rfc8446_level", required="rfc8446_level" in table)
    requirement = Requirement(
        id=identifier,
        level=_member(Level, "level", table["level"]),
        summary=_line(table, "summary"),
        binds=_members(Role, "binds", table["binds"]),
        verify=_members(Method, "verify", table["verify"]),
        rfc8446=_pattern(table, "rfc8446", _SECTION_8446, 'a section of RFC 8446, or ""'),
        sentence=_pattern(table, "sentence", _DIGEST, "16 hex digits in lower case"),
        reason=_line(table, "reason", required="reason" in table),
        rfc8446_level=_member(Level, "rfc8446_level", laxer) if laxer not in ("", ABSENT) else None,
        laxer_in_8446=bool(laxer),
        change=_line(table, "change", required="change" in table),
        code=_line(table, "code", required="code" in table),
    )
    _check(requirement)
    return requirement


def _check(requirement: Requirement) -> None:
    """Hold the keys against one another."""
    if len(requirement.summary) > MAX_SUMMARY:
        raise ValueError(f"summary has {len(requirement.summary)} characters, over {MAX_SUMMARY}")
    if not requirement.summary.endswith("."):
        raise ValueError("summary is not a sentence: no full stop")
    unseen = [role for role in requirement.binds if role.value not in requirement.verify]
    if not requirement.reason and (unseen or not requirement.verify):
        raise ValueError(f"no reason why no peer sees it of {unseen[0] if unseen else 'anyone'}")
    if requirement.reason and requirement.verify and not unseen:
        raise ValueError("a reason, though each role that it binds is verified")
    if requirement.laxer_in_8446 != bool(requirement.change):
        raise ValueError("rfc8446_level and change stand together, or neither does")
    if not requirement.rfc8446 and (not requirement.laxer_in_8446 or requirement.rfc8446_level):
        raise ValueError(f'rfc8446 is "": then rfc8446_level is "{ABSENT}"')
    order = list(Strength)
    if requirement.rfc8446_level and (
        order.index(requirement.rfc8446_level.strength) <= order.index(requirement.level.strength)
    ):
        raise ValueError(f"rfc8446_level {requirement.rfc8446_level} is no laxer")


def _line(table: Mapping[str, object], key: str, *, required: bool = True) -> str:
    value = table.get(key, "")
    if not isinstance(value, str) or not value.isprintable() or value != value.strip():
        raise ValueError(f"{key} is not one line of text")
    if required and not value:
        raise ValueError(f"{key} is empty")
    return value


def _pattern(table: Mapping[str, object], key: str, pattern: re.Pattern[str], meant: str) -> str:
    value = table[key]
    if not isinstance(value, str) or not pattern.fullmatch(value):
        raise ValueError(f"{key} is {value!r}, not {meant}")
    return value


_Member = TypeVar("_Member", bound=StrEnum)


def _member(kind: type[_Member], key: str, value: object) -> _Member:
    if value not in list(kind):
        raise ValueError(f"{key} is {value!r}, not one of {', '.join(kind)}")
    return kind(str(value))


def _members(kind: type[_Member], key: str, value: object) -> tuple[_Member, ...]:
    if not isinstance(value, list):
        raise ValueError(f"{key} is {value!r}, not a list")
    found = tuple(_member(kind, key, each) for each in value)
    if len(set(found)) != len(found):
        raise ValueError(f"{key} names the same twice")
    return found
