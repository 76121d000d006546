"""Tickets: the client's cache and its file, the server's keys, and the guard against replay."""

from __future__ import annotations

import base64
import json
import stat
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.unit.misbehaviour import Case
from tests.unit.scripted import SUITE
from tests.unit.scripted_server import ScriptedServer
from tests.unit.support import Clock, client_config, credential, data_in
from tpmtls.codepoints import CipherSuite, ContentType, ExtensionType
from tpmtls.connection import ClientConnection
from tpmtls.events import TicketReceived
from tpmtls.tickets import (
    MAX_LIFETIME,
    TICKET_VERSION,
    ReplayGuard,
    SessionCache,
    SessionTicket,
    TicketKeys,
    TicketState,
)
from tpmtls.violations import ConfigurationError, Violation
from tpmtls.wire.extensions import Extensions, MaxEarlyData, UnknownExtension
from tpmtls.wire.messages import NewSessionTicket, frame

SHA384_SUITE = CipherSuite.TLS_AES_256_GCM_SHA384
TICKET = SessionTicket(
    server_name="localhost",
    ticket=b"a ticket",
    psk=bytes(range(48)),
    suite=SHA384_SUITE,
    lifetime=1000,
    age_add=2**32 - 1,
    received_at=5000.0,
    max_early_data=100,
    alpn="h2",
    peer_chain=(b"leaf", b"issuer"),
    verified=True,
)


def _ticket(number: int, name: str = "localhost") -> SessionTicket:
    return replace(TICKET, server_name=name, ticket=b"%d" % number)


# -- a client's ticket -----------------------------------------------------------------------------


@pytest.mark.req("4.7.1-13", "4.3.11.1-1")
@pytest.mark.parametrize(
    ("lifetime", "age", "usable"),
    [
        (1000, -0.1, False),
        (1000, 0, True),
        (1000, 999.9, True),
        (1000, 1000, False),
        (MAX_LIFETIME + 1000, MAX_LIFETIME - 1, True),
        (MAX_LIFETIME + 1000, MAX_LIFETIME, False),
        (0, 0, False),
    ],
)
def test_a_ticket_is_usable_for_its_lifetime_and_never_longer_than_a_week(
    lifetime: int, age: float, usable: bool
) -> None:
    assert replace(TICKET, lifetime=lifetime).is_usable(TICKET.received_at + age) is usable


def test_the_obfuscated_age_counts_milliseconds_modulo_2_32() -> None:
    assert TICKET.obfuscated_age(5000) == 2**32 - 1
    assert TICKET.obfuscated_age(5000.0015) == 0
    assert replace(TICKET, age_add=7).obfuscated_age(5012.5) == 12_507


def test_a_ticket_does_not_show_its_key() -> None:
    assert "psk" not in repr(TICKET)


# -- the client's cache ----------------------------------------------------------------------------


@pytest.mark.req("4.7.1-7")
def test_a_ticket_is_handed_out_once_and_the_newest_first() -> None:
    cache = SessionCache()
    for number in range(3):
        cache.put(_ticket(number))
    assert [cache.take("localhost", 5000) for _ in range(4)] == [
        _ticket(2),
        _ticket(1),
        _ticket(0),
        None,
    ]
    assert cache.take("elsewhere", 5000) is None


def test_stale_tickets_are_dropped_and_unfit_ones_kept() -> None:
    cache = SessionCache()
    cache.put(_ticket(0))
    cache.put(replace(_ticket(1), lifetime=1))
    cache.put(_ticket(2))
    chosen = cache.take("localhost", 5001, lambda ticket: ticket.ticket != b"2")
    assert chosen == _ticket(0)
    assert len(cache) == 1
    assert cache.take("localhost", 5001) == _ticket(2)
    cache.put(_ticket(3))
    assert cache.take("localhost", 99_999) is None
    assert len(cache) == 0


def test_the_cache_is_bounded_for_a_name_and_in_names() -> None:
    cache = SessionCache(per_name=2, names=3)
    for number in range(5):
        cache.put(_ticket(number))
    assert len(cache) == 2
    assert cache.take("localhost", 5000) == _ticket(4)
    for name in ("a", "b", "localhost", "c"):
        cache.put(_ticket(9, name))
    assert cache.take("a", 5000) is None, "the name that was longest unused"
    assert len(cache) == 4


def test_tickets_can_be_discarded_wherever_they_are() -> None:
    cache = SessionCache()
    for number in range(3):
        cache.put(_ticket(number))
    cache.discard([_ticket(1), _ticket(7), _ticket(1, "elsewhere")])
    assert len(cache) == 2
    cache.discard([_ticket(0), _ticket(2)])
    assert len(cache) == 0


# -- its file --------------------------------------------------------------------------------------


def test_the_cache_survives_in_a_file_for_its_owner_alone(tmp_path: Path) -> None:
    cache, path = SessionCache(), tmp_path / "sessions"
    path.write_text("something older")
    path.chmod(0o644)
    for number in range(3):
        cache.put(_ticket(number, f"host-{number}"))
    cache.put(replace(TICKET, alpn=None, peer_chain=(), verified=False))
    cache.save(path)
    assert stat.S_IMODE(path.stat().st_mode) == 0o600
    assert list(tmp_path.iterdir()) == [path]
    loaded = SessionCache.load(path)
    assert len(loaded) == 4
    for number in range(3):
        assert loaded.take(f"host-{number}", 5000) == _ticket(number, f"host-{number}")
    found = loaded.take("localhost", 5000)
    assert found == replace(TICKET, alpn=None, peer_chain=(), verified=False)


@pytest.mark.parametrize(
    "changes",
    [{"max_early_data": 0}, {"max_early_data": 2**32 - 1}, {"ticket": bytes(2**16 - 1)}],
    ids=["no-early-data", "most-early-data", "longest-ticket"],
)
def test_bounds_are_within(changes: dict[str, Any]) -> None:
    ticket = replace(TICKET, **changes)
    assert SessionTicket.from_json(json.loads(json.dumps(ticket.to_json()))) == ticket


def test_a_file_that_is_not_there_is_an_empty_cache(tmp_path: Path) -> None:
    assert len(SessionCache.load(tmp_path / "nothing")) == 0


def test_a_file_that_cannot_be_replaced_leaves_nothing_behind(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with pytest.raises(OSError, match="folder"):
        SessionCache().save(tmp_path / "folder")
    assert [path.name for path in tmp_path.iterdir()] == ["folder"]


def _without(name: str) -> Callable[[dict[str, Any]], Any]:
    return lambda values: {key: value for key, value in values.items() if key != name}


def _with(**changes: Any) -> Callable[[dict[str, Any]], Any]:
    return lambda values: values | changes


DAMAGE: dict[str, Callable[[dict[str, Any]], Any]] = {
    **{f"no-{name}": _without(name) for name in TICKET.to_json()},
    "null": lambda values: None,
    "list": list,
    "name": _with(server_name=["localhost"]),
    "ticket": _with(ticket="not base64!"),
    "ticket-empty": _with(ticket=""),
    "ticket-number": _with(ticket=7),
    "psk-empty": _with(psk=""),
    "suite": _with(suite="TLS_RSA_WITH_NULL_MD5"),
    "suite-number": _with(suite=0x1301),
    "lifetime": _with(lifetime="long"),
    "lifetime-endless": _with(lifetime=float("inf")),
    "received": _with(received_at=None),
    "early-data": _with(max_early_data=-1),
    "early-data-endless": _with(max_early_data=2**32),
    "ticket-long": _with(ticket=base64.b64encode(bytes(2**16)).decode()),
    "alpn": _with(alpn=7),
    "chain": _with(peer_chain="text"),
    "chain-null": _with(peer_chain=None),
    "verified": _with(verified="yes"),
}


@pytest.mark.parametrize("name", DAMAGE)
def test_a_damaged_session_is_a_configuration_error(name: str, tmp_path: Path) -> None:
    damaged = DAMAGE[name](TICKET.to_json())
    with pytest.raises(ConfigurationError):
        SessionTicket.from_json(damaged)
    path = tmp_path / "sessions"
    path.write_text(json.dumps({"version": 1, "tickets": [damaged]}))
    with pytest.raises(ConfigurationError):
        SessionCache.load(path)


@pytest.mark.parametrize(
    "content",
    [b"", b"\xff\xfe", b"{", b"[]", b"{}", b"null", b'{"tickets": 7}', b"[" * 100_000],
    ids=["empty", "not-text", "cut", "list", "object", "null", "number", "deep"],
)
def test_a_damaged_file_is_a_configuration_error(content: bytes, tmp_path: Path) -> None:
    path = tmp_path / "sessions"
    path.write_bytes(content)
    with pytest.raises(ConfigurationError, match="sessions"):
        SessionCache.load(path)


# -- what a client makes of a NewSessionTicket -----------------------------------------------------


def _given(message: NewSessionTicket, **config: Any) -> list[SessionTicket]:
    cache = SessionCache()
    target = ClientConnection(client_config(session_cache=cache, **config))
    peer = ScriptedServer(target).handshake()
    peer.send(message)
    peer.send_record(ContentType.application_data, b"it goes on")
    events = target.events()
    assert data_in(events) == b"it goes on"
    tickets = [event.ticket for event in events if isinstance(event, TicketReceived)]
    assert len(cache) == len(tickets)
    return tickets


MESSAGE = NewSessionTicket(1000, 7, b"\0", b"ticket", Extensions())


@pytest.mark.req("4.7.1-18", "9.3-6", "4.3-4", "4.3.11-5")
def test_a_ticket_is_kept_with_all_that_resumption_needs() -> None:
    clock = Clock()
    extensions = Extensions((UnknownExtension(ExtensionType(0x1A1A), b"grease"), MaxEarlyData(77)))
    (ticket,) = _given(replace(MESSAGE, extensions=extensions), clock=clock)
    assert ticket == SessionTicket(
        server_name="localhost",
        ticket=b"ticket",
        psk=ticket.psk,
        suite=SUITE,
        lifetime=1000,
        age_add=7,
        received_at=clock(),
        max_early_data=77,
        peer_chain=credential().chain,
        verified=True,
    )
    assert len(ticket.psk) == 32


@pytest.mark.req("4.7.1-13", "4.7.1-14")
@pytest.mark.parametrize(("lifetime", "kept"), [(0, []), (1, [1]), (2**32 - 1, [MAX_LIFETIME])])
def test_a_lifetime_of_nothing_or_of_ages(lifetime: int, kept: list[int]) -> None:
    tickets = _given(replace(MESSAGE, ticket_lifetime=lifetime))
    assert [ticket.lifetime for ticket in tickets] == kept


@pytest.mark.req("4.7.1-3")
def test_a_client_without_a_cache_ignores_tickets() -> None:
    target = ClientConnection(client_config())
    peer = ScriptedServer(target).handshake()
    target.events()
    peer.send(MESSAGE)
    assert target.events() == []


def test_tickets_with_other_nonces_have_other_keys() -> None:
    target = ClientConnection(client_config(session_cache=SessionCache()))
    peer = ScriptedServer(target).handshake()
    peer.send(MESSAGE, replace(MESSAGE, ticket_nonce=b""), replace(MESSAGE, ticket_nonce=b"\1"))
    keys = {event.ticket.psk for event in target.events() if isinstance(event, TicketReceived)}
    assert len(keys) == 3


def _wrong(violation: Violation, message: NewSessionTicket | bytes) -> Case:
    return Case(violation, {}, lambda peer: peer.handshake().send(message))


KEY_SHARE = UnknownExtension(ExtensionType.key_share, b"")
CASES = {
    "no-ticket": _wrong(Violation.VECTOR_LENGTH, frame(MESSAGE.msg_type, bytes(13))),
    "truncated": _wrong(Violation.TRUNCATED, frame(MESSAGE.msg_type, MESSAGE.encode()[:-1])),
    "trailing": _wrong(Violation.TRAILING_DATA, frame(MESSAGE.msg_type, MESSAGE.encode() + b"\0")),
    "misplaced": _wrong(
        Violation.EXTENSION_NOT_ALLOWED, replace(MESSAGE, extensions=Extensions((KEY_SHARE,)))
    ),
}


@pytest.mark.parametrize("name", CASES)
def test_a_wrong_ticket_is_refused(name: str) -> None:
    CASES[name].against_client()


# -- the server's keys -----------------------------------------------------------------------------

STATE = TicketState(
    version=TICKET_VERSION,
    ticket_id=bytes(16),
    suite=SHA384_SUITE,
    psk=bytes(48),
    issued_at=10**12,
    authenticated_at=10**12,
    lifetime=1000,
    age_add=5,
    max_early_data=9,
    alpn=b"h2",
    client_chain=(b"leaf",),
)


@pytest.mark.req("4.7.1-17")
def test_a_ticket_opens_to_what_was_sealed() -> None:
    keys = TicketKeys()
    ticket = keys.seal(STATE, 0)
    assert keys.open(ticket, 0) == STATE
    assert keys.seal(STATE, 0) != ticket
    assert TicketKeys().open(ticket, 0) is None
    assert STATE.psk not in ticket
    assert "psk" not in repr(STATE)


def test_no_octet_of_a_ticket_can_be_changed_nor_cut_off() -> None:
    keys = TicketKeys()
    ticket = keys.seal(STATE, 0)
    for at in range(len(ticket)):
        bent = ticket[:at] + bytes((ticket[at] ^ 0x10,)) + ticket[at + 1 :]
        assert keys.open(bent, 0) is None
        assert keys.open(ticket[:at], 0) is None
    assert keys.open(ticket + b"\0", 0) is None


def test_a_ticket_of_another_version_or_form_is_not_opened() -> None:
    keys = TicketKeys()
    assert keys.open(keys.seal(replace(STATE, version=2), 0), 0) is None

    class Other(TicketState):
        def encode(self) -> bytes:
            return b"something else"

    fields = {name: getattr(STATE, name) for name in TicketState.__dataclass_fields__}
    assert keys.open(keys.seal(Other(**fields), 0), 0) is None


@pytest.mark.req("4.3.11-6")
def test_keys_are_renewed_and_the_last_one_still_opens() -> None:
    keys = TicketKeys(rotation=100)
    first, late = keys.seal(STATE, 0), keys.seal(STATE, 99)
    second = keys.seal(STATE, 100)
    assert first[:16] == late[:16] != second[:16]
    assert keys.open(first, 199) == keys.open(late, 199) == STATE
    assert keys.open(late, 200) is None
    assert keys.open(second, 299) == STATE
    keys.seal(STATE, 1000)
    assert keys.open(second, 1000) is None


def test_a_rotation_of_no_time_is_a_configuration_error() -> None:
    with pytest.raises(ConfigurationError):
        TicketKeys(rotation=0)


# -- the guard against replay ----------------------------------------------------------------------


def _guard(**settings: Any) -> ReplayGuard:
    guard = ReplayGuard(**settings)
    guard.issued(b"ticket", 1000)
    return guard


@pytest.mark.req("8-3", "4.3.10-3", "8.2-5")
def test_a_ticket_is_admitted_once_while_it_lives_and_if_it_is_on_time() -> None:
    guard = _guard()
    assert guard.admit_ticket(b"ticket", b"binder", 500, 500)
    assert not guard.admit_ticket(b"ticket", b"binder", 500, 500)
    assert not guard.admit_ticket(b"another", b"binder 2", 500, 500)
    assert not _guard().admit_ticket(b"ticket", b"binder", 1000, 1000), "expired"
    for late, admitted in ((10, True), (-10, True), (10.1, False), (-10.1, False)):
        assert _guard().admit_ticket(b"ticket", b"binder", 500, 500 + late) is admitted
        assert _guard(window=1).admit_ticket(b"ticket", b"binder", 500, 500 + late) is False


@pytest.mark.req("8.2-4")
def test_a_binder_is_remembered_for_as_long_as_it_could_be_fresh() -> None:
    guard = ReplayGuard(window=10)
    for number in range(4):
        guard.issued(b"%d" % number, 1000)
    assert guard.admit_ticket(b"0", b"binder", 100, 100)
    assert not guard.admit_ticket(b"1", b"binder", 120, 120)
    assert guard.admit_ticket(b"2", b"other", 120, 120)
    assert guard.admit_ticket(b"3", b"binder", 121, 121)


@pytest.mark.req("8.2-1", "8.2-2", "8.2-3")
def test_a_full_store_refuses_and_never_grows() -> None:
    guard = ReplayGuard(capacity=2)
    for number in range(3):
        guard.issued(b"%d" % number, 1000)
    assert not guard.admit_ticket(b"0", b"a", 0, 0), "the oldest lost its permission"
    assert guard.admit_ticket(b"1", b"b", 0, 0)
    assert guard.admit_ticket(b"2", b"c", 0, 0)
    guard.issued(b"3", 1000)
    assert not guard.admit_ticket(b"3", b"d", 0, 0)
    guard.issued(b"4", 1000)
    assert guard.admit_ticket(b"4", b"e", 100, 100), "what is old was forgotten"


def test_an_external_binder_is_remembered_for_good() -> None:
    guard = ReplayGuard(capacity=2)
    assert guard.admit_external(b"a")
    assert not guard.admit_external(b"a")
    assert guard.admit_external(b"b")
    assert not guard.admit_external(b"c")


@pytest.mark.parametrize("settings", [{"window": 0}, {"capacity": 0}, {"window": -1.0}], ids=str)
def test_a_guard_that_could_not_guard_is_a_configuration_error(settings: Any) -> None:
    with pytest.raises(ConfigurationError):
        ReplayGuard(**settings)
