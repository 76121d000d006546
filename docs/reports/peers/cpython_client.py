"""A client on CPython's ssl, for a run of the suite: HOST PORT CA; sends what its stdin says."""

from __future__ import annotations

import select
import socket
import ssl
import sys


def main() -> None:
    """Until the server closes, or an error ends it."""
    host, port, authority = sys.argv[1:]
    context = ssl.create_default_context(cafile=authority)
    context.set_alpn_protocols(["http/1.1"])
    with (
        socket.create_connection((host, int(port))) as connection,
        context.wrap_socket(connection, server_hostname=host) as stream,
    ):
        while True:
            waiting = [stream] if stream.pending() else []
            readable = waiting or select.select([stream, sys.stdin], [], [])[0]
            if stream in readable and not stream.recv(1 << 14):
                return
            if sys.stdin in readable:
                line = sys.stdin.readline()
                if not line:
                    stream.unwrap()
                    return
                stream.sendall(line.encode())


if __name__ == "__main__":
    main()
