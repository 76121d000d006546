"""0-RTT data: when it is accepted, every reason to reject it, and the limits on both sides."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.misbehaviour import Case
from tests.unit.scripted import SUITE
from tests.unit.scripted_client import OfferedKey, ScriptedClient
from tests.unit.scripted_server import ScriptedServer
from tests.unit.support import (
    Clock,
    Pair,
    client_config,
    count,
    data_in,
    server_config,
    split_records,
)
from tpmtls.codepoints import CipherSuite, ContentType, ExtensionType, NamedGroup
from tpmtls.config import DEFAULT_SUITES, ExternalPsk
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.events import ApplicationData, EarlyData, EarlyDataEnded
from tpmtls.record import Epoch
from tpmtls.tickets import ReplayGuard, SessionCache, TicketKeys
from tpmtls.violations import ConfigurationError, ConnectionStateError
from tpmtls.violations import Violation as V
from tpmtls.wire.extensions import EarlyDataIndication, ProtocolNameList

G, TYPE = NamedGroup, ExtensionType
CHACHA = CipherSuite.TLS_CHACHA20_POLY1305_SHA256
LIMIT = 2**15
PSK = ExternalPsk(b"the identity", bytes(range(32)), max_early_data=LIMIT, suite=SUITE, alpn="h2")
OTHER = ExternalPsk(b"another", bytes(range(1, 33)))
KEY = OfferedKey(PSK.identity, PSK.key)
DATA = b"sent in no time at all"


class World:
    """A server that permits early data, a client with a ticket, and one clock for both."""

    def __init__(self, **server: Any) -> None:
        self.cache = SessionCache()
        self.clock = Clock()
        self.server = server_config(
            clock=self.clock, max_early_data=LIMIT, alpn=("h2", "http/1.1"), tickets=1, **server
        )
        self.client = client_config(clock=self.clock, alpn=("h2",), session_cache=self.cache)
        Pair(self.client, self.server).complete()
        self.clock.advance(60)

    def resume(self, data: bytes = DATA, **changes: Any) -> Pair:
        """Send early data with the ticket."""
        return Pair(self.client, self.server.replace(**changes), early_data=data)


def _accepted(pair: Pair, data: bytes = DATA) -> None:
    assert pair.complete().info.early_data_accepted is True
    assert pair.client.early_data_accepted is True
    assert data_in(pair.server_events, EarlyData) == data
    assert count(pair.server_events, EarlyDataEnded) == 1
    pair.talk()


def _rejected(pair: Pair) -> None:
    """The handshake goes on without, and nothing is sent again by itself."""
    assert pair.complete().info.early_data_accepted is False
    assert pair.client.early_data_accepted is False
    assert data_in(pair.server_events, EarlyData) == b""
    assert data_in(pair.server_events, ApplicationData) == b""
    pair.talk()
    assert data_in(pair.server_events) == b"to the server"


# -- accepted --------------------------------------------------------------------------------------


@pytest.mark.req("4.3.10-1", "4.3.10-2", "4.3.10-6", "4.6-1", "2-2")
@pytest.mark.parametrize("size", [0, 1, 2**14, LIMIT])
def test_early_data_under_a_ticket_is_accepted(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + b"\1" * (size % 256)
    _accepted(World().resume(data), data)


@pytest.mark.parametrize("suite", DEFAULT_SUITES, ids=str)
def test_early_data_is_accepted_in_every_suite(suite: CipherSuite) -> None:
    _accepted(World(suites=(suite,)).resume())


@pytest.mark.req("8.2-4", "8-3")
def test_early_data_under_an_external_psk_is_accepted_once() -> None:
    server = server_config(psks=(PSK,), max_early_data=1, alpn=("h2",))
    client = client_config(psks=(PSK,), alpn=("h2",))
    pair = Pair(client, server, early_data=DATA)
    hello = pair.client.data_to_send()
    for accepted in (True, False):
        again = ServerConnection(server)
        again.receive_data(hello)
        assert data_in(again.events(), EarlyData) == (DATA if accepted else b"")
    _accepted(Pair(client, server, early_data=DATA))


@pytest.mark.req("7.5-2")
def test_both_ends_have_the_early_exporter_before_the_handshake_ends() -> None:
    pair = World().resume()
    pair.to_server()
    early = pair.client.export_early_keying_material("a label", b"context", 40)
    assert early == pair.server.export_early_keying_material("a label", b"context", 40)
    with pytest.raises(ConnectionStateError):
        pair.client.export_keying_material("a label", b"context", 40)
    pair.complete()
    assert early == pair.client.export_early_keying_material("a label", b"context", 40)
    assert early != pair.client.export_keying_material("a label", b"context", 40)


def test_early_data_can_be_sent_until_the_servers_finished_has_come() -> None:
    pair = World().resume()
    assert pair.client.early_data_limit == LIMIT - len(DATA)
    assert pair.client.early_data_accepted is None
    pair.to_server()
    pair.client.send_early_data(b", and more")
    flight = pair.server.data_to_send()
    records = split_records(flight)
    answer = flight[: 5 + len(records[0][1])]
    pair.client.receive_data(answer)
    assert pair.client.early_data_limit == LIMIT - len(DATA) - 10
    pair.client.send_early_data(b", and yet more")
    pair.client.receive_data(flight[len(answer) :])
    assert pair.client.early_data_limit == 0
    _accepted(pair, DATA + b", and more, and yet more")


# -- rejected --------------------------------------------------------------------------------------


@pytest.mark.req("8-3", "8-1", "4.3.10-11")
def test_a_replayed_client_hello_has_its_early_data_rejected() -> None:
    world = World()
    hello = world.resume().client.data_to_send()
    for accepted in (True, False):
        server = ServerConnection(world.server)
        server.receive_data(hello)
        assert data_in(server.events(), EarlyData) == (DATA if accepted else b"")
        assert server.data_to_send(), "the handshake goes on"


@pytest.mark.req("8-3")
def test_a_ticket_is_good_for_early_data_a_single_time() -> None:
    world = World()
    ticket = world.cache.take("localhost", world.clock())
    assert ticket is not None
    for accepted in (True, False):
        world.cache.put(ticket)
        (_accepted if accepted else _rejected)(world.resume())
        while world.cache.take("localhost", world.clock()):
            pass


@pytest.mark.req("4.3.10-3", "4.3.10-4", "4.3.10-5")
@pytest.mark.parametrize("late", [9.9, -9.9, 10.1, -10.1])
def test_a_client_hello_that_is_not_fresh_has_its_early_data_rejected(late: float) -> None:
    world = World()
    pair = world.resume()
    world.clock.advance(late)
    (_accepted if abs(late) < 10 else _rejected)(pair)


REASONS: dict[str, dict[str, Any]] = {
    "off": {"max_early_data": 0},
    "suite": {"suites": (CHACHA,)},
    "no-psk": {"ticket_keys": TicketKeys()},
    "restarted": {"replay_guard": ReplayGuard()},
    "retry": {"groups": (G.secp256r1,)},
    "retry-with-cookie": {"groups": (G.secp256r1,), "retry_with_cookie": True},
}


@pytest.mark.req("4.3.10-6", "4.3.10-9", "4.3.10-11", "4.3.10-15", "4.6-2", "8.2-5", "F.5-4")
@pytest.mark.parametrize(
    ("reason", "size"),
    [
        (reason, size)
        for reason in REASONS
        for size in (0, 1, 2**14, LIMIT)
        if (reason, size) != ("off", LIMIT)
    ],
)
def test_early_data_is_rejected_and_passed_over(reason: str, size: int) -> None:
    world = World()
    world.client = world.client.replace(groups=(G.x25519, G.secp256r1))
    _rejected(world.resume(bytes(size), **REASONS[reason]))


@pytest.mark.req("4.3.10-9", "4.3.10-16")
def test_early_data_under_another_protocol_is_rejected() -> None:
    world = World()
    world.client = world.client.replace(alpn=("http/1.1", "h2"))
    pair = world.resume(alpn=("http/1.1",))
    _rejected(pair)
    assert pair.info.alpn == "http/1.1"


@pytest.mark.req("4.3.10-8", "4.3.10-9")
@pytest.mark.parametrize(
    "changes",
    [
        {"suites": (CHACHA,)},
        {"alpn": ("http/1.1",)},
        {"psks": (OTHER,)},
        {"psks": (replace(PSK, suite=None, max_early_data=0),)},
        {"max_early_data": 0},
    ],
    ids=["suite", "alpn", "second-psk", "not-permitted", "off"],
)
def test_early_data_under_an_external_psk_is_rejected(changes: dict[str, Any]) -> None:
    client = client_config(psks=(PSK, OTHER), alpn=("h2", "http/1.1"))
    server = {"psks": (PSK,), "max_early_data": LIMIT, "alpn": ("h2",)} | changes
    _rejected(Pair(client, server_config(**server), early_data=DATA))


# -- limits ----------------------------------------------------------------------------------------


@pytest.mark.req("F.5-3")
def test_there_is_no_early_data_unless_it_is_asked_for() -> None:
    world = World()
    pair = Pair(world.client, world.server).complete()
    assert (pair.info.psk, pair.info.early_data_accepted) == ("resumption", None)
    cache = SessionCache()
    config = client_config(session_cache=cache)
    Pair(config, server_config(tickets=1)).complete()
    ticket = cache.take("localhost", config.clock())
    assert ticket is not None
    assert ticket.max_early_data == 0


@pytest.mark.req("F.5-5")
def test_the_application_can_tell_early_data_from_what_comes_after_the_handshake() -> None:
    pair = World().resume()
    pair.to_server()
    assert data_in(pair.server_events, EarlyData) == DATA
    assert (pair.client.handshake_complete, pair.server.handshake_complete) == (False, False)
    pair.complete()
    assert (pair.client.handshake_complete, pair.server.handshake_complete) == (True, True)


@pytest.mark.req("8-2")
def test_a_client_sends_no_early_data_without_leave() -> None:
    for config in (client_config(), client_config(psks=(OTHER,)), client_config(psks=(OTHER, PSK))):
        with pytest.raises(ConfigurationError):
            ClientConnection(config, early_data=True)
    client = ClientConnection(client_config())
    assert client.early_data_limit == 0
    with pytest.raises(ConnectionStateError):
        client.send_early_data(b"x")


def test_a_client_sends_no_more_early_data_than_it_may() -> None:
    pair = World().resume(bytes(LIMIT - 1))
    with pytest.raises(ConnectionStateError):
        pair.client.send_early_data(b"xy")
    pair.client.send_early_data(b"x")
    assert pair.client.early_data_limit == 0
    pair.complete()
    with pytest.raises(ConnectionStateError):
        pair.client.send_early_data(b"x")


@pytest.mark.req("5.5-2")
def test_the_early_key_is_not_used_up() -> None:
    world = World()
    world.client = world.client.replace(max_records_per_key=10)
    pair = world.resume(b"")
    for _ in range(6):
        pair.client.send_early_data(b"x")
    with pytest.raises(ConnectionStateError):
        pair.client.send_early_data(b"x")
    _accepted(pair, b"xxxxxx")


EARLY_CONFIG: dict[str, Any] = {"psks": (PSK,), "max_early_data": LIMIT, "alpn": ("h2",)}
EARLY_PEER: dict[str, Any] = {
    "psks": (KEY,),
    "more": (ProtocolNameList((b"h2",)), EarlyDataIndication()),
}


def _flood(peer: ScriptedClient) -> None:
    peer.hello().read_flight()
    for _ in range(LIMIT // 2**14):
        peer.send_record(ContentType.application_data, bytes(2**14))
    peer.send_record(ContentType.application_data, b"\0")


def _after_the_end(peer: ScriptedClient) -> None:
    peer.hello().read_flight().end_early_data()
    peer.send_record(ContentType.application_data, b"late")


def _garbled(peer: ScriptedClient) -> None:
    peer.hello().read_flight()
    peer.target.receive_data(b"\x17\x03\x03\x00\x20" + bytes(32))


def _never_ended(peer: ScriptedClient) -> None:
    peer.hello().read_flight().say_finished(peer.client_secret)


def _another_hello(peer: ScriptedClient) -> None:
    peer.hello().read_flight()
    peer.send(peer.first)


FROM_CLIENT = {
    "too-much": Case(V.TOO_MUCH_EARLY_DATA, {}, _flood, config=EARLY_CONFIG, peer=EARLY_PEER),
    "after-its-end": Case(
        V.PREMATURE_APPLICATION_DATA, {}, _after_the_end, config=EARLY_CONFIG, peer=EARLY_PEER
    ),
    "garbled": Case(V.BAD_RECORD_MAC, {}, _garbled, config=EARLY_CONFIG, peer=EARLY_PEER),
    "never-ended": Case(
        V.UNEXPECTED_MESSAGE, {}, _never_ended, config=EARLY_CONFIG, peer=EARLY_PEER
    ),
    "another-hello": Case(
        V.UNEXPECTED_MESSAGE, {}, _another_hello, config=EARLY_CONFIG, peer=EARLY_PEER
    ),
}


@pytest.mark.req("4.7.1-19", "4.3.10-12", "4.3.10-13", "4.2.2-3")
@pytest.mark.parametrize("name", FROM_CLIENT)
def test_a_client_that_misuses_early_data_is_refused(name: str) -> None:
    FROM_CLIENT[name].against_server()


def test_empty_early_data_is_no_event() -> None:
    target = ServerConnection(server_config(**EARLY_CONFIG))
    peer = ScriptedClient(target, **EARLY_PEER).hello()
    peer.send_record(ContentType.application_data, b"")
    assert target.events() == []


def _flood_of_rejected(peer: ScriptedClient) -> None:
    peer.hello().read_flight()
    for _ in range(LIMIT // 2**14 + 1):
        peer.target.receive_data(b"\x17\x03\x03\x40\x11" + bytes(2**14 + 17))


def _flood_after_retry(peer: ScriptedClient) -> None:
    peer.hello()
    peer.next_message()
    for _ in range(LIMIT // 2**14 + 1):
        peer.send_record(ContentType.application_data, bytes(2**14))


SKIPPING = {
    "rejected": Case(
        V.BAD_RECORD_MAC,
        {},
        _flood_of_rejected,
        EARLY_CONFIG | {"psks": (OTHER,)},
        EARLY_PEER,
    ),
    "retried": Case(
        V.PREMATURE_APPLICATION_DATA,
        {},
        _flood_after_retry,
        EARLY_CONFIG | {"groups": (G.secp256r1,)},
        EARLY_PEER | {"groups": (G.x25519, G.secp256r1), "share_groups": (G.x25519,)},
    ),
}


@pytest.mark.req("4.3.10-6")
@pytest.mark.parametrize("name", SKIPPING)
def test_rejected_early_data_is_passed_over_up_to_the_limit_only(name: str) -> None:
    SKIPPING[name].against_server()


# -- a server's wrong acceptance -------------------------------------------------------------------


def _accepting(violation: V, *, edits: Any = None, alpn: bytes = b"h2", **peer: Any) -> Case:
    def script(server: ScriptedServer) -> None:
        server.early_psk, server.early_suite = PSK.key, SUITE
        assert server.accept().receive_data() == DATA
        server.hello()
        server.rekey_read(Epoch.HANDSHAKE, server.client_secret)  # which an alert is under
        server.encrypted_extensions()

    parameters = (ProtocolNameList((alpn,)), EarlyDataIndication())
    config = {"psks": (PSK, OTHER), "alpn": ("h2", "http/1.1")}
    settings = {"psk": PSK.key, "parameters": parameters} | peer
    return Case(violation, edits or {}, script, config, settings, DATA)


STRANGE = ProtocolNameList((b"another",))
FROM_SERVER = {
    "second-psk": _accepting(V.EARLY_DATA_IDENTITY, psk=OTHER.key, index=1),
    "no-psk": _accepting(V.EARLY_DATA_IDENTITY, psk=None),
    "another-suite": _accepting(V.EARLY_DATA_SUITE, suite=CHACHA),
    "another-protocol": _accepting(V.EARLY_DATA_ALPN, alpn=b"http/1.1"),
    "no-protocol": _accepting(V.EARLY_DATA_ALPN, parameters=(EarlyDataIndication(),)),
    "rejected-with-a-fault": _accepting(V.PROTOCOL_NOT_OFFERED, parameters=(STRANGE,)),
}


@pytest.mark.req("4.3.10-9", "4.3.11-15", "4.3.11-16", "A.1-1")
@pytest.mark.parametrize("name", FROM_SERVER)
def test_a_server_that_accepts_early_data_wrongly_is_refused(name: str) -> None:
    FROM_SERVER[name].against_client()


def test_the_server_takes_early_data_that_the_scripted_way_sends() -> None:
    """What the cases above differ from."""
    config = client_config(psks=(PSK,), alpn=("h2",))
    target = ClientConnection(config, early_data=True)
    target.send_early_data(DATA)
    parameters = (ProtocolNameList((b"h2",)), EarlyDataIndication())
    peer = ScriptedServer(target, psk=PSK.key, parameters=parameters).accept()
    assert peer.receive_data() == DATA
    said = []
    for step in (peer.hello, peer.encrypted_extensions):
        step()
        said.append((target.early_data_accepted, target.handshake_complete))
    target.send_early_data(DATA)
    assert peer.receive_data() == DATA
    peer.finish().complete()
    said.append((target.early_data_accepted, target.handshake_complete))
    assert said == [(None, False), (True, False), (True, True)]
