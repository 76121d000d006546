"""CertificateVerify, made and checked without the reference's own rules (RFC 9846 §4.5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec

from tpmtls.algorithms import SCHEMES
from tpmtls.backends.base import Signer
from tpmtls.backends.software_signer import HASHES, pss_padding
from tpmtls.codepoints import SignatureScheme

Role = Literal["client", "server"]
_CONTEXT: Final = "TLS 1.3, {} CertificateVerify"


@dataclass(frozen=True)
class Credential:
    """A chain, DER, leaf first, the signer that has its key, and its schemes, best first."""

    chain: tuple[bytes, ...]
    signer: Signer = field(repr=False)
    schemes: tuple[SignatureScheme, ...]

    def scheme_for(self, offered: Sequence[SignatureScheme]) -> SignatureScheme | None:
        """The first scheme of this key that the peer offers."""
        return next((scheme for scheme in self.schemes if scheme in offered), None)


def signed_content(role: Role, transcript_hash: bytes) -> bytes:
    """64 blanks, the context of the role, a zero, and the transcript hash."""
    return b" " * 64 + _CONTEXT.format(role).encode() + b"\0" + transcript_hash


def signature_is_valid(
    certificate: bytes, scheme: SignatureScheme, signature: bytes, content: bytes
) -> bool:
    """Whether the certificate's key made `signature` over `content` under `scheme`."""
    row = SCHEMES.get(scheme)
    if row is None or not row.signs_handshakes:
        return False
    try:
        key: Any = x509.load_der_x509_certificate(certificate).public_key()
        if row.hash is None:
            key.verify(signature, content)
        elif row.padding == "pss":
            digest = HASHES[row.hash.name]
            key.verify(signature, content, pss_padding(digest), digest)
        else:
            key.verify(signature, content, ec.ECDSA(HASHES[row.hash.name]))
    except (InvalidSignature, ValueError, TypeError, UnsupportedAlgorithm, AttributeError):
        return False
    return True
