"""Requirements, code and tests account for one another, in both directions.

Code says what it answers for by `# req:`, tests by the mark `req`, a violation by its field. What
is in the catalogue and has no such line needs the catalogue's word on why.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator
from functools import cache
from pathlib import Path

import pytest

from tlsconform.requirements import Method, all_requirements
from tlsconform.requirements.coverage import Marks, collect_marks, has_suite, suite_marks, uncovered
from tpmtls.violations import Violation

ROOT = Path(__file__).resolve().parents[2]

needs_suite = pytest.mark.skipif(
    not has_suite(), reason="no tests in tlsconform/suite/server and tlsconform/suite/client yet"
)
"""Active by itself as soon as there is a `test_*.py` for each role in `tlsconform/suite/`."""


@cache
def cited() -> dict[str, set[str]]:
    """What the reference's comments `# req:` name, and the files that they are in."""
    found: dict[str, set[str]] = {}
    for path in sorted((ROOT / "reference").rglob("*.py")):
        for comment in re.findall(r"# req:(.*)", path.read_text("utf-8")):
            for identifier in comment.split():
                found.setdefault(identifier, set()).add(path.name)
    return found


@cache
def marks() -> Marks:
    """The marks of our own tests."""
    return collect_marks(ROOT / "tests", cwd=ROOT)


def unknown(identifiers: Iterable[str]) -> list[str]:
    """Those that the catalogue does not have."""
    return sorted(set(identifiers) - all_requirements().keys())


# -- what names a requirement names one that exists ------------------------------------------------


def test_every_requirement_that_the_reference_cites_exists() -> None:
    assert {each: cited()[each] for each in unknown(cited())} == {}


def test_every_requirement_that_a_test_is_marked_with_exists() -> None:
    assert unknown(each for found in marks().values() for each in found) == []


def test_every_requirement_that_a_violation_names_exists() -> None:
    assert unknown(violation.requirement for violation in Violation) == []


@needs_suite
def test_every_requirement_that_the_suite_is_marked_with_exists() -> None:
    of_suite = suite_marks().values()
    assert unknown(each for tests in of_suite for found in tests.values() for each in found) == []


# -- every requirement is answered for, or says why not --------------------------------------------


def test_every_requirement_has_code_or_a_reason() -> None:
    binding = [entry for entry in all_requirements().values() if entry.binds]
    assert [entry.id for entry in binding if not entry.code and entry.id not in cited()] == []


def test_no_reason_for_a_lack_of_code_has_outlived_it() -> None:
    assert [
        entry.id for entry in all_requirements().values() if entry.code and entry.id in cited()
    ] == []


def test_every_requirement_that_unit_tests_show_has_one() -> None:
    """In tests that need no TPM: those are not everywhere."""
    shown = set(_shown(marks()))
    wanted = [e.id for e in all_requirements().values() if Method.UNIT in e.verify]
    assert [each for each in wanted if each not in shown] == []


def _shown(tests: Marks) -> Iterator[str]:
    for test, found in tests.items():
        if not test.startswith("tests/tpm/"):
            yield from found


@needs_suite
def test_every_requirement_that_the_wire_shows_has_a_test_of_the_suite() -> None:
    lacking = uncovered(all_requirements().values(), suite_marks())
    assert [f"{entry.id} as {role}" for entry, role in lacking] == []
