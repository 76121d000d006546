"""§4.7.2: a server that asks for a certificate after the handshake."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tlsconform.features import REQUEST, ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import flip, set_field
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.session import session_of
from tlsconform.suite.helpers import check, server_lives
from tpmtls.codepoints import AlertDescription, ContentType
from tpmtls.key_schedule import verify_data
from tpmtls.wire.extensions import PostHandshakeAuth, SignatureAlgorithms
from tpmtls.wire.messages import CertificateRequest, Finished

A = AlertDescription
Ask = Callable[..., ScriptedClient]

pytestmark = needs("post_handshake_auth")


@pytest.fixture
def trigger(request: pytest.FixtureRequest) -> Callable[[ScriptedClient], None]:
    """Makes the server ask: by a way that the target has, or by a request that it answers so."""
    target = session_of(request.config).server

    def ask(client: ScriptedClient) -> None:
        if target is None or not target.request_client_certificate(client.wire.channel):
            client.send_data(REQUEST)

    return ask


@pytest.fixture
def ask(connect: Connect, trigger: Callable[[ScriptedClient], None]) -> Ask:
    """Opens connections whose server has asked for a certificate after the handshake."""

    def open_connection(**how: object) -> ScriptedClient:
        client = connect(**how).hello(extensions=(PostHandshakeAuth(),)).complete()
        trigger(client)
        read_request(client)
        return client

    return open_connection


def read_request(client: ScriptedClient) -> CertificateRequest:
    """The CertificateRequest, after any tickets; the transcript is ready for the answer."""
    while True:
        octets = client.next_octets()
        message = client.decode(octets)
        if isinstance(message, CertificateRequest):
            client.transcript = client.final.fork()
            client.transcript.add(octets)
            client.request = message
            return message
        if type(message).__name__ != "NewSessionTicket":
            raise NonConformance("CertificateRequest", type(message).__name__)


def request_of(client: ScriptedClient) -> CertificateRequest:
    """What the server asked."""
    if client.request is None:
        raise NotApplicable("the server did not ask")
    return client.request


def finish(client: ScriptedClient) -> None:
    """The answer's Finished, under the present application secret."""
    data = verify_data(client.backend, client.client_secret, client.transcript.digest())
    client.say(Finished(data))


@req("4.4.2-6", "4.4.2-3", "4.7.2-1")
def test_request(ask: Ask) -> None:
    """A CertificateRequest after the handshake has signature_algorithms, and a context."""
    message = request_of(ask())
    check(message.extensions.get(SignatureAlgorithms) is not None, "signature_algorithms", "none")
    check(bool(message.certificate_request_context), "a context", "an empty one", "4.4.2-3")


@req("4.4.2-5", "4.4.2-3")
def test_context(ask: Ask, trigger: Callable[[ScriptedClient], None]) -> None:
    """Contexts differ within a connection, and from connection to connection."""
    client = ask()
    first = request_of(client).certificate_request_context
    client.authenticate()
    finish(client)
    trigger(client)
    second = read_request(client).certificate_request_context
    check(first != second, "another context", "the same", "4.4.2-3")
    client.close()
    other = request_of(ask()).certificate_request_context
    check(other not in (first, second), "contexts that cannot be foretold", "the same again")


@req("4.7.2-1")
def test_not_asked_unless_offered(
    connect: Connect, trigger: Callable[[ScriptedClient], None], request: pytest.FixtureRequest
) -> None:
    """A client without post_handshake_auth is not asked."""
    target = session_of(request.config).server
    if target is None or target.in_process:
        raise NotApplicable("the server in this process refuses to be made to ask")
    client = connect().handshake()
    trigger(client)
    try:
        read_request(client)
    except NonConformance:
        return
    raise NonConformance("no CertificateRequest", "one")


@req("4.5.2-8")
def test_answer(ask: Ask, features: ServerFeatures) -> None:
    """Certificate, CertificateVerify and Finished are taken."""
    client = ask()
    client.authenticate()
    finish(client)
    server_lives(client, features)


@req("4.5.1.3-2")
def test_refusal(ask: Ask) -> None:
    """An empty Certificate with Finished gets no alert, or certificate_required."""
    client = ask(credential=None)
    client.authenticate()
    finish(client)
    try:
        client.expect_quiet()
    except NonConformance as finding:
        check("certificate_required" in finding.got, "certificate_required", finding.got)


@req("4.7.2-7")
def test_patience(ask: Ask, features: ServerFeatures) -> None:
    """Data and KeyUpdates between the request and its answer are taken."""
    client = ask()
    for _ in range(3):
        client.send_data(REQUEST)
    base_key = client.client_secret
    client.update_keys()
    client.send_data(REQUEST)
    check(client.client_secret is not base_key, "other keys", "the same")
    client.authenticate()
    finish(client)
    server_lives(client, features)


@req("4.7.2-8", "4.4.2-3")
def test_other_order(
    ask: Ask, trigger: Callable[[ScriptedClient], None], features: ServerFeatures
) -> None:
    """Answers to two requests may come in the other order."""
    client = ask()
    first, transcript = request_of(client), client.transcript
    trigger(client)
    second = read_request(client)
    client.answer_request(second)
    finish(client)
    client.transcript = transcript
    client.answer_request(first)
    finish(client)
    server_lives(client, features)


@req("4.5.3-2", "4.5.3-1")
def test_altered_finished(ask: Ask) -> None:
    """A wrong Finished after the handshake is refused."""
    client = ask()
    client.authenticate()
    data = verify_data(client.backend, client.client_secret, client.transcript.digest())
    client.say(Finished(data), flip("finished.verify_data"))
    client.expect_alert(A.decrypt_error)


@req("4.5.2-9", "4.5.2-8")
def test_altered_signature(ask: Ask) -> None:
    """A wrong signature after the handshake is refused."""
    client = ask()
    client.authenticate(flip("certificate_verify.signature", -1))
    client.expect_alert(A.decrypt_error)


@req("6-10", "4.7.2-8")
def test_wrong_context(ask: Ask) -> None:
    """An answer in a context that was not asked with is refused."""
    client = ask()
    client.authenticate(set_field("certificate.certificate_request_context", b"another"))
    client.expect_alert(A.illegal_parameter, A.unexpected_message)


@req("4.5.2-9", "4.5.2-8", "4.5.3-2")
def test_transcript_without_handshake(ask: Ask) -> None:
    """An answer whose signature is not over the handshake is refused."""
    client = ask()
    client.transcript.add(b"\x04\0\0\0")
    client.authenticate()
    client.expect_alert(A.decrypt_error)


@req("4-2", "4.5.2-2")
def test_finished_without_certificate_verify(ask: Ask) -> None:
    """After a certificate, Finished without CertificateVerify is refused."""
    client = ask()
    client.say_certificate(client.credential, request_of(client).certificate_request_context)
    finish(client)
    client.expect_alert(A.unexpected_message)


@req("4-2", "4.7.2-5")
def test_finished_alone(ask: Ask) -> None:
    """A Finished without a Certificate before it is refused."""
    client = ask()
    finish(client)
    client.expect_alert(A.unexpected_message)


@req("4.7.2-5", "5-5")
def test_data_within_answer(ask: Ask) -> None:
    """Application data between the messages of an answer is refused, or does at least no harm."""
    client = ask()
    client.say_certificate(client.credential, request_of(client).certificate_request_context)
    client.wire.send_records(ContentType.application_data, REQUEST, "a request")
    try:
        client.expect_quiet()
    except NonConformance as finding:
        check("unexpected_message" in finding.got, "unexpected_message", finding.got)


@req("4-2", "4.7.2-8")
def test_answered_twice(ask: Ask) -> None:
    """A second answer to the same request is refused."""
    client = ask()
    transcript = client.transcript.fork()
    client.authenticate()
    finish(client)
    client.expect_quiet()
    client.transcript = transcript
    client.authenticate()
    client.expect_alert(A.unexpected_message, A.illegal_parameter)
