"""The verdicts: as worked out by hand, and as attackers compare."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import replace
from functools import cache
from pathlib import Path

import pytest

from tests.audit.fabricated import PROFILES, fabricate
from tpmtls.audit.attackers import ATTACKERS, GOALS
from tpmtls.audit.evidence import Timeline
from tpmtls.audit.model import Cell, Goal, Observation, SecretSeen, Stay, Verdict
from tpmtls.audit.rules import RULES
from tpmtls.audit.verdicts import Judge, cells, describe, summary

LETTERS: dict[str, Verdict] = {
    "y": "yes",
    "w": "while there",
    ".": "no",
    "-": "not applicable",
}
EXPECTED = tomllib.loads((Path(__file__).parent / "verdicts.toml").read_text("utf-8"))
RESUME: Goal = "resume the session elsewhere"
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


# -- cells that need more than a letter ------------------------------------------------------------


def cell(profile: str, attacker: str, goal: Goal) -> Cell:
    return judged(profile)[attacker, goal]


def test_without_0rtt_a_psk_still_plays_the_server() -> None:
    """It shows nothing but the PSK, and its own key share is as good as the server's."""
    found = {(c.attacker, c.goal): c for c in cells(fabricate("software", early=False))}
    stolen = found["disk", "read future traffic"]
    assert stolen.verdict == "yes"
    assert stolen.derivation[-1].rule == "plays the server"
    assert stolen.note == "by playing the server in the next connection"
    assert found["disk", "forge records"].verdict == "no"


@pytest.mark.parametrize(
    ("profile", "attacker", "goal", "note"),
    [
        ("software", "disk", "forge records", "0-RTT data only"),
        (
            "software",
            "disk",
            "read future traffic",
            "0-RTT data only; the rest by playing the server",
        ),
        ("sign", "bus", "read recorded traffic", "0-RTT data only"),
        ("sign", "memory", "read recorded traffic", ""),
        ("chained", "bus", "forge records", "in place of a record that it holds back"),
        ("chained", "bus", "read recorded traffic", "the data as it passes, no key"),
        (
            "handle-only",
            "host-tpm",
            "read recorded traffic",
            "0-RTT data only; by what it took along",
        ),
        ("psk", "host-tpm", "impersonate by PSK", "by what it took along"),
        (
            "handle-only",
            "host-left",
            "impersonate the client",
            "but sessions that it opened while there, and their tickets, stay its own",
        ),
        ("software", "host-left", "impersonate the client", ""),
    ],
)
def test_where_a_verdict_would_mislead_a_note_says_so(
    profile: str, attacker: str, goal: Goal, note: str
) -> None:
    assert cell(profile, attacker, goal).note == note


@pytest.mark.parametrize("profile", ["sign", "sign+ecdhe+hkdf"])
def test_a_snapshot_reads_back_to_the_last_key_update_and_no_further(profile: str) -> None:
    note = cell(profile, "snapshot-during", "read recorded traffic").note
    assert note.startswith("back to the last KeyUpdate; at ")


def test_a_key_that_a_snapshot_sees_on_its_way_to_the_tpm_has_protected_nothing_yet() -> None:
    assert cell("all", "snapshot-during", "read recorded traffic").verdict == "no"
    assert cell("all", "snapshot-during", "read future traffic").verdict == "yes"


def test_hash_keys_of_one_snapshot_are_good_until_the_next_key_update() -> None:
    note = cell("chained", "snapshot-during", "forge records").note
    assert note.startswith("until the next KeyUpdate; in place of a record that it holds back")


def share(profile: str, goal: Goal) -> float:
    """At how many of the instants of a connection a snapshot serves."""
    found = re.search(r"at (\d+) of (\d+) instants", cell(profile, "snapshot-during", goal).note)
    return int(found[1]) / int(found[2]) if found else 1.0


def test_levels_make_the_instants_fewer() -> None:
    levels = ("sign", "sign+ecdhe", "sign+ecdhe+hkdf", "all")
    for goal in ("read future traffic", "resume the session elsewhere"):
        shares = [share(profile, goal) for profile in levels]
        assert shares == sorted(shares, reverse=True)
        assert shares[-1] < shares[0] / 2


@pytest.mark.parametrize("profile", PROFILES)
def test_derivations_are_whole_and_described(profile: str) -> None:
    """From what was within reach to the goal, each step from those before it."""
    for each in judged(profile).values():
        assert bool(each.derivation) == (each.verdict in ("yes", "while there"))
        known = set[str]()
        for step in each.derivation:
            assert step.rule in RULES
            for premise in step.premises:
                assert premise in known or not premise.startswith(("knows", "makes", "reads"))
            known.add(step.conclusion)
            assert "→" in describe(step)


def test_what_the_tpm_answered_replaces_a_psk_after_the_attacker_left() -> None:
    """In `all`, without what passed in memory: the wrapped Early Secret is asked for both keys."""
    observation = fabricate("all")
    unseen = [
        replace(each, crossings=(), stays=tuple(s for s in each.stays if s.place == "tpm"))
        for each in observation.secrets
    ]
    found = {(c.attacker, c.goal): c for c in cells(replace(observation, secrets=tuple(unseen)))}
    resumed = found["host-left", "resume the session elsewhere"]
    assert resumed.verdict == "yes"
    asked = {describe(step) for step in resumed.derivation if step.rule == "TPM2_HMAC"}
    assert "TPM2_HMAC with 2/early_secret → 2/early_secret/derived" in asked
    assert found["memory", "resume the session elsewhere"].verdict == "no"


def test_a_binder_key_left_by_tpm2_hmac_makes_binders() -> None:
    """The example of the issue."""
    observation = fabricate("all")
    kept = ("binder_key", "derived")
    only = tuple(
        secret if secret.name in kept else replace(secret, crossings=(), stays=())
        for secret in observation.secrets
    )
    found = {(c.attacker, c.goal): c for c in cells(replace(observation, secrets=only))}
    steps = [describe(s) for s in found["bus", "resume the session elsewhere"].derivation]
    assert "2/binder_key left by TPM2_HMAC → 2/binder_key" in steps
    assert "2/binder_key/finished_key → makes binders 2" in steps
    assert steps[-1].endswith("→ resumes 1")
    assert summary(found["bus", "resume the session elsewhere"].derivation) == (
        "2/binder_key left by TPM2_HMAC + 2/early_secret/derived left by TPM2_HMAC → resumes 1"
    )


def test_an_object_that_is_gone_cannot_be_asked() -> None:
    """A binder's finished_key, and later `derived`: never both at once, if that is all there is."""
    observation = fabricate("handle-only")
    both = ("2/binder_key/finished_key", "2/early_secret/derived")

    def resumed(*, together: bool) -> str:
        secrets = tuple(
            replace(each, stays=(Stay("model", 0, 10**6),) if together else each.stays)
            if each.id in both
            else replace(each, stays=())
            for each in observation.secrets
        )
        found = cells(replace(observation, secrets=secrets))
        return next(c.verdict for c in found if (c.attacker, c.goal) == ("host", RESUME))

    assert resumed(together=False) == "no"
    assert resumed(together=True) == "while there"


# -- the question that all began with --------------------------------------------------------------

AFTER_THE_HANDSHAKE: dict[str, Verdict] = {
    "software": "yes",
    "sign": "yes",  # the PSK is sealed, but the secret that it was made of is in memory
    "sign+ecdhe": "yes",
    "sign+ecdhe+hkdf": "no",
    "all": "no",
    "psk": "not applicable",
    "chained": "no",
    "handle-only": "no",
}


def resumed_after_the_handshake(observation: Observation) -> Cell:
    """Memory is read once, while connection 1 is open and its ticket is put away: who has the
    resumption secret and the ticket then resumes as the client.
    """
    spans = {moment.name: (moment.first, moment.last) for moment in observation.moments}
    window = spans["1 KeyUpdate"][0], spans["1 data again"][1]
    snapshot = next(each for each in ATTACKERS if each.key == "snapshot-during")
    return Judge(observation, window=window).cell(snapshot, RESUME)


@pytest.mark.parametrize("profile", PROFILES)
def test_client_compromised_after_the_handshake(profile: str) -> None:
    found = resumed_after_the_handshake(fabricate(profile))
    assert found.verdict == AFTER_THE_HANDSHAKE[profile]
    if profile in ("sign", "sign+ecdhe"):
        assert found.derivation[0].conclusion == "knows 1/resumption_secret"


# -- what verdicts hang on -------------------------------------------------------------------------

Seen = tuple[SecretSeen, str]


def without(observation: Observation, which: SecretSeen, what: str) -> Observation:
    """The observation without all crossings of a secret of one kind, or all stays at a place."""

    def keep(secret: SecretSeen) -> SecretSeen:
        if secret is not which:
            return secret
        return replace(
            secret,
            stays=tuple(s for s in secret.stays if f"{s.place} {s.stored}" != what),
            crossings=tuple(c for c in secret.crossings if f"{c.direction} {c.via}" != what),
        )

    return replace(observation, secrets=tuple(keep(secret) for secret in observation.secrets))


def seen(observation: Observation) -> Iterator[Seen]:
    """All kinds of crossings, and all places, of all secrets."""
    for secret in observation.secrets:
        yield from dict.fromkeys((secret, f"{s.place} {s.stored}") for s in secret.stays)
        yield from dict.fromkeys((secret, f"{c.direction} {c.via}") for c in secret.crossings)


VERDICTS_HANG_ON = {
    ("software", "0/signing_key", "host True"): ("disk", "impersonate the client"),
    ("software", "1/PSK", "host True"): ("snapshot-between", "resume the session elsewhere"),
    ("sign", "0/signing_key", "tpm True"): ("host", "impersonate the client"),
    ("chained", "0/signing_key", "tpm True"): ("host-tpm", "impersonate the client"),
    ("psk", "0/finished_key", "tpm True"): ("host", "impersonate by PSK"),
    ("psk", "0/derived", "tpm True"): ("host-tpm", "impersonate by PSK"),
    ("handle-only", "1/PSK", "model True"): ("host-tpm", "read recorded traffic"),
}


@pytest.mark.parametrize(("profile", "secret", "what"), VERDICTS_HANG_ON)
def test_without_a_stay_or_crossing_a_verdict_changes(profile: str, secret: str, what: str) -> None:
    observation = fabricate(profile)
    which = next(each for each in observation.secrets if each.id == secret)
    before = judged(profile)
    after = {(c.attacker, c.goal): c for c in cells(without(observation, which, what))}
    changed = {key for key, cell in after.items() if cell.verdict != before[key].verdict}
    assert VERDICTS_HANG_ON[profile, secret, what] in changed


@pytest.mark.parametrize(
    ("profile", "names", "attacker", "goal"),
    [
        ("chained", ("ghash_key",), "bus", "forge records"),
        ("chained", ("ghash_key",), "snapshot-during", "forge records"),
        ("chained", ("write_iv",), "bus", "read recorded traffic"),
        ("sign", ("PSK",), "bus", "resume the session elsewhere"),
        ("sign", ("PSK",), "bus", "read recorded traffic"),
        ("sign+ecdhe", ("PSK", "shared_secret"), "bus", "read recorded traffic"),
    ],
)
def test_verdicts_hang_on_kinds_of_secrets(
    profile: str, names: tuple[str, ...], attacker: str, goal: Goal
) -> None:
    observation = fabricate(profile)
    rest = tuple(
        replace(s, crossings=(), stays=tuple(x for x in s.stays if x.place != "host"))
        if s.name in names
        else s
        for s in observation.secrets
    )
    after = {(c.attacker, c.goal): c for c in cells(replace(observation, secrets=rest))}
    assert cell(profile, attacker, goal).verdict in ("yes", "while there")
    assert after[attacker, goal].verdict == "no"


@pytest.mark.parametrize("profile", PROFILES)
def test_nothing_that_a_derivation_uses_can_be_left_out(profile: str) -> None:
    """For each kind of crossing and each place that a derivation begins with."""
    observation = fabricate(profile)
    begins: dict[str, Cell] = {}
    for each in judged(profile).values():
        made = {step.conclusion for step in each.derivation}
        premises = {p for step in each.derivation for p in step.premises}
        begins |= dict.fromkeys((p for p in premises - made if "has wire" not in p), each)
    for secret, what in seen(observation):
        less = without(observation, secret, what)
        lost = begins.keys() - {e.fact for e in Timeline(less).evidence}
        for fact in sorted(lost)[:1]:
            attacker = next(a for a in ATTACKERS if a.key == begins[fact].attacker)
            after = Judge(less).cell(attacker, begins[fact].goal)
            assert after.derivation != begins[fact].derivation, (secret.id, what)
