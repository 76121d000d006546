"""A server without rules, to ask clients with."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Self

from tlsconform.authentication import Credential
from tlsconform.channel import Channel
from tlsconform.journal import Journal
from tlsconform.mutate import Edit
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer.base import Peer
from tlsconform.targets.base import ClientTarget
from tpmtls.algorithms import GROUPS, SCHEMES, SUITES
from tpmtls.backends.base import Secret
from tpmtls.codepoints import (
    AlertDescription,
    CipherSuite,
    NamedGroup,
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
    ticket_psk,
    verify_data,
)
from tpmtls.record import MAX_PLAINTEXT, Epoch, MessageAssembler, RecordReader
from tpmtls.transcript import Transcript
from tpmtls.violations import PeerViolation
from tpmtls.wire.extensions import (
    EarlyDataIndication,
    ExtensionBody,
    Extensions,
    KeyShareClientHello,
    KeyShareEntry,
    KeyShareHelloRetryRequest,
    KeyShareServerHello,
    MaxEarlyData,
    OfferedPsks,
    PskKeyExchangeModes,
    SelectedPsk,
    SelectedVersion,
    SignatureAlgorithms,
    SupportedGroups,
)
from tpmtls.wire.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    Certificate,
    CertificateRequest,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    EndOfEarlyData,
    HandshakeMessage,
    HelloRetryRequest,
    NewSessionTicket,
    ServerHello,
)

SUITES_TAKEN: Final = tuple(SUITES)
SCHEMES_REQUESTED: Final = tuple(SCHEMES)
FLIGHT: Final = (
    "server_hello",
    "encrypted_extensions",
    "certificate_request",
    "certificate",
    "certificate_verify",
)
"""What our Finished, or more of the flight, can follow."""
EARLY_DATA_SKIPPED: Final = 1 << 16
"""Octets of early data that are passed over once it is not read."""


class ScriptedServer(Peer):
    """Against a client; `credentials` are the certificates that it can show, best first."""

    role = "server"
    writes, reads = "server_secret", "client_secret"

    def __init__(
        self,
        channel: Channel,
        journal: Journal,
        *,
        seed: int | str = 0,
        timeout: float = 2.0,
        credentials: Sequence[Credential] = (),
    ) -> None:
        super().__init__(channel, journal, seed=seed, timeout=timeout)
        self.wire.version = ProtocolVersion.TLS_1_2
        # a client may have to answer our first flight before it has keys (RFC 9846 Appendix A.1)
        self.wire.reader.accepts_early_alerts = True
        self.credentials = tuple(credentials)
        self.offer: ClientHello
        """The client's last ClientHello."""
        self.offer_octets = b""
        self.first_offer: ClientHello
        self.before_offer: Transcript
        """As it was before the last ClientHello: what its binders are computed over, in part."""
        self.said: ServerHello
        """Our ServerHello, before edits."""
        self.psk: bytes | None = None
        """What the identity that we select stands for."""
        self.early = False
        """Whether the client writes under early keys that we read."""
        self.request: CertificateRequest | None = None
        self.client_certificate: Certificate | None = None
        self.exporter_secret: Secret

    # -- the ClientHello ---------------------------------------------------------------------------

    def accept(self) -> Self:
        """Read the ClientHello, and choose a suite from it: the client's first that we know."""
        message, octets = self.next_message()
        if not isinstance(message, ClientHello):
            raise NonConformance("ClientHello", type(message).__name__)
        self.before_offer = self.transcript.fork()
        self.transcript.add(octets)
        self.first_offer = self.offer = message
        self.offer_octets = octets
        self.client_random = message.random
        suite = next((s for s in message.cipher_suites if s in SUITES_TAKEN), None)
        if suite is None:
            raise NotApplicable("the client offers no cipher suite that the suite knows")
        self.use_suite(suite)
        return self

    def use_suite(self, suite: CipherSuite) -> None:
        """Select this suite instead; before anything but the ClientHello is in the transcript."""
        self.suite, self.hash = suite, SUITES[suite].hash

    def offers_share(self, group: NamedGroup | None = None) -> KeyShareEntry | None:
        """The client's first share that we can answer, or that for `group`."""
        wanted = GROUPS if group is None else (group,)
        return next((entry for entry in self.shares_offered if entry.group in wanted), None)

    @property
    def shares_offered(self) -> tuple[KeyShareEntry, ...]:
        """The client's key shares."""
        shares = self.offer.extensions.get(KeyShareClientHello)
        return () if shares is None else shares.client_shares

    @property
    def schemes_offered(self) -> tuple[SignatureScheme, ...]:
        """The client's signature_algorithms."""
        schemes = self.offer.extensions.get(SignatureAlgorithms)
        return () if schemes is None else schemes.supported_signature_algorithms

    @property
    def modes_offered(self) -> tuple[PskKeyExchangeMode, ...]:
        """The client's psk_key_exchange_modes."""
        modes = self.offer.extensions.get(PskKeyExchangeModes)
        return () if modes is None else modes.ke_modes

    @property
    def identities_offered(self) -> tuple[bytes, ...]:
        """The client's PSK identities."""
        offered = self.offer.extensions.get(OfferedPsks)
        return () if offered is None else tuple(each.identity for each in offered.identities)

    def binder_is_valid(self, index: int, psk: bytes, *, resumption: bool = True) -> bool:
        """Whether the binder of an identity that the client offers fits that PSK."""
        offered = self.offer.extensions.get(OfferedPsks)
        if offered is None or index >= len(offered.binders):
            return False
        row = RESUMPTION_BINDER_KEY if resumption else EXTERNAL_BINDER_KEY
        key = self.start_schedule(psk, self.hash).derive(row)
        truncated = self.offer_octets[: -offered.binders_size]
        digest = self.before_offer.preview(self.hash, truncated)
        return offered.binders[index] == verify_data(self.backend, key, digest)

    def read_early_data(self, psk: bytes, suite: CipherSuite | None = None) -> Self:
        """Read under the client's early keys: it has offered early data under this PSK."""
        algorithm = SUITES[suite or self.suite].hash
        schedule = self.start_schedule(psk, algorithm)
        digest = self.transcript.preview(algorithm, b"")
        secret = schedule.derive(CLIENT_EARLY_TRAFFIC_SECRET, digest)
        self.rekey_read(Epoch.EARLY, secret, suite)
        self.early = True
        return self

    # -- HelloRetryRequest -------------------------------------------------------------------------

    def say_retry(self, *bodies: ExtensionBody, edits: Sequence[Edit] = ()) -> Self:
        """HelloRetryRequest with these extensions after supported_versions."""
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
            ),
            *edits,
        )
        return self

    def retry(self, *bodies: ExtensionBody) -> Self:
        """HelloRetryRequest; then read the second ClientHello."""
        self.say_retry(*bodies)
        return self.accept_again()

    def accept_again(self) -> Self:
        """Read the second ClientHello."""
        self.forget_reading_keys()
        message, octets = self.next_message()
        if not isinstance(message, ClientHello):
            raise NonConformance("a second ClientHello", type(message).__name__)
        self.before_offer = self.transcript.fork()
        self.transcript.add(octets)
        self.offer, self.offer_octets = message, octets
        return self

    def forget_reading_keys(self) -> None:
        """Read without protection again: after a HelloRetryRequest."""
        self.wire.reader = RecordReader()
        self.wire.reader.accepts_change_cipher_spec = True
        self.wire.reader.accepts_early_alerts = True
        self.assembler = MessageAssembler()
        self._skip_early_data()

    def _skip_early_data(self) -> None:
        """Pass over what the client has sent under early keys, if it has."""
        self.early = False
        if self.first_offer.extensions.get(EarlyDataIndication) is not None:
            self.wire.reader.early_data_to_skip = EARLY_DATA_SKIPPED

    def retry_group(self) -> NamedGroup | None:
        """A group that the client supports and sent no share for."""
        groups = self.offer.extensions.get(SupportedGroups)
        taken = {entry.group for entry in self.shares_offered}
        supported = () if groups is None else groups.named_group_list
        return next((g for g in supported if g in GROUPS and g not in taken), None)

    # -- our flight --------------------------------------------------------------------------------

    def hello(
        self,
        *edits: Edit,
        psk: bytes | None = None,
        index: int = 0,
        group: NamedGroup | None = None,
        with_share: bool = True,
        extensions: Sequence[ExtensionBody] = (),
        size: int = MAX_PLAINTEXT,
        rest: bytes = b"",
    ) -> Self:
        """ServerHello for the client's first usable share, then the keys of the handshake.

        With `psk`, it selects identity number `index`; without a usable share, or with `group` and
        no share for that, it asks for one by HelloRetryRequest first. `rest` follows in the same
        record, or in several of `size` octets.
        """
        self.edit(*edits)
        entry = self.offers_share(group) if with_share else None
        if entry is None and with_share:
            wanted = group or self.retry_group()
            if wanted is None:
                raise NotApplicable("the client offers no group that the suite knows")
            self.retry(KeyShareHelloRetryRequest(wanted))
            entry = self.offers_share(group)
        self.psk = psk
        bodies: list[ExtensionBody] = [SelectedVersion(ProtocolVersion.TLS_1_3)]
        shared = None
        if entry is not None:
            public, shared = self._respond(entry)
            bodies.append(KeyShareServerHello(KeyShareEntry(entry.group, public)))
        if psk is not None:
            bodies.append(SelectedPsk(index))
        self.transcript.select(self.hash)
        self.said = self.server_hello([*bodies, *extensions])
        if rest or size != MAX_PLAINTEXT:
            self.wire.hold()
        self.say(self.said)
        self.wire.release(size, rest=rest)
        self.start_handshake_keys(shared)
        return self

    def server_hello(self, bodies: Sequence[ExtensionBody]) -> ServerHello:
        """A ServerHello with these extensions."""
        return ServerHello(
            ProtocolVersion.TLS_1_2,
            self.random.randbytes(32),
            self.offer.legacy_session_id,
            self.suite,
            0,
            Extensions(bodies),
        )

    def _respond(self, entry: KeyShareEntry) -> tuple[bytes, Secret]:
        if len(entry.key_exchange) != GROUPS[entry.group].client_share:
            raise NonConformance(
                f"a share of {GROUPS[entry.group].client_share} octets for {entry.group.name}",
                f"{len(entry.key_exchange)} octets",
                "4.3.8.2-1",
            )
        try:
            return self.backend.respond(entry.group, entry.key_exchange)
        except (PeerViolation, ValueError):
            raise NonConformance("a valid key share", entry.group.name, "4.3.8.2-1") from None

    def start_handshake_keys(self, shared: Secret | None) -> None:
        """From the shared secret to the keys of the handshake, in both directions."""
        self.schedule = self.start_schedule(self.psk, self.hash)
        self.derive_handshake_secrets(shared)
        self.rekey_write(Epoch.HANDSHAKE, self.server_secret)
        if self.early:
            # where it gives up, it need not say so under keys that we may not have
            self.wire.other_keys = self.protection(Epoch.HANDSHAKE, self.client_secret)
        else:
            self.rekey_read(Epoch.HANDSHAKE, self.client_secret)

    def encrypted_extensions(self, *bodies: ExtensionBody, edits: Sequence[Edit] = ()) -> Self:
        """EncryptedExtensions; early data that they do not accept is not read any more."""
        accepts = any(isinstance(body, EarlyDataIndication) for body in bodies)
        self.say(EncryptedExtensions(Extensions(bodies)), *edits)
        if self.early and not accepts:
            self.rekey_read(Epoch.HANDSHAKE, self.client_secret)
            self._skip_early_data()
        return self

    def certificate_request(
        self, *bodies: ExtensionBody, context: bytes = b"", edits: Sequence[Edit] = ()
    ) -> Self:
        """CertificateRequest."""
        schemes = SignatureAlgorithms(SCHEMES_REQUESTED)
        self.request = CertificateRequest(context, Extensions((schemes, *bodies)))
        self.say(self.request, *edits)
        return self

    def credential_and_scheme(self) -> tuple[Credential, SignatureScheme]:
        """The first of our credentials that the client has a scheme for."""
        for credential in self.credentials:
            scheme = credential.scheme_for(self.schemes_offered)
            if scheme is not None:
                return credential, scheme
        raise NotApplicable("the client offers no signature scheme that the suite has a key for")

    def certificate(self, *edits: Edit) -> Self:
        """Certificate."""
        self.edit(*edits)
        self.say_certificate(self.credential_and_scheme()[0])
        return self

    def certificate_verify(self, *edits: Edit) -> Self:
        """CertificateVerify."""
        self.edit(*edits)
        self.say_certificate_verify(*self.credential_and_scheme())
        return self

    def authenticate(self, *edits: Edit) -> Self:
        """Certificate and CertificateVerify, unless a PSK authenticates."""
        self.edit(*edits)
        if self.psk is None:
            self.certificate().certificate_verify()
        return self

    def finish(self, *edits: Edit) -> Self:
        """Finished; then our application keys."""
        self.edit(*edits)
        self.say_finished_under(self.server_secret)
        return self.start_application()

    def start_application(self) -> Self:
        """Our application keys; the client's handshake keys go on."""
        self.schedule.add_nothing()
        digest = self.transcript.digest()
        self.server_secret = self.schedule.derive(SERVER_APPLICATION_TRAFFIC_SECRET, digest)
        self.application_secret = self.schedule.derive(CLIENT_APPLICATION_TRAFFIC_SECRET, digest)
        self.exporter_secret = self.schedule.derive(EXPORTER_SECRET, digest)
        self.rekey_write(Epoch.APPLICATION, self.server_secret)
        return self

    def flight(self, *edits: Edit) -> Self:
        """ServerHello to Finished."""
        self.hello(*edits)
        return self.encrypted_extensions().authenticate().finish()

    def carry_on(self) -> bool:
        """The rest of the flight, which is not edited any more."""
        started = hasattr(self, "schedule") and not hasattr(self, "application_secret")
        if not started or self.said_last not in FLIGHT:
            return False
        self._edits = []
        if self.said_last == "server_hello":
            self.encrypted_extensions()
        if self.psk is None and self.said_last in ("encrypted_extensions", "certificate_request"):
            self.certificate()
        if self.said_last == "certificate":
            self.certificate_verify()
        self.finish()
        return True

    # -- the client's flight -----------------------------------------------------------------------

    def read_end_of_early_data(self) -> Self:
        """EndOfEarlyData; the client's handshake keys are in use then."""
        self.receive(EndOfEarlyData)
        self.rekey_read(Epoch.HANDSHAKE, self.client_secret)
        self.early = False
        return self

    def complete(self) -> Self:
        """The client's certificate if we asked for one, and its Finished, verified."""
        if self.request is not None:
            self.client_certificate = self.receive(Certificate)
            if self.client_certificate.certificate_list:
                self.receive_certificate_verify(self.client_certificate)
        self.receive_finished_under(self.client_secret)
        self.final = self.transcript.fork()
        self.client_secret = self.application_secret
        self.rekey_read(Epoch.APPLICATION, self.client_secret)
        return self

    def handshake(self, *edits: Edit) -> Self:
        """All of it, from the ClientHello to the client's Finished."""
        return self.accept().flight(*edits).complete()

    # -- afterwards --------------------------------------------------------------------------------

    def say_ticket(
        self,
        *edits: Edit,
        identity: bytes | None = None,
        lifetime: int = 7200,
        nonce: bytes = b"\0",
        max_early_data: int = 0,
    ) -> tuple[bytes, bytes]:
        """NewSessionTicket; what it is called, and the PSK that it stands for."""
        name = self.random.randbytes(32) if identity is None else identity
        allowed = (MaxEarlyData(max_early_data),) if max_early_data else ()
        ticket = NewSessionTicket(
            lifetime, self.random.getrandbits(32), nonce, name, Extensions(allowed)
        )
        self.after_handshake(ticket, *edits)
        return name, self.psk_of(nonce)

    def psk_of(self, nonce: bytes) -> bytes:
        """The PSK of a ticket with that nonce."""
        resumption = self.schedule.derive(RESUMPTION_SECRET, self.final.digest())
        return self.backend.reveal(
            ticket_psk(self.backend, resumption, nonce), "the peer's own PSK"
        )

    def after_handshake(self, message: HandshakeMessage, *edits: Edit) -> None:
        """Say a message that belongs to no transcript but its own."""
        kept, self.transcript = self.transcript, self.final.fork()
        self.say(message, *edits)
        self.transcript = kept

    def end_politely(self, target: ClientTarget) -> None:
        """Let the client see what it was sent, and close: it may want to store a ticket.

        Programs read what comes when they have something to do: they are given a line to send,
        and time to end by themselves once the connection is closed.
        """
        self.send_data(b"bye\n")
        target.say(b"bye\n")
        self.expect_quiet_or_end()
        self.send_alert(AlertDescription.close_notify)
        target.wind_up()
        self.close()

    def receive_certificate_verify(self, certificate: Certificate) -> CertificateVerify:
        """The client's, verified; it must use a scheme that we asked for."""
        verify = super().receive_certificate_verify(certificate)
        if self.request is not None:
            asked = self.request.extensions.get(SignatureAlgorithms)
            if asked and verify.algorithm not in asked.supported_signature_algorithms:
                raise NonConformance("a scheme asked for", verify.algorithm.name, "4.5.2-5")
        return verify
