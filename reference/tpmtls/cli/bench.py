"""Measure tpmtls beside other stacks, and beside what it is made of.

What is compared takes turns in one run; read the ratios, since absolute times mean
little on a machine that does other things as well. A peer that is not installed is
named, with the reason, and the rest is measured. Each table is printed when it is done:
an interrupted run has lost no more than the one at hand, but --json prints all or nothing.

tables: handshakes, profile, records, startup, connections, transfers, tpm, aead, servers, suite

examples:
  tpmtls bench --quick
  tpmtls bench --only handshakes,records --plot plots
  tpmtls bench --json > figures.json
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from tempfile import TemporaryFile
from typing import TYPE_CHECKING, Final

from tpmtls.cli import options
from tpmtls.cli.exits import SUCCESS, USAGE, CommandError, explain

if TYPE_CHECKING:
    from tlsbench.results import Table

SUMMARY: Final = "measure it beside other stacks"


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `tpmtls bench`."""
    parser.add_argument(
        "--quick", action="store_true", help="all of it in less than a minute (default: some ten)"
    )
    parser.add_argument(
        "--only", metavar="TABLE,…", type=options.split, help="these tables (default: all)"
    )
    parser.add_argument("--json", action="store_true", help="the figures as one JSON object")
    parser.add_argument(
        "--plot", metavar="DIR", type=Path, help="draw each table there too, as TABLE.svg"
    )
    parser.add_argument("-v", "--verbose", action="store_true", help="say where an error came from")


def run(arguments: Namespace) -> int:
    """Measure, and print tables or JSON; returns the exit status."""
    from tlsbench import plot, text
    from tlsbench.measure import FULL, QUICK, Progress
    from tlsbench.run import TABLES
    from tlsbench.run import run as measure

    names = arguments.only or TABLES
    strangers = [name for name in names if name not in TABLES]
    if strangers:
        raise CommandError(
            f"there is no table {strangers[0]!r}; there are {', '.join(TABLES)}", USAGE
        )
    if arguments.plot is not None:
        _make_folder(arguments.plot)

    def finished(table: Table) -> None:
        if not arguments.json:
            print("\n".join(text.as_text(table)), flush=True)
        if arguments.plot is not None:
            _write(arguments.plot / f"{table.name}.svg", plot.draw(table))

    report = measure(names, QUICK if arguments.quick else FULL, Progress(), finished)
    if arguments.json:
        print(report.to_json())
    return SUCCESS


def _make_folder(path: Path) -> None:
    """Find out that nothing can be written there before minutes are spent on measuring."""
    try:
        path.mkdir(parents=True, exist_ok=True)
        TemporaryFile(dir=path).close()
    except OSError as error:
        raise CommandError(f"{path}: {explain(error)}", USAGE) from None


def _write(path: Path, drawing: str) -> None:
    try:
        path.write_text(drawing, encoding="utf-8")
    except OSError as error:
        raise CommandError(f"{path}: {explain(error)}", USAGE) from None
