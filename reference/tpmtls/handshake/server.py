"""The server's states and handlers (RFC 9846 Appendix A.2)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Final, Literal

from cryptography import x509

from tpmtls.algorithms import SuiteParameters
from tpmtls.backends.base import Secret
from tpmtls.codepoints import (
    ExtensionType,
    HandshakeType,
    NamedGroup,
    ProtocolVersion,
    PskKeyExchangeMode,
    SignatureScheme,
)
from tpmtls.config import Credential, ServerConfig
from tpmtls.events import EarlyDataEnded, HandshakeCompleted
from tpmtls.handshake.authentication import (
    check_certificate_verify,
    check_finished,
    make_certificate,
    make_certificate_verify,
    make_finished,
    read_chain,
    to_der,
)
from tpmtls.handshake.machine import (
    AcceptChangeCipherSpec,
    Context,
    Emit,
    Flight,
    LimitRecords,
    ProvideExporter,
    SendChangeCipherSpec,
    SkipEarlyData,
    State,
    Step,
    Table,
    Transition,
)
from tpmtls.handshake.negotiation import (
    ClientOffer,
    check_share,
    read_client_hello,
    select_alpn,
    select_credential,
    select_group,
    select_suite,
)
from tpmtls.handshake.post_handshake import (
    PostHandshakeWaitCertificateVerify,
    PostHandshakeWaitFinished,
    ServerConnected,
    make_certificate_request,
    on_key_update,
    on_post_handshake_certificate,
    on_post_handshake_certificate_verify,
    on_post_handshake_finished,
    send_ticket,
    verify_client,
)
from tpmtls.handshake.psk_selection import (
    SelectedPsk,
    external_hash,
    permits_early_data,
    select_psk,
)
from tpmtls.key_schedule import (
    CLIENT_APPLICATION_TRAFFIC_SECRET,
    CLIENT_EARLY_TRAFFIC_SECRET,
    CLIENT_HANDSHAKE_TRAFFIC_SECRET,
    EARLY_EXPORTER_SECRET,
    EXPORTER_SECRET,
    RESUMPTION_SECRET,
    SERVER_APPLICATION_TRAFFIC_SECRET,
    SERVER_HANDSHAKE_TRAFFIC_SECRET,
    KeySchedule,
)
from tpmtls.record import MAX_PLAINTEXT, Epoch
from tpmtls.transcript import Transcript
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.extensions import (
    Cookie,
    EarlyDataIndication,
    ExtensionBody,
    Extensions,
    KeyShareEntry,
    KeyShareHelloRetryRequest,
    KeyShareServerHello,
    ProtocolNameList,
    RecordSizeLimit,
    SelectedVersion,
    ServerNameAcknowledgement,
    SupportedGroups,
)
from tpmtls.wire.extensions import SelectedPsk as SelectedPskExtension
from tpmtls.wire.messages import (
    HELLO_RETRY_REQUEST_RANDOM,
    Certificate,
    CertificateVerify,
    ClientHello,
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
    HelloRetryRequest,
    ServerHello,
)

COOKIE_SIZE: Final = 32


# -- states ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WaitClientHello(State):
    """START: nothing has come yet."""

    name: ClassVar[str] = "START"
    context: Context[ServerConfig]


@dataclass(frozen=True, slots=True)
class WaitSecondClientHello(State):
    """START, after a HelloRetryRequest."""

    name: ClassVar[str] = "START_RETRIED"
    context: Context[ServerConfig]
    transcript: Transcript
    first: ClientHello
    suite: SuiteParameters
    group: NamedGroup
    cookie: bytes | None


@dataclass(frozen=True, slots=True)
class Choices:
    """What we decided on, before anything of it is sent."""

    context: Context[ServerConfig]
    offer: ClientOffer
    octets: bytes
    suite: SuiteParameters
    group: NamedGroup | None
    psk: SelectedPsk | None
    alpn: str | None
    credential: tuple[Credential, SignatureScheme] | None
    max_early_data: int
    retried: bool


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What every state after our first flight carries."""

    choices: Choices
    transcript: Transcript
    schedule: KeySchedule
    client_secret: Secret
    """client_handshake_traffic_secret."""
    read_secret: Secret
    """client_application_traffic_secret_0, for later."""
    write_secret: Secret
    chain: tuple[x509.Certificate, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class AfterServerHello(State):
    """Base of the states after our first flight."""

    negotiated: Negotiated


@dataclass(frozen=True, slots=True)
class WaitEndOfEarlyData(AfterServerHello):
    """WAIT_EOED: early data comes in."""

    name: ClassVar[str] = "WAIT_EOED"
    reads: ClassVar[Literal["nothing", "early data", "application data"]] = "early data"
    max_early_data: int


@dataclass(frozen=True, slots=True)
class WaitCertificate(AfterServerHello):
    """WAIT_CERT: we asked for a certificate."""

    name: ClassVar[str] = "WAIT_CERT"


@dataclass(frozen=True, slots=True)
class WaitCertificateVerify(AfterServerHello):
    """WAIT_CV."""

    name: ClassVar[str] = "WAIT_CV"


@dataclass(frozen=True, slots=True)
class WaitFinished(AfterServerHello):
    """WAIT_FINISHED."""

    name: ClassVar[str] = "WAIT_FINISHED"


# -- ClientHello (RFC 9846 §4.2.2) -----------------------------------------------------------------


def on_client_hello(state: WaitClientHello, message: ClientHello, octets: bytes) -> Step:
    """Choose the parameters, or ask for a ClientHello that fits them."""
    # req: 4.2.1-3 4.3.2-3
    context, offer = state.context, read_client_hello(message)
    config = context.config
    if offer.cookie is not None:
        raise PeerViolation(Violation.UNEXPECTED_COOKIE)
    suites = [suite for suite in config.suites if suite in context.backend.suites]
    suite = select_suite(suites, message.cipher_suites, external_hash(config, offer))
    groups = [group for group in config.groups if group in context.backend.groups]
    group = select_group(groups, offer)
    transcript = Transcript()
    psk = select_psk(context, offer, octets, suite, transcript, common_group=group is not None)
    if psk is not None and psk.mode is PskKeyExchangeMode.psk_ke:
        group = None
    elif group is None:
        raise _no_group(config, offer)
    elif group not in offer.shares:
        if psk is not None:
            psk.schedule.close()
        return _retry(state, message, octets, suite, group)
    choices = _choose(context, offer, octets, suite, group, psk, retried=False)
    return _send_flight(choices, transcript)


def _no_group(config: ServerConfig, offer: ClientOffer) -> PeerViolation:
    if offer.psks is not None and not config.credentials:
        return PeerViolation(Violation.NO_PSK_NOR_CERTIFICATE)
    if not offer.groups:
        return PeerViolation(Violation.MISSING_SUPPORTED_GROUPS)
    return PeerViolation(Violation.NO_COMMON_GROUP)


def _retry(
    state: WaitClientHello,
    message: ClientHello,
    octets: bytes,
    suite: SuiteParameters,
    group: NamedGroup,
) -> Step:
    """Send a HelloRetryRequest, with a cookie where one is configured."""
    # req: 4.2.4-1 4.2.4-2 4.2.4-3 4.3.2-1
    context = state.context
    config = context.config
    transcript = Transcript()
    transcript.add(octets)
    transcript.select(suite.hash)
    transcript.replace_client_hello()
    bodies: list[ExtensionBody] = [
        SelectedVersion(ProtocolVersion.TLS_1_3),
        KeyShareHelloRetryRequest(group),
    ]
    cookie = config.entropy(COOKIE_SIZE) if config.retry_with_cookie else None
    if cookie is not None:
        bodies.append(Cookie(cookie))
    flight = Flight(context, transcript)
    flight.send(
        HelloRetryRequest(
            ProtocolVersion.TLS_1_2,
            HELLO_RETRY_REQUEST_RANDOM,
            message.legacy_session_id,
            suite.suite,
            0,
            Extensions(bodies),
        )
    )
    flight.add(AcceptChangeCipherSpec(True))
    if message.legacy_session_id:
        flight.add(SendChangeCipherSpec())
    if message.extensions.get(EarlyDataIndication) is not None:
        flight.add(SkipEarlyData(config.max_early_data or MAX_PLAINTEXT))
    return flight.step(WaitSecondClientHello(context, transcript, message, suite, group, cookie))


def on_second_client_hello(
    state: WaitSecondClientHello, message: ClientHello, octets: bytes
) -> Step:
    """Check that nothing but what may change has changed, and go on."""
    # req: 4.2.4-9 4.3.2-2 4.3.8-16 4.3.10-7
    context, offer = state.context, read_client_hello(message)
    _check_second_hello(state, offer)
    psk = select_psk(context, offer, octets, state.suite, state.transcript, common_group=True)
    group = None if psk and psk.mode is PskKeyExchangeMode.psk_ke else state.group
    choices = _choose(context, offer, octets, state.suite, group, psk, retried=True)
    return _send_flight(choices, state.transcript)


_MAY_CHANGE: Final = (
    ExtensionType.key_share,
    ExtensionType.early_data,
    ExtensionType.cookie,
    ExtensionType.pre_shared_key,
    ExtensionType.padding,
)


def _check_second_hello(state: WaitSecondClientHello, offer: ClientOffer) -> None:
    """RFC 9846 §4.2.2 lists what may change. The order of extensions is not judged."""
    # req: 4.2.2-2
    first, second = state.first, offer.hello
    if offer.early_data:
        raise PeerViolation(Violation.EARLY_DATA_AFTER_RETRY)
    if offer.cookie != state.cookie:
        raise PeerViolation(Violation.COOKIE_MISMATCH)
    if list(offer.shares) != [state.group]:
        raise PeerViolation(Violation.RETRIED_SHARE_MISSING, str(state.group))
    for name in ("random", "legacy_session_id", "cipher_suites"):
        if getattr(first, name) != getattr(second, name):
            raise PeerViolation(Violation.CLIENT_HELLO_CHANGED, name)
    before = set(first.extensions.without(*_MAY_CHANGE))
    after = set(second.extensions.without(*_MAY_CHANGE))
    if before != after:
        raise PeerViolation(Violation.CLIENT_HELLO_CHANGED, "extensions")
    new_psk = offer.psks is not None and ExtensionType.pre_shared_key not in first.extensions.types
    if new_psk:
        raise PeerViolation(Violation.CLIENT_HELLO_CHANGED, "pre_shared_key")


# -- our first flight ------------------------------------------------------------------------------


def _choose(
    context: Context[ServerConfig],
    offer: ClientOffer,
    octets: bytes,
    suite: SuiteParameters,
    group: NamedGroup | None,
    psk: SelectedPsk | None,
    *,
    retried: bool,
) -> Choices:
    config = context.config
    alpn = select_alpn(config.alpn, offer.alpn)
    credential, max_early_data = None, 0
    if psk is None:
        if not config.credentials:
            raise PeerViolation(Violation.NO_PSK_NOR_CERTIFICATE)
        credential = select_credential(config, offer)
    elif offer.early_data:
        max_early_data = permits_early_data(config, psk, suite, alpn)
    return Choices(
        context, offer, octets, suite, group, psk, alpn, credential, max_early_data, retried
    )


def _send_flight(choices: Choices, transcript: Transcript) -> Step:
    """ServerHello to Finished; what comes next depends on early data and client certificates."""
    # req: 4.3.10-6 4.3.10-12
    context = choices.context
    flight = Flight(context, transcript)
    schedule = _agree(flight, choices, transcript)
    digest = transcript.digest()
    client_secret = schedule.derive(CLIENT_HANDSHAKE_TRAFFIC_SECRET, digest)
    server_secret = schedule.derive(SERVER_HANDSHAKE_TRAFFIC_SECRET, digest)
    flight.rekey_write(Epoch.HANDSHAKE, choices.suite, server_secret)
    _send_parameters(flight, choices)
    requests_certificate = choices.psk is None and context.config.request_client_certificate
    if requests_certificate:
        flight.send(make_certificate_request(context.config, b""))
    if choices.credential is not None:
        credential, scheme = choices.credential
        flight.send(make_certificate(credential))
        flight.send(make_certificate_verify(credential, scheme, "server", transcript))
    flight.send(make_finished(context.backend, server_secret, transcript))
    schedule.add_nothing()
    digest = transcript.digest()
    negotiated = Negotiated(
        choices,
        transcript,
        schedule,
        client_secret,
        schedule.derive(CLIENT_APPLICATION_TRAFFIC_SECRET, digest),
        schedule.derive(SERVER_APPLICATION_TRAFFIC_SECRET, digest),
    )
    flight.rekey_write(Epoch.APPLICATION, choices.suite, negotiated.write_secret)
    flight.add(ProvideExporter(schedule.derive(EXPORTER_SECRET, digest), early=False))
    context.backend.destroy(server_secret)
    if choices.max_early_data:
        return flight.step(WaitEndOfEarlyData(negotiated, choices.max_early_data))
    flight.rekey_read(Epoch.HANDSHAKE, choices.suite, client_secret)
    if choices.offer.early_data:
        flight.add(SkipEarlyData(context.config.max_early_data or MAX_PLAINTEXT))
    return flight.step(
        WaitCertificate(negotiated) if requests_certificate else WaitFinished(negotiated)
    )


def _agree(flight: Flight, choices: Choices, transcript: Transcript) -> KeySchedule:
    """Send the ServerHello; the key schedule is then at the Handshake Secret."""
    context, offer, group, psk = choices.context, choices.offer, choices.group, choices.psk
    shared, share = None, None
    if group is not None:
        check_share(group, offer.shares[group], from_client=True)
        share, shared = context.backend.respond(group, offer.shares[group])
    transcript.add(choices.octets)
    transcript.select(choices.suite.hash)
    flight.add(AcceptChangeCipherSpec(True))
    if psk is None:
        observer = context.observer(offer.hello.random)
        schedule = KeySchedule(context.backend, choices.suite.hash, None, observer)
    else:
        schedule = psk.schedule
        if choices.max_early_data:
            _accept_early_data(flight, choices, schedule, transcript.digest())
    flight.send(_server_hello(choices, share))
    if offer.hello.legacy_session_id and not choices.retried:
        flight.add(SendChangeCipherSpec())
    schedule.add_shared_secret(shared)
    return schedule


def _accept_early_data(
    flight: Flight, choices: Choices, schedule: KeySchedule, digest: bytes
) -> None:
    secret = schedule.derive(CLIENT_EARLY_TRAFFIC_SECRET, digest)
    flight.rekey_read(Epoch.EARLY, choices.suite, secret)
    choices.context.backend.destroy(secret)
    flight.add(ProvideExporter(schedule.derive(EARLY_EXPORTER_SECRET, digest), early=True))


def _server_hello(choices: Choices, share: bytes | None) -> ServerHello:
    # req: 4.2.3-1 4.2.3-5 4.2.3-8 4.2.3-10 4.2.3-11 4.3.1-13 4.3.1-14 4.3.8-17 9.2-3
    bodies: list[ExtensionBody] = [SelectedVersion(ProtocolVersion.TLS_1_3)]
    if choices.group is not None and share is not None:
        bodies.append(KeyShareServerHello(KeyShareEntry(choices.group, share)))
    if choices.psk is not None:
        bodies.append(SelectedPskExtension(choices.psk.index))
    return ServerHello(
        ProtocolVersion.TLS_1_2,
        choices.context.config.entropy(32),
        choices.offer.hello.legacy_session_id,
        choices.suite.suite,
        0,
        Extensions(bodies),
    )


def _send_parameters(flight: Flight, choices: Choices) -> None:
    """EncryptedExtensions: only answers to what the client asked (RFC 9846 §4.4.1)."""
    # req: 4.4.1-1 4.3-5 4.3.7-5 4.3.7-6
    offer, config = choices.offer, choices.context.config
    bodies: list[ExtensionBody] = []
    if choices.credential and offer.server_name and choices.credential[0].is_for(offer.server_name):
        bodies.append(ServerNameAcknowledgement())
    if choices.group is not None and config.groups[0] not in (choices.group, *offer.shares):
        bodies.append(SupportedGroups(config.groups))
    if choices.alpn is not None:
        bodies.append(ProtocolNameList((choices.alpn.encode(),)))
    if offer.record_size_limit is not None:
        limit = config.record_size_limit or MAX_PLAINTEXT + 1
        bodies.append(RecordSizeLimit(limit))
        flight.add(LimitRecords(write=offer.record_size_limit, read=limit))
    if choices.max_early_data:
        bodies.append(EarlyDataIndication())
    flight.send(EncryptedExtensions(Extensions(bodies)))


# -- the client's second flight --------------------------------------------------------------------


def on_end_of_early_data(
    state: WaitEndOfEarlyData, _message: EndOfEarlyData, octets: bytes
) -> Step:
    """The client goes over to handshake keys."""
    negotiated = state.negotiated
    negotiated.transcript.add(octets)
    flight = Flight(negotiated.choices.context)
    flight.rekey_read(Epoch.HANDSHAKE, negotiated.choices.suite, negotiated.client_secret)
    flight.add(Emit(EarlyDataEnded()))
    return flight.step(WaitFinished(negotiated))


def on_certificate(state: WaitCertificate, message: Certificate, octets: bytes) -> Step:
    """Verify the client's chain, where there is a store to verify it against."""
    # req: 4.5.1.3-2
    negotiated = state.negotiated
    config = negotiated.choices.context.config
    chain = read_chain(message, b"", frozenset())
    negotiated.transcript.add(octets)
    if not chain:
        if config.require_client_certificate:
            raise PeerViolation(Violation.CLIENT_CERTIFICATE_REQUIRED)
        return Step(WaitFinished(negotiated))
    verify_client(config, chain)
    return Step(WaitCertificateVerify(replace(negotiated, chain=chain)))


def on_certificate_verify(
    state: WaitCertificateVerify, message: CertificateVerify, octets: bytes
) -> Step:
    """The client proves that it holds the key."""
    negotiated = state.negotiated
    schemes = negotiated.choices.context.config.signature_schemes
    check_certificate_verify(message, negotiated.chain[0], schemes, "client", negotiated.transcript)
    negotiated.transcript.add(octets)
    return Step(WaitFinished(negotiated))


def on_finished(state: WaitFinished, message: Finished, octets: bytes) -> Step:
    """The handshake is complete; tickets go out at once."""
    n = state.negotiated
    choices, context = n.choices, n.choices.context
    check_finished(context.backend, message, n.client_secret, n.transcript)
    n.transcript.add(octets)
    flight = Flight(context)
    flight.rekey_read(Epoch.APPLICATION, choices.suite, n.read_secret)
    flight.add(AcceptChangeCipherSpec(False))
    resumption = n.schedule.derive(RESUMPTION_SECRET, n.transcript.digest())
    n.schedule.close()
    context.backend.destroy(n.client_secret)
    completed = _summary(n)
    flight.add(Emit(completed))
    ticket = None if choices.psk is None else choices.psk.ticket
    connected = ServerConnected(
        context,
        choices.suite,
        n.read_secret,
        n.write_secret,
        resumption,
        n.transcript,
        choices.alpn,
        completed.peer_chain,
        choices.offer.psk_modes,
        context.config.clock() if ticket is None else ticket.authenticated_at / 1000,
        choices.offer.post_handshake_auth and completed.psk != "external",
    )
    return _with_tickets(flight, connected)


def _with_tickets(flight: Flight, connected: ServerConnected) -> Step:
    for _ in range(connected.context.config.tickets):
        connected, actions = send_ticket(connected)
        flight.add(*actions)
    return flight.step(connected)


def _summary(negotiated: Negotiated) -> HandshakeCompleted:
    choices = negotiated.choices
    psk = choices.psk
    resumed = psk.ticket if psk is not None else None
    return HandshakeCompleted(
        suite=choices.suite.suite,
        group=choices.group,
        psk=None if psk is None else psk.kind,
        server_name=choices.offer.server_name,
        alpn=choices.alpn,
        peer_chain=to_der(negotiated.chain) if resumed is None else resumed.client_chain,
        early_data_accepted=choices.max_early_data > 0 if choices.offer.early_data else None,
    )


_T = HandshakeType
SERVER: Final[Table] = {
    (WaitClientHello, _T.client_hello): Transition(
        on_client_hello,
        (WaitSecondClientHello, WaitEndOfEarlyData, WaitCertificate, WaitFinished),
    ),
    (WaitSecondClientHello, _T.client_hello): Transition(
        on_second_client_hello, (WaitCertificate, WaitFinished)
    ),
    (WaitEndOfEarlyData, _T.end_of_early_data): Transition(on_end_of_early_data, (WaitFinished,)),
    (WaitCertificate, _T.certificate): Transition(
        on_certificate, (WaitCertificateVerify, WaitFinished)
    ),
    (WaitCertificateVerify, _T.certificate_verify): Transition(
        on_certificate_verify, (WaitFinished,)
    ),
    (WaitFinished, _T.finished): Transition(on_finished, (ServerConnected,)),
    (ServerConnected, _T.key_update): Transition(on_key_update, (ServerConnected,)),
    (ServerConnected, _T.certificate): Transition(
        on_post_handshake_certificate,
        (PostHandshakeWaitCertificateVerify, PostHandshakeWaitFinished),
    ),
    (PostHandshakeWaitCertificateVerify, _T.certificate_verify): Transition(
        on_post_handshake_certificate_verify, (PostHandshakeWaitFinished,)
    ),
    (PostHandshakeWaitFinished, _T.finished): Transition(
        on_post_handshake_finished, (ServerConnected,)
    ),
}
"""RFC 9846 Appendix A.2, and what may come after it."""
