"""The client's states and handlers (RFC 9846 Appendix A.1)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import ClassVar, Final

from cryptography import x509

from tpmtls.algorithms import SUITES, SuiteParameters
from tpmtls.backends.base import Secret
from tpmtls.certificates import verify_server_chain
from tpmtls.codepoints import (
    CipherSuite,
    ExtensionType,
    HandshakeType,
    NamedGroup,
    ProtocolVersion,
    PskKeyExchangeMode,
)
from tpmtls.config import ClientConfig
from tpmtls.events import HandshakeCompleted
from tpmtls.handshake.authentication import (
    check_certificate_verify,
    check_finished,
    make_finished,
    read_chain,
    to_der,
)
from tpmtls.handshake.client_hello import Offer, Psk, make_offer, retry_offer
from tpmtls.handshake.machine import (
    AcceptChangeCipherSpec,
    Context,
    Emit,
    Flight,
    LimitRecords,
    ProvideExporter,
    RekeyWrite,
    SendChangeCipherSpec,
    State,
    Step,
    Table,
    Transition,
)
from tpmtls.handshake.negotiation import check_share, read_record_size_limit
from tpmtls.handshake.post_handshake import (
    ClientConnected,
    answer_certificate_request,
    on_certificate_request,
    on_key_update,
    on_new_session_ticket,
    read_certificate_request,
    send_authentication,
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
from tpmtls.record import Epoch
from tpmtls.transcript import Transcript
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.extensions import (
    Cookie,
    EarlyDataIndication,
    KeyShareHelloRetryRequest,
    KeyShareServerHello,
    ProtocolNameList,
    SelectedPsk,
    SelectedVersion,
)
from tpmtls.wire.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
    HelloRetryRequest,
    ServerHello,
)

DOWNGRADE_SENTINELS: Final = (b"DOWNGRD\x01", b"DOWNGRD\x00")
"""How ServerHello.random ends when a TLS 1.3 server was made to negotiate less (§4.2.3)."""


# -- states ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class WaitServerHello(State):
    """WAIT_SH: a ClientHello is on its way."""

    name: ClassVar[str] = "WAIT_SH"
    context: Context[ClientConfig]
    offer: Offer
    transcript: Transcript
    offered_early_data: bool
    retry: HelloRetryRequest | None = None


@dataclass(frozen=True, slots=True)
class Negotiated:
    """What every state after the ServerHello carries."""

    context: Context[ClientConfig]
    offer: Offer
    transcript: Transcript
    suite: SuiteParameters
    schedule: KeySchedule
    client_secret: Secret
    server_secret: Secret
    group: NamedGroup | None
    psk: Psk | None
    offered_early_data: bool
    accepted_early_data: bool | None = None
    alpn: str | None = None
    request: CertificateRequest | None = None
    chain: tuple[x509.Certificate, ...] = field(default=())


@dataclass(frozen=True, slots=True)
class AfterServerHello(State):
    """Base of the states after the ServerHello."""

    negotiated: Negotiated


@dataclass(frozen=True, slots=True)
class WaitEncryptedExtensions(AfterServerHello):
    """WAIT_EE."""

    name: ClassVar[str] = "WAIT_EE"


@dataclass(frozen=True, slots=True)
class WaitCertificateOrRequest(AfterServerHello):
    """WAIT_CERT_CR."""

    name: ClassVar[str] = "WAIT_CERT_CR"


@dataclass(frozen=True, slots=True)
class WaitCertificate(AfterServerHello):
    """WAIT_CERT."""

    name: ClassVar[str] = "WAIT_CERT"


@dataclass(frozen=True, slots=True)
class WaitCertificateVerify(AfterServerHello):
    """WAIT_CV."""

    name: ClassVar[str] = "WAIT_CV"


@dataclass(frozen=True, slots=True)
class WaitFinished(AfterServerHello):
    """WAIT_FINISHED."""

    name: ClassVar[str] = "WAIT_FINISHED"


# -- ClientHello -----------------------------------------------------------------------------------


def start(context: Context[ClientConfig], *, early_data: bool) -> Step:
    """START: send the ClientHello, and with early data switch to its keys."""
    # req: 4.2.2-1
    offer = make_offer(context, early_data=early_data)
    flight = Flight(context, Transcript())
    flight.send_octets(offer.octets)
    flight.add(AcceptChangeCipherSpec(True))
    if early_data:
        _begin_early_data(context, flight, offer)
    return flight.step(WaitServerHello(context, offer, _transcript(flight), early_data))


def _begin_early_data(context: Context[ClientConfig], flight: Flight, offer: Offer) -> None:
    """0-RTT keys come from the first PSK (RFC 9846 §4.3.10)."""
    # req: 4.3.10-2
    psk = offer.psks[0]
    digest = psk.hash.digest(offer.octets)
    backend = context.backend
    secret = psk.schedule.derive(CLIENT_EARLY_TRAFFIC_SECRET, digest)
    if context.config.middlebox_compatibility:
        flight.add(SendChangeCipherSpec())
    flight.rekey_write(Epoch.EARLY, SUITES[_suite_of(psk)], secret)
    backend.destroy(secret)
    exporter = psk.schedule.derive(EARLY_EXPORTER_SECRET, digest)
    flight.add(ProvideExporter(exporter, early=True))


def _suite_of(psk: Psk) -> CipherSuite:
    if psk.suite is None:
        raise RuntimeError("a PSK without a suite permits no early data")
    return psk.suite


def _transcript(flight: Flight) -> Transcript:
    if flight.transcript is None:
        raise RuntimeError("a handshake flight has a transcript")
    return flight.transcript


# -- HelloRetryRequest (RFC 9846 §4.2.4) -----------------------------------------------------------


def on_hello_retry_request(
    state: WaitServerHello, message: HelloRetryRequest, octets: bytes
) -> Step:
    """Send the second ClientHello."""
    # req: 4.2.4-4 4.2.4-5 4.2.4-6 4.2.4-7 4.3.8-14 4.3.8-15 4.3.2-2
    context, old = state.context, state.offer
    if state.retry is not None:
        raise PeerViolation(Violation.SECOND_RETRY)
    suite = _check_hello(old, message)
    for kind in message.extensions.types - old.hello.extensions.types - {ExtensionType.cookie}:
        raise PeerViolation(Violation.UNSOLICITED_EXTENSION, f"{kind} in HelloRetryRequest")
    wanted = message.extensions.get(KeyShareHelloRetryRequest)
    cookie = message.extensions.get(Cookie)
    group = None if wanted is None else wanted.selected_group
    _check_retry_group(context, old, group)
    if group is None and cookie is None:
        raise PeerViolation(Violation.RETRY_WITHOUT_CHANGE)
    transcript = state.transcript
    transcript.select(suite.hash)
    transcript.replace_client_hello()
    transcript.add(octets)
    offer = retry_offer(
        context, old, suite.suite, group, None if cookie is None else cookie.cookie, transcript
    )
    flight = Flight(context, transcript)
    if state.offered_early_data:
        flight.add(RekeyWrite(None))
    elif context.config.middlebox_compatibility:
        flight.add(SendChangeCipherSpec())
    flight.send_octets(offer.octets)
    return flight.step(replace(state, offer=offer, retry=message))


def _check_retry_group(
    context: Context[ClientConfig], offer: Offer, group: NamedGroup | None
) -> None:
    if group is None:
        return
    if group not in context.config.groups or group not in context.backend.groups:
        raise PeerViolation(Violation.RETRY_GROUP_NOT_OFFERED, group.name)
    if group in offer.shares:
        raise PeerViolation(Violation.RETRY_GROUP_ALREADY_SHARED, group.name)


def _check_hello(offer: Offer, message: ServerHello | HelloRetryRequest) -> SuiteParameters:
    """What a ServerHello and a HelloRetryRequest are judged by alike; the version comes first."""
    # req: 4.2.3-2 4.2.3-6 4.2.3-7 4.2.3-9 4.2.3-16 4.2.3-18 4.3.1-15 4.3.1-16 4.3.1-18 4.2.4-8
    selected = message.extensions.get(SelectedVersion)
    if selected is None:
        if message.random.endswith(DOWNGRADE_SENTINELS):
            raise PeerViolation(Violation.DOWNGRADE_SENTINEL)
        raise PeerViolation(Violation.TLS_1_3_NOT_SELECTED, message.legacy_version.name)
    if selected.selected_version != ProtocolVersion.TLS_1_3:
        raise PeerViolation(Violation.WRONG_SELECTED_VERSION, selected.selected_version.name)
    if message.legacy_version != ProtocolVersion.TLS_1_2:
        raise PeerViolation(Violation.SERVER_LEGACY_VERSION, message.legacy_version.name)
    if message.legacy_session_id_echo != offer.hello.legacy_session_id:
        raise PeerViolation(Violation.SESSION_ID_ECHO)
    if message.cipher_suite not in offer.hello.cipher_suites:
        raise PeerViolation(Violation.SUITE_NOT_OFFERED, message.cipher_suite.name)
    if message.cipher_suite not in SUITES:
        raise PeerViolation(Violation.SUITE_NOT_OFFERED, message.cipher_suite.name)
    if message.legacy_compression_method != 0:
        raise PeerViolation(Violation.COMPRESSION_METHOD)
    return SUITES[message.cipher_suite]


# -- ServerHello (RFC 9846 §4.2.3) -----------------------------------------------------------------


def on_server_hello(state: WaitServerHello, message: ServerHello, octets: bytes) -> Step:
    """Agree on the keys of the handshake."""
    context, offer = state.context, state.offer
    suite = _check_hello(offer, message)
    for kind in message.extensions.types - offer.hello.extensions.types:
        raise PeerViolation(Violation.UNSOLICITED_EXTENSION, f"{kind} in ServerHello")
    _check_against_retry(state, message)
    psk = _selected_psk(offer, message, suite)
    share = _selected_share(offer, message, psk)
    schedule = _schedule(context, offer, suite, psk)
    shared = None if share is None else offer.shares[share[0]].agree(share[1])
    transcript = state.transcript
    transcript.select(suite.hash)
    transcript.add(octets)
    schedule.add_shared_secret(shared)
    digest = transcript.digest()
    negotiated = Negotiated(
        context,
        offer,
        transcript,
        suite,
        schedule,
        schedule.derive(CLIENT_HANDSHAKE_TRAFFIC_SECRET, digest),
        schedule.derive(SERVER_HANDSHAKE_TRAFFIC_SECRET, digest),
        None if share is None else share[0],
        psk,
        state.offered_early_data,
    )
    flight = Flight(context, transcript)
    flight.rekey_read(Epoch.HANDSHAKE, suite, negotiated.server_secret)
    if not (state.offered_early_data and state.retry is None):
        if context.config.middlebox_compatibility and state.retry is None:
            flight.add(SendChangeCipherSpec())
        flight.rekey_write(Epoch.HANDSHAKE, suite, negotiated.client_secret)
    return flight.step(WaitEncryptedExtensions(negotiated))


def _check_against_retry(state: WaitServerHello, message: ServerHello) -> None:
    # req: 4.2.4-10 4.2.4-13 4.3.8-20 4.3.8-21
    if state.retry is None:
        return
    if message.cipher_suite != state.retry.cipher_suite:
        raise PeerViolation(Violation.SUITE_CHANGED, message.cipher_suite.name)
    wanted = state.retry.extensions.get(KeyShareHelloRetryRequest)
    share = message.extensions.get(KeyShareServerHello)
    if wanted and share and share.server_share.group != wanted.selected_group:
        raise PeerViolation(Violation.SHARE_NOT_THE_RETRIED, share.server_share.group.name)


def _selected_psk(offer: Offer, message: ServerHello, suite: SuiteParameters) -> Psk | None:
    # req: 4.3.11-13 4.3.11-14
    selected = message.extensions.get(SelectedPsk)
    if selected is None:
        return None
    if selected.selected_identity >= len(offer.psks):
        raise PeerViolation(Violation.SELECTED_IDENTITY, str(selected.selected_identity))
    psk = offer.psks[selected.selected_identity]
    if psk.hash != suite.hash:
        raise PeerViolation(Violation.PSK_HASH, str(suite.suite))
    return psk


def _selected_share(
    offer: Offer, message: ServerHello, psk: Psk | None
) -> tuple[NamedGroup, bytes] | None:
    """The group and the server's share; None in psk_ke."""
    # req: 4.3.8-17 4.3.9-7 4.3.9-8
    extension = message.extensions.get(KeyShareServerHello)
    if psk is None and extension is None:
        raise PeerViolation(Violation.MISSING_PSK_AND_KEY_SHARE)
    if psk is not None:
        mode = PskKeyExchangeMode.psk_dhe_ke if extension else PskKeyExchangeMode.psk_ke
        if mode not in offer.psk_modes:
            raise PeerViolation(Violation.PSK_MODE, str(mode))
    if extension is None:
        return None
    entry = extension.server_share
    if entry.group not in offer.shares:
        raise PeerViolation(Violation.SHARE_NOT_OFFERED, entry.group.name)
    check_share(entry.group, entry.key_exchange, from_client=False)
    return entry.group, entry.key_exchange


def _schedule(
    context: Context[ClientConfig], offer: Offer, suite: SuiteParameters, psk: Psk | None
) -> KeySchedule:
    """The key schedule of the selected PSK, or of none; the others are forgotten."""
    for other in offer.psks:
        if other is not psk:
            other.schedule.close()
    if psk is not None:
        return psk.schedule
    observer = context.observer(offer.hello.random)
    return KeySchedule(context.backend, suite.hash, None, observer)


# -- EncryptedExtensions (RFC 9846 §4.4.1) ---------------------------------------------------------


def on_encrypted_extensions(
    state: WaitEncryptedExtensions, message: EncryptedExtensions, octets: bytes
) -> Step:
    """Learn what else was negotiated."""
    # req: 4.4.1-2 4.4.1-3 4.3-6 4.3.7-3
    old = state.negotiated
    context = old.context
    for kind in message.extensions.types - old.offer.hello.extensions.types:
        raise PeerViolation(Violation.UNSOLICITED_EXTENSION, f"{kind} in EncryptedExtensions")
    old.transcript.add(octets)
    flight = Flight(context, old.transcript)
    limit = read_record_size_limit(message.extensions)
    if limit is not None and context.config.record_size_limit is not None:
        flight.add(LimitRecords(write=limit, read=context.config.record_size_limit))
    negotiated = replace(old, alpn=_selected_alpn(context.config, message))
    if old.offered_early_data:
        accepted = message.extensions.get(EarlyDataIndication) is not None
        negotiated = replace(negotiated, accepted_early_data=accepted)
        if accepted:
            _check_early_data(negotiated)
        elif old.offer.early_data:
            flight.rekey_write(Epoch.HANDSHAKE, old.suite, old.client_secret)
    if negotiated.psk is not None:
        return flight.step(WaitFinished(negotiated))
    return flight.step(WaitCertificateOrRequest(negotiated))


def _selected_alpn(config: ClientConfig, message: EncryptedExtensions) -> str | None:
    """The protocol selected: exactly one, of ours (RFC 7301 §3.1)."""
    extension = message.extensions.get(ProtocolNameList)
    if extension is None:
        return None
    names = extension.protocol_name_list
    for name in config.alpn:
        if (name.encode(),) == names:
            return name
    raise PeerViolation(Violation.PROTOCOL_NOT_OFFERED)


def _check_early_data(negotiated: Negotiated) -> None:
    """Accepted early data must run under what its PSK stands for (RFC 9846 §4.3.10)."""
    # req: 4.3.11-15 4.3.11-16 4.3.10-9
    psk = negotiated.psk
    if psk is None or psk is not negotiated.offer.psks[0]:
        raise PeerViolation(Violation.EARLY_DATA_IDENTITY)
    if psk.suite != negotiated.suite.suite:
        raise PeerViolation(Violation.EARLY_DATA_SUITE, str(negotiated.suite.suite))
    if psk.alpn != negotiated.alpn:
        raise PeerViolation(Violation.EARLY_DATA_ALPN)


# -- authentication of the server (RFC 9846 §4.4.2, §4.5) ------------------------------------------


def on_request(state: WaitCertificateOrRequest, message: CertificateRequest, octets: bytes) -> Step:
    """The server wants a certificate; it gets one after its own."""
    # req: 4.4.2-4
    if message.certificate_request_context:
        raise PeerViolation(Violation.REQUEST_CONTEXT, "not empty in the handshake")
    read_certificate_request(message)
    state.negotiated.transcript.add(octets)
    return Step(WaitCertificate(replace(state.negotiated, request=message)))


def on_certificate(
    state: WaitCertificateOrRequest | WaitCertificate, message: Certificate, octets: bytes
) -> Step:
    """Verify the server's chain and name, unless told not to."""
    # req: 4.5.1-16 4.5.1.3-1 4.5.1.2-14
    negotiated = state.negotiated
    config = negotiated.context.config
    chain = read_chain(message, b"", frozenset())
    if not chain:
        raise PeerViolation(Violation.EMPTY_SERVER_CERTIFICATE)
    if config.verify:
        name = config.server_name or ""
        verify_server_chain(
            chain, config.trust_store, name, config.now(), config.certificate_schemes
        )
    negotiated.transcript.add(octets)
    return Step(WaitCertificateVerify(replace(negotiated, chain=chain)))


def on_certificate_verify(
    state: WaitCertificateVerify, message: CertificateVerify, octets: bytes
) -> Step:
    """The server proves that it holds the key."""
    negotiated = state.negotiated
    schemes = negotiated.context.config.signature_schemes
    check_certificate_verify(message, negotiated.chain[0], schemes, "server", negotiated.transcript)
    negotiated.transcript.add(octets)
    return Step(WaitFinished(negotiated))


# -- Finished (RFC 9846 §4.5.3) --------------------------------------------------------------------


def on_finished(state: WaitFinished, message: Finished, octets: bytes) -> Step:
    """Check the server's Finished, send our last flight, and go over to application keys."""
    # req: 4.6-1 4.6-2 4.5.1-4 4.5.3-4
    n = state.negotiated
    context, transcript, schedule, backend = n.context, n.transcript, n.schedule, n.context.backend
    check_finished(backend, message, n.server_secret, transcript)
    transcript.add(octets)
    schedule.add_nothing()
    digest = transcript.digest()
    client_secret = schedule.derive(CLIENT_APPLICATION_TRAFFIC_SECRET, digest)
    server_secret = schedule.derive(SERVER_APPLICATION_TRAFFIC_SECRET, digest)
    flight = Flight(context, transcript)
    flight.rekey_read(Epoch.APPLICATION, n.suite, server_secret)
    flight.add(AcceptChangeCipherSpec(False))
    flight.add(ProvideExporter(schedule.derive(EXPORTER_SECRET, digest), early=False))
    if n.accepted_early_data:
        flight.send(EndOfEarlyData())
        flight.rekey_write(Epoch.HANDSHAKE, n.suite, n.client_secret)
    if n.request is not None:
        answer = answer_certificate_request(context.config, n.request)
        send_authentication(flight, answer, b"")
    flight.send(make_finished(backend, n.client_secret, transcript))
    flight.rekey_write(Epoch.APPLICATION, n.suite, client_secret)
    resumption = schedule.derive(RESUMPTION_SECRET, transcript.digest())
    schedule.close()
    backend.destroy(n.client_secret, n.server_secret)
    completed = _summary(n)
    flight.add(Emit(completed))
    return flight.step(
        ClientConnected(
            context,
            n.suite,
            server_secret,
            client_secret,
            resumption,
            transcript,
            n.alpn,
            completed.peer_chain,
        )
    )


def _summary(negotiated: Negotiated) -> HandshakeCompleted:
    psk = negotiated.psk
    resumed = psk.ticket if psk is not None else None
    return HandshakeCompleted(
        suite=negotiated.suite.suite,
        group=negotiated.group,
        psk=None if psk is None else psk.kind,
        server_name=negotiated.context.config.sni,
        alpn=negotiated.alpn,
        peer_chain=to_der(negotiated.chain) if resumed is None else resumed.peer_chain,
        early_data_accepted=negotiated.accepted_early_data,
    )


_T = HandshakeType
CLIENT: Final[Table] = {
    (WaitServerHello, _T.hello_retry_request): Transition(
        on_hello_retry_request, (WaitServerHello,)
    ),
    (WaitServerHello, _T.server_hello): Transition(on_server_hello, (WaitEncryptedExtensions,)),
    (WaitEncryptedExtensions, _T.encrypted_extensions): Transition(
        on_encrypted_extensions, (WaitCertificateOrRequest, WaitFinished)
    ),
    (WaitCertificateOrRequest, _T.certificate_request): Transition(on_request, (WaitCertificate,)),
    (WaitCertificateOrRequest, _T.certificate): Transition(
        on_certificate, (WaitCertificateVerify,)
    ),
    (WaitCertificate, _T.certificate): Transition(on_certificate, (WaitCertificateVerify,)),
    (WaitCertificateVerify, _T.certificate_verify): Transition(
        on_certificate_verify, (WaitFinished,)
    ),
    (WaitFinished, _T.finished): Transition(on_finished, (ClientConnected,)),
    (ClientConnected, _T.new_session_ticket): Transition(on_new_session_ticket, (ClientConnected,)),
    (ClientConnected, _T.key_update): Transition(on_key_update, (ClientConnected,)),
    (ClientConnected, _T.certificate_request): Transition(
        on_certificate_request, (ClientConnected,)
    ),
}
"""RFC 9846 Appendix A.1, and what may come after it."""
