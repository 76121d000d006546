"""The rules: what follows from what, by hand; that none is superfluous, and none a copy."""

from __future__ import annotations

from functools import cache

import pytest

from tests.audit.fabricated import PROFILES, fabricate
from tests.audit.test_verdicts import EXPECTED, LETTERS
from tpmtls import key_schedule
from tpmtls.audit import rules as clauses
from tpmtls.audit.attackers import ATTACKERS
from tpmtls.audit.closure import Closure, Rule, RuleBook
from tpmtls.audit.rules import RULES, rules
from tpmtls.audit.verdicts import Judge
from tpmtls.backends.handle_model import CHILDREN, Kind

TICKETS = "with a ticket in each connection"
CCM, CHACHA = "TLS_AES_128_CCM_SHA256", "TLS_CHACHA20_POLY1305_SHA256"
CLIENT, SERVER = "client_application_traffic_secret", "server_application_traffic_secret"
HELLO, HANDSHAKE = "client_handshake_traffic_secret", "server_handshake_traffic_secret"
EARLY = "2/client_early_traffic_secret"
WIRES = "has wire 1, has wire 2"

# Given these facts, those follow, and those do not.
PROBES: list[tuple[str, str, str, str]] = [
    # -- down the key schedule -----------------------------------------------------------------
    ("software", "has wire 1", "knows 1/early_secret, knows 1/early_secret/derived", "knows 1/PSK"),
    (
        "software",
        "knows 1/shared_secret, has wire 1",
        (
            f"knows 1/handshake_secret, knows 1/main_secret, knows 1/{HELLO}, knows 1/{HANDSHAKE}, "
            f"knows 1/{CLIENT}_0, knows 1/{SERVER}_0, knows 1/exporter_secret, "
            f"knows 1/{HELLO}/finished_key, knows 1/{HANDSHAKE}/finished_key, "
            f"knows 1/{HELLO}/write_iv, knows 1/{HANDSHAKE}/write_iv, "
            f"knows 1/{CLIENT}_0/finished_key, knows 1/{CLIENT}_1/finished_key, "
            f"knows 1/{CLIENT}_0/write_iv, knows 1/{SERVER}_0/write_iv, "
            f"knows 1/resumption_secret, knows 1/PSK, knows 2/early_secret, reads 1/{CLIENT}_1, "
            f"reads 1/{SERVER}_1, forges 1/{CLIENT}_0, has ticket 1"
        ),
        "knows 2/handshake_secret, knows 2/shared_secret, knows 1/ephemeral_key",
    ),
    ("software", "knows 1/ephemeral_key, has wire 1", "knows 1/shared_secret", ""),
    ("software", "knows 1/ephemeral_key", "", "knows 1/shared_secret"),
    ("software", "knows 2/shared_secret, has wire 2", "", "knows 2/handshake_secret"),
    ("software", "knows 2/shared_secret, knows 1/PSK", "knows 2/handshake_secret", ""),
    # the stages are without context, what is on the right needs the transcript
    (
        "software",
        "knows 1/main_secret",
        "",
        f"knows 1/{CLIENT}_0, knows 1/resumption_secret, knows 1/exporter_secret",
    ),
    (
        "software",
        "knows 1/main_secret, has wire 1",
        "",
        f"knows 1/{CLIENT}_0, knows 1/resumption_secret",
    ),
    (
        "software",
        f"knows 1/main_secret, has wire 1, knows 1/{HANDSHAKE}/write_key",
        f"knows 1/{CLIENT}_0, knows 1/{SERVER}_0, knows 1/exporter_secret",
        "knows 1/resumption_secret",
    ),
    (
        "software",
        "knows 1/main_secret, transcript 1/client Finished in host memory",
        "knows 1/resumption_secret",
        f"knows 1/{CLIENT}_0",
    ),
    (
        "software",
        "knows 1/main_secret, transcript 1/server Finished in host memory",
        f"knows 1/{CLIENT}_0",
        "knows 1/resumption_secret",
    ),
    ("software", "knows 2/early_secret", "", f"knows {EARLY}, knows 2/early_exporter_secret"),
    (
        "software",
        "knows 2/early_secret, has wire 2",
        (
            f"knows {EARLY}, knows 2/early_exporter_secret, reads {EARLY}, forges {EARLY}, "
            f"knows {EARLY}/write_iv"
        ),
        f"reads 2/{CLIENT}_0",
    ),
    # KeyUpdate goes one way, and siblings tell nothing of each other
    (
        "software",
        f"knows 1/{CLIENT}_0, has wire 1",
        f"reads 1/{CLIENT}_0, reads 1/{CLIENT}_1, forges 1/{CLIENT}_1",
        f"reads 1/{SERVER}_0, knows 1/resumption_secret",
    ),
    (
        "software",
        f"knows 1/{SERVER}_1, has wire 1",
        f"reads 1/{SERVER}_1",
        f"reads 1/{SERVER}_0, knows 1/{SERVER}_0",
    ),
    # -- records -------------------------------------------------------------------------------
    (
        "software",
        f"knows 1/{CLIENT}_0/write_key, has wire 1",
        f"reads 1/{CLIENT}_0, forges 1/{CLIENT}_0, knows 1/{CLIENT}_0/ghash_key",
        f"reads 1/{CLIENT}_1, forges 1/{CLIENT}_1",
    ),
    ("software", f"knows 1/{CLIENT}_0/write_key", "", f"reads 1/{CLIENT}_0"),
    (
        "software",
        f"knows 1/{CLIENT}_0/write_iv, has wire 1",
        "",
        f"reads 1/{CLIENT}_0, forges 1/{CLIENT}_0",
    ),
    (
        "software",
        f"knows 1/{CLIENT}_0/ghash_key, has wire 1",
        f"forges 1/{CLIENT}_0",
        f"reads 1/{CLIENT}_0",
    ),
    ("software", f"knows 1/{CLIENT}_0/ghash_key", "", f"forges 1/{CLIENT}_0"),
    (
        f"software {CCM}",
        f"knows 1/{CLIENT}_0/write_key, has wire 1",
        f"reads 1/{CLIENT}_0, forges 1/{CLIENT}_0",
        "",
    ),
    (f"software {CCM}", f"knows 1/{CLIENT}_0/ghash_key, has wire 1", "", f"forges 1/{CLIENT}_0"),
    (
        f"software {CHACHA}",
        f"knows 1/{CLIENT}_0/write_key, has wire 1",
        "",
        f"reads 1/{CLIENT}_0, forges 1/{CLIENT}_0",
    ),
    (
        f"software {CHACHA}",
        f"knows 1/{CLIENT}_0, has wire 1",
        f"reads 1/{CLIENT}_0, forges 1/{CLIENT}_0",
        "",
    ),
    (
        "chained",
        f"sees keystream of 1/{CLIENT}_0, has wire 1",
        f"reads 1/{CLIENT}_0",
        f"forges 1/{CLIENT}_0, knows 1/{CLIENT}_0/write_key",
    ),
    ("handle-only", f"sees data of 1/{CLIENT}_0", f"reads 1/{CLIENT}_0", f"forges 1/{CLIENT}_0"),
    # -- PSKs ----------------------------------------------------------------------------------
    (
        "software",
        f"knows 1/PSK, {WIRES}",
        f"reads {EARLY}, makes binders 2, plays the server in 2, resumes 1",
        f"reads 2/{CLIENT}_0, resumes 2, plays the server in 1, knows 1/resumption_secret",
    ),
    ("software", "knows 1/PSK", "makes binders 2, makes handshake secrets 2", "resumes 1"),
    ("software", "knows 1/PSK, ticket 1 in a file", "resumes 1", ""),
    ("software", "knows 1/PSK, ticket 1 in host memory", "resumes 1", ""),
    (f"software {TICKETS}", f"knows 2/PSK, {WIRES}", "makes binders 3", "resumes 2"),
    (f"software {TICKETS}", f"knows 2/PSK, reads 2/{SERVER}_1", "resumes 2", "resumes 1"),
    (f"software {TICKETS}", f"knows 2/PSK, reads 2/{CLIENT}_1", "", "resumes 2"),
    ("software", f"knows 2/PSK, reads 2/{SERVER}_1", "", "resumes 2"),
    ("software", f"knows 2/binder_key, {WIRES}", "makes binders 2", "resumes 1"),
    (
        "software",
        f"knows 2/early_secret/derived, {WIRES}",
        "plays the server in 2",
        f"makes binders 2, resumes 1, reads {EARLY}",
    ),
    (
        "all",
        f"knows 2/binder_key/finished_key, knows 2/early_secret/derived, {WIRES}",
        "resumes 1",
        f"knows 2/early_secret, knows 1/PSK, reads {EARLY}",
    ),
    (
        "psk",
        f"knows 0/finished_key, knows 0/derived, {WIRES}",
        "connects by PSK, plays the server in 1, plays the server in 2",
        "knows 0/PSK, knows 0/early_secret",
    ),
    ("psk", f"knows 0/PSK, {WIRES}", "connects by PSK, knows 0/binder_key", "knows 1/main_secret"),
    ("psk", f"knows 0/finished_key, {WIRES}", "makes binders 1", "connects by PSK"),
    ("psk", f"knows 0/derived, {WIRES}", "plays the server in 2", "connects by PSK"),
    (
        "psk",
        "knows 0/derived, knows 2/shared_secret",
        "knows 2/handshake_secret, knows 2/main_secret",
        "knows 1/handshake_secret",
    ),
    ("psk", "knows 1/handshake_secret, knows 2/shared_secret", "", "knows 2/handshake_secret"),
    # -- what a TPM does -----------------------------------------------------------------------
    (
        "all",
        "asks TPM2_HMAC 2/early_secret, has wire 2",
        f"knows 2/binder_key, knows 2/early_secret/derived, reads {EARLY}, resumes 1",
        "knows 2/early_secret, knows 1/PSK",
    ),
    (
        "all",
        "asks TPM2_HMAC 1/resumption_secret",
        "knows 1/PSK",
        "knows 1/resumption_secret, knows 1/main_secret",
    ),
    (
        "all",
        f"asks TPM2_HMAC 1/{CLIENT}_0, has wire 1",
        f"reads 1/{CLIENT}_0, knows 1/{CLIENT}_1",
        f"knows 1/{CLIENT}_0",
    ),
    (
        "psk",
        f"asks TPM2_HMAC 0/finished_key, asks TPM2_HMAC 0/derived, {WIRES}",
        "connects by PSK, plays the server in 2",
        "knows 0/finished_key, knows 0/derived, knows 1/handshake_secret",
    ),
    (
        "psk",
        "asks TPM2_HMAC 0/derived, knows 1/shared_secret",
        "knows 1/handshake_secret",
        "knows 0/derived, knows 2/handshake_secret",
    ),
    (
        "all",
        "asks TPM2_HMAC 1/handshake_secret/derived",
        "knows 1/main_secret",
        "knows 1/handshake_secret",
    ),
    (
        "all",
        f"asks TPM2_EncryptDecrypt2 1/{CLIENT}_0/write_key, has wire 1",
        f"reads 1/{CLIENT}_0, forges 1/{CLIENT}_0, knows 1/{CLIENT}_0/ghash_key",
        f"knows 1/{CLIENT}_0/write_key, reads 1/{CLIENT}_1",
    ),
    (
        f"all {CCM}",
        f"asks TPM2_EncryptDecrypt2 1/{CLIENT}_0/write_key, has wire 1",
        f"reads 1/{CLIENT}_0, forges 1/{CLIENT}_0",
        f"knows 1/{CLIENT}_0/ghash_key",
    ),
    (
        "all",
        f"asks TPM2_EncryptDecrypt2 1/{CLIENT}_0/write_key",
        f"knows 1/{CLIENT}_0/ghash_key",
        f"reads 1/{CLIENT}_0",
    ),
    ("all", "asks TPM2_ECDH_ZGen 1/ephemeral_key, has wire 1", "knows 1/handshake_secret", ""),
    ("chained", "asks TPM2_ECDH_ZGen 1/ephemeral_key", "", "knows 1/shared_secret"),
    ("sign", "asks TPM2_Unseal 1/PSK", "knows 1/PSK, plays the server in 2", ""),
    ("sign", "asks TPM2_Sign 0/signing_key", "signs as the client", "knows 0/signing_key"),
    ("software", "knows 0/signing_key", "signs as the client", ""),
    ("chained", "asks TPM2_NV_Read 0/authValue", "knows 0/authValue", "knows 1/main_secret"),
    (
        "chained",
        "knows 0/authValue, encrypted 1/main_secret recorded",
        "knows 1/main_secret",
        "knows 1/handshake_secret",
    ),
    ("chained", "encrypted 1/main_secret recorded", "", "knows 1/main_secret"),
    ("psk", "knows 0/authValue, encrypted 0/derived recorded", "", "knows 0/derived"),
    # -- what the model does -------------------------------------------------------------------
    (
        "handle-only",
        f"asks the model 1/PSK, {WIRES}",
        (
            f"resumes 1, plays the server in 2, reads {EARLY}, forges {EARLY}, "
            "asks the model 2/early_secret"
        ),
        f"knows 1/PSK, knows 2/early_secret, knows {EARLY}, reads 2/{CLIENT}_0",
    ),
    (
        "handle-only",
        "asks the model 1/ephemeral_key, asks the model 1/early_secret/derived, has wire 1",
        f"asks the model 1/main_secret, reads 1/{CLIENT}_0, asks the model 1/PSK",
        "knows 1/shared_secret, knows 1/main_secret, knows 1/PSK",
    ),
    (
        "handle-only",
        f"asks the model 1/{CLIENT}_0/write_key, has wire 1",
        f"reads 1/{CLIENT}_0, forges 1/{CLIENT}_0",
        f"reads 1/{CLIENT}_1, knows 1/{CLIENT}_0/write_key",
    ),
    ("handle-only", f"asks the model 1/{CLIENT}_0/write_key", "", f"reads 1/{CLIENT}_0"),
    ("handle-only", "asks the model 2/binder_key", "makes binders 2", "plays the server in 2"),
    # -- what was within reach -----------------------------------------------------------------
    ("software", "1/main_secret in host memory", "knows 1/main_secret", ""),
    ("software", "1/PSK in a file", "knows 1/PSK", ""),
    ("all", "TPM2_HMAC gave 1/main_secret", "knows 1/main_secret", ""),
    ("all", "TPM2_LoadExternal took 1/main_secret", "knows 1/main_secret", ""),
]


def facts(text: str) -> set[str]:
    return set(text.split(", ")) - {""}


@cache
def book(scene: str) -> tuple[Rule, ...]:
    profile, _, other = scene.partition(" ")
    if other == TICKETS:
        return rules(fabricate(profile, tickets=2))
    return rules(fabricate(profile, suite=other) if other else fabricate(profile))


def passes(probe: tuple[str, str, str, str], system: tuple[Rule, ...]) -> bool:
    _, start, follows, does_not = probe
    found = set(Closure(RuleBook(system), facts(start)).facts())
    return facts(follows) <= found and not facts(does_not) & found


@pytest.mark.parametrize("probe", PROBES, ids=lambda probe: f"{probe[0]}: {probe[1]}")
def test_what_follows_by_hand(probe: tuple[str, str, str, str]) -> None:
    scene, start, follows, does_not = probe
    found = set(Closure(RuleBook(book(scene)), facts(start)).facts())
    assert facts(follows) - found == set()
    assert facts(does_not) & found == set()


# -- each rule is needed ---------------------------------------------------------------------------


def test_every_clause_has_a_rule_that_is_explained() -> None:
    used = {rule.name for profile in PROFILES for rule in book(profile)}
    assert used == set(RULES) - {"model READ"}  # of which there is nothing to read


@pytest.mark.parametrize("name", [name for name in RULES if name != "model READ"])
def test_without_a_rule_something_is_wrong(name: str) -> None:
    """Each rule, taken away, fails a probe; those of the goals that matter, a verdict as well."""
    failing = [
        probe
        for probe in PROBES
        if not passes(probe, tuple(rule for rule in book(probe[0]) if rule.name != name))
    ]
    assert failing


@pytest.mark.parametrize("profile", PROFILES)
def test_each_clause_says_what_no_others_say_as_shortly(profile: str) -> None:
    """For each of them: without it, its conclusion takes more steps, or does not follow at all."""
    whole = book(profile)
    for rule in whole:
        without = Closure(RuleBook(each for each in whole if each != rule), set(rule.premises))
        assert rule.conclusion not in without or without.length(rule.conclusion) > 1, rule


def test_each_clause_of_the_key_schedule_is_shown_by_hand() -> None:
    """In one connection at least: connections differ in their PSK alone."""
    names = ("HKDF-Extract", "HKDF-Expand-Label", "no PSK", "decrypted handshake", "hellos")
    shown = [probe for probe in PROBES if probe[0] == "software"]
    whole = book("software")
    for kind in {_kind(rule) for rule in whole if rule.name in names}:
        rest = tuple(each for each in whole if _kind(each) != kind)
        assert not all(passes(probe, rest) for probe in shown), kind


def _kind(rule: Rule) -> tuple[str, str]:
    """A rule of either connection, and of any PSK."""

    def bare(fact: str) -> str:
        return "".join(each for each in fact if not each.isdigit())

    return " ".join(map(bare, rule.premises)), bare(rule.conclusion)


VERDICT_RULES = (
    *("in host memory", "carried in clear", "HKDF-Extract", "HKDF-Expand-Label"),
    *("opens records", "forges with H", "keystream", "data passes"),
    *("makes binders", "makes handshake secrets", "ticket", "resumes", "connects by PSK"),
    *("signs", "TPM2_Sign", "TPM2_HMAC", "model EXTRACT"),
    *("model MAC", "model EXPAND_LABEL", "model OPEN and SEAL", "hellos", "in a file"),
)


def differs(profile: str, name: str) -> bool:
    """Whether a table of verdicts changes without a rule."""
    clauses = [rule for rule in book(profile) if rule.name != name]
    verdicts = [cell.verdict for cell in Judge(fabricate(profile), clauses).cells()]
    rows = EXPECTED[profile].values()
    return verdicts != [LETTERS[letter] for row in rows for letter in row.split()]


@pytest.mark.parametrize("name", VERDICT_RULES)
def test_without_a_rule_a_verdict_changes(name: str) -> None:
    assert any(differs(profile, name) for profile in PROFILES)


def test_the_attackers_table_is_whole() -> None:
    assert len({attacker.key for attacker in ATTACKERS}) == 9


# -- no rule is a copy -----------------------------------------------------------------------------


def test_a_row_less_in_the_schedule_is_a_rule_less(monkeypatch: pytest.MonkeyPatch) -> None:
    from tpmtls.audit import derivations

    rows = tuple(r for r in key_schedule.SCHEDULE if r is not key_schedule.RESUMPTION_SECRET)
    monkeypatch.setattr(derivations, "SCHEDULE", rows)
    made = {rule.conclusion for rule in rules(fabricate("software"))}
    assert "knows 1/PSK" in made  # still in memory
    assert not any(
        rule.name == "HKDF-Expand-Label" and rule.conclusion == "knows 1/resumption_secret"
        for rule in rules(fabricate("software"))
    )


def test_what_the_model_permits_is_what_its_table_says(monkeypatch: pytest.MonkeyPatch) -> None:
    """Were PSKs of the kind that can be read, whoever can use the model would have them."""
    loose = CHILDREN | {Kind.RESUMPTION: {b"resumption": Kind.EXPORTED}}
    monkeypatch.setattr(clauses, "CHILDREN", loose)
    observation = fabricate("handle-only")
    left = {
        cell.goal: cell.verdict
        for cell in Judge(observation, rules(observation)).cells()
        if cell.attacker == "host-left"
    }
    assert left["resume the session elsewhere"] == "yes"


def test_expansions_are_those_that_the_model_permits() -> None:
    """Two tables that grew apart: which label makes something of which secrets."""
    kinds = {
        key_schedule.DERIVED: (Kind.STAGE,),
        key_schedule.FINISHED_KEY: (Kind.BINDER, Kind.TRAFFIC),
        key_schedule.WRITE_KEY: (Kind.TRAFFIC,),
        key_schedule.WRITE_IV: (Kind.TRAFFIC,),
        key_schedule.NEXT_GENERATION: (Kind.TRAFFIC,),
        key_schedule.TICKET_PSK: (Kind.RESUMPTION,),
    }
    assert set(kinds) == set(key_schedule.EXPANSIONS)
    for kind, labels in CHILDREN.items():
        for label in labels:
            for expansion, permitted in kinds.items():
                if expansion.label == label:
                    assert kind in permitted
    for row in key_schedule.SCHEDULE:
        made = CHILDREN[Kind.STAGE][row.label]
        for expansion in key_schedule.EXPANSIONS:
            if row in expansion.parents:
                assert made in kinds[expansion], (row.secret, expansion.value)
