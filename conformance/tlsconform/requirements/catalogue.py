"""The catalogue as a whole: read from its files, looked through, held against the RFC's text.

One TOML file for each section stands beside this module. The summaries are our own words; a digest
ties each entry to the RFC's sentence.
"""

from __future__ import annotations

import re
import tomllib
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from functools import cache
from importlib.resources import files
from types import MappingProxyType
from typing import Final

from tlsconform.requirements.entries import (
    CatalogueError,
    Method,
    Requirement,
    Role,
    Strength,
    file_of,
    read_entry,
)
from tlsconform.requirements.rfc_text import Statement

NOT_CATALOGUED: Final = frozenset({"1.1"})
"""§1.1 only says what the key words mean."""
COPIED: Final = 14
"""As many words of the RFC in a row are not our own words any more."""

_WORD: Final = re.compile(r"[a-z0-9]+")


def read_file(name: str, text: str) -> dict[str, Requirement]:
    """The requirements of one file, by their IDs; raises `CatalogueError`."""
    try:
        tables = tomllib.loads(text)
    except tomllib.TOMLDecodeError as error:
        raise CatalogueError(f"{name}: {error}") from None
    found: dict[str, Requirement] = {}
    try:
        for identifier, table in tables.items():
            found[identifier] = requirement = read_entry(identifier, table)
            if file_of(requirement.section) != name:
                raise CatalogueError(f"{identifier}: belongs in {file_of(requirement.section)}")
    except CatalogueError as error:
        raise CatalogueError(f"{name}: {error}") from None
    if list(found) != sorted(found, key=order):
        raise CatalogueError(f"{name}: the entries are not in the order of their IDs")
    return found


@cache
def all_requirements() -> Mapping[str, Requirement]:
    """Every requirement by its ID, in the order of the RFC; raises `CatalogueError`."""
    found: dict[str, Requirement] = {}
    for file in files("tlsconform.requirements").iterdir():
        if file.name.endswith(".toml"):
            found |= read_file(file.name, file.read_text("utf-8"))
    return MappingProxyType({key: found[key] for key in sorted(found, key=order)})


def requirement(identifier: str) -> Requirement:
    """The requirement with this ID; raises `KeyError` with one line that says so."""
    try:
        return all_requirements()[identifier]
    except KeyError:
        raise KeyError(f"no requirement {identifier} in the catalogue") from None


def select(
    *,
    section: str | None = None,
    role: Role | None = None,
    strength: Strength | None = None,
    method: Method | None = None,
) -> list[Requirement]:
    """The requirements of a section and those below it, that bind a role, ask that much, …"""
    return [
        found
        for found in all_requirements().values()
        if (section is None or within(found.section, section))
        and (role is None or role in found.binds)
        and (strength is None or found.level.strength is strength)
        and (method is None or method in found.verify)
    ]


def within(section: str, above: str) -> bool:
    """Whether a section is that one, or below it."""
    return section == above or section.startswith(f"{above}.")


def order(identifier: str) -> tuple[bool, list[tuple[int, str]], int]:
    """A key that sorts IDs as the RFC does: 4.3.9 before 4.3.10, the appendices last."""
    section, _, number = identifier.rpartition("-")
    parts = [(int(part), "") if part.isdigit() else (0, part) for part in section.split(".")]
    return not parts[0][0], parts, int(number or 0)


def differences(
    entries: Mapping[str, Requirement],
    statements: Mapping[str, Statement],
    *,
    below: str | None = None,
) -> Iterator[str]:
    """What a catalogue and the RFC's statements disagree on, a line each; nothing if they agree.

    `below` is a section: then only it and those below it are looked at.
    """
    keys = sorted(entries.keys() | statements.keys(), key=order)
    sections = dict.fromkeys(key.rpartition("-")[0] for key in keys)
    runs = {run for said in statements.values() for run in _runs(said.sentence)}
    here = Counter(entry.section for entry in entries.values())
    there = Counter(said.section for said in statements.values())
    for section in sections:
        if section in NOT_CATALOGUED or not (below is None or within(section, below)):
            continue
        if here[section] != there[section]:
            yield f"§{section}: {here[section]} entries for {there[section]} key words"
        for key in keys:
            if key.rpartition("-")[0] == section:
                yield from _differences(key, entries.get(key), statements.get(key), runs)


def tally(requirements: Iterable[Requirement]) -> dict[str, Counter[str]]:
    """How many there are: section → `all`, and each strength, each method, and `nothing`.

    `nothing` counts those that cannot be verified. One may count for several methods.
    """
    found: dict[str, Counter[str]] = {}
    for each in requirements:
        counter = found.setdefault(each.section, Counter())
        counter.update(("all", each.level.strength, *(each.verify or ("nothing",))))
    return found


def _differences(
    key: str, entry: Requirement | None, said: Statement | None, runs: set[tuple[str, ...]]
) -> Iterator[str]:
    if entry is None:
        yield f"{key}: not in the catalogue"
    elif said is None:
        yield f"{key}: not in the text"
    else:
        if entry.level != said.keyword:
            yield f"{key}: level {entry.level}, but the text says {said.keyword}"
        if entry.sentence != said.digest:
            yield f"{key}: sentence {entry.sentence}, but the text's is {said.digest}"
        if runs & set(_runs(entry.summary)):
            yield f"{key}: the summary has {COPIED} words in a row from the text"


def _runs(text: str) -> Iterator[tuple[str, ...]]:
    words = _WORD.findall(text.lower())
    return (tuple(words[n : n + COPIED]) for n in range(len(words) - COPIED + 1))


def skeleton(section: str, statements: Mapping[str, Statement]) -> Iterator[str]:
    """Lines of TOML to be filled in, for the file that a section is catalogued in.

    Each entry stands under its sentence, in comments with `#>` that are to be deleted: no sentence
    of the RFC is kept. What is left empty, the reader of the file refuses.
    """
    for key, said in statements.items():
        if file_of(said.section) != file_of(section):
            continue
        yield from ("", f"#> {said.sentence}", f'["{key}"]', f'level = "{said.keyword}"')
        yield from ("binds = []", 'rfc8446 = ""', 'summary = ""', "verify = []")
        yield f'sentence = "{said.digest}"'
