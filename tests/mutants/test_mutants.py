"""The suite must bite: it kills every mutant, and leaves the reference alone."""

from __future__ import annotations

import pytest

from tests.mutants.mutation import Mutant, build, examine, known_killers, mutants


@pytest.mark.parametrize("mutant", mutants(), ids=lambda m: f"{m.role}-{m.name.replace(' ', '-')}")
def test_the_suite_kills(mutant: Mutant, record_property) -> None:
    outcome = examine(mutant, known_killers().get(mutant.name))
    record_property("killer", outcome.killer)
    assert outcome.killer is not None, outcome.output[-2000:]


def test_names_are_unique() -> None:
    names = [mutant.name for mutant in mutants()]
    assert len(set(names)) == len(names) >= 60


def test_a_bug_that_does_not_fit_is_an_error(tmp_path) -> None:
    stale = Mutant("stale", "client", "record.py", "this stands nowhere", "")
    with pytest.raises(ValueError, match="stale: 0 places"):
        build(stale, tmp_path)


def test_no_bug_is_no_violation() -> None:
    """The copy alone is not what the suite complains about."""
    healthy = Mutant("healthy", "server", "record.py", "import annotations", "import annotations")
    outcome = examine(healthy)
    assert outcome.killer is None
    assert " passed" in outcome.output
