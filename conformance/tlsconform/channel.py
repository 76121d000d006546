"""The wire to the implementation under test: a TCP connection, or one in this process."""

from __future__ import annotations

import socket
from abc import ABC, abstractmethod
from typing import Final

READ_SIZE: Final = 1 << 16


class Silence(Exception):
    """Nothing came within the time allowed, and the connection is still open."""


class Channel(ABC):
    """Octets to and from the implementation under test."""

    was_reset = False
    """Whether the connection ended by a reset, which may have swallowed an alert."""

    @abstractmethod
    def send(self, octets: bytes) -> None:
        """Deliver octets; one that is gone takes nothing, which is no error here."""

    @abstractmethod
    def receive(self, timeout: float) -> bytes:
        """The next octets, b"" at the end; raises Silence after `timeout` seconds without any."""

    @abstractmethod
    def close(self) -> None:
        """Give the connection up."""


class TcpChannel(Channel):
    """Over a socket, which it takes over."""

    def __init__(self, connected: socket.socket) -> None:
        self._socket = connected
        self._socket.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)

    def send(self, octets: bytes) -> None:
        self._socket.settimeout(10.0)
        try:
            self._socket.sendall(octets)
        except OSError:
            # whatever it said before it went can still be read
            self.was_reset = True

    def receive(self, timeout: float) -> bytes:
        self._socket.settimeout(max(timeout, 0.001))
        try:
            return self._socket.recv(READ_SIZE)
        except TimeoutError:
            raise Silence from None
        except OSError:
            self.was_reset = True
            return b""

    def close(self) -> None:
        self._socket.close()
