"""§4.4: EncryptedExtensions and CertificateRequest as a server sends them."""

from __future__ import annotations

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.peer import OfferedPsk, ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.session import session_of
from tlsconform.suite.helpers import check, server_lives
from tlsconform.suite.server.helpers import resume
from tpmtls.wire.extensions import SignatureAlgorithms
from tpmtls.wire.messages import Certificate, CertificateRequest, EncryptedExtensions, Finished

ALLOWED = (0, 1, 10, 14, 15, 16, 19, 20, 28, 42)
"""server_name, max_fragment_length, supported_groups, use_srtp, heartbeat, ALPN, the two
certificate types, record_size_limit, early_data: what is for EncryptedExtensions."""


@req("4.4.1-1", "4-1")
def test_encrypted_extensions(client: ScriptedClient) -> None:
    """EncryptedExtensions is what follows the ServerHello."""
    client.hello().read_server_hello()
    message, _ = client.next_message()
    check(isinstance(message, EncryptedExtensions), "EncryptedExtensions", type(message).__name__)


@req("4.4.1-1")
@needs("resumption")
def test_encrypted_extensions_with_a_psk(connect: Connect) -> None:
    """In a resumption, EncryptedExtensions and Finished follow the ServerHello."""
    client = resume(connect)
    client.read_server_hello()
    client.read_encrypted_extensions()
    client.receive_finished_under(client.server_secret)


@req("4.4.1-1", "4.4.1-2")
def test_no_forbidden_extensions(client: ScriptedClient) -> None:
    """No extension of another message in EncryptedExtensions, and none that was not offered."""
    client.hello()
    client.read_server_hello()
    parameters = client.read_encrypted_extensions()
    offered = {body.extension_type for body in client.first.extensions}
    for body in parameters.extensions:
        name = body.extension_type
        check(name in ALLOWED, "extensions for EncryptedExtensions", name.name, "4.3-7")
        check(name in offered, "extensions that were offered", name.name, "4.3-6")


@req("4.4.2-2", "4.4.2-4", "4.4.2-6", "9.2-4")
@needs("client_certificate")
def test_certificate_request(client: ScriptedClient, features: ServerFeatures) -> None:
    """CertificateRequest comes second; it has signature_algorithms, and no context."""
    client.hello()
    client.read_server_hello()
    client.read_encrypted_extensions()
    message, octets = client.next_message()
    if not isinstance(message, CertificateRequest):
        check(False, "CertificateRequest", type(message).__name__, "4.4.2-2")
        return
    client.transcript.add(octets)
    client.request = message
    context, offered = message.certificate_request_context, message.extensions
    check(not context, "an empty certificate_request_context", context.hex(), "4.4.2-4")
    has_schemes = offered.get(SignatureAlgorithms) is not None
    check(has_schemes, "signature_algorithms", "none", "4.4.2-6")
    client.certificate = client.receive(Certificate)
    client.receive_certificate_verify(client.certificate)
    client.read_finished()
    client.authenticate().finish()


@req("4.4.2-8")
@needs("client_certificate", "resumption")
def test_no_request_in_a_resumption(connect: Connect, features: ServerFeatures) -> None:
    """A server that resumes asks for no certificate in the main handshake."""
    client = resume(connect)
    client.read_server_hello()
    client.read_encrypted_extensions()
    message, _ = client.next_message()
    if client.selected_psk is not None:
        check(isinstance(message, Finished), "Finished", type(message).__name__)


@req("4.4.2-10", "F.1-1")
@needs("client_certificate", "external_psk")
def test_no_request_with_an_external_psk(connect: Connect, request: pytest.FixtureRequest) -> None:
    """With an external PSK, the server neither asks for a certificate nor sends one."""
    expect_psk_alone(connect(), request)


@req("F.1-1", "4.5.1-1")
@needs("external_psk")
def test_no_certificate_with_an_external_psk(
    client: ScriptedClient, request: pytest.FixtureRequest, features: ServerFeatures
) -> None:
    """With an external PSK, the server sends Finished right after EncryptedExtensions."""
    expect_psk_alone(client, request)
    client.finish()
    server_lives(client, features)


def expect_psk_alone(client: ScriptedClient, request: pytest.FixtureRequest) -> None:
    """A handshake with the external PSK, in which no certificate has a part."""
    psk = session_of(request.config).psk
    if psk is None:
        raise RuntimeError("the probe found an external PSK, and there is none")
    client.hello(psks=(OfferedPsk(*psk, resumption=False),))
    client.read_server_hello()
    client.read_encrypted_extensions()
    message, octets = client.next_message()
    check(isinstance(message, Finished), "Finished", type(message).__name__)
    client.absorb(octets)
