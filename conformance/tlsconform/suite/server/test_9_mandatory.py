"""§9: what every server has to implement, and what it has to pass over."""

from __future__ import annotations

from typing import Any

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import insert
from tlsconform.outcome import Deviation, NonConformance, NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.peer.client import GROUPS_OFFERED, SCHEMES_OFFERED, SUITES_OFFERED
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import check, server_lives
from tpmtls.codepoints import (
    AlertDescription,
    CipherSuite,
    ExtensionType,
    NamedGroup,
    ProtocolVersion,
    PskKeyExchangeMode,
    SignatureScheme,
)
from tpmtls.wire.extensions import KeyShareServerHello, SelectedVersion, UnknownExtension

A = AlertDescription
G = NamedGroup
S = SignatureScheme

GREASE = (0x0A0A, 0x7A7A, 0xFAFA)
MANDATORY_SCHEMES = (S.rsa_pss_rsae_sha256, S.ecdsa_secp256r1_sha256)


def serves(client: ScriptedClient, features: ServerFeatures, **offer: Any) -> None:
    """A handshake with that offer, and service after it."""
    client.hello(**offer).complete()
    server_lives(client, features)


@req("9.1-1")
def test_aes_128_gcm(client: ScriptedClient, features: ServerFeatures) -> None:
    """TLS_AES_128_GCM_SHA256 alone makes a handshake."""
    serves(client, features, suites=(CipherSuite.TLS_AES_128_GCM_SHA256,))


@req("9.1-2")
@pytest.mark.parametrize("name", ["TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"])
def test_other_suites(client: ScriptedClient, features: ServerFeatures, name: str) -> None:
    """TLS_AES_256_GCM_SHA384 and TLS_CHACHA20_POLY1305_SHA256, each alone, make a handshake."""
    serves(client, features, suites=(CipherSuite[name],))


@req("9.1-3")
def test_signature_schemes(client: ScriptedClient, features: ServerFeatures) -> None:
    """The schemes that everybody has are enough, where the server's key is of their kinds."""
    if not {scheme.name for scheme in MANDATORY_SCHEMES} & set(features.signature_schemes):
        raise NotApplicable("the server has neither an RSA key nor one on P-256")
    serves(client, features, schemes=(*MANDATORY_SCHEMES, S.rsa_pkcs1_sha256))


@req("9.1-4", "9.2-2")
def test_secp256r1(connect: Connect, features: ServerFeatures) -> None:
    """secp256r1 alone makes a handshake."""
    client = connect(share_groups=(G.secp256r1,))
    serves(client, features, groups=(G.secp256r1,))


@req("9.1-5")
def test_x25519(connect: Connect, features: ServerFeatures) -> None:
    """x25519 alone makes a handshake."""
    client = connect(share_groups=(G.x25519,))
    serves(client, features, groups=(G.x25519,))


@req("9.2-3", "9.2-6", "9.2-1", "9.2-2", "E.5-8")
def test_extensions_of_server_hello(client: ScriptedClient) -> None:
    """ServerHello has supported_versions with TLS 1.3 and key_share, and legacy_version 0x0303."""
    answer = client.hello().read_server_hello()
    selected = answer.extensions.get(SelectedVersion)
    version = None if selected is None else selected.selected_version
    check(version == ProtocolVersion.TLS_1_3, "TLS 1.3 in supported_versions", version, "9.2-3")
    share = answer.extensions.get(KeyShareServerHello)
    check(share is not None, "key_share", "none", "9.2-6")
    legacy = answer.legacy_version
    check(legacy == ProtocolVersion.TLS_1_2, "legacy_version 0x0303", hex(legacy), "E.5-8")


@req("9.2-1", "9.2-3", "E.5-8")
@needs("retry")
def test_extensions_of_hello_retry_request(client: ScriptedClient) -> None:
    """HelloRetryRequest has supported_versions, and legacy_version 0x0303."""
    retry = client.hello(shares=()).read_retry()
    check(retry.extensions.get(SelectedVersion) is not None, "supported_versions", "none")
    legacy = retry.legacy_version
    check(legacy == ProtocolVersion.TLS_1_2, "legacy_version 0x0303", hex(legacy), "E.5-8")


@req("9.2-13", "9.2-1")
def test_server_name(client: ScriptedClient, features: ServerFeatures) -> None:
    """server_name with a name of the server's is taken."""
    if client.server_name is None:
        raise NotApplicable("no name of the server is known (--server-name)")
    serves(client, features)


@req("9.2-15")
def test_no_server_name(connect: Connect, features: ServerFeatures) -> None:
    """Without server_name the server serves, or says missing_extension."""
    client = connect(server_name=None)
    client.hello()
    try:
        client.complete()
    except NonConformance:
        raise_unless_missing(connect(server_name=None))
        return
    server_lives(client, features)


def raise_unless_missing(client: ScriptedClient) -> None:
    """The server refuses a ClientHello without server_name as §9.2 recommends."""
    client.hello()
    alert = client.expect_abort()
    if alert is None or alert.description != A.missing_extension:
        got = "the end" if alert is None else f"alert {alert.description.name}"
        raise Deviation("alert missing_extension", got, "9.2-15")


@req("9.3-5", "9.3-3", "4.2.2-13")
@pytest.mark.parametrize("at", ["first", "last"])
def test_unknown_values(client: ScriptedClient, features: ServerFeatures, at: str) -> None:
    """Unknown values are passed over in every list of the ClientHello, first or last."""

    def among(known: Any, kind: Any) -> Any:
        unknown = tuple(kind(value) for value in GREASE)
        return (*unknown, *known) if at == "first" else (*known, *unknown)

    groups = tuple(NamedGroup[name] for name in features.groups) or GROUPS_OFFERED
    modes = tuple(PskKeyExchangeMode(code) for code in (0x0B, 0x2A, 0xF0))
    psk_dhe_ke = (PskKeyExchangeMode.psk_dhe_ke,)
    extensions = [UnknownExtension(ExtensionType(value), b"\0" * (value & 3)) for value in GREASE]
    serves(
        client,
        features,
        suites=among(SUITES_OFFERED, CipherSuite),
        groups=among(groups, NamedGroup),
        shares=client.share_groups,
        schemes=among(SCHEMES_OFFERED, SignatureScheme),
        versions=among((ProtocolVersion.TLS_1_3,), ProtocolVersion),
        modes=(*modes, *psk_dhe_ke) if at == "first" else (*psk_dhe_ke, *modes),
        extensions=extensions,
    )


@req("9.3-5", "9.3-3")
@pytest.mark.parametrize("length", [1, 31, 1000])
def test_unknown_key_share(client: ScriptedClient, features: ServerFeatures, length: int) -> None:
    """A key share of an unknown group is passed over."""
    entry = GREASE[0].to_bytes(2, "big") + length.to_bytes(2, "big") + bytes(length)
    client.edit(insert("client_hello.extensions[key_share].client_shares", entry))
    client.edit(insert("client_hello.extensions[supported_groups].named_group_list", b"\x0a\x0a"))
    serves(client, features)
