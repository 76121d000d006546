"""An echo server on tlslite-ng, for a run of the suite: CERT KEY; prints its port."""

from __future__ import annotations

import contextlib
import os
import socket
import sys
import threading
from pathlib import Path

from lingering import linger
from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey


def serve(
    connection: socket.socket, chain: X509CertChain, key: object, settings: HandshakeSettings
) -> None:
    """Echo until the client has nothing more to say."""
    connection.settimeout(20)
    stream = TLSConnection(connection)
    stream.closeSocket = False
    with contextlib.suppress(Exception):
        stream.handshakeServer(certChain=chain, privateKey=key, settings=settings)
        while data := stream.read(max=1 << 14, min=1):
            stream.write(data)
    with contextlib.closing(connection):
        linger(connection)


def main() -> None:
    """Serve for ever."""
    chain = X509CertChain()
    chain.parsePemList(Path(sys.argv[1]).read_text())
    key = parsePEMKey(Path(sys.argv[2]).read_text(), private=True)
    settings = HandshakeSettings()
    settings.ticketKeys = [bytearray(os.urandom(32))]
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            arguments = (connection, chain, key, settings)
            threading.Thread(target=serve, args=arguments, daemon=True).start()


if __name__ == "__main__":
    main()
