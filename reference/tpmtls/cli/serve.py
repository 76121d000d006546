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

import asyncio
import signal
import socket
from argparse import ArgumentParser, Namespace
from collections.abc import Callable
from contextlib import closing
from typing import TYPE_CHECKING, Any, Final

from tpmtls.cli import options
from tpmtls.cli.exits import PROTOCOL, SUCCESS, USAGE, CommandError, explain, say

if TYPE_CHECKING:
    from tpmtls.backends.base import Backend
    from tpmtls.config import ServerConfig
    from tpmtls.session import Session

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
    from tpmtls.cli import settings

    config = settings.server_config(arguments)
    with closing(settings.backend(arguments, config)) as backend:
        return asyncio.run(_Service(arguments, config, backend).run())


class _Service:
    """One run of `tpmtls serve`."""

    def __init__(self, arguments: Namespace, config: ServerConfig, backend: Backend) -> None:
        self._arguments = arguments
        self._config = config
        self._backend = backend
        self._stop = asyncio.Event()
        self._status = SUCCESS

    async def run(self) -> int:
        """Listen until told to stop."""
        from tpmtls.aio import start_server

        loop = asyncio.get_running_loop()
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.add_signal_handler(number, self._stop.set)
        loop.set_exception_handler(_Mishaps())
        host, port = self._arguments.listen
        try:
            if port == 0:  # one address, or each would get a port of its own
                host = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][4][0]
            server = await start_server(
                self._handle,
                host,
                port,
                self._config,
                backend=self._backend,
                failed=self._failed,
            )
        except OSError as error:
            where = f"{host}:{port}"
            raise CommandError(f"cannot listen on {where}: {explain(error)}", USAGE) from None
        async with server:
            self._announce([sock.getsockname() for sock in server.sockets])
            await self._stop.wait()
        return self._status

    async def _handle(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        from tpmtls.cli import report, respond

        peer = report.place(writer.get_extra_info("peername"))
        session: Session = writer.get_extra_info("tls")
        self._say("connection", peer, **report.describe(session))
        heard = _Authentication(self._say, peer, session) if self._asks_later else _nothing
        await respond.RESPONDERS[self._arguments.respond](respond.Client(reader, writer, heard))
        self._over(SUCCESS)

    @property
    def _asks_later(self) -> bool:
        return bool(self._arguments.request_client_auth_after)

    def _failed(self, error: Exception, address: Any) -> None:
        from tpmtls.cli import report

        self._say("failure", report.place(address), error=explain(error))
        self._over(PROTOCOL)

    def _over(self, status: int) -> None:
        if self._arguments.once and not self._stop.is_set():
            self._status = status
            self._stop.set()

    def _announce(self, addresses: list[Any]) -> None:
        from tpmtls.cli import report

        places = [report.place(address) for address in addresses]
        if self._arguments.json:
            report.say_json(event="listening", addresses=places)
        else:
            say(f"listening on {' and '.join(places)}")

    def _say(self, event: str, peer: str, **values: Any) -> None:
        from tpmtls.cli import report

        if self._arguments.json:
            report.say_json(event=event, peer=peer, **values)
        elif self._arguments.verbose or (event == "failure" and self._arguments.once):
            say(f"{peer} {report.one_line(values)}")


class _Authentication:
    """Asks for a certificate after the first data, and says once who answered."""

    def __init__(self, say: Callable[..., None], peer: str, session: Session) -> None:
        self._say = say
        self._peer = peer
        self._session = session
        self._asked = False
        self._known = session.peer_chain

    def __call__(self) -> None:
        """To be called when data has come."""
        from tpmtls.cli import report
        from tpmtls.violations import ConnectionStateError

        if not self._asked:
            self._asked = True
            try:
                self._session.request_client_certificate()
            except ConnectionStateError as error:
                self._say("authentication", self._peer, error=str(error))
        if self._session.peer_chain != self._known:
            self._known = self._session.peer_chain
            certificate = report.subject(self._session)
            self._say("authentication", self._peer, peer_certificate=certificate)


def _nothing() -> None:
    pass


class _Mishaps:
    """What the loop meets and survives, such as no more descriptors: a line for each kind.

    No more often than each second: the loop reports every single accept that fails.
    """

    def __init__(self) -> None:
        self._said: dict[str, float] = {}

    def __call__(self, loop: asyncio.AbstractEventLoop, context: dict[str, Any]) -> None:
        """To be called by the loop."""
        error = context.get("exception")
        line = f"tpmtls: {context['message']}" + (f": {explain(error)}" if error else "")
        if loop.time() - self._said.get(line, float("-inf")) >= 1:
            self._said = {line: loop.time()}
            say(line)
