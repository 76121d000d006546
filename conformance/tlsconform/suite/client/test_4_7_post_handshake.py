"""§4.7: what a client makes of tickets, requests and KeyUpdates after the handshake."""

from __future__ import annotations

import pytest

from tlsconform.features import ClientFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.suite.helpers import MESSAGE, check, client_lives
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import AlertDescription, ContentType, KeyUpdateRequest
from tpmtls.wire.extensions import Extensions, PostHandshakeAuth, SignatureAlgorithms
from tpmtls.wire.messages import (
    Certificate,
    CertificateRequest,
    KeyUpdate,
    NewSessionTicket,
    decode_message,
)

A = AlertDescription
REQUESTED, NOT_REQUESTED = KeyUpdateRequest.update_requested, KeyUpdateRequest.update_not_requested
CONTEXT = b"after the handshake"


# -- tickets ---------------------------------------------------------------------------------------


@req("4.7.1-3", "4.7.1-5")
@pytest.mark.parametrize("count", [1, 2, 5])
def test_tickets(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures, count: int
) -> None:
    """A client takes several tickets, or passes them over: the connection goes on."""
    server.handshake()
    for number in range(count):
        server.say_ticket(nonce=bytes((number,)))
    client_lives(server, target, features.sends_data)


@req("4.7.1-5")
def test_tickets_in_one_record(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures
) -> None:
    """Several tickets may share a record."""
    server.handshake()
    server.wire.hold()
    for number in range(3):
        server.say_ticket(nonce=bytes((number,)))
    server.wire.release()
    client_lives(server, target, features.sends_data)


@req("4.7.1-11")
def test_ticket_before_the_clients_finished(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures
) -> None:
    """A ticket may come right after the server's Finished."""
    server.accept().flight()
    kept = server.transcript.fork()
    server.say(NewSessionTicket(7200, 1, b"\0", b"early ticket", Extensions()))
    server.transcript = kept
    server.complete()
    client_lives(server, target, features.sends_data)


# -- CertificateRequest ----------------------------------------------------------------------------


def ask(server: ScriptedServer, context: bytes = CONTEXT) -> None:
    """A CertificateRequest after the handshake; the transcript is ready for its answer."""
    schemes = SignatureAlgorithms(server.schemes_offered)
    server.request = CertificateRequest(context, Extensions((schemes,)))
    server.transcript = server.final.fork()
    server.say(server.request)


def read_answer(server: ScriptedServer, context: bytes = CONTEXT) -> Certificate:
    """Certificate, CertificateVerify where it has a certificate, and Finished."""
    answer = server.receive(Certificate)
    got = answer.certificate_request_context
    check(got == context, f"context {context.hex()}", got.hex(), "4.7.2-2")
    if answer.certificate_list:
        server.receive_certificate_verify(answer)
    server.receive_finished_under(server.client_secret)
    return answer


@req("4.7.2-6")
def test_request_without_extension(server: ScriptedServer) -> None:
    """A client that did not send post_handshake_auth refuses to be asked after the handshake."""
    server.handshake()
    if server.offer.extensions.get(PostHandshakeAuth) is not None:
        raise NotApplicable("the client offers post_handshake_auth")
    ask(server)
    server.expect_alert(A.unexpected_message)


@req("4.7.2-2", "4.7.2-5")
@needs("post_handshake_auth")
@pytest.mark.parametrize("context", [b"\0", CONTEXT, bytes(range(255))], ids=len)
def test_answer(server: ScriptedServer, context: bytes) -> None:
    """A request after the handshake is answered in its context, message after message."""
    server.handshake()
    ask(server, context)
    read_answer(server, context)


@req("4.7.2-3", "4.7.2-2")
@needs("post_handshake_auth", "client_certificate")
def test_answer_with_certificate(server: ScriptedServer) -> None:
    """A client with a certificate proves that it has the key, and says Finished."""
    server.handshake()
    ask(server)
    if not read_answer(server).certificate_list:
        raise NotApplicable("the client declines")


@req("4.7.2-4", "4.7.2-2")
@needs("post_handshake_auth")
def test_declined(server: ScriptedServer) -> None:
    """A client that declines sends an empty Certificate, and Finished without a CertificateVerify.

    No client has a certificate for a scheme that nobody knows.
    """
    server.handshake()
    unknown = SignatureAlgorithms((type(server.schemes_offered[0])(0xFE00),))
    server.request = CertificateRequest(CONTEXT, Extensions((unknown,)))
    server.transcript = server.final.fork()
    server.say(server.request)
    try:
        answer = read_answer(server)
    except NonConformance as finding:
        if finding.got.startswith("alert handshake_failure"):
            raise NotApplicable("the client gives up where no scheme is common") from None
        raise
    check(not answer.certificate_list, "an empty certificate_list", "a certificate", "4.7.2-4")


@req("4.7.2-5", "4.7.2-2")
@needs("post_handshake_auth")
def test_two_answers(server: ScriptedServer) -> None:
    """Answers to two requests at once do not mix."""
    server.handshake()
    ask(server, b"first")
    first, request = server.transcript, server.request
    ask(server, b"second")
    second, other = server.transcript, server.request
    server.transcript, server.request = first, request
    read_answer(server, b"first")
    server.transcript, server.request = second, other
    read_answer(server, b"second")


# -- KeyUpdate -------------------------------------------------------------------------------------


@req("4.7.3-1")
@pytest.mark.parametrize("value", [NOT_REQUESTED, REQUESTED], ids=lambda v: v.name)
@pytest.mark.parametrize("point", ["server_hello", "encrypted_extensions", "certificate_verify"])
def test_key_update_before_finished(
    server: ScriptedServer, point: str, value: KeyUpdateRequest
) -> None:
    """A KeyUpdate before the server's Finished is refused."""
    server.accept().hello()
    if point != "server_hello":
        server.encrypted_extensions()
    if point == "certificate_verify":
        server.authenticate()
    server.say(KeyUpdate(value))
    server.expect_alert(A.unexpected_message)


@req("4.7.3-4")
@pytest.mark.parametrize("value", [2, 3, 128, 255])
def test_bad_value(server: ScriptedServer, value: int) -> None:
    """A request_update that is neither 0 nor 1 is refused."""
    server.handshake()
    server.update_keys(value)
    server.expect_alert(A.illegal_parameter)


def data_and_updates(server: ScriptedServer) -> tuple[bytes, list[KeyUpdateRequest]]:
    """The client's next data, and the KeyUpdates before it, which are followed."""
    requests: list[KeyUpdateRequest] = []
    while True:
        record = server.next_record()
        if record is None or record.content_type is ContentType.alert:
            raise NonConformance("application data", "the end")
        if record.content_type is ContentType.application_data and record.fragment:
            return record.fragment, requests
        if record.content_type is ContentType.handshake:
            server.assembler.add(record.fragment)
            while (octets := server.assembler.next_message()) is not None:
                message = decode_message(octets)
                if isinstance(message, KeyUpdate):
                    requests.append(message.request_update)
                server.absorb(octets)


@req("4.7.3-5", "4.7.3-2", "4.7.3-7")
@needs("sends_data")
@pytest.mark.parametrize("rounds", [1, 2])
def test_key_update_answered(server: ScriptedServer, target: ClientTarget, rounds: int) -> None:
    """update_requested is answered under the old keys before more data, which has the next.

    The first data may have been on its way before the client saw the request.
    """
    server.handshake()
    for _ in range(rounds):
        server.update_keys(REQUESTED)
        requests: list[KeyUpdateRequest] = []
        for _ in range(3):
            if not requests:
                target.say(MESSAGE)
                requests = data_and_updates(server)[1]
        check(bool(requests), "a KeyUpdate before more data", "data alone")
        check(set(requests) == {NOT_REQUESTED}, "update_not_requested", requests)


@req("4.7.3-8", "5.2-3")
def test_next_keys_without_key_update(server: ScriptedServer) -> None:
    """Data under the next keys is refused where no KeyUpdate came before."""
    server.handshake()
    server.next_write_keys()
    server.send_data(MESSAGE)
    server.expect_alert(A.bad_record_mac)


@req("4.7.3-8", "4.7.3-7", "5.2-3")
def test_key_update_under_next_keys(server: ScriptedServer) -> None:
    """A KeyUpdate under the keys that it announces is refused."""
    server.handshake()
    server.next_write_keys()
    server.say(KeyUpdate(NOT_REQUESTED))
    server.expect_alert(A.bad_record_mac)


@req("4.7.3-3", "5.2-3")
def test_old_keys_after_key_update(server: ScriptedServer) -> None:
    """Data under the old keys is refused after a KeyUpdate."""
    server.handshake()
    server.say(KeyUpdate(NOT_REQUESTED))
    server.wire.send_records(ContentType.application_data, MESSAGE, "data under the old keys")
    server.expect_alert(A.bad_record_mac)
