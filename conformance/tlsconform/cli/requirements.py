"""Look through the catalogue of RFC 9846's requirements.

A requirement's ID is its section and, after a hyphen, which of the section's key words it is:
4.3.8-15 is the 15th MUST, SHOULD or MAY of section 4.3.8. The catalogue says in its own words what
is asked, whom it binds, and whether a peer can see it on the wire of a client or of a server, or
only a unit test, or nobody, and then why not.
"""

from __future__ import annotations

import argparse
import json
from collections import Counter
from collections.abc import Sequence
from enum import StrEnum
from pathlib import Path
from typing import Final

from tlsconform.cli.exits import SUCCESS, VIOLATED, CommandError, say
from tlsconform.requirements import catalogue
from tlsconform.requirements.entries import (
    ABSENT,
    CatalogueError,
    Method,
    Requirement,
    Role,
    Strength,
)
from tlsconform.requirements.rfc_text import TextError, read_statements

SUMMARY: Final = "look through the catalogue of requirements"
EPILOG: Final = """\
examples:
  tlsconform requirements --section 4.3.8 --role client
  tlsconform requirements --id 4.3.8-15                   all that is known of one
  tlsconform requirements --level must --verify none      what nobody can verify
  tlsconform requirements --counts                        how many, section by section
  tlsconform requirements --json | jq '.[] | select(.rfc8446_level)'
  tlsconform requirements --uncovered --role server       what no test of the suite looks at
  tlsconform requirements --check rfc9846.txt             does it agree with the RFC's text?

exit status:
  0 success    1 --check found a difference, or --uncovered a requirement    2 usage
"""
NOTHING: Final = "none"


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `tlsconform requirements`."""
    parser.usage = "%(prog)s [WHICH …] [--json | --counts | --uncovered | --check RFC-TEXT]"
    which = parser.add_argument_group("which")
    which.add_argument("--id", metavar="ID", nargs="+", help="these, and all that is known of them")
    which.add_argument("--section", help="those of this section and of the sections below it")
    which.add_argument("--role", choices=_values(Role), help="those that bind this role")
    which.add_argument("--level", choices=_values(Strength), help="those that ask so much")
    ways = (*_values(Method), NOTHING)
    which.add_argument("--verify", choices=ways, help="those verified in this way, or in none")
    how = parser.add_argument_group("what to do with them").add_mutually_exclusive_group()
    how.add_argument("--json", action="store_true", help="print them as JSON")
    how.add_argument("--counts", action="store_true", help="count them, section by section")
    how.add_argument("--uncovered", action="store_true", help="those no test of the suite looks at")
    how.add_argument("--check", metavar="RFC-TEXT", type=Path, help="compare with the RFC's text")
    how.add_argument("--skeleton", metavar="SECTION", help="for developers: TOML to be filled in")
    parser.add_argument("--rfc-text", metavar="PATH", type=Path, help="the text, for --skeleton")


def _values(kind: type[StrEnum]) -> tuple[str, ...]:
    return tuple(each.value for each in kind)


def run(arguments: argparse.Namespace) -> int:
    """List, count or compare; returns the exit status."""
    try:
        if arguments.skeleton is not None:
            return _skeleton(arguments.skeleton, arguments.rfc_text)
        if arguments.check is not None:
            if arguments.id or arguments.role or arguments.level or arguments.verify:
                raise CommandError("--check can be narrowed down by --section only")
            return _check(arguments.check, arguments.section)
        found = _chosen(arguments)
        if arguments.uncovered:
            return _uncovered(found, arguments.role)
    except (CatalogueError, TextError) as error:
        raise CommandError(str(error)) from None
    if not found:
        say("tlsconform: no requirement is all of that")
    if arguments.json:
        print(json.dumps([each.to_json() for each in found], indent=1, ensure_ascii=False))
    elif arguments.counts:
        _print_counts(found)
    else:
        for each in found:
            print(_detail(each) if arguments.id else _line(each))
    return SUCCESS


def _chosen(arguments: argparse.Namespace) -> list[Requirement]:
    known = catalogue.all_requirements()
    if unknown := [each for each in arguments.id or () if each not in known]:
        raise CommandError(f"no requirement {unknown[0]}; --section lists those of a section")
    section, role, verify = arguments.section, arguments.role, arguments.verify
    found = catalogue.select(
        section=section,
        role=role and Role(role),
        strength=arguments.level and Strength(arguments.level),
        method=Method(verify) if verify not in (None, NOTHING) else None,
    )
    if section is not None and not catalogue.select(section=section):
        raise CommandError(f"no requirement in section {section}; --counts lists the sections")
    if arguments.id:
        found = [each for each in found if each.id in arguments.id]
    return [each for each in found if not (verify == NOTHING and each.verify)]


def _line(requirement: Requirement) -> str:
    binds = ", ".join(requirement.binds) or "others"
    return f"{requirement.id:<12}{requirement.level:<16}{binds:<16}{requirement.summary}"


def _detail(requirement: Requirement) -> str:
    before = f"§{requirement.rfc8446}" if requirement.rfc8446 else "nothing of the kind"
    if requirement.laxer_in_8446:
        before += f", {requirement.rfc8446_level or ABSENT} there: {requirement.change}"
    rows = {
        "level": requirement.level,
        "binds": ", ".join(requirement.binds) or "neither a client nor a server",
        "verified": ", ".join(_METHODS[each] for each in requirement.verify) or "by nothing",
        "because": requirement.reason,
        "RFC 8446": before,
        "no code": requirement.code,
    }
    lines = [f"  {name:<10}{value}" for name, value in rows.items() if value]
    return "\n".join([f"{requirement.id}  {requirement.summary}", *lines])


_METHODS: Final = {
    Method.CLIENT: "on the wire of a client",
    Method.SERVER: "on the wire of a server",
    Method.UNIT: "by unit tests of the reference",
}


def _print_counts(found: Sequence[Requirement]) -> None:
    columns = ("all", *Strength, *Method, "nothing")
    print(f"{'section':<10}" + "".join(f"{column:>9}" for column in columns))
    total: Counter[str] = Counter()
    rows = catalogue.tally(found)
    for section, counter in [*rows.items(), ("total", total)]:
        print(f"{section:<10}" + "".join(f"{counter[column]:>9}" for column in columns))
        total += counter


def _uncovered(found: Sequence[Requirement], role: str | None) -> int:
    from tlsconform.requirements.coverage import CoverageError, suite_marks, uncovered

    try:
        lacking = [
            (each, who)
            for each, who in uncovered(found, suite_marks())
            if role is None or who == role
        ]
    except CoverageError as error:
        raise CommandError(str(error)) from None
    for each, who in lacking:
        print(f"{each.id:<12}{who:<8}{each.level:<16}{each.summary}")
    return VIOLATED if lacking else SUCCESS


def _skeleton(section: str, text: Path | None) -> int:
    if text is None:
        raise CommandError("--skeleton asks for the RFC's text too: --rfc-text PATH")
    lines = list(catalogue.skeleton(section, read_statements(text)))
    if not lines:
        raise CommandError(f"no key word in section {section}")
    print("\n".join([f"# RFC 9846 §{section}", *lines]))
    return SUCCESS


def _check(text: Path, section: str | None) -> int:
    statements = read_statements(text)
    lines = list(catalogue.differences(catalogue.all_requirements(), statements, below=section))
    for line in lines:
        print(line)
    if not lines:
        print("the catalogue agrees with the text")
    return VIOLATED if lines else SUCCESS
