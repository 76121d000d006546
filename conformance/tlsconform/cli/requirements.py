"""Look through the catalogue of RFC 9846's requirements."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Final

from tlsconform.cli.exits import SUCCESS, VIOLATED, CommandError
from tlsconform.requirements.catalogue import all_requirements, differences, skeleton
from tlsconform.requirements.entries import CatalogueError
from tlsconform.requirements.rfc_text import TextError, read_statements

SUMMARY: Final = "look through the catalogue of requirements"
EPILOG: Final = """\
examples:
  tlsconform requirements --check rfc9846.txt
  tlsconform requirements --skeleton 4.3.8 --rfc-text rfc9846.txt >> 4.3.8.toml
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `tlsconform requirements`."""
    parser.add_argument("--check", metavar="RFC-TEXT", type=Path, help="compare with the RFC")
    parser.add_argument("--section", help="of this section and those below it")
    parser.add_argument("--skeleton", metavar="SECTION", help="TOML to fill in, for developers")
    parser.add_argument("--rfc-text", metavar="PATH", type=Path, help="the RFC, for --skeleton")


def run(arguments: argparse.Namespace) -> int:
    """List, or compare; returns the exit status."""
    try:
        if arguments.skeleton is not None:
            return _skeleton(arguments.skeleton, arguments.rfc_text)
        if arguments.check is not None:
            return _check(arguments.check, arguments.section)
        for found in all_requirements().values():
            print(f"{found.id:<12} {found.level:<8} {found.summary}")
    except (CatalogueError, TextError) as error:
        raise CommandError(str(error)) from None
    return SUCCESS


def _skeleton(section: str, text: Path | None) -> int:
    if text is None:
        raise CommandError("--skeleton asks for the RFC's text too: --rfc-text PATH")
    lines = list(skeleton(section, read_statements(text)))
    if not lines:
        raise CommandError(f"no key word in section {section}")
    print("\n".join([f"# RFC 9846 §{section}", *lines]))
    return SUCCESS


def _check(text: Path, section: str | None) -> int:
    statements = read_statements(text)
    lines = list(differences(all_requirements(), statements, below=section))
    for line in lines:
        print(line)
    return VIOLATED if lines else SUCCESS
