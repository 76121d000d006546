"""Fail when too few branches, or too few lines, were covered.

`coverage report --fail-under` mixes both in one figure, which hides the branches: there are fewer
of them. This reads the report that `--cov-report=json` leaves, and can judge a part of its files:
those that match one of the patterns of `--only`, or those that match none of `--except`.
"""

from __future__ import annotations

import argparse
import json
import sys
from collections import Counter
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

KEYS = ("covered_lines", "num_statements", "covered_branches", "num_branches")


def _matches(name: str, patterns: str) -> bool:
    return any(fnmatch(name, pattern) for pattern in patterns.split(","))


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--at-least", type=float, required=True, metavar="PERCENT")
    parser.add_argument("--only", default="*", metavar="PATTERNS", help="separated by commas")
    parser.add_argument("--except", default="", dest="other", metavar="PATTERNS")
    parser.add_argument("selection", nargs="*", help="what was asked of pytest, if not everything")
    options, unknown = parser.parse_known_args(arguments)
    if options.selection or unknown:
        print("coverage: not judged, only a part of the tests ran")
        return 0
    if not options.report.exists():
        print(f"coverage: {options.report} is not there: no test ran, or none imported the package")
        return 1
    files: dict[str, Any] = json.loads(options.report.read_text())["files"]
    totals: Counter[str] = Counter()
    for name, figures in files.items():
        if _matches(name, options.only) and not _matches(name, options.other):
            totals.update({key: figures["summary"][key] for key in KEYS})
    short = False
    for what, covered, number in (
        ("lines", totals["covered_lines"], totals["num_statements"]),
        ("branches", totals["covered_branches"], totals["num_branches"]),
    ):
        percent = 100 * covered / number if number else 100.0
        print(f"coverage: {covered} of {number} {what}: {percent:.1f} %", end="")
        print("" if percent >= options.at_least else f", less than {options.at_least:g} %")
        short |= percent < options.at_least
    if short:
        print("coverage: see what is missing above, or in htmlcov/ after `.venv/bin/coverage html`")
    return int(short)


if __name__ == "__main__":
    sys.exit(main())
