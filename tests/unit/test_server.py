"""A server after the first ClientHello: the second one, and the flights that follow."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.misbehaviour import Case
from tests.unit.scripted import SUITE, adding, changing, dropping
from tests.unit.scripted_client import OfferedKey, ScriptedClient
from tests.unit.support import assert_dead, client_config, server_config, split_records
from tpmtls.algorithms import SUITES
from tpmtls.codepoints import (
    AlertDescription,
    CipherSuite,
    ContentType,
    ExtensionType,
    NamedGroup,
    ProtocolVersion,
    PskKeyExchangeMode,
)
from tpmtls.config import ExternalPsk
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.handshake.post_handshake import MAX_TICKET_CHAIN, ServerConnected
from tpmtls.violations import ConnectionStateError, PeerAlert
from tpmtls.violations import Violation as V
from tpmtls.wire.extensions import (
    Cookie,
    EarlyDataIndication,
    Extensions,
    KeyShareClientHello,
    KeyShareEntry,
    KeyShareServerHello,
    MaxEarlyData,
    OfferedPsks,
    Padding,
    PostHandshakeAuth,
    PskIdentity,
    PskKeyExchangeModes,
    SupportedGroups,
    UnknownExtension,
)
from tpmtls.wire.messages import ClientHello, NewSessionTicket, ServerHello, decode_message

G, TYPE = NamedGroup, ExtensionType
KEY = OfferedKey(b"the identity", bytes(range(32)))
KNOWN = (ExternalPsk(KEY.identity, KEY.key),)
RETRY = {"groups": (G.secp256r1,)}
"""The server's groups, and a client's that make it ask for a share."""
PEER: dict[str, Any] = {"groups": (G.x25519, G.secp256r1), "share_groups": (G.x25519,)}


def _second(violation: V, edit: Any, *, peer: Any = None, **config: Any) -> Case:
    def script(client: ScriptedClient) -> None:
        client.hello().hello_again(edit).read_flight().finish()

    return Case(violation, {}, script, RETRY | config, PEER | (peer or {}))


def _shares(*groups: NamedGroup) -> Any:
    entries = tuple(KeyShareEntry(group, bytes(65)) for group in groups)
    return adding(KeyShareClientHello(entries))


def _with_psk(message: Any) -> Any:
    identities = (PskIdentity(b"new", 0),)
    offered = OfferedPsks(identities, (bytes(32),))
    return replace(message, extensions=Extensions((*message.extensions, offered))).to_octets()


CASES = {
    "random": _second(V.CLIENT_HELLO_CHANGED, changing(random=bytes(32))),
    "session-id": _second(V.CLIENT_HELLO_CHANGED, changing(legacy_session_id=b"other")),
    "suites": _second(
        V.CLIENT_HELLO_CHANGED,
        changing(cipher_suites=(SUITE, CipherSuite.TLS_AES_256_GCM_SHA384)),
    ),
    "extension-gone": _second(V.CLIENT_HELLO_CHANGED, dropping(TYPE.server_name)),
    "extension-new": _second(V.CLIENT_HELLO_CHANGED, adding(PostHandshakeAuth())),
    "extension-unknown": _second(
        V.CLIENT_HELLO_CHANGED, adding(UnknownExtension(TYPE(0x1A1A), b""))
    ),
    "extension-changed": _second(
        V.CLIENT_HELLO_CHANGED, adding(SupportedGroups((G.secp256r1, G.x25519)))
    ),
    "psk-new": _second(V.CLIENT_HELLO_CHANGED, _with_psk),
    "legacy-version": _second(
        V.CLIENT_LEGACY_VERSION, changing(legacy_version=ProtocolVersion.TLS_1_1)
    ),
    "cookie-gone": _second(V.COOKIE_MISMATCH, dropping(TYPE.cookie), retry_with_cookie=True),
    "cookie-other": _second(V.COOKIE_MISMATCH, adding(Cookie(b"another")), retry_with_cookie=True),
    "cookie-unasked": _second(V.COOKIE_MISMATCH, adding(Cookie(b"one"))),
    "share-of-old": _second(V.RETRIED_SHARE_MISSING, _shares(G.x25519)),
    "share-besides": _second(V.RETRIED_SHARE_MISSING, _shares(G.secp256r1, G.x25519)),
    "share-gone": _second(V.RETRIED_SHARE_MISSING, _shares()),
    "share-invalid": _second(V.INVALID_POINT, _shares(G.secp256r1)),
    "early-data": _second(
        V.EARLY_DATA_AFTER_RETRY, adding(EarlyDataIndication()), peer={"psks": (KEY,)}
    ),
    "data-not-offered": Case(
        V.PREMATURE_APPLICATION_DATA,
        {},
        lambda peer: _data_in_clear(peer.hello()),
        RETRY,
        PEER,
    ),
    "binder": Case(
        V.BINDER_INVALID,
        {},
        lambda peer: _break_binders(peer.hello()).hello_again(),
        RETRY | {"psks": KNOWN},
        PEER | {"psks": (KEY,)},
    ),
}


def _data_in_clear(peer: ScriptedClient) -> None:
    peer.next_message()
    peer.send_record(ContentType.application_data, b"not early data, for none was offered")


def _break_binders(peer: ScriptedClient) -> ScriptedClient:
    peer.edits[OfferedPsks] = lambda body: replace(body, binders=(bytes(32),))
    return peer


@pytest.mark.req("4.2.2-2", "4.3.2-2", "4.3.8-16", "4.3.10-7", "4.3.11-10")
@pytest.mark.parametrize("name", CASES)
def test_a_wrong_second_client_hello_is_refused(name: str) -> None:
    CASES[name].against_server()


# -- HelloRetryRequest -----------------------------------------------------------------------------


@pytest.mark.req("4.2.1-3", "4.2.4-1", "4.2.4-2", "4.2.4-3", "4.2.4-9", "4.3.2-1", "4.3.8-19")
@pytest.mark.parametrize("cookie", [False, True])
def test_a_client_without_the_share_is_asked_for_it(cookie: bool) -> None:
    config = server_config(**RETRY, retry_with_cookie=cookie)
    client = ScriptedClient(ServerConnection(config), **PEER).hello().hello_again()
    assert client.retry.cipher_suite is SUITE
    assert client.retry.legacy_session_id_echo == client.first.legacy_session_id
    kinds = [TYPE.supported_versions, TYPE.key_share, *[TYPE.cookie] * cookie]
    assert [body.extension_type for body in client.retry.extensions] == kinds
    client.read_flight().finish()
    assert client.answer.cipher_suite is SUITE
    assert client.target.info is not None
    assert client.target.info.group is G.secp256r1


def test_padding_may_change_in_the_second_client_hello() -> None:
    client = ScriptedClient(ServerConnection(server_config(**RETRY)), **PEER)
    client.hello().hello_again(adding(Padding(bytes(10)))).read_flight().finish()
    assert client.target.handshake_complete


@pytest.mark.req("4.2.4-11")
@pytest.mark.parametrize("kept", [True, False])
def test_a_psk_may_survive_a_retry_or_be_dropped(kept: bool) -> None:
    config = server_config(**RETRY, psks=KNOWN)
    client = ScriptedClient(ServerConnection(config), **PEER, psks=(KEY,)).hello()
    if not kept:
        client.psks = ()
    client.hello_again().read_flight().finish()
    assert client.target.info is not None
    assert client.target.info.psk == ("external" if kept else None)


def test_after_a_retry_psk_ke_needs_no_group_either() -> None:
    mode = (PskKeyExchangeMode.psk_ke,)
    config = server_config(**RETRY, psks=KNOWN, psk_modes=mode)
    stranger = OfferedKey(b"a stranger", bytes(32))
    client = ScriptedClient(ServerConnection(config), **PEER, psks=(stranger,), modes=mode).hello()
    client.psks = (KEY,)
    client.hello_again().read_flight().finish()
    assert client.target.info is not None
    assert (client.target.info.psk, client.target.info.group) == ("external", None)


# -- the server's flight ---------------------------------------------------------------------------


@pytest.mark.req("4.2.3-1", "4.2.3-8", "4.2.3-10", "4.2.3-11", "4.3.1-13", "4.3.1-14", "4.2.3-5")
def test_the_server_hello_holds_what_it_must_and_no_more() -> None:
    config = server_config(groups=(G.x25519,))
    client = ScriptedClient(ServerConnection(config)).handshake()
    answer = client.answer
    assert answer.legacy_version is ProtocolVersion.TLS_1_2
    assert answer.legacy_session_id_echo == client.first.legacy_session_id
    assert answer.legacy_compression_method == 0
    assert answer.random != client.first.random
    kinds = [body.extension_type for body in answer.extensions]
    assert kinds == [TYPE.supported_versions, TYPE.key_share]
    assert client.parameters.extensions.types == {TYPE.server_name}


@pytest.mark.req("4.3.8-12", "4.3.8-13", "4.2.3-5")
def test_the_same_client_hello_gets_another_share_and_another_random_each_time() -> None:
    hello = ClientConnection(client_config()).data_to_send()
    answers = []
    for _ in range(3):
        server = ServerConnection(server_config())
        server.receive_data(hello)
        answer = decode_message(split_records(server.data_to_send())[0][1])
        assert isinstance(answer, ServerHello)
        share = answer.extensions.get(KeyShareServerHello)
        assert share is not None
        answers.append((answer.random, share.server_share.key_exchange))
    assert len({random for random, _ in answers}) == len({share for _, share in answers}) == 3


@pytest.mark.req("4.5.3-3", "2-2")
def test_a_server_may_send_data_before_the_client_has_answered() -> None:
    client = ScriptedClient(ServerConnection(server_config(tickets=0)))
    with pytest.raises(ConnectionStateError):
        client.target.send_data(b"too early")
    client.hello()
    client.target.send_data(b"half a round trip")
    client.read_flight()
    assert client.receive_data() == b"half a round trip"
    client.finish()
    assert client.target.handshake_complete


def test_a_client_without_keys_may_answer_the_flight_with_an_alert_in_clear() -> None:
    client = ScriptedClient(ServerConnection(server_config())).hello()
    client.target.data_to_send()
    with pytest.raises(PeerAlert) as caught:
        client.send_record(ContentType.alert, b"\x02\x28")
    assert caught.value.description is AlertDescription.handshake_failure
    assert client.target.data_to_send() == b"", "an alert is not answered"
    assert_dead(client.target, caught.value)


@pytest.mark.req("4.7.1-5", "4.7.1-16")
@pytest.mark.parametrize("number", [0, 1, 5])
def test_the_server_gives_as_many_tickets_as_it_is_told_to(number: int) -> None:
    client = ScriptedClient(ServerConnection(server_config(tickets=number))).handshake()
    tickets = [client.read_ticket() for _ in range(number)]
    assert client.next_record() is None
    assert len({ticket.key for ticket in tickets}) == number
    assert len({ticket.age for ticket in tickets}) == number
    client.target.send_tickets(2)
    assert client.read_ticket().key != client.read_ticket().key


@pytest.mark.req("4.3.9-5")
def test_a_client_that_could_not_use_a_ticket_gets_none() -> None:
    for edit in (
        dropping(TYPE.psk_key_exchange_modes),
        adding(PskKeyExchangeModes((PskKeyExchangeMode.psk_ke,))),
    ):
        client = ScriptedClient(ServerConnection(server_config()), {ClientHello: edit}).handshake()
        client.target.send_tickets()
        assert client.next_record() is None


@pytest.mark.req("4.7.1-12")
@pytest.mark.parametrize("reason", ["lifetime", "chain"])
def test_a_ticket_that_would_be_of_no_use_is_not_given(reason: str) -> None:
    config = server_config(tickets=0, ticket_lifetime=0 if reason == "lifetime" else 1)
    client = ScriptedClient(ServerConnection(config)).handshake()
    state = client.target._state
    assert isinstance(state, ServerConnected)
    if reason == "chain":
        client.target._state = replace(state, client_chain=(bytes(MAX_TICKET_CHAIN),))
        client.target.send_tickets()
        client.read_ticket()
        client.target._state = replace(state, client_chain=(bytes(MAX_TICKET_CHAIN + 1),))
    client.target.send_tickets()
    assert client.next_record() is None


@pytest.mark.parametrize("most", [0, 1, 2**32 - 1])
def test_a_ticket_names_early_data_where_it_is_permitted(most: int) -> None:
    client = ScriptedClient(ServerConnection(server_config(max_early_data=most))).handshake()
    ticket, _ = client.next_message()
    assert isinstance(ticket, NewSessionTicket)
    assert ticket.extensions == ((MaxEarlyData(most),) if most else ())


def test_a_connection_has_as_many_tickets_as_there_are_nonces() -> None:
    client = ScriptedClient(ServerConnection(server_config(tickets=0))).handshake()
    state = client.target._state
    assert isinstance(state, ServerConnected)
    client.target._state = replace(state, tickets_sent=2**16 - 1)
    client.target.send_tickets(3)
    client.read_ticket()
    assert client.next_record() is None


@pytest.mark.req("5.5-1")
def test_a_server_that_still_waits_for_the_client_stops_before_the_end_of_its_key() -> None:
    client = ScriptedClient(ServerConnection(server_config(max_records_per_key=1))).hello()
    client.target.send_data(b"a limit of ours is passed while keys cannot be renewed")
    client.target._writer._sequence = SUITES[SUITE].record_limit - 4
    with pytest.raises(ConnectionStateError):
        client.target.send_data(b"that of the cipher is not")
