"""What a stack has to offer to be measured: handshakes of both its ends, streams of records."""

from __future__ import annotations

import errno
import tempfile
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, NoEncryption, PrivateFormat

import tpmtls
from tlsconform.pki import Authority
from tpmtls.codepoints import CipherSuite, NamedGroup

Run = Callable[[], object]
HOST = "localhost"


@dataclass(frozen=True, slots=True)
class Files:
    """PEM files: an authority, and a server's ECDSA P-256 certificate for localhost by it."""

    ca: Path
    chain: Path
    key: Path

    def credential(self) -> tpmtls.Credential:
        """Chain and key, as the reference wants them."""
        return tpmtls.Credential.load(self.chain, self.key)


@contextmanager
def certificates() -> Iterator[Files]:
    """Fresh ones, for as long as the context lasts."""
    authority = Authority()
    (der,) = authority.credential().chain
    leaf = x509.load_der_x509_certificate(der).public_bytes(Encoding.PEM)
    key = authority.key().private_bytes(Encoding.PEM, PrivateFormat.PKCS8, NoEncryption())
    with tempfile.TemporaryDirectory(prefix="tlsbench-") as folder:
        files = Files(*(Path(folder) / f"{name}.pem" for name in ("ca", "chain", "key")))
        for path, octets in ((files.ca, authority.pem), (files.chain, leaf), (files.key, key)):
            path.write_bytes(octets)
        yield files


class Stream(ABC):
    """A client that is connected to a server of the reference, seen from the client."""

    @abstractmethod
    def seal(self, data: bytes) -> bytes:
        """Send data; the records for the transport."""

    @abstractmethod
    def open(self, records: bytes) -> int:
        """Take records from the transport; how many octets of data were in them."""


class Stack(ABC):
    """A TLS implementation that can be driven from this process. All may raise `Missing`."""

    name: str

    @abstractmethod
    def version(self) -> str:
        """Which one it is."""

    @abstractmethod
    def handshakes(self, files: Files, group: NamedGroup, *, resumed: bool) -> Run:
        """A full handshake in that group with each call, or a resumed one, which gives a ticket."""

    @abstractmethod
    def stream(self, server: tpmtls.ServerConnection, files: Files, suite: CipherSuite) -> Stream:
        """A client that has completed its handshake with `server`, which wants that suite."""


class Wire:
    """A socket, as far as clients need one, whose other end is a sans-IO connection.

    A `recv` that finds nothing asks the other end, and raises as a socket that would block.
    """

    def __init__(self, other: tpmtls.ServerConnection) -> None:
        self._other = other
        self._incoming = bytearray()
        self.sent = bytearray()
        """What was sent since the other end took it."""

    def send(self, octets: bytes) -> int:
        """Keep it for the other end."""
        self.sent += octets
        return len(octets)

    def sendall(self, octets: bytes) -> None:
        """The same."""
        self.send(octets)

    def recv(self, size: int) -> bytes:
        """At most so many octets."""
        if not self._incoming:
            self.exchange()
        if not self._incoming:
            raise BlockingIOError(errno.EWOULDBLOCK, "nothing is here")
        octets = bytes(self._incoming[:size])
        del self._incoming[:size]
        return octets

    def exchange(self) -> None:
        """Let the other end take what was sent, and answer."""
        if self.sent:
            octets = bytes(self.sent)
            self.sent.clear()
            self._other.receive_data(octets)
        self._incoming += self._other.data_to_send()

    def put(self, octets: bytes) -> None:
        """Let octets arrive, as if from the other end."""
        self._incoming += octets


def pump(client: tpmtls.ClientConnection, server: tpmtls.ServerConnection) -> None:
    """Carry octets between the two until neither has more to say."""
    while octets := client.data_to_send():
        server.receive_data(octets)
        if octets := server.data_to_send():
            client.receive_data(octets)
