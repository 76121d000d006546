"""What a client offers: its ClientHello, the key shares and PSKs behind it, the binders."""

from __future__ import annotations

from dataclasses import dataclass, replace

from tpmtls.algorithms import GROUPS, SUITES, HashAlgorithm
from tpmtls.backends.base import KeyShare
from tpmtls.certificates import parse_chain, verify_server_chain
from tpmtls.codepoints import (
    CipherSuite,
    ExtensionType,
    NamedGroup,
    NameType,
    ProtocolVersion,
    PskKeyExchangeMode,
)
from tpmtls.config import ClientConfig, ExternalPsk
from tpmtls.events import PskKind
from tpmtls.handshake.authentication import name_authorities
from tpmtls.handshake.machine import Context
from tpmtls.key_schedule import (
    EXTERNAL_BINDER_KEY,
    RESUMPTION_BINDER_KEY,
    KeySchedule,
    verify_data,
)
from tpmtls.tickets import SessionTicket
from tpmtls.transcript import Transcript
from tpmtls.violations import CertificateError, ConfigurationError, StoredSecretError
from tpmtls.wire.extensions import (
    MAX_EXTENSION_BLOCK,
    Cookie,
    EarlyDataIndication,
    ExtensionBody,
    Extensions,
    KeyShareClientHello,
    KeyShareEntry,
    OfferedPsks,
    PostHandshakeAuth,
    ProtocolNameList,
    PskIdentity,
    PskKeyExchangeModes,
    RecordSizeLimit,
    ServerName,
    ServerNameList,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
    SupportedGroups,
    SupportedVersions,
)
from tpmtls.wire.messages import ClientHello

SESSION_ID_SIZE = 32
HYBRIDS = {NamedGroup.X25519MLKEM768: NamedGroup.x25519}
"""A hybrid group, and the classical group worth a share of its own beside it."""


@dataclass(frozen=True, slots=True)
class Psk:
    """A PSK on offer: its Early Secret stands ready in `schedule`."""

    identity: bytes
    kind: PskKind
    hash: HashAlgorithm
    schedule: KeySchedule
    ticket: SessionTicket | None = None
    suite: CipherSuite | None = None
    alpn: str | None = None
    max_early_data: int = 0

    def identity_at(self, now: float) -> PskIdentity:
        """The PskIdentity; external PSKs have no age (RFC 9846 §4.3.11)."""
        # req: 4.3.11-1
        age = 0 if self.ticket is None else self.ticket.obfuscated_age(now)
        return PskIdentity(self.identity, age)


@dataclass(frozen=True, slots=True)
class Offer:
    """A ClientHello as sent, and what is needed to act on the answer."""

    hello: ClientHello
    octets: bytes
    shares: dict[NamedGroup, KeyShare]
    psks: tuple[Psk, ...]
    psk_modes: tuple[PskKeyExchangeMode, ...]
    early_data: bool = False


def make_offer(context: Context[ClientConfig], *, early_data: bool) -> Offer:
    """The first ClientHello. `early_data` raises ConfigurationError where no PSK permits it."""
    # req: 4.2.2-6 4.2.2-9 4.2.2-10 4.2.2-11 4.2.2-12 4.2.2-15 E.1-2 E.5-8 4.3.2-3
    config = context.config
    suites = tuple(suite for suite in config.suites if suite in context.backend.suites)
    if not suites or not _offered_groups(context):
        raise ConfigurationError("the backend has none of the suites, or none of the groups")
    random = config.entropy(32)
    session_id = config.entropy(SESSION_ID_SIZE) if config.middlebox_compatibility else b""
    psks = _collect_psks(context, random, early_data=early_data)
    shares = {group: context.backend.key_share(group) for group in _share_groups(context)}
    extensions = _extensions(context, shares, early_data=early_data)
    hello = ClientHello(
        ProtocolVersion.TLS_1_2,
        random,
        session_id,
        suites,
        b"\0",
        extensions,
    )
    return _complete(context, hello, shares, psks, Transcript(), early_data=early_data)


def retry_offer(
    context: Context[ClientConfig],
    old: Offer,
    suite: CipherSuite,
    group: NamedGroup | None,
    cookie: bytes | None,
    transcript: Transcript,
) -> Offer:
    """The second ClientHello: the first with the changes of RFC 9846 §4.2.2 and no others.

    `transcript` holds message_hash and the HelloRetryRequest.
    """
    # req: 4.2.2-2 4.2.4-11 4.3.2-2 4.3.8-16 4.3.10-7
    shares = old.shares
    if group is not None:
        for share in old.shares.values():
            share.close()
        shares = {group: context.backend.key_share(group)}
    extensions = old.hello.extensions.without(
        ExtensionType.early_data, ExtensionType.pre_shared_key
    ).replacing(_key_share(shares))
    if cookie is not None:
        extensions = Extensions((*extensions, Cookie(cookie)))
    fitting = tuple(psk for psk in old.psks if psk.hash == SUITES[suite].hash)
    for psk in old.psks:
        if psk not in fitting:
            psk.schedule.close()
    hello = replace(old.hello, extensions=extensions)
    return _complete(context, hello, shares, fitting, transcript, early_data=False)


def cookie_room(old: Offer, group: NamedGroup | None) -> int:
    """The octets that a cookie can have in the second ClientHello, with a share for `group`."""
    kept = old.hello.extensions.without(ExtensionType.early_data)
    if group is not None:
        share = KeyShareEntry(group, bytes(GROUPS[group].client_share))
        kept = kept.replacing(KeyShareClientHello((share,)))
    return MAX_EXTENSION_BLOCK - kept.size - 4 - 2  # the extension's header, the cookie's length


# -- parts -----------------------------------------------------------------------------------------


def _collect_psks(
    context: Context[ClientConfig], random: bytes, *, early_data: bool
) -> tuple[Psk, ...]:
    """The newest ticket for this server that can be used, then the external PSKs that can be."""
    # req: 4.2.2-14
    config = context.config
    external = [psk for psk in config.psks if psk.hash in _offered_hashes(context)]
    ticket = _take_ticket(context, early_data=early_data)
    session = None if ticket is None else _from_ticket(context, ticket, random)
    first = external[0] if external else None
    if early_data and session is None and not (first and _permits_early_data(config, first)):
        raise ConfigurationError("early data needs a ticket or a PSK that permits it")
    resumption = () if session is None else (session,)
    return resumption + tuple(_from_external(context, psk, random) for psk in external)


def _permits_early_data(config: ClientConfig, psk: ExternalPsk | SessionTicket) -> bool:
    """Whether early data is allowed, under a suite and a protocol that are on offer (§4.3.10)."""
    return (
        psk.max_early_data > 0
        and psk.suite in config.suites
        and (psk.alpn is None or psk.alpn in config.alpn)
    )


def _take_ticket(context: Context[ClientConfig], *, early_data: bool) -> SessionTicket | None:
    """A session is resumed only if it was verified as strictly as this connection is to be, and
    with early data only if what it stands for is on offer again.
    """
    # req: 4.2.2-14 4.7.1-6 4.7.1-2
    config = context.config
    if config.session_cache is None:
        return None
    hashes = _offered_hashes(context)

    def fits(ticket: SessionTicket) -> bool:
        if ticket.suite not in SUITES or SUITES[ticket.suite].hash not in hashes:
            return False
        if config.verify and not (ticket.verified and _is_trusted(config, ticket)):
            return False
        return not early_data or _permits_early_data(config, ticket)

    return config.session_cache.take(config.server_name or "", config.clock(), fits)


def _is_trusted(config: ClientConfig, ticket: SessionTicket) -> bool:
    """Whether the server's chain would be accepted now, for this name and by these anchors.

    A session without certificates rests on a PSK, and is good only for who has one. What was
    accepted in this process, and cannot have changed, is not verified a second time.
    """
    if not ticket.peer_chain:
        return bool(config.psks)
    name, now = config.server_name or "", config.now()
    try:
        chain, store = parse_chain(ticket.peer_chain), config.trust_store
        accepted = ticket.acceptance
        if accepted is None or not accepted.covers(
            chain, store, name, now, config.certificate_schemes
        ):
            verify_server_chain(chain, store, name, now, config.certificate_schemes)
    except (CertificateError, ConfigurationError):
        return False
    return True


def _from_ticket(
    context: Context[ClientConfig], ticket: SessionTicket, random: bytes
) -> Psk | None:
    """None where this backend, perhaps another TPM's, can do nothing with it."""
    algorithm, backend = SUITES[ticket.suite].hash, context.backend
    try:
        secret = backend.unwrap(ticket.psk, "PSK", algorithm)
    except StoredSecretError:
        return None
    schedule = KeySchedule(backend, algorithm, secret, context.observer(random))
    backend.destroy(secret)
    return Psk(
        ticket.ticket,
        "resumption",
        algorithm,
        schedule,
        ticket,
        ticket.suite,
        ticket.alpn,
        ticket.max_early_data,
    )


def _from_external(context: Context[ClientConfig], psk: ExternalPsk, random: bytes) -> Psk:
    backend = context.backend
    secret = backend.import_psk(psk.source, psk.hash)
    schedule = KeySchedule(backend, psk.hash, secret, context.observer(random))
    backend.destroy(secret)
    return Psk(
        psk.identity, "external", psk.hash, schedule, None, psk.suite, psk.alpn, psk.max_early_data
    )


def _offered_hashes(context: Context[ClientConfig]) -> set[HashAlgorithm]:
    suites = context.config.suites
    return {SUITES[suite].hash for suite in suites if suite in context.backend.suites}


def _offered_groups(context: Context[ClientConfig]) -> tuple[NamedGroup, ...]:
    return tuple(group for group in context.config.groups if group in context.backend.groups)


def _share_groups(context: Context[ClientConfig]) -> tuple[NamedGroup, ...]:
    """The groups to send shares for: as configured, or the first and its classical half."""
    # req: 4.3.8-1 4.3.8-2 4.3.8-3 4.3.8-4 4.3.8-5 4.3.8-6 4.3.8-9 4.3.8-10
    groups, wanted = _offered_groups(context), context.config.key_shares
    if wanted is not None:
        return tuple(group for group in wanted if group in groups)
    chosen = {groups[0], HYBRIDS.get(groups[0], groups[0])}
    return tuple(group for group in groups if group in chosen)


def _key_share(shares: dict[NamedGroup, KeyShare]) -> KeyShareClientHello:
    return KeyShareClientHello(
        tuple(KeyShareEntry(group, share.public) for group, share in shares.items())
    )


def _extensions(
    context: Context[ClientConfig], shares: dict[NamedGroup, KeyShare], *, early_data: bool
) -> Extensions:
    """All but pre_shared_key, which comes last and needs the rest."""
    # req: 4.3.1-1 4.3.1-2 4.3.3-2 4.3.3-5 4.3.3-6 4.3.4-2 4.3.9-1 4.3.9-2 4.3.9-8 4.3.10-1 2.2-1
    # req: 4.5.1.2-8 9.2-3 9.2-4 9.2-5 9.2-6 9.2-8 E.1-1 9.2-2 9.2-9 9.2-10 9.2-11 9.2-13 9.3-4
    config = context.config
    bodies: list[ExtensionBody] = [SupportedVersions((ProtocolVersion.TLS_1_3,))]
    if config.sni is not None:
        name = ServerName(NameType.host_name, config.sni.encode("ascii"))
        bodies.append(ServerNameList((name,)))
    bodies.append(SupportedGroups(_offered_groups(context)))
    bodies.append(SignatureAlgorithms(config.signature_schemes))
    if config.certificate_schemes != config.signature_schemes:
        bodies.append(SignatureAlgorithmsCert(config.certificate_schemes))
    if config.alpn:
        bodies.append(ProtocolNameList(tuple(name.encode() for name in config.alpn)))
    if config.record_size_limit is not None:
        bodies.append(RecordSizeLimit(config.record_size_limit))
    if config.post_handshake_auth:
        bodies.append(PostHandshakeAuth())
    if config.send_certificate_authorities:
        authorities = name_authorities(config.trust_store)
        bodies += [] if authorities is None else [authorities]
    if config.session_cache is not None or config.psks:
        bodies.append(PskKeyExchangeModes(config.psk_modes))
    bodies.append(_key_share(shares))
    if early_data:
        bodies.append(EarlyDataIndication())
    return Extensions(bodies)


# -- binders (RFC 9846 §4.3.11.2) ------------------------------------------------------------------


def _complete(
    context: Context[ClientConfig],
    hello: ClientHello,
    shares: dict[NamedGroup, KeyShare],
    psks: tuple[Psk, ...],
    transcript: Transcript,
    *,
    early_data: bool,
) -> Offer:
    """Add pre_shared_key with its binders, and encode. `transcript` holds what went before."""
    # req: 4.3-9 4.3.11-17 9.2-7
    if psks:
        now = context.config.clock()
        offered = OfferedPsks(
            tuple(psk.identity_at(now) for psk in psks),
            tuple(bytes(psk.hash.digest_size) for psk in psks),
        )
        hello = replace(hello, extensions=Extensions((*hello.extensions, offered)))
    hello = context.arrange(hello)
    octets = hello.to_octets()
    offered_last = hello.extensions.get(OfferedPsks)
    if offered_last is not None:
        truncated = octets[: -offered_last.binders_size]
        binders = tuple(_binder(psk, transcript, truncated) for psk in psks)
        final = replace(offered_last, binders=binders)
        hello = replace(hello, extensions=hello.extensions.replacing(final))
        octets = hello.to_octets()
    modes = hello.extensions.get(PskKeyExchangeModes)
    return Offer(hello, octets, shares, psks, () if modes is None else modes.ke_modes, early_data)


def _binder(psk: Psk, transcript: Transcript, truncated: bytes) -> bytes:
    backend = psk.schedule.backend
    row = RESUMPTION_BINDER_KEY if psk.kind == "resumption" else EXTERNAL_BINDER_KEY
    binder_key = psk.schedule.derive(row)
    binder = verify_data(backend, binder_key, transcript.preview(psk.hash, truncated))
    backend.destroy(binder_key)
    return binder
