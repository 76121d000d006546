"""Which check a refused chain fails: the verifier's own message is terse, and names no alert.

Nothing here accepts anything. The checks are tried in one order, so that a chain with several
faults always gets the same answer (RFC 9846 §4.5.1.3, §6.2).
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from datetime import datetime
from itertools import pairwise
from typing import Final, TypeVar

from cryptography import x509

from tpmtls.certificates.keys import (
    deprecated_hash,
    is_self_signed,
    is_signed_by,
    is_weak,
    key_type,
    signature_scheme,
)
from tpmtls.certificates.policy import Purpose
from tpmtls.certificates.selection import matches_name, names_in
from tpmtls.certificates.trust import TrustStore
from tpmtls.codepoints import AlertDescription as Alert
from tpmtls.codepoints import SignatureScheme
from tpmtls.violations import CertificateError

_NOISE: Final = re.compile(
    r"validation failed: |candidates exhausted: |Python extension validator failed: "
    r"|\w+Error: | \(encountered processing .*\)$",
    re.DOTALL,
)
_SHOWN: Final = 120
"""Characters of a peer's text that go into a message."""

_TRIED: Final = 4
"""Issuers of one name that are tried for a certificate."""

E = TypeVar("E", bound=x509.ExtensionType)


def explain(
    chain: Sequence[x509.Certificate],
    store: TrustStore,
    purpose: Purpose,
    subject: x509.DNSName | x509.IPAddress | None,
    now: datetime,
    schemes: Sequence[SignatureScheme],
    verdict: str,
) -> CertificateError:
    """The error for a chain that the verifier refused, saying `verdict`."""
    path, anchored = _walk(chain, store)
    found = (
        _weak_hash(path, store)
        or _version(path)
        or _dates(path, now)
        or _trust(path, anchored=anchored)
        or _signatures(path)
        or _name(chain[0], subject)
        or _usages(chain[0], purpose)
        or algorithms(path, schemes)
    )
    if found:
        return found
    text = printable(_NOISE.sub("", verdict))
    return CertificateError("path", text, Alert.certificate_unknown)


def name_of(certificate: x509.Certificate) -> str:
    """The subject, fit to be shown."""
    return printable(certificate.subject.rfc4514_string()) or "a certificate without a name"


def printable(text: str) -> str:
    """A peer's text without control characters, and cut to a sane length."""
    shown = "".join(c if c.isprintable() else "\N{REPLACEMENT CHARACTER}" for c in text)
    return shown if len(shown) <= _SHOWN else shown[:_SHOWN] + "…"


# -- the path as far as it goes --------------------------------------------------------------------


def _walk(
    chain: Sequence[x509.Certificate], store: TrustStore
) -> tuple[list[x509.Certificate], bool]:
    """From the leaf by issuers' names, and whether that ends at an anchor.

    Where several bear the name, one whose signature verifies is preferred.
    """
    path = [chain[0]]
    while path[-1] not in store:
        candidates = [c for c in _issuers(path[-1], chain, store) if c not in path][:_TRIED]
        if not candidates:
            return path, False
        path.append(next((c for c in candidates if is_signed_by(path[-1], c)), candidates[0]))
    return path, True


def _issuers(
    certificate: x509.Certificate, chain: Sequence[x509.Certificate], store: TrustStore
) -> Iterator[x509.Certificate]:
    wanted = _extension(certificate, x509.AuthorityKeyIdentifier)
    key = None if wanted is None else wanted.key_identifier
    for candidate in (*store.issuers(certificate), *chain):
        if candidate.subject == certificate.issuer:
            own = _extension(candidate, x509.SubjectKeyIdentifier)
            if key is None or own is None or own.digest == key:
                yield candidate


def _extension(certificate: x509.Certificate, kind: type[E]) -> E | None:
    try:
        return certificate.extensions.get_extension_for_class(kind).value
    except x509.ExtensionNotFound:
        return None


# -- the checks, in their order --------------------------------------------------------------------


def _weak_hash(path: list[x509.Certificate], store: TrustStore) -> CertificateError | None:
    # req: 4.5.1.3-4 4.5.1.3-5
    for certificate in path:
        name = deprecated_hash(certificate)
        if name and not (certificate in store or is_self_signed(certificate)):
            return CertificateError(
                "signature",
                f"the signature of {name_of(certificate)} uses {name}",
                Alert.bad_certificate,
            )
    return None


def _version(path: list[x509.Certificate]) -> CertificateError | None:
    # req: 4.5.1.2-1
    for certificate in path:
        if certificate.version is not x509.Version.v3:
            return CertificateError(
                "version",
                f"{name_of(certificate)} is not an X.509v3 certificate",
                Alert.unsupported_certificate,
            )
    return None


def _dates(path: list[x509.Certificate], now: datetime) -> CertificateError | None:
    for certificate in path:
        starts, ends = certificate.not_valid_before_utc, certificate.not_valid_after_utc
        if now < starts:
            reason = f"{name_of(certificate)} is not valid before {starts:%Y-%m-%d %H:%M:%S} UTC"
        elif now > ends:
            reason = f"{name_of(certificate)} expired at {ends:%Y-%m-%d %H:%M:%S} UTC"
        else:
            continue
        return CertificateError("validity period", reason, Alert.certificate_expired)
    return None


def _trust(path: list[x509.Certificate], *, anchored: bool) -> CertificateError | None:
    if anchored:
        return None
    last = path[-1]
    if is_self_signed(last):
        reason = f"{name_of(last)} is self-signed and not trusted"
    else:
        issuer = printable(last.issuer.rfc4514_string())
        reason = f"{name_of(last)} is issued by {issuer}, which is neither trusted nor sent along"
    return CertificateError("issuer", reason, Alert.unknown_ca)


def _signatures(path: list[x509.Certificate]) -> CertificateError | None:
    for certificate, issuer in pairwise(path):
        if key_type(issuer) is not None and not is_signed_by(certificate, issuer):
            return CertificateError(
                "signature",
                f"{name_of(issuer)} did not sign {name_of(certificate)}",
                Alert.bad_certificate,
            )
    return None


def _name(
    leaf: x509.Certificate, subject: x509.DNSName | x509.IPAddress | None
) -> CertificateError | None:
    if subject is None or matches_name(leaf, str(subject.value)):
        return None
    names = printable(", ".join(names_in(leaf))) or "no name at all"
    return CertificateError(
        "name", f"the certificate is for {names}, not {subject.value}", Alert.certificate_unknown
    )


def _usages(leaf: x509.Certificate, purpose: Purpose) -> CertificateError | None:
    usages = _extension(leaf, x509.ExtendedKeyUsage)
    if usages is not None and purpose.usage not in usages:
        return CertificateError(
            "extended key usage",
            f"the certificate is not for {purpose.role} authentication",
            Alert.unsupported_certificate,
        )
    # req: 4.5.1.2-3
    usage = _extension(leaf, x509.KeyUsage)
    if usage is not None and not usage.digital_signature:
        return CertificateError(
            "key usage",
            "the certificate's key is not for digital signatures",
            Alert.unsupported_certificate,
        )
    return None


def algorithms(
    path: Sequence[x509.Certificate], schemes: Sequence[SignatureScheme]
) -> CertificateError | None:
    """The error for a path with a signature that is none of `schemes`, or an unfit key."""
    # req: 4.3.3-1 4.3.3-17 4.5.1.2-4 4.5.1.2-9 4.5.1.2-14 4.5.1.3-7
    for certificate in path:
        if key_type(certificate) is None:
            reason = f"no signature algorithm of TLS 1.3 uses the key of {name_of(certificate)}"
        elif is_weak(certificate):
            reason = f"the RSA key of {name_of(certificate)} has fewer than 2048 bits"
        else:
            continue
        return CertificateError("algorithm", reason, Alert.unsupported_certificate)
    for certificate, issuer in pairwise(path):
        scheme = signature_scheme(certificate, issuer)
        if scheme not in schemes:
            used = "an algorithm without a code point" if scheme is None else scheme
            reason = f"{name_of(certificate)} is signed with {used}, which was not offered"
            return CertificateError("algorithm", reason, Alert.unsupported_certificate)
    return None
