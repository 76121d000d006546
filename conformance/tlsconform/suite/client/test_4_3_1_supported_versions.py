"""§4.3.1: the versions that a client offers."""

from __future__ import annotations

import pytest

from tlsconform.marks import req
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.suite.helpers import check, retry_body
from tpmtls.algorithms import SUITES
from tpmtls.codepoints import AlertDescription, ProtocolVersion
from tpmtls.wire.extensions import Extensions, SupportedVersions
from tpmtls.wire.messages import ServerHello

_OLD = (ProtocolVersion.TLS_1_2, ProtocolVersion.TLS_1_1, ProtocolVersion.TLS_1_0)


def _versions(server: ScriptedServer) -> tuple[int, ...]:
    offered = server.offer.extensions.get(SupportedVersions)
    return () if offered is None else offered.versions


@req("4.3.1-1", "9.2-3")
@pytest.mark.parametrize("hello", ["first", "second"])
def test_tls13_is_offered(server: ScriptedServer, hello: str) -> None:
    """Every ClientHello, after a HelloRetryRequest too, lists 0x0304 in supported_versions."""
    server.accept()
    if hello == "second":
        server.retry(retry_body(server))
    check(ProtocolVersion.TLS_1_3 in _versions(server), "0x0304 offered", _versions(server))


@req("4.3.1-2")
@pytest.mark.parametrize("version", _OLD)
def test_no_version_beside_those_offered(server: ScriptedServer, version: ProtocolVersion) -> None:
    """A version that supported_versions does not list is not negotiated."""
    server.accept()
    if version in _versions(server):
        raise NotApplicable(f"the client offers {version.name}")
    suites = [suite for suite in server.offer.cipher_suites if suite not in SUITES]
    suite = suites[0] if suites else server.suite
    random = server.random.randbytes(32)
    server.say(ServerHello(version, random, b"", suite, 0, Extensions(())))
    server.expect_alert(AlertDescription.protocol_version)


@req("4.3.1-9")
def test_no_gap_below_tls13(server: ScriptedServer) -> None:
    """A client that offers a version before TLS 1.2 offers TLS 1.2 too."""
    versions = _versions(server.accept())
    if any(ProtocolVersion.SSL_3_0 <= version < ProtocolVersion.TLS_1_2 for version in versions):
        check(ProtocolVersion.TLS_1_2 in versions, "TLS 1.2 offered too", versions)
