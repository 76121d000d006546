"""A socket with deadlines: what is below a stream's TLS."""

from __future__ import annotations

import contextlib
import errno
import select
import socket
import time
from typing import Final

RECEIVE_SIZE: Final = 2**16
"""Octets asked of the socket at once."""

Deadline = float | None
"""A moment of the monotonic clock, in seconds; None for no end."""


def after(timeout: float | None) -> Deadline:
    """The deadline of something that begins now and may take `timeout` seconds."""
    return None if timeout is None else time.monotonic() + timeout


class Channel:
    """A connected socket, never in blocking mode: a reader and a writer wait each for itself.

    Both see TimeoutError at their deadline. A socket's own timeout could not do this: it is one for
    both directions, and starts afresh with every packet.
    """

    def __init__(self, sock: socket.socket) -> None:
        self.socket = sock
        sock.setblocking(False)
        with contextlib.suppress(OSError):  # records are whole: Nagle would only hold them back
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def receive(self, deadline: Deadline, flags: int = 0, size: int = RECEIVE_SIZE) -> bytes:
        """What has arrived, up to `size` octets and at least one; b"" at the end."""
        while True:
            try:
                return self.socket.recv(size, flags)
            except BlockingIOError:
                self._wait(select.POLLIN, deadline)

    def send(self, octets: bytes, deadline: Deadline) -> int:
        """Send a part of `octets`, at least one of them; returns how many."""
        while True:
            try:
                return self.socket.send(octets)
            except BlockingIOError:
                self._wait(select.POLLOUT, deadline)

    def discard(self, octets: int, deadline: Deadline) -> None:
        """Read up to the end, for as many octets: a socket closed unread would send a reset."""
        with contextlib.suppress(OSError):
            while octets > 0 and (received := self.receive(deadline)):
                octets -= len(received)

    def shut_down(self, how: int) -> None:
        """Close a direction; nothing happens where that is not possible any more."""
        with contextlib.suppress(OSError):
            self.socket.shutdown(how)

    def close(self) -> None:
        """Close the socket, and wake whoever waits on it."""
        self.shut_down(socket.SHUT_RDWR)
        self.socket.close()

    def _wait(self, what: int, deadline: Deadline) -> None:
        patience = None if deadline is None else deadline - time.monotonic()
        if patience is not None and patience <= 0:
            raise TimeoutError("timed out")
        if self.socket.fileno() < 0:
            raise OSError(errno.EBADF, "the stream is closed")
        poll = select.poll()  # unlike select(), for any descriptor
        poll.register(self.socket, what)
        if not poll.poll(None if patience is None else patience * 1000):
            raise TimeoutError("timed out")
