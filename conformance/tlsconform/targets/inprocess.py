"""Our own server and client, in this process: the only module here that knows connections."""

from __future__ import annotations

from typing import Final

from tlsconform.authentication import Credential as OurCredential
from tlsconform.channel import Channel, Silence
from tlsconform.pki import Authority
from tlsconform.targets.base import ClientTarget, ServerTarget
from tpmtls import open_backend
from tpmtls.backends.base import Backend
from tpmtls.codepoints import PskKeyExchangeMode
from tpmtls.config import (
    DEFAULT_SUITES,
    ClientConfig,
    Credential,
    ExternalPsk,
    ServerConfig,
)
from tpmtls.connection import ClientConnection, ServerConnection
from tpmtls.events import ApplicationData, ConnectionClosed, EarlyData
from tpmtls.tickets import SessionCache
from tpmtls.violations import ConfigurationError, TlsError

Connection = ClientConnection | ServerConnection
KINDS: Final = ("p256", "rsa", "ed25519")
ALPN: Final = ("http/1.1", "h2")
MAX_EARLY_DATA: Final = 4096
BOTH_MODES: Final = (PskKeyExchangeMode.psk_dhe_ke, PskKeyExchangeMode.psk_ke)


class InProcessChannel(Channel):
    """Octets handed to a connection, whose application echoes what it reads."""

    def __init__(self, connection: Connection, *, echo: bool) -> None:
        self.connection = connection
        self._echo, self._dead = echo, False
        self.taken = bytearray()
        """The application data that it has read."""

    def send(self, octets: bytes) -> None:
        if self._dead:
            return
        try:
            self.connection.receive_data(octets)
        except Exception:  # noqa: BLE001 - a crash is judged as peers see it: by internal_error
            self._dead = True
        self._serve()

    def _serve(self) -> None:
        for event in self.connection.events():
            if isinstance(event, ApplicationData):
                self.taken += event.data
            if self._echo and isinstance(event, ApplicationData | EarlyData):
                if event.data and self.connection.can_send and not self._dead:
                    self.connection.send_data(event.data)
            elif isinstance(event, ConnectionClosed) and not self._dead:
                self.connection.close()

    def receive(self, timeout: float) -> bytes:
        octets = self.connection.data_to_send()
        if octets:
            return octets
        if self._dead or self.connection.closed:
            return b""
        raise Silence

    def close(self) -> None:
        if not self.connection.closed:
            self.connection.close()
        self.connection.forget()


def _credentials(authority: Authority, usage: str, backend: Backend) -> tuple[Credential, ...]:
    made: list[OurCredential] = [authority.credential(kind, usage) for kind in KINDS]
    return tuple(Credential(each.chain, each.signer) for each in made)


class InProcessServer(ServerTarget):
    """Our server, which has every feature that a test asks for."""

    in_process = True

    def __init__(
        self,
        authority: Authority,
        backend: str = "software",
        psk: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.name = f"tpmtls server ({backend})"
        self._backend = open_backend(backend)
        self._base = ServerConfig(
            credentials=_credentials(authority, "server", self._backend),
            psks=() if psk is None else (ExternalPsk(*psk),),
            psk_modes=BOTH_MODES,
            max_early_data=MAX_EARLY_DATA,
            alpn=ALPN,
            suites=tuple(self._backend.suites),
            groups=tuple(self._backend.groups),
        )
        self._asking = self._base.replace(
            request_client_certificate=True, client_trust=authority.pem
        )

    def connect(self, needs: frozenset[str] = frozenset()) -> Channel:
        asks = "client_certificate" in needs
        config = self._asking if asks else self._base
        if "client_certificate_required" in needs:
            config = self._asking.replace(require_client_certificate=True)
        if "post_handshake_auth" in needs:
            config = self._base.replace(client_trust=self._asking.client_trust)
        return InProcessChannel(ServerConnection(config, self._backend), echo=True)

    def request_client_certificate(self, channel: Channel) -> bool:
        if not isinstance(channel, InProcessChannel):
            return False
        connection = channel.connection
        if not isinstance(connection, ServerConnection):
            return False
        try:
            connection.request_client_certificate()
        except TlsError:  # the client did not say that it is willing
            return False
        return True

    def close(self) -> None:
        self._backend.close()


class InProcessClient(ClientTarget):
    """Our client, which has every feature that a test asks for; one suite is not in its offer."""

    in_process = True

    def __init__(
        self,
        authority: Authority,
        backend: str = "software",
        psk: tuple[bytes, bytes] | None = None,
    ) -> None:
        self.name = f"tpmtls client ({backend})"
        self._backend = open_backend(backend)
        self._psk = psk
        self._config = ClientConfig(
            trust=authority.pem,
            server_name="localhost",
            credentials=_credentials(authority, "client", self._backend),
            alpn=ALPN,
            # without TLS_AES_128_CCM_8_SHA256, so that a server can select it unasked
            suites=tuple(s for s in DEFAULT_SUITES if s in self._backend.suites),
            groups=tuple(self._backend.groups),
            record_size_limit=2**14 + 1,
            session_cache=SessionCache(),
        )
        self._channel: InProcessChannel | None = None

    def start(
        self,
        *,
        resume: bool = False,
        early_data: bool = False,
        needs: frozenset[str] = frozenset(),
    ) -> Channel:
        config = self._config
        if not resume:
            config = config.replace(session_cache=SessionCache())
            self._config = config
        if "post_handshake_auth" in needs:
            config = config.replace(post_handshake_auth=True)
        if "psk_ke" in needs:
            config = config.replace(psk_modes=BOTH_MODES)
        if "external_psk" in needs and self._psk is not None:
            config = config.replace(psks=(ExternalPsk(*self._psk),))
        try:
            connection = ClientConnection(config, self._backend, early_data=early_data)
        except ConfigurationError:
            connection = ClientConnection(config, self._backend)
        if early_data and connection.early_data_limit:
            connection.send_early_data(b"early data\n")
        self._channel = InProcessChannel(connection, echo=False)
        return self._channel

    def say(self, data: bytes) -> None:
        connection = None if self._channel is None else self._channel.connection
        if connection is not None and connection.can_send:
            connection.send_data(data)

    def wind_up(self) -> None:
        if self._channel is not None:
            self._channel.connection.close()

    def output(self) -> str:
        return "" if self._channel is None else self._channel.taken.decode(errors="replace")

    def finish(self) -> None:
        self._channel = None

    def close(self) -> None:
        self._backend.close()
