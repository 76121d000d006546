"""The ledger is checked, not trusted: what crossed to the TPM is searched for every secret.

Software at the other end derives the same secrets. Each is searched for in the recorded commands
and responses, and found exactly where, and as often as, the ledger says.
"""

from __future__ import annotations

import hmac
from collections import Counter
from collections.abc import Iterable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.tpm.fakes import command_code
from tests.tpm.support import SCENARIOS, Ends, Pair, client_config, each_level, ends, sessions
from tpmtls.algorithms import SHA256, SHA384, HashAlgorithm, SuiteParameters
from tpmtls.backends.base import Aead, KeyShare, Secret, hkdf_label
from tpmtls.backends.ledger import Crossing, Ledger
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.backends.tpm.backend import TpmBackend
from tpmtls.backends.tpm.device import Exchange, Recorder
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.responses import command_name
from tpmtls.codepoints import CipherSuite, NamedGroup

Crossed = Counter[tuple[str, str, str]]
"""How often a secret (its RFC name) crossed in a direction, by a command."""


class Telling(SoftwareBackend):
    """A software backend that keeps every secret it ever had, by its RFC name."""

    def __init__(self) -> None:
        super().__init__()
        self.secrets: set[tuple[str, bytes]] = set()

    def _tell(self, secret: Secret) -> Secret:
        assert isinstance(secret, SoftwareSecret)
        size = secret.length if secret.hash is None else secret.hash.digest_size
        for start in range(0, secret.length, size):  # the TPM gives long ones out in pieces
            self.secrets.add((secret.name, bytes(secret.octets[start : start + size])))
        if secret.name == "PSK":  # a TPM keeps it as what it is good for
            assert secret.hash is not None
            early = hmac.digest(b"", secret.octets, secret.hash.name)
            self.secrets.add(("early_secret", early))
        return secret

    def key_share(self, group: NamedGroup) -> KeyShare:
        share = super().key_share(group)
        agree = share.agree

        def tell(peer_share: bytes) -> Secret:
            return self._tell(agree(peer_share))

        share.agree = tell  # type: ignore[method-assign]
        return share

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        public, shared = super().respond(group, client_share)
        return public, self._tell(shared)

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        return self._tell(super().extract(algorithm, salt, ikm, name))

    def expand_label(self, *arguments: Any) -> Secret:
        return self._tell(super().expand_label(*arguments))

    def aead(self, suite: SuiteParameters, key: Secret, iv: Secret) -> Aead:
        """GCM's hash key, the encryption of a zero block, is a secret too."""
        assert isinstance(key, SoftwareSecret)
        if suite.aead == "aes-gcm":
            encryptor = Cipher(algorithms.AES(bytes(key.octets)), modes.ECB()).encryptor()
            self.secrets.add(("ghash_key", encryptor.update(bytes(16))))
        return super().aead(suite, key, iv)

    def import_psk(self, key: Any, algorithm: HashAlgorithm) -> Secret:
        return self._tell(super().import_psk(key, algorithm))


def constants() -> set[bytes]:
    """What everyone knows: the Early Secret without a PSK, and what `derived` makes of it."""
    known = set()
    for algorithm in SHA256, SHA384:
        size, name = algorithm.digest_size, algorithm.name
        early = hmac.digest(bytes(size), bytes(size), name)
        info = hkdf_label(size, b"derived", algorithm.empty_digest) + b"\x01"
        known |= {early, hmac.digest(early, info, name)}
    return known


def found(exchanges: Iterable[Exchange], secrets: set[tuple[str, bytes]]) -> Crossed:
    """Where the secrets are among the recorded octets, once for each frame."""
    known = constants()
    searched = [(name, octets.lstrip(b"\0")) for name, octets in secrets if octets not in known]
    return Counter(
        (name, direction, command_name(command_code(exchange.command)))
        for name, octets in searched  # of a coordinate the TPM may leave leading zeros out
        for exchange in exchanges
        for direction, frame in zip(("in", "out"), exchange, strict=True)
        if octets in frame
    )


def listed(ledger: Ledger) -> Crossed:
    """What the ledger says of the boundary to the TPM."""
    return Counter(
        {
            (crossing.secret, crossing.direction, crossing.via): number
            for crossing, number in ledger
            if crossing.boundary == "tpm" and crossing.visibility == "clear"
        }
    )


def assert_told(backend: TpmBackend, recorder: Recorder, peer: Telling) -> None:
    """The ledger and the recorded octets agree: on what crossed, and how often.

    A command that the TPM had no room for comes again, and counts once. An IV is in each command
    for its first record, and counts once too.
    """
    said = listed(backend.ledger)
    assert found(recorder.exchanges, peer.secrets).keys() == said.keys()
    done = [each for each in recorder.exchanges if each.response[6:10] == bytes(4)]
    counted = found(done, peer.secrets)
    iv = ("write_iv", "in", "TPM2_EncryptDecrypt2")
    assert counted.pop(iv, 0) >= said.pop(iv, 0)
    assert counted == said


TOLD = SCENARIOS.keys() - {"rejected_early_data"}
"""Not where the peer has no cause to derive the same: the keys of early data that it rejects."""


@each_level
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("scenario", sorted(TOLD))
def test_the_ledger_says_what_is_found(
    libtpms: Tpm, levels: frozenset[str], role: str, scenario: str
) -> None:
    backend, peer = TpmBackend(libtpms, levels), Telling()
    with libtpms.device.recording() as recorder:
        SCENARIOS[scenario](ends(role, backend, peer))
    assert_told(backend, recorder, peer)


# -- what it says ----------------------------------------------------------------------------------

SCHEDULE = {
    *("early_secret", "handshake_secret", "main_secret", "derived", "finished_key"),
    *("client_handshake_traffic_secret", "server_handshake_traffic_secret"),
    *("client_application_traffic_secret_0", "server_application_traffic_secret_0"),
    *("exporter_secret", "resumption_secret"),
}
LOADED = {("out", "TPM2_HMAC"), ("in", "TPM2_LoadExternal")}
"""How a secret that the TPM uses as an HMAC key gets there."""


def by_secret(said: Crossed) -> dict[str, set[tuple[str, str]]]:
    ways: dict[str, set[tuple[str, str]]] = {}
    for name, direction, command in said:
        ways.setdefault(name, set()).add((direction, command))
    return ways


def crossings(libtpms: Tpm, levels: set[str], role: str, scenario: str) -> Crossed:
    backend = TpmBackend(libtpms, levels)
    SCENARIOS[scenario](ends(role, backend, SoftwareBackend()))
    return listed(backend.ledger)


@pytest.mark.parametrize("role", ["client", "server"])
def test_with_ecdhe_the_shared_secret_comes_out_and_nothing_else(libtpms: Tpm, role: str) -> None:
    command = {"client": "TPM2_ECDH_ZGen", "server": "TPM2_ECDH_KeyGen"}[role]
    said = crossings(libtpms, {"ecdhe"}, role, "full")
    assert said == {("shared_secret", "out", command): 1}


@pytest.mark.parametrize(
    ("suite", "ways"),
    [
        ("TLS_AES_128_GCM_SHA256", {"write_key", "write_iv", "ghash_key"}),
        ("TLS_AES_128_CCM_SHA256", {"write_key", "write_iv"}),
    ],
)
def test_with_aead_keys_go_in_and_gcm_has_its_hash_key_out(
    libtpms: Tpm, suite: str, ways: set[str]
) -> None:
    backend = TpmBackend(libtpms, {"aead"})
    config = client_config(suites=(CipherSuite[suite],))
    Pair(Ends(backend, None), config).complete().end()
    said = by_secret(listed(backend.ledger))
    assert said.keys() == ways
    assert said["write_key"] == {("in", "TPM2_LoadExternal")}
    assert said["write_iv"] == {("in", "TPM2_EncryptDecrypt2")}
    assert said.get("ghash_key", {("out", "TPM2_EncryptDecrypt2")}) == {
        ("out", "TPM2_EncryptDecrypt2")
    }


@pytest.mark.parametrize("role", ["client", "server"])
def test_with_hkdf_each_secret_comes_out_once_and_goes_back_once(libtpms: Tpm, role: str) -> None:
    said = crossings(libtpms, {"hkdf"}, role, "full")
    ways = by_secret(said)
    for name in SCHEDULE - {"early_secret"}:
        assert ways.pop(name) == LOADED, name
    assert ways.pop("shared_secret") == {("in", "TPM2_HMAC")}
    for name in "write_key", "write_iv":
        assert ways.pop(name) == {("out", "TPM2_HMAC")}
    assert ways == {}
    assert said["derived", "out", "TPM2_HMAC"] == 1  # the first is a constant, without a PSK
    assert said["finished_key", "out", "TPM2_HMAC"] == 2
    assert said["write_key", "out", "TPM2_HMAC"] == 4


def test_each_generation_of_a_traffic_secret_has_its_name(libtpms: Tpm) -> None:
    ways = by_secret(crossings(libtpms, {"hkdf"}, "client", "key_updates"))
    for name in (
        *("client_application_traffic_secret_1", "client_application_traffic_secret_2"),
        *("server_application_traffic_secret_1", "server_application_traffic_secret_3"),
    ):
        assert ways[name] == LOADED, name


def test_a_stored_psk_is_used_without_crossing_again(libtpms: Tpm) -> None:
    backend = TpmBackend(libtpms, {"hkdf"})
    client, server = sessions()
    Pair(Ends(backend, None), client, server).complete().end()
    first = by_secret(listed(backend.ledger))
    assert first["PSK"] == {("out", "TPM2_HMAC"), ("in", "TPM2_HMAC")}
    assert first["early_secret"] == {("out", "TPM2_HMAC"), ("in", "TPM2_Create")}
    backend = TpmBackend(libtpms, {"hkdf"})
    pair = Pair(Ends(backend, None), client, server)
    before_server_hello = by_secret(listed(backend.ledger))
    assert before_server_hello.keys() == {"binder_key", "finished_key"}
    pair.complete().end()


@pytest.mark.parametrize("levels", [{"ecdhe"}, {"hkdf"}])
def test_no_secret_crosses_to_the_protocol(libtpms: Tpm, levels: set[str]) -> None:
    backend = TpmBackend(libtpms, levels)
    SCENARIOS["resumption"](Ends(backend, None))
    assert [c for c in backend.ledger.crossings() if c.boundary == "protocol"] == []


# -- and were it wrong -----------------------------------------------------------------------------


def test_a_crossing_that_is_not_listed_is_noticed(
    libtpms: Tpm, monkeypatch: pytest.MonkeyPatch
) -> None:
    backend, peer = TpmBackend(libtpms, {"hkdf"}), Telling()
    record = backend.ledger.record
    monkeypatch.setattr(
        backend.ledger, "record", lambda c: None if c.secret == "main_secret" else record(c)
    )
    with libtpms.device.recording() as recorder:
        SCENARIOS["full"](Ends(backend, peer))
    with pytest.raises(AssertionError, match="main_secret"):
        assert_told(backend, recorder, peer)


def test_a_crossing_that_did_not_happen_is_noticed(libtpms: Tpm) -> None:
    backend, peer = TpmBackend(libtpms, {"hkdf"}), Telling()
    with libtpms.device.recording() as recorder:
        SCENARIOS["full"](Ends(backend, peer))
    backend.ledger.record(Crossing("main_secret", "tpm", "in", "TPM2_HMAC"))
    with pytest.raises(AssertionError, match="main_secret"):
        assert_told(backend, recorder, peer)
