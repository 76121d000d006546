"""Certificate, CertificateVerify, Finished, as both roles make and check them (RFC 9846 §4.5)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final, Literal

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from tpmtls.backends.base import Backend, Secret
from tpmtls.certificates import (
    TrustStore,
    parse_chain,
    schemes_for_key,
    signature_content,
    verify_signature,
)
from tpmtls.codepoints import ExtensionType, SignatureScheme
from tpmtls.config import Credential
from tpmtls.key_schedule import check_verify_data, verify_data
from tpmtls.transcript import Transcript
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.extensions import CertificateAuthorities, Extensions
from tpmtls.wire.messages import Certificate, CertificateEntry, CertificateVerify, Finished

MAX_AUTHORITIES: Final = 24_576
"""Octets of names in a certificate_authorities extension that we send; with more, none are. A
ClientHello must have room for the largest ticket besides.
"""

Role = Literal["server", "client"]
"""Who signs: the context string of the signature depends on it."""


def make_certificate(credential: Credential | None, context: bytes = b"") -> Certificate:
    """The Certificate message; without a credential, the empty one that declines."""
    # req: 4.3-5 4.5.1-3 4.5.1-9 4.5.1-11 4.5.1-13
    chain = () if credential is None else credential.chain
    return Certificate(context, tuple(CertificateEntry(der, Extensions()) for der in chain))


def make_certificate_verify(
    credential: Credential, scheme: SignatureScheme, role: Role, transcript: Transcript
) -> CertificateVerify:
    """Sign the transcript up to the Certificate message (RFC 9846 §4.5.2)."""
    content = signature_content(role, transcript.digest())
    return CertificateVerify(scheme, credential.signer.sign(scheme, content))


def make_finished(backend: Backend, base_key: Secret, transcript: Transcript) -> Finished:
    """MAC the transcript up to here (RFC 9846 §4.5.3)."""
    return Finished(verify_data(backend, base_key, transcript.digest()))


def name_authorities(store: TrustStore) -> CertificateAuthorities | None:
    """The store's anchors by name; None where there are none, or more than an extension holds."""
    size = sum(2 + len(name) for name in store.subjects)
    return CertificateAuthorities(store.subjects) if 0 < size < MAX_AUTHORITIES else None


def read_chain(
    message: Certificate, context: bytes, requested: frozenset[ExtensionType]
) -> tuple[x509.Certificate, ...]:
    """The certificates of a peer's message, leaf first; raises where it breaks a rule of §4.5.1.

    `requested` are the extensions that we asked for, and that an entry may therefore have.
    """
    # req: 4.5.1-5 4.5.1-6 4.5.1-7 4.3-6
    if message.certificate_request_context != context:
        raise PeerViolation(Violation.REQUEST_CONTEXT)
    for entry in message.certificate_list:
        for kind in entry.extensions.types - requested:
            raise PeerViolation(Violation.UNSOLICITED_EXTENSION, f"{kind} in Certificate")
    return tuple(parse_chain([entry.cert_data for entry in message.certificate_list]))


def to_der(chain: Sequence[x509.Certificate]) -> tuple[bytes, ...]:
    """The chain as octets, for events and tickets."""
    return tuple(certificate.public_bytes(Encoding.DER) for certificate in chain)


def check_certificate_verify(
    message: CertificateVerify,
    leaf: x509.Certificate,
    offered: Sequence[SignatureScheme],
    role: Role,
    transcript: Transcript,
) -> None:
    """Verify the peer's signature; `role` is the peer's. Raises PeerViolation."""
    # req: 4.5.2-4 4.5.2-5 4.5.2-6 4.5.2-7 4.5.2-8 4.5.2-9 4.3.3-1
    if message.algorithm not in offered:
        raise PeerViolation(Violation.SCHEME_NOT_OFFERED, message.algorithm.name)
    if not schemes_for_key(leaf, (message.algorithm,)):
        raise PeerViolation(Violation.SCHEME_NOT_FOR_KEY, message.algorithm.name)
    content = signature_content(role, transcript.digest())
    if not verify_signature(leaf, message.algorithm, message.signature, content):
        raise PeerViolation(Violation.SIGNATURE_INVALID)


def check_finished(
    backend: Backend, message: Finished, base_key: Secret, transcript: Transcript
) -> None:
    """Verify the peer's MAC, in constant time. Raises PeerViolation."""
    # req: 4.5.3-1 4.5.3-2 6-9
    if len(message.verify_data) != base_key.length:
        raise PeerViolation(Violation.FINISHED_LENGTH, f"{len(message.verify_data)} octets")
    if not check_verify_data(backend, base_key, transcript.digest(), message.verify_data):
        raise PeerViolation(Violation.FINISHED_INVALID)
