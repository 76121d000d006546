"""A client on tlslite-ng, for a run of the suite: HOST PORT; sends what its stdin says.

tlslite-ng does not verify certificate chains: that is left to its user.
"""

from __future__ import annotations

import select
import socket
import sys

from lingering import linger
from tlslite.api import HandshakeSettings, TLSConnection
from tlslite.errors import BaseTLSException


def talk(stream: TLSConnection, connection: socket.socket) -> None:
    """Read until the server closes, and send each line of stdin, in one thread."""
    while True:
        for state in stream.readAsync(max=1 << 14, min=1):
            if state not in (0, 1):
                if not state:
                    return
                continue
            waits = ([connection], []) if state == 0 else ([], [connection])
            readable, writable, _ = select.select([*waits[0], sys.stdin], waits[1], [])
            if connection in readable or writable:
                continue  # what came first counts first: it may be an alert
            line = sys.stdin.readline()
            if not line:
                stream.closeSocket = True
                stream.close()
                return
            stream.write(line.encode())


def main() -> None:
    """Until the server closes, or an error ends it."""
    host, port = sys.argv[1:]
    with socket.create_connection((host, int(port))) as connection:
        stream = TLSConnection(connection)
        stream.closeSocket = False
        try:
            stream.handshakeClientCert(serverName=host, settings=HandshakeSettings())
            connection.setblocking(False)
            talk(stream, connection)
        except BaseTLSException as error:
            print(error)
        linger(connection)


if __name__ == "__main__":
    main()
