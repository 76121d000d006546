"""What the tests of the blocking adapter share: servers, and far ends driven step by step."""

from __future__ import annotations

import contextlib
import queue
import socket
import threading
from collections.abc import Callable, Iterator
from typing import Any

from tests.unit.support import (
    client_config,
    server_config,
)
from tpmtls.connection import ClientConnection, Connection, ServerConnection
from tpmtls.sockets import Server, TlsStream, connect, serve, wrap_client, wrap_server

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


def received_by(far: Far, total: int) -> bytes:
    received = bytearray()
    while len(received) < total:
        far.hear()
        for event in far.connection.events():
            received += getattr(event, "data", b"")
    return bytes(received)


def visit(server: Server, config: Any, early_data: bytes = b"") -> tuple[Any, bytes]:
    """Talk to an echo for a moment; what was negotiated, and what came back."""
    with connect(server.address, config, early_data=early_data) as stream:
        stream.sendall(b".")
        stream.shutdown()
        answer = b"".join(iter(stream.recv, b""))
        if config.session_cache is not None:
            assert stream.tickets_received == 2
        return stream.negotiated, answer


def failing(handler: Callable[[TlsStream], object] = echo, **changes: Any) -> tuple[Server, Any]:
    failures: queue.Queue[tuple[Exception, Any]] = queue.Queue()
    server = serve(
        LOOPBACK,
        server_config(**changes),
        handler,
        failed=lambda error, peer: failures.put((error, peer)),
    )
    return server, failures
