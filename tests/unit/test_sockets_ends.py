"""Streams: handshakes that fail, how a stream ends, and the server with threads."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from typing import Any

import pytest

import tpmtls
from tests.unit.streams import (
    LOOPBACK,
    SOON,
    echo,
    facing_server,
    failing,
    serving,
    visit,
)
from tests.unit.support import (
    client_config,
    pki,
    server_config,
)
from tpmtls.codepoints import AlertDescription
from tpmtls.connection import ClientConnection
from tpmtls.sockets import Server, TlsStream, channel, connect, serve, wrap_client, wrap_server
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

# -- handshakes that fail --------------------------------------------------------------------------


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
