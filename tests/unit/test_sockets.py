"""The blocking adapter: streams over real sockets, and every way in which they end."""

from __future__ import annotations

import contextlib
import queue
import select
import socket
import struct
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest

import tpmtls
from tests.unit.support import (
    client_config,
    client_credential,
    credential,
    pki,
    server_config,
    trust,
)
from tpmtls.codepoints import AlertDescription, CipherSuite, NamedGroup
from tpmtls.connection import ClientConnection, Connection, ServerConnection
from tpmtls.sockets import Server, TlsStream, channel, connect, serve, wrap_client, wrap_server
from tpmtls.tickets import SessionCache
from tpmtls.violations import (
    CertificateError,
    ConfigurationError,
    ConnectionStateError,
    HandshakeTimeoutError,
    PeerAlert,
    PeerViolation,
    TlsError,
    TruncationError,
)

LOOPBACK = ("127.0.0.1", 0)
SOON = 0.05
"""A timeout that is meant to pass, in seconds."""


def echo(stream: TlsStream) -> None:
    stream.sendall(stream.early_data)
    while data := stream.recv():
        stream.sendall(data)


def serving(handler: Callable[[TlsStream], object] = echo, **changes: Any) -> Server:
    return serve(LOOPBACK, server_config(**changes), handler)


class Far:
    """The other end of a stream under test: a connection without IO, driven step by step."""

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        self.sock, self.connection = sock, connection

    def say(self) -> None:
        self.sock.sendall(self.connection.data_to_send())

    def hear(self) -> bytes:
        octets = self.sock.recv(2**16)
        self.connection.receive_data(octets)
        return octets

    def handshake(self) -> None:
        self.say()
        while not self.connection.handshake_complete:
            self.hear()
            self.say()


@contextlib.contextmanager
def facing_server(client: Any = None, **changes: Any) -> Iterator[tuple[TlsStream, Far]]:
    """A client's stream, and the server that it has completed a handshake with."""
    near, there = socket.socketpair()
    far = Far(there, ServerConnection(server_config(tickets=0, **changes)))
    thread = threading.Thread(target=far.handshake)
    thread.start()
    with there, wrap_client(near, client or client_config()) as stream:
        thread.join()
        yield stream, far


@contextlib.contextmanager
def facing_client(server: Any = None, **changes: Any) -> Iterator[tuple[TlsStream, Far]]:
    """A server's stream, and its client."""
    near, there = socket.socketpair()
    far = Far(there, ClientConnection(client_config(**changes)))
    thread = threading.Thread(target=far.handshake)
    thread.start()
    with there, wrap_server(near, server or server_config(tickets=0)) as stream:
        thread.join()
        yield stream, far


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


def visit(server: Server, config: Any, early_data: bytes = b"") -> tuple[Any, bytes]:
    """Talk to an echo for a moment; what was negotiated, and what came back."""
    with connect(server.address, config, early_data=early_data) as stream:
        stream.sendall(b".")
        stream.shutdown()
        answer = b"".join(iter(stream.recv, b""))
        if config.session_cache is not None:
            assert stream.tickets_received == 2
        return stream.negotiated, answer


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
        assert _received(far, 7) == b"abcdddd"


def _received(far: Far, total: int) -> bytes:
    received = bytearray()
    while len(received) < total:
        far.hear()
        for event in far.connection.events():
            received += getattr(event, "data", b"")
    return bytes(received)


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
        thread = threading.Thread(target=lambda: reader.put(_received(far, total)))
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
        assert _received(far, len(data)) == data
        writer.join()


def test_a_writer_waits_for_its_turn_within_its_timeout():
    with facing_server() as (stream, far):
        stream.settimeout(SOON)
        with stream._writing, pytest.raises(TimeoutError):
            stream.sendall(b"in between")
        stream.sendall(b", or after")
        assert _received(far, 20) == b"in between, or after"


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
        assert _received(far, 1) == b"!"


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
        assert _received(far, 1) == b"!"


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


# -- handshakes that fail --------------------------------------------------------------------------


def failing(handler: Callable[[TlsStream], object] = echo, **changes: Any) -> tuple[Server, Any]:
    failures: queue.Queue[tuple[Exception, Any]] = queue.Queue()
    server = serve(
        LOOPBACK,
        server_config(**changes),
        handler,
        failed=lambda error, peer: failures.put((error, peer)),
    )
    return server, failures


def test_a_client_that_refuses_tells_the_server():
    server, failures = failing()
    with server:
        with pytest.raises(CertificateError):
            connect(server.address, tpmtls.ClientConfig(trust=pki().other_ca))
        error, peer = failures.get(timeout=10)
        assert isinstance(error, PeerAlert)
        assert error.description is AlertDescription.unknown_ca
        assert peer[0] == "127.0.0.1"
        visit(server, client_config())


def test_a_server_that_refuses_tells_the_client():
    server, failures = failing(alpn=("x",))
    with server:
        with pytest.raises(PeerAlert) as caught:
            connect(server.address, client_config(alpn=("y",)))
        assert caught.value.description is AlertDescription.no_application_protocol
        assert isinstance(failures.get(timeout=10)[0], PeerViolation)


def test_the_alert_outlives_data_that_nobody_reads():
    server, failures = failing()
    with server, socket.create_connection(server.address) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n" + bytes(200_000))
        assert sock.recv(100) == bytes.fromhex("150303000202") + b"\x0a"
        error, _ = failures.get(timeout=10)
        assert error.__notes__ == [
            "the peer does not talk TLS, it began with 'GET / HTTP/1.1'",
        ]


def test_a_server_that_does_not_talk_tls():
    listener = socket.create_server(LOOPBACK)

    def greet() -> None:
        sock, _ = listener.accept()
        with sock:
            sock.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            while sock.recv(1000):
                pass

    with listener:
        thread = threading.Thread(target=greet)
        thread.start()
        with pytest.raises(PeerViolation) as caught:
            connect(listener.getsockname(), client_config())
        thread.join()
    assert "SSH-2.0-OpenSSH_9.2" in caught.value.__notes__[0]


def test_a_silent_client_is_dropped():
    server, failures = failing(handshake_timeout=SOON)
    with server, socket.create_connection(server.address) as sock:
        error, _ = failures.get(timeout=10)
        assert isinstance(error, HandshakeTimeoutError)
        alerts = b"".join(iter(lambda: sock.recv(100), b""))
        assert alerts == bytes.fromhex("1503030002015a15030300020100")


def test_a_client_that_drips_is_dropped_as_well():
    server, failures = failing(handshake_timeout=SOON)
    with server, socket.create_connection(server.address) as sock:
        hello = ClientConnection(client_config()).data_to_send()
        done = threading.Event()

        def drip() -> None:
            with contextlib.suppress(OSError):
                for i in range(len(hello)):
                    sock.sendall(hello[i : i + 1])
                    if done.wait(SOON / 10):
                        return

        thread = threading.Thread(target=drip)
        thread.start()
        error, _ = failures.get(timeout=10)
        done.set()
        thread.join()
        assert isinstance(error, HandshakeTimeoutError)


def test_a_silent_server_is_given_up():
    near, there = socket.socketpair()
    with there, pytest.raises(TimeoutError) as caught:
        wrap_client(near, client_config(handshake_timeout=SOON))
    assert isinstance(caught.value, TlsError)
    assert near.fileno() == -1


def test_the_handshake_has_its_own_timeout():
    near, there = socket.socketpair()
    near.setblocking(False)
    with there, pytest.raises(HandshakeTimeoutError):
        wrap_server(near, server_config(handshake_timeout=SOON))


def test_a_peer_that_cancels():
    near, there = socket.socketpair()
    client = ClientConnection(client_config())
    client.cancel()
    with there:
        there.sendall(client.data_to_send())
        with pytest.raises(TruncationError, match="handshake"):
            wrap_server(near, server_config())


def test_an_interrupted_handshake_is_canceled(monkeypatch):
    near, there = socket.socketpair()

    def interrupt(*_: object) -> bytes:
        raise KeyboardInterrupt

    monkeypatch.setattr(channel.Channel, "receive", interrupt)
    with pytest.raises(KeyboardInterrupt):
        wrap_client(near, client_config())
    assert near.fileno() == -1
    with there:
        octets = b"".join(iter(lambda: there.recv(2**16), b""))
    assert octets.endswith(bytes.fromhex("1503030002015a15030300020100"))


@pytest.mark.parametrize("wrap", [wrap_client, wrap_server])
def test_what_cannot_begin_closes_the_socket(wrap, monkeypatch):
    def fail(*_: object, **__: object) -> None:
        raise ConfigurationError("no")

    monkeypatch.setattr("tpmtls.session.ClientConnection", fail)
    monkeypatch.setattr("tpmtls.sockets.ServerConnection", fail)
    near, there = socket.socketpair()
    config: Any = client_config() if wrap is wrap_client else server_config()
    with there, pytest.raises(ConfigurationError):
        wrap(near, config)
    assert near.fileno() == -1


def test_nobody_listens():
    with socket.create_server(LOOPBACK) as listener:
        address = listener.getsockname()
    with pytest.raises(ConnectionRefusedError):
        connect(address, client_config())


# -- the end ---------------------------------------------------------------------------------------


def test_each_side_ends_for_itself():
    def handler(stream: TlsStream) -> None:
        data = b"".join(iter(stream.recv, b""))
        stream.sendall(data[::-1])

    with serving(handler) as server, connect(server.address, client_config()) as stream:
        stream.sendall(b"abc")
        stream.shutdown(socket.SHUT_RD)
        stream.shutdown(socket.SHUT_WR)
        with pytest.raises(ConnectionStateError):
            stream.sendall(b"d")
        assert stream.recv() == b"cba"
        assert stream.recv() == b""
        stream.shutdown(socket.SHUT_RDWR)


def test_unwrap_gives_the_socket_back():
    with facing_server() as (stream, far):
        stream.settimeout(10)
        far.connection.send_data(bytes(1000))
        far.connection.close()
        far.sock.sendall(far.connection.data_to_send() + b"in clear")
        with stream.unwrap() as sock:
            far.hear()
            assert far.connection.peer_closed
            assert sock.recv(100) == b"in clear"
            assert sock.gettimeout() == 10
            stream.close()
            assert sock.fileno() > 0
            with pytest.raises(OSError, match="closed"):
                stream.recv()


@pytest.mark.parametrize(
    ("said", "error"),
    [(b"", TruncationError), (b"\x17\x03\x03\x00\x11" + bytes(17), PeerViolation)],
)
def test_unwrap_fails_as_reading_does(said, error):
    with facing_server() as (stream, far):
        far.sock.sendall(said)
        far.sock.shutdown(socket.SHUT_WR)
        with pytest.raises(error):
            stream.unwrap()


def test_unwrap_does_not_wait_for_ever():
    with facing_server() as (stream, far):
        stream.settimeout(SOON)
        with pytest.raises(TimeoutError):
            stream.unwrap()
        far.hear()
        assert far.connection.peer_closed


def test_close_says_close_notify_and_is_idempotent():
    with facing_server() as (stream, far):
        stream.close()
        stream.close()
        far.hear()
        assert far.connection.peer_closed
        with pytest.raises(OSError, match="closed"):
            stream.sendall(b"x")
        with pytest.raises(OSError, match="closed"):
            stream.unwrap()


def test_close_wakes_the_reader():
    with facing_server() as (stream, _):
        outcome: queue.Queue[BaseException] = queue.Queue()
        waiting = threading.Event()

        def read() -> None:
            waiting.set()
            try:
                stream.recv()
            except OSError as error:
                outcome.put(error)

        thread = threading.Thread(target=read)
        thread.start()
        waiting.wait()
        stream.close()
        thread.join()
        assert outcome.get(timeout=10).args


def test_interrupt_ends_both_directions():
    with facing_server() as (stream, far):
        stream.interrupt()
        far.hear()
        assert far.connection.peer_closed
        assert far.sock.recv(1) == b""


# -- the server ------------------------------------------------------------------------------------


def test_no_more_connections_than_allowed():
    inside = queue.Queue[int]()
    leave = threading.Event()

    def handler(stream: TlsStream) -> None:
        inside.put(1)
        leave.wait()
        stream.sendall(b"done")

    with serve(LOOPBACK, server_config(), handler, max_connections=1) as server:
        with connect(server.address, client_config()) as first:
            inside.get(timeout=10)
            with pytest.raises(HandshakeTimeoutError):
                connect(server.address, client_config(handshake_timeout=4 * SOON))
            assert inside.empty()
            leave.set()
            assert first.recv() == b"done"
        with connect(server.address, client_config()) as second:
            assert second.recv() == b"done"


def test_closing_the_server_ends_what_is_open():
    server = serving()
    assert not server.wait(0)
    silent = socket.create_connection(server.address)
    with silent, connect(server.address, client_config()) as stream:
        server.close()
        server.close()
        assert server.wait()
        assert stream.recv() == b""
        assert not [t for t in threading.enumerate() if t.name.startswith("tpmtls")]
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(server.address)


def test_a_handler_may_close_the_server():
    server: Server

    def handler(stream: TlsStream) -> None:
        server.close()

    server = serving(handler)
    with connect(server.address, client_config()):
        assert server.wait(10)


def test_errors_in_handlers_are_reported():
    def handler(stream: TlsStream) -> None:
        raise FileNotFoundError("no such page")

    server, failures = failing(handler)
    with server:
        connect(server.address, client_config()).close()
        assert isinstance(failures.get(timeout=10)[0], FileNotFoundError)
    with serving(handler) as quiet, connect(quiet.address, client_config()) as stream:
        assert stream.recv() == b""


def test_an_address_that_is_taken():
    with serving() as server, pytest.raises(OSError, match="in use"):
        serve(server.address, server_config(), echo)


def test_a_key_log_that_cannot_be_written_is_no_server(monkeypatch, tmp_path):
    monkeypatch.setenv("SSLKEYLOGFILE", str(tmp_path / "nowhere" / "keys"))
    with pytest.raises(ConfigurationError, match="nowhere"):
        serving()


def test_accepting_goes_on_after_the_system_ran_out(monkeypatch):
    ran_out = threading.Event()
    monkeypatch.setattr("tpmtls.sockets.server.PAUSE", 0.001)
    with serving() as server:
        listener = server._listener

        class Poor:
            def __getattr__(self, name: str) -> Any:
                return getattr(listener, name)

            def accept(self) -> Any:
                if not ran_out.is_set():
                    ran_out.set()
                    raise OSError(24, "too many open files")
                return listener.accept()

        server._listener = Poor()  # type: ignore[assignment]
        info, _ = visit(server, client_config())
        assert ran_out.is_set()
        assert info.suite.is_known


def test_ipv6():
    try:
        server = serve(("::1", 0), server_config(), echo)
    except OSError:
        pytest.skip("no IPv6 here")
    with server, connect(server.address[:2], client_config()) as stream:
        stream.sendall(b"6")
        assert stream.recv() == b"6"
