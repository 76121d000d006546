"""§4.4.1, §4.4.2: EncryptedExtensions and CertificateRequest as a client takes them."""

from __future__ import annotations

from typing import Final

import pytest
from cryptography import x509
from cryptography.x509.oid import NameOID

from tlsconform.features import ClientFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import append, drop, insert, set_field, truncate
from tlsconform.outcome import NonConformance
from tlsconform.peer import ScriptedServer
from tlsconform.suite.helpers import WHERE, check, client_lives, retry_body
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import AlertDescription, ContentType, ExtensionType
from tpmtls.wire.extensions import (
    CertificateAuthorities,
    OidFilter,
    OidFilters,
    ProtocolNameList,
    RecordSizeLimit,
    ServerNameAcknowledgement,
    UnknownExtension,
)

UNKNOWN: Final = UnknownExtension(ExtensionType(0xFAF0), b"tlsconform")
ALPN: Final = "encrypted_extensions.extensions[application_layer_protocol_negotiation]"
REQUEST: Final = "certificate_request"
SCHEMES: Final = f"{REQUEST}.extensions[signature_algorithms].supported_signature_algorithms"
_UNKNOWN_OID: Final = bytes.fromhex("0604540a0b0c")


def _before_request(server: ScriptedServer) -> ScriptedServer:
    return server.accept().hello().encrypted_extensions()


# -- EncryptedExtensions ---------------------------------------------------------------------------


@req("6-9")
@pytest.mark.parametrize("change", ["longer", "no extensions"])
def test_encrypted_extensions_of_wrong_length(server: ScriptedServer, change: str) -> None:
    """EncryptedExtensions with octets after the block, or without the block, is refused."""
    edits = {
        "longer": append("encrypted_extensions", b"\0"),
        "no extensions": truncate("encrypted_extensions", 2),
    }
    server.accept().hello().encrypted_extensions(edits=[edits[change]])
    server.expect_alert(AlertDescription.decode_error)


@needs("alpn")
@req("4.3-8")
def test_alpn(server: ScriptedServer, features: ClientFeatures, target: ClientTarget) -> None:
    """A protocol that the client offers may be selected."""
    name = features.alpn[-1].encode()
    server.accept().hello().encrypted_extensions(ProtocolNameList((name,)))
    server.authenticate().finish().complete()
    client_lives(server, target, features.sends_data)


@needs("alpn")
@req("6-10")
def test_alpn_not_offered(server: ScriptedServer) -> None:
    """A protocol that the client did not offer is refused."""
    server.accept().hello().encrypted_extensions(ProtocolNameList((b"tlsconform/0",)))
    server.expect_abort()  # RFC 7301 names the server's alert only


@needs("alpn")
@req("6-10")
def test_alpn_twice(server: ScriptedServer, features: ClientFeatures) -> None:
    """Two protocols at once are refused: the answer holds one (RFC 7301 §3.1)."""
    name = features.alpn[0].encode()
    server.accept().hello().encrypted_extensions(ProtocolNameList((name, name)))
    server.expect_alert(AlertDescription.illegal_parameter, AlertDescription.decode_error)


@needs("alpn")
@req("6-9")
@pytest.mark.parametrize("names", ["", "00"])
def test_alpn_empty(server: ScriptedServer, features: ClientFeatures, names: str) -> None:
    """A list of no protocols, and a protocol of no octets, are refused."""
    edit = set_field(f"{ALPN}.protocol_name_list", bytes.fromhex(names))
    body = ProtocolNameList((features.alpn[0].encode(),))
    server.accept().hello().encrypted_extensions(body, edits=[edit])
    server.expect_alert(AlertDescription.decode_error, AlertDescription.illegal_parameter)


@needs("server_name")
@req("9.2-13")
def test_server_name_acknowledged(server: ScriptedServer) -> None:
    """An empty server_name in EncryptedExtensions is taken."""
    server.accept().hello().encrypted_extensions(ServerNameAcknowledgement())
    server.authenticate().finish().complete()


@needs("record_size_limit")
@req("6-10")
def test_record_size_limit_too_small(server: ScriptedServer) -> None:
    """A record_size_limit below 64 is refused (RFC 8449 §4)."""
    server.accept().hello().encrypted_extensions(RecordSizeLimit(63))
    server.expect_alert(AlertDescription.illegal_parameter)


# -- CertificateRequest ----------------------------------------------------------------------------


@req("4.4.2-7", "9.3-6", "9.3-3")
@pytest.mark.parametrize("at", [0, -1])
def test_unknown_extension(server: ScriptedServer, at: int) -> None:
    """An extension of CertificateRequest that nobody knows is passed over."""
    edit = insert(WHERE[REQUEST], UNKNOWN, at)
    _before_request(server).certificate_request(edits=[edit]).authenticate().finish().complete()


@req("9.3-3")
def test_unknown_schemes(server: ScriptedServer) -> None:
    """Signature schemes of CertificateRequest that nobody knows are passed over."""
    edit = append(SCHEMES, bytes.fromhex("1a1a fe01"))
    _before_request(server).certificate_request(edits=[edit]).authenticate().finish().complete()


@req("6.2-5")
def test_no_signature_algorithms(server: ScriptedServer) -> None:
    """A CertificateRequest without signature_algorithms is refused."""
    edit = drop(f"{REQUEST}.extensions[signature_algorithms]")
    _before_request(server).certificate_request(edits=[edit])
    server.expect_alert(AlertDescription.missing_extension)


@req("6-9")
def test_empty_list_of_schemes(server: ScriptedServer) -> None:
    """A CertificateRequest with signature_algorithms of no schemes is refused."""
    _before_request(server).certificate_request(edits=[set_field(SCHEMES, b"")])
    server.expect_alert(AlertDescription.decode_error, AlertDescription.illegal_parameter)


@req("6-9")
def test_odd_list_of_schemes(server: ScriptedServer) -> None:
    """A CertificateRequest whose list of schemes ends in half a scheme is refused."""
    _before_request(server).certificate_request(edits=[append(SCHEMES, b"\4")])
    server.expect_alert(AlertDescription.decode_error, AlertDescription.illegal_parameter)


@req("6-9")
def test_octets_after_the_request(server: ScriptedServer) -> None:
    """Octets after the extensions of a CertificateRequest are refused."""
    _before_request(server).certificate_request(edits=[append(REQUEST, b"\0")])
    server.expect_alert(AlertDescription.decode_error)


@req("6-10")
def test_context_in_the_handshake(server: ScriptedServer) -> None:
    """A certificate_request_context in the handshake is refused, or comes back in Certificate."""
    server.edit(set_field(f"{REQUEST}.certificate_request_context", b"context"))
    _before_request(server).certificate_request().authenticate().finish()
    try:
        server.complete()
    except NonConformance:
        server.expect_abort()
        return
    assert server.client_certificate is not None
    context = server.client_certificate.certificate_request_context
    check(context == b"context", "the certificate_request_context that was sent", context.hex())


@req("4-2")
def test_two_requests(server: ScriptedServer) -> None:
    """A second CertificateRequest in the handshake is refused."""
    _before_request(server).certificate_request().certificate_request()
    server.expect_alert(AlertDescription.unexpected_message)


@req("4-2")
def test_request_after_the_certificate(server: ScriptedServer) -> None:
    """A CertificateRequest after the server's Certificate is refused."""
    _before_request(server).certificate().certificate_request()
    server.expect_alert(AlertDescription.unexpected_message)


@needs("client_certificate")
@req("4.3.4-3")
def test_certificate_authorities(server: ScriptedServer) -> None:
    """A client whose certificate is of an authority that is named presents it."""
    leaf = x509.load_der_x509_certificate(server.credentials[0].chain[0])
    names = CertificateAuthorities((leaf.issuer.public_bytes(),))
    _before_request(server).certificate_request(names).authenticate().finish().complete()
    _presented(server)


@needs("client_certificate")
@req("4.5.1.2-5")
def test_another_authority(server: ScriptedServer) -> None:
    """A client none of whose certificates is of an authority that is named presents none."""
    stranger = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "an authority nobody knows")])
    names = CertificateAuthorities((stranger.public_bytes(),))
    _before_request(server).certificate_request(names).authenticate().finish().complete()
    certificate = server.client_certificate
    presented = certificate is not None and bool(certificate.certificate_list)
    check(not presented, "no certificate that another authority issued", "one")


@needs("client_certificate")
@req("4.3.5-5")
def test_filter_that_nobody_knows(server: ScriptedServer) -> None:
    """An OID that nobody knows in oid_filters changes nothing."""
    filters = OidFilters((OidFilter(_UNKNOWN_OID, b"\5\0"),))
    _before_request(server).certificate_request(filters).authenticate().finish().complete()
    _presented(server)


def _presented(server: ScriptedServer) -> None:
    certificate = server.client_certificate
    presented = certificate is not None and bool(certificate.certificate_list)
    check(presented, "the client's certificate", "an empty list")


# -- records of the client's flights ---------------------------------------------------------------


@req("5.1-20")
def test_version_of_the_first_record(server: ScriptedServer) -> None:
    """The records of the first ClientHello have version 0x0301."""
    server.accept()
    versions = {record.version for record in server.wire.received}
    check(versions == {0x0301}, "version 0x0301", sorted(map(hex, versions)))


@req("5.1-15", "5.1-21")
@pytest.mark.parametrize("retry", [False, True])
def test_version_of_later_records(server: ScriptedServer, retry: bool) -> None:
    """All records after those of the first ClientHello have version 0x0303."""
    server.accept()
    seen = len(server.wire.received)
    if retry:
        server.retry(retry_body(server))
    server.flight().complete()
    versions = {record.version for record in server.wire.received[seen:]}
    check(versions == {0x0303}, "version 0x0303", sorted(map(hex, versions)))


@needs("sends_data")
@req("2-2")
def test_no_data_before_the_handshake_is_complete(
    server: ScriptedServer, target: ClientTarget
) -> None:
    """Application data that waits is sent after the client's Finished only."""
    target.say(b"early\n")
    server.handshake()  # anything but the client's flight in order is refused
    kinds = [record.content_type for record in server.wire.received[:1]]
    check(kinds == [ContentType.handshake], "the ClientHello first", kinds)
