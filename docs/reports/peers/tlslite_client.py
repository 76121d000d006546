"""A client on tlslite-ng, for a run of the suite: HOST PORT; sends what its stdin says.

tlslite-ng does not verify certificate chains: that is left to its user.
"""

from __future__ import annotations

import socket
import sys
import threading

from tlslite.api import HandshakeSettings, TLSConnection


def send_lines(stream: TLSConnection) -> None:
    """Each line of stdin as application data, then close_notify."""
    for line in sys.stdin:
        stream.write(line.encode())
    stream.close()


def main() -> None:
    """Until the server closes, or an error ends it."""
    host, port = sys.argv[1:]
    with socket.create_connection((host, int(port))) as connection:
        stream = TLSConnection(connection)
        stream.handshakeClientCert(serverName=host, settings=HandshakeSettings())
        threading.Thread(target=send_lines, args=(stream,), daemon=True).start()
        while stream.read(max=1 << 14, min=1):
            pass


if __name__ == "__main__":
    main()
