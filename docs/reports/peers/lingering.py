"""How the programs of this folder end a connection: so that an alert that was sent arrives."""

from __future__ import annotations

import socket
import time
from contextlib import suppress

SECONDS = 1.0


def linger(connection: socket.socket) -> None:
    """Say the end, and read what still comes, for a while.

    A socket that is closed with octets unread resets the connection, which may swallow an alert.
    """
    deadline = time.monotonic() + SECONDS
    with suppress(OSError):
        connection.shutdown(socket.SHUT_WR)
        while (left := deadline - time.monotonic()) > 0:
            connection.settimeout(left)
            if not connection.recv(1 << 16):
                return
