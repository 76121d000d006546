"""A peer that is a library: its server runs in a thread, its client where the test does."""

from __future__ import annotations

import queue
import socket
import threading
import traceback
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from typing import Any

from tests.interop.peers.interface import (
    HOST,
    PATIENCE,
    Client,
    Facts,
    PeerError,
    Server,
    Settings,
    Sieve,
    Supports,
    message,
)

READ = 1 << 14


class Stream(ABC):
    """One connection of a library; everything blocks, within the socket's timeout."""

    session: Any = None
    """What a later client needs to resume; known once data has been received."""

    @abstractmethod
    def receive(self) -> bytes:
        """Some data; none at the other end's close_notify, an exception when it is missing."""

    @abstractmethod
    def send(self, data: bytes) -> None: ...

    @abstractmethod
    def close(self) -> None:
        """Send close_notify and wait for the other end's, unless that came already."""

    @abstractmethod
    def facts(self) -> Facts: ...

    def rekey(self, *, request: bool) -> None:
        raise NotImplementedError

    def request_certificate(self) -> None:
        raise NotImplementedError


class Library(ABC):
    """A peer that is a library."""

    name: str
    as_client: Supports
    as_server: Supports

    @abstractmethod
    def version(self) -> str: ...

    def missing(self) -> str | None:
        return None

    @abstractmethod
    def server(self, settings: Settings) -> Callable[[socket.socket], Stream]:
        """What makes a stream of an accepted connection; keeps what resumption needs."""

    @abstractmethod
    def client(self, settings: Settings, session: Any) -> Callable[[socket.socket], Stream]:
        """What makes a stream of a connection; `session` is that of the stream to resume."""

    @contextmanager
    def serve(self, settings: Settings) -> Iterator[Server]:
        server = LibraryServer(self.name, self.server(settings), settings.connections)
        try:
            yield server
        finally:
            server.stop()

    @contextmanager
    def connect(self, port: int, settings: Settings) -> Iterator[Client]:
        session = None
        if settings.resumed:
            with self._connected(port, settings, None) as first:
                first.send(message(100))
                first.receive(100)  # tickets come before it
                first.close()
                session = first.stream.session
            if session is None:
                raise PeerError("got no session to resume", first.log())
        with self._connected(port, settings, session) as client:
            yield client

    @contextmanager
    def _connected(self, port: int, settings: Settings, session: Any) -> Iterator[LibraryClient]:
        with socket.create_connection((HOST, port), PATIENCE) as connection:
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            try:
                stream = self.client(settings, session)(connection)
            except Exception as error:
                raise PeerError(f"{self.name}: {error}", traceback.format_exc()) from error
            yield LibraryClient(self.name, stream)


class LibraryClient:
    """A client that a test drives."""

    def __init__(self, name: str, stream: Stream) -> None:
        self._name = name
        self.stream = stream
        self._sieve = Sieve()
        self._raw, self._data = bytearray(), bytearray()
        self._log: list[str] = []

    def send(self, data: bytes) -> None:
        self._do(lambda: self.stream.send(data), f"send {len(data)} octets")

    def receive(self, octets: int) -> bytes:
        while len(self._data) < octets:
            self._read(f"{octets} octets of data")
        data = bytes(self._data[:octets])
        del self._data[:octets]
        return data

    def await_text(self, text: bytes) -> None:
        while text not in self._raw:
            self._read(repr(text))

    def _read(self, awaited: str) -> None:
        read: list[bytes] = []
        self._do(lambda: read.append(self.stream.receive()), f"receive {awaited}")
        if not read[0]:
            raise PeerError(f"{self._name}: closed before {awaited}", self.log())
        self._raw += read[0]
        self._data += self._sieve.feed(read[0])

    def rekey(self, *, request: bool) -> None:
        self._do(lambda: self.stream.rekey(request=request), f"KeyUpdate, request={request}")

    def close(self) -> Facts:
        facts = self.stream.facts()
        self._do(self.stream.close, "close")
        return facts

    def await_close(self) -> Facts:
        facts = self.stream.facts()
        ends: list[bytes] = []
        self._do(lambda: ends.append(self.stream.receive()), "await the end")
        if ends != [b""]:
            raise PeerError(f"{self._name}: data instead of close_notify", self.log())
        self._do(self.stream.close, "close")
        return facts

    def _do(self, act: Callable[[], object], what: str) -> None:
        self._log.append(what)
        try:
            act()
        except NotImplementedError:
            raise
        except Exception as error:
            self._log.append(traceback.format_exc())
            raise PeerError(f"{self._name}: {what}: {error}", self.log()) from error

    def log(self) -> str:
        return "\n".join(self._log)


ORDER, DONE = b"*** an order ***\n", b"*** done ***\n"


class LibraryServer:
    """A server in a thread: it echoes, and carries out an order when its client says so."""

    def __init__(self, name: str, accept: Callable[[socket.socket], Stream], limit: int) -> None:
        self._name = name
        self._accept = accept
        self._listener = socket.create_server((HOST, 0))
        self._listener.settimeout(PATIENCE)
        self.port: int = self._listener.getsockname()[1]
        self._facts: list[Facts] = []
        self._orders: queue.SimpleQueue[Callable[[Stream], None] | None] = queue.SimpleQueue()
        self._log: list[str] = []
        self._error: Exception | None = None
        self._stopped = False
        self._connection: socket.socket | None = None
        self._thread = threading.Thread(target=self._run, args=(limit,), daemon=True)
        self._thread.start()

    # --- in the thread ---

    def _run(self, limit: int) -> None:
        try:
            for _ in range(limit):
                self._serve_one()
        except Exception as error:  # noqa: BLE001 - it is raised where the test looks for it
            if not self._stopped:
                self._error = error
                self._log.append(traceback.format_exc())
        finally:
            self._listener.close()

    def _serve_one(self) -> None:
        self._connection, _address = self._listener.accept()
        with self._connection as connection:
            connection.settimeout(PATIENCE)
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._log.append("accepted")
            stream = self._accept(connection)
            self._log.append("connected")
            ended = True
            while data := stream.receive():
                self._log.append(f"received {len(data)} octets")
                if not data.startswith(ORDER):
                    stream.send(data)
                elif order := self._orders.get_nowait():
                    order(stream)
                    stream.send(DONE)
                else:
                    ended = False
                    break
            self._facts.append(stream.facts())
            try:
                stream.close()
            except Exception:
                if not ended:  # else the other end was free to go, having said close_notify
                    raise
            self._log.append("closed")

    # --- in the test ---

    def rekey(self, client: Client, *, request: bool) -> None:
        self._order(client, lambda stream: stream.rekey(request=request))

    def request_certificate(self, client: Client) -> None:
        self._order(client, lambda stream: stream.request_certificate())

    def _order(self, client: Client, order: Callable[[Stream], None]) -> None:
        self._orders.put(order)
        client.send(ORDER)
        client.await_text(DONE)

    def close_first(self, client: Client) -> None:
        self._orders.put(None)
        client.send(ORDER)

    def finish(self) -> list[Facts]:
        self._thread.join(PATIENCE)
        if self._thread.is_alive():
            raise PeerError(f"{self._name}: still serving", self.log())
        if self._error:
            raise PeerError(f"{self._name}: {self._error}", self.log()) from self._error
        return self._facts

    def stop(self) -> None:
        """End the thread, wherever it is."""
        self._stopped = True
        for each in (self._listener, self._connection):
            if each is not None:
                with suppress(OSError):  # closed, or not connected
                    each.shutdown(socket.SHUT_RDWR)
        self._thread.join(PATIENCE)
        self._listener.close()

    def log(self) -> str:
        return "\n".join(self._log)
