"""Appendix A.1: in every state of a client, every handshake message that is not expected there."""

from __future__ import annotations

import pytest

from tlsconform.features import ClientFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.plugin import Serve
from tlsconform.suite.helpers import check, resume
from tlsconform.suite.messages import NAMES, expect_refusal, say_unexpected
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import AlertDescription, ExtensionType
from tpmtls.wire.extensions import KeyShareHelloRetryRequest

A = AlertDescription


def say(server: ScriptedServer, name: str) -> None:
    """Send the message of that name, and expect the client to refuse it."""
    say_unexpected(server, name, server.offer)
    expect_refusal(server, name)


def others(*expected: str) -> pytest.MarkDecorator:
    """One run for each message but those."""
    return pytest.mark.parametrize("name", [name for name in NAMES if name not in expected])


@req("4-2")
@others("server_hello")
def test_wait_server_hello(server: ScriptedServer, features: ClientFeatures, name: str) -> None:
    """WAIT_SH: only a ServerHello or HelloRetryRequest can be the first message."""
    if name == "hello_request" and features.tls12:
        raise NotApplicable("before a version is negotiated, TLS 1.2 lets it be passed over")
    server.accept()
    say(server, name)


@req("4-2")
@needs("retry")
@others("server_hello")
def test_wait_server_hello_after_retry(server: ScriptedServer, name: str) -> None:
    """WAIT_SH after a HelloRetryRequest: only a ServerHello can be next."""
    group = server.accept().retry_group()
    assert group is not None
    server.retry(KeyShareHelloRetryRequest(group))
    say(server, name)


@req("4-2")
@others("encrypted_extensions")
def test_wait_encrypted_extensions(server: ScriptedServer, name: str) -> None:
    """WAIT_EE: after the ServerHello, nothing but EncryptedExtensions is taken."""
    server.accept().hello()
    say(server, name)


@req("4-2")
@others("certificate", "certificate_request")
def test_wait_certificate_or_request(server: ScriptedServer, name: str) -> None:
    """WAIT_CERT_CR: without a PSK, only Certificate or CertificateRequest is next."""
    server.accept().hello().encrypted_extensions()
    say(server, name)


@req("4-2")
@others("certificate")
def test_wait_certificate(server: ScriptedServer, name: str) -> None:
    """WAIT_CERT: after a CertificateRequest, nothing but Certificate is taken."""
    server.accept().hello().encrypted_extensions().certificate_request()
    say(server, name)


@req("4-2")
@others("certificate_verify")
def test_wait_certificate_verify(server: ScriptedServer, name: str) -> None:
    """WAIT_CV: after the Certificate, nothing but CertificateVerify is taken."""
    server.accept().hello().encrypted_extensions().certificate()
    say(server, name)


@req("4-2")
@others("finished")
def test_wait_finished(server: ScriptedServer, name: str) -> None:
    """WAIT_FINISHED: after CertificateVerify, nothing but Finished is taken."""
    server.accept().hello().encrypted_extensions().authenticate()
    say(server, name)


@req("4-2")
@needs("resumption")
@others("encrypted_extensions")
def test_wait_encrypted_extensions_of_a_resumption(
    serve: Serve, target: ClientTarget, name: str
) -> None:
    """WAIT_EE with a PSK: nothing but EncryptedExtensions is taken."""
    server, psk = resume(serve, target)
    server.hello(psk=psk)
    say(server, name)


@req("4-2")
@needs("resumption")
@others("finished")
def test_wait_finished_of_a_resumption(serve: Serve, target: ClientTarget, name: str) -> None:
    """WAIT_FINISHED with a PSK: no certificate or request for one, nothing but Finished."""
    server, psk = resume(serve, target)
    server.hello(psk=psk).encrypted_extensions()
    say(server, name)


@req("4-2", "4.6-4")
@others("new_session_ticket", "key_update")
def test_connected(server: ScriptedServer, name: str) -> None:
    """CONNECTED: nothing but NewSessionTicket and KeyUpdate is taken, without renegotiation."""
    offered = server.handshake().offer.extensions.types
    if name == "certificate_request" and ExtensionType.post_handshake_auth in offered:
        raise NotApplicable("the client offers post_handshake_auth")
    say(server, name)


@req("4-2")
@others("new_session_ticket", "key_update", "certificate_request")
def test_connected_after_a_ticket(server: ScriptedServer, name: str) -> None:
    """CONNECTED: a ticket that came before opens no door."""
    server.handshake().say_ticket()
    say(server, name)


@req("A.1-1")
@pytest.mark.parametrize("point", ["hello", "certificate"])
def test_alerts_are_protected(server: ScriptedServer, point: str) -> None:
    """What the client says of messages after the ServerHello, it says under its handshake keys."""
    server.accept().hello()
    if point == "certificate":
        server.encrypted_extensions().certificate()
    say_unexpected(server, "finished", server.offer)
    server.expect_alert(A.unexpected_message)
    kind = server.wire.received[-1].content_type
    check(kind.name == "application_data", "a protected alert", f"an outer type of {kind.name}")
