"""TlsStream: a TLS connection that behaves as a socket does."""

from __future__ import annotations

import contextlib
import errno
import socket
import threading
import time
from collections import deque
from collections.abc import Iterator
from types import TracebackType
from typing import Any, Final, Self

from tpmtls.connection import Connection
from tpmtls.session import (
    CLOSED_EARLY,
    LINGER_OCTETS,
    LINGER_SECONDS,
    REPLY_LIMIT,
    Session,
)
from tpmtls.sockets.channel import RECEIVE_SIZE, Channel, Deadline, after
from tpmtls.violations import HandshakeTimeoutError, TlsError, TruncationError

SEND_SIZE: Final = 2**16
"""Octets of data put into records at once."""
UNWRAP_SECONDS: Final = 5.0
"""How long `unwrap` waits for the peer's close_notify where the stream has no timeout."""


class TlsStream(Session):
    """A TLS connection over a socket.

    The end of the data is b"" from `recv`, and means that the peer said so; a transport that just
    ends is a TruncationError. An error of the protocol ends the stream: what had arrived before it
    can still be read, then each call raises it.
    """

    def __init__(self, sock: socket.socket, connection: Connection) -> None:
        """Takes the socket over, with its timeout; `handshake` comes next."""
        super().__init__(connection)
        self._timeout = sock.gettimeout()
        self._channel = Channel(sock)
        self._open = True
        self._incoming: deque[bytes] = deque()
        self._outgoing: deque[bytes] = deque()
        self._failure: TlsError | None = None
        self._reading = threading.Lock()
        self._writing = threading.Lock()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()

    def __repr__(self) -> str:
        state = "open" if self._open else "closed"
        return f"<{type(self).__name__} {state}, {self.connection.info}>"

    # -- reading --------------------------------------------------------------------------------

    def recv(self, size: int = RECEIVE_SIZE) -> bytes:
        """Up to `size` octets; waits for at least one. b"" once the peer sent close_notify."""
        if size <= 0:
            return b""
        with self._reading, self._in_time() as deadline:
            self._check_open()
            self._fill(deadline)
            if not self._incoming:
                return b""
            chunk = self._incoming.popleft()
            if len(chunk) > size:
                self._incoming.appendleft(chunk[size:])
                chunk = chunk[:size]
            return chunk

    def recv_into(self, buffer: bytearray | memoryview, size: int = 0) -> int:
        """Like `recv`, into a buffer; returns how many octets."""
        view = memoryview(buffer).cast("B")
        data = self.recv(min(size or len(view), len(view)))
        view[: len(data)] = data
        return len(data)

    def pending(self) -> int:
        """How many octets `recv` could return without waiting."""
        return sum(map(len, self._incoming))

    def _fill(self, deadline: Deadline) -> None:
        """Wait until there is data, or the peer's close_notify."""
        while not self._incoming and not self.connection.peer_closed:
            self._check()
            self._pump(deadline)

    def _check(self) -> None:
        """Raise what ended the stream, if something did."""
        if self._failure is not None:
            raise self._failure
        self._check_open()

    def _check_open(self) -> None:
        if not self._open:
            raise OSError(errno.EBADF, "the stream is closed")

    def _pump(self, deadline: Deadline) -> None:
        """Take in what arrives next, and answer where the protocol wants it."""
        octets = self._channel.receive(deadline)
        if octets or self._open:  # or else another thread closed the stream
            self._take_in(octets, deadline)

    def _take_in(self, octets: bytes, deadline: Deadline) -> None:
        with self._lock:
            data, failure = self._receive(octets)
            self._incoming.extend(data)
            self._collect()
        if failure is not None:
            self._failure = failure
            with contextlib.suppress(OSError):
                self._drain(after(LINGER_SECONDS))
            self._channel.shut_down(socket.SHUT_WR)
        elif self._outgoing:
            # Replies never hold up reading, unless the peer lets them pile up.
            crowded = sum(map(len, self._outgoing)) > REPLY_LIMIT
            with contextlib.suppress(TimeoutError, ConnectionError):
                self._drain(deadline if crowded else after(0), wait_turn=crowded)

    # -- writing --------------------------------------------------------------------------------

    def sendall(self, data: bytes | bytearray | memoryview) -> None:
        """Send all of `data`. After a timeout it is not known how much of it went out."""
        view = memoryview(data).cast("B")
        with self._in_time() as deadline:
            for start in range(0, len(view), SEND_SIZE):
                self._write(view[start : start + SEND_SIZE], deadline)

    def send(self, data: bytes | bytearray | memoryview) -> int:
        """Take a part of `data`, and return how many octets; none of it where this times out.

        What was taken goes out with the next call if it did not with this one.
        """
        view = memoryview(data).cast("B")[:SEND_SIZE]
        if view:
            with self._in_time() as deadline:
                self._drain(deadline)
                with contextlib.suppress(TimeoutError):
                    self._write(view, deadline)
        return len(view)

    def _write(self, data: memoryview, deadline: Deadline) -> None:
        with self._lock:
            self._check()
            self.connection.send_data(data)
            self._collect()
        try:
            self._drain(deadline)
        except ConnectionError:
            self._find_reason()
            raise

    def _find_reason(self) -> None:
        """The peer is gone: look for an alert that says why, and raise that instead."""
        if self._reading.acquire(blocking=False):
            try:
                while self._failure is None and not self.connection.peer_closed:
                    self._pump(after(0))
            except OSError:
                pass
            finally:
                self._reading.release()
        if self._failure is not None:
            raise self._failure

    def _flush(self) -> None:
        with self._in_time() as deadline:
            with self._lock:
                self._collect()
            self._drain(deadline)

    def _collect(self) -> None:
        """Queue what the connection has to send; in the same hold of the lock that made it."""
        octets = self.connection.data_to_send()
        if octets:
            self._outgoing.append(octets)

    def _drain(self, deadline: Deadline, *, wait_turn: bool = True) -> None:
        """Send what is queued. Without `wait_turn`, a thread that is sending already does it.

        That thread looks once more after it gave up its turn, so nothing is left behind.
        """
        while self._outgoing:
            if not self._writing.acquire(timeout=_patience(deadline) if wait_turn else 0):
                if wait_turn:
                    raise TimeoutError("timed out")
                return
            try:
                while self._outgoing:
                    # Whoever is interrupted in here cannot know what went out. What is popped
                    # is not sent again: better a connection cut short than octets sent twice.
                    octets, sent = self._outgoing.popleft(), 0
                    try:
                        sent = self._channel.send(octets, deadline)
                    except OSError:
                        self._outgoing.appendleft(octets)
                        raise
                    if sent < len(octets):
                        self._outgoing.appendleft(octets[sent:])
            finally:
                self._writing.release()

    # -- the handshake, and the end -------------------------------------------------------------

    def handshake(self, timeout: float) -> None:
        """Complete the handshake within `timeout` seconds in all; `wrap_client` and others do it.

        Where that fails, the peer is told, the socket is closed, and the error is raised.
        """
        deadline = after(timeout)
        try:
            self._collect()
            while not self.connection.handshake_complete:
                with contextlib.suppress(ConnectionError):  # there may be an alert to read
                    self._drain(deadline)
                self._pump(deadline)
                if self._failure is not None:
                    raise self._failure
                if self.connection.peer_closed and not self.connection.handshake_complete:
                    raise TruncationError(CLOSED_EARLY)
            with contextlib.suppress(ConnectionError):
                self._drain(deadline)
        except TlsError:
            self.close()
            raise
        except TimeoutError:
            self._cancel()
            raise HandshakeTimeoutError(f"no handshake within {timeout:g} s") from None
        except BaseException:
            self._cancel()
            raise

    def _cancel(self) -> None:
        """End a handshake for reasons that are not the peer's."""
        self.connection.cancel()
        with contextlib.suppress(OSError):
            self._collect()
            self._drain(after(0))
        self.close()

    def shutdown(self, how: int = socket.SHUT_WR) -> None:
        """SHUT_WR: say that no more data will come; reading goes on. SHUT_RDWR: end both."""
        if how == socket.SHUT_RD:
            return
        with self._lock:
            self.connection.close()
        self._flush()
        if how == socket.SHUT_RDWR:
            self._channel.shut_down(socket.SHUT_RDWR)

    def unwrap(self) -> socket.socket:
        """End TLS on both sides, and give the plain socket back.

        Discards data until the peer's close_notify, for at most the timeout or, without one,
        UNWRAP_SECONDS. What the peer sends in clear after it stays in the socket, unless `recv`
        took it already: who speaks first must wait for the other side's close_notify.
        """
        self._check()
        deadline = after(UNWRAP_SECONDS if self._timeout is None else self._timeout)
        with self._lock:
            self.connection.close()
            self._collect()
        self._drain(deadline)
        with self._reading:
            while not self.connection.peer_closed:
                self._check()
                self._take_no_more_than_tls(deadline)
                self._incoming.clear()
        self._open = False
        self._channel.socket.settimeout(self._timeout)
        return self._channel.socket

    def _take_no_more_than_tls(self, deadline: Deadline) -> None:
        """Take in what has arrived octet by octet, up to the peer's close_notify."""
        ahead = self._channel.receive(deadline, socket.MSG_PEEK)
        if not ahead:
            self._take_in(b"", deadline)
        for count in range(len(ahead)):
            if self.connection.peer_closed or self._failure is not None:
                ahead = ahead[:count]
                break
            self._take_in(ahead[count : count + 1], deadline)
        if ahead:
            self._channel.receive(deadline, size=len(ahead))

    def close(self) -> None:
        """Say close_notify if possible, and close the socket. Does not wait for the peer's.

        After an error, waits up to LINGER_SECONDS so that the peer can read the alert.
        """
        if not self._open:
            return
        self._open = False
        try:
            with self._lock:
                self.connection.close()
                self._collect()
            with contextlib.suppress(OSError):
                self._drain(after(LINGER_SECONDS))
            alerted = self._failure is not None and self._failure.alert is not None
            self._channel.discard(LINGER_OCTETS, after(LINGER_SECONDS if alerted else 0))
        finally:
            self._channel.close()
            with self._lock:
                self.connection.forget()

    def interrupt(self, timeout: float = LINGER_SECONDS) -> None:
        """From another thread: end both directions, so that whoever waits is woken.

        Takes no longer than `timeout`, even where the peer does not read; then it is cut short.
        """
        with contextlib.suppress(OSError):
            with self._lock:
                self.connection.close()
                self._collect()
            self._drain(after(timeout))
        self._channel.shut_down(socket.SHUT_RDWR)

    # -- the socket -----------------------------------------------------------------------------

    def settimeout(self, seconds: float | None) -> None:
        """How long a call may take; None for as long as it takes, 0 for not at all."""
        if seconds is not None and seconds < 0:
            raise ValueError("a timeout is not negative")
        self._timeout = seconds

    def gettimeout(self) -> float | None:
        """What `settimeout` set, or the socket brought."""
        return self._timeout

    def setblocking(self, flag: bool) -> None:
        """`settimeout(None)` or `settimeout(0)`."""
        self.settimeout(None if flag else 0.0)

    def fileno(self) -> int:
        """The socket's descriptor; mind that `pending` data does not show there."""
        return self._channel.socket.fileno()

    def getpeername(self) -> Any:
        """The peer's address."""
        return self._channel.socket.getpeername()

    def getsockname(self) -> Any:
        """Our address."""
        return self._channel.socket.getsockname()

    @contextlib.contextmanager
    def _in_time(self) -> Iterator[Deadline]:
        """The deadline of a call; as for sockets, a call that may not wait raises another error."""
        try:
            yield after(self._timeout)
        except TimeoutError:
            if self._timeout == 0:
                raise BlockingIOError(errno.EAGAIN, "the stream is not ready") from None
            raise


def _patience(deadline: Deadline) -> float:
    """A deadline as a lock's timeout."""
    return -1 if deadline is None else max(0.0, deadline - time.monotonic())
