"""A server with a thread for each connection."""

from __future__ import annotations

import select
import socket
import threading
import time
from collections.abc import Callable
from types import TracebackType
from typing import Any, Final, Self

from tpmtls.backends.base import Backend
from tpmtls.config import ServerConfig
from tpmtls.connection import ServerConnection
from tpmtls.keylog import with_environment
from tpmtls.sockets.stream import TlsStream
from tpmtls.violations import TlsError

BACKLOG: Final = 128
PAUSE: Final = 0.1
"""Seconds without accepting after the system ran out of descriptors or memory."""

Handler = Callable[[TlsStream], object]
Failed = Callable[[Exception, Any], object]


class Server:
    """Accepts connections until `close`; `address` is where.

    A client that does not complete the handshake within `config.handshake_timeout` is dropped.
    """

    def __init__(
        self,
        listener: socket.socket,
        config: ServerConfig,
        handler: Handler,
        *,
        backend: Backend | None = None,
        max_connections: int = 256,
        failed: Failed | None = None,
    ) -> None:
        """Takes over a listening socket; `serve` makes one, and explains the rest."""
        self.address: Any = listener.getsockname()
        self._listener = listener
        self._config = with_environment(config)
        self._handler = handler
        self._backend = backend
        self._failed = failed
        self._open: dict[threading.Thread, TlsStream | None] = {}
        self._room = threading.BoundedSemaphore(max_connections)
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._wake, self._woken = socket.socketpair()
        listener.setblocking(False)
        self._acceptor = threading.Thread(target=self._accept, name="tpmtls accept", daemon=True)
        self._acceptor.start()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def wait(self, timeout: float | None = None) -> bool:
        """Until the server was closed, or for `timeout` seconds; returns whether it was."""
        return self._closing.wait(timeout)

    def close(self, timeout: float = 5.0) -> None:
        """Accept no more, close what is open, and give the handlers `timeout` seconds to end."""
        if self._closing.is_set():
            return
        self._closing.set()
        self._wake.send(b"\0")
        deadline = time.monotonic() + timeout
        self._acceptor.join(timeout)
        with self._lock:
            still_open = dict(self._open)
        for stream in still_open.values():
            if stream is not None:
                stream.interrupt(max(0.0, deadline - timeout / 2 - time.monotonic()))
        for thread in still_open:
            if thread is not threading.current_thread():
                thread.join(max(0.0, deadline - time.monotonic()))
        for sock in (self._listener, self._wake, self._woken):
            sock.close()

    def _accept(self) -> None:
        poll = select.poll()
        poll.register(self._listener, select.POLLIN)
        poll.register(self._woken, select.POLLIN)
        while not self._closing.is_set():
            poll.poll()
            if not self._room.acquire(timeout=PAUSE):
                continue
            try:
                sock, peer = self._listener.accept()
            except OSError as error:
                self._room.release()
                if not isinstance(error, BlockingIOError | ConnectionError):
                    self._closing.wait(PAUSE)
                continue
            self._start(sock, peer)

    def _start(self, sock: socket.socket, peer: Any) -> None:
        thread = threading.Thread(
            target=self._serve, args=(sock, peer), name=f"tpmtls {peer}", daemon=True
        )
        with self._lock:
            self._open[thread] = None
        try:
            thread.start()
        except RuntimeError:  # the system has no more threads: this client has to go
            with self._lock:
                del self._open[thread]
            sock.close()
            self._room.release()
            self._closing.wait(PAUSE)

    def _serve(self, sock: socket.socket, peer: Any) -> None:
        thread = threading.current_thread()
        try:
            with sock, self._stream(sock) as stream:
                with self._lock:
                    self._open[thread] = stream
                    if self._closing.is_set():
                        return
                stream.handshake(self._config.handshake_timeout)
                self._handler(stream)
        except (TlsError, OSError) as error:
            if self._failed is not None:
                self._failed(error, peer)
        finally:
            with self._lock:
                del self._open[thread]
            self._room.release()

    def _stream(self, sock: socket.socket) -> TlsStream:
        return TlsStream(sock, ServerConnection(self._config, self._backend))


def serve(
    address: tuple[str, int],
    config: ServerConfig,
    handler: Handler,
    *,
    backend: Backend | None = None,
    max_connections: int = 256,
    failed: Failed | None = None,
) -> Server:
    """Listen on (host, port) and call `handler(stream)` in a thread for each client.

    Port 0 picks one, see `Server.address`. The stream is closed when the handler returns. An error
    of one connection, in the handshake or in the handler, goes to `failed(error, peer)` and ends
    that connection alone. Beyond `max_connections`, clients wait in the system's queue. Raises
    OSError where the address cannot be had.
    """
    family = socket.AF_INET6 if ":" in address[0] else socket.AF_INET
    listener = socket.create_server(address, family=family, backlog=BACKLOG)
    try:
        return Server(
            listener,
            config,
            handler,
            backend=backend,
            max_connections=max_connections,
            failed=failed,
        )
    except BaseException:
        listener.close()
        raise
