"""Serve TLS 1.3.

One thread with an event loop (asyncio) holds all clients: hundreds at once, as
many as there are file descriptors. A client that does not complete the handshake
within --timeout seconds is dropped; afterwards it may be silent for as long as it
likes. What goes wrong with one connection ends that connection alone. Ctrl-C and
SIGTERM end the server, with exit status 0.

Of suites, groups, signature schemes and protocols, the first of ours that the
client has is taken. Of certificates, the first that fits the client's schemes and
the name that it asks for.

examples:
  tpmtls serve --listen 127.0.0.1:4433 --cert server.pem --key server.key -v
  tpmtls serve --listen '[::1]:0' --cert rsa.pem --key rsa.key \\
      --cert ec.pem --key ec.key --respond http
  tpmtls serve --listen localhost:4433 --cert server.pem --key server.key \\
      --client-ca ca.pem --require-client-cert
  tpmtls serve --listen localhost:4433 --cert server.pem --key server.key \\
      --early-data 16384 --tickets 4
  tpmtls serve --listen localhost:4433 \\
      --psk printer:00112233445566778899aabbccddeeff

With --json, each line on stderr is an object: "event" is listening, connection,
authentication or failure. stdout stays empty.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from contextlib import closing
from typing import Final

from tpmtls.cli import options

SUMMARY: Final = "serve TLS 1.3: an echo, a page, or lines reversed"
RESPONDERS: Final = ("echo", "http", "reverse")


def add_arguments(parser: ArgumentParser) -> None:
    """The options of `tpmtls serve`."""
    parser.add_argument(
        "--listen",
        metavar="HOST:PORT",
        type=options.host_and_port,
        required=True,
        help="where; port 0 picks one. The first line on stderr says which",
    )
    parser.add_argument(
        "--respond",
        choices=RESPONDERS,
        default=RESPONDERS[0],
        help="what came, a page that says what was negotiated, or each line reversed (echo)",
    )
    parser.add_argument(
        "--once",
        action="store_true",
        help="end after one connection, with exit status 1 if it failed",
    )
    options.add_credentials(parser, "; repeat the pair for more")
    clients = parser.add_argument_group("clients' certificates")
    clients.add_argument(
        "--client-ca",
        metavar="FILE",
        help="ask for a certificate, and accept those that these certificates, PEM, vouch for",
    )
    clients.add_argument(
        "--require-client-cert", action="store_true", help="refuse clients that have none"
    )
    clients.add_argument(
        "--request-client-auth-after",
        action="store_true",
        help="ask after the client's first data (post-handshake authentication), not before",
    )
    group = options.add_protocol(parser)
    group.add_argument(
        "--tickets",
        metavar="N",
        type=int,
        default=2,
        help="session tickets for each full handshake (%(default)s)",
    )
    group.add_argument(
        "--early-data",
        metavar="OCTETS",
        type=options.octets,
        default=0,
        help="0-RTT data that a ticket or PSK permits; it can be replayed (%(default)s)",
    )
    options.add_backend(parser)
    options.add_general(parser, "for a client to complete the handshake (%(default)s)")


def run(arguments: Namespace) -> int:
    """Serve until a signal, or with --once one connection; returns the exit status."""
    import asyncio

    from tpmtls.cli import settings
    from tpmtls.cli.service import Service

    config = settings.server_config(arguments)
    with closing(settings.backend(arguments, config)) as backend:
        return asyncio.run(Service(arguments, config, backend).run())
