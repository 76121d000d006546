"""How a connection ends: close_notify, user_canceled, error alerts, truncation."""

from __future__ import annotations

import logging
from typing import Any

import pytest

from tests.unit.scripted import SUITE
from tests.unit.scripted_client import ScriptedClient
from tests.unit.scripted_server import ScriptedServer
from tests.unit.support import (
    Pair,
    WatchedBackend,
    assert_dead,
    client_config,
    credential,
    data_in,
    handshake,
    server_config,
    split_records,
)
from tpmtls.codepoints import (
    AlertDescription,
    AlertLevel,
    ContentType,
    KeyUpdateRequest,
    NamedGroup,
)
from tpmtls.config import ExternalPsk
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.events import ApplicationData, ConnectionClosed, HandshakeCanceled
from tpmtls.violations import (
    ConnectionStateError,
    PeerAlert,
    PeerViolation,
    TlsError,
    TruncationError,
)
from tpmtls.wire.messages import Alert

CLOSURES = (AlertDescription.close_notify, AlertDescription.user_canceled)


def _alerts(pair: Pair, peer: str = "client") -> list[Alert]:
    """What that end says, if it is alerts alone; read by the other end's keys."""
    seen: list[Alert] = []
    other = pair.server if peer == "client" else pair.client
    handle = other._handle_alert

    def watch(fragment: bytes) -> None:
        seen.append(Alert.decode(fragment))
        handle(fragment)

    other._handle_alert = watch  # type: ignore[method-assign]
    pair.exchange()
    return seen


def _scripted(role: str) -> Any:
    if role == "client":
        target = ServerConnection(server_config(tickets=0), WatchedBackend())
        return ScriptedClient(target).handshake()
    return ScriptedServer(ClientConnection(client_config(), WatchedBackend())).handshake()


# -- close_notify ----------------------------------------------------------------------------------


@pytest.mark.req("6.1-2", "6.1-6", "6.1-7", "6-1")
@pytest.mark.parametrize("first", ["client", "server"])
def test_each_direction_is_closed_by_itself(first: str) -> None:
    pair = handshake()
    closing, other = (pair.client, pair.server) if first == "client" else (pair.server, pair.client)
    closing.send_data(b"the last words")
    closing.close()
    closing.close()
    pair.exchange()
    events = pair.server_events if first == "client" else pair.client_events
    assert events[-2:] == [ApplicationData(b"the last words"), ConnectionClosed()]
    assert other.peer_closed
    assert not closing.can_send
    with pytest.raises(ConnectionStateError):
        closing.send_data(b"more")
    with pytest.raises(ConnectionStateError):
        closing.update_keys()
    closing.cancel()
    assert closing.data_to_send() == b""
    other.send_data(b"the other direction is open")
    pair.exchange()
    received = pair.client_events if first == "client" else pair.server_events
    assert received[-1] == ApplicationData(b"the other direction is open")
    other.close()
    pair.exchange()
    assert isinstance(received[-1], ConnectionClosed)


@pytest.mark.req("6.1-1")
@pytest.mark.parametrize("role", ["client", "server"])
def test_what_comes_after_close_notify_is_ignored(role: str) -> None:
    peer = _scripted(role)
    closing = peer.writer.write(ContentType.alert, b"\1\0")
    peer.target.receive_data(closing + peer.writer.write(ContentType.application_data, b"late"))
    peer.target.receive_data(b"not even a record")
    peer.target.receive_data(b"")
    assert peer.target.events()[-1] == ConnectionClosed()
    peer.target.send_data(b"we may go on")
    assert peer.receive_data() == b"we may go on"


KEYS = (ExternalPsk(b"unknown", bytes(32)), ExternalPsk(b"known", bytes(range(32))))
GROUPS = (NamedGroup.x25519, NamedGroup.secp256r1)
EARLY = ExternalPsk(b"known", bytes(32), max_early_data=100, suite=SUITE)
WAYS: dict[str, tuple[dict[str, Any], dict[str, Any]]] = {
    "certificate": ({}, {}),
    "retry": ({"groups": GROUPS}, {"groups": GROUPS[1:]}),
    "second-psk": ({"psks": KEYS}, {"psks": KEYS[1:]}),
    "psk-not-taken": ({"psks": KEYS[:1]}, {}),
    "psk-and-retry": (
        {"psks": KEYS, "groups": GROUPS},
        {"psks": KEYS[1:], "groups": GROUPS[1:]},
    ),
    "early-data": (
        {"psks": (EARLY,)},
        {"psks": (EARLY,), "max_early_data": 100},
    ),
}


@pytest.mark.req("7.1-1", "F.1.4-1")
@pytest.mark.parametrize("way", WAYS)
def test_no_secret_is_left_when_both_directions_are_closed(way: str) -> None:
    client, server = WAYS[way]
    pair = Pair()
    backends = WatchedBackend(), WatchedBackend()
    early_data = way == "early-data"
    pair.client = ClientConnection(client_config(**client), backends[0], early_data=early_data)
    pair.server = ServerConnection(server_config(**server), backends[1])
    pair.complete().talk()
    pair.client.update_keys(request_peer=True)
    pair.exchange()
    pair.talk()
    for backend in backends:
        names = {name.removesuffix("_1") for name in backend.alive}
        assert names <= {
            "client_application_traffic_secret",
            "server_application_traffic_secret",
            "exporter_secret",
            "early_exporter_secret",
            "resumption_secret",
        }
    pair.client.close()
    pair.exchange()
    pair.server.close()
    pair.exchange()
    assert backends[0].alive == backends[1].alive == []


@pytest.mark.req("6.1-7")
def test_nothing_is_sent_after_close_notify_whatever_the_peer_asks() -> None:
    peer = ScriptedServer(
        ClientConnection(client_config(post_handshake_auth=True, credentials=(credential(),)))
    ).handshake()
    peer.target.close()
    assert peer.receive_alert().description is AlertDescription.close_notify
    peer.update_keys(KeyUpdateRequest.update_requested)
    peer.begin_authentication()
    peer.request(context=b"context")
    peer.send_record(ContentType.application_data, b"still heard")
    assert data_in(peer.target.events()) == b"still heard"
    assert peer.target.data_to_send() == b""
    with pytest.raises(PeerViolation):
        peer.target.receive_data(b"\x16\3\3\0\0")
    assert peer.target.data_to_send() == b"", "close_notify was the last alert too"


@pytest.mark.parametrize("role", ["client", "server"])
def test_an_end_that_closes_in_the_handshake_says_no_more(role: str) -> None:
    pair = Pair(
        client_config(groups=(NamedGroup.x25519, NamedGroup.secp256r1)),
        server_config(groups=(NamedGroup.secp256r1,)),
    )
    hello = pair.client.data_to_send()
    closing = pair.client if role == "client" else pair.server
    closing.close()
    assert split_records(closing.data_to_send()) == [(ContentType.alert, b"\1\0")]
    pair.server.receive_data(hello)
    flight = pair.server.data_to_send()
    if role == "client":
        pair.client.receive_data(flight)
        flight = pair.client.data_to_send()
    assert flight == b""


# -- user_canceled ---------------------------------------------------------------------------------


@pytest.mark.req("6.1-3", "6.1-4", "6.1-2")
@pytest.mark.parametrize("after", ["nothing", "handshake"])
def test_giving_up_is_user_canceled_and_close_notify(after: str) -> None:
    pair = Pair()
    if after == "handshake":
        pair.complete()
    pair.client.cancel()
    assert _alerts(pair) == [
        Alert(AlertLevel.warning, description) for description in CLOSURES[::-1]
    ]
    assert pair.server_events[-2:] == [HandshakeCanceled(), ConnectionClosed()]


@pytest.mark.req("6.1-4", "6.1-5")
@pytest.mark.parametrize("level", [1, 2, 77])
def test_user_canceled_alone_ends_nothing(level: int) -> None:
    peer = _scripted("client")
    peer.send_record(ContentType.alert, bytes((level, 90)))
    peer.send_record(ContentType.application_data, b"after all")
    assert peer.target.events()[-2:] == [HandshakeCanceled(), ApplicationData(b"after all")]


# -- error alerts ----------------------------------------------------------------------------------


@pytest.mark.req("6-2", "6-3", "6-4", "6-7", "6-8", "6.2-1")
@pytest.mark.parametrize("role", ["client", "server"])
@pytest.mark.parametrize("level", [0, 1, 2])
@pytest.mark.parametrize(
    "description", [d for d in AlertDescription if d not in CLOSURES] + [AlertDescription(200)]
)
def test_an_error_alert_ends_the_connection_at_any_level(
    role: str, level: int, description: AlertDescription
) -> None:
    peer = _scripted(role)
    with pytest.raises(PeerAlert) as caught:
        peer.send_record(ContentType.alert, bytes((level, description)))
    assert caught.value.description == description
    assert peer.target.data_to_send() == b"", "an alert is not answered"
    assert_dead(peer.target, caught.value)


@pytest.mark.req("6-6", "6.2-2", "6.2-3", "6.2-5")
@pytest.mark.parametrize(
    "description", [AlertDescription.general_error, AlertDescription.access_denied]
)
def test_a_connection_can_be_aborted_with_an_alert(description: AlertDescription) -> None:
    pair = handshake()
    if description is AlertDescription.general_error:
        pair.client.abort()
    else:
        pair.client.abort(description)
    with pytest.raises(TlsError) as ours:
        pair.client.receive_data(b"x")
    with pytest.raises(PeerAlert) as theirs:
        pair.exchange()
    assert theirs.value.description is description
    assert_dead(pair.client, ours.value)
    assert_dead(pair.server, theirs.value)


@pytest.mark.req("6.2-6")
def test_alerts_are_logged(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG, "tpmtls")
    pair = handshake()
    pair.client.abort()
    with pytest.raises(PeerAlert):
        pair.exchange()
    assert caplog.messages == ["alert sent: general_error", "alert received: general_error"]


# -- truncation ------------------------------------------------------------------------------------


@pytest.mark.req("6.1-9")
@pytest.mark.parametrize("role", ["client", "server"])
def test_a_transport_that_ends_before_close_notify_may_have_lost_data(role: str) -> None:
    peer = _scripted(role)
    with pytest.raises(TruncationError) as caught:
        peer.target.receive_data(b"")
    assert peer.target.data_to_send() == b"", "nobody is there to read an alert"
    assert_dead(peer.target, caught.value)


def test_a_transport_that_ends_in_the_handshake_is_truncation_too() -> None:
    for connection in (
        ClientConnection(client_config(), WatchedBackend()),
        ServerConnection(server_config(), WatchedBackend()),
    ):
        connection.data_to_send()
        with pytest.raises(TruncationError) as caught:
            connection.receive_data(b"")
        assert_dead(connection, caught.value)
