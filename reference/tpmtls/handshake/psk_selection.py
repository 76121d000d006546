"""The server's side of pre-shared keys: which one to take, and whether early data may come with it.

RFC 9846 §4.3.10, §4.3.11, §8.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Final

from tpmtls.algorithms import SUITES, HashAlgorithm, SuiteParameters
from tpmtls.certificates import parse_chain
from tpmtls.codepoints import PskKeyExchangeMode
from tpmtls.config import ExternalPsk, ServerConfig
from tpmtls.events import PskKind
from tpmtls.handshake.machine import Context
from tpmtls.handshake.negotiation import ClientOffer
from tpmtls.handshake.post_handshake import verify_client
from tpmtls.key_schedule import (
    EXTERNAL_BINDER_KEY,
    RESUMPTION_BINDER_KEY,
    KeySchedule,
    SecretObserver,
    check_verify_data,
)
from tpmtls.tickets import TicketState
from tpmtls.transcript import Transcript
from tpmtls.violations import CertificateError, PeerViolation, StoredSecretError, Violation
from tpmtls.wire.extensions import OfferedPsks

MAX_IDENTITIES: Final = 16
"""Identities of a ClientHello that we look at: each may cost a decryption."""


@dataclass(frozen=True, slots=True)
class SelectedPsk:
    """A PSK whose binder is verified, its Early Secret ready in `schedule`."""

    index: int
    kind: PskKind
    mode: PskKeyExchangeMode
    schedule: KeySchedule
    ticket: TicketState | None
    external: ExternalPsk | None
    binder: bytes
    ticket_age: int
    """Milliseconds, as the client says."""


@contextmanager
def closed_on_failure(psk: SelectedPsk | None) -> Iterator[None]:
    """Forget the PSK's schedule where the handshake fails before a state holds it."""
    # req: 6-4
    try:
        yield
    except BaseException:
        if psk is not None:
            psk.schedule.close()
        raise


def external_hash(config: ServerConfig, offer: ClientOffer) -> HashAlgorithm | None:
    """The hash of the first external PSK that the client offers and we know."""
    if offer.psks is None:
        return None
    known = {psk.identity: psk.hash for psk in config.psks}
    identities = offer.psks.identities[:MAX_IDENTITIES]
    return next((known[i.identity] for i in identities if i.identity in known), None)


def select_psk(
    context: Context[ServerConfig],
    offer: ClientOffer,
    octets: bytes,
    suite: SuiteParameters,
    transcript: Transcript,
    *,
    common_group: bool,
) -> SelectedPsk | None:
    """The first PSK that fits suite and modes, its binder checked; None for a full handshake.

    `octets` is the ClientHello, `transcript` what went before it. Only one binder is ever checked.
    """
    # req: 4.3.9-4 4.3.11-4 4.3.11-6 4.3.11-7 4.3.11-9 4.3.11-10 4.3.11-11
    # req: 4.3.11-2 4.3.11-12
    mode = _select_mode(context.config, offer, common_group=common_group)
    if offer.psks is None or mode is None:
        return None
    observer = context.observer(offer.hello.random)
    for index, identity in enumerate(offer.psks.identities[:MAX_IDENTITIES]):
        found = _look_up(context, identity.identity, suite, observer)
        if found is None:
            continue
        kind, ticket, external, schedule = found
        age_add = 0 if ticket is None else ticket.age_add
        selected = SelectedPsk(
            index,
            kind,
            mode,
            schedule,
            ticket,
            external,
            offer.psks.binders[index],
            (identity.obfuscated_ticket_age - age_add) % 2**32,
        )
        with closed_on_failure(selected):
            _check_binder(selected, offer.psks, octets, transcript)
        return selected
    return None


def _select_mode(
    config: ServerConfig, offer: ClientOffer, *, common_group: bool
) -> PskKeyExchangeMode | None:
    """Our first mode that the client offers; psk_dhe_ke calls for a common group."""
    # req: 4.2.1-2
    for mode in config.psk_modes:
        if mode in offer.psk_modes and (common_group or mode is PskKeyExchangeMode.psk_ke):
            return mode
    return None


_Found = tuple[PskKind, TicketState | None, ExternalPsk | None, KeySchedule]


def _look_up(
    context: Context[ServerConfig],
    identity: bytes,
    suite: SuiteParameters,
    observer: SecretObserver | None,
) -> _Found | None:
    config, backend = context.config, context.backend
    external = next((psk for psk in config.psks if psk.identity == identity), None)
    if external is not None:
        if external.hash != suite.hash:
            return None
        secret = backend.import_psk(external.source, external.hash)
        schedule = KeySchedule(backend, external.hash, secret, observer)
        backend.destroy(secret)
        return "external", None, external, schedule
    ticket = config.ticket_keys.open(identity, config.clock())
    if ticket is None or not _is_resumable(config, ticket, suite):
        return None
    try:
        secret = backend.unwrap(ticket.psk, "PSK", suite.hash)
    except StoredSecretError:
        return None
    schedule = KeySchedule(backend, suite.hash, secret, observer)
    backend.destroy(secret)
    return "resumption", ticket, None, schedule


def _is_resumable(config: ServerConfig, ticket: TicketState, suite: SuiteParameters) -> bool:
    """Whether the ticket is alive, for this hash, and as authenticated as we demand.

    The client's chain is judged again: configurations that trust other authorities may share the
    ticket keys, and certificates expire.
    """
    # req: 4.7.1-6
    age = config.clock() * 1000 - ticket.issued_at
    if not 0 <= age < ticket.lifetime * 1000:
        return False
    if config.require_client_certificate and not ticket.client_chain:
        return False
    known = SUITES.get(ticket.suite)
    if known is None or known.hash != suite.hash:
        return False
    try:
        if ticket.client_chain:
            verify_client(config, tuple(parse_chain(ticket.client_chain)))
    except CertificateError:
        return False
    return True


def _check_binder(
    selected: SelectedPsk, psks: OfferedPsks, octets: bytes, transcript: Transcript
) -> None:
    """RFC 9846 §4.3.11.2."""
    backend = selected.schedule.backend
    row = RESUMPTION_BINDER_KEY if selected.kind == "resumption" else EXTERNAL_BINDER_KEY
    key = selected.schedule.derive(row)
    digest = transcript.preview(selected.schedule.algorithm, octets[: -psks.binders_size])
    valid = check_verify_data(backend, key, digest, selected.binder)
    backend.destroy(key)
    if not valid:
        raise PeerViolation(Violation.BINDER_INVALID)


def permits_early_data(
    config: ServerConfig, selected: SelectedPsk, suite: SuiteParameters, alpn: str | None
) -> int:
    """The octets of early data to let in under this PSK; 0 refuses them.

    Suite and application protocol must be the PSK's, it must be the first one offered, and the
    replay guard must never have seen this ClientHello.
    """
    # req: 4.3.10-3 4.3.10-4 4.3.10-5 4.3.10-8 4.3.10-9 4.3.10-11 8-3 8.2-2 8.2-3
    if selected.index != 0 or not config.max_early_data:
        return 0
    now = config.clock()
    if selected.ticket is not None:
        ticket = selected.ticket
        if ticket.suite != suite.suite or ticket.alpn != (alpn or "").encode():
            return 0
        expected_arrival = (ticket.issued_at + selected.ticket_age) / 1000
        admitted = config.replay_guard.admit_ticket(
            ticket.ticket_id, selected.binder, expected_arrival, now
        )
        return ticket.max_early_data if admitted else 0
    external = selected.external
    if external is None or external.suite != suite.suite or external.alpn != alpn:
        return 0
    admitted = config.replay_guard.admit_external(selected.binder)
    return external.max_early_data if admitted else 0
