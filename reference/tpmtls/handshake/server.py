"""The server's handlers after its first flight, and its table (RFC 9846 Appendix A.2)."""

from __future__ import annotations

from dataclasses import replace
from typing import Final

from tpmtls.codepoints import (
    ExtensionType,
    HandshakeType,
)
from tpmtls.events import EarlyDataEnded, HandshakeCompleted
from tpmtls.handshake.authentication import (
    check_certificate_verify,
    check_finished,
    read_chain,
    to_der,
)
from tpmtls.handshake.machine import (
    AcceptChangeCipherSpec,
    Emit,
    Flight,
    Step,
    Table,
    Transition,
)
from tpmtls.handshake.post_handshake import (
    PostHandshakeWaitCertificateVerify,
    PostHandshakeWaitFinished,
    ServerConnected,
    on_key_update,
    on_post_handshake_certificate,
    on_post_handshake_certificate_verify,
    on_post_handshake_finished,
    send_ticket,
    verify_client,
)
from tpmtls.handshake.server_key_exchange import on_client_hello, on_second_client_hello
from tpmtls.handshake.server_states import (
    Negotiated,
    WaitCertificate,
    WaitCertificateVerify,
    WaitClientHello,
    WaitEndOfEarlyData,
    WaitFinished,
    WaitSecondClientHello,
)
from tpmtls.key_schedule import (
    RESUMPTION_SECRET,
)
from tpmtls.record import Epoch
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.messages import (
    Certificate,
    CertificateVerify,
    EndOfEarlyData,
    Finished,
)

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
    context = n.choices.context
    check_finished(context.backend, message, n.client_secret, n.transcript)
    n.transcript.add(octets)
    flight = Flight(context)
    with flight:
        return _finish(flight, n)


def _finish(flight: Flight, n: Negotiated) -> Step:
    # req: 4.4.2-10 F.1-1
    choices, context = n.choices, n.choices.context
    flight.rekey_read(Epoch.APPLICATION, choices.suite, n.read_secret)
    flight.add(AcceptChangeCipherSpec(False))
    resumption = flight.own(n.schedule.derive(RESUMPTION_SECRET, n.transcript.digest()))
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
    # req: 4.7.1-5 C.4-2 C.4-3
    for _ in range(connected.context.config.tickets):
        connected, actions = send_ticket(connected)
        flight.add(*actions)
    return flight.step(connected)


def _summary(negotiated: Negotiated) -> HandshakeCompleted:
    # req: 4.7.1-10
    choices = negotiated.choices
    psk = choices.psk
    first = choices.retried or choices.offer.hello
    offered_early_data = ExtensionType.early_data in first.extensions.types
    resumed = psk.ticket if psk is not None else None
    return HandshakeCompleted(
        suite=choices.suite.suite,
        group=choices.group,
        psk=None if psk is None else psk.kind,
        server_name=choices.offer.server_name,
        alpn=choices.alpn,
        peer_chain=to_der(negotiated.chain) if resumed is None else resumed.client_chain,
        early_data_accepted=choices.max_early_data > 0 if offered_early_data else None,
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
