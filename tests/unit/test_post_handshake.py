"""After the handshake: KeyUpdate, authentication on request, and tickets, in both roles."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.misbehaviour import Case
from tests.unit.scripted import ScriptedPeer, changing, dropping
from tests.unit.scripted_client import ScriptedClient
from tests.unit.scripted_server import ScriptedServer
from tests.unit.support import (
    Clock,
    Pair,
    WatchedBackend,
    client_config,
    client_credential,
    count,
    data_in,
    handshake,
    server_config,
    split_records,
    trust,
)
from tpmtls.algorithms import SUITES
from tpmtls.codepoints import ContentType, ExtensionType, KeyUpdateRequest
from tpmtls.config import ExternalPsk
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.events import CertificateRequested, ClientAuthenticated, KeyUpdated
from tpmtls.handshake.post_handshake import ClientConnected
from tpmtls.key_schedule import next_generation
from tpmtls.record import Epoch
from tpmtls.tickets import TicketKeys
from tpmtls.violations import ConnectionStateError
from tpmtls.violations import Violation as V
from tpmtls.wire.extensions import PostHandshakeAuth
from tpmtls.wire.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    Finished,
    KeyUpdate,
)

TYPE = ExtensionType
NO, YES = KeyUpdateRequest.update_not_requested, KeyUpdateRequest.update_requested
WILLING: dict[str, Any] = {"post_handshake_auth": True, "credentials": (client_credential(),)}
QUIET = {"tickets": 0}


# -- KeyUpdate -------------------------------------------------------------------------------------


def _both(script: Any, violation: V, **config: Any) -> dict[str, Case]:
    """The same misbehaviour in both roles."""
    after = Case(violation, {}, lambda peer: script(peer.handshake()), config=config)
    return {"client": after, "server": replace(after, config={**QUIET, **config})}


def _old_key(peer: ScriptedPeer) -> None:
    peer.send_record(ContentType.handshake, KeyUpdate(NO).to_octets())
    peer.send_record(ContentType.application_data, b"under the old key")


def _new_key_too_early(peer: ScriptedPeer) -> None:
    secret = getattr(peer, peer.writes)
    peer.rekey_write(Epoch.APPLICATION, next_generation(peer.backend, secret))
    peer.send_record(ContentType.application_data, b"under the new key")


def _not_aligned(peer: ScriptedPeer) -> None:
    peer.send(KeyUpdate(NO), KeyUpdate(NO))


KEY_UPDATE = {
    "request-2": _both(lambda peer: peer.update_keys(2), V.KEY_UPDATE_REQUEST),
    "request-255": _both(lambda peer: peer.update_keys(255), V.KEY_UPDATE_REQUEST),
    "empty": _both(lambda peer: peer.send(b"\x18\0\0\0"), V.TRUNCATED),
    "long": _both(lambda peer: peer.send(b"\x18\0\0\2\0\0"), V.TRAILING_DATA),
    "old-key": _both(_old_key, V.BAD_RECORD_MAC),
    "new-key-too-early": _both(_new_key_too_early, V.BAD_RECORD_MAC),
    "two-in-a-record": _both(_not_aligned, V.NOT_ALIGNED),
}


@pytest.mark.req("4.7.3-4", "4.7.3-8", "5.1-6", "5.1-7")
@pytest.mark.parametrize("name", KEY_UPDATE)
def test_a_wrong_key_update_is_refused(name: str) -> None:
    KEY_UPDATE[name]["client"].against_client()
    KEY_UPDATE[name]["server"].against_server()


@pytest.mark.req("4.7.3-3", "4.7.3-5", "4.7.3-7")
def test_a_requested_key_update_is_sent_once_and_before_the_next_data() -> None:
    peer = ScriptedServer(ClientConnection(client_config())).handshake()
    for _ in range(3):
        peer.update_keys(YES)
    assert peer.next_record() is None, "nothing is due before data is sent"
    peer.target.send_data(b"data")
    assert peer.follow_key_update() is NO
    assert peer.receive_data() == b"data"
    peer.target.send_data(b"more")
    assert peer.receive_data() == b"more"


@pytest.mark.req("4.7.3-6")
def test_no_second_request_goes_out_before_the_peer_has_answered() -> None:
    peer = ScriptedClient(ServerConnection(server_config(**QUIET))).handshake()
    for expected in (YES, NO, NO):
        peer.target.update_keys(request_peer=True)
        assert peer.follow_key_update() is expected
    peer.update_keys()
    peer.target.update_keys(request_peer=True)
    assert peer.follow_key_update() is YES


@pytest.mark.parametrize("times", [1, 5])
def test_both_ends_update_their_keys(times: int) -> None:
    pair = handshake()
    for _ in range(times):
        pair.client.update_keys(request_peer=True)
        pair.exchange()
        pair.talk()
        pair.server.update_keys()
        pair.talk()
    for events in (pair.client_events, pair.server_events):
        directions = [e.direction for e in events if isinstance(e, KeyUpdated)]
        assert (directions.count("read"), directions.count("write")) in (
            (2 * times, times),
            (times, 2 * times),
        )


def test_key_updates_that_cross_are_both_taken() -> None:
    pair = handshake()
    pair.client.update_keys(request_peer=True)
    pair.server.update_keys(request_peer=True)
    pair.exchange()
    pair.talk()
    pair.talk()


@pytest.mark.req("5.5-1", "5.3-2", "1.2-1")
@pytest.mark.parametrize(("limit", "updates"), [(1, 40), (5, 39), (10, 6)])
def test_a_key_update_starts_by_itself_before_the_limit_of_the_key(
    limit: int, updates: int
) -> None:
    client = client_config(max_records_per_key=limit)
    pair = Pair(client, server_config(**QUIET)).complete()
    for _ in range(20):
        pair.client.send_data(b"x")
    pair.client.send_data(bytes(2**14) * 20)
    pair.exchange()
    assert data_in(pair.server_events) == b"x" * 20 + bytes(2**14) * 20
    assert count(pair.server_events, KeyUpdated) == updates
    pair.talk()


@pytest.mark.req("4.7.3-9", "4.7.3-11", "4.7.3-12")
def test_no_key_update_is_sent_past_the_last_generation() -> None:
    pair = handshake(tickets=0)
    state = pair.client._state
    assert isinstance(state, ClientConnected)
    pair.client._state = replace(state, key_updates=2**48 - 2)
    pair.client.update_keys()
    pair.talk()
    pair.server.update_keys(request_peer=True)
    pair.exchange()
    pair.client.update_keys()
    assert pair.client.data_to_send() == b""
    pair.talk()


@pytest.mark.req("5.5-1", "5.3-2")
def test_a_key_that_cannot_be_renewed_is_not_used_up() -> None:
    pair = handshake(tickets=0)
    state = pair.client._state
    assert isinstance(state, ClientConnected)
    pair.client._state = replace(state, key_updates=2**48 - 1)
    pair.client._writer._sequence = SUITES[pair.info.suite].record_limit - 5
    pair.client.send_data(b"the last record")
    with pytest.raises(ConnectionStateError):
        pair.client.send_data(b"one too many")
    assert split_records(pair.client.data_to_send()) != []
    pair.client.close()
    assert pair.client.data_to_send()


@pytest.mark.req("4.7.3-10", "5.5-3")
def test_a_receiver_does_not_count_the_peers_key_updates_nor_its_records() -> None:
    pair = handshake(tickets=0)
    pair.server._reader._sequence = pair.client._writer._sequence = 2**40
    pair.talk()
    for _ in range(300):
        pair.client.update_keys()
    pair.exchange()
    pair.talk()


@pytest.mark.req("4.7.3-1", "4.7.3-2")
def test_keys_are_not_updated_before_the_handshake_is_complete() -> None:
    for connection in (ClientConnection(client_config()), ServerConnection(server_config())):
        with pytest.raises(ConnectionStateError):
            connection.update_keys()


# -- authentication on request ---------------------------------------------------------------------


def _asking(**server: Any) -> ScriptedClient:
    config = server_config(client_trust=trust(), **QUIET, **server)
    peer = ScriptedClient(ServerConnection(config, WatchedBackend()), more=(PostHandshakeAuth(),))
    peer.credential = client_credential()
    return peer.handshake()


@pytest.mark.req("4.7.2-1", "4.7.2-2", "4.7.2-3", "4.7.2-5", "4.4.2-3", "4.4.2-5")
def test_a_client_authenticates_when_it_is_asked() -> None:
    pair = Pair(client_config(**WILLING), server_config(client_trust=trust())).complete()
    for _ in range(3):
        pair.server.request_client_certificate()
        pair.exchange()
        pair.talk()
    chain = client_credential().chain
    assert pair.client_events.count(CertificateRequested(authenticated=True)) == 3
    assert pair.server_events.count(ClientAuthenticated(chain)) == 3


@pytest.mark.req("4.7.2-4", "4.5.1-3")
def test_a_client_without_a_certificate_declines() -> None:
    pair = handshake(post_handshake_auth=True, client_trust=trust())
    pair.server.request_client_certificate()
    pair.exchange()
    assert CertificateRequested(authenticated=False) in pair.client_events
    assert ClientAuthenticated(()) in pair.server_events
    pair.talk()


@pytest.mark.req("4.3.6-1")
def test_a_client_that_is_not_willing_is_not_asked() -> None:
    pair = handshake()
    with pytest.raises(ConnectionStateError):
        pair.server.request_client_certificate()
    pair = Pair(client_config(post_handshake_auth=True))
    with pytest.raises(ConnectionStateError):
        pair.server.request_client_certificate()


@pytest.mark.req("4.7.2-7")
def test_several_requests_may_be_open_and_are_answered_in_any_order() -> None:
    peer = _asking()
    for _ in range(16):
        peer.target.request_client_certificate()
    with pytest.raises(ConnectionStateError):
        peer.target.request_client_certificate()
    requests = []
    for _ in range(16):
        request = peer.read_request()
        requests.append((peer.transcript, request.certificate_request_context))
    assert len({context for _, context in requests}) == 16
    peer.update_keys()
    for transcript, context in reversed(requests):
        peer.transcript = transcript
        peer.send_record(ContentType.application_data, b"between answers")
        peer.say_certificate("client", context)
        peer.say_finished(peer.client_secret)
    events = peer.target.events()
    assert count(events, ClientAuthenticated) == 16
    assert data_in(events) == b"between answers" * 16
    peer.target.request_client_certificate()


@pytest.mark.req("4.7.3-5", "4.7.2-5")
def test_the_server_goes_on_while_an_answer_comes_in() -> None:
    peer = _asking()
    peer.target.request_client_certificate()
    context = peer.read_request().certificate_request_context
    peer.update_keys(YES)

    def meanwhile(message: CertificateVerify) -> CertificateVerify:
        peer.target.send_data(b"data")
        return message

    peer.edits[CertificateVerify] = meanwhile
    peer.say_certificate("client", context)
    assert peer.follow_key_update() is NO
    assert peer.receive_data() == b"data"
    peer.target.send_tickets()
    peer.target.request_client_certificate()
    peer.target.update_keys()
    peer.say_finished(peer.client_secret)
    assert count(peer.target.events(), ClientAuthenticated) == 1
    peer.read_ticket()
    peer.read_request()
    peer.follow_key_update()
    peer.target.send_data(b"more")
    assert peer.receive_data() == b"more"


def test_a_ticket_remembers_the_last_certificate_and_declining_changes_nothing() -> None:
    clock, keys = Clock(), TicketKeys()
    peer = _asking(clock=clock, ticket_keys=keys)
    for credential in (client_credential(), None):
        clock.advance(1000)
        peer.target.request_client_certificate()
        peer.credential = credential
        peer.say_certificate("client", peer.read_request().certificate_request_context)
        peer.say_finished(peer.client_secret)
    peer.target.send_tickets()
    ticket = keys.open(peer.read_ticket().identity, clock())
    assert ticket is not None
    assert ticket.client_chain == client_credential().chain
    assert ticket.authenticated_at == int((clock() - 1000) * 1000)


def _answering(violation: V, script: Any, **config: Any) -> Case:
    def run(peer: ScriptedClient) -> None:
        peer.handshake()
        peer.target.request_client_certificate()
        context = peer.read_request().certificate_request_context
        peer.credential = client_credential()
        script(peer, context)

    return Case(
        violation,
        {},
        run,
        {"client_trust": trust(), **QUIET, **config},
        {"more": (PostHandshakeAuth(),)},
    )


def _data_amid(peer: ScriptedClient, context: bytes) -> None:
    peer.say_certificate("client", context)
    peer.send_record(ContentType.application_data, b"amid")


def _key_update_amid(peer: ScriptedClient, context: bytes) -> None:
    peer.say_certificate("client", context)
    peer.update_keys()


def _answered_twice(peer: ScriptedClient, context: bytes) -> None:
    transcript = peer.transcript.fork()
    peer.say_certificate("client", context)
    peer.say_finished(peer.client_secret)
    peer.target.request_client_certificate()
    peer.next_message()
    peer.transcript = transcript
    peer.say_certificate("client", context)


def _declined_this_time(peer: ScriptedClient) -> None:
    """After a handshake with the certificate that is required."""
    peer.credential = client_credential()
    peer.handshake()
    peer.target.request_client_certificate()
    peer.credential = None
    peer.say_certificate("client", peer.read_request().certificate_request_context)


def _unproved(peer: ScriptedClient, context: bytes) -> None:
    peer.edits[CertificateVerify] = lambda message: None
    peer.say_certificate("client", context)
    peer.say_finished(peer.client_secret)


def _wrong_proof(peer: ScriptedClient, context: bytes) -> None:
    peer.edits[CertificateVerify] = changing(signature=bytes(64))
    peer.say_certificate("client", context)


def _wrong_finished(peer: ScriptedClient, context: bytes) -> None:
    peer.say_certificate("client", context)
    peer.send(Finished(bytes(32)))


FROM_CLIENT = {
    "unasked": Case(
        V.UNEXPECTED_MESSAGE, {}, lambda peer: peer.handshake().say_certificate("client"), QUIET
    ),
    "context": _answering(
        V.REQUEST_CONTEXT, lambda peer, context: peer.say_certificate("client", b"other")
    ),
    "answered-twice": _answering(V.REQUEST_CONTEXT, _answered_twice),
    "data-amid": _answering(V.PREMATURE_APPLICATION_DATA, _data_amid),
    "key-update-amid": _answering(V.UNEXPECTED_MESSAGE, _key_update_amid),
    "declined-but-required": Case(
        V.CLIENT_CERTIFICATE_REQUIRED,
        {},
        _declined_this_time,
        {"client_trust": trust(), "require_client_certificate": True, **QUIET},
        {"more": (PostHandshakeAuth(),)},
    ),
    "unproved": _answering(V.UNEXPECTED_MESSAGE, _unproved),
    "signature": _answering(V.SIGNATURE_INVALID, _wrong_proof),
    "finished": _answering(V.FINISHED_INVALID, _wrong_finished),
}


@pytest.mark.req("4.7.2-5", "4.5.1.3-2", "4.5.2-9", "4.5.3-2")
@pytest.mark.parametrize("name", FROM_CLIENT)
def test_a_wrong_answer_to_a_request_is_refused(name: str) -> None:
    FROM_CLIENT[name].against_server()


def _ask(peer: ScriptedServer, context: bytes = b"context") -> None:
    peer.begin_authentication()
    peer.request(context=context)


def _ask_twice(peer: ScriptedServer) -> None:
    for _ in range(2):
        _ask(peer)
        peer.receive(Certificate)
        peer.receive(CertificateVerify)
        peer.receive_finished(peer.client_secret)


def _ask_forever(peer: ScriptedServer) -> None:
    for number in range(257):
        _ask(peer, b"%d" % number)
        while peer.next_record() is not None:
            pass


FROM_SERVER = {
    "unwilling": Case(V.UNASKED_CERTIFICATE_REQUEST, {}, lambda peer: _ask(peer.handshake())),
    "external-psk": Case(
        V.REQUEST_UNDER_EXTERNAL_PSK,
        {},
        lambda peer: _ask(peer.handshake()),
        WILLING | {"psks": (ExternalPsk(b"the identity", bytes(32)),)},
        {"psk": bytes(32)},
    ),
    "same-context": Case(
        V.REPEATED_REQUEST_CONTEXT, {}, lambda peer: _ask_twice(peer.handshake()), WILLING
    ),
    "forever": Case(
        V.TOO_MANY_MESSAGES,
        {},
        lambda peer: _ask_forever(peer.handshake()),
        {"post_handshake_auth": True},
    ),
    "no-schemes": Case(
        V.REQUEST_WITHOUT_SIGNATURE_ALGORITHMS,
        {CertificateRequest: dropping(TYPE.signature_algorithms)},
        lambda peer: _ask(peer.handshake()),
        WILLING,
    ),
}


@pytest.mark.req("4.7.2-6", "4.4.2-3", "4.4.2-6", "4.4.2-10", "F.1-1")
@pytest.mark.parametrize("name", FROM_SERVER)
def test_a_wrong_request_is_refused(name: str) -> None:
    FROM_SERVER[name].against_client()
