"""Fail when too few branches, or too few lines, were covered.

`coverage report --fail-under` mixes both in one figure, which hides the branches: there are fewer
of them. This reads the report that `--cov-report=json` leaves.
"""

from __future__ import annotations

import argparse
import json
import sys
from pathlib import Path


def main(arguments: list[str] | None = None) -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("report", type=Path)
    parser.add_argument("--at-least", type=float, required=True, metavar="PERCENT")
    parser.add_argument("selection", nargs="*", help="what was asked of pytest, if not everything")
    options, unknown = parser.parse_known_args(arguments)
    if options.selection or unknown:
        print("coverage: not judged, only a part of the tests ran")
        return 0
    if not options.report.exists():
        print(f"coverage: {options.report} is not there: no test ran, or none imported the package")
        return 1
    totals = json.loads(options.report.read_text())["totals"]
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
