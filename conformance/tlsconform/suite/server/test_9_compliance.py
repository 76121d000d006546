"""§9: what every server has to support, and to pass over."""

from __future__ import annotations

from typing import Any

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.peer.client import GROUPS_OFFERED, SCHEMES_OFFERED, SUITES_OFFERED
from tlsconform.suite.helpers import Connect, check, server_lives
from tpmtls.codepoints import (
    AlertDescription,
    CipherSuite,
    ExtensionType,
    NamedGroup,
    ProtocolVersion,
    PskKeyExchangeMode,
    SignatureScheme,
)
from tpmtls.wire.extensions import (
    KeyShareServerHello,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
    UnknownExtension,
)


@pytest.mark.parametrize(
    "suite",
    [
        pytest.param("TLS_AES_128_GCM_SHA256", marks=req("9.1-1")),
        pytest.param("TLS_AES_256_GCM_SHA384", marks=req("9.1-2")),
        pytest.param("TLS_CHACHA20_POLY1305_SHA256", marks=req("9.1-2")),
    ],
)
def test_suite(client: ScriptedClient, features: ServerFeatures, suite: str) -> None:
    """The cipher suites of §9.1 can be used."""
    check(suite in features.suites, suite, ", ".join(features.suites))
    client.hello(suites=(CipherSuite[suite],)).complete()


@pytest.mark.parametrize(
    "group",
    [
        pytest.param("secp256r1", marks=req("9.1-4", "9.2-6")),
        pytest.param("x25519", marks=req("9.1-5", "9.2-6")),
    ],
)
def test_group(client: ScriptedClient, features: ServerFeatures, group: str) -> None:
    """The groups of §9.1 can be used, and the ServerHello has a key share of them."""
    check(group in features.groups, group, ", ".join(features.groups))
    wanted = NamedGroup[group]
    answer = client.hello(groups=(wanted,), shares=(wanted,)).read_server_hello()
    share = answer.extensions.get(KeyShareServerHello)
    got = "no key_share" if share is None else share.server_share.group.name
    check(got == group, f"key_share of {group}", got, "9.2-6")


@req("9.1-3")
@needs("client_certificate")
def test_schemes(client: ScriptedClient) -> None:
    """The schemes of §9.1 are taken from clients."""
    client.hello().read_flight()
    if client.request is None:
        raise NotApplicable("the server asks for no certificate this time")
    body = client.request.extensions.get(SignatureAlgorithms)
    listed = () if body is None else body.supported_signature_algorithms
    for scheme in (SignatureScheme.rsa_pss_rsae_sha256, SignatureScheme.ecdsa_secp256r1_sha256):
        check(scheme in listed, scheme.name, ", ".join(each.name for each in listed))
    certs = client.request.extensions.get(SignatureAlgorithmsCert)
    listed = (*listed, *(() if certs is None else certs.supported_signature_algorithms))
    check(SignatureScheme.rsa_pkcs1_sha256 in listed, "rsa_pkcs1_sha256", "none")


@req("9.2-2", "9.2-1")
def test_extensions_are_heeded(connect: Connect, features: ServerFeatures) -> None:
    """Of groups, shares, and schemes, the server takes the one that the extensions leave it."""
    for name in features.groups:
        client = connect()
        group = NamedGroup[name]
        answer = client.hello(groups=(group,), shares=(group,)).read_server_hello()
        share = answer.extensions.get(KeyShareServerHello)
        got = "none" if share is None else share.server_share.group.name
        check(got == name, name, got)
        client.close()


@req("9.2-13", "9.2-1")
def test_server_name(client: ScriptedClient, features: ServerFeatures) -> None:
    """server_name is taken."""
    if client.server_name is None:
        raise NotApplicable("no name of the server is known (--tls-server-name)")
    client.hello().complete()
    server_lives(client, features)


@req("9.2-15")
def test_no_server_name(connect: Connect) -> None:
    """Without server_name the handshake goes on, or is refused with missing_extension."""
    client = connect(server_name=None).hello()
    try:
        client.read_server_hello()
    except NonConformance as finding:
        name = AlertDescription.missing_extension.name
        check(name in finding.got, f"ServerHello or {name}", finding.got)


@req("9.3-5", "9.3-3")
@pytest.mark.parametrize("what", ["suites", "groups", "schemes", "versions", "modes", "extension"])
def test_unknown_values(client: ScriptedClient, features: ServerFeatures, what: str) -> None:
    """Values that no one knows (GREASE), before those that the server knows, change nothing."""
    first: dict[str, dict[str, Any]] = {
        "suites": {"suites": (CipherSuite(0x1A1A), *SUITES_OFFERED)},
        "groups": {"groups": (NamedGroup(0x2A2A), *GROUPS_OFFERED)},
        "schemes": {"schemes": (SignatureScheme(0x3A3A), *SCHEMES_OFFERED)},
        "versions": {"versions": (ProtocolVersion(0x4A4A), ProtocolVersion.TLS_1_3)},
        "modes": {"modes": (PskKeyExchangeMode(0x2A), PskKeyExchangeMode.psk_dhe_ke)},
        "extension": {"extensions": (UnknownExtension(ExtensionType(0x5A5A), b""),)},
    }
    client.hello(**first[what]).complete()
    server_lives(client, features)
