"""The verdicts on what real runs show: as worked out by hand for observations made up by hand."""

from __future__ import annotations

from functools import cache

import pytest

from tests.audit.fabricated import fabricate
from tests.audit.test_verdicts import (
    AFTER_THE_HANDSHAKE,
    EXPECTED,
    LETTERS,
    resumed_after_the_handshake,
)
from tpmtls.audit.attackers import ATTACKERS
from tpmtls.audit.evidence import Timeline
from tpmtls.audit.model import Goal, Observation
from tpmtls.audit.profiles import BY_KEY
from tpmtls.audit.scenario import observe
from tpmtls.audit.verdicts import cells
from tpmtls.codepoints import CipherSuite

PROFILES = list(BY_KEY)


@cache
def observed(key: str) -> Observation:
    return observe(BY_KEY[key], tcti="libtpms:")


@pytest.mark.parametrize("key", PROFILES)
def test_verdicts_are_those_worked_out_by_hand(need_libtpms: None, key: str) -> None:
    verdicts = {(cell.attacker, cell.goal): cell.verdict for cell in cells(observed(key))}
    expected = [LETTERS[x] for row in EXPECTED[key].values() for x in row.split()]
    assert list(verdicts.values()) == expected
    assert [attacker for attacker, _ in verdicts][::6] == [each.key for each in ATTACKERS]


def ways(observation: Observation) -> set[str]:
    """In which ways which secrets are within reach; of exporters' no goal is about."""
    return {e.fact for e in Timeline(observation).evidence if "exporter" not in e.fact}


@pytest.mark.parametrize("key", PROFILES)
def test_a_run_shows_what_was_expected_of_it(need_libtpms: None, key: str) -> None:
    assert ways(observed(key)) == ways(fabricate(key))


@pytest.mark.parametrize("key", PROFILES)
def test_client_compromised_after_the_handshake(need_libtpms: None, key: str) -> None:
    """The attacker takes resumption secret and ticket: can they resume as the client?"""
    assert resumed_after_the_handshake(observed(key)).verdict == AFTER_THE_HANDSHAKE[key]


@pytest.mark.parametrize("key", ["all", "chained"])
def test_ccm_leaves_no_hash_key_to_forge_with(need_libtpms: None, key: str) -> None:
    observation = observe(BY_KEY[key], CipherSuite.TLS_AES_128_CCM_SHA256, tcti="libtpms:")
    found = {(cell.attacker, cell.goal): cell for cell in cells(observation)}
    goal: Goal = "forge records"
    assert {step.rule for step in found["memory", goal].derivation} <= {
        "in host memory",
        "carried in clear",
        "seals records",
    }
    chained = [found[each, goal].verdict for each in ("bus", "snapshot-during", "memory")]
    assert chained == (["no"] * 3 if key == "chained" else ["yes"] * 3)
    assert found["bus", "read recorded traffic"].verdict == (
        "while there" if key == "chained" else "yes"
    )
