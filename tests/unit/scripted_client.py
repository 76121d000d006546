"""A client without rules, to test servers with; see `scripted`."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Self

from tests.unit.scripted import SUITE, Edit, Edits, ScriptedPeer, adding, dropping
from tpmtls.algorithms import SHA256, SUITES, HashAlgorithm
from tpmtls.backends.base import KeyShare
from tpmtls.codepoints import (
    CipherSuite,
    ExtensionType,
    NamedGroup,
    NameType,
    ProtocolVersion,
    PskKeyExchangeMode,
)
from tpmtls.config import DEFAULT_SCHEMES
from tpmtls.connection import ServerConnection
from tpmtls.key_schedule import (
    CLIENT_APPLICATION_TRAFFIC_SECRET,
    CLIENT_EARLY_TRAFFIC_SECRET,
    EXTERNAL_BINDER_KEY,
    RESUMPTION_BINDER_KEY,
    RESUMPTION_SECRET,
    SERVER_APPLICATION_TRAFFIC_SECRET,
    KeySchedule,
    ticket_psk,
    verify_data,
)
from tpmtls.record import Epoch, RecordWriter
from tpmtls.wire.extensions import (
    Cookie,
    EarlyDataIndication,
    ExtensionBody,
    Extensions,
    KeyShareClientHello,
    KeyShareEntry,
    KeyShareHelloRetryRequest,
    KeyShareServerHello,
    OfferedPsks,
    PskIdentity,
    PskKeyExchangeModes,
    SelectedPsk,
    ServerName,
    ServerNameList,
    SignatureAlgorithms,
    SupportedGroups,
    SupportedVersions,
)
from tpmtls.wire.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    EndOfEarlyData,
    HelloRetryRequest,
    NewSessionTicket,
    ServerHello,
)


@dataclass(frozen=True)
class OfferedKey:
    """A PSK that a scripted client offers; `age` is the obfuscated_ticket_age."""

    identity: bytes
    key: bytes
    hash: HashAlgorithm = SHA256
    resumption: bool = False
    age: int = 0


class ScriptedClient(ScriptedPeer):
    """Against a server. `more` are further extensions of the ClientHello."""

    target: ServerConnection
    writes, reads = "client_secret", "server_secret"

    def __init__(
        self,
        target: ServerConnection,
        edits: Edits | None = None,
        *,
        suites: Sequence[CipherSuite] = (SUITE,),
        groups: Sequence[NamedGroup] = (NamedGroup.x25519,),
        share_groups: Sequence[NamedGroup] | None = None,
        psks: Sequence[OfferedKey] = (),
        modes: Sequence[PskKeyExchangeMode] = (PskKeyExchangeMode.psk_dhe_ke,),
        more: Sequence[ExtensionBody] = (),
    ) -> None:
        super().__init__(target, edits or {}, suites[0])
        self.suites, self.groups, self.psks, self.modes = suites, groups, psks, modes
        self.share_groups = groups if share_groups is None else share_groups
        self.more = more
        self.shares: dict[NamedGroup, KeyShare] = {}
        self.request: CertificateRequest | None = None

    # the ClientHello

    def hello(self) -> Self:
        """ClientHello; under early_data in `more`, then the keys of the first PSK."""
        self.shares = {group: self.backend.key_share(group) for group in self.share_groups}
        bodies: list[ExtensionBody] = [
            SupportedVersions((ProtocolVersion.TLS_1_3,)),
            ServerNameList((ServerName(NameType.host_name, b"localhost"),)),
            SupportedGroups(tuple(self.groups)),
            SignatureAlgorithms(DEFAULT_SCHEMES),
            PskKeyExchangeModes(tuple(self.modes)),
            self._key_share(),
            *self.more,
        ]
        self.first = ClientHello(
            ProtocolVersion.TLS_1_2,
            bytes(range(32)),
            bytes(range(100, 132)),
            tuple(self.suites),
            b"\0",
            Extensions(bodies),
        )
        self._say_hello(self.first)
        if any(isinstance(body, EarlyDataIndication) for body in self.more):
            digest = self.psks[0].hash.digest(self._hello_octets)
            schedule = self._schedule(self.psks[0])
            self.rekey_write(Epoch.EARLY, schedule.derive(CLIENT_EARLY_TRAFFIC_SECRET, digest))
        return self

    def hello_again(self, edit: Edit = lambda message: message) -> Self:
        """Read the HelloRetryRequest, and send the ClientHello that it asks for, edited."""
        retry, octets = self.next_message()
        assert isinstance(retry, HelloRetryRequest), retry
        self.retry = retry
        self._select(retry.cipher_suite)
        self.transcript.replace_client_hello()
        self.transcript.add(octets)
        self.writer = RecordWriter()
        bodies: list[ExtensionBody] = []
        wanted, cookie = (
            retry.extensions.get(KeyShareHelloRetryRequest),
            retry.extensions.get(Cookie),
        )
        if wanted is not None:
            self.shares = {wanted.selected_group: self.backend.key_share(wanted.selected_group)}
            bodies.append(self._key_share())
        if cookie is not None:
            bodies.append(cookie)
        self.edits[ClientHello] = edit
        self._say_hello(adding(*bodies)(dropping(ExtensionType.early_data)(self.first)))
        return self

    def _key_share(self) -> KeyShareClientHello:
        return KeyShareClientHello(
            tuple(KeyShareEntry(group, share.public) for group, share in self.shares.items())
        )

    def _say_hello(self, hello: ClientHello) -> None:
        """Add the PSKs, edit, compute the binders, edit these, and send."""
        if self.psks:
            offered = OfferedPsks(
                tuple(PskIdentity(psk.identity, psk.age) for psk in self.psks),
                tuple(bytes(psk.hash.digest_size) for psk in self.psks),
            )
            hello = replace(hello, extensions=Extensions((*hello.extensions, offered)))
        edited = self.edits.get(ClientHello, lambda message: message)(hello)
        if isinstance(edited, ClientHello):
            edited = self._bound(edited)
        self._hello_octets = edited if isinstance(edited, bytes) else edited.to_octets()
        self.send(self._hello_octets)

    def _bound(self, hello: ClientHello) -> ClientHello:
        offered = hello.extensions.get(OfferedPsks)
        if offered is None:
            return hello
        truncated = hello.to_octets()[: -offered.binders_size]
        binders = tuple(self._binder(psk, truncated) for psk in self.psks)
        bound = self.edits.get(OfferedPsks, lambda body: body)(replace(offered, binders=binders))
        return replace(hello, extensions=hello.extensions.replacing(bound))

    def _binder(self, psk: OfferedKey, truncated: bytes) -> bytes:
        row = RESUMPTION_BINDER_KEY if psk.resumption else EXTERNAL_BINDER_KEY
        key = self._schedule(psk).derive(row)
        return verify_data(self.backend, key, self.transcript.preview(psk.hash, truncated))

    def _schedule(self, psk: OfferedKey) -> KeySchedule:
        secret = self.backend.import_psk(psk.key, psk.hash)
        return KeySchedule(self.backend, psk.hash, secret)

    def _select(self, suite: CipherSuite) -> None:
        self.suite, self.hash = suite, SUITES[suite].hash
        self.transcript.select(self.hash)

    # the server's flight, and ours

    def read_flight(self) -> Self:
        """ServerHello to Finished; the server's application keys are then in use."""
        message, octets = self.next_message()
        assert isinstance(message, ServerHello), message
        self.answer = message
        self._select(message.cipher_suite)
        self.transcript.add(octets)
        selected = message.extensions.get(SelectedPsk)
        share = message.extensions.get(KeyShareServerHello)
        self.schedule = (
            KeySchedule(self.backend, self.hash)
            if selected is None
            else self._schedule(self.psks[selected.selected_identity])
        )
        shared = None
        if share is not None:
            entry = share.server_share
            shared = self.shares[entry.group].agree(entry.key_exchange)
        self.derive_handshake_secrets(shared)
        self.rekey_read(Epoch.HANDSHAKE, self.server_secret)
        self.parameters = self.receive(EncryptedExtensions)
        self.early = self.parameters.extensions.get(EarlyDataIndication) is not None
        if not self.early:
            self.rekey_write(Epoch.HANDSHAKE, self.client_secret)
        self._read_authentication()
        self.receive_finished(self.server_secret)
        self.schedule.add_nothing()
        digest = self.transcript.digest()
        self.server_secret = self.schedule.derive(SERVER_APPLICATION_TRAFFIC_SECRET, digest)
        self.application_secret = self.schedule.derive(CLIENT_APPLICATION_TRAFFIC_SECRET, digest)
        self.rekey_read(Epoch.APPLICATION, self.server_secret)
        return self

    def _read_authentication(self) -> None:
        if self.answer.extensions.get(SelectedPsk) is not None:
            return
        message, octets = self.next_message()
        self.transcript.add(octets)
        if isinstance(message, CertificateRequest):
            self.request = message
            message = self.receive(Certificate)
        assert isinstance(message, Certificate), message
        self.certificate = message
        self.receive(CertificateVerify)

    def end_early_data(self) -> Self:
        """EndOfEarlyData, then the keys of the handshake."""
        self.say(EndOfEarlyData())
        self.rekey_write(Epoch.HANDSHAKE, self.client_secret)
        return self

    def authenticate(self) -> Self:
        """Certificate and CertificateVerify, if the server asked."""
        if self.request is not None:
            self.say_certificate("client")
        return self

    def finish(self) -> Self:
        """Finished, then our application keys."""
        self.say_finished(self.client_secret)
        self.final = self.transcript.fork()
        self.client_secret = self.application_secret
        self.rekey_write(Epoch.APPLICATION, self.client_secret)
        return self

    def handshake(self) -> Self:
        """All of it, from the ClientHello to our Finished; the server's tickets are unread."""
        return self.hello().read_flight().authenticate().finish()

    def read_request(self) -> CertificateRequest:
        """A CertificateRequest after the handshake."""
        self.begin_authentication()
        return self.receive(CertificateRequest)

    def read_ticket(self) -> OfferedKey:
        """The server's next ticket, as a PSK to offer at the age of 0."""
        message, _ = self.next_message()
        assert isinstance(message, NewSessionTicket), message
        resumption = self.schedule.derive(RESUMPTION_SECRET, self.final.digest())
        psk = ticket_psk(self.backend, resumption, message.ticket_nonce)
        key = self.backend.wrap(psk)
        return OfferedKey(message.ticket, key, self.hash, True, message.ticket_age_add)
