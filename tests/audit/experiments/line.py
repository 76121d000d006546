"""A client over TCP in this process, and the network between it and its server."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Self

from tests.audit.experiments.live import Server
from tests.interop.peers.interface import PATIENCE
from tpmtls.backends.base import Backend
from tpmtls.config import ClientConfig
from tpmtls.connection import ClientConnection
from tpmtls.events import ApplicationData, HandshakeCompleted
from tpmtls.violations import TruncationError


class Line:
    """A connection. The network sees, keeps and may change what passes: it is the attacker's.

    Raises TlsError or OSError where either end gives up.
    """

    def __init__(
        self,
        server: Server,
        config: ClientConfig,
        backend: Backend,
        early_data: bytes = b"",
        meddle: Callable[[bytes], bytes] = lambda octets: octets,
    ) -> None:
        self.sent, self.received = b"", b""
        """What a recording of the network has, as the client sent it and as the server did."""
        self.meddle = meddle
        """What the network makes of that which the client sends."""
        self.client = ClientConnection(config, backend, early_data=bool(early_data))
        if early_data:
            self.client.send_early_data(early_data)
        self._data = b""
        self._socket = socket.create_connection(("127.0.0.1", server.port), PATIENCE)
        self.port: int = self._socket.getsockname()[1]
        try:
            while not self.client.handshake_complete:
                self._pass()
            self.pass_on()
        except BaseException:
            self.drop()
            raise

    @property
    def random(self) -> bytes:
        """ClientHello.random, which key logs know a connection by."""
        return self.sent[11:43]

    @property
    def info(self) -> HandshakeCompleted:
        """What was negotiated."""
        assert self.client.info is not None
        return self.client.info

    def ask(self, data: bytes) -> bytes:
        """Send data; as many octets as the server answers with."""
        self.client.send_data(data)
        self.pass_on()
        return self.hear(len(data))

    def hear(self, octets: int) -> bytes:
        """So much of what the server says."""
        while len(self._data) < octets:
            self._pass()
        heard, self._data = self._data[:octets], self._data[octets:]
        return heard

    def update_keys(self) -> None:
        """New keys in both directions, which the next `ask` uses."""
        self.client.update_keys(request_peer=True)
        self.pass_on()

    def close(self) -> None:
        """End the connection in order."""
        self.client.close()
        self.pass_on()
        while not self.client.peer_closed:
            self._pass()
        self.drop()

    def drop(self) -> None:
        """End it at once."""
        self._socket.close()
        self.client.forget()

    # -- the network -------------------------------------------------------------------------------

    def pass_on(self) -> None:
        """Bring what the client has to say to the server, or what is made of it."""
        octets = self.client.data_to_send()
        self.sent += octets
        if octets:
            self.inject(self.meddle(octets))

    def inject(self, octets: bytes) -> None:
        """Bring something to the server."""
        self._socket.sendall(octets)

    def intercept(self) -> bytes:
        """The next of what the server says, on its way."""
        octets = self._socket.recv(2**16)
        if not octets:
            raise TruncationError("the server closed the connection")
        self.received += octets
        return octets

    def deliver(self, octets: bytes) -> None:
        """Bring the client what the server said."""
        self.client.receive_data(octets)
        for event in self.client.events():
            if isinstance(event, ApplicationData):
                self._data += event.data

    def _pass(self) -> None:
        self.pass_on()
        self.deliver(self.intercept())

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.drop()
