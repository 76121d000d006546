"""What the interop tests ask of any implementation of TLS 1.3, ours included.

Names of suites, groups and signature schemes are IANA's everywhere; each peer maps them to its own.
"""

from __future__ import annotations

import hashlib
from contextlib import AbstractContextManager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import Protocol

from tests.pki import Credential

HOST = "127.0.0.1"
PATIENCE = 20.0
"""Seconds that any one step of a peer may take; a step that takes longer has failed."""


class PeerError(Exception):
    """A peer did not do what it was asked; the message ends with the peer's own log."""

    def __init__(self, message: str, log: str = "") -> None:
        super().__init__(f"{message}\n--- the peer's log ---\n{log.strip()}" if log else message)


# --- data ---------------------------------------------------------------------------------------

START = b"<0123456789>"
ALPHABET = b"0123456789<>\n"


def message(octets: int, seed: str = "") -> bytes:
    """Data that survives every peer's input and output: digits, lines of 64, a mark at the start.

    Command line clients take a letter at the start of what they read for a command, echo servers
    work by lines, and some print their log among the data: from the mark on, up to the first octet
    that is none of ALPHABET, it is data.
    """
    blocks = count()
    digits = bytearray(START)
    while len(digits) < octets:
        block = hashlib.sha256(f"{seed}/{next(blocks)}".encode()).digest()
        digits += f"{int.from_bytes(block):078d}"[-75:].encode()
    for at in range(63, octets, 64):
        digits[at] = 0x0A
    digits[octets - 1] = 0x0A
    return bytes(digits[:octets])


class Sieve:
    """Finds the data among a peer's output, which may come in any pieces."""

    def __init__(self) -> None:
        self._held = b""
        self._inside = False

    def feed(self, octets: bytes) -> bytes:
        data = b""
        self._held += octets
        while self._held:
            if not self._inside:
                at = self._held.find(START)
                if at < 0:
                    self._held = self._held[-len(START) + 1 :]
                    break
                self._held, self._inside = self._held[at:], True
            outside = self._held.lstrip(ALPHABET)
            data += self._held[: len(self._held) - len(outside)]
            self._held, self._inside = outside, not outside
        return data


# --- what is asked of a connection --------------------------------------------------------------


@dataclass(frozen=True)
class Psk:
    """An external PSK."""

    identity: str
    key: bytes
    hash: str = "sha256"


@dataclass(frozen=True)
class Settings:
    """What one end is to do; what is left out is the peer's own default."""

    credential: Credential | None = None
    more_credentials: tuple[Credential, ...] = ()
    """What else it can present; ours alone can."""
    trust: Path | None = None
    server_name: str = "localhost"
    suites: tuple[str, ...] = ()
    groups: tuple[str, ...] = ()
    key_shares: tuple[str, ...] | None = None
    """A client's shares, where the peer can choose; None: as the peer does."""
    signature_schemes: tuple[str, ...] = ()
    alpn: tuple[str, ...] = ()
    client_auth: str = "none"
    """A server's wish: "none", "request", "require"; a client's: "post-handshake" offers it."""
    psk: Psk | None = None
    psk_without_dhe: bool = False
    """psk_ke instead of psk_dhe_ke."""
    resumed: bool = False
    """A client: make a connection first, close it, and resume its session in the one given."""
    early_data: bytes = b""
    """A client's 0-RTT data; needs `resumed`."""
    max_early_data: int = 0
    """What a server takes as 0-RTT data."""
    connections: int = 1
    """How many connections a server serves, one after the other."""
    record_size_limit: int | None = None
    exporter: str = ""
    """Export EXPORTED octets of keying material under this label."""
    cookie: bool = False
    """A server: answer the first ClientHello with a cookie."""
    middlebox_compatibility: bool = True
    old: bool = False
    """TLS 1.2 and nothing newer."""


EXPORTED = 20
EARLY_DATA = b"early: 0-RTT"
"""Without the mark of `message`, so that no server takes it for data to send back."""


# --- what a peer can do -------------------------------------------------------------------------


@dataclass(frozen=True)
class Supports:
    """What a peer can do in one role; a case it can't do is not generated.

    Each of them can do HelloRetryRequest, resumption, client certificates and ALPN.
    """

    suites: tuple[str, ...]
    groups: tuple[str, ...]
    certificates: tuple[str, ...]
    """Kinds of keys (`tests.pki.KINDS`) that it can verify, and can present."""
    post_handshake_auth: bool = False
    key_update: tuple[bool, ...] = (True, False)
    """The KeyUpdates it can start: that ask for one back, that don't. Every peer answers one."""
    early_data: bool = False
    psk: tuple[str, ...] = ()
    """External PSKs, by their hash."""
    psk_without_dhe: bool = False
    exporter: bool = False
    record_size_limit: bool = False
    cookie: str = "never"
    """A server: it can send a cookie "with any client", or if that sends no change_cipher_spec."""
    chooses: frozenset[str] = frozenset({"suites", "groups", "schemes"})
    """What `Settings` can restrict; the rest it leaves at the peer's default."""
    middlebox_compatibility: bool = False
    """A client: `Settings` can turn it off."""
    closes_first: bool = True
    """A server: it can end a connection by itself, with close_notify."""
    closes_back: bool = True
    """A client: it answers close_notify with its own."""
    reports: frozenset[str] = frozenset()
    """The fields of Facts that it tells in this role."""
    reports_late: bool = True
    """It tells what it knows at the end of the connection, not just after the handshake."""


@dataclass(frozen=True)
class Facts:
    """What a peer says of a connection; None where it does not say."""

    suite: str | None = None
    group: str | None = None
    scheme: str | None = None
    alpn: str | None = None
    resumed: bool | None = None
    hello_retry: bool | None = None
    early_data: bool | None = None
    """Whether it was accepted."""
    peer: str | None = None
    """The common name of the other end's certificate."""
    exported: bytes | None = None
    key_updates: int | None = None
    """How many it sent."""


# --- the parts a peer plays ---------------------------------------------------------------------


class Client(Protocol):
    """A connected client."""

    def send(self, data: bytes) -> None: ...

    def receive(self, octets: int) -> bytes:
        """Exactly this many octets of data, or PeerError."""
        ...

    def await_text(self, text: bytes) -> None:
        """Until the server has sent this, which is not data in the sense of `message`."""
        ...

    def rekey(self, *, request: bool) -> None:
        """Send a KeyUpdate, and ask for one back or not."""
        ...

    def close(self) -> Facts:
        """End the connection with close_notify and wait for the server's; PeerError if unclean."""
        ...

    def await_close(self) -> Facts:
        """Wait for the server to end the connection, and end it too; PeerError if unclean."""
        ...

    def log(self) -> str: ...


class Server(Protocol):
    """A server that sends back whatever it receives."""

    port: int

    def rekey(self, client: Client, *, request: bool) -> None:
        """Send a KeyUpdate on the present connection, and ask for one back or not.

        Some servers do it only when their client says so in its data.
        """
        ...

    def request_certificate(self, client: Client) -> None:
        """Ask the present connection's client for its certificate, after the handshake."""
        ...

    def close_first(self, client: Client) -> None:
        """End the present connection, with close_notify."""
        ...

    def finish(self) -> list[Facts]:
        """Wait until every connection is served and closed; PeerError if one was not clean."""
        ...

    def log(self) -> str: ...


class Peer(Protocol):
    """An implementation."""

    name: str

    def version(self) -> str: ...

    def missing(self) -> str | None:
        """Why this peer can't be used here, if it can't."""
        ...

    @property
    def as_client(self) -> Supports: ...

    @property
    def as_server(self) -> Supports: ...

    def serve(self, settings: Settings) -> AbstractContextManager[Server]: ...

    def connect(self, port: int, settings: Settings) -> AbstractContextManager[Client]: ...
