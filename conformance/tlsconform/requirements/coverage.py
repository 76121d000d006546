"""Which tests answer for which requirements: the marks `req` that pytest finds when it collects.

pytest itself is asked, in a process of its own, since a mark may stand on a parameter, a class or a
module. There this module is the plugin that writes down what was collected.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tlsconform.requirements.entries import Requirement, Role

if TYPE_CHECKING:
    import pytest

TIME_LIMIT: Final = 120.0
"""Seconds that a collection may take."""

_OPTION: Final = "--requirement-marks"
_COLLECTED, _NO_TESTS = 0, 5  # of pytest's exit statuses

Marks = dict[str, tuple[str, ...]]
"""A test's node ID → the requirements that it is marked with."""


class CoverageError(Exception):
    """pytest could not collect the tests; the message says why, in one line."""


def suite_folder() -> Path:
    """Where the suite's tests are: `server/` asks servers, `client/` asks clients."""
    return Path(str(files("tlsconform"))) / "suite"


def has_suite() -> bool:
    """Whether there is a suite: whether it has a test for each role."""
    return all(any((suite_folder() / role).glob("**/test_*.py")) for role in Role)


def suite_marks() -> dict[Role, Marks]:
    """The marks of the suite, by the role that is under test; raises `CoverageError`."""
    found: dict[Role, Marks] = {}
    for role in Role:
        folder = suite_folder() / role
        # No configuration file: the suite may be installed anywhere, even below somebody's project.
        alone = ("-c", os.devnull, "--rootdir", str(folder), "--import-mode", "importlib")
        found[role] = collect_marks(folder, arguments=alone) if folder.is_dir() else {}
    return found


def uncovered(
    requirements: Iterable[Requirement], suite: Mapping[Role, Marks]
) -> Iterator[tuple[Requirement, Role]]:
    """The requirements that the wire of a role shows, though no test of the suite looks there."""
    looked_at = {role: {each for marks in suite[role].values() for each in marks} for role in Role}
    for requirement in requirements:
        for role in Role:
            if role.value in requirement.verify and requirement.id not in looked_at[role]:
                yield requirement, role


def collect_marks(path: Path, *, arguments: Sequence[str] = (), cwd: Path | None = None) -> Marks:
    """The tests below a path that are marked, with their requirements; raises `CoverageError`."""
    with tempfile.TemporaryDirectory(prefix="tlsconform-") as folder:
        report = Path(folder) / "marks.json"
        command = [sys.executable, "-m", "pytest", "--collect-only", "--quiet", "-p", __name__]
        command += ["-p", "no:cacheprovider", _OPTION, str(report), *arguments, str(path)]
        # What a pytest around this one has set does not concern the one inside.
        env = {key: value for key, value in os.environ.items() if not key.startswith("PYTEST_")}
        try:
            ended = subprocess.run(  # noqa: S603 - our own interpreter, no shell
                command,
                cwd=cwd,
                env=env,
                capture_output=True,
                text=True,
                timeout=TIME_LIMIT,
                check=False,
            )
        except subprocess.TimeoutExpired:
            raise CoverageError(f"{path}: not collected within {TIME_LIMIT:.0f} s") from None
        if ended.returncode not in (_COLLECTED, _NO_TESTS) or not report.exists():
            last = (ended.stderr.strip() or ended.stdout.strip() or "no word").splitlines()[-1]
            raise CoverageError(f"{path}: pytest cannot collect it: {last}")
        return {test: tuple(found) for test, found in json.loads(report.read_text()).items()}


# -- the plugin ------------------------------------------------------------------------------------


def pytest_addoption(parser: pytest.Parser) -> None:
    """Take the name of the file to write."""
    parser.addoption(_OPTION, metavar="FILE", help="write the collected tests' marks `req` there")


def pytest_configure(config: pytest.Config) -> None:
    """Know the mark, where no project's configuration names it."""
    config.addinivalue_line("markers", "req(id): RFC 9846 requirement answered for by this test")


def pytest_collection_finish(session: pytest.Session) -> None:
    """Write down what was collected."""
    marks = {
        item.nodeid: [str(each) for mark in item.iter_markers("req") for each in mark.args]
        for item in session.items
    }
    report = Path(session.config.getoption(_OPTION))
    report.write_text(json.dumps({test: found for test, found in marks.items() if found}))
