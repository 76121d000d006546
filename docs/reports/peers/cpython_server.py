"""An echo server on CPython's ssl, for a run of the suite: CERT KEY; prints its port."""

from __future__ import annotations

import socket
import ssl
import sys
import threading
from contextlib import suppress

from lingering import linger


def serve(context: ssl.SSLContext, connection: socket.socket) -> None:
    """Echo until the client has nothing more to say."""
    connection.settimeout(20)
    stream = context.wrap_socket(connection, server_side=True, do_handshake_on_connect=False)
    with suppress(OSError):
        stream.do_handshake()
        while data := stream.recv(1 << 14):
            stream.sendall(data)
        stream.unwrap()
    with socket.socket(fileno=stream.detach()) as raw:
        linger(raw)


def main() -> None:
    """Serve for ever."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.minimum_version = ssl.TLSVersion.TLSv1_2
    context.load_cert_chain(sys.argv[1], sys.argv[2])
    context.set_alpn_protocols(["http/1.1"])
    with socket.create_server(("127.0.0.1", 0), backlog=64) as listener:
        print(listener.getsockname()[1], flush=True)
        while True:
            connection, _ = listener.accept()
            threading.Thread(target=serve, args=(context, connection), daemon=True).start()


if __name__ == "__main__":
    main()
