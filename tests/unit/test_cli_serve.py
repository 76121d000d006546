"""`tpmtls serve`, in a process of its own, and clients in this one."""

from __future__ import annotations

import contextlib
import json
import resource
import signal
import socket
import ssl
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from tests.unit.commands import Served, serving
from tests.unit.support import client_config, client_credential, pki
from tpmtls.config import ExternalPsk
from tpmtls.sockets import TlsStream, connect
from tpmtls.tickets import SessionCache
from tpmtls.violations import HandshakeTimeoutError, PeerAlert, TlsError


@contextlib.contextmanager
def connected(server: Served, **changes: Any) -> Iterator[TlsStream]:
    with connect(("127.0.0.1", server.port), client_config(**changes), timeout=30) as stream:
        yield stream


def ask(server: Served, question: bytes, early_data: bytes = b"", **changes: Any) -> bytes:
    """Everything that the server answers to a question and the end."""
    address = ("127.0.0.1", server.port)
    with connect(address, client_config(**changes), timeout=30, early_data=early_data) as stream:
        stream.sendall(question)
        stream.shutdown()
        return b"".join(iter(stream.recv, b""))


# -- the process -----------------------------------------------------------------------------------


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_signals_end_it_in_peace(number):
    with serving() as server:
        assert server.announced == f"listening on 127.0.0.1:{server.port}\n"
        with connected(server) as stream:
            stream.sendall(b"x")
            assert stream.recv() == b"x"
            assert server.end(number) == (0, "")
            assert stream.recv() == b""


def test_one_port_for_a_name_with_several_addresses():
    with serving(listen="localhost:0") as server:
        assert " and " not in server.announced
        with pytest.raises(TlsError):
            connect(("localhost", server.port), client_config(trust=pki().other_ca))


def test_both_addresses_of_a_name_for_a_port_of_ours():
    addresses = {info[4][0] for info in socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)}
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
    with serving(listen=f"localhost:{port}") as server:
        assert server.announced.count(f":{port}") == len(addresses)


def test_once_ends_after_one_connection():
    with serving("--once") as server:
        assert ask(server, b"hello") == b"hello"
        assert server.wait() == (0, "")


def test_once_tells_that_the_connection_failed():
    with serving("--once") as server, socket.create_connection(("127.0.0.1", server.port)) as sock:
        sock.sendall(b"GET / HTTP/1.1\r\n\r\n")
        assert sock.recv(100)
        status, said = server.wait()
    assert status == 1
    assert "the peer does not talk TLS, it began with 'GET / HTTP/1.1'" in said
    assert said.count("\n") == 1


def test_one_failure_is_not_the_end():
    with serving("-v") as server:
        with pytest.raises(TlsError):
            ask(server, b"", trust=pki().other_ca)
        assert "error=the peer sent the alert unknown_ca" in server.next_line()
        assert ask(server, b"still there?") == b"still there?"
        assert "TLS_1_3 TLS_AES_128_GCM_SHA256 x25519 server_name=localhost" in server.next_line()


def test_a_silent_client_is_dropped():
    with serving("--timeout", "0.2", "--json") as server:
        with socket.create_connection(("127.0.0.1", server.port)) as sock:
            while sock.recv(100):
                pass
        assert json.loads(server.next_line())["error"] == "no handshake within 0.2 s"


def test_parallel_connections():
    with serving() as server:
        barrier = threading.Barrier(50)
        answers = []

        def client() -> None:
            with connected(server) as stream:
                barrier.wait()
                stream.sendall(b"x" * 10_000)
                stream.shutdown()
                answers.append(b"".join(iter(stream.recv, b"")))

        threads = [threading.Thread(target=client) for _ in range(50)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert answers == [b"x" * 10_000] * 50
        assert server.end() == (0, "")


@pytest.mark.skipif(not hasattr(resource, "prlimit"), reason="needs Linux's prlimit")
def test_it_survives_that_there_are_no_descriptors_left():
    with serving() as server:
        limits = resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE)
        resource.prlimit(server.process.pid, resource.RLIMIT_NOFILE, (16, limits[1]))
        with contextlib.ExitStack() as stack:
            for _ in range(16):
                address = ("127.0.0.1", server.port)
                stack.enter_context(socket.create_connection(address))
            assert "too many open files" in server.next_line()
        assert ask(server, b"still there?") == b"still there?"
        status, said = server.end()
    assert status == 0
    assert "Traceback" not in said


# -- answers ---------------------------------------------------------------------------------------


def test_an_echo_of_a_mebibyte():
    data = bytes(range(256)) * 4096
    with serving() as server, connected(server) as stream:
        thread = threading.Thread(target=stream.sendall, args=(data,))
        thread.start()
        received = bytearray()
        while len(received) < len(data):
            received += stream.recv()
        thread.join()
    assert received == data


def test_lines_reversed():
    with serving("--respond", "reverse") as server:
        assert ask(server, b"abc\n\nde") == b"cba\n\ned"
        assert ask(server, b"abc\n") == b"cba\n"


def test_a_line_without_end():
    with serving("--respond", "reverse", "--once") as server:
        ask(server, bytes(2**17))
        assert server.wait()[0] == 1


@pytest.mark.parametrize(
    ("question", "status", "body"),
    [
        (b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n", 200, b"suite: TLS_AES_128_GCM_SHA256"),
        (b"HEAD / HTTP/1.0\n\n", 200, None),
        (b"GET / HTTP/1.1\r\nX: " + b"x" * 20_000, 431, b"too much"),
        (b"EHLO\r\n\r\n", 400, b"not HTTP"),
        (b"\x00\x01", 400, b"not HTTP"),
        (b"", 400, b"not HTTP"),
    ],
)
def test_a_page(http_server, question, status, body):
    head, _, page = ask(http_server, question).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 %d " % status)
    assert (page == b"") if body is None else (body in page)


@pytest.fixture(scope="module")
def http_server():
    with serving("--respond", "http") as server:
        yield server


def test_a_browser_of_another_make(http_server):
    context = ssl.create_default_context(cafile=str(pki().ca))
    with (
        socket.create_connection(("127.0.0.1", http_server.port)) as sock,
        context.wrap_socket(sock, server_hostname="localhost") as stream,
    ):
        stream.sendall(b"GET / HTTP/1.0\r\n\r\n")
        page = b"".join(iter(lambda: stream.recv(1000), b""))
    assert b"version: TLS_1_3" in page


# -- options ---------------------------------------------------------------------------------------


def test_early_data_and_tickets():
    cache = SessionCache()
    with serving("--early-data", "5", "--tickets", "3", "--json") as server:
        assert ask(server, b"1", session_cache=cache) == b"1"
        assert len(cache) == 3
        assert ask(server, b"2", b"early", session_cache=cache) == b"early2"
        assert json.loads(server.next_line())["psk"] is None
        assert json.loads(server.next_line()) | {"peer": ""} == {
            "event": "connection",
            "peer": "",
            "version": "TLS_1_3",
            "suite": "TLS_AES_128_GCM_SHA256",
            "group": "x25519",
            "psk": "resumption",
            "alpn": None,
            "server_name": "localhost",
            "early_data_accepted": True,
            "peer_certificate": None,
        }


def test_a_psk_and_nothing_else():
    psk = ExternalPsk(b"id", bytes.fromhex("00ff"))
    with serving("--psk", "id:00ff", "--alpn", "x,y", certificate=False) as server:
        assert ask(server, b"hi", psks=(psk,), alpn=("y",)) == b"hi"
        with pytest.raises(PeerAlert):
            ask(server, b"hi")


def test_a_client_certificate_in_the_handshake():
    with serving("--client-ca", pki().ca, "--require-client-cert", "-v") as server:
        assert ask(server, b"it is me", credentials=(client_credential(),)) == b"it is me"
        assert "peer_certificate=CN=client-p256,O=tpmtls tests" in server.next_line()
        with pytest.raises(PeerAlert):
            ask(server, b"not me")


def test_a_client_certificate_after_the_first_data():
    options = ("--client-ca", pki().ca, "--request-client-auth-after", "--json")
    config = {"credentials": (client_credential(),), "post_handshake_auth": True}
    with serving(*options) as server:
        with connected(server, **config) as stream:
            stream.sendall(b"first")
            assert stream.recv() == b"first"
            stream.sendall(b"second")
            assert stream.recv() == b"second"
        connection, authentication = (json.loads(server.next_line()) for _ in range(2))
        assert connection["peer_certificate"] is None
        assert authentication["event"] == "authentication"
        assert authentication["peer_certificate"] == "CN=client-p256,O=tpmtls tests"
        ask(server, b"cannot")
        assert json.loads(server.next_line())["event"] == "connection"
        assert "does not offer post-handshake" in json.loads(server.next_line())["error"]


def test_the_key_log_of_the_environment(tmp_path, monkeypatch):
    path = tmp_path / "keys.log"
    monkeypatch.setenv("SSLKEYLOGFILE", str(path))
    with serving() as server:
        monkeypatch.delenv("SSLKEYLOGFILE")
        ask(server, b"")
        server.end()
    assert len(path.read_text().splitlines()) >= 5


def test_the_client_gives_up_on_a_server_that_is_stopped():
    with serving() as server:
        server.process.send_signal(signal.SIGSTOP)
        try:
            with pytest.raises(HandshakeTimeoutError):
                ask(server, b"", handshake_timeout=0.2)
        finally:
            server.process.send_signal(signal.SIGCONT)
