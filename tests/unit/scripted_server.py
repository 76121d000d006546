"""A server without rules, to test clients with; see `scripted`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Self

from tests.unit.scripted import SUITE, Edits, ScriptedPeer
from tests.unit.support import (
    credential,
)
from tpmtls.codepoints import (
    CipherSuite,
    ProtocolVersion,
)
from tpmtls.config import DEFAULT_SCHEMES
from tpmtls.connection import ClientConnection
from tpmtls.key_schedule import (
    CLIENT_APPLICATION_TRAFFIC_SECRET,
    CLIENT_EARLY_TRAFFIC_SECRET,
    SERVER_APPLICATION_TRAFFIC_SECRET,
    KeySchedule,
)
from tpmtls.record import Epoch, RecordReader
from tpmtls.wire.extensions import (
    EarlyDataIndication,
    ExtensionBody,
    Extensions,
    KeyShareClientHello,
    KeyShareEntry,
    KeyShareServerHello,
    SelectedPsk,
    SelectedVersion,
    SignatureAlgorithms,
)
from tpmtls.wire.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    CertificateRequest,
    ClientHello,
    EncryptedExtensions,
    EndOfEarlyData,
    HandshakeMessage,
    HelloRetryRequest,
    ServerHello,
)


class ScriptedServer(ScriptedPeer):
    """Against a client. `psk` is what the client's identity number `index` stands for."""

    target: ClientConnection
    writes, reads = "server_secret", "client_secret"

    def __init__(
        self,
        target: ClientConnection,
        edits: Edits | None = None,
        *,
        suite: CipherSuite = SUITE,
        psk: bytes | None = None,
        index: int = 0,
        parameters: Sequence[ExtensionBody] = (),
    ) -> None:
        super().__init__(target, edits or {}, suite)
        self.psk, self.index, self.parameters = psk, index, parameters
        self.early_psk, self.early_suite = psk, suite
        """What the client's early data is protected with."""
        self.credential = credential()
        self.writer.unprotected_version = ProtocolVersion.TLS_1_2
        self.offer: ClientHello
        self.early = False
        """Whether the client writes under early keys."""

    def accept(self) -> Self:
        """Read the ClientHello; what follows it may be early data under a PSK."""
        self.offer = self.receive(ClientHello)
        self.schedule = self._schedule(self.psk)
        self.early = self.offer.extensions.get(EarlyDataIndication) is not None
        if self.early:
            self.transcript.select(self.hash)
            early, digest = self._schedule(self.early_psk), self.transcript.digest()
            secret = early.derive(CLIENT_EARLY_TRAFFIC_SECRET, digest)
            self.rekey_read(Epoch.EARLY, secret, self.early_suite)
        return self

    def _schedule(self, psk: bytes | None) -> KeySchedule:
        secret = None if psk is None else self.backend.import_psk(psk, self.hash)
        return KeySchedule(self.backend, self.hash, secret)

    def retry(self, *bodies: ExtensionBody) -> Self:
        """HelloRetryRequest; then read the second ClientHello."""
        self.transcript.select(self.hash)
        self.transcript.replace_client_hello()
        self.say(
            HelloRetryRequest(
                ProtocolVersion.TLS_1_2,
                HELLO_RETRY_REQUEST_RANDOM,
                self.offer.legacy_session_id,
                self.suite,
                0,
                Extensions((SelectedVersion(ProtocolVersion.TLS_1_3), *bodies)),
            )
        )
        self.reader, self.early = RecordReader(), False
        self.reader.accepts_change_cipher_spec = True
        self.offer = self.receive(ClientHello)
        return self

    def hello(self) -> Self:
        """ServerHello for the client's first share, then the keys of the handshake."""
        shares = self.offer.extensions.get(KeyShareClientHello)
        bodies: list[ExtensionBody] = [SelectedVersion(ProtocolVersion.TLS_1_3)]
        shared = None
        if shares is not None and shares.client_shares:
            entry = shares.client_shares[0]
            public, shared = self.backend.respond(entry.group, entry.key_exchange)
            bodies.append(KeyShareServerHello(KeyShareEntry(entry.group, public)))
        if self.psk is not None:
            bodies.append(SelectedPsk(self.index))
        self.transcript.select(self.hash)
        self.say(
            ServerHello(
                ProtocolVersion.TLS_1_2,
                bytes(range(32)),
                self.offer.legacy_session_id,
                self.suite,
                0,
                Extensions(bodies),
            )
        )
        self.derive_handshake_secrets(shared)
        self.rekey_write(Epoch.HANDSHAKE, self.server_secret)
        if not self.early:
            self.rekey_read(Epoch.HANDSHAKE, self.client_secret)
        return self

    def encrypted_extensions(self) -> Self:
        accepts = any(isinstance(body, EarlyDataIndication) for body in self.parameters)
        self.say(EncryptedExtensions(Extensions(self.parameters)))
        if self.early and not accepts:
            self.early = False
            self.rekey_read(Epoch.HANDSHAKE, self.client_secret)
        return self

    def request(self, *bodies: ExtensionBody, context: bytes = b"") -> Self:
        """CertificateRequest."""
        schemes = SignatureAlgorithms(DEFAULT_SCHEMES)
        self.say(CertificateRequest(context, Extensions((schemes, *bodies))))
        return self

    def authenticate(self) -> Self:
        """Certificate and CertificateVerify, unless a PSK authenticates."""
        if self.psk is None:
            self.say_certificate("server")
        return self

    def finish(self) -> Self:
        """Finished; then our application keys, and the client's handshake keys."""
        self.say_finished(self.server_secret)
        self.schedule.add_nothing()
        digest = self.transcript.digest()
        self.server_secret = self.schedule.derive(SERVER_APPLICATION_TRAFFIC_SECRET, digest)
        self.application_secret = self.schedule.derive(CLIENT_APPLICATION_TRAFFIC_SECRET, digest)
        self.rekey_write(Epoch.APPLICATION, self.server_secret)
        if self.early:
            self.receive(EndOfEarlyData)
            self.rekey_read(Epoch.HANDSHAKE, self.client_secret)
        return self

    def complete(self, *expected: type[HandshakeMessage]) -> Self:
        """Read the client's last flight: `expected`, then Finished."""
        for kind in expected:
            self.receive(kind)
        self.receive_finished(self.client_secret)
        self.final = self.transcript.fork()
        self.client_secret = self.application_secret
        self.rekey_read(Epoch.APPLICATION, self.client_secret)
        return self

    def handshake(self) -> Self:
        """All of it, from the ClientHello to the client's Finished."""
        return self.accept().hello().encrypted_extensions().authenticate().finish().complete()
