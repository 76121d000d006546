"""Measure tpmtls beside other stacks, and beside what it is made of.

What is compared takes turns in one run; read the ratios, since absolute times mean
little on a machine that does other things as well. A peer that is not installed is
named, with the reason, and the rest is measured.

examples:
  tpmtls bench --quick
  tpmtls bench --only handshakes,records --plot plots
  tpmtls bench --json > figures.json
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from pathlib import Path
from typing import Final

from tpmtls.cli import options
from tpmtls.cli.exits import SUCCESS, USAGE, CommandError, explain

SUMMARY: Final = "measure it beside other stacks"


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `tpmtls bench`."""
    parser.add_argument("--quick", action="store_true", help="all of it in less than a minute")
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
        try:
            arguments.plot.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise CommandError(f"{arguments.plot}: {explain(error)}", USAGE) from None
    report = measure(names, QUICK if arguments.quick else FULL, Progress())
    print(report.to_json() if arguments.json else "\n".join(text.as_text(report)))
    if arguments.plot is not None:
        for table in report.tables:
            path = arguments.plot / f"{table.name}.svg"
            path.write_text(plot.draw(table), encoding="utf-8")
    return SUCCESS
