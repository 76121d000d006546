"""The server's choices from a ClientHello (RFC 9846 §4.2.1): pure functions, own preference first.

Order of the choices: cipher suite, then PSK, then group, then application protocol, then
certificate. In each the server's own order decides, except that a group for which the client sent
a share goes before one that would cost a round trip.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from tpmtls.algorithms import GROUPS, SUITES, HashAlgorithm, SuiteParameters
from tpmtls.certificates import chain_schemes, issued_by
from tpmtls.codepoints import (
    CipherSuite,
    NamedGroup,
    ProtocolVersion,
    PskKeyExchangeMode,
    SignatureScheme,
)
from tpmtls.config import Credential, ServerConfig
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.extensions import (
    CertificateAuthorities,
    Cookie,
    EarlyDataIndication,
    Extensions,
    KeyShareClientHello,
    OfferedPsks,
    PostHandshakeAuth,
    ProtocolNameList,
    PskKeyExchangeModes,
    RecordSizeLimit,
    ServerNameList,
    SignatureAlgorithms,
    SignatureAlgorithmsCert,
    SupportedGroups,
    SupportedVersions,
)
from tpmtls.wire.messages import ClientHello

MAX_RECORD_SIZE = 2**14 + 1
MIN_RECORD_SIZE = 64


@dataclass(frozen=True, slots=True)
class ClientOffer:
    """A ClientHello whose rules have been checked, its extensions taken apart."""

    hello: ClientHello
    groups: tuple[NamedGroup, ...]
    shares: dict[NamedGroup, bytes]
    schemes: tuple[SignatureScheme, ...]
    certificate_schemes: tuple[SignatureScheme, ...]
    psks: OfferedPsks | None
    psk_modes: tuple[PskKeyExchangeMode, ...]
    early_data: bool
    server_name: str | None
    alpn: tuple[bytes, ...]
    record_size_limit: int | None
    authorities: tuple[bytes, ...]
    post_handshake_auth: bool
    cookie: bytes | None


def read_client_hello(hello: ClientHello) -> ClientOffer:
    """Check everything in a ClientHello that does not depend on us; raises PeerViolation."""
    _check_version(hello)
    extensions = hello.extensions
    psks = extensions.get(OfferedPsks)
    modes = extensions.get(PskKeyExchangeModes)
    _check_psks(extensions, psks, modes)
    schemes = extensions.get(SignatureAlgorithms)
    certificate_schemes = extensions.get(SignatureAlgorithmsCert)
    offered_schemes = () if schemes is None else schemes.supported_signature_algorithms
    groups, shares = _read_groups(extensions)
    # req: 9.2-10 9.2-12
    if psks is None and schemes is None:
        raise PeerViolation(Violation.MISSING_SIGNATURE_ALGORITHMS)
    if psks is None and not groups:
        raise PeerViolation(Violation.MISSING_SUPPORTED_GROUPS)
    alpn = extensions.get(ProtocolNameList)
    authorities = extensions.get(CertificateAuthorities)
    cookie = extensions.get(Cookie)
    return ClientOffer(
        hello=hello,
        groups=groups,
        shares=shares,
        schemes=offered_schemes,
        certificate_schemes=(
            offered_schemes
            if certificate_schemes is None
            else certificate_schemes.supported_signature_algorithms
        ),
        psks=psks,
        psk_modes=() if modes is None else modes.ke_modes,
        early_data=extensions.get(EarlyDataIndication) is not None,
        server_name=_read_server_name(extensions),
        alpn=() if alpn is None else alpn.protocol_name_list,
        record_size_limit=read_record_size_limit(extensions),
        authorities=() if authorities is None else authorities.authorities,
        post_handshake_auth=extensions.get(PostHandshakeAuth) is not None,
        cookie=None if cookie is None else cookie.cookie,
    )


def _check_version(hello: ClientHello) -> None:
    # req: 4.2.2-7 4.2.2-16 4.3.1-4 4.3.1-5 4.3.1-6 4.3.1-7 4.3.1-8 4.3.1-10
    # req: E.2-1 E.2-2 E.2-3 E.5-4 E.5-9
    versions = hello.extensions.get(SupportedVersions)
    if versions is None or ProtocolVersion.TLS_1_3 not in versions.versions:
        raise PeerViolation(Violation.TLS_1_3_NOT_OFFERED)
    if hello.legacy_version != ProtocolVersion.TLS_1_2:
        raise PeerViolation(Violation.CLIENT_LEGACY_VERSION, hello.legacy_version.name)
    if hello.legacy_compression_methods != b"\0":
        raise PeerViolation(Violation.COMPRESSION_METHODS)


def _check_psks(
    extensions: Extensions, psks: OfferedPsks | None, modes: PskKeyExchangeModes | None
) -> None:
    # req: 4.3.11-18 4.3.9-3 4.3.10-1
    if psks is None:
        if extensions.get(EarlyDataIndication) is not None:
            raise PeerViolation(Violation.EARLY_DATA_WITHOUT_PSK)
        return
    if extensions[-1] is not psks:
        raise PeerViolation(Violation.PRE_SHARED_KEY_NOT_LAST)
    if modes is None:
        raise PeerViolation(Violation.MISSING_PSK_MODES)
    if len(psks.identities) != len(psks.binders):
        raise PeerViolation(Violation.BINDER_COUNT)


def _read_groups(
    extensions: Extensions,
) -> tuple[tuple[NamedGroup, ...], dict[NamedGroup, bytes]]:
    """The groups and the shares, by group; each of the extensions calls for the other."""
    # req: 9.2-11 4.3.7-2 4.3.8-9 4.3.8-10 4.3.8-11
    groups = extensions.get(SupportedGroups)
    key_share = extensions.get(KeyShareClientHello)
    if groups is None and key_share is None:
        return (), {}
    if groups is None:
        raise PeerViolation(Violation.MISSING_SUPPORTED_GROUPS)
    if key_share is None:
        raise PeerViolation(Violation.MISSING_KEY_SHARE)
    known = set(groups.named_group_list)
    if len(known) != len(groups.named_group_list):
        raise PeerViolation(Violation.DUPLICATE_GROUP)
    shares: dict[NamedGroup, bytes] = {}
    for entry in key_share.client_shares:
        if entry.group in shares:
            raise PeerViolation(Violation.DUPLICATE_KEY_SHARE, entry.group.name)
        if entry.group not in known:
            raise PeerViolation(Violation.SHARE_WITHOUT_GROUP, entry.group.name)
        shares[entry.group] = entry.key_exchange
    return groups.named_group_list, shares


def _read_server_name(extensions: Extensions) -> str | None:
    """The host name asked for; RFC 6066 §3 allows one of each type, in ASCII."""
    names = extensions.get(ServerNameList)
    if names is None:
        return None
    hosts = [n.host_name for n in names.server_name_list if n.name_type.is_known]
    if len(hosts) != 1:
        raise PeerViolation(Violation.SERVER_NAME_LIST, f"{len(hosts)} host names")
    try:
        return hosts[0].decode("ascii").lower()
    except UnicodeDecodeError:
        raise PeerViolation(Violation.SERVER_NAME_LIST, "not ASCII") from None


def read_record_size_limit(extensions: Extensions) -> int | None:
    """The peer's record_size_limit, cut down to what TLS 1.3 can use (RFC 8449 §4)."""
    extension = extensions.get(RecordSizeLimit)
    if extension is None:
        return None
    if extension.limit < MIN_RECORD_SIZE:
        raise PeerViolation(Violation.RECORD_SIZE_LIMIT, f"{extension.limit} octets")
    return min(extension.limit, MAX_RECORD_SIZE)


# -- choices ---------------------------------------------------------------------------------------


def select_suite(
    suites: Sequence[CipherSuite],
    offered: Sequence[CipherSuite],
    preferred_hash: HashAlgorithm | None,
) -> SuiteParameters:
    """Our first suite that the client offers, if possible with the hash of its external PSK."""
    # req: 2.1-1 4.2.1-4 4.2.2-13 4.3.11-8
    common = [SUITES[suite] for suite in suites if suite in offered]
    if not common:
        raise PeerViolation(Violation.NO_COMMON_SUITE)
    fitting = (suite for suite in common if suite.hash == preferred_hash)
    return next(fitting, common[0])


def select_group(groups: Sequence[NamedGroup], offer: ClientOffer) -> NamedGroup | None:
    """Our first common group with a share, or the first without; None if there is none."""
    # req: 2-1
    common = [group for group in groups if group in offer.groups]
    with_share = (group for group in common if group in offer.shares)
    return next(with_share, common[0] if common else None)


def check_share(group: NamedGroup, share: bytes, *, from_client: bool) -> None:
    """Whether a KeyShareEntry.key_exchange has the length that its group calls for."""
    sizes = GROUPS[group]
    if len(share) != (sizes.client_share if from_client else sizes.server_share):
        raise PeerViolation(Violation.SHARE_LENGTH, f"{group}: {len(share)} octets")


def select_alpn(ours: Sequence[str], offered: Sequence[bytes]) -> str | None:
    """Our first protocol that the client offers; raises where both have some, and none in common.

    RFC 7301 §3.2.
    """
    if not ours or not offered:
        return None
    for name in ours:
        if name.encode() in offered:
            return name
    raise PeerViolation(Violation.NO_COMMON_PROTOCOL)


def select_scheme(
    credential: Credential, schemes: Sequence[SignatureScheme]
) -> SignatureScheme | None:
    """The credential's best scheme that the peer accepts."""
    return next((scheme for scheme in credential.schemes if scheme in schemes), None)


def check_server_name(config: ServerConfig, offer: ClientOffer) -> None:
    """Whether the name asked for is one that we serve, in a resumed session too."""
    # req: 9.2-15 4.5.1.2-7 9.2-13 9.2-14
    if config.require_server_name and offer.server_name is None:
        raise PeerViolation(Violation.MISSING_SERVER_NAME)
    if not config.strict_server_name or not config.credentials or offer.server_name is None:
        return
    if not any(credential.is_for(offer.server_name) for credential in config.credentials):
        raise PeerViolation(Violation.UNRECOGNIZED_NAME, repr(offer.server_name))


def select_credential(
    config: ServerConfig, offer: ClientOffer
) -> tuple[Credential, SignatureScheme]:
    """The certificate to serve, and the scheme to sign with.

    Those for the name asked for go first, then those whose chain the client can verify, then those
    issued by an authority that it names; among equals the order of the configuration decides.
    """
    # req: 4.3.3-3 4.5.1.2-2 4.5.1.2-9 4.5.1.2-11
    if not offer.schemes:
        raise PeerViolation(Violation.MISSING_SIGNATURE_ALGORITHMS)
    named = [c for c in config.credentials if offer.server_name and c.is_for(offer.server_name)]
    chosen = choose_credential(
        named, offer.schemes, offer.certificate_schemes, offer.authorities
    ) or choose_credential(
        config.credentials, offer.schemes, offer.certificate_schemes, offer.authorities
    )
    if chosen is None:
        raise PeerViolation(Violation.NO_COMMON_SCHEME)
    return chosen


def choose_credential(
    credentials: Sequence[Credential],
    schemes: Sequence[SignatureScheme],
    certificate_schemes: Sequence[SignatureScheme],
    authorities: Sequence[bytes],
) -> tuple[Credential, SignatureScheme] | None:
    """The first credential with the most in its favour, and its scheme; None if none can sign."""
    # req: 4.3.4-1 4.5.1.2-5
    best: tuple[int, Credential, SignatureScheme] | None = None
    for credential in credentials:
        scheme = select_scheme(credential, schemes)
        if scheme is None:
            continue
        merit = 2 * _chain_fits(credential, certificate_schemes) + _is_issued_by(
            credential, authorities
        )
        if best is None or merit > best[0]:
            best = merit, credential, scheme
    return None if best is None else best[1:]


def _chain_fits(credential: Credential, schemes: Sequence[SignatureScheme]) -> bool:
    return all(s in schemes for s in chain_schemes(credential.certificates))


def _is_issued_by(credential: Credential, authorities: Sequence[bytes]) -> bool:
    return not authorities or issued_by(credential.certificates, authorities)
