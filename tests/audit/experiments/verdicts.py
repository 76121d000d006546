"""What was measured, cell by cell."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache

from tests.audit.experiments.live import GCM
from tests.audit.experiments.machine import LIBTPMS
from tpmtls.audit.model import Goal, Observation, Verdict
from tpmtls.audit.profiles import BY_KEY
from tpmtls.audit.scenario import observe
from tpmtls.audit.verdicts import cells
from tpmtls.codepoints import CipherSuite

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
def observed(profile: str, suite: str = GCM) -> Observation:
    """A run of a profile; where a TPM is needed, one is made for it."""
    return observe(BY_KEY[profile], CipherSuite[suite], tcti=LIBTPMS)


@cache
def derived(profile: str, suite: str = GCM) -> Measured:
    """The model's verdicts on a profile, from what a run of it shows."""
    return {
        (cell.attacker, cell.profile, cell.goal): cell.verdict
        for cell in cells(observed(profile, suite))
    }


def assert_agrees(measured: Measured, suite: str = GCM) -> None:
    """What was measured is what is derived, cell by cell."""
    assert measured
    differ = [
        f"{cell}: measured {found}, derived {model}"
        for cell, found in measured.items()
        if (model := derived(cell[1], suite)[cell]) != found
    ]
    assert not differ, "\n".join(differ)


def assert_complete(measured: Measured, profile: str) -> None:
    """Every cell that means anything was measured, but for the one thing that need not be.

    Data is in the memory of the application that it is for. Where nothing else helps one who reads
    that memory, the model says so, and nobody has to try it.
    """
    for cell, model in derived(profile).items():
        attacker, _, goal = cell
        if attacker == "memory" and goal in (READ, READ_ON) and model == "while there":
            continue
        assert (cell in measured) == (model != "not applicable"), cell
