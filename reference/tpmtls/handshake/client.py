"""The client's handlers from EncryptedExtensions on, and its table (RFC 9846 Appendix A.1)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tpmtls.certificates import verify_server_chain
from tpmtls.codepoints import AlertDescription, HandshakeType
from tpmtls.config import ClientConfig
from tpmtls.events import HandshakeCompleted
from tpmtls.handshake.authentication import (
    check_certificate_verify,
    check_finished,
    make_finished,
    read_chain,
    to_der,
)
from tpmtls.handshake.client_key_exchange import on_hello_retry_request, on_server_hello
from tpmtls.handshake.client_states import (
    Negotiated,
    WaitCertificate,
    WaitCertificateOrRequest,
    WaitCertificateVerify,
    WaitEncryptedExtensions,
    WaitFinished,
    WaitServerHello,
)
from tpmtls.handshake.machine import (
    AcceptChangeCipherSpec,
    Emit,
    Flight,
    LimitRecords,
    ProvideExporter,
    Step,
    Table,
    Transition,
)
from tpmtls.handshake.negotiation import read_record_size_limit
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
    EXPORTER_SECRET,
    RESUMPTION_SECRET,
    SERVER_APPLICATION_TRAFFIC_SECRET,
)
from tpmtls.record import Epoch
from tpmtls.violations import CertificateError, PeerViolation, Violation
from tpmtls.wire.extensions import (
    EarlyDataIndication,
    ProtocolNameList,
)
from tpmtls.wire.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
)

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
    alpn = _selected_alpn(context.config, message)
    negotiated = old if alpn is None else replace(old, alpn=alpn)
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
    acceptance = None
    if config.verify:
        name = config.server_name
        if not name:
            reason = "no server_name is configured to check it against"
            raise CertificateError("name", reason, AlertDescription.certificate_unknown)
        acceptance = verify_server_chain(
            chain, config.trust_store, name, config.now(), config.certificate_schemes
        )
    negotiated.transcript.add(octets)
    return Step(WaitCertificateVerify(negotiated, chain, acceptance))


def on_certificate_verify(
    state: WaitCertificateVerify, message: CertificateVerify, octets: bytes
) -> Step:
    """The server proves that it holds the key."""
    negotiated = state.negotiated
    schemes = negotiated.context.config.signature_schemes
    check_certificate_verify(message, state.chain[0], schemes, "server", negotiated.transcript)
    negotiated.transcript.add(octets)
    return Step(WaitFinished(negotiated, state.chain, state.acceptance))


# -- Finished (RFC 9846 §4.5.3) --------------------------------------------------------------------


def on_finished(state: WaitFinished, message: Finished, octets: bytes) -> Step:
    """Check the server's Finished, send our last flight, and go over to application keys."""
    # req: 4.6-1 4.6-2 4.5.1-4 4.5.3-4
    n = state.negotiated
    check_finished(n.context.backend, message, n.server_secret, n.transcript)
    flight = Flight(n.context, n.transcript)
    with flight:
        return _finish(flight, state, octets)


def _finish(flight: Flight, state: WaitFinished, octets: bytes) -> Step:
    n = state.negotiated
    context, transcript, schedule, backend = n.context, n.transcript, n.schedule, n.context.backend
    answer = None if n.request is None else answer_certificate_request(context.config, n.request)
    transcript.add(octets)
    schedule.add_nothing()
    digest = transcript.digest()
    client_secret = flight.own(schedule.derive(CLIENT_APPLICATION_TRAFFIC_SECRET, digest))
    server_secret = flight.own(schedule.derive(SERVER_APPLICATION_TRAFFIC_SECRET, digest))
    flight.rekey_read(Epoch.APPLICATION, n.suite, server_secret)
    flight.add(AcceptChangeCipherSpec(False))
    flight.add(ProvideExporter(schedule.derive(EXPORTER_SECRET, digest), early=False))
    if n.accepted_early_data:
        flight.send(EndOfEarlyData())
        flight.rekey_write(Epoch.HANDSHAKE, n.suite, n.client_secret)
    if n.request is not None:
        send_authentication(flight, answer, b"")
    flight.send(make_finished(backend, n.client_secret, transcript))
    flight.rekey_write(Epoch.APPLICATION, n.suite, client_secret)
    resumption = flight.own(schedule.derive(RESUMPTION_SECRET, transcript.digest()))
    schedule.close()
    backend.destroy(n.client_secret, n.server_secret)
    completed = _summary(state, None if n.request is None else answer is not None)
    resumed = None if n.psk is None else n.psk.ticket
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
            completed.psk == "external",
            state.acceptance if resumed is None else resumed.acceptance,
        )
    )


def _summary(state: WaitFinished, authenticated: bool | None) -> HandshakeCompleted:
    negotiated = state.negotiated
    psk = negotiated.psk
    resumed = psk.ticket if psk is not None else None
    return HandshakeCompleted(
        suite=negotiated.suite.suite,
        group=negotiated.group,
        psk=None if psk is None else psk.kind,
        server_name=negotiated.context.config.sni,
        alpn=negotiated.alpn,
        peer_chain=to_der(state.chain) if resumed is None else resumed.peer_chain,
        early_data_accepted=negotiated.accepted_early_data,
        authenticated=authenticated,
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
