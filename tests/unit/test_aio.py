"""The asyncio adapter: streams, back-pressure, and every way in which they end."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import socket
import struct
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from collections.abc import AsyncIterator, Awaitable, Callable
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
from tpmtls.aio import TlsServer, TlsTransport, open_connection, start_server
from tpmtls.codepoints import AlertDescription
from tpmtls.connection import ClientConnection, Connection, ServerConnection
from tpmtls.session import Session
from tpmtls.tickets import SessionCache
from tpmtls.violations import (
    CertificateError,
    ConfigurationError,
    ConnectionStateError,
    HandshakeTimeoutError,
    PeerAlert,
    PeerViolation,
    TruncationError,
)

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


# -- what it is for --------------------------------------------------------------------------------


@asynchronous
async def test_many_connections_move_data_both_ways():
    data = bytes(range(256)) * 1024

    async def one(server: TlsServer) -> None:
        async with connected(server) as (reader, writer):
            writer.write(data)
            writer.write_eof()
            assert await reader.read() == data

    async with serving() as server:
        await asyncio.gather(*(one(server) for _ in range(20)))


@asynchronous
async def test_the_transport_is_the_session():
    async with serving(alpn=("x",)) as server, connected(server, alpn=("x",)) as (_, writer):
        session: Session = tls(writer)
        assert session.alpn == "x"
        assert session.suite.is_known
        assert session.peer_certificate == credential().leaf
        assert writer.get_extra_info("peercert") == session.getpeercert()
        assert writer.get_extra_info("peername") == server.address
        assert writer.get_extra_info("nonsense", 5) == 5
        assert len(session.export_keying_material("EXPERIMENTAL x", 7)) == 7
        session.update_keys(request_peer=True)
        assert writer.can_write_eof()
        writer.writelines([b"a", b"b"])


@asynchronous
async def test_without_a_configuration_the_system_is_trusted():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(tpmtls.TrustStore, "system", trust)
        async with serving() as server:
            _, writer = await open_connection(*where(server))
            writer.close()
            await writer.wait_closed()


@asynchronous
async def test_early_data_is_kept_apart():
    cache = SessionCache()
    async with serving(max_early_data=10) as server:
        answers: list[Any] = []
        for _ in range(2):
            reader, writer = await open_connection(
                *where(server), client_config(session_cache=cache), early_data=b"early"
            )
            writer.write(b".")
            writer.write_eof()
            answers.append(await reader.read())
            answers.append(tls(writer).early_data_accepted)
            writer.close()
            await writer.wait_closed()
    assert answers == [b".", None, b"early.", True]


@asynchronous
async def test_a_server_asks_for_a_certificate_later():
    async def handler(reader: Reader, writer: Writer) -> None:
        tls(writer).request_client_certificate()
        while (certificate := tls(writer).peer_certificate) is None:
            await reader.read(100)
        writer.write(certificate.subject.rfc4514_string().encode())

    config = {"credentials": (client_credential(),), "post_handshake_auth": True}
    async with (
        serving(handler, client_trust=trust()) as server,
        connected(server, **config) as (reader, writer),
    ):
        waiting = asyncio.create_task(reader.read())
        while not waiting.done():
            writer.write(b"who, me?")
            await asyncio.sleep(0.01)
        assert b"client-p256" in await waiting


# -- back-pressure ---------------------------------------------------------------------------------


@asynchronous
async def test_a_peer_that_does_not_read_makes_drain_wait():
    async with serving() as server, connected(server) as (reader, writer):
        transport = tls(writer)
        transport.set_write_buffer_limits(high=10, low=0)
        assert transport.get_write_buffer_limits() == (0, 10)
        total = 16 * 2**20
        writer.write(bytes(total))
        assert transport.get_write_buffer_size() > 10
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(writer.drain(), SOON)
        draining = asyncio.create_task(writer.drain())
        received = 0
        while received < total:
            received += len(await reader.read(2**20))
        await draining


@asynchronous
async def test_a_protocol_may_stop_reading():
    async with serving() as server, connected(server) as (reader, writer):
        transport = tls(writer)
        assert transport.is_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        writer.write(b"answer")
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(reader.read(10), SOON)
        transport.resume_reading()
        assert await reader.read(10) == b"answer"


class Recorder(asyncio.Protocol):
    """A protocol that notes what happens to it."""

    def __init__(self, *, keep_open: bool = False) -> None:
        self.calls: list[Any] = []
        self.gone = asyncio.Event()
        self._keep_open = keep_open

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.calls.append("made")

    def data_received(self, data: bytes) -> None:
        self.calls.append(data)

    def eof_received(self) -> bool:
        self.calls.append("eof")
        return self._keep_open

    def connection_lost(self, exc: Exception | None) -> None:
        self.calls.append(exc)
        self.gone.set()

    def pause_writing(self) -> None:
        self.calls.append("pause")

    def resume_writing(self) -> None:
        self.calls.append("resume")


class Raw(asyncio.Transport):
    """A transport below that goes nowhere, and can be full."""

    def __init__(self) -> None:
        super().__init__()
        self.written = bytearray()
        self.calls: list[str] = []
        self.full = 0

    def write(self, data: Any) -> None:
        self.written += data

    def get_write_buffer_size(self) -> int:
        return self.full

    def __getattribute__(self, name: str) -> Any:
        if name in ("close", "abort", "write_eof", "resume_reading", "pause_reading"):
            return lambda: self.calls.append(name)
        if name == "can_write_eof":
            return lambda: "no eof" not in self.calls
        return super().__getattribute__(name)

    def take(self) -> bytes:
        written = bytes(self.written)
        self.written.clear()
        return written


class Bench:
    """A server's transport between a protocol and a transport that are both in our hands."""

    def __init__(self, *, keep_open: bool = False, **changes: Any) -> None:
        self.raw, self.protocol = Raw(), Recorder(keep_open=keep_open)
        self.gone: list[Exception | None] = []
        self.tls = TlsTransport(
            ServerConnection(server_config(tickets=0, **changes)),
            self.raw,
            self.protocol,
            ready=lambda _: self.protocol.calls.append("ready"),
            gone=lambda _, error: self.gone.append(error),
        )
        self.client = ClientConnection(
            client_config(credentials=(client_credential(),), post_handshake_auth=True)
        )

    def deliver(self) -> None:
        self.tls.octets_received(self.client.data_to_send())
        if octets := self.raw.take():
            self.client.receive_data(octets)

    def handshake(self) -> Bench:
        while not self.tls.connection.handshake_complete:
            self.deliver()
        return self


@asynchronous
async def test_pauses_are_passed_on_to_the_protocol():
    bench = Bench()
    bench.tls.writing_paused(True)
    bench.handshake()
    bench.tls.writing_paused(False)
    bench.tls.writing_paused(True)
    assert bench.protocol.calls == ["made", "pause", "ready", "resume", "pause"]
    bench.tls.lost(None)


@asynchronous
async def test_a_peer_that_asks_and_does_not_read_is_dropped():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tpmtls.aio.transport.REPLY_LIMIT", 100)
        bench = Bench(client_trust=trust()).handshake()
        bench.raw.take()
        bench.tls.writing_paused(True)
        bench.tls.connection._outgoing += bytes(101)
        bench.client.send_data(b"x")
        bench.tls.octets_received(bench.client.data_to_send())
        bench.tls.lost(None)
    assert isinstance(bench.gone[0], ConnectionAbortedError)
    assert bench.raw.calls == ["close"]


@asynchronous
async def test_a_closing_transport_waits_while_the_peer_takes_data():
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("tpmtls.aio.transport.LINGER_SECONDS", SOON / 5)
        bench = Bench().handshake()
        bench.raw.calls.append("no eof")
        bench.raw.full = 3
        bench.tls.close()
        while "abort" not in bench.raw.calls:
            assert bench.raw.full >= 0
            bench.raw.full = max(1, bench.raw.full - 1)
            await asyncio.sleep(SOON / 5)
    assert bench.raw.full == 1
    bench.tls.lost(None)
    assert bench.gone == [None]


@asynchronous
async def test_a_cancelled_handshake_does_not_wait():
    for full, last in ((0, "close"), (1, "abort")):
        bench = Bench()
        bench.raw.full = full
        bench.tls.cancel()
        assert bench.raw.calls == [last]
        bench.tls.lost(None)
        assert isinstance(bench.gone[0], TruncationError)


@asynchronous
async def test_what_comes_after_the_end_is_discarded_up_to_a_limit():
    bench = Bench().handshake()
    bench.tls.close()
    assert bench.raw.calls == ["resume_reading", "write_eof"]
    bench.tls.close()
    bench.tls.pause_reading()
    bench.client.send_data(b"unheard")
    bench.tls.octets_received(bench.client.data_to_send())
    assert bench.protocol.calls == ["made", "ready"]
    bench.tls.octets_received(bytes(2**20))
    assert bench.raw.calls[-1] == "abort"
    bench.tls.octets_received(b"")
    assert bench.raw.calls[-1] == "close"
    bench.tls.write(b"nowhere")
    bench.tls.lost(None)
    assert bench.protocol.calls[-1] is None


@asynchronous
async def test_a_protocol_that_does_not_stay_open():
    bench = Bench().handshake()
    bench.client.send_data(b"all")
    bench.client.close()
    bench.deliver()
    assert bench.protocol.calls[2:] == [b"all", "eof"]
    assert bench.raw.calls == ["close"]
    assert bench.client.peer_closed
    bench.tls.lost(None)


@asynchronous
async def test_a_protocol_that_stays_open():
    bench = Bench(keep_open=True).handshake()
    bench.client.close()
    bench.deliver()
    bench.tls.octets_received(b"")
    assert bench.protocol.calls[2:] == ["eof"]
    assert bench.raw.calls == []
    bench.tls.write(b"more")
    bench.client.receive_data(bench.raw.take())
    bench.raw.full = 1
    bench.tls.close()
    assert bench.raw.calls == ["resume_reading", "write_eof"]
    bench.tls.lost(None)


@asynchronous
async def test_a_protocol_may_close_on_data_and_hears_no_more():
    bench = Bench().handshake()

    def close(data: bytes) -> None:
        bench.protocol.calls.append(data)
        bench.tls.close()

    bench.protocol.data_received = close  # type: ignore[method-assign]
    bench.client.send_data(b"one")
    bench.client.send_data(b"two")
    bench.client.close()
    bench.deliver()
    assert bench.protocol.calls[2:] == [b"one"]
    bench.tls.lost(None)


@asynchronous
async def test_another_protocol_may_take_over():
    bench = Bench().handshake()
    assert bench.tls.get_protocol() is bench.protocol
    successor = Recorder()
    bench.tls.set_protocol(successor)
    bench.client.send_data(b"hello")
    bench.deliver()
    assert successor.calls == [b"hello"]
    bench.tls.lost(None)


# -- ends ------------------------------------------------------------------------------------------


@asynchronous
async def test_a_transport_that_just_ends_is_an_error():
    async def script(far: Far) -> None:
        await far.handshake()
        far.writer.close()

    async with far_server(script) as address:
        reader, writer = await open_connection(*address, client_config())
        with pytest.raises(TruncationError):
            await reader.read()
        writer.close()


@asynchronous
async def test_a_violation_ends_the_connection_and_the_alert_arrives():
    async def script(far: Far) -> None:
        await far.handshake()
        await far.say(b"\x17\x03\x03\x00\x11" + bytes(17))
        with pytest.raises(PeerAlert) as told:
            await far.hear()
        assert told.value.description is AlertDescription.bad_record_mac

    async with far_server(script) as address:
        reader, writer = await open_connection(*address, client_config())
        with pytest.raises(PeerViolation):
            await reader.read()
        assert tls(writer).is_closing()


@asynchronous
async def test_an_alert_of_the_peer():
    async def script(far: Far) -> None:
        await far.handshake()
        far.connection.abort(AlertDescription.access_denied)
        await far.say()

    async with far_server(script) as address:
        reader, writer = await open_connection(*address, client_config())
        with pytest.raises(PeerAlert):
            await reader.read()
        with pytest.raises(PeerAlert):
            await writer.wait_closed()


@asynchronous
async def test_abort_goes_at_once():
    failures: asyncio.Queue[Exception] = asyncio.Queue()
    async with serving(failures=failures) as server, connected(server) as (_, writer):
        tls(writer).abort()
        assert isinstance(await failures.get(), TruncationError)


@asynchronous
async def test_nothing_is_written_after_close_notify():
    async with serving() as server, connected(server) as (_, writer):
        writer.write_eof()
        with pytest.raises(ConnectionStateError):
            writer.write(b"more")


# -- handshakes that fail --------------------------------------------------------------------------


@asynchronous
async def test_a_client_that_refuses_tells_the_server():
    failures: asyncio.Queue[Exception] = asyncio.Queue()
    async with serving(failures=failures) as server:
        with pytest.raises(CertificateError):
            await open_connection(*where(server), tpmtls.ClientConfig(trust=pki().other_ca))
        error = await failures.get()
        assert isinstance(error, PeerAlert)
        assert error.description is AlertDescription.unknown_ca


@asynchronous
async def test_the_alert_outlives_data_that_nobody_reads():
    failures: asyncio.Queue[Exception] = asyncio.Queue()
    async with serving(failures=failures) as server:
        reader, writer = await asyncio.open_connection(*where(server))
        writer.write(b"GET / HTTP/1.1\r\n\r\n" + bytes(200_000))
        assert await reader.read() == bytes.fromhex("1503030002020a")
        writer.close()
        error = await failures.get()
        assert "does not talk TLS" in error.__notes__[0]


@asynchronous
async def test_a_silent_client_is_dropped():
    failures: asyncio.Queue[Exception] = asyncio.Queue()
    async with serving(failures=failures, handshake_timeout=SOON) as server:
        reader, writer = await asyncio.open_connection(*where(server))
        assert await reader.read() == bytes.fromhex("1503030002015a15030300020100")
        assert isinstance(await failures.get(), HandshakeTimeoutError)
        writer.close()


@asynchronous
async def test_a_client_that_drips_is_dropped_as_well():
    failures: asyncio.Queue[Exception] = asyncio.Queue()
    async with (
        serving(failures=failures, handshake_timeout=SOON) as server,
        far_client(server) as far,
    ):
        for octet in far.connection.data_to_send():
            far.writer.write(bytes((octet,)))
            await asyncio.sleep(SOON / 20)
            if not failures.empty():
                break
        assert isinstance(await failures.get(), HandshakeTimeoutError)


@asynchronous
async def test_a_silent_server_is_given_up():
    async def script(far: Far) -> None:
        while await far.reader.read(1000):
            pass

    async with far_server(script) as address:
        with pytest.raises(HandshakeTimeoutError):
            await open_connection(*address, client_config(handshake_timeout=SOON))


@asynchronous
async def test_a_peer_that_cancels():
    failures: asyncio.Queue[Exception] = asyncio.Queue()
    async with serving(failures=failures) as server, far_client(server) as far:
        far.connection.cancel()
        await far.say()
        assert isinstance(await failures.get(), TruncationError)


@asynchronous
async def test_a_reset_in_the_handshake():
    async def script(far: Far) -> None:
        await far.reader.read(1)
        sock: socket.socket = far.writer.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))

    async with far_server(script) as address:
        with pytest.raises(ConnectionResetError):
            await open_connection(*address, client_config())


@asynchronous
async def test_a_cancelled_client_leaves_nothing_and_says_so():
    heard = bytearray()
    begun = asyncio.Event()

    async def script(far: Far) -> None:
        begun.set()
        while octets := await far.reader.read(2**16):
            heard.extend(octets)

    async with far_server(script) as address:
        task = asyncio.create_task(open_connection(*address, client_config()))
        await begun.wait()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert heard.endswith(bytes.fromhex("1503030002015a15030300020100"))


# -- the server ------------------------------------------------------------------------------------


@asynchronous
async def test_closing_the_server_ends_what_is_open():
    server = await start_server(echo, "127.0.0.1", 0, server_config())
    address = server.address
    silent, writer = await asyncio.open_connection(*address)
    async with connected(server) as (reader, established):
        established.write(b"x")
        assert await reader.read(1) == b"x"
        server.close()
        server.close()
        assert await silent.read() == bytes.fromhex("1503030002015a15030300020100")
        assert await reader.read() == b""
    await server.wait_closed()
    writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection(*address)


@asynchronous
async def test_serve_forever_ends_when_cancelled():
    server = await start_server(echo, "127.0.0.1", 0, server_config())
    task = asyncio.create_task(server.serve_forever())
    async with connected(server) as (reader, writer):
        writer.write(b"x")
        assert await reader.read(1) == b"x"
        task.cancel()
        assert await reader.read() == b""
        with pytest.raises(asyncio.CancelledError):
            await task


@asynchronous
async def test_errors_in_handlers_are_reported():
    async def handler(reader: Reader, writer: Writer) -> None:
        raise FileNotFoundError("no such page")

    failures: asyncio.Queue[Exception] = asyncio.Queue()
    async with serving(handler, failures) as server, connected(server) as (reader, _):
        assert isinstance(await failures.get(), FileNotFoundError)
        assert await reader.read() == b""
    async with (
        await start_server(handler, "127.0.0.1", 0, server_config()) as quiet,
        connected(quiet) as (reader, _),
    ):
        assert await reader.read() == b""


@asynchronous
async def test_mistakes_in_handlers_go_to_the_loop():
    async def handler(reader: Reader, writer: Writer) -> None:
        raise ZeroDivisionError

    contexts: asyncio.Queue[dict[str, Any]] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(lambda _, context: contexts.put_nowait(context))
    async with serving(handler) as server, connected(server) as (reader, _):
        context = await contexts.get()
        assert isinstance(context["exception"], ZeroDivisionError)
        assert await reader.read() == b""


@asynchronous
async def test_an_address_that_is_taken():
    async with serving() as server:
        with pytest.raises(OSError, match="in use"):
            await start_server(echo, *where(server), server_config())


@asynchronous
async def test_a_key_log_that_cannot_be_written_is_no_server(tmp_path):
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("SSLKEYLOGFILE", str(tmp_path / "nowhere" / "keys"))
        with pytest.raises(ConfigurationError, match="nowhere"):
            await start_server(echo, "127.0.0.1", 0, server_config())
