"""Every attacker against every profile: what works on live servers is what the audit derives."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path

import pytest

from tests.audit.experiments.attacks import Loot, new_connections
from tests.audit.experiments.live import Ours
from tests.audit.experiments.machine import Machine
from tests.audit.experiments.present import (
    Use,
    forge,
    forge_early,
    overheard,
    read_early_data,
    use,
)
from tests.audit.experiments.reach import ATTACKERS, IS_ON_HOST
from tests.audit.experiments.run import run
from tests.audit.experiments.trial import Trial
from tests.audit.experiments.verdicts import (
    FORGE,
    READ,
    READ_ON,
    assert_agrees,
    assert_complete,
    derived,
    observed,
    verdict,
)
from tests.pki import Pki
from tpmtls.audit.model import Goal, Verdict
from tpmtls.audit.profiles import PROFILES, Profile

pytestmark = pytest.mark.usefixtures("need_libtpms")


@pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.key)
def test_a_profile(profile: Profile, ours: Ours, pki: Pki, tmp_path: Path) -> None:
    disk, elsewhere = tmp_path / "disk", tmp_path / "elsewhere"
    disk.mkdir()
    elsewhere.mkdir()
    measured: dict[str, dict[Goal, Verdict]] = {attacker: {} for attacker in ATTACKERS}
    observation = observed(profile.key)
    with Machine(profile, disk, pki) as machine:
        trial = Trial(profile, observation, run(machine, ours, tmp_path / "copy"))
        used = use(machine, ours)
        early = read_early_data(machine, trial.run)
        taken = Loot(trial.run.disk, tpm=machine.tpm, backend=machine.backend)
        with_tpm = {
            goal: attack(taken, ours, pki) for goal, attack in new_connections(profile).items()
        }
        for attacker, verdicts in measured.items():
            verdicts.update(reading(trial, attacker, used, early))
            verdicts[FORGE] = forging(trial, attacker, machine, ours, used)
    with Machine(profile, elsewhere, pki) as other:
        for attacker, verdicts in measured.items():
            verdicts.update(connecting(trial, attacker, other, ours, pki, with_tpm))
    found = {
        (attacker, profile.key, goal): verdict
        for attacker, verdicts in measured.items()
        for goal, verdict in verdicts.items()
    }
    assert_agrees(found)
    assert_complete(found, profile.key)


def test_what_differs_or_lacks_is_noticed() -> None:
    model = derived("software")
    meant = {cell: found for cell, found in model.items() if found != "not applicable"}
    assert_complete(meant, "software")
    assert_agrees(meant)
    cell, found = meant.popitem()
    with pytest.raises(AssertionError, match=f"measured no, derived {found}"):
        assert_agrees({cell: "no"})
    with pytest.raises(AssertionError, match=cell[0]):
        assert_complete(meant, "software")


def connecting(
    trial: Trial,
    attacker: str,
    other: Machine,
    server: Ours,
    pki: Pki,
    with_tpm: Mapping[Goal, bool],
) -> dict[Goal, Verdict]:
    """From another machine, with another TPM; and where the attacker has it, with the client's."""
    found: dict[Goal, Verdict] = {}
    for goal, attack in new_connections(trial.profile).items():
        away = any(
            attack(replace(loot, tpm=other.tpm, backend=other.backend), server, pki)
            for loot in trial.loot(attacker)
        )
        away |= attacker == "host-tpm" and with_tpm[goal]
        found[goal] = verdict(away=away, there=attacker == "host" and with_tpm[goal])
    return found


def reading(trial: Trial, attacker: str, used: Use, early: bool) -> dict[Goal, Verdict]:
    """From a recording.

    Nothing is measured, or need be, where nothing helps but that data is in the memory of the
    application, which it is for.
    """
    recorded, future = trial.reads(attacker)
    if attacker == "memory" and not (recorded and future):
        return {}
    there = (False, False)
    if attacker == "bus":
        there = (bool(overheard(trial.run)),) * 2
    elif attacker == "host":
        there = used.recorded, used.future
    recorded |= attacker == "host-tpm" and early
    return {
        READ: verdict(away=recorded, there=there[0]),
        READ_ON: verdict(away=future, there=there[1]),
    }


def forging(trial: Trial, attacker: str, machine: Machine, server: Ours, used: Use) -> Verdict:
    """In a live connection; without anything to do it with, it is tried all the same."""
    asks = attacker in IS_ON_HOST
    chances = list(trial.forging(attacker)) or [("application", frozenset[str]())]
    away = any(
        forge_early(machine, server, secrets)
        if where == "early"
        else forge(machine, server, secrets, asks=asks)
        for where, secrets in chances
    )
    return verdict(away=away, there=attacker == "host" and used.forges)
