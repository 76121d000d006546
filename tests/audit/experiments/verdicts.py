"""What was measured, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tests.audit.experiments.machine import LIBTPMS
from tpmtls.audit.model import Goal, Observation, Verdict
from tpmtls.audit.profiles import BY_KEY
from tpmtls.audit.scenario import observe
from tpmtls.audit.verdicts import cells

Measured = Mapping[tuple[str, str, Goal], Verdict]
"""By attacker, profile and goal."""

RESUME: Goal = "resume the session elsewhere"
IMPERSONATE: Goal = "impersonate the client"
BY_PSK: Goal = "impersonate by PSK"
FORGE: Goal = "forge records"
READ: Goal = "read recorded traffic"
READ_ON: Goal = "read future traffic"


def verdict(*, away: bool, there: bool = False) -> Verdict:
    """Of an attack that works away from the machine, or only while there."""
    return "yes" if away else "while there" if there else "no"


@cache
def derived(profile: str) -> Measured:
    """The model's verdicts on a profile, from what a run of it shows."""
    return {
        (cell.attacker, cell.profile, cell.goal): cell.verdict for cell in cells(observed(profile))
    }


@cache
def observed(profile: str) -> Observation:
    """A run of a profile; where a TPM is needed, one is made for it."""
    return observe(BY_KEY[profile], tcti=LIBTPMS)


def assert_agrees(measured: Measured) -> None:
    """What was measured is what is derived, cell by cell."""
    assert measured
    differ = [
        f"{cell}: measured {found}, derived {model}"
        for cell, found in measured.items()
        if (model := derived(cell[1])[cell]) != found
    ]
    assert not differ, "\n".join(differ)
