"""What the tests of the asyncio adapter share: loops that are checked, servers, far ends."""

from __future__ import annotations

import asyncio
import contextlib
import functools
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import tpmtls
from tests.unit.support import (
    client_config,
    server_config,
)
from tpmtls.aio import TlsServer, TlsTransport, open_connection, start_server
from tpmtls.connection import ClientConnection, Connection, ServerConnection

SOON = 0.05
"""A timeout that is meant to pass, in seconds."""

Handler = Callable[[Reader, Writer], Awaitable[object]]


def asynchronous(test: Callable[..., Awaitable[None]]) -> Callable[..., None]:
    """Run the test in a loop of its own, and see that it leaves nothing behind."""

    async def run(*args: Any, **kwargs: Any) -> None:
        loop = asyncio.get_running_loop()
        problems: list[dict[str, Any]] = []
        loop.set_exception_handler(lambda _, context: problems.append(context))
        await asyncio.wait_for(test(*args, **kwargs), 30)
        assert asyncio.all_tasks() == {asyncio.current_task()}
        assert problems == []

    @functools.wraps(test)
    def wrapper(*args: Any, **kwargs: Any) -> None:
        asyncio.run(run(*args, **kwargs))

    return wrapper


def tls(writer: Writer) -> TlsTransport:
    found = writer.get_extra_info("tls")
    assert isinstance(found, TlsTransport)
    return found


async def echo(reader: Reader, writer: Writer) -> None:
    writer.write(tls(writer).early_data)
    while data := await reader.read(2**16):
        writer.write(data)
        await writer.drain()


@contextlib.asynccontextmanager
async def serving(
    handler: Handler = echo, failures: asyncio.Queue[Exception] | None = None, **changes: Any
) -> AsyncIterator[TlsServer]:
    def failed(error: Exception, peer: Any) -> None:
        assert peer[0] == "127.0.0.1"
        if failures is not None:
            failures.put_nowait(error)

    config = server_config(**changes)
    async with await start_server(handler, "127.0.0.1", 0, config, failed=failed) as server:
        yield server


def where(server: TlsServer) -> tuple[str, int]:
    host, port = server.address
    return host, port


@contextlib.asynccontextmanager
async def connected(server: TlsServer, **changes: Any) -> AsyncIterator[tuple[Reader, Writer]]:
    reader, writer = await open_connection(*where(server), client_config(**changes))
    try:
        yield reader, writer
    finally:
        writer.close()
        with contextlib.suppress(tpmtls.TlsError, OSError):
            await writer.wait_closed()


class Far:
    """The other end over plain asyncio streams: a connection without IO, driven step by step."""

    def __init__(self, reader: Reader, writer: Writer, connection: Connection) -> None:
        self.reader, self.writer, self.connection = reader, writer, connection

    async def say(self, more: bytes = b"") -> None:
        self.writer.write(self.connection.data_to_send() + more)
        await self.writer.drain()

    async def hear(self) -> bytes:
        octets = await self.reader.read(2**16)
        self.connection.receive_data(octets)
        return octets

    async def handshake(self) -> None:
        await self.say()
        while not self.connection.handshake_complete:
            await self.hear()
            await self.say()


@contextlib.asynccontextmanager
async def far_server(script: Callable[[Far], Awaitable[None]]) -> AsyncIterator[tuple[str, int]]:
    """A server that does what `script` says, once."""
    done: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def handle(reader: Reader, writer: Writer) -> None:
        try:
            await script(Far(reader, writer, ServerConnection(server_config(tickets=0))))
        finally:
            writer.close()
            with contextlib.suppress(OSError):
                await writer.wait_closed()
            done.set_result(None)

    server = await asyncio.start_server(handle, "127.0.0.1", 0)
    try:
        yield server.sockets[0].getsockname()
        await done
    finally:
        server.close()
        await server.wait_closed()


@contextlib.asynccontextmanager
async def far_client(server: TlsServer, **changes: Any) -> AsyncIterator[Far]:
    reader, writer = await asyncio.open_connection(*where(server))
    far = Far(reader, writer, ClientConnection(client_config(**changes)))
    try:
        yield far
    finally:
        writer.close()
        with contextlib.suppress(OSError):
            await writer.wait_closed()
