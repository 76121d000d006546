"""A server that holds many connections in one thread."""

from __future__ import annotations

import asyncio
import functools
import socket
from collections.abc import Awaitable, Callable
from types import TracebackType
from typing import Any, Final, Self

from tpmtls.aio.transport import Below, TlsTransport
from tpmtls.backends.base import Backend
from tpmtls.config import ServerConfig
from tpmtls.connection import ServerConnection
from tpmtls.keylog import with_environment
from tpmtls.violations import TlsError

LIMIT: Final = 2**16
"""Octets that a StreamReader holds before the peer has to wait."""

Handler = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[object]]
Failed = Callable[[Exception, Any], object]


class TlsServer:
    """What `start_server` gives: `address`, `close`, `wait_closed`, `async with`."""

    def __init__(
        self,
        handler: Handler,
        config: ServerConfig,
        *,
        backend: Backend | None,
        failed: Failed | None,
        limit: int,
    ) -> None:
        self._handler = handler
        self._config = with_environment(config)
        self._backend = backend
        self._failed = failed
        self._limit = limit
        self._transports: set[TlsTransport] = set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._one_less = asyncio.Event()
        self._closed = asyncio.Event()
        self._listener: asyncio.Server

    async def listen(self, host: str | None, port: int, backlog: int) -> None:
        """Bind and accept from here on."""
        loop = asyncio.get_running_loop()
        self._listener = await loop.create_server(self._accept, host, port, backlog=backlog)

    @property
    def sockets(self) -> tuple[socket.socket, ...]:
        """The listening sockets."""
        return tuple(self._listener.sockets)

    @property
    def address(self) -> Any:
        """Where the first of them listens."""
        return self.sockets[0].getsockname()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()
        await self.wait_closed()

    def close(self) -> None:
        """Accept no more, cancel the handlers, and close what is open."""
        self._listener.close()
        self._closed.set()
        for transport in self._transports:
            if not transport.connection.handshake_complete:
                transport.cancel()
        for task in self._tasks:
            task.cancel()

    async def wait_closed(self) -> None:
        """Until `close` was called, and nothing is left of the connections."""
        await self._closed.wait()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        while self._transports:
            self._one_less.clear()
            await self._one_less.wait()

    async def serve_forever(self) -> None:
        """Until this is cancelled, or the server closed; nothing is left of it then."""
        try:
            await self._closed.wait()
        finally:
            self.close()
            await self.wait_closed()

    def _accept(self) -> asyncio.Protocol:
        reader = asyncio.StreamReader(limit=self._limit)
        protocol = asyncio.StreamReaderProtocol(reader)

        def make(raw: asyncio.Transport) -> TlsTransport:
            connection = ServerConnection(self._config, self._backend)
            transport = TlsTransport(connection, raw, protocol, ready=ready, gone=self._gone)
            self._transports.add(transport)
            return transport

        def ready(transport: TlsTransport) -> None:
            loop = asyncio.get_running_loop()
            writer = asyncio.StreamWriter(transport, protocol, reader, loop)
            task = loop.create_task(self._run(reader, writer))
            self._tasks.add(task)
            task.add_done_callback(functools.partial(self._ended, writer))

        return Below(make)

    async def _run(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            await self._handler(reader, writer)
        except (TlsError, OSError) as error:
            self._report(error, writer.transport)

    def _gone(self, transport: TlsTransport, error: Exception | None) -> None:
        self._transports.discard(transport)
        self._one_less.set()
        if error is not None and not transport.connection.handshake_complete:
            self._report(error, transport)

    def _report(self, error: Exception, transport: asyncio.BaseTransport) -> None:
        if self._failed is not None:
            self._failed(error, transport.get_extra_info("peername"))

    def _ended(self, writer: asyncio.StreamWriter, task: asyncio.Task[None]) -> None:
        writer.close()  # not in the task: one that is cancelled early never begins
        self._tasks.discard(task)
        if not task.cancelled() and (error := task.exception()) is not None:
            task.get_loop().call_exception_handler(
                {"message": "a connection's handler failed", "exception": error, "task": task}
            )


async def start_server(
    handler: Handler,
    host: str | None,
    port: int,
    config: ServerConfig,
    *,
    backend: Backend | None = None,
    backlog: int = 1024,
    failed: Failed | None = None,
    limit: int = LIMIT,
) -> TlsServer:
    """Listen on (host, port), and await `handler(reader, writer)` for each client.

    Host None stands for all interfaces, port 0 picks one, see `TlsServer.address`. A client that
    does not complete the handshake within `config.handshake_timeout` is dropped. The connection is
    closed when the handler returns. An error of one connection, in the handshake or in the handler,
    goes to `failed(error, peer)` and ends that connection alone. Raises OSError where the address
    cannot be had.
    """
    server = TlsServer(handler, config, backend=backend, failed=failed, limit=limit)
    await server.listen(host, port, backlog)
    return server
