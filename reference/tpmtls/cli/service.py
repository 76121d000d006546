"""What `tpmtls serve` does once its options are read: one event loop that holds all clients."""

from __future__ import annotations

import asyncio
import signal
import socket
from argparse import Namespace
from collections.abc import Callable
from typing import Any

from tpmtls.aio import start_server
from tpmtls.backends.base import Backend
from tpmtls.cli import report, respond
from tpmtls.cli.exits import PROTOCOL, SUCCESS, USAGE, CommandError, explain, say
from tpmtls.config import ServerConfig
from tpmtls.session import Session
from tpmtls.violations import ConnectionStateError


class Service:
    """One run of `tpmtls serve`."""

    def __init__(self, arguments: Namespace, config: ServerConfig, backend: Backend) -> None:
        self._arguments = arguments
        self._config = config
        self._backend = backend
        self._stop = asyncio.Event()
        self._status = SUCCESS

    async def run(self) -> int:
        """Listen until told to stop."""
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
        self._say("failure", report.place(address), error=explain(error))
        self._over(PROTOCOL)

    def _over(self, status: int) -> None:
        if self._arguments.once and not self._stop.is_set():
            self._status = status
            self._stop.set()

    def _announce(self, addresses: list[Any]) -> None:
        places = [report.place(address) for address in addresses]
        if self._arguments.json:
            report.say_json(event="listening", addresses=places)
        else:
            say(f"listening on {' and '.join(places)}")

    def _say(self, event: str, peer: str, **values: Any) -> None:
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
