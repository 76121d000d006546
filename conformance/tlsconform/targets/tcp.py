"""A server under test that listens somewhere."""

from __future__ import annotations

import socket
from typing import Final

from tlsconform.channel import Channel, TcpChannel
from tlsconform.outcome import TargetUnavailable
from tlsconform.targets.base import ServerTarget

CONNECT_TIMEOUT: Final = 5.0
"""Seconds."""


def parse_address(text: str) -> tuple[str, int]:
    """`HOST:PORT`, `[::1]:443` or `:443`; raises ValueError that says what is wrong."""
    host, colon, port = text.rpartition(":")
    if not colon or not port.isdecimal() or not 0 < int(port) < 2**16:
        raise ValueError(f"{text!r} is not HOST:PORT, such as localhost:4433")
    return host.strip("[]") or "localhost", int(port)


class TcpServer(ServerTarget):
    """The server that listens at an address; one connection per test, or a few."""

    def __init__(self, address: tuple[str, int]) -> None:
        self.address = address
        host, port = address
        self.name = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"

    def connect(self, needs: frozenset[str] = frozenset()) -> Channel:
        try:
            return TcpChannel(socket.create_connection(self.address, CONNECT_TIMEOUT))
        except OSError as error:
            reason = error.strerror or str(error) or type(error).__name__
            raise TargetUnavailable(f"cannot connect to {self.name}: {reason}") from None
