"""Anything at all as input: an error or silence, nothing but TlsError, and bounded memory."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests import strategies
from tests.unit.scripted import ScriptedPeer
from tests.unit.scripted_client import ScriptedClient
from tests.unit.scripted_server import ScriptedServer
from tests.unit.support import client_config, client_credential, server_config, split_records, trust
from tpmtls.codepoints import ContentType
from tpmtls.connection import ClientConnection, Connection, ServerConnection
from tpmtls.record import CHANGE_CIPHER_SPEC_RECORD, MAX_CIPHERTEXT, MAX_HANDSHAKE_MESSAGE, Epoch
from tpmtls.tickets import SessionCache
from tpmtls.violations import PeerViolation, TlsError, Violation
from tpmtls.wire.extensions import Extensions, PostHandshakeAuth
from tpmtls.wire.messages import HandshakeMessage, NewSessionTicket

QUIET = {"tickets": 0}
HANDSHAKE, DATA = ContentType.handshake, ContentType.application_data


def _client(**config: Any) -> ClientConnection:
    return ClientConnection(client_config(**config))


def _server(**config: Any) -> ServerConnection:
    return ServerConnection(server_config(**QUIET, **config))


TARGETS: dict[str, Callable[[], Connection]] = {"client": _client, "server": _server}


def _feed(target: Connection, *pieces: bytes) -> None:
    """Deliver; the first error is a TlsError, and the target says one alert at most."""
    said: bytes = b""
    for piece in pieces:
        target.data_to_send()
        try:
            target.receive_data(piece)
        except TlsError:
            said = target.data_to_send()
            break
    kinds = [kind for kind, _ in split_records(said)]
    assert kinds.count(ContentType.alert) <= 1
    assert kinds[-1:] in ([], [ContentType.alert])


# -- octets ----------------------------------------------------------------------------------------


def _framed(kind: int, version: int, body: bytes) -> bytes:
    return bytes((kind,)) + version.to_bytes(2, "big") + len(body).to_bytes(2, "big") + body


RECORDS = st.builds(
    _framed,
    st.sampled_from([20, 21, 22, 23]) | st.integers(0, 255),
    st.sampled_from([0x0301, 0x0303]) | st.integers(0, 2**16 - 1),
    st.one_of(
        st.binary(max_size=300),
        strategies.messages().map(lambda message: message.to_octets()),
        strategies.alerts().map(lambda alert: alert.encode()),
        st.just(b"\1"),
    ),
)


@pytest.mark.parametrize("role", TARGETS)
@given(pieces=st.lists(st.binary(min_size=1, max_size=400), max_size=5))
def test_arbitrary_octets(role: str, pieces: list[bytes]) -> None:
    _feed(TARGETS[role](), *pieces)


@pytest.mark.parametrize("role", TARGETS)
@settings(max_examples=3 * settings().max_examples)
@given(records=st.lists(RECORDS, min_size=1, max_size=5))
def test_arbitrary_records_and_messages(role: str, records: list[bytes]) -> None:
    _feed(TARGETS[role](), *records)


# -- messages, under the right keys, in every state ------------------------------------------------


def _scripted_server() -> ScriptedServer:
    config = {"post_handshake_auth": True, "credentials": (client_credential(),)}
    return ScriptedServer(_client(**config, session_cache=SessionCache())).accept()


def _scripted_client() -> ScriptedClient:
    asks = {"client_trust": trust(), "request_client_certificate": True}
    return ScriptedClient(_server(**asks), more=(PostHandshakeAuth(),)).hello()


STATES: dict[str, Callable[[], ScriptedPeer]] = {
    "client-server-hello": _scripted_server,
    "client-encrypted-extensions": lambda: _scripted_server().hello(),
    "client-certificate": lambda: _scripted_server().hello().encrypted_extensions(),
    "client-connected": lambda: (
        _scripted_server().hello().encrypted_extensions().authenticate().finish().complete()
    ),
    "server-certificate": lambda: _scripted_client().read_flight(),
    "server-connected": lambda: _scripted_client().read_flight().authenticate().finish(),
}


@pytest.mark.parametrize("state", STATES)
@settings(max_examples=2 * settings().max_examples)
@given(messages=st.lists(strategies.messages(), min_size=1, max_size=3))
def test_arbitrary_messages_in_any_state(state: str, messages: list[HandshakeMessage]) -> None:
    peer = STATES[state]()
    peer.target.data_to_send()
    try:
        for message in messages:
            peer.send(message)
    except TlsError:
        assert peer.target.closed


@pytest.mark.parametrize("state", STATES)
@given(inner=st.binary(max_size=100))
def test_arbitrary_inner_plaintext_in_any_state(state: str, inner: bytes) -> None:
    peer = STATES[state]()
    peer.target.data_to_send()
    try:
        if peer.writer.epoch is Epoch.INITIAL:
            peer.send_record(HANDSHAKE, inner)
        else:
            peer.send_inner(inner)
    except TlsError:
        assert peer.target.closed


# -- memory ----------------------------------------------------------------------------------------

MAX_HELD = MAX_HANDSHAKE_MESSAGE + MAX_CIPHERTEXT + 5


def _held(target: Connection) -> int:
    """Octets that wait inside, and what the user has not fetched, an event as one octet."""
    return (
        len(target._reader._buffer)
        - target._reader._position
        + len(target._assembler._buffer)
        + len(target._outgoing)
        + len(target._events)
    )


def _endless(role: str, state: str) -> ScriptedPeer:
    if role == "client":
        server = ScriptedServer(_client()).accept()
        return server if state == "start" else server.hello()
    client = ScriptedClient(_server())
    return client if state == "start" else client.hello().read_flight()


def _send_unfinished(peer: ScriptedPeer, size: int) -> None:
    peer.send_record(HANDSHAKE, b"\x0b" + size.to_bytes(3, "big"))
    for _ in range(2**17 // 2**14):
        peer.send_record(HANDSHAKE, bytes(2**14))
        assert _held(peer.target) <= MAX_HELD


@pytest.mark.parametrize("role", TARGETS)
@pytest.mark.parametrize("state", ["start", "handshake"])
@pytest.mark.parametrize("size", [2**17 - 4, 2**17 - 3, 2**24 - 1])
def test_an_unfinished_message_is_kept_up_to_a_bound(role: str, state: str, size: int) -> None:
    peer = _endless(role, state)
    peer.target.data_to_send()
    peer.target.events()
    with pytest.raises(PeerViolation) as caught:
        _send_unfinished(peer, size)
    too_long = caught.value.violation is Violation.MESSAGE_TOO_LONG
    assert too_long == (size + 4 > MAX_HANDSHAKE_MESSAGE)
    assert _held(peer.target) <= MAX_HELD


@pytest.mark.parametrize("role", TARGETS)
def test_a_message_may_trickle_in_but_not_grow(role: str) -> None:
    peer = _endless(role, "handshake")
    peer.target.data_to_send()
    peer.send_record(HANDSHAKE, b"\x0b\0\xff\xff")
    for _ in range(1000):
        peer.send_record(HANDSHAKE, b"x")
    assert _held(peer.target) == 1004


@pytest.mark.parametrize("role", TARGETS)
def test_an_unfinished_record_is_kept_up_to_its_length(role: str) -> None:
    target = TARGETS[role]()
    target.data_to_send()
    target.receive_data(b"\x16\x03\x01\x40\x00")
    for _ in range(2**14 - 1):
        target.receive_data(b"\x01")
    assert _held(target) == 2**14 + 4


def _repeat_forever(peer: ScriptedPeer, send: Callable[[], None]) -> None:
    peer.target.data_to_send()
    peer.target.events()
    for _ in range(500):
        send()
    assert _held(peer.target) <= 2, "the events of the handshake at most"


@pytest.mark.parametrize("role", TARGETS)
def test_what_may_come_without_end_is_not_kept(role: str) -> None:
    def start() -> Any:
        return (
            ScriptedServer(_client()).accept()
            if role == "client"
            else ScriptedClient(_server()).hello().read_flight()
        )

    peer = start()
    _repeat_forever(peer, lambda: peer.target.receive_data(CHANGE_CIPHER_SPEC_RECORD))
    connected = (
        ScriptedServer(_client()).handshake()
        if role == "client"
        else ScriptedClient(_server()).handshake()
    )
    _repeat_forever(connected, lambda: connected.send_record(DATA, b""))
    _repeat_forever(connected, lambda: connected.send_inner(b"\x17" + bytes(2**14)))


def test_tickets_and_requests_without_end_are_bounded() -> None:
    cache = SessionCache()
    peer = ScriptedServer(_client(session_cache=cache)).handshake()
    for number in range(100):
        peer.send(NewSessionTicket(1000, 0, b"", b"%d" % number, Extensions()))
        peer.target.events()
    assert len(cache) == 8
