"""A client without rules, to ask servers with."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Self

from tlsconform.authentication import Credential
from tlsconform.channel import Channel
from tlsconform.journal import Journal
from tlsconform.mutate import Edit, Node, NoSuchField, find, offset, tree
from tlsconform.outcome import NonConformance
from tlsconform.peer.base import Peer
from tpmtls.algorithms import SCHEMES, SHA256, SUITES, HashAlgorithm
from tpmtls.backends.base import KeyShare, Secret
from tpmtls.codepoints import (
    CipherSuite,
    ContentType,
    ExtensionType,
    NamedGroup,
    NameType,
    ProtocolVersion,
    PskKeyExchangeMode,
    SignatureScheme,
)
from tpmtls.key_schedule import (
    CLIENT_APPLICATION_TRAFFIC_SECRET,
    CLIENT_EARLY_TRAFFIC_SECRET,
    EXPORTER_SECRET,
    EXTERNAL_BINDER_KEY,
    RESUMPTION_BINDER_KEY,
    RESUMPTION_SECRET,
    SERVER_APPLICATION_TRAFFIC_SECRET,
    KeySchedule,
    ticket_psk,
    verify_data,
)
from tpmtls.record import Epoch
from tpmtls.violations import PeerViolation
from tpmtls.wire.extensions import (
    Cookie,
    EarlyDataIndication,
    ExtensionBody,
    Extensions,
    KeyShareClientHello,
    KeyShareEntry,
    KeyShareHelloRetryRequest,
    KeyShareServerHello,
    MaxEarlyData,
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
    Finished,
    HandshakeMessage,
    HelloRetryRequest,
    NewSessionTicket,
    ServerHello,
)

SUITES_OFFERED: Final = (
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_AES_256_GCM_SHA384,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
    CipherSuite.TLS_AES_128_CCM_SHA256,
)
GROUPS_OFFERED: Final = (
    NamedGroup.x25519,
    NamedGroup.secp256r1,
    NamedGroup.secp384r1,
    NamedGroup.secp521r1,
)
SCHEMES_OFFERED: Final = tuple(SCHEMES)
"""Those for certificates alone are among them: some servers look for the root's there."""


@dataclass(frozen=True)
class OfferedPsk:
    """A PSK that the client offers; `age` is the obfuscated_ticket_age.

    `suite` is the one that its early data is protected under, `max_early_data` in octets.
    """

    identity: bytes
    key: bytes = field(repr=False)
    hash: HashAlgorithm = SHA256
    resumption: bool = True
    age: int = 0
    suite: CipherSuite = CipherSuite.TLS_AES_128_GCM_SHA256
    max_early_data: int = 0
    ticket: NewSessionTicket | None = None


class ScriptedClient(Peer):
    """Against a server; `share_groups` are what it sends shares for, unless told otherwise."""

    role = "client"
    writes, reads = "client_secret", "server_secret"

    def __init__(
        self,
        channel: Channel,
        journal: Journal,
        *,
        seed: int | str = 0,
        timeout: float = 2.0,
        share_groups: Sequence[NamedGroup] = (NamedGroup.x25519, NamedGroup.secp256r1),
        server_name: str | None = "localhost",
        credential: Credential | None = None,
    ) -> None:
        super().__init__(channel, journal, seed=seed, timeout=timeout)
        self.share_groups, self.server_name = tuple(share_groups), server_name
        self.credential = credential
        self.shares: dict[NamedGroup, KeyShare] = {}
        self.psks: Sequence[OfferedPsk] = ()
        self.first: ClientHello
        """The first ClientHello as it was meant, before edits."""
        self.hello_octets = b""
        """The last ClientHello as it was sent."""
        self.retry: HelloRetryRequest | None = None
        self.answer: ServerHello | None = None
        self.selected_psk: OfferedPsk | None = None
        self.parameters: EncryptedExtensions | None = None
        self.request: CertificateRequest | None = None
        self.certificate: Certificate | None = None
        self.verify: CertificateVerify | None = None
        self.early_data_accepted = False
        self.exporter_secret: Secret
        self.tickets: list[NewSessionTicket] = []
        """Those that have come while something else was waited for."""

    # -- the ClientHello ---------------------------------------------------------------------------

    def build_hello(
        self,
        *,
        suites: Sequence[CipherSuite] = SUITES_OFFERED,
        groups: Sequence[NamedGroup] = GROUPS_OFFERED,
        shares: Sequence[NamedGroup] | None = None,
        schemes: Sequence[SignatureScheme] = SCHEMES_OFFERED,
        versions: Sequence[ProtocolVersion] = (ProtocolVersion.TLS_1_3,),
        modes: Sequence[PskKeyExchangeMode] = (PskKeyExchangeMode.psk_dhe_ke,),
        extensions: Sequence[ExtensionBody] = (),
        session_id: bytes | None = None,
    ) -> ClientHello:
        """A ClientHello without PSKs; `extensions` come after those that every one has."""
        share_groups = [g for g in groups if g in self.share_groups] if shares is None else shares
        self.shares = {group: self.backend.key_share(group) for group in share_groups}
        names: list[ExtensionBody] = []
        if self.server_name is not None:
            name = ServerName(NameType.host_name, self.server_name.encode())
            names = [ServerNameList((name,))]
        self.client_random = self.random.randbytes(32)
        return ClientHello(
            ProtocolVersion.TLS_1_2,
            self.client_random,
            self.random.randbytes(32) if session_id is None else session_id,
            tuple(suites),
            b"\0",
            Extensions(
                (
                    *names,
                    SupportedVersions(tuple(versions)),
                    SupportedGroups(tuple(groups)),
                    SignatureAlgorithms(tuple(schemes)),
                    PskKeyExchangeModes(tuple(modes)),
                    self._key_share(),
                    *extensions,
                )
            ),
        )

    def hello(
        self,
        *edits: Edit,
        psks: Sequence[OfferedPsk] = (),
        early_data: bool = False,
        suites: Sequence[CipherSuite] = SUITES_OFFERED,
        groups: Sequence[NamedGroup] = GROUPS_OFFERED,
        shares: Sequence[NamedGroup] | None = None,
        schemes: Sequence[SignatureScheme] = SCHEMES_OFFERED,
        versions: Sequence[ProtocolVersion] = (ProtocolVersion.TLS_1_3,),
        modes: Sequence[PskKeyExchangeMode] = (PskKeyExchangeMode.psk_dhe_ke,),
        extensions: Sequence[ExtensionBody] = (),
        session_id: bytes | None = None,
    ) -> Self:
        """Send a ClientHello; with `early_data`, the keys of the first PSK's early data follow."""
        if early_data:
            extensions = (*extensions, EarlyDataIndication())
        self.psks = psks
        self.first = self.build_hello(
            suites=suites,
            groups=groups,
            shares=shares,
            schemes=schemes,
            versions=versions,
            modes=modes,
            extensions=extensions,
            session_id=session_id,
        )
        self.edit(*edits)
        self.send_hello(self.first)
        if early_data:
            self.start_early_data()
        return self

    def start_early_data(self) -> None:
        """Write under the early keys of the first PSK from now on."""
        psk = self.psks[0]
        schedule = self.start_schedule(psk.key, psk.hash)
        digest = self.transcript.preview(psk.hash, b"")
        secret = schedule.derive(CLIENT_EARLY_TRAFFIC_SECRET, digest)
        self.rekey_write(Epoch.EARLY, secret, psk.suite)

    def send_hello(self, hello: ClientHello) -> None:
        """Send it as `hello_tree` makes it."""
        self.hello_octets = self.say_tree(self.hello_tree(hello))

    def hello_tree(self, hello: ClientHello) -> Node:
        """Add the PSKs, apply the edits, compute the binders, and edit these."""
        if self.psks:
            offered = OfferedPsks(
                tuple(PskIdentity(psk.identity, psk.age) for psk in self.psks),
                tuple(bytes(psk.hash.digest_size) for psk in self.psks),
            )
            hello = replace(hello, extensions=Extensions((*hello.extensions, offered)))
        late = [edit for edit in self._edits if ".binders" in edit.path]
        root = self._edited(tree(hello), [edit for edit in self._edits if edit not in late])
        if self.psks:
            self._bind(root)
            self._edited(root, late)
        return root

    def _bind(self, root: Node) -> None:
        """Put the binders over what was edited (RFC 9846 §4.3.11.2)."""
        try:
            binders = find(root, "client_hello.extensions[pre_shared_key].binders")
        except NoSuchField:
            return  # an edit took them away
        truncated = root.encode()[: offset(root, binders)]
        for node, psk in zip(binders.children, self.psks, strict=False):
            node.content = self.binder(psk, truncated)

    def binder(self, psk: OfferedPsk, truncated: bytes) -> bytes:
        """The binder of one PSK over the ClientHello up to the binders."""
        row = RESUMPTION_BINDER_KEY if psk.resumption else EXTERNAL_BINDER_KEY
        key = self.start_schedule(psk.key, psk.hash).derive(row)
        return verify_data(self.backend, key, self.transcript.preview(psk.hash, truncated))

    def _key_share(self) -> KeyShareClientHello:
        return KeyShareClientHello(
            tuple(KeyShareEntry(group, share.public) for group, share in self.shares.items())
        )

    # -- HelloRetryRequest -------------------------------------------------------------------------

    def read_retry(self) -> HelloRetryRequest:
        """Read the HelloRetryRequest."""
        message, octets = self.next_message()
        if not isinstance(message, HelloRetryRequest):
            raise NonConformance("HelloRetryRequest", type(message).__name__)
        self.accept_retry(message, octets)
        return message

    def accept_retry(self, retry: HelloRetryRequest, octets: bytes) -> None:
        """Put the transcript into the state after a HelloRetryRequest."""
        self.retry = retry
        self._select(retry.cipher_suite)
        self.transcript.replace_client_hello()
        self.transcript.add(octets)
        self.wire.rekey(None)
        self.wire.version = ProtocolVersion.TLS_1_2

    def hello_again(self, *edits: Edit) -> Self:
        """Send the ClientHello that the HelloRetryRequest asks for, edited by these edits alone."""
        if self.retry is None:
            self.read_retry()
        if self.retry is None:
            raise RuntimeError("no HelloRetryRequest was read")
        self.forget_edits("client_hello")
        self.edit(*edits)
        self.send_hello(self.second_hello(self.retry))
        return self

    def second_hello(self, retry: HelloRetryRequest) -> ClientHello:
        """The ClientHello that a HelloRetryRequest asks for, without PSKs."""
        bodies = self.first.extensions.without(ExtensionType.early_data)
        wanted = retry.extensions.get(KeyShareHelloRetryRequest)
        if wanted is not None:
            self.shares = {wanted.selected_group: self.backend.key_share(wanted.selected_group)}
            bodies = bodies.replacing(self._key_share())
        cookie = retry.extensions.get(Cookie)
        if cookie is not None:
            bodies = Extensions((*bodies, cookie))
        return replace(self.first, extensions=bodies)

    # -- the server's flight -----------------------------------------------------------------------

    def _select(self, suite: CipherSuite) -> None:
        if suite not in SUITES:
            raise NonConformance("a cipher suite that was offered", suite.name, "4.2.3-7")
        self.suite, self.hash = suite, SUITES[suite].hash
        self.transcript.select(self.hash)

    def read_server_hello(self) -> ServerHello:
        """ServerHello; a HelloRetryRequest before it is answered. The keys are then in use."""
        message, octets = self.next_message()
        if isinstance(message, HelloRetryRequest) and self.retry is None:
            self.accept_retry(message, octets)
            self.hello_again()
            message, octets = self.next_message()
        if not isinstance(message, ServerHello):
            raise NonConformance("ServerHello", type(message).__name__)
        self.accept_server_hello(message, octets)
        return message

    def accept_server_hello(self, message: ServerHello, octets: bytes) -> None:
        """Derive what a ServerHello decides, and read under the handshake keys."""
        self.answer = message
        self._select(message.cipher_suite)
        self.transcript.add(octets)
        self.wire.version = ProtocolVersion.TLS_1_2
        self.schedule = self._selected_schedule(message.extensions.get(SelectedPsk))
        self.derive_handshake_secrets(self._agree(message.extensions.get(KeyShareServerHello)))
        self.rekey_read(Epoch.HANDSHAKE, self.server_secret)

    def _selected_schedule(self, selected: SelectedPsk | None) -> KeySchedule:
        if selected is None:
            return self.start_schedule(None, self.hash)
        if selected.selected_identity >= len(self.psks):
            raise NonConformance(
                "a PSK that was offered", f"identity {selected.selected_identity}", "4.3.11-14"
            )
        self.selected_psk = self.psks[selected.selected_identity]
        return self.start_schedule(self.selected_psk.key, self.hash)

    def _agree(self, share: KeyShareServerHello | None) -> Secret | None:
        if share is None:
            return None
        entry = share.server_share
        if entry.group not in self.shares:
            raise NonConformance("a share of a group offered", entry.group.name, "4.3.8-17")
        try:
            return self.shares[entry.group].agree(entry.key_exchange)
        except (PeerViolation, ValueError):
            raise NonConformance("a valid key share", entry.group.name, "4.3.8.2-1") from None

    def read_encrypted_extensions(self) -> EncryptedExtensions:
        """EncryptedExtensions; our handshake keys are in use then, unless early data goes on."""
        self.parameters = self.receive(EncryptedExtensions)
        self.early_data_accepted = self.parameters.extensions.get(EarlyDataIndication) is not None
        if not self.early_data_accepted:
            self.rekey_write(Epoch.HANDSHAKE, self.client_secret)
        return self.parameters

    def read_authentication(self) -> None:
        """CertificateRequest if it comes, Certificate and CertificateVerify; none with a PSK."""
        if self.selected_psk is not None:
            return
        message, octets = self.next_message()
        self.transcript.add(octets)
        if isinstance(message, CertificateRequest):
            self.request = message
            message = self.receive(Certificate)
        if not isinstance(message, Certificate):
            raise NonConformance("Certificate", type(message).__name__)
        if not message.certificate_list:
            raise NonConformance("a server's certificate", "an empty Certificate", "4.5.1-16")
        self.certificate = message
        self.verify = self.receive_certificate_verify(message)

    def read_finished(self) -> Finished:
        """The server's Finished; its application keys are in use then."""
        finished = self.receive_finished_under(self.server_secret)
        self._start_reading_application()
        return finished

    def _start_reading_application(self) -> None:
        self.schedule.add_nothing()
        digest = self.transcript.digest()
        self.server_secret = self.schedule.derive(SERVER_APPLICATION_TRAFFIC_SECRET, digest)
        self.application_secret = self.schedule.derive(CLIENT_APPLICATION_TRAFFIC_SECRET, digest)
        self.exporter_secret = self.schedule.derive(EXPORTER_SECRET, digest)
        self.rekey_read(Epoch.APPLICATION, self.server_secret)

    def read_flight(self) -> Self:
        """ServerHello to Finished, each verified."""
        self.read_server_hello()
        self.read_encrypted_extensions()
        self.read_authentication()
        self.read_finished()
        return self

    def go_along(self, message: HandshakeMessage, octets: bytes) -> None:
        """Follow a server that does not abort, so that what it says can be read."""
        if isinstance(message, ServerHello) and self.answer is None:
            self.accept_server_hello(message, octets)
        elif isinstance(message, NewSessionTicket) and hasattr(self, "final"):
            self.tickets.append(message)
        elif hasattr(self, "application_secret"):
            super().go_along(message, octets)
        else:
            self.transcript.add(octets)
            if isinstance(message, Finished):
                self._start_reading_application()

    # -- our flight --------------------------------------------------------------------------------

    def end_early_data(self, *edits: Edit) -> Self:
        """EndOfEarlyData, then the keys of the handshake."""
        self.say(EndOfEarlyData(), *edits)
        self.rekey_write(Epoch.HANDSHAKE, self.client_secret)
        return self

    def authenticate(self, *edits: Edit) -> Self:
        """Certificate and CertificateVerify, if the server asked."""
        self.edit(*edits)
        if self.request is not None:
            self.answer_request(self.request)
        return self

    def answer_request(self, request: CertificateRequest) -> None:
        """Certificate and CertificateVerify; an empty Certificate where none fits."""
        offered = request.extensions.get(SignatureAlgorithms)
        schemes = () if offered is None else offered.supported_signature_algorithms
        scheme = None if self.credential is None else self.credential.scheme_for(schemes)
        credential = None if scheme is None else self.credential
        self.say_certificate(credential, request.certificate_request_context)
        if credential is not None and scheme is not None:
            self.say_certificate_verify(credential, scheme)

    def finish(self, *edits: Edit) -> Self:
        """Finished, then our application keys."""
        self.edit(*edits)
        self.say_finished_under(self.client_secret)
        return self.start_application()

    def start_application(self) -> Self:
        """Our application keys."""
        self.final = self.transcript.fork()
        self.client_secret = self.application_secret
        self.rekey_write(Epoch.APPLICATION, self.client_secret)
        return self

    def complete(self) -> Self:
        """From the server's flight to our Finished."""
        self.read_flight()
        if self.early_data_accepted:
            self.end_early_data()
        return self.authenticate().finish()

    def handshake(self, *edits: Edit) -> Self:
        """All of it, from the ClientHello to our Finished; the server's tickets are unread."""
        return self.hello(*edits).complete()

    # -- afterwards --------------------------------------------------------------------------------

    def read_ticket(self) -> OfferedPsk:
        """The server's next ticket as a PSK to offer at the age of 0."""
        if self.tickets:
            return self.psk_of(self.tickets.pop(0))
        message, _ = self.next_message()
        if not isinstance(message, NewSessionTicket):
            raise NonConformance("NewSessionTicket", type(message).__name__)
        return self.psk_of(message)

    def wait_for_ticket(self) -> None:
        """Pass over what comes until there is a ticket to read; raises NonConformance."""
        while not self.tickets:
            record = self._record_or_finding("NewSessionTicket")
            if record.content_type is ContentType.handshake:
                self._absorb_all(record)
            elif record.content_type is ContentType.alert:
                raise NonConformance("NewSessionTicket", self._name(record))

    def psk_of(self, ticket: NewSessionTicket) -> OfferedPsk:
        """The PSK that a ticket stands for."""
        resumption = self.schedule.derive(RESUMPTION_SECRET, self.final.digest())
        key = self.backend.reveal(
            ticket_psk(self.backend, resumption, ticket.ticket_nonce), "the peer's own PSK"
        )
        allowed = ticket.extensions.get(MaxEarlyData)
        return OfferedPsk(
            ticket.ticket,
            key,
            self.hash,
            age=ticket.ticket_age_add,
            suite=self.suite,
            max_early_data=0 if allowed is None else allowed.max_early_data_size,
            ticket=ticket,
        )

    def read_request(self) -> CertificateRequest:
        """A CertificateRequest after the handshake; the answer starts from its transcript."""
        self.transcript = self.final.fork()
        return self.receive(CertificateRequest)
