"""After the handshake: tickets, KeyUpdate, post-handshake authentication (RFC 9846 §4.7)."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, ClassVar, Final, Literal, TypeVar

from cryptography import x509

from tpmtls.algorithms import SuiteParameters
from tpmtls.backends.base import Secret
from tpmtls.certificates import (
    Acceptance,
    issued_by,
    satisfies_oid_filters,
    verify_client_chain,
)
from tpmtls.codepoints import (
    KeyUpdateRequest,
    PskKeyExchangeMode,
    SignatureScheme,
)
from tpmtls.config import ClientConfig, Config, Credential, ServerConfig
from tpmtls.events import (
    CertificateRequested,
    ClientAuthenticated,
    KeyUpdated,
    TicketReceived,
)
from tpmtls.handshake.authentication import (
    check_certificate_verify,
    check_finished,
    make_certificate,
    make_certificate_verify,
    make_finished,
    name_authorities,
    read_chain,
    to_der,
)
from tpmtls.handshake.machine import Action, Context, Emit, Flight, State, Step
from tpmtls.handshake.negotiation import choose_credential
from tpmtls.key_schedule import next_generation, ticket_psk
from tpmtls.record import Epoch
from tpmtls.tickets import MAX_LIFETIME, MAX_TICKET, TICKET_VERSION, SessionTicket, TicketState
from tpmtls.transcript import Transcript
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.extensions import (
    CertificateAuthorities,
    ExtensionBody,
    Extensions,
    MaxEarlyData,
    OidFilters,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
)
from tpmtls.wire.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    Finished,
    KeyUpdate,
    NewSessionTicket,
)

MAX_KEY_UPDATES: Final = 2**48 - 1
"""Generations of our sending keys (RFC 9846 §4.7.3)."""
MAX_CERTIFICATE_REQUESTS: Final = 256
"""Post-handshake requests that a client answers on one connection; a bound of ours."""
MAX_PENDING_REQUESTS: Final = 16
"""Post-handshake requests that a server leaves open at once; a bound of ours."""
MAX_TICKET_CHAIN: Final = 30_000
"""Octets of client certificates that go into a ticket, which stays below MAX_TICKET; with more,
none is issued.
"""
MAX_TICKETS: Final = 2**16
"""Tickets on one connection: each has a nonce of its own, of two octets."""
REQUEST_CONTEXT_SIZE: Final = 32


@dataclass(frozen=True, slots=True)
class Connected(State):
    """Application data flows. The traffic secrets are kept for KeyUpdate alone."""

    name: ClassVar[str] = "CONNECTED"
    reads: ClassVar[Literal["nothing", "early data", "application data"]] = "application data"
    context: Context[Config]
    suite: SuiteParameters
    read_secret: Secret
    write_secret: Secret
    resumption_secret: Secret
    transcript: Transcript
    """Up to the client's Finished."""
    update_owed: bool = field(default=False, kw_only=True)
    """The peer asked for a KeyUpdate of ours; it goes out before our next application data."""
    update_requested: bool = field(default=False, kw_only=True)
    """We asked for one of the peer's, and have not seen it."""
    key_updates: int = field(default=0, kw_only=True)
    """KeyUpdates that we sent."""


@dataclass(frozen=True, slots=True)
class ClientConnected(Connected):
    """The client's side, with what a ticket has to remember."""

    context: Context[ClientConfig]
    alpn: str | None
    peer_chain: tuple[bytes, ...]
    under_external_psk: bool
    acceptance: Acceptance | None
    request_contexts: frozenset[bytes] = frozenset()


@dataclass(frozen=True, slots=True)
class ServerConnected(Connected):
    """The server's side. `pending` maps the context of a request to its transcript."""

    context: Context[ServerConfig]
    alpn: str | None
    client_chain: tuple[bytes, ...]
    psk_modes: tuple[PskKeyExchangeMode, ...]
    authenticated_at: float
    allows_post_handshake_auth: bool
    pending: dict[bytes, Transcript] = field(default_factory=dict)
    tickets_sent: int = 0


C = TypeVar("C", bound=Connected)


# -- KeyUpdate (RFC 9846 §4.7.3) -------------------------------------------------------------------


def on_key_update(state: Connected, message: KeyUpdate, _octets: bytes) -> Step:
    """The peer's keys move on; if it asks, ours will."""
    # req: 4.7.3-3 4.7.3-4 4.7.3-5 4.7.3-8 4.7.3-10
    if not message.request_update.is_known:
        raise PeerViolation(Violation.KEY_UPDATE_REQUEST, f"{int(message.request_update)}")
    secret = next_generation(state.context.backend, state.read_secret)
    flight = Flight(state.context)
    flight.rekey_read(Epoch.APPLICATION, state.suite, secret)
    flight.add(Emit(KeyUpdated("read")))
    asked = message.request_update is KeyUpdateRequest.update_requested
    return flight.step(
        replace(
            state,
            read_secret=secret,
            update_owed=state.update_owed or asked,
            update_requested=False,
        )
    )


def send_key_update(state: Connected, *, request_peer: bool) -> Step:
    """Our keys move on; the peer is asked to follow unless it was and has not yet.

    Does nothing at the limit of RFC 9846 §4.7.3.
    """
    # req: 4.7.3-2 4.7.3-6 4.7.3-7 4.7.3-9 4.7.3-11 4.7.3-12
    if state.key_updates >= MAX_KEY_UPDATES:
        return Step(replace(state, update_owed=False))
    ask = request_peer and not state.update_requested
    request = KeyUpdateRequest.update_requested if ask else KeyUpdateRequest.update_not_requested
    flight = Flight(state.context)
    flight.send(KeyUpdate(request))
    secret = next_generation(state.context.backend, state.write_secret)
    flight.rekey_write(Epoch.APPLICATION, state.suite, secret)
    flight.add(Emit(KeyUpdated("write")))
    return flight.step(
        replace(
            state,
            write_secret=secret,
            update_owed=False,
            update_requested=state.update_requested or ask,
            key_updates=state.key_updates + 1,
        )
    )


# -- tickets (RFC 9846 §4.7.1) ---------------------------------------------------------------------


def on_new_session_ticket(
    state: ClientConnected, message: NewSessionTicket, _octets: bytes
) -> Step:
    """Keep the ticket, if there is a cache to keep it in, and a ClientHello can hold it."""
    # req: 4.3.11-5 4.7.1-3 4.7.1-13 4.7.1-18 4.7.1-4
    config, backend = state.context.config, state.context.backend
    unfit = not message.ticket_lifetime or len(message.ticket) > MAX_TICKET
    if config.session_cache is None or unfit:
        return Step(state)
    psk = ticket_psk(backend, state.resumption_secret, message.ticket_nonce)
    early_data = message.extensions.get(MaxEarlyData)
    ticket = SessionTicket(
        server_name=config.server_name or "",
        ticket=message.ticket,
        psk=backend.wrap(psk),
        suite=state.suite.suite,
        lifetime=min(message.ticket_lifetime, MAX_LIFETIME),
        age_add=message.ticket_age_add,
        received_at=config.clock(),
        max_early_data=0 if early_data is None else early_data.max_early_data_size,
        alpn=state.alpn,
        peer_chain=state.peer_chain,
        verified=config.verify,
        acceptance=state.acceptance,
    )
    backend.destroy(psk)
    config.session_cache.put(ticket)
    return Step(state, (Emit(TicketReceived(ticket)),))


def send_ticket(state: ServerConnected) -> tuple[ServerConnected, tuple[Action, ...]]:
    """Issue one ticket, unless the client could not use it or the session is too old.

    However often it is resumed, a session ends a week after its certificate was shown.
    """
    # req: 4.3-4 4.3.9-5 4.7.1-12 4.7.1-16 4.7.1-21 4.7.1-1
    config, backend = state.context.config, state.context.backend
    now = config.clock()
    lifetime = min(config.ticket_lifetime, int(state.authenticated_at + MAX_LIFETIME - now))
    usable = any(mode in config.psk_modes for mode in state.psk_modes)
    if not usable or lifetime <= 0 or sum(map(len, state.client_chain)) > MAX_TICKET_CHAIN:
        return state, ()
    if state.tickets_sent == MAX_TICKETS:
        return state, ()
    nonce = state.tickets_sent.to_bytes(2, "big")
    psk = ticket_psk(backend, state.resumption_secret, nonce)
    contents = TicketState(
        TICKET_VERSION,
        config.entropy(16),
        state.suite.suite,
        backend.wrap(psk),
        int(now * 1000),
        int(state.authenticated_at * 1000),
        lifetime,
        int.from_bytes(config.entropy(4), "big"),
        config.max_early_data,
        (state.alpn or "").encode(),
        state.client_chain,
    )
    backend.destroy(psk)
    bodies: list[ExtensionBody] = []
    if config.max_early_data:
        bodies.append(MaxEarlyData(config.max_early_data))
        config.replay_guard.issued(contents.ticket_id, now + lifetime)
    ticket = config.ticket_keys.seal(contents, now)
    flight = Flight(state.context)
    flight.send(NewSessionTicket(lifetime, contents.age_add, nonce, ticket, Extensions(bodies)))
    return replace(state, tickets_sent=state.tickets_sent + 1), tuple(flight.actions)


# -- post-handshake authentication, client (RFC 9846 §4.7.2) ---------------------------------------


def read_certificate_request(message: CertificateRequest) -> tuple[SignatureScheme, ...]:
    """The schemes that a CertificateRequest accepts, its rules checked."""
    # req: 4.4.2-6 4.3.5-7
    schemes = message.extensions.get(SignatureAlgorithms)
    if schemes is None:
        raise PeerViolation(Violation.REQUEST_WITHOUT_SIGNATURE_ALGORITHMS)
    filters = message.extensions.get(OidFilters)
    if filters is not None:
        oids = [entry.certificate_extension_oid for entry in filters.filters]
        if len(set(oids)) != len(oids):
            raise PeerViolation(Violation.DUPLICATE_OID_FILTER)
    return schemes.supported_signature_algorithms


def answer_certificate_request(
    config: ClientConfig, message: CertificateRequest
) -> tuple[Credential, SignatureScheme] | None:
    """The credential that suits a request, and the scheme to sign with; None declines."""
    # req: 4.3.5-2 4.3.5-3 4.3.5-5 4.5.1.2-5 4.5.1.2-6 4.5.2-5 4.5.1.2-13
    schemes = read_certificate_request(message)
    filters = message.extensions.get(OidFilters)
    authorities = message.extensions.get(CertificateAuthorities)
    # whom the server does not trust need not be shown to it: unlike a server, we can decline
    suitable = [
        credential
        for credential in config.credentials
        if (filters is None or satisfies_oid_filters(credential.leaf, filters.filters))
        and (authorities is None or issued_by(credential.certificates, authorities.authorities))
    ]
    certificate = message.extensions.get(SignatureAlgorithmsCert)
    return choose_credential(
        suitable,
        schemes,
        schemes if certificate is None else certificate.supported_signature_algorithms,
        (),  # they all are what its authorities allow
    )


def on_certificate_request(
    state: ClientConnected, message: CertificateRequest, octets: bytes
) -> Step:
    """Answer with Certificate, CertificateVerify and Finished, or decline without the second."""
    # req: 4.7.2-2 4.7.2-3 4.7.2-4 4.7.2-5 4.7.2-6 4.4.2-3 F.1-1
    context = state.context
    request_context = message.certificate_request_context
    if not context.config.post_handshake_auth:
        raise PeerViolation(Violation.UNASKED_CERTIFICATE_REQUEST)
    if state.under_external_psk:
        raise PeerViolation(Violation.REQUEST_UNDER_EXTERNAL_PSK)
    if request_context in state.request_contexts:
        raise PeerViolation(Violation.REPEATED_REQUEST_CONTEXT)
    if len(state.request_contexts) >= MAX_CERTIFICATE_REQUESTS:
        raise PeerViolation(Violation.TOO_MANY_MESSAGES, "certificate requests")
    transcript = state.transcript.fork()
    transcript.add(octets)
    flight = Flight(context, transcript)
    answer = answer_certificate_request(context.config, message)
    send_authentication(flight, answer, request_context)
    flight.send(make_finished(context.backend, state.write_secret, transcript))
    flight.add(Emit(CertificateRequested(authenticated=answer is not None)))
    return flight.step(replace(state, request_contexts=state.request_contexts | {request_context}))


def send_authentication(
    flight: Flight, answer: tuple[Credential, SignatureScheme] | None, request_context: bytes
) -> None:
    """A client's Certificate, and its CertificateVerify if it has a certificate."""
    # req: 4.5.1-2 4.5.1-3 4.5.2-2 4.5.2-3
    transcript = flight.transcript
    if answer is None or transcript is None:
        flight.send(make_certificate(None, request_context))
        return
    credential, scheme = answer
    flight.send(make_certificate(credential, request_context))
    flight.send(make_certificate_verify(credential, scheme, "client", transcript))


# -- post-handshake authentication, server ---------------------------------------------------------


@dataclass(frozen=True, slots=True)
class PostHandshakeAnswer(State):
    """A client has begun to answer a post-handshake request; nothing may come in between.

    What we send does not wait for the rest: `connected` goes on.
    """

    connected: ServerConnected
    transcript: Transcript
    chain: tuple[x509.Certificate, ...]


@dataclass(frozen=True, slots=True)
class PostHandshakeWaitCertificateVerify(PostHandshakeAnswer):
    """The proof that the client holds the key is due."""

    name: ClassVar[str] = "POST_HANDSHAKE_WAIT_CV"


@dataclass(frozen=True, slots=True)
class PostHandshakeWaitFinished(PostHandshakeAnswer):
    """The last message of the answer is due."""

    name: ClassVar[str] = "POST_HANDSHAKE_WAIT_FINISHED"


def connected_in(state: State) -> Connected | None:
    """The state of a connection that can do what a connected one does; None before."""
    if isinstance(state, PostHandshakeAnswer):
        return state.connected
    return state if isinstance(state, Connected) else None


def embed(state: State, step: Step) -> Step:
    """The step that `connected_in(state)` took, as a step of `state`."""
    if isinstance(state, PostHandshakeAnswer):
        connected: Any = step.state
        return replace(step, state=replace(state, connected=connected))
    return step


def make_certificate_request(config: ServerConfig, request_context: bytes) -> CertificateRequest:
    """What a server asks of its clients' certificates."""
    # req: 4.3.3-5 4.3.3-6 4.3.4-3 4.4.2-4 4.4.2-6
    bodies: list[ExtensionBody] = [SignatureAlgorithms(config.signature_schemes)]
    if config.certificate_schemes != config.signature_schemes:
        bodies.append(SignatureAlgorithmsCert(config.certificate_schemes))
    if config.client_trust_store is not None:
        authorities = name_authorities(config.client_trust_store)
        bodies += [] if authorities is None else [authorities]
    return CertificateRequest(request_context, Extensions(bodies))


def verify_client(config: ServerConfig, chain: tuple[x509.Certificate, ...]) -> None:
    """Check a client's chain, where there is a store to check it against."""
    # req: 4.5.1.3-3
    if config.client_trust_store is not None:
        verify_client_chain(
            chain, config.client_trust_store, config.now(), config.certificate_schemes
        )


def request_certificate(state: ServerConnected) -> Step:
    """Ask the client to authenticate now. The caller checked that it is willing."""
    # req: 4.3.6-1 4.4.2-3 4.4.2-5
    request_context = state.context.config.entropy(REQUEST_CONTEXT_SIZE)
    transcript = state.transcript.fork()
    flight = Flight(state.context, transcript)
    flight.send(make_certificate_request(state.context.config, request_context))
    return flight.step(replace(state, pending={**state.pending, request_context: transcript}))


def on_post_handshake_certificate(
    state: ServerConnected, message: Certificate, octets: bytes
) -> Step:
    """The first message of an answer: to which request, its context says."""
    # req: 4.7.2-7 4.5.1.3-2 4.7.2-8
    pending = dict(state.pending)
    transcript = pending.pop(message.certificate_request_context, None)
    if transcript is None:
        raise PeerViolation(
            Violation.REQUEST_CONTEXT if state.pending else Violation.UNEXPECTED_MESSAGE
        )
    config = state.context.config
    chain = read_chain(message, message.certificate_request_context, frozenset())
    transcript.add(octets)
    connected = replace(state, pending=pending)
    if not chain:
        if config.require_client_certificate:
            raise PeerViolation(Violation.CLIENT_CERTIFICATE_REQUIRED)
        return Step(PostHandshakeWaitFinished(connected, transcript, chain))
    verify_client(config, chain)
    return Step(PostHandshakeWaitCertificateVerify(connected, transcript, chain))


def on_post_handshake_certificate_verify(
    state: PostHandshakeWaitCertificateVerify, message: CertificateVerify, octets: bytes
) -> Step:
    """The client proves that it holds the key."""
    schemes = state.connected.context.config.signature_schemes
    check_certificate_verify(message, state.chain[0], schemes, "client", state.transcript)
    state.transcript.add(octets)
    return Step(PostHandshakeWaitFinished(state.connected, state.transcript, state.chain))


def on_post_handshake_finished(
    state: PostHandshakeWaitFinished, message: Finished, _octets: bytes
) -> Step:
    """The answer is complete."""
    connected = state.connected
    check_finished(connected.context.backend, message, connected.read_secret, state.transcript)
    chain = to_der(state.chain)
    if chain:
        now = connected.context.config.clock()
        connected = replace(connected, client_chain=chain, authenticated_at=now)
    return Step(connected, (Emit(ClientAuthenticated(chain)),))
