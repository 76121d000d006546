"""Configurations: validated when they are made, with a message that says what is wrong."""

from __future__ import annotations

from dataclasses import FrozenInstanceError
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from tests.unit.certificate_builder import MD5_RSA, SHA1_RSA, authority, leaf, rsa_signed
from tests.unit.support import client_config, credential, pki, server_config, trust
from tpmtls.algorithms import SHA256, SHA384, HashAlgorithm
from tpmtls.backends.base import PskReference
from tpmtls.backends.software_signer import SoftwareSigner
from tpmtls.certificates import TrustStore
from tpmtls.codepoints import CipherSuite, NamedGroup, PskKeyExchangeMode, SignatureScheme
from tpmtls.config import DEFAULT_GROUPS, Credential, ExternalPsk
from tpmtls.handshake.authentication import to_der
from tpmtls.violations import ConfigurationError

G, S, Suite = NamedGroup, SignatureScheme, CipherSuite
PSK = ExternalPsk(b"identity", bytes(32))

# -- what both roles share -------------------------------------------------------------------------

WRONG: dict[str, dict[str, Any]] = {
    "suites": {"suites": ()},
    "suites-unknown": {"suites": (Suite(0x1A1A),)},
    "suites-twice": {"suites": (Suite.TLS_AES_128_GCM_SHA256, Suite.TLS_AES_128_GCM_SHA256)},
    "groups": {"groups": ()},
    "groups-not-ours": {"groups": (G.ffdhe2048,)},
    "groups-twice": {"groups": (G.x25519, G.x25519)},
    "signature_schemes": {"signature_schemes": ()},
    "signature_schemes-for-certificates": {"signature_schemes": (S.rsa_pkcs1_sha256,)},
    "certificate_schemes": {"certificate_schemes": ()},
    "certificate_schemes-unknown": {"certificate_schemes": (S.rsa_pkcs1_sha1,)},
    "psk_modes": {"psk_modes": ()},
    "psk_modes-unknown": {"psk_modes": (PskKeyExchangeMode(7),)},
    "ALPN": {"alpn": ("",)},
    "ALPN-long": {"alpn": ("x" * 256,)},
    "record_size_limit": {"record_size_limit": 63},
    "record_size_limit-high": {"record_size_limit": 2**14 + 2},
    "record_padding": {"record_padding": -1},
    "record_padding-high": {"record_padding": 2**14 + 2},
    "max_records_per_key": {"max_records_per_key": 0},
    "handshake_timeout": {"handshake_timeout": 0},
}


@pytest.mark.parametrize("name", WRONG)
@pytest.mark.parametrize("make", [client_config, server_config])
def test_a_wrong_value_is_named(make: Any, name: str) -> None:
    with pytest.raises(ConfigurationError, match=name.partition("-")[0]):
        make(**WRONG[name])
    with pytest.raises(ConfigurationError):
        make().replace(**WRONG[name])


RIGHT: dict[str, dict[str, Any]] = {
    "all-suites": {"suites": tuple(Suite)},
    "one-group": {"groups": (G.x448,)},
    "alpn": {"alpn": ("x" * 255, "é")},
    "limits": {"record_size_limit": 64, "record_padding": 2**14 + 1, "max_records_per_key": 1},
    "no-padding": {"record_size_limit": 2**14 + 1, "record_padding": 0},
    "modes": {"psk_modes": (PskKeyExchangeMode.psk_ke, PskKeyExchangeMode.psk_dhe_ke)},
}


@pytest.mark.parametrize("name", RIGHT)
@pytest.mark.parametrize("make", [client_config, server_config])
def test_a_right_value_is_kept(make: Any, name: str) -> None:
    config = make(**RIGHT[name])
    assert {field: getattr(config, field) for field in RIGHT[name]} == RIGHT[name]


def test_a_configuration_does_not_change_and_copies_do_not_share() -> None:
    config = client_config()
    with pytest.raises(FrozenInstanceError):
        config.verify = False  # type: ignore[misc]
    other = config.replace(verify=False)
    assert (config.verify, other.verify) == (True, False)
    assert server_config().ticket_keys is not server_config().ticket_keys
    assert server_config().replay_guard is not server_config().replay_guard


def test_a_configuration_shows_no_secret() -> None:
    shown = repr(server_config(psks=(PSK,), key_log=print))
    assert " key=" not in shown
    assert "ticket_keys" not in shown
    assert repr(bytes(32))[2:-1] not in shown


@pytest.mark.req("9.1-1", "9.1-2", "9.1-3", "9.1-4", "9.1-5", "4.3.3-14", "4.3.3-20", "4.3.3-21")
def test_the_defaults_are_what_must_be_there_and_nothing_weak() -> None:
    config = client_config(groups=DEFAULT_GROUPS)
    assert {
        Suite.TLS_AES_128_GCM_SHA256,
        Suite.TLS_AES_256_GCM_SHA384,
        Suite.TLS_CHACHA20_POLY1305_SHA256,
    } <= {*config.suites}
    assert {G.secp256r1, G.x25519} <= {*config.groups}
    assert {S.rsa_pss_rsae_sha256, S.ecdsa_secp256r1_sha256} <= {*config.signature_schemes}
    assert {S.rsa_pkcs1_sha256} <= {*config.certificate_schemes}
    assert not {S.rsa_pkcs1_sha1, S.ecdsa_sha1} & {*config.certificate_schemes}


def test_the_clock_tells_the_time_of_certificates() -> None:
    config = client_config(clock=lambda: 1_000_000_000.5)
    assert config.now() == datetime(2001, 9, 9, 1, 46, 40, 500_000, UTC)


# -- client ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "shares",
    [(G.secp384r1,), (G.secp256r1, G.x25519), (G.x25519, G.x25519)],
    ids=["stranger", "order", "twice"],
)
def test_key_shares_are_groups_in_their_order(shares: Any) -> None:
    with pytest.raises(ConfigurationError, match=r"key.share"):
        client_config(groups=(G.x25519, G.secp256r1), key_shares=shares)


@pytest.mark.parametrize(
    ("name", "sni"),
    [
        ("localhost", "localhost"),
        ("a.example.", "a.example"),
        ("127.0.0.1", None),
        ("::1", None),
        (None, None),
    ],
)
def test_only_host_names_are_sent(name: str | None, sni: str | None) -> None:
    assert client_config(server_name=name).sni == sni


@pytest.mark.parametrize("name", ["", "a..example", ".", "x" * 64, "a b", "bücher.example"])
def test_a_name_that_is_none_is_refused(name: str) -> None:
    with pytest.raises(ConfigurationError):
        client_config(server_name=name)


def test_trust_comes_from_a_store_a_path_octets_or_the_system() -> None:
    path = pki().ca
    for source in (path, str(path), path.read_bytes(), trust()):
        store = client_config(trust=source).trust_store
        assert store.subjects == trust().subjects
    config = client_config(trust=trust())
    assert config.trust_store is config.trust_store is trust()
    assert isinstance(client_config(trust=None).trust_store, TrustStore)
    with pytest.raises(ConfigurationError):
        _ = client_config(trust=b"no certificate").trust_store


# -- server ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("changes", "says"),
    [
        ({"credentials": ()}, "certificate"),
        ({"ticket_lifetime": -1}, "ticket_lifetime"),
        ({"ticket_lifetime": 604_801}, "ticket_lifetime"),
        ({"tickets": -1}, "tickets"),
        ({"tickets": 256}, "tickets"),
        ({"max_early_data": -1}, "max_early_data"),
        ({"max_early_data": 2**32}, "max_early_data"),
        ({"require_client_certificate": True}, "client_trust"),
    ],
    ids=str,
)
def test_a_wrong_value_of_a_server_is_named(changes: dict[str, Any], says: str) -> None:
    with pytest.raises(ConfigurationError, match=says):
        server_config(**changes)


@pytest.mark.req("4.7.1-12")
def test_a_server_can_be_made_with_a_psk_alone_and_bounds_are_within() -> None:
    server_config(credentials=(), psks=(PSK,))
    server_config(ticket_lifetime=604_800, tickets=255, max_early_data=2**32 - 1)
    server_config(ticket_lifetime=0, tickets=0)


def test_to_require_a_certificate_is_to_ask_for_it() -> None:
    config = server_config(require_client_certificate=True, client_trust=pki().ca)
    assert config.request_client_certificate
    assert config.client_trust_store is not None
    assert config.client_trust_store.subjects == trust().subjects
    assert server_config(client_trust=trust()).client_trust_store is trust()
    assert server_config().client_trust_store is None


# -- credentials and PSKs --------------------------------------------------------------------------


def test_a_credential_comes_from_files_octets_or_a_key() -> None:
    made = pki().server()
    sources: list[tuple[Any, Any]] = [
        (made.chain, made.key),
        (str(made.chain), str(made.key)),
        (made.chain.read_bytes(), made.key.read_bytes()),
        (made.chain, made.private_key),
    ]
    for chain, key in sources:
        loaded = Credential.load(chain, key)
        assert loaded.chain == credential().chain
        assert loaded.schemes == (S.ecdsa_secp256r1_sha256,)
        assert loaded.leaf == made.certificate
        assert loaded.is_for("localhost")
        assert not loaded.is_for("elsewhere.example")
        assert "signer" not in repr(loaded)


def test_a_chain_has_its_intermediates() -> None:
    made = pki().chained()
    loaded = Credential.load(made.chain, made.key)
    assert len(loaded.chain) == len(loaded.certificates) == 2
    assert loaded.certificates[1].subject == loaded.leaf.issuer


@pytest.mark.parametrize("chain", [(), (b"no certificate",)], ids=["empty", "garbage"])
def test_a_credential_needs_a_certificate(chain: Any) -> None:
    with pytest.raises(ConfigurationError):
        Credential(chain, credential().signer)


@pytest.mark.req("4.3.3-14", "4.3.3-16", "4.5.1.2-12")
@pytest.mark.parametrize("algorithm", [SHA1_RSA, MD5_RSA], ids=["sha1", "md5"])
def test_a_chain_signed_with_a_deprecated_hash_is_refused(algorithm: bytes) -> None:
    root = authority(kind="rsa")
    end = leaf(root)
    own = rsa_signed(root.certificate, root.key, algorithm)
    weak = rsa_signed(end.certificate, root.key, algorithm)
    signer = SoftwareSigner(end.key)
    Credential(to_der([end.certificate, own]), signer)
    with pytest.raises(ConfigurationError, match=r"signed with (SHA1|MD5)"):
        Credential(to_der([weak, root.certificate]), signer)


def test_a_key_of_another_kind_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="kind"):
        Credential(credential("p256").chain, credential("ed25519").signer)


def test_a_key_that_is_not_there_is_refused(tmp_path: Path) -> None:
    with pytest.raises(ConfigurationError):
        Credential.load(pki().server().chain, tmp_path / "nothing.key")


@pytest.mark.parametrize(
    "arguments",
    [
        (b"", bytes(32)),
        (b"x" * 2**16, bytes(32)),
        (b"identity", b""),
        (b"identity", bytes(32), SHA256, 1),
        (b"identity", bytes(32), SHA256, -1, Suite.TLS_AES_128_GCM_SHA256),
        (b"identity", bytes(32), SHA256, 2**32, Suite.TLS_AES_128_GCM_SHA256),
        (b"identity", bytes(32), SHA256, 1, Suite.TLS_AES_256_GCM_SHA384),
        (b"identity", bytes(32), SHA384, 1, Suite.TLS_AES_128_GCM_SHA256),
        (b"identity", bytes(32), SHA256, 1, Suite(0x1A1A)),
    ],
    ids=[
        "no-identity",
        "long-identity",
        "no-key",
        "early-data-without-suite",
        "early-data-negative",
        "early-data-endless",
        "suite-of-sha384",
        "suite-of-sha256",
        "suite-unknown",
    ],
)
@pytest.mark.req("2.2-2", "4.3.11-3")
def test_a_psk_that_cannot_be_used_is_refused(arguments: Any) -> None:
    with pytest.raises(ConfigurationError):
        ExternalPsk(*arguments)


@pytest.mark.req("4.3.11-3")
def test_a_psk_is_for_sha256_unless_it_says_otherwise() -> None:
    assert PSK.hash is SHA256
    assert "key" not in repr(PSK)


def _reference(identity: bytes = b"identity", algorithm: HashAlgorithm = SHA256) -> PskReference:
    reference = PskReference()
    reference.identity, reference.hash = identity, algorithm
    return reference


@pytest.mark.parametrize(
    "changes",
    [
        {"key": bytes(32)},
        {"provisioned": _reference(b"another")},
        {"provisioned": _reference(algorithm=SHA384)},
        {"max_early_data": 1, "suite": Suite.TLS_AES_128_GCM_SHA256},
    ],
    ids=["octets", "identity", "hash", "early-data"],
)
def test_a_psk_kept_elsewhere_is_what_it_was_provisioned_as(changes: dict[str, Any]) -> None:
    reference = _reference()
    assert ExternalPsk(b"identity", provisioned=reference).source is reference
    with pytest.raises(ConfigurationError):
        ExternalPsk(b"identity", **{"provisioned": reference, **changes})
