"""The verdicts: as worked out by hand, and as attackers compare."""

from __future__ import annotations

import tomllib
from functools import cache
from pathlib import Path

import pytest

from tests.audit.fabricated import PROFILES, fabricate
from tpmtls.audit.attackers import ATTACKERS, GOALS
from tpmtls.audit.model import Cell, Verdict
from tpmtls.audit.verdicts import cells

LETTERS: dict[str, Verdict] = {
    "y": "yes",
    "w": "while there",
    ".": "no",
    "-": "not applicable",
}
EXPECTED = tomllib.loads((Path(__file__).parent / "verdicts.toml").read_text("utf-8"))
STRENGTH = {"not applicable": 0, "no": 0, "while there": 1, "yes": 2}


@cache
def judged(profile: str) -> dict[tuple[str, str], Cell]:
    return {(cell.attacker, cell.goal): cell for cell in cells(fabricate(profile))}


def verdicts(profile: str, attacker: str) -> list[Verdict]:
    return [judged(profile)[attacker, goal].verdict for goal in GOALS]


def test_the_table_has_a_row_for_each_profile_and_attacker() -> None:
    assert list(EXPECTED) == list(PROFILES)
    for rows in EXPECTED.values():
        assert list(rows) == [attacker.key for attacker in ATTACKERS]


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize("attacker", [attacker.key for attacker in ATTACKERS])
def test_verdicts_are_those_worked_out_by_hand(profile: str, attacker: str) -> None:
    expected = [LETTERS[letter] for letter in EXPECTED[profile][attacker].split()]
    assert verdicts(profile, attacker) == expected


WEAKER = (
    *(("network", "disk"), ("network", "bus"), ("network", "snapshot-between")),
    *(("disk", "host"), ("bus", "host"), ("snapshot-between", "memory")),
    *(("snapshot-during", "memory"), ("memory", "host"), ("host-left", "host")),
    ("host-left", "host-tpm"),
)


@pytest.mark.parametrize("profile", PROFILES)
@pytest.mark.parametrize(("less", "more"), WEAKER)
def test_who_has_more_never_gets_less(profile: str, less: str, more: str) -> None:
    for goal in GOALS:
        weak, strong = judged(profile)[less, goal], judged(profile)[more, goal]
        assert STRENGTH[weak.verdict] <= STRENGTH[strong.verdict], goal
