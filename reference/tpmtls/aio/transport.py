"""TLS as an asyncio transport: a protocol above, another transport below."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable
from typing import Any, cast

from tpmtls.connection import Connection
from tpmtls.session import CLOSED_EARLY, LINGER_OCTETS, LINGER_SECONDS, REPLY_LIMIT, Session
from tpmtls.violations import HandshakeTimeoutError, TlsError, TruncationError

Gone = Callable[["TlsTransport", Exception | None], object]


class TlsTransport(Session, asyncio.Transport):
    """TLS as a transport, for the protocol above; `raw` is the transport below.

    The protocol above gets to know of the connection when the handshake is complete.
    """

    def __init__(
        self,
        connection: Connection,
        raw: asyncio.Transport,
        protocol: asyncio.Protocol,
        *,
        ready: Callable[[TlsTransport], object],
        gone: Gone,
    ) -> None:
        """`ready` is called after the handshake, if that succeeds; `gone` at the end in any case.

        By then `raw` is closed. The error is None where the connection was closed as it should.
        """
        Session.__init__(self, connection)
        asyncio.Transport.__init__(self)
        self._raw = raw
        self._protocol = protocol
        self._ready = ready
        self._gone = gone
        self._established = False
        self._failure: Exception | None = None
        self._closing = False
        self._eof_told = False
        self._stuck = False
        self._replies = 0
        self._discarded = 0
        self._loop = asyncio.get_running_loop()
        timeout = connection.config.handshake_timeout
        self._timer = self._loop.call_later(timeout, self._too_late, timeout)
        self._flush()

    # -- from below -----------------------------------------------------------------------------

    def octets_received(self, octets: bytes) -> None:
        """What the transport below delivered; b"" at its end."""
        if self._closing:
            self._discarded += len(octets)
            if not octets:
                self._raw.close()
            elif self._discarded > LINGER_OCTETS:
                self._raw.abort()
            return
        data, failure = self._receive(octets)
        self._reply()
        if not self._established and self.connection.handshake_complete:
            self._establish()
        for chunk in data:
            if not self.is_closing():
                self._protocol.data_received(chunk)
        if failure is not None:
            self._fail(failure)
        elif self.connection.peer_closed and not self._eof_told:
            self._eof_told = True
            if not self._established:
                self._fail(TruncationError(CLOSED_EARLY))
            elif not self.is_closing() and not self._protocol.eof_received():
                self.close()

    def lost(self, error: Exception | None) -> None:
        """The transport below is gone."""
        self._timer.cancel()
        self.connection.forget()
        self._closing = True
        error = self._failure or error
        if self._established:
            self._protocol.connection_lost(error)
        else:
            error = error or TruncationError(CLOSED_EARLY)
        self._gone(self, error)

    def writing_paused(self, paused: bool) -> None:
        """The buffer below is full, or has room again."""
        self._stuck, self._replies = paused, 0
        if self._established:
            (self._protocol.pause_writing if paused else self._protocol.resume_writing)()

    def _establish(self) -> None:
        self._established = True
        self._timer.cancel()
        self._protocol.connection_made(self)
        if self._stuck:
            self._protocol.pause_writing()
        self._ready(self)

    def _reply(self) -> None:
        """Send what the protocol answers, to a peer that takes it."""
        octets = self.connection.data_to_send()
        if octets:
            self._raw.write(octets)
            self._replies += len(octets) if self._stuck else 0
            if self._replies > REPLY_LIMIT:
                self._fail(ConnectionAbortedError("the peer does not read what it asks for"))

    def _too_late(self, timeout: float) -> None:
        self._failure = HandshakeTimeoutError(f"no handshake within {timeout:g} s")
        self.cancel()

    def _fail(self, error: Exception) -> None:
        """End after an error: the alert, if there is one, was written."""
        self._failure = error
        self._closing = True
        if isinstance(error, TlsError) and error.alert is not None:
            self._linger()
        else:
            self._raw.close()  # once all is written, which a peer that does not read prevents
            self._leave_later(None)

    def _linger(self) -> None:
        """Let the peer read what we said, for a while: closed unread, a socket resets."""
        self._raw.resume_reading()
        if self._raw.can_write_eof():
            self._raw.write_eof()
        self._leave_later(None)

    def _leave_later(self, unsent: int | None) -> None:
        self._timer.cancel()
        self._timer = self._loop.call_later(LINGER_SECONDS, self._leave, unsent)

    def _leave(self, unsent: int | None) -> None:
        """Go, unless the peer is still taking what we wrote."""
        left = self._raw.get_write_buffer_size()
        if left and (unsent is None or left < unsent):
            self._leave_later(left)
        else:
            self._raw.abort()

    def _flush(self) -> None:
        octets = self.connection.data_to_send()
        if octets:
            self._raw.write(octets)

    # -- from above: asyncio.Transport ----------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Send `data`; after an error or `close` it goes nowhere, as with other transports."""
        if data and not self._closing:
            self.connection.send_data(bytes(data))
            self._flush()

    def writelines(self, list_of_data: Iterable[bytes | bytearray | memoryview]) -> None:
        """Send all of them."""
        self.write(b"".join(list_of_data))

    def write_eof(self) -> None:
        """Send close_notify; reading goes on."""
        self.connection.close()
        self._flush()

    def can_write_eof(self) -> bool:
        """Yes."""
        return True

    def close(self) -> None:
        """Send what is waiting and close_notify, then go as soon as the peer has gone.

        It gets LINGER_SECONDS, and longer only while it still takes data.
        """
        if self._closing:
            return
        self._closing = True
        self.connection.close()
        self._flush()
        if self.connection.peer_closed and not self._raw.get_write_buffer_size():
            self._raw.close()
        else:
            self._linger()

    def cancel(self) -> None:
        """Give up a handshake: tell the peer if that is possible at once, and go."""
        self._closing = True
        self.connection.cancel()
        self._flush()
        if self._raw.get_write_buffer_size():
            self._raw.abort()
        else:
            self._raw.close()

    def abort(self) -> None:
        """Go at once, and lose what is waiting."""
        self._closing = True
        self._raw.abort()

    def is_closing(self) -> bool:
        """Whether the connection is closed, or about to be."""
        return self._closing

    def is_reading(self) -> bool:
        """Whether data is delivered."""
        return not self._closing and self._raw.is_reading()

    def pause_reading(self) -> None:
        """Deliver no more data, so that the peer has to wait."""
        if not self._closing:
            self._raw.pause_reading()

    def resume_reading(self) -> None:
        """Deliver data again."""
        self._raw.resume_reading()

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """When the protocol is told to pause writing, in octets of records."""
        self._raw.set_write_buffer_limits(high, low)

    def get_write_buffer_size(self) -> int:
        """Octets of records that wait."""
        return self._raw.get_write_buffer_size()

    def get_write_buffer_limits(self) -> tuple[int, int]:
        """Low and high mark."""
        return self._raw.get_write_buffer_limits()

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        """Put another protocol above."""
        self._protocol = cast(asyncio.Protocol, protocol)

    def get_protocol(self) -> asyncio.BaseProtocol:
        """The protocol above."""
        return self._protocol

    def get_extra_info(self, name: str, default: Any = None) -> Any:
        """`tls` is the Session, `peercert` as `ssl` has it; the rest is asked of below."""
        if name == "tls":
            return self
        if name == "peercert":
            return self.getpeercert()
        return self._raw.get_extra_info(name, default)


class Below(asyncio.Protocol):
    """What the transport below talks to."""

    transport: TlsTransport

    def __init__(self, make: Callable[[asyncio.Transport], TlsTransport]) -> None:
        self._make = make

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = self._make(cast(asyncio.Transport, transport))

    def data_received(self, data: bytes) -> None:
        self.transport.octets_received(data)

    def eof_received(self) -> bool:
        self.transport.octets_received(b"")
        return True  # the transport is ours to close

    def connection_lost(self, exc: Exception | None) -> None:
        self.transport.lost(exc)

    def pause_writing(self) -> None:
        self.transport.writing_paused(True)

    def resume_writing(self) -> None:
        self.transport.writing_paused(False)
