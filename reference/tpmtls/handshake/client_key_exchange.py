"""The client's key exchange: ClientHello, HelloRetryRequest, ServerHello (RFC 9846 §4.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tpmtls.algorithms import SUITES, SuiteParameters
from tpmtls.codepoints import (
    CipherSuite,
    ExtensionType,
    NamedGroup,
    ProtocolVersion,
    PskKeyExchangeMode,
)
from tpmtls.config import ClientConfig
from tpmtls.handshake.client_hello import Offer, Psk, cookie_room, make_offer, retry_offer
from tpmtls.handshake.client_states import (
    Negotiated,
    WaitEncryptedExtensions,
    WaitServerHello,
)
from tpmtls.handshake.machine import (
    AcceptChangeCipherSpec,
    Context,
    Flight,
    ProvideExporter,
    RekeyWrite,
    SendChangeCipherSpec,
    Step,
)
from tpmtls.handshake.negotiation import check_share
from tpmtls.key_schedule import (
    CLIENT_EARLY_TRAFFIC_SECRET,
    CLIENT_HANDSHAKE_TRAFFIC_SECRET,
    EARLY_EXPORTER_SECRET,
    SERVER_HANDSHAKE_TRAFFIC_SECRET,
    KeySchedule,
)
from tpmtls.record import Epoch
from tpmtls.transcript import Transcript
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.extensions import (
    Cookie,
    KeyShareHelloRetryRequest,
    KeyShareServerHello,
    SelectedPsk,
    SelectedVersion,
)
from tpmtls.wire.messages import (
    HelloRetryRequest,
    ServerHello,
)

DOWNGRADE_SENTINELS: Final = (b"DOWNGRD\x01", b"DOWNGRD\x00")
"""How ServerHello.random ends when a TLS 1.3 server was made to negotiate less (§4.2.3)."""


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
    if cookie is not None and len(cookie.cookie) > cookie_room(old, group):
        raise PeerViolation(Violation.MESSAGE_TOO_LONG, f"a cookie of {len(cookie.cookie)} octets")
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
    # req: 4.2.3-2 4.2.3-6 4.2.3-7 4.2.3-9 4.2.3-16 4.2.3-18 4.2.4-8
    # req: 4.3.1-15 4.3.1-16 4.3.1-17 4.3.1-18 E.1-3 E.3-1 E.5-4 E.5-9
    selected = message.extensions.get(SelectedVersion)
    if selected is None:
        if isinstance(message, HelloRetryRequest):  # req: 4.2.4-1
            raise PeerViolation(Violation.MISSING_SUPPORTED_VERSIONS)
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
    # req: A.1-1
    context, offer = state.context, state.offer
    suite = _check_hello(offer, message)
    for kind in message.extensions.types - offer.hello.extensions.types:
        raise PeerViolation(Violation.UNSOLICITED_EXTENSION, f"{kind} in ServerHello")
    _check_against_retry(state, message)
    psk = _selected_psk(offer, message, suite)
    share = _selected_share(offer, message, psk)
    shared = None if share is None else offer.shares[share[0]].agree(share[1])
    schedule = _schedule(context, offer, suite, psk)
    for key_share in offer.shares.values():
        key_share.close()
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
