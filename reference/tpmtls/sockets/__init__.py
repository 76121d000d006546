"""Blocking sockets: `connect`, `serve`, and streams that behave as sockets do.

A stream may be used by one reading and one writing thread at once. Timeouts are in seconds and
bound a whole call, not each packet that it waits for.
"""

from __future__ import annotations

import socket

from tpmtls.backends.base import Backend
from tpmtls.config import ClientConfig, ServerConfig
from tpmtls.connection import ServerConnection
from tpmtls.keylog import with_environment
from tpmtls.session import client_connection
from tpmtls.sockets.server import Server, serve
from tpmtls.sockets.stream import TlsStream

__all__ = ["Server", "TlsStream", "connect", "serve", "wrap_client", "wrap_server"]


def connect(
    address: tuple[str, int],
    config: ClientConfig | None = None,
    *,
    backend: Backend | None = None,
    timeout: float | None = None,
    early_data: bytes = b"",
) -> TlsStream:
    """Connect to (host, port) by TCP and complete the handshake.

    `timeout` bounds the TCP connection, then every call on the stream; the handshake has
    `config.handshake_timeout`. The server's certificate must be for `host`, unless the
    configuration names another `server_name`. `early_data` goes as 0-RTT data if a stored session
    permits all of it; where `early_data_accepted` is not True afterwards, the server does not have
    it. Raises OSError (no connection) or TlsError (no handshake); the socket is closed then.
    """
    sock = socket.create_connection(address, timeout)
    return wrap_client(sock, config, host=address[0], backend=backend, early_data=early_data)


def wrap_client(
    sock: socket.socket,
    config: ClientConfig | None = None,
    *,
    host: str | None = None,
    backend: Backend | None = None,
    early_data: bytes = b"",
) -> TlsStream:
    """Make a connected socket a TLS client's; `host` fills in `config.server_name`.

    The stream owns the socket from here on: it is closed where the handshake fails.
    """
    config = config or ClientConfig()
    try:
        connection = client_connection(config, backend, host, early_data)
        stream = TlsStream(sock, connection)
    except BaseException:
        sock.close()
        raise
    stream.handshake(config.handshake_timeout)
    return stream


def wrap_server(
    sock: socket.socket, config: ServerConfig, backend: Backend | None = None
) -> TlsStream:
    """Make an accepted socket a TLS server's; it is closed where the handshake fails."""
    try:
        connection = ServerConnection(with_environment(config), backend)
        stream = TlsStream(sock, connection)
    except BaseException:
        sock.close()
        raise
    stream.handshake(config.handshake_timeout)
    return stream
