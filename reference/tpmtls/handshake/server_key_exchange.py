"""The server's key exchange and first flight: ClientHello to Finished (RFC 9846 §4.2 to §4.5)."""

from __future__ import annotations

from typing import Final

from tpmtls.algorithms import SuiteParameters
from tpmtls.codepoints import (
    ExtensionType,
    NamedGroup,
    ProtocolVersion,
    PskKeyExchangeMode,
)
from tpmtls.config import ServerConfig
from tpmtls.handshake.authentication import (
    make_certificate,
    make_certificate_verify,
    make_finished,
)
from tpmtls.handshake.machine import (
    AcceptChangeCipherSpec,
    Context,
    Flight,
    LimitRecords,
    ProvideExporter,
    SendChangeCipherSpec,
    SkipEarlyData,
    Step,
)
from tpmtls.handshake.negotiation import (
    ClientOffer,
    check_server_name,
    check_share,
    read_client_hello,
    select_alpn,
    select_credential,
    select_group,
    select_suite,
)
from tpmtls.handshake.post_handshake import (
    make_certificate_request,
)
from tpmtls.handshake.psk_selection import (
    SelectedPsk,
    closed_on_failure,
    external_hash,
    permits_early_data,
    select_psk,
)
from tpmtls.handshake.server_states import (
    Choices,
    Negotiated,
    WaitCertificate,
    WaitClientHello,
    WaitEndOfEarlyData,
    WaitFinished,
    WaitSecondClientHello,
)
from tpmtls.key_schedule import (
    CLIENT_APPLICATION_TRAFFIC_SECRET,
    CLIENT_EARLY_TRAFFIC_SECRET,
    CLIENT_HANDSHAKE_TRAFFIC_SECRET,
    EARLY_EXPORTER_SECRET,
    EXPORTER_SECRET,
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
    ClientHello,
    EncryptedExtensions,
    HelloRetryRequest,
    ServerHello,
)

COOKIE_SIZE: Final = 32


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
    group = select_group(_our_groups(context), offer)
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
    with closed_on_failure(psk):
        choices = _choose(context, offer, octets, suite, group, psk, retried=None)
        return _send_flight(choices, transcript)


def _our_groups(context: Context[ServerConfig]) -> tuple[NamedGroup, ...]:
    return tuple(group for group in context.config.groups if group in context.backend.groups)


def _no_group(config: ServerConfig, offer: ClientOffer) -> PeerViolation:
    # req: 2.1-1 4.2.1-1 6.2-7
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
    if config.retry_with_cookie:
        bodies.append(Cookie(config.entropy(COOKIE_SIZE)))
    flight = Flight(context, transcript)
    request = flight.send(
        HelloRetryRequest(
            ProtocolVersion.TLS_1_2,
            HELLO_RETRY_REQUEST_RANDOM,
            message.legacy_session_id,
            suite.suite,
            0,
            Extensions(bodies),
        )
    )
    flight.add(AcceptChangeCipherSpec(True))  # req: 4.3.2-4
    if message.legacy_session_id:  # req: E.4-1
        flight.add(SendChangeCipherSpec())
    if message.extensions.get(EarlyDataIndication) is not None:
        flight.add(SkipEarlyData(config.max_early_data or MAX_PLAINTEXT))
    cookie = request.extensions.get(Cookie)
    expected = None if cookie is None else cookie.cookie
    return flight.step(WaitSecondClientHello(context, transcript, message, suite, group, expected))


def on_second_client_hello(
    state: WaitSecondClientHello, message: ClientHello, octets: bytes
) -> Step:
    """Check that nothing but what may change has changed, and go on."""
    # req: 4.2.4-9 4.3.2-2 4.3.8-16 4.3.10-7
    context, offer = state.context, read_client_hello(message)
    _check_second_hello(state, offer)
    psk = select_psk(context, offer, octets, state.suite, state.transcript, common_group=True)
    group = None if psk and psk.mode is PskKeyExchangeMode.psk_ke else state.group
    with closed_on_failure(psk):
        choices = _choose(context, offer, octets, state.suite, group, psk, retried=state.first)
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
    retried: ClientHello | None,
) -> Choices:
    config = context.config
    check_server_name(config, offer)
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
    # req: 4.3.10-6 4.3.11.3-1
    flight = Flight(choices.context, transcript)
    with flight:
        return _fill_flight(flight, choices, transcript)


def _fill_flight(flight: Flight, choices: Choices, transcript: Transcript) -> Step:
    # req: 4.4.2-1 4.4.2-2 4.4.2-8 4.4.2-10 4.5.1-1 4.5.2-1 F.1-1
    context = choices.context
    schedule = _agree(flight, choices, transcript)
    digest = transcript.digest()
    client_secret = flight.own(schedule.derive(CLIENT_HANDSHAKE_TRAFFIC_SECRET, digest))
    server_secret = flight.own(schedule.derive(SERVER_HANDSHAKE_TRAFFIC_SECRET, digest))
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
        flight.own(schedule.derive(CLIENT_APPLICATION_TRAFFIC_SECRET, digest)),
        flight.own(schedule.derive(SERVER_APPLICATION_TRAFFIC_SECRET, digest)),
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
        schedule = flight.own(KeySchedule(context.backend, choices.suite.hash, None, observer))
    else:
        schedule = psk.schedule
        if choices.max_early_data:
            _accept_early_data(flight, choices, schedule, transcript.digest())
    flight.send(_server_hello(choices, share))
    if offer.hello.legacy_session_id and choices.retried is None:  # req: E.4-1
        flight.add(SendChangeCipherSpec())
    schedule.add_shared_secret(shared)
    return schedule


def _accept_early_data(
    flight: Flight, choices: Choices, schedule: KeySchedule, digest: bytes
) -> None:
    # req: 4.3.10-12 4.3.10-13
    secret = schedule.derive(CLIENT_EARLY_TRAFFIC_SECRET, digest)
    flight.rekey_read(Epoch.EARLY, choices.suite, secret)
    choices.context.backend.destroy(secret)
    flight.add(ProvideExporter(schedule.derive(EARLY_EXPORTER_SECRET, digest), early=True))


def _server_hello(choices: Choices, share: bytes | None) -> ServerHello:
    # req: 4.2.3-1 4.2.3-4 4.2.3-5 4.2.3-8 4.2.3-10 4.2.3-11 4.2.4-12 4.3.1-13 4.3.1-14 4.3.8-17
    # req: 4.3.8-18 4.3.8-19 4.3.9-7 4.3.9-8 9.2-3 E.5-8 9.2-6 9.2-7
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
    groups = _our_groups(choices.context)
    if choices.group is not None and groups[0] not in (choices.group, *offer.shares):
        bodies.append(SupportedGroups(groups))
    if choices.alpn is not None:
        bodies.append(ProtocolNameList((choices.alpn.encode(),)))
    if offer.record_size_limit is not None:
        limit = config.record_size_limit or MAX_PLAINTEXT + 1
        bodies.append(RecordSizeLimit(limit))
        flight.add(LimitRecords(write=offer.record_size_limit, read=limit))
    if choices.max_early_data:
        bodies.append(EarlyDataIndication())
    flight.send(EncryptedExtensions(Extensions(bodies)))
