"""§9: what every client has to support and offer."""

from __future__ import annotations

import pytest

from tlsconform.features import ClientFeatures
from tlsconform.marks import req
from tlsconform.peer import ScriptedServer
from tlsconform.suite.helpers import check
from tpmtls.codepoints import CipherSuite, ExtensionType


@pytest.mark.parametrize(
    "suite",
    [
        pytest.param("TLS_AES_128_GCM_SHA256", marks=req("9.1-1")),
        pytest.param("TLS_AES_256_GCM_SHA384", marks=req("9.1-2")),
        pytest.param("TLS_CHACHA20_POLY1305_SHA256", marks=req("9.1-2")),
    ],
)
def test_suite(server: ScriptedServer, features: ClientFeatures, suite: str) -> None:
    """The cipher suites of §9.1 are offered and can be used."""
    check(suite in features.suites, suite, ", ".join(features.suites))
    server.accept().use_suite(CipherSuite[suite])
    server.flight().complete()


@pytest.mark.parametrize(
    "group",
    [
        pytest.param("secp256r1", marks=req("9.1-4")),
        pytest.param("x25519", marks=req("9.1-5")),
    ],
)
def test_group(features: ClientFeatures, group: str) -> None:
    """The groups of §9.1 are offered."""
    check(group in features.groups, group, ", ".join(features.groups))


@req("9.2-2", "9.2-9")
def test_extensions_that_go_together(server: ScriptedServer) -> None:
    """A ClientHello has the extensions that what it offers asks for."""
    kinds = set(server.accept().offer.extensions.types)
    check(ExtensionType.supported_versions in kinds, "supported_versions", "none")
    groups, shares = ExtensionType.supported_groups in kinds, ExtensionType.key_share in kinds
    check(groups == shares, "supported_groups and key_share, or neither", sorted(kinds))
    if ExtensionType.pre_shared_key not in kinds:
        check(ExtensionType.signature_algorithms in kinds, "signature_algorithms", "none")
        check(groups, "supported_groups", "none")
    else:
        modes = ExtensionType.psk_key_exchange_modes
        check(modes in kinds, "psk_key_exchange_modes", "none")
