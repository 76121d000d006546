"""Appendices B, C, E and F: older versions, old parameters and PSKs, as clients treat them."""

from __future__ import annotations

from tlsconform.marks import needs, req
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.plugin import Serve
from tlsconform.suite.codes import OBSOLETE_GROUPS, RC4_SUITES, WEAK_SUITES, is_reserved_scheme
from tlsconform.suite.helpers import check, give_ticket, resume
from tlsconform.targets import ClientTarget
from tpmtls.algorithms import SUITES
from tpmtls.codepoints import CipherSuite, ExtensionType, ProtocolVersion
from tpmtls.wire.extensions import (
    Extensions,
    SignatureAlgorithmsCert,
    SupportedGroups,
    SupportedVersions,
)
from tpmtls.wire.messages import ServerHello


@req("B-1")
def test_reserved_schemes(server: ScriptedServer) -> None:
    """No signature scheme that is reserved is offered, be it for handshakes or for chains."""
    offered = server.accept().offer.extensions
    for_chains = offered.get(SignatureAlgorithmsCert)
    schemes = (
        *server.schemes_offered,
        *(() if for_chains is None else for_chains.supported_signature_algorithms),
    )
    found = [hex(scheme) for scheme in schemes if is_reserved_scheme(scheme)]
    check(not found, "no reserved scheme", found)


@req("B.3.1.4-1")
def test_obsolete_groups(server: ScriptedServer) -> None:
    """No obsolete group is offered."""
    body = server.accept().offer.extensions.get(SupportedGroups)
    groups = () if body is None else body.named_group_list
    found = [int(group) for group in groups if group in OBSOLETE_GROUPS]
    check(not found, "no obsolete group", found)


@req("E.5-2")
def test_no_rc4(server: ScriptedServer) -> None:
    """No RC4 cipher suite is offered."""
    found = [hex(suite) for suite in server.accept().offer.cipher_suites if suite in RC4_SUITES]
    check(not found, "no RC4", found)


@req("E.5-3")
def test_no_weak_suites(server: ScriptedServer) -> None:
    """No NULL, export or DES cipher suite is offered."""
    found = [hex(suite) for suite in server.accept().offer.cipher_suites if suite in WEAK_SUITES]
    check(not found, "112 bits or more", found)


@req("E.5-12")
def test_no_truncated_hmac(server: ScriptedServer) -> None:
    """truncated_hmac is not offered."""
    kinds = server.accept().offer.extensions.types
    check(ExtensionType(4) not in kinds, "no truncated_hmac", "truncated_hmac")


@req("E.1-1")
@needs("resumption")
def test_resumption_offers_tls13(serve: Serve, target: ClientTarget) -> None:
    """A client that resumes offers TLS 1.3."""
    server, _ = resume(serve, target)
    body = server.offer.extensions.get(SupportedVersions)
    versions = () if body is None else body.versions
    check(ProtocolVersion.TLS_1_3 in versions, "TLS 1.3", versions)


@req("E.1-2")
def test_no_early_data_at_first(server: ScriptedServer) -> None:
    """A first connection sends no early data."""
    kinds = server.accept().offer.extensions.types
    check(ExtensionType.early_data not in kinds, "no early_data", "early_data")


@req("E.3-1")
@needs("early_data")
def test_early_data_and_tls12(serve: Serve, target: ClientTarget) -> None:
    """A client that sends early data refuses a ServerHello of TLS 1.2."""
    give_ticket(serve, target, max_early_data=4096)
    server = serve(resume=True, early_data=True).accept()
    offer = server.offer
    if ExtensionType.early_data not in offer.extensions.types:
        raise NotApplicable("the client does not send early data this time")
    old = [suite for suite in offer.cipher_suites if suite not in SUITES and suite >> 8 == 0xC0]
    suite = old[0] if old else CipherSuite(0xC02F)
    random = server.random.randbytes(32)
    server.say(ServerHello(ProtocolVersion.TLS_1_2, random, b"", suite, 0, Extensions(())))
    server.forget_reading_keys()
    try:
        server.expect_abort()
    except NonConformance as finding:
        # it has given up; under which keys it says so is nothing that E.3 is about
        if finding.requirement not in ("5.1-10", "5.1-11", "5.1-12"):
            raise


@req("F.1-1")
@needs("external_psk")
def test_certificate_with_an_external_psk(
    server: ScriptedServer, external_psk: tuple[bytes, bytes]
) -> None:
    """A Certificate after an external PSK was selected is refused."""
    identity, key = external_psk
    sha256 = [s for s in server.accept().offer.cipher_suites if s in SUITES]
    suite = next((s for s in sha256 if SUITES[s].hash.name == "sha256"), None)
    if suite is None or identity not in server.identities_offered:
        raise NotApplicable("the client does not offer its external PSK")
    server.use_suite(suite)
    server.hello(psk=key, index=server.identities_offered.index(identity))
    server.encrypted_extensions().certificate()
    server.expect_abort()
