"""A client on CPython's ssl, for a run of the suite: HOST PORT CA; sends what its stdin says."""

from __future__ import annotations

import select
import socket
import ssl
import sys

from lingering import linger


def talk(stream: ssl.SSLSocket) -> None:
    """Until the server closes; a record may be no data, so no read may wait for some."""
    while True:
        readable = select.select([stream, sys.stdin], [], [])[0]
        if stream in readable:
            try:
                while stream.recv(1 << 14):
                    pass
            except ssl.SSLWantReadError:
                continue
            return
        line = sys.stdin.readline()
        if not line:
            return
        stream.sendall(line.encode())


def main() -> None:
    """Until the server closes, or an error ends it."""
    host, port, authority = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["http/1.1"])
    with (
        socket.create_connection((host, int(port))) as connection,
        context.wrap_socket(
            connection, server_hostname=host, do_handshake_on_connect=False
        ) as stream,
    ):
        try:
            stream.do_handshake()
            stream.setblocking(False)
            talk(stream)
            stream.settimeout(1.0)
            stream.unwrap()
        except OSError as error:
            print(error)
        raw = socket.socket(fileno=stream.detach())
    with raw:
        linger(raw)


if __name__ == "__main__":
    main()
