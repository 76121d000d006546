"""Whole conversations, tampered with on the way: an error or silence, and never other data.

A conversation is a handshake and what follows it, told as deliveries. In each example one delivery
is changed; whatever the change, each end either fails with a TlsError and at most one alert, or
waits, and the application data that it has taken is a beginning of what was sent.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from itertools import cycle
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from tests.unit.scripted import SUITE
from tests.unit.support import (
    Clock,
    Pair,
    client_config,
    client_credential,
    credential,
    data_in,
    server_config,
    trust,
)
from tpmtls.codepoints import AlertDescription, NamedGroup
from tpmtls.config import ExternalPsk
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.events import ConnectionClosed, EarlyData, Event
from tpmtls.tickets import ReplayGuard, SessionCache, TicketKeys
from tpmtls.violations import ConnectionStateError, TlsError

G = NamedGroup
PSK = ExternalPsk(b"identity", bytes(32), max_early_data=10_000, suite=SUITE)
DATA = bytes(range(256)) * 3


@dataclass(frozen=True)
class Scenario:
    """Two configurations, and whether early data is sent."""

    client: dict[str, Any] = field(default_factory=dict)
    server: dict[str, Any] = field(default_factory=dict)
    early_data: bool = False


def _authenticating() -> Scenario:
    return Scenario(
        {"credentials": (client_credential("ed25519"),), "post_handshake_auth": True},
        {"client_trust": trust(), "request_client_certificate": True},
    )


def _resuming() -> Scenario:
    """With a ticket from an earlier conversation, which has its own seeds."""
    cache, server = SessionCache(), _server_settings(11)
    server |= {"max_early_data": 10_000, "replay_guard": ReplayGuard()}
    client = client_config(**_client_settings(10), session_cache=cache)
    Pair(client, server_config(**server)).complete()
    del server["entropy"]
    return Scenario({"session_cache": cache}, server, early_data=True)


def _client_settings(seed: int) -> dict[str, Any]:
    return {"clock": Clock(), "entropy": random.Random(seed).randbytes}


def _server_settings(seed: int) -> dict[str, Any]:
    return _client_settings(seed) | {
        "ticket_keys": TicketKeys(entropy=random.Random(seed + 1).randbytes),
        "credentials": (credential("ed25519"),),
    }


SCENARIOS: dict[str, Callable[[], Scenario]] = {
    "certificate": lambda: Scenario({"session_cache": SessionCache()}),
    "retry": lambda: Scenario(
        {"groups": (G.x25519, G.secp256r1)},
        {"groups": (G.secp256r1,), "retry_with_cookie": True},
    ),
    "client-authentication": _authenticating,
    "psk": lambda: Scenario({"psks": (PSK,)}, {"psks": (PSK,)}),
    "early-data": lambda: Scenario(
        {"psks": (PSK,)}, {"psks": (PSK,), "max_early_data": 10_000}, early_data=True
    ),
    "early-data-rejected": lambda: Scenario(
        {"psks": (PSK,)}, {"max_early_data": 10_000}, early_data=True
    ),
    "resumption": _resuming,
    "small-records": lambda: Scenario(
        {"record_size_limit": 64, "record_padding": 16, "alpn": ("h2",)},
        {"record_size_limit": 100, "alpn": ("h2",)},
    ),
}


class _Counting:
    """Counts the error alerts that a connection sends."""

    alerts = 0

    def _alert(self, description: AlertDescription) -> None:
        self.alerts += description is not AlertDescription.close_notify
        super()._alert(description)  # type: ignore[misc]


class Client(_Counting, ClientConnection):
    pass


class Server(_Counting, ServerConnection):
    pass


Tamper = Callable[[int, bytes], list[bytes]]
"""From the number of a delivery and its octets to the pieces that arrive."""


class Conversation:
    """Runs a scenario, its deliveries through `tamper`; notes what each end made of them.

    All randomness has a fixed seed: what differs between two runs, tampering did.
    """

    def __init__(self, scenario: Scenario, tamper: Tamper) -> None:
        client = _client_settings(1) | scenario.client
        self.client = Client(client_config(**client), early_data=scenario.early_data)
        self.server = Server(server_config(**_server_settings(2) | scenario.server))
        self.events: dict[str, list[Event]] = {"client": [], "server": []}
        self.failures: list[TlsError] = []
        self.deliveries = 0
        self._tamper = tamper
        if scenario.early_data:
            self.client.send_early_data(DATA)
        for act in self._acts():
            self._attempt(act)
            while self._deliver("server") | self._deliver("client"):
                pass

    def _acts(self) -> Iterator[Callable[[], None]]:
        yield lambda: None
        for connection in (self.client, self.server):
            yield lambda connection=connection: connection.send_data(DATA)  # type: ignore[misc]
        yield lambda: self.client.update_keys(request_peer=True)
        yield lambda: self.server.send_data(DATA)
        yield self.server.request_client_certificate
        yield lambda: self.client.send_data(DATA)
        yield self.client.close
        yield self.server.close

    def _attempt(self, act: Callable[[], None]) -> None:
        try:
            act()
        except TlsError as error:
            self.failures.append(error)

    def _deliver(self, to: str) -> bool:
        source, target = (
            (self.client, self.server) if to == "server" else (self.server, self.client)
        )
        octets = source.data_to_send()
        if not octets:
            return False
        for piece in self._tamper(self.deliveries, octets):
            self._attempt(lambda piece=piece: target.receive_data(piece))  # type: ignore[misc]
        self.deliveries += 1
        self.events[to] += target.events()
        return True


def _untouched(_index: int, octets: bytes) -> list[bytes]:
    return [octets]


@pytest.mark.parametrize("name", SCENARIOS)
def test_an_untouched_conversation_succeeds(name: str) -> None:
    scenario = SCENARIOS[name]()
    talk = Conversation(scenario, _untouched)
    allowed = [] if "post_handshake_auth" in scenario.client else [ConnectionStateError]
    assert [type(failure) for failure in talk.failures] == allowed
    assert talk.client.alerts == talk.server.alerts == 0
    for to in ("client", "server"):
        assert data_in(talk.events[to]) == DATA * 2
        assert isinstance(talk.events[to][-1], ConnectionClosed)
    accepted = scenario.early_data and name != "early-data-rejected"
    assert data_in(talk.events["server"], EarlyData) == (DATA if accepted else b"")


# -- tampering -------------------------------------------------------------------------------------

Change = Callable[[bytes, list[bytes]], bytes]
"""From a delivery, and all that went before it in either direction, to what is delivered."""
POSITION = st.integers(0, 2**20)


def _records(octets: bytes) -> list[bytes]:
    at, found = 0, []
    while at < len(octets):
        end = at + 5 + int.from_bytes(octets[at + 3 : at + 5], "big")
        found.append(octets[at:end])
        at = end
    return found


def _cut(at: int) -> Change:
    return lambda octets, _: octets[: at % len(octets)]


def _flip(at: int, bit: int) -> Change:
    def change(octets: bytes, _: list[bytes]) -> bytes:
        where = at % len(octets)
        return octets[:where] + bytes((octets[where] ^ 1 << bit,)) + octets[where + 1 :]

    return change


def _insert(at: int, more: bytes) -> Change:
    def change(octets: bytes, _: list[bytes]) -> bytes:
        where = at % (len(octets) + 1)
        return octets[:where] + more + octets[where:]

    return change


def _remove(at: int, size: int) -> Change:
    def change(octets: bytes, _: list[bytes]) -> bytes:
        where = at % len(octets)
        return octets[:where] + octets[where + size :]

    return change


def _repeat(at: int) -> Change:
    def change(octets: bytes, _: list[bytes]) -> bytes:
        records = _records(octets)
        where = at % len(records)
        return b"".join((*records[: where + 1], *records[where:]))

    return change


def _drop(at: int) -> Change:
    def change(octets: bytes, _: list[bytes]) -> bytes:
        records = _records(octets)
        del records[at % len(records)]
        return b"".join(records)

    return change


def _shuffle(seed: int) -> Change:
    def change(octets: bytes, _: list[bytes]) -> bytes:
        records = _records(octets)
        random.Random(seed).shuffle(records)
        return b"".join(records)

    return change


def _replay(at: int, where: int) -> Change:
    """Something older, from either direction, before or after what is due."""

    def change(octets: bytes, before: list[bytes]) -> bytes:
        old = before[at % len(before)] if before else octets
        return old + octets if where else octets + old

    return change


def _resize(at: int, length: int) -> Change:
    """Another length in the header of a record."""

    def change(octets: bytes, _: list[bytes]) -> bytes:
        records = _records(octets)
        where = at % len(records)
        record = records[where]
        records[where] = record[:3] + length.to_bytes(2, "big") + record[5:]
        return b"".join(records)

    return change


CHANGES = st.one_of(
    st.builds(_cut, POSITION),
    st.builds(_flip, POSITION, st.integers(0, 7)),
    st.builds(_flip, st.integers(0, 200), st.integers(0, 7)),
    st.builds(_insert, POSITION, st.binary(min_size=1, max_size=40)),
    st.builds(_remove, POSITION, st.integers(1, 40)),
    st.builds(_repeat, POSITION),
    st.builds(_drop, POSITION),
    st.builds(_shuffle, POSITION),
    st.builds(_replay, POSITION, st.integers(0, 1)),
    st.builds(_resize, POSITION, st.integers(0, 2**16 - 1)),
)


@pytest.mark.req("6-9", "6-10", "6.2-3", "5.2-3", "4.5.3-1")
@pytest.mark.parametrize("name", SCENARIOS)
@settings(max_examples=5 * settings().max_examples)
@given(index=st.integers(0, 15), change=CHANGES)
def test_a_conversation_tampered_with_fails_or_waits(name: str, index: int, change: Change) -> None:
    seen: list[bytes] = []

    def tamper(number: int, octets: bytes) -> list[bytes]:
        seen.append(octets)
        changed = change(octets, seen[:-1]) if number == index else octets
        return [changed] if changed else []

    talk = Conversation(SCENARIOS[name](), tamper)
    for connection in (talk.client, talk.server):
        assert connection.alerts <= 1
    for to in ("client", "server"):
        assert (DATA * 2).startswith(data_in(talk.events[to]))
        assert DATA.startswith(data_in(talk.events[to], EarlyData))
    if talk.client.info and talk.server.info:
        assert talk.client.info.suite == talk.server.info.suite
        assert talk.client.info.group == talk.server.info.group
        assert talk.client.info.alpn == talk.server.info.alpn


@pytest.mark.req("5.1-2", "5.1-14")
@pytest.mark.parametrize("name", SCENARIOS)
@settings(max_examples=settings().max_examples // 4)
@given(sizes=st.lists(st.integers(1, 400), min_size=1, max_size=20))
@example(sizes=[1])
@example(sizes=[5, 1])
def test_deliveries_may_come_in_any_pieces(name: str, sizes: list[int]) -> None:
    def cut(_number: int, octets: bytes) -> list[bytes]:
        pieces, size = [], cycle(sizes)
        while octets:
            at = next(size)
            pieces.append(octets[:at])
            octets = octets[at:]
        return pieces

    assert Conversation(SCENARIOS[name](), cut).events == (
        Conversation(SCENARIOS[name](), _untouched).events
    )
