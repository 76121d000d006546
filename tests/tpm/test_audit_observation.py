"""What an audit observes is checked, not trusted: moment by moment, against all that crossed.

The other end is software, and tells the secrets. Each is searched for in the commands and responses
of each moment, and found as often as the observation says; for `chained`, in what a reader can
decipher who has asked the TPM for the authValue.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, replace
from functools import cache

import pytest

from tests.tpm.decipher import auth_value, deciphered
from tests.tpm.fakes import command_code
from tests.tpm.support import SCENARIOS, ends
from tests.tpm.test_ledger import Telling, found
from tpmtls.audit.journal import Journal
from tpmtls.audit.model import Crossed, Observation, SecretSeen
from tpmtls.audit.observation import Observed
from tpmtls.audit.profiles import BY_KEY, PROFILES
from tpmtls.audit.scenario import observe
from tpmtls.backends.ledger import Crossing, Ledger
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.tpm.constants import CommandCode
from tpmtls.backends.tpm.device import Exchange
from tpmtls.backends.tpm.opening import open_tpm
from tpmtls.codepoints import CipherSuite
from tpmtls.violations import BackendError

Ways = Counter[tuple[str, str, str, str]]
"""How often in a moment a secret, by its name, crossed in a direction by a command."""
IV = "write_iv", "in", "TPM2_EncryptDecrypt2"
LOAD = "TPM2_Load"
"""The TPM enciphers what it loads for itself: that it was loaded is all there is to see."""
ON_BUS = [profile.key for profile in PROFILES if profile.backend == "tpm"]


@dataclass
class Run:
    """An observation, and what is found of it in all that crossed."""

    seen: Observation
    clear: Ways
    deciphered: Ways
    loads: Counter[str]
    """How many objects were loaded in each moment."""


@cache
def run(key: str) -> Run:
    """Of one profile, on a fresh TPM in this process."""
    marks: list[tuple[str, int]] = []
    peer = Telling()
    with open_tpm("libtpms:") as tpm, tpm.device.recording() as recorder:
        seen = observe(
            BY_KEY[key],
            tcti="libtpms:",
            server=peer,
            watch=lambda name: marks.append((name, len(recorder))),
        )
        everything, plain = list(recorder.exchanges), list[Exchange]()
        secrets = set(peer.secrets)
        if key == "chained":
            auth = auth_value(tpm)
            secrets.add(("authValue", auth))
            plain = deciphered(everything, auth)
    crossed = parts(everything, marks)
    loads = Counter(
        moment
        for moment, exchanges in crossed.items()
        for each in exchanges
        if command_code(each.command) == CommandCode.Load
    )
    return Run(seen, searched(crossed, secrets), searched(parts(plain, marks), secrets), loads)


def parts(exchanges: list[Exchange], marks: list[tuple[str, int]]) -> dict[str, list[Exchange]]:
    """A recording by moments, which begin at the marks."""
    ends = [at for _, at in marks[1:]] + [len(exchanges)]
    return {name: exchanges[start:end] for (name, start), end in zip(marks, ends, strict=True)}


def searched(crossed: dict[str, list[Exchange]], secrets: set[tuple[str, bytes]]) -> Ways:
    """What is found. An IV is in each command for its first record, and counts once for its key."""
    ways: Ways = Counter()
    for moment, exchanges in crossed.items():
        done = [each for each in exchanges if each.response[6:10] == bytes(4)]
        for each in secrets:
            for way, times in found(done, {each}).items():
                ways[(moment, *way)] += min(times, 1) if way == IV else times
    return ways


def listed(seen: Observation, visibility: str) -> Ways:
    """What the observation says of the boundary to the TPM."""
    ways: Ways = Counter()
    for secret in seen.secrets:
        for each in secret.crossings:
            if (each.boundary, each.visibility) == ("tpm", visibility):
                moment = seen.moment(each.instant).name
                ways[moment, secret.name, each.direction, each.via] += each.times
    return ways


def disagreements(run: Run, seen: Observation) -> set[tuple[str, ...]]:
    """Where the observation and what crossed do not agree: (moment, secret, direction, command)."""
    clear, hidden = listed(seen, "clear"), listed(seen, "encrypted")
    loads: Counter[str] = Counter()
    for way in [way for way in hidden if way[-1] == LOAD]:
        loads[way[0]] += hidden.pop(way)
    return {
        *differing(clear, run.clear),
        *differing(hidden, run.deciphered),
        *((moment, LOAD) for moment in loads | run.loads if loads[moment] != run.loads[moment]),
    }


def differing(one: Ways, other: Ways) -> set[tuple[str, ...]]:
    return {way for way in one | other if one[way] != other[way]}


@pytest.mark.parametrize("key", ON_BUS)
def test_what_is_observed_is_what_crossed(need_libtpms: None, key: str) -> None:
    it = run(key)
    assert disagreements(it, it.seen) == set()
    assert it.clear


@pytest.mark.parametrize("key", ON_BUS)
def test_any_crossing_that_is_left_out_is_noticed(need_libtpms: None, key: str) -> None:
    it = run(key)
    for less, secret, crossing in without_one(it.seen):
        assert disagreements(it, less), (secret.id, crossing)


def without_one(seen: Observation) -> Iterator[tuple[Observation, SecretSeen, Crossed]]:
    """The observation less one crossing of one secret, for each that there is."""
    for secret in seen.secrets:
        for crossing in secret.crossings:
            kept = tuple(each for each in secret.crossings if each is not crossing)
            less = replace(secret, crossings=kept)
            secrets = tuple(less if each is secret else each for each in seen.secrets)
            yield replace(seen, secrets=secrets), secret, crossing


def test_a_crossing_at_another_moment_is_noticed(need_libtpms: None) -> None:
    it = run("all")
    last = it.seen.moments[-1].last
    secret = next(each for each in it.seen.secrets if each.name == "main_secret")
    late = replace(secret, crossings=tuple(replace(c, instant=last) for c in secret.crossings))
    moved = replace(
        it.seen, secrets=tuple(late if each is secret else each for each in it.seen.secrets)
    )
    assert {way[1] for way in disagreements(it, moved)} == {"main_secret"}


# -- without a bus ---------------------------------------------------------------------------------


def test_software_shows_the_ticket_s_psk_to_the_protocol_and_nothing_else() -> None:
    seen = observe(BY_KEY["software"])
    crossed = {
        (secret.id, each.boundary, each.direction, each.via): each.times
        for secret in seen.secrets
        for each in secret.crossings
    }
    assert crossed == {
        ("1/PSK", "protocol", "out", "wrap"): 1,
        ("1/PSK", "protocol", "in", "unwrap"): 1,
    }
    assert all(stay.place == "host" for secret in seen.secrets for stay in secret.stays)
    assert (seen.tpm, seen.commands) == (None, 0)


def test_handle_only_shows_nothing(need_libtpms: None) -> None:
    seen = observe(BY_KEY["handle-only"], tcti="libtpms:")
    assert [secret.id for secret in seen.secrets if secret.crossings] == []
    places = {secret.name: {stay.place for stay in secret.stays} for secret in seen.secrets}
    assert places.pop("signing_key") == {"tpm"}
    assert set.union(*places.values()) == {"model"}


# -- it only looks on ------------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize(
    "scenario", ["exporters", "early_data", "external_psk", "client_certificate", "retry"]
)
def test_an_observed_backend_is_one_as_any(scenario: str, role: str) -> None:
    journal = Journal()
    backend = Observed(SoftwareBackend(), journal)
    journal.begin("all of it")
    SCENARIOS[scenario](ends(role, backend, SoftwareBackend()))
    journal.begin("after")
    seen = journal.close()
    assert {secret.name for secret in seen} >= {"shared_secret", "main_secret", "write_key"}
    assert all(
        stay.last < journal.instant for each in seen for stay in each.stays if not stay.stored
    )


def test_a_crossing_of_nobodys_secret_is_no_observation() -> None:
    journal, ledger = Journal(), Ledger()
    with (
        pytest.raises(BackendError, match="a_secret, which is nobody's"),
        journal.operation(ledger, "EXTRACT"),
    ):
        ledger.record(Crossing("a_secret", "tpm", "out", "TPM2_HMAC"))


# -- which secrets there are -----------------------------------------------------------------------

TRAFFIC = [
    *("client_handshake_traffic_secret", "server_handshake_traffic_secret"),
    *(f"{role}_application_traffic_secret_{n}" for role in ("client", "server") for n in (0, 1)),
]
EACH = {
    *("ephemeral_key", "shared_secret", "handshake_secret", "handshake_secret/derived"),
    *("main_secret", "exporter_secret", "resumption_secret", *TRAFFIC),
    *(f"{secret}/{part}" for secret in TRAFFIC for part in ("write_key", "write_iv")),
    *(f"{secret}/finished_key" for secret in TRAFFIC[:2]),
}
RESUMED = {
    *("early_secret", "early_secret/derived", "binder_key", "binder_key/finished_key"),
    *("client_early_traffic_secret", "early_exporter_secret"),
    *(f"client_early_traffic_secret/{part}" for part in ("write_key", "write_iv")),
}
HASH_KEYS = {f"{secret}/ghash_key" for secret in TRAFFIC}


@pytest.mark.parametrize("key", [profile.key for profile in PROFILES])
def test_every_secret_is_there(need_libtpms: None, key: str) -> None:
    seen = run(key).seen if key in ON_BUS else observe(BY_KEY[key])
    by_connection: dict[int, set[str]] = {0: set(), 1: set(), 2: set()}
    for secret in seen.secrets:
        by_connection[secret.connection].add(secret.id.partition("/")[2])
    more = HASH_KEYS if key in ("all", "psk", "chained") else set()
    early = {"client_early_traffic_secret/ghash_key"} if key in ("all", "chained") else set()
    if key == "psk":
        before, first, second = {"PSK", "finished_key", "derived"}, EACH | more, EACH | more
    else:
        before = {"signing_key", "authValue"} if key == "chained" else {"signing_key"}
        first, second = EACH | more | {"PSK"}, EACH | more | RESUMED | early
    assert by_connection == {0: before, 1: first, 2: second}
    assert [moment.first for moment in seen.moments[1:]] == [
        moment.last + 1 for moment in seen.moments[:-1]
    ]


def test_with_ccm_there_is_no_hash_key(need_libtpms: None) -> None:
    seen = observe(BY_KEY["all"], CipherSuite.TLS_AES_128_CCM_SHA256, tcti="libtpms:")
    assert {secret.name for secret in seen.secrets} & {"ghash_key", "write_key"} == {"write_key"}
