"""Records that must not come, in both roles; and what a connection does when something fails."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.misbehaviour import Case
from tests.unit.scripted import ScriptedPeer
from tests.unit.scripted_client import ScriptedClient
from tests.unit.scripted_server import ScriptedServer
from tests.unit.support import WatchedBackend, client_config, data_in, server_config, split_records
from tpmtls.codepoints import ContentType, KeyUpdateRequest
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.record import CHANGE_CIPHER_SPEC_RECORD, Epoch, Record
from tpmtls.violations import BackendError, ConnectionStateError
from tpmtls.violations import Violation as V
from tpmtls.wire.messages import Finished, KeyUpdate, ServerHello

APPLICATION, HANDSHAKE, ALERT = (
    ContentType.application_data,
    ContentType.handshake,
    ContentType.alert,
)
CCS = CHANGE_CIPHER_SPEC_RECORD
QUIET = {"tickets": 0}


def _raw(octets: bytes) -> Any:
    """These octets, whatever they are."""
    return lambda peer: peer.target.receive_data(octets)


def _record(kind: int, content: bytes) -> Any:
    return lambda peer: peer.send_record(ContentType(kind), content)


def _inner(inner: bytes) -> Any:
    return lambda peer: peer.send_inner(inner)


def _plain(kind: int, body: bytes) -> bytes:
    return bytes((kind, 3, 3)) + len(body).to_bytes(2, "big") + body


def _exhausted(peer: ScriptedPeer) -> None:
    peer.target._reader._sequence = 2**64
    peer.send_record(APPLICATION, b"one too many")


def _split_by(kind: int, content: bytes) -> Any:
    """A handshake message with another record inside."""

    def script(peer: ScriptedPeer) -> None:
        peer.send_record(HANDSHAKE, KeyUpdate(KeyUpdateRequest(0)).to_octets()[:3])
        peer.send_record(ContentType(kind), content)

    return script


# -- at the very start, in clear -------------------------------------------------------------------

IN_CLEAR: dict[str, tuple[V, Any]] = {
    "type-0": (V.UNEXPECTED_RECORD, _raw(_plain(0, b"x"))),
    "type-24": (V.UNEXPECTED_RECORD, _raw(_plain(24, b"x"))),
    "type-255": (V.UNEXPECTED_RECORD, _raw(_plain(255, b"x"))),
    "http": (V.UNEXPECTED_RECORD, _raw(b"GET / HTTP/1.1\r\n\r\n")),
    "ssl-2": (V.UNEXPECTED_RECORD, _raw(b"\x80\x2e\x01\x00\x02" + bytes(512))),
    "too-long": (V.RECORD_OVERFLOW, _raw(b"\x16\x03\x03\x40\x01")),
    "handshake-empty": (V.EMPTY_FRAGMENT, _raw(_plain(22, b""))),
    "alert-empty": (V.EMPTY_FRAGMENT, _raw(_plain(21, b""))),
    "alert-short": (V.MALFORMED_ALERT, _raw(_plain(21, b"\2"))),
    "alert-long": (V.MALFORMED_ALERT, _raw(_plain(21, b"\2\50\0"))),
    "alert-two": (V.MALFORMED_ALERT, _raw(_plain(21, b"\1\0\1\0"))),
    "data": (V.PREMATURE_APPLICATION_DATA, _raw(_plain(23, bytes(40)))),
    "data-too-long": (V.CIPHERTEXT_OVERFLOW, _raw(b"\x17\x03\x03\x41\x01")),
    "message-too-long": (V.MESSAGE_TOO_LONG, _raw(_plain(22, b"\x01\x01\xff\xfd"))),
    "message-unknown": (V.UNEXPECTED_MESSAGE, _raw(_plain(22, b"\x63\0\0\0"))),
    "message-hello-request": (V.UNEXPECTED_MESSAGE, _raw(_plain(22, b"\0\0\0\0"))),
    "message-hash": (V.UNEXPECTED_MESSAGE, _raw(_plain(22, b"\xfe\0\0\0"))),
    "message-retry-by-type": (V.UNEXPECTED_MESSAGE, _raw(_plain(22, b"\6\0\0\0"))),
    "interleaved": (
        V.INTERLEAVED,
        _raw(_plain(22, b"\x01\x00") + _plain(21, b"\1\x5a")),
    ),
    "change-cipher-spec-0": (V.BAD_CHANGE_CIPHER_SPEC, _raw(_plain(20, b"\0"))),
    "change-cipher-spec-twice": (V.BAD_CHANGE_CIPHER_SPEC, _raw(_plain(20, b"\1\1"))),
    "change-cipher-spec-empty": (V.BAD_CHANGE_CIPHER_SPEC, _raw(_plain(20, b""))),
}
FRESH_SERVER = {
    name: (V.LATE_CHANGE_CIPHER_SPEC if name.startswith("change") else violation, script)
    for name, (violation, script) in IN_CLEAR.items()
} | {"change-cipher-spec": (V.LATE_CHANGE_CIPHER_SPEC, _raw(CCS))}

# -- under keys ------------------------------------------------------------------------------------

PROTECTED: dict[str, tuple[V, Any]] = {
    "in-clear-handshake": (V.UNEXPECTED_RECORD, _raw(_plain(22, b"\x18\0\0\1\0"))),
    "in-clear-type-24": (V.UNEXPECTED_RECORD, _raw(_plain(24, b"x"))),
    "type-24": (V.UNEXPECTED_RECORD, _record(24, b"x")),
    "type-21-empty": (V.EMPTY_FRAGMENT, _record(21, b"")),
    "type-22-empty": (V.EMPTY_FRAGMENT, _record(22, b"")),
    "type-22-padded-empty": (V.EMPTY_FRAGMENT, _inner(b"\x16" + bytes(100))),
    "zeros": (V.PADDING_ONLY, _inner(bytes(100))),
    "nothing": (V.PADDING_ONLY, _inner(b"")),
    "inner-too-long": (V.RECORD_OVERFLOW, _inner(b"x" * 2**14 + b"\x17\0")),
    "inner-far-too-long": (V.RECORD_OVERFLOW, _inner(b"x" * (2**14 + 200) + b"\x17")),
    "too-long": (V.CIPHERTEXT_OVERFLOW, _raw(b"\x17\x03\x03\x41\x01")),
    "bent": (V.BAD_RECORD_MAC, _raw(_plain(23, bytes(40)))),
    "shorter-than-a-tag": (V.BAD_RECORD_MAC, _raw(_plain(23, bytes(5)))),
    "empty": (V.BAD_RECORD_MAC, _raw(_plain(23, b""))),
    "alert-short": (V.MALFORMED_ALERT, _record(21, b"\2")),
    "alert-two": (V.MALFORMED_ALERT, _record(21, b"\1\0\1\0")),
    "change-cipher-spec-inside": (V.BAD_CHANGE_CIPHER_SPEC, _record(20, b"\1")),
    "sequence": (V.SEQUENCE_EXHAUSTED, _exhausted),
}
CONNECTED = PROTECTED | {
    "in-clear-alert": (V.UNEXPECTED_RECORD, _raw(_plain(21, b"\2\50"))),
    "interleaved-with-data": (V.INTERLEAVED, _split_by(23, b"data")),
    "interleaved-with-alert": (V.INTERLEAVED, _split_by(21, b"\1\0")),
    "change-cipher-spec": (V.LATE_CHANGE_CIPHER_SPEC, _raw(CCS)),
    "change-cipher-spec-0": (V.LATE_CHANGE_CIPHER_SPEC, _raw(_plain(20, b"\0"))),
    "message-too-long": (V.MESSAGE_TOO_LONG, _record(22, b"\x04\xff\xff\xff")),
    "message-unknown": (V.UNEXPECTED_MESSAGE, _record(22, b"\x63\0\0\0")),
}
IN_HANDSHAKE = PROTECTED | {
    "data": (V.PREMATURE_APPLICATION_DATA, _record(23, b"too early")),
    "no-data": (V.PREMATURE_APPLICATION_DATA, _record(23, b"")),
    "change-cipher-spec-0": (V.BAD_CHANGE_CIPHER_SPEC, _raw(_plain(20, b"\0"))),
    "message-too-long": (V.MESSAGE_TOO_LONG, _record(22, b"\x0b\x02\0\0")),
}


def _cases(table: dict[str, tuple[V, Any]], start: Any, **config: Any) -> dict[str, Case]:
    """The table's rows, each after the peer has said what `start` says."""

    def after(script: Any) -> Any:
        return lambda peer: script(start(peer))

    return {
        name: Case(violation, {}, after(script), config)
        for name, (violation, script) in table.items()
    }


def _named(**states: dict[str, Case]) -> dict[str, Case]:
    return {f"{state}-{name}": c for state, cases in states.items() for name, c in cases.items()}


AGAINST_CLIENT = _named(
    start=_cases(IN_CLEAR, lambda peer: peer.accept()),
    handshake=_cases(IN_HANDSHAKE, lambda peer: peer.accept().hello()),
    connected=_cases(CONNECTED, lambda peer: peer.handshake()),
)
AGAINST_SERVER = _named(
    start=_cases(FRESH_SERVER, lambda peer: peer),
    handshake=_cases(IN_HANDSHAKE, lambda peer: peer.hello().read_flight()),
    connected=_cases(CONNECTED, lambda peer: peer.handshake(), **QUIET),
)


@pytest.mark.req("5-2", "5-3", "5-5", "5.1-4", "5.1-12", "5.1-19", "5.2-2", "5.2-3", "5.2-5")
@pytest.mark.req("5.4-4", "5.4-6", "5.3-2", "6-9", "5.1-9", "5.1-17")
@pytest.mark.parametrize("name", AGAINST_CLIENT)
def test_a_client_refuses_every_wrong_record(name: str) -> None:
    AGAINST_CLIENT[name].against_client()


@pytest.mark.req("5-2", "5-3", "5-5", "5.1-4", "5.1-12", "5.1-19", "5.2-2", "5.2-3", "5.2-5")
@pytest.mark.req("5.4-4", "5.4-6", "5.3-2", "6-9", "5.1-9", "4.5.3-4")
@pytest.mark.parametrize("name", AGAINST_SERVER)
def test_a_server_refuses_every_wrong_record(name: str) -> None:
    AGAINST_SERVER[name].against_server()


# -- messages that span a change of keys -----------------------------------------------------------


def _coalesced(kind: type, more: bytes) -> Any:
    return {kind: lambda message: message.to_octets() + more}


def _hello_and_more(peer: ScriptedClient) -> None:
    """The server answers what it can read, then finds the rest."""
    write = peer.writer.write
    peer.writer.write = lambda kind, content: write(kind, content + b"\x14")  # type: ignore[assignment,method-assign]
    try:
        peer.hello()
    finally:
        peer.read_flight()


SPANNING_CLIENT = {
    "server-hello": Case(V.NOT_ALIGNED, _coalesced(ServerHello, b"\x08\0\0\2\0\0")),
    "server-hello-part": Case(V.NOT_ALIGNED, _coalesced(ServerHello, b"\x08")),
    "finished": Case(V.NOT_ALIGNED, _coalesced(Finished, b"\x18\0\0\1\0")),
}
SPANNING_SERVER = {
    "client-hello": Case(V.NOT_ALIGNED, {}, _hello_and_more),
    "finished": Case(V.NOT_ALIGNED, _coalesced(Finished, b"\x18\0\0\1\0")),
    "finished-part": Case(V.NOT_ALIGNED, _coalesced(Finished, b"\x18")),
}


@pytest.mark.req("5.1-5", "5.1-6", "5.1-7", "5.1-8")
@pytest.mark.parametrize("name", SPANNING_CLIENT)
def test_no_message_from_a_server_spans_a_change_of_keys(name: str) -> None:
    SPANNING_CLIENT[name].against_client()


@pytest.mark.req("5.1-5", "5.1-6", "5.1-7", "5.1-8")
@pytest.mark.parametrize("name", SPANNING_SERVER)
def test_no_message_from_a_client_spans_a_change_of_keys(name: str) -> None:
    SPANNING_SERVER[name].against_server()


# -- fragments and chunks --------------------------------------------------------------------------


@pytest.mark.req("5.1-2")
@pytest.mark.parametrize("size", [1, 3, 100])
def test_messages_may_come_in_any_number_of_records(size: int) -> None:
    class Fragmenting(ScriptedServer):
        def send_record(self, content_type: ContentType, content: bytes) -> None:
            for start in range(0, len(content), size):
                super().send_record(content_type, content[start : start + size])

    peer = Fragmenting(ClientConnection(client_config())).handshake()
    peer.send_record(APPLICATION, b"data")
    assert data_in(peer.target.events()) == b"data"


@pytest.mark.req("5.1-2")
def test_messages_between_changes_of_keys_may_share_a_record() -> None:
    peer = ScriptedServer(ClientConnection(client_config())).accept().hello()
    record = bytearray()
    peer.send_record = lambda kind, content: record.extend(content)  # type: ignore[assignment,method-assign]
    peer.encrypted_extensions().authenticate().say_finished(peer.server_secret)
    peer.target.receive_data(peer.writer.write(HANDSHAKE, bytes(record)))
    assert peer.target.handshake_complete


@pytest.mark.req("5.1-13", "5.1-14", "5.4-5")
def test_empty_and_padded_data_is_taken_and_an_empty_record_is_no_event() -> None:
    peer = ScriptedServer(ClientConnection(client_config())).handshake()
    peer.target.events()
    peer.send_record(APPLICATION, b"")
    peer.send_inner(b"\x17" + bytes(1000))
    assert peer.target.events() == []
    peer.send_inner(b"padded\x17" + bytes(2**14 - 6))
    peer.send_inner(b"x" * 2**14 + b"\x17")
    assert data_in(peer.target.events()) == b"padded" + b"x" * 2**14


def test_an_empty_send_is_an_empty_record() -> None:
    peer = ScriptedServer(ClientConnection(client_config())).handshake()
    peer.target.send_data(b"")
    assert peer.next_record() == Record(APPLICATION, b"", Epoch.APPLICATION)


# -- when something on our side fails --------------------------------------------------------------


class Broken(WatchedBackend):
    """Fails when the secrets of the handshake are derived."""

    error: Exception = BackendError("the chip is gone")

    def expand_label(self, *arguments: Any) -> Any:
        if arguments[-1] == "client_handshake_traffic_secret":
            raise self.error
        return super().expand_label(*arguments)


@pytest.mark.parametrize("error", [BackendError("gone"), RuntimeError("a bug"), MemoryError()])
def test_a_failure_of_ours_ends_the_connection_with_internal_error(error: Exception) -> None:
    backend = Broken()
    backend.error = error
    server = ServerConnection(server_config(), backend)
    hello = ClientConnection(client_config()).data_to_send()
    with pytest.raises(type(error)):
        server.receive_data(hello)
    assert split_records(server.data_to_send())[-1] == (ALERT, b"\x02\x50")
    for _ in range(2):
        with pytest.raises(BackendError):
            server.receive_data(hello)
    assert server.data_to_send() == b""


def test_what_cannot_be_done_now_raises_and_harms_nothing() -> None:
    client = ClientConnection(client_config())
    for attempt in (
        lambda: client.send_data(b"x"),
        client.update_keys,
        lambda: client.export_keying_material("label", b"", 16),
        lambda: client.export_early_keying_material("label", b"", 16),
        lambda: client.send_early_data(b"x"),
    ):
        with pytest.raises(ConnectionStateError):
            attempt()
    server = ServerConnection(server_config())
    for attempt in (server.request_client_certificate, server.send_tickets):
        with pytest.raises(ConnectionStateError):
            attempt()
    server.receive_data(client.data_to_send())
    client.receive_data(server.data_to_send())
    server.receive_data(client.data_to_send())
    assert server.handshake_complete
