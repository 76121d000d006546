"""What the tests of the handshake share: credentials, configurations, and two ends in memory."""

from __future__ import annotations

import atexit
import tempfile
from collections.abc import Callable, Sequence
from functools import cache
from pathlib import Path
from typing import Any, Self

import pytest

from tests.pki import Pki
from tpmtls.backends.base import KeyShare, Secret
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.certificates import TrustStore
from tpmtls.codepoints import ContentType, NamedGroup
from tpmtls.config import ClientConfig, Credential, ServerConfig
from tpmtls.connection import ClientConnection, Connection, ServerConnection
from tpmtls.events import ApplicationData, EarlyData, Event, HandshakeCompleted
from tpmtls.violations import TlsError

# -- credentials and configurations ----------------------------------------------------------------


@cache
def pki() -> Pki:
    """One for the whole process, its files removed at the end."""
    folder = tempfile.TemporaryDirectory(prefix="tpmtls-pki-")
    atexit.register(folder.cleanup)
    return Pki(Path(folder.name))


@cache
def trust() -> TrustStore:
    return TrustStore.load(pki().ca)


@cache
def credential(kind: str = "p256") -> Credential:
    """A server's, for localhost."""
    made = pki().server(kind)
    return Credential.load(made.chain, made.key)


@cache
def client_credential(kind: str = "p256") -> Credential:
    made = pki().client(kind)
    return Credential.load(made.chain, made.key)


@cache
def named_credential(*names: str, kind: str = "p256") -> Credential:
    made = pki().named(*names, kind=kind)
    return Credential.load(made.chain, made.key)


def client_config(**changes: Any) -> ClientConfig:
    """For the certificates above; one group, to be fast."""
    defaults = {"trust": trust(), "server_name": "localhost", "groups": (NamedGroup.x25519,)}
    return ClientConfig(**{**defaults, **changes})


def server_config(**changes: Any) -> ServerConfig:
    return ServerConfig(**{"credentials": (credential(),), **changes})


class Clock:
    """Stands still until it is told to move; starts when the certificates are valid."""

    def __init__(self) -> None:
        self.now = pki().root.certificate.not_valid_before_utc.timestamp() + 3 * 86_400

    def __call__(self) -> float:
        return self.now

    def advance(self, seconds: float) -> None:
        self.now += seconds


# -- two ends in memory ----------------------------------------------------------------------------


class Pair:
    """A client and a server, everything that either said, and all their events."""

    def __init__(
        self,
        client: ClientConfig | None = None,
        server: ServerConfig | None = None,
        *,
        early_data: bytes | None = None,
    ) -> None:
        self.client = ClientConnection(client or client_config(), early_data=early_data is not None)
        self.server = ServerConnection(server or server_config())
        self.client_wire, self.server_wire = b"", b""
        self.client_events: list[Event] = []
        self.server_events: list[Event] = []
        if early_data:
            self.client.send_early_data(early_data)

    def to_server(self) -> bool:
        """Deliver what the client has to say; whether it was anything."""
        octets = self.client.data_to_send()
        self.client_wire += octets
        if octets:
            self.server.receive_data(octets)
        self.server_events += self.server.events()
        return bool(octets)

    def to_client(self) -> bool:
        """The same the other way."""
        octets = self.server.data_to_send()
        self.server_wire += octets
        if octets:
            self.client.receive_data(octets)
        self.client_events += self.client.events()
        return bool(octets)

    def exchange(self) -> Self:
        """Carry octets to and fro until neither end has more to say."""
        while self.to_server() | self.to_client():
            pass
        return self

    def complete(self) -> Self:
        """The same, and both must then have completed the handshake, and agree on it."""
        self.exchange()
        assert self.client.handshake_complete
        assert self.server.handshake_complete
        ours, theirs = self.info, self.server.info
        assert theirs is not None
        for name in ("suite", "group", "psk", "alpn", "early_data_accepted"):
            assert getattr(ours, name) == getattr(theirs, name), name
        return self

    @property
    def info(self) -> HandshakeCompleted:
        """What was negotiated, as the client has it."""
        assert self.client.info is not None
        return self.client.info

    def talk(self) -> None:
        """Application data passes in both directions."""
        seen = len(self.client_events), len(self.server_events)
        self.client.send_data(b"to the server")
        self.server.send_data(b"to the client")
        self.exchange()
        assert data_in(self.client_events[seen[0] :]) == b"to the client"
        assert data_in(self.server_events[seen[1] :]) == b"to the server"


def handshake(early_data: bytes | None = None, **changes: Any) -> Pair:
    """A completed pair; each change goes to whichever configuration knows it, or to both."""
    client = {name: v for name, v in changes.items() if name in ClientConfig.__dataclass_fields__}
    server = {name: v for name, v in changes.items() if name in ServerConfig.__dataclass_fields__}
    assert client.keys() | server.keys() == changes.keys()
    return Pair(client_config(**client), server_config(**server), early_data=early_data).complete()


def data_in(
    events: Sequence[Event], kind: type[ApplicationData] | type[EarlyData] = ApplicationData
) -> bytes:
    """All data of that kind, joined."""
    return b"".join(event.data for event in events if isinstance(event, kind))


def count(events: Sequence[Event], kind: type[Event]) -> int:
    return sum(isinstance(event, kind) for event in events)


def split_records(octets: bytes) -> list[tuple[ContentType, bytes]]:
    """The records of a stream, as framed: outer type and body."""
    found, at = [], 0
    while at < len(octets):
        end = at + 5 + int.from_bytes(octets[at + 3 : at + 5], "big")
        found.append((ContentType(octets[at]), bytes(octets[at + 5 : end])))
        at = end
    assert at == len(octets)
    return found


# -- what a dead connection looks like -------------------------------------------------------------


class WatchedBackend(SoftwareBackend):
    """Remembers every secret that it made, so that a test can ask which of them are alive."""

    def __init__(self) -> None:
        super().__init__()
        self._made: list[SoftwareSecret] = []
        self._shares: list[_WatchedShare] = []

    @property
    def alive(self) -> list[str]:
        shares = [f"share for {share.group}" for share in self._shares if not share.closed]
        return shares + [secret.name for secret in self._made if secret.octets]

    def _watch(self, secret: Secret) -> Secret:
        assert isinstance(secret, SoftwareSecret)
        self._made.append(secret)
        return secret

    def extract(self, *arguments: Any) -> Secret:
        return self._watch(super().extract(*arguments))

    def expand_label(self, *arguments: Any) -> Secret:
        return self._watch(super().expand_label(*arguments))

    def import_psk(self, *arguments: Any) -> Secret:
        return self._watch(super().import_psk(*arguments))

    def unwrap(self, *arguments: Any) -> Secret:
        return self._watch(super().unwrap(*arguments))

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        public, shared = super().respond(group, client_share)
        return public, self._watch(shared)

    def key_share(self, group: NamedGroup) -> KeyShare:
        share = _WatchedShare(super().key_share(group), self._watch)
        self._shares.append(share)
        return share


class _WatchedShare(KeyShare):
    def __init__(self, share: KeyShare, watch: Callable[[Secret], Secret]) -> None:
        self.group, self.public = share.group, share.public
        self._share, self._watch = share, watch
        self.closed = False

    def agree(self, peer_share: bytes) -> Secret:
        assert not self.closed
        return self._watch(self._share.agree(peer_share))

    def close(self) -> None:
        self._share.close()
        self.closed = True


def assert_dead(connection: Connection, error: TlsError) -> None:
    """Nothing more goes in or out, every call says why, and no secret is left."""
    connection.close()
    connection.cancel()
    connection.abort()
    for attempt in (
        lambda: connection.receive_data(b"\x17\x03\x03\x00\x00"),
        lambda: connection.receive_data(b""),
        lambda: connection.send_data(b"more"),
        connection.update_keys,
    ):
        with pytest.raises(type(error)) as again:
            attempt()
        assert again.value is error
    assert connection.data_to_send() == b""
    assert connection.closed
    assert not connection.can_send
    if isinstance(connection.backend, WatchedBackend):
        assert connection.backend.alive == []
