"""Show a run again: from the JSON report that it left, as text or as a page."""

from __future__ import annotations

import argparse
import json
from collections import Counter
from pathlib import Path
from typing import Final

from tlsconform.cli.exits import SUCCESS, VIOLATED, CommandError
from tlsconform.report.html import BRIEF, page
from tlsconform.report.model import Report
from tlsconform.verdicts import Verdict, explain

SUMMARY: Final = "show a JSON report again, as text or as a page"
EPILOG: Final = """\
examples:
  tlsconform report run.json
  tlsconform report run.json --html run.html

exit status:
  0 no violation in it    1 a requirement is violated    2 usage
"""


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The options of `tlsconform report`."""
    parser.add_argument("file", metavar="FILE", help="what --json wrote")
    parser.add_argument("--html", metavar="FILE", help="write the page instead")
    parser.add_argument("--brief", action="store_true", help="a page with fewer tests and octets")


def run(arguments: argparse.Namespace) -> int:
    """Show it; returns the exit status."""
    report = _load(arguments.file)
    if arguments.html is not None:
        try:
            extent = BRIEF if arguments.brief else None
            Path(arguments.html).write_text(page(report, extent), "utf-8")
        except OSError as error:
            raise CommandError(f"cannot write {arguments.html}: {error.strerror}") from None
    else:
        _print(report)
    return VIOLATED if report.unexpected() else SUCCESS


def _load(file: str) -> Report:
    try:
        return Report.from_json(json.loads(Path(file).read_text("utf-8")))
    except OSError as error:
        raise CommandError(f"cannot read {file}: {error.strerror}") from None
    except ValueError as error:
        raise CommandError(f"{file}: {error}") from None


def _print(report: Report) -> None:
    print(f"RFC {report.rfc}, {report.date}, tlsconform {report.version}")
    for target in report.targets:
        counts = Counter(row.verdict for row in report.rows() if row.role == target.role)
        parts = ", ".join(f"{counts[verdict]} {verdict.value}" for verdict in Verdict)
        print(f"{target.role} {target.name}: {parts}")
    for result in report.results:
        if result.verdict in (Verdict.VIOLATES, Verdict.DEVIATES, Verdict.UNTESTED):
            print()
            print("\n".join(explain(result)))
