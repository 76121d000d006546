"""What `server`, `client` and `self` share: the options of a run, and the run itself by pytest."""

from __future__ import annotations

import argparse
import os
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from tlsconform.cli.exits import INTERRUPTED, NOTHING_THERE, SUCCESS, USAGE, VIOLATED, CommandError
from tlsconform.expectations import Expectations
from tlsconform.requirements.coverage import suite_folder

MAX_WORKERS: Final = 64
_STATUS: Final = {0: SUCCESS, 1: VIOLATED, 2: INTERRUPTED, 3: NOTHING_THERE, 4: USAGE, 5: USAGE}
"""Of pytest's exit statuses, what they are here; the plugin ends with 3 where nothing is there."""

EXIT_EPILOG: Final = """
exit status:
  0 no violation    1 a requirement is violated    2 usage    3 nothing to talk to
"""


def add_run_arguments(parser: argparse.ArgumentParser, workers: str) -> None:
    """The options that every kind of target has; `workers` is how many by default."""
    what = parser.add_argument_group("which tests, and how strictly")
    what.add_argument("-k", dest="keyword", metavar="EXPR", help="only tests whose names match")
    what.add_argument("--rfc", choices=("9846", "8446"), default="9846", help="judge by this RFC")
    what.add_argument(
        "--level",
        choices=("must", "should"),
        default="must",
        help="fail the run for violations (must), or for deviations too (should)",
    )
    what.add_argument("--expect", metavar="FILE", help="TOML with the failures that are expected")
    how = parser.add_argument_group("how")
    how.add_argument("-n", dest="workers", metavar="N", default=workers, help="run N at a time")
    how.add_argument("--seed", type=int, default=0, help="what makes a run repeat (default: 0)")
    how.add_argument("--timeout", type=float, default=2.0, help="seconds that silence may last")
    how.add_argument("-v", "--verbose", action="store_true", help="name each test as it ends")
    out = parser.add_argument_group("reports")
    out.add_argument("--json", metavar="FILE", help="everything, under a schema")
    out.add_argument("--html", metavar="FILE", help="one page, for people")
    out.add_argument("--junitxml", metavar="FILE", help="for CI systems")
    out.add_argument("--pcap-dir", metavar="DIR", help="captures and key logs of failed tests")


def run_suite(arguments: argparse.Namespace, target: Sequence[str]) -> int:
    """Run pytest on the suite with the target's options; returns our exit status."""
    _check(arguments)
    import pytest

    status = pytest.main([*_pytest_arguments(arguments), *target])
    return _STATUS.get(int(status), VIOLATED)


def _check(arguments: argparse.Namespace) -> None:
    workers = arguments.workers
    if workers != "auto" and not (workers.isdecimal() and int(workers) <= MAX_WORKERS):
        raise CommandError(f"-n takes auto or a number up to {MAX_WORKERS}, not {workers!r}")
    if arguments.timeout <= 0:
        raise CommandError("--timeout takes a positive number of seconds")
    try:
        Expectations.load(arguments.expect)
    except ValueError as error:
        raise CommandError(str(error)) from None
    for option in ("json", "html", "junitxml"):
        file = getattr(arguments, option)
        if file is not None and not Path(file).resolve().parent.is_dir():
            raise CommandError(f"--{option}: there is no folder {Path(file).parent}")


def _pytest_arguments(arguments: argparse.Namespace) -> list[str]:
    suite = str(suite_folder())
    # No configuration file: the suite may be installed below somebody's project.
    chosen = [suite, "-c", os.devnull, "--rootdir", suite, "-p", "no:cacheprovider", "--tb=short"]
    # pytest finds our package imported already: nothing in it has assertions to rewrite
    chosen += ["-W", "ignore:Module already imported:pytest.PytestAssertRewriteWarning"]
    chosen += ["-v"] if arguments.verbose else ["-q"]
    if arguments.workers not in ("0", "1"):
        chosen += ["-n", arguments.workers]
    paths = {name: getattr(arguments, name) for name in ("expect", "json", "html", "pcap_dir")}
    for option, value in (
        ("-k", arguments.keyword),
        ("--junitxml", _absolute(arguments.junitxml)),
        ("--tls-rfc", arguments.rfc),
        ("--tls-level", arguments.level),
        ("--tls-seed", str(arguments.seed)),
        ("--tls-timeout", str(arguments.timeout)),
        *((f"--tls-{name.replace('_', '-')}", _absolute(path)) for name, path in paths.items()),
    ):
        if value is not None:
            chosen += [option, value]
    return chosen


def _absolute(path: str | None) -> str | None:
    return None if path is None else str(Path(path).resolve())
