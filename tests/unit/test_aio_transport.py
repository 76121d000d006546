"""TlsTransport between a protocol and a transport that are both in our hands."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from tests.unit.loops import (
    SOON,
    asynchronous,
)
from tests.unit.support import (
    client_config,
    client_credential,
    server_config,
    trust,
)
from tpmtls.aio import TlsTransport
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.violations import (
    TruncationError,
)


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
        bench.tls.connection._outgoing.append(bytes(101))
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
