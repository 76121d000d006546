"""The blocking adapter: streams over real sockets, read and written."""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import struct
import threading
from typing import Any

import pytest

import tpmtls
from tests.unit.streams import (
    LOOPBACK,
    SOON,
    facing_client,
    facing_server,
    received_by,
    serving,
    visit,
)
from tests.unit.support import (
    client_config,
    client_credential,
    credential,
    pki,
    trust,
)
from tpmtls.codepoints import AlertDescription, CipherSuite, NamedGroup
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.sockets import TlsStream, connect
from tpmtls.tickets import SessionCache
from tpmtls.violations import (
    CertificateError,
    ConnectionStateError,
    PeerAlert,
    PeerViolation,
    TruncationError,
)

# -- what it is for --------------------------------------------------------------------------------


def test_a_reader_and_a_writer_move_a_mebibyte_each_way():
    data = bytes(range(256)) * 4096
    with serving() as server, connect(server.address, client_config()) as stream:
        writer = threading.Thread(target=stream.sendall, args=(data,))
        writer.start()
        received = bytearray()
        while len(received) < len(data):
            received += stream.recv()
        writer.join()
        assert received == data


def test_the_stream_knows_what_was_negotiated():
    config = client_config(alpn=("x", "y"), suites=(CipherSuite.TLS_CHACHA20_POLY1305_SHA256,))
    with serving(alpn=("y",)) as server, connect(server.address, config) as stream:
        assert stream.suite is CipherSuite.TLS_CHACHA20_POLY1305_SHA256
        assert stream.group is NamedGroup.x25519
        assert stream.alpn == "y"
        assert stream.server_name == "localhost"
        assert not stream.resumed
        assert stream.early_data_accepted is None
        assert stream.peer_chain[0] == stream.getpeercert(binary_form=True)
        assert stream.peer_certificate == credential().leaf
        assert stream.getpeername() == server.address
        assert stream.getsockname()[0] == "127.0.0.1"
        assert stream.fileno() > 0
        assert "open" in repr(stream)
    assert "closed" in repr(stream)


def test_the_address_is_the_name_that_the_certificate_must_have():
    with serving() as server:
        with connect(server.address, tpmtls.ClientConfig(trust=pki().ca)) as stream:
            assert stream.server_name is None  # an address is not sent
        with pytest.raises(CertificateError):
            connect(server.address, client_config(server_name="elsewhere.example"))


def test_without_a_configuration_the_system_is_trusted(monkeypatch):
    monkeypatch.setattr(tpmtls.TrustStore, "system", trust)
    with serving() as server, connect(server.address) as stream:
        assert stream.suite.is_known


def test_an_accepted_socket_becomes_a_stream():
    with facing_client() as (stream, far):
        far.connection.send_data(b"question")
        far.say()
        assert stream.recv() == b"question"
        stream.sendall(b"answer")
        assert received_by(far, 6) == b"answer"


def test_both_sides_export_the_same():
    exported: queue.Queue[bytes] = queue.Queue()

    def handler(stream: TlsStream) -> None:
        exported.put(stream.export_keying_material("EXPERIMENTAL test", 20, b"context"))

    with serving(handler) as server, connect(server.address, client_config()) as stream:
        ours = stream.export_keying_material("EXPERIMENTAL test", 20, b"context")
        assert exported.get(timeout=10) == ours


def test_keys_are_updated_in_the_middle():
    with serving() as server, connect(server.address, client_config()) as stream:
        for request_peer in (False, True):
            stream.update_keys(request_peer=request_peer)
            stream.sendall(b"on we go")
            assert stream.recv() == b"on we go"


def test_a_server_asks_for_a_certificate_later():
    chains: queue.Queue[Any] = queue.Queue()

    def handler(stream: TlsStream) -> None:
        chains.put(stream.peer_certificate)
        stream.request_client_certificate()
        stream.sendall(b"who are you?")
        stream.recv()
        chains.put(stream.peer_certificate)

    config = client_config(credentials=(client_credential(),), post_handshake_auth=True)
    with serving(handler, client_trust=trust()) as server, connect(server.address, config) as it:
        assert it.recv() == b"who are you?"
        it.sendall(b"this is who")
        assert chains.get(timeout=10) is None
        assert chains.get(timeout=10) == client_credential().leaf
        with pytest.raises(ConnectionStateError):
            it.request_client_certificate()


def test_nothing_is_known_before_the_handshake():
    near, there = socket.socketpair()
    with there, near:
        stream = TlsStream(near, ClientConnection(client_config()))
        with pytest.raises(ConnectionStateError):
            _ = stream.suite


# -- tickets and early data ------------------------------------------------------------------------


def test_early_data_goes_with_a_ticket_that_permits_it_and_is_kept_apart():
    config = client_config(session_cache=SessionCache())
    with serving(max_early_data=100) as server:
        first, answer = visit(server, config, b"early")
        assert first.early_data_accepted is None
        assert answer == b"."
        second, answer = visit(server, config, b"early")
        assert second.early_data_accepted is True
        assert answer == b"early."


def test_more_early_data_than_permitted_is_not_offered_and_costs_no_ticket():
    config = client_config(session_cache=SessionCache())
    with serving(max_early_data=3) as server:
        visit(server, config)
        again, answer = visit(server, config, b"early")
    assert again.early_data_accepted is None
    assert again.psk == "resumption"
    assert answer == b"."


def test_early_data_with_a_ticket_that_is_not_good_enough():
    lax = client_config(session_cache=SessionCache(), verify=False)
    with serving(max_early_data=100) as server:
        visit(server, lax)
        strict, answer = visit(server, lax.replace(verify=True), b"early")
    assert strict.early_data_accepted is None
    assert strict.psk is None
    assert answer == b"."


def test_early_data_under_an_external_psk():
    psk = tpmtls.ExternalPsk(
        b"id", bytes(32), max_early_data=5, suite=CipherSuite.TLS_AES_128_GCM_SHA256
    )
    with serving(psks=(psk,), max_early_data=5) as server:
        info, answer = visit(server, client_config(psks=(psk,)), b"early")
    assert info.psk == "external"
    assert info.early_data_accepted is True
    assert answer == b"early."


# -- reading ---------------------------------------------------------------------------------------


def test_recv_gives_no_more_than_asked_for():
    with facing_server() as (stream, far):
        far.connection.send_data(b"abcdefgh")
        far.say()
        assert stream.recv(0) == b""
        assert stream.recv(3) == b"abc"
        assert stream.pending() == 5
        buffer = bytearray(4)
        assert stream.recv_into(buffer, 2) == 2
        assert bytes(buffer) == b"de\0\0"
        assert stream.recv_into(buffer) == 3
        assert bytes(buffer) == b"fgh\0"
        assert stream.pending() == 0


def test_the_end_is_said_by_the_peer():
    with facing_server() as (stream, far):
        far.connection.send_data(b"last")
        far.connection.close()
        far.say()
        assert stream.recv() == b"last"
        assert stream.recv() == b""
        assert stream.recv() == b""
        stream.sendall(b"not for us")
        far.hear()


def test_a_transport_that_just_ends_is_an_error_after_the_data():
    with facing_server() as (stream, far):
        far.connection.send_data(b"most of it")
        far.say()
        far.sock.close()
        assert stream.recv() == b"most of it"
        for _ in range(2):
            with pytest.raises(TruncationError):
                stream.recv()
        with pytest.raises(TruncationError):
            stream.sendall(b"?")


def test_an_error_comes_after_the_data_before_it_and_its_alert_arrives():
    with facing_server() as (stream, far):
        far.connection.send_data(b"good")
        far.sock.sendall(far.connection.data_to_send() + b"\x17\x03\x03\x00\x11" + bytes(17))
        assert stream.recv() == b"good"
        with pytest.raises(PeerViolation) as caught:
            stream.recv()
        with pytest.raises(PeerViolation):
            stream.recv()
        with pytest.raises(PeerViolation):
            stream.sendall(b"too late")
        with pytest.raises(PeerAlert) as told:
            far.hear()
        assert told.value.description is caught.value.alert
        far.sock.close()


def test_recv_times_out_and_may_be_called_again():
    with facing_server() as (stream, far):
        assert stream.gettimeout() is None
        stream.settimeout(SOON)
        assert stream.gettimeout() == SOON
        with pytest.raises(TimeoutError):
            stream.recv()
        stream.setblocking(False)
        with pytest.raises(BlockingIOError):
            stream.recv()
        stream.setblocking(True)
        far.connection.send_data(b"here")
        far.say()
        assert stream.recv() == b"here"
        with pytest.raises(ValueError, match="negative"):
            stream.settimeout(-1)


def test_a_timeout_bounds_the_call_and_not_each_packet():
    with facing_server() as (stream, far):
        far.connection.send_data(bytes(1000))
        octets = far.connection.data_to_send()
        done = threading.Event()

        def drip() -> None:
            for i in range(len(octets) - 1):  # never the whole record
                far.sock.sendall(octets[i : i + 1])
                if done.wait(SOON / 10):
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        stream.settimeout(SOON)
        with pytest.raises(TimeoutError):
            stream.recv()
        done.set()
        thread.join()


# -- writing ---------------------------------------------------------------------------------------


def test_sending_nothing_sends_nothing():
    with facing_server() as (stream, far):
        stream.sendall(b"")
        assert stream.send(b"") == 0
        assert select.select([far.sock], [], [], 0)[0] == []


def test_any_buffer_can_be_sent():
    with facing_server() as (stream, far):
        stream.sendall(bytearray(b"a"))
        stream.sendall(memoryview(b"bc"))
        stream.sendall(memoryview(struct.pack("=2H", 0x6464, 0x6464)).cast("H"))
        assert received_by(far, 7) == b"abcdddd"


def test_a_stream_stays_in_order_when_the_peer_does_not_read():
    with facing_server() as (stream, far):
        stream.setblocking(False)
        sent = bytearray()
        with contextlib.suppress(BlockingIOError):
            while True:
                piece = bytes([len(sent) % 251]) * 100_000
                taken = stream.send(piece)
                sent += piece[:taken]
        with pytest.raises(BlockingIOError):
            stream.sendall(b"!")  # goes out in the end: nobody knows how much of a sendall does
        with pytest.raises(BlockingIOError):
            stream.send(b"?")  # but this did not take it
        stream.setblocking(True)
        reader: queue.Queue[bytes] = queue.Queue()
        total = len(sent) + 2
        thread = threading.Thread(target=lambda: reader.put(received_by(far, total)))
        thread.start()
        stream.sendall(b".")
        thread.join()
        assert reader.get() == bytes(sent) + b"!."


def test_a_blocked_writer_does_not_stop_the_reader_whose_replies_it_sends():
    with facing_server() as (stream, far):
        data = bytes(4 * 2**20)
        writer = threading.Thread(target=stream.sendall, args=(data,))
        writer.start()
        far.connection.update_keys(request_peer=True)
        far.connection.send_data(b"answer this")
        far.say()
        assert stream.recv() == b"answer this"
        assert received_by(far, len(data)) == data
        writer.join()


def test_a_writer_waits_for_its_turn_within_its_timeout():
    with facing_server() as (stream, far):
        stream.settimeout(SOON)
        with stream._writing, pytest.raises(TimeoutError):
            stream.sendall(b"in between")
        stream.sendall(b", or after")
        assert received_by(far, 20) == b"in between, or after"


def ready_to_authenticate() -> Any:
    return client_config(credentials=(client_credential(),), post_handshake_auth=True)


def test_a_reply_is_left_to_the_writer_at_work():
    with facing_server(ready_to_authenticate(), client_trust=trust()) as (stream, far):
        assert isinstance(far.connection, ServerConnection)
        far.connection.request_client_certificate()
        far.connection.send_data(b"data")
        far.say()
        with stream._writing:
            assert stream.recv() == b"data"
            assert select.select([far.sock], [], [], 0)[0] == []
        stream.sendall(b"!")
        assert received_by(far, 1) == b"!"


def test_replies_that_pile_up_make_the_reader_wait(monkeypatch):
    monkeypatch.setattr("tpmtls.sockets.stream.REPLY_LIMIT", 0)
    with facing_server(ready_to_authenticate(), client_trust=trust()) as (stream, far):
        assert isinstance(far.connection, ServerConnection)
        far.connection.request_client_certificate()
        far.connection.send_data(b"data")
        far.say()
        stream.settimeout(SOON)
        with stream._writing:
            assert stream.recv() == b"data"
        assert stream._outgoing
        stream.sendall(b"!")
        assert received_by(far, 1) == b"!"


def test_the_reason_why_the_peer_went_is_looked_for():
    with facing_server() as (stream, far):
        far.connection.abort(AlertDescription.access_denied)
        far.say()
        far.sock.close()
        with pytest.raises(PeerAlert) as caught:
            stream.sendall(bytes(2**20))
        assert caught.value.description is AlertDescription.access_denied
        with pytest.raises(PeerAlert):
            stream.recv()


def test_a_peer_that_went_without_a_word():
    with facing_server() as (stream, far):
        far.connection.close()
        far.say()
        far.sock.close()
        with pytest.raises(BrokenPipeError):
            stream.sendall(bytes(2**20))
        assert stream.recv() == b""


def test_a_reason_that_another_thread_is_about_to_read():
    with facing_server() as (stream, far):
        far.connection.abort(AlertDescription.access_denied)
        far.say()
        far.sock.close()
        with stream._reading, pytest.raises(BrokenPipeError):
            stream.sendall(bytes(2**20))
        with pytest.raises(PeerAlert):
            stream.recv()


def test_a_reset_in_the_handshake():
    def accept_and_reset() -> None:
        sock, _ = listener.accept()
        sock.recv(1)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        sock.close()

    with socket.create_server(LOOPBACK) as listener:
        thread = threading.Thread(target=accept_and_reset)
        thread.start()
        with pytest.raises(ConnectionResetError):
            connect(listener.getsockname(), client_config())
        thread.join()
