"""The asyncio adapter: streams, back-pressure, and every way in which they end."""

from __future__ import annotations

import asyncio
import socket
import struct
from asyncio import StreamReader as Reader
from asyncio import StreamWriter as Writer
from typing import Any

import pytest

import tpmtls
from tests.unit.loops import (
    SOON,
    Far,
    asynchronous,
    connected,
    echo,
    far_client,
    far_server,
    serving,
    tls,
    where,
)
from tests.unit.support import (
    client_config,
    client_credential,
    credential,
    pki,
    server_config,
    trust,
)
from tpmtls.aio import TlsServer, open_connection, start_server
from tpmtls.codepoints import AlertDescription
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
