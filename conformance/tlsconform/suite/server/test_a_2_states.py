"""Appendix A.2: in every state of a server, every handshake message that is not expected there."""

from __future__ import annotations

import pytest

from tlsconform.marks import needs, req
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import fetch_ticket
from tlsconform.suite.messages import FRAMED, NAMES, expect_refusal, say_unexpected
from tlsconform.suite.server.helpers import accepted_certificate, send_early
from tpmtls.codepoints import AlertDescription
from tpmtls.wire.extensions import PostHandshakeAuth

A = AlertDescription


def say(client: ScriptedClient, name: str) -> None:
    """Send the message of that name, which the server does not expect."""
    say_unexpected(client, name, client.build_hello())


def others(*expected: str) -> pytest.MarkDecorator:
    """One run for each message but those."""
    return pytest.mark.parametrize("name", [name for name in NAMES if name not in expected])


@req("4-2")
@others("client_hello")
def test_start(client: ScriptedClient, name: str) -> None:
    """START: only a ClientHello can be the first message."""
    say(client, name)
    expect_refusal(client, name)


@req("4-2")
@needs("retry")
@others("client_hello")
def test_after_hello_retry_request(client: ScriptedClient, name: str) -> None:
    """START after a HelloRetryRequest: only a ClientHello can be next."""
    client.hello(shares=()).read_retry()
    say(client, name)
    expect_refusal(client, name)


@req("4-2")
@others("finished")
def test_wait_finished(client: ScriptedClient, name: str) -> None:
    """WAIT_FINISHED without client authentication: nothing but Finished is taken."""
    client.hello().read_flight()
    if client.request is not None:
        raise NotApplicable("the server asks for a certificate")
    say(client, name)
    expect_refusal(client, name)


@req("4-2")
@needs("resumption")
@others("finished")
def test_wait_finished_of_a_resumption(connect: Connect, name: str) -> None:
    """WAIT_FINISHED with a PSK: nothing but Finished is taken."""
    ticket = fetch_ticket(connect)
    client = connect().hello(psks=(ticket,)).read_flight()
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4.5.1-2")
@needs("client_certificate")
@others("certificate")
def test_wait_certificate(client: ScriptedClient, name: str) -> None:
    """WAIT_CERT: once a certificate was requested, nothing but Certificate is taken."""
    client.hello().read_flight()
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4.5.2-2")
@needs("client_certificate")
@others("certificate_verify")
def test_wait_certificate_verify(connect: Connect, name: str) -> None:
    """WAIT_CV: after a certificate, nothing but CertificateVerify is taken."""
    accepted_certificate(connect)
    client = connect().hello().read_flight()
    client.say_certificate(client.credential)
    say(client, name)
    expect_refusal(client, name)


@req("4-2")
@needs("client_certificate")
@others("finished")
def test_wait_finished_after_certificate_verify(connect: Connect, name: str) -> None:
    """WAIT_FINISHED after CertificateVerify: nothing but Finished is taken."""
    accepted_certificate(connect)
    client = connect().hello().read_flight().authenticate()
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4.5.2-2")
@needs("client_certificate")
@others("finished")
def test_wait_finished_after_empty_certificate(connect: Connect, name: str) -> None:
    """WAIT_FINISHED after an empty Certificate: nothing but Finished is taken."""
    client = connect(credential=None).hello().read_flight().authenticate()
    say(client, name)
    if name in FRAMED:
        client.expect_alert(
            A.unexpected_message, A.illegal_parameter, A.decode_error, A.certificate_required
        )
    else:
        client.expect_alert(A.unexpected_message, A.certificate_required)


@req("4-2")
@needs("early_data")
@others("end_of_early_data")
def test_wait_end_of_early_data(connect: Connect, name: str) -> None:
    """WAIT_EOED: among early data, nothing but EndOfEarlyData is taken."""
    client = send_early(connect)
    say(client, name)
    expect_refusal(client, name)


@req("4-2")
@needs("early_data")
@others("finished")
def test_wait_finished_after_end_of_early_data(connect: Connect, name: str) -> None:
    """WAIT_FINISHED after EndOfEarlyData: nothing but Finished is taken."""
    client = send_early(connect).end_early_data()
    say(client, name)
    expect_refusal(client, name)


@req("4-2")
@others("key_update")
def test_connected(client: ScriptedClient, name: str) -> None:
    """CONNECTED: nothing but KeyUpdate is taken, where no certificate was requested."""
    client.handshake()
    say(client, name)
    expect_refusal(client, name)


@req("4-2")
@others("key_update")
def test_connected_with_post_handshake_auth(connect: Connect, name: str) -> None:
    """CONNECTED: having offered post_handshake_auth opens no door while nothing is requested."""
    client = connect().hello(extensions=(PostHandshakeAuth(),)).complete()
    say(client, name)
    expect_refusal(client, name)
