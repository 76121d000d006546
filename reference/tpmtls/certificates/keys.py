"""What a certificate's key can verify, and what signed a certificate (RFC 9846 §4.3.3, §4.5.2)."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Literal

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, mldsa, padding, rsa
from cryptography.x509.oid import PublicKeyAlgorithmOID, SignatureAlgorithmOID

from tpmtls.algorithms import SCHEMES, SHA256, SHA384, SHA512, HashAlgorithm, KeyType
from tpmtls.backends.software_signer import HASHES, pss_padding
from tpmtls.certificates import der
from tpmtls.codepoints import SignatureScheme

MINIMUM_RSA_BITS: Final = 2048

_CURVES: Final[dict[str, KeyType]] = {
    "secp256r1": "secp256r1",
    "secp384r1": "secp384r1",
    "secp521r1": "secp521r1",
}

_KEY_TYPES: Final[tuple[tuple[type, KeyType], ...]] = (
    (ed25519.Ed25519PublicKey, "ed25519"),
    (ed448.Ed448PublicKey, "ed448"),
    (mldsa.MLDSA44PublicKey, "mldsa44"),
    (mldsa.MLDSA65PublicKey, "mldsa65"),
    (mldsa.MLDSA87PublicKey, "mldsa87"),
)

MLDSA_OIDS: Final = tuple(x509.ObjectIdentifier(f"2.16.840.1.101.3.4.3.{n}") for n in (17, 18, 19))

_S = SignatureScheme
_SCHEMES_BY_OID: Final = {
    SignatureAlgorithmOID.RSA_WITH_SHA1: _S.rsa_pkcs1_sha1,
    SignatureAlgorithmOID.RSA_WITH_SHA256: _S.rsa_pkcs1_sha256,
    SignatureAlgorithmOID.RSA_WITH_SHA384: _S.rsa_pkcs1_sha384,
    SignatureAlgorithmOID.RSA_WITH_SHA512: _S.rsa_pkcs1_sha512,
    SignatureAlgorithmOID.ECDSA_WITH_SHA1: _S.ecdsa_sha1,
    SignatureAlgorithmOID.ECDSA_WITH_SHA256: _S.ecdsa_secp256r1_sha256,
    SignatureAlgorithmOID.ECDSA_WITH_SHA384: _S.ecdsa_secp384r1_sha384,
    SignatureAlgorithmOID.ECDSA_WITH_SHA512: _S.ecdsa_secp521r1_sha512,
    SignatureAlgorithmOID.ED25519: _S.ed25519,
    SignatureAlgorithmOID.ED448: _S.ed448,
    **dict(zip(MLDSA_OIDS, (_S.mldsa44, _S.mldsa65, _S.mldsa87), strict=True)),
}
_RSAE: Final = {
    SHA256: _S.rsa_pss_rsae_sha256,
    SHA384: _S.rsa_pss_rsae_sha384,
    SHA512: _S.rsa_pss_rsae_sha512,
}
_PSS: Final = {
    SHA256: _S.rsa_pss_pss_sha256,
    SHA384: _S.rsa_pss_pss_sha384,
    SHA512: _S.rsa_pss_pss_sha512,
}

_CONTEXTS: Final = {
    "server": b"TLS 1.3, server CertificateVerify",
    "client": b"TLS 1.3, client CertificateVerify",
}


# -- CertificateVerify -----------------------------------------------------------------------------


def signature_content(role: Literal["server", "client"], transcript_hash: bytes) -> bytes:
    """What the signature of CertificateVerify covers (RFC 9846 §4.5.2)."""
    return b"".join((b" " * 64, _CONTEXTS[role], b"\0", transcript_hash))


def verify_signature(
    certificate: x509.Certificate, scheme: SignatureScheme, signature: bytes, content: bytes
) -> bool:
    """Whether `signature` over `content` is one of the certificate's key, made under `scheme`.

    False, too, where the scheme is not for the key or not for handshakes; never an exception.
    """
    # req: 4.5.2-6 4.5.2-7 4.5.2-8
    if not schemes_for_key(certificate, (scheme,)):
        return False
    key: Any = certificate.public_key()
    algorithm = SCHEMES[scheme].hash
    try:
        if algorithm is None:
            key.verify(signature, content)
        elif SCHEMES[scheme].padding == "pss":
            digest = HASHES[algorithm.name]
            key.verify(signature, content, pss_padding(digest), digest)
        else:
            key.verify(signature, content, ec.ECDSA(HASHES[algorithm.name]))
    except (InvalidSignature, ValueError, UnsupportedAlgorithm):
        return False
    return True


def schemes_for_key(
    certificate: x509.Certificate, available: Sequence[SignatureScheme]
) -> tuple[SignatureScheme, ...]:
    """Those of `available` that may sign handshakes with the certificate's key, order kept.

    An RSA key is for rsa_pss_rsae_* or for rsa_pss_pss_*, as the certificate's OID says; and one
    whose certificate names PSS parameters is for these alone.
    """
    # req: 4.3.3-1 4.3.3-6 4.3.3-8 4.3.3-10 4.5.1.2-2 4.5.1.2-4 4.5.2-6
    kind = key_type(certificate)
    rows = [SCHEMES[scheme] for scheme in available if scheme in SCHEMES]
    rows = [row for row in rows if row.key_type == kind and row.signs_handshakes]
    if kind in ("rsa", "rsa-pss"):
        hashes = _rsa_hashes(certificate, kind)
        rows = [row for row in rows if row.hash in hashes]
    return tuple(row.scheme for row in rows)


# -- keys ------------------------------------------------------------------------------------------


def key_type(certificate: x509.Certificate) -> KeyType | None:
    """The kind of the certificate's key; None where no scheme that we know uses it."""
    try:
        key = certificate.public_key()
    except (ValueError, UnsupportedAlgorithm):
        return None
    if isinstance(key, ec.EllipticCurvePublicKey):
        return _CURVES.get(key.curve.name)
    if isinstance(key, rsa.RSAPublicKey):
        # req: 4.3.3-8 4.3.3-10
        pss = certificate.public_key_algorithm_oid == PublicKeyAlgorithmOID.RSASSA_PSS
        return "rsa-pss" if pss else "rsa"
    return next((name for kind, name in _KEY_TYPES if isinstance(key, kind)), None)


def is_weak(certificate: x509.Certificate) -> bool:
    """Whether the certificate, whose key is of a known kind, has RSA of fewer than 2048 bits."""
    key = certificate.public_key()
    return isinstance(key, rsa.RSAPublicKey) and key.key_size < MINIMUM_RSA_BITS


def _rsa_hashes(certificate: x509.Certificate, kind: KeyType) -> tuple[HashAlgorithm, ...]:
    """The hashes for which the modulus has room (RFC 8017 §9.1.1) and the parameters allow."""
    key = certificate.public_key()
    size = (key.key_size + 6) // 8 if isinstance(key, rsa.RSAPublicKey) else 0
    hashes = tuple(h for h in (SHA256, SHA384, SHA512) if size >= 2 * h.digest_size + 2)
    if kind == "rsa":
        return hashes
    # req: 4.3.3-12
    parameters = _algorithm(certificate, _SUBJECT_KEY)[1:]
    return tuple(h for h in hashes if not parameters or parameters[0] in _PSS_PARAMETERS[h])


# -- the signatures of certificates ----------------------------------------------------------------


def chain_schemes(chain: Sequence[x509.Certificate]) -> tuple[SignatureScheme | None, ...]:
    """The scheme of each certificate's signature, None where it is none that has a code point.

    Self-signed certificates are left out: nobody needs to verify them (RFC 9846 §4.5.1.2). A PSS
    signature whose issuer is not in the chain counts as one by an rsaEncryption key.
    """
    # req: 4.5.1.2-9 4.5.1.2-10 4.3.3-17
    return tuple(
        signature_scheme(
            certificate,
            next((other for other in chain if other.subject == certificate.issuer), None),
        )
        for certificate in chain
        if not is_self_signed(certificate)
    )


def signature_scheme(
    certificate: x509.Certificate, issuer: x509.Certificate | None
) -> SignatureScheme | None:
    """The scheme that signed the certificate; ECDSA's by its hash, whatever the issuer's curve.

    None, too, where an issuer's key has PSS parameters and the signature was made with others.
    """
    oid = certificate.signature_algorithm_oid
    if oid != SignatureAlgorithmOID.RSASSA_PSS:
        return _SCHEMES_BY_OID.get(oid)
    # req: 4.3.3-7 4.3.3-9 4.3.3-11 4.3.3-12
    schemes = _RSAE
    if issuer is not None and key_type(issuer) == "rsa-pss":
        schemes = {algorithm: _PSS[algorithm] for algorithm in _rsa_hashes(issuer, "rsa-pss")}
    parameters = b"".join(_algorithm(certificate, _SIGNATURE)[1:])
    return next((schemes[h] for h in schemes if parameters in _PSS_PARAMETERS[h]), None)


def deprecated_hash(certificate: x509.Certificate) -> str | None:
    """MD5 or SHA1 where the certificate is signed with that (RFC 9846 §4.5.1.3), or None."""
    try:
        algorithm = certificate.signature_hash_algorithm
    except UnsupportedAlgorithm:
        return None
    return algorithm.name.upper() if isinstance(algorithm, hashes.MD5 | hashes.SHA1) else None


def is_self_signed(certificate: x509.Certificate) -> bool:
    """Whether the certificate's own key signed it, be it with MD5 or SHA-1."""
    return certificate.issuer == certificate.subject and (
        is_signed_by(certificate, certificate) or _has_deprecated_self_signature(certificate)
    )


def _has_deprecated_self_signature(certificate: x509.Certificate) -> bool:
    """The same for the hashes that the library no longer looks at in certificates."""
    if deprecated_hash(certificate) is None:
        return False
    algorithm: Any = certificate.signature_hash_algorithm
    signature, signed = certificate.signature, certificate.tbs_certificate_bytes
    try:
        key = certificate.public_key()
        if isinstance(key, rsa.RSAPublicKey):
            key.verify(signature, signed, padding.PKCS1v15(), algorithm)
        elif isinstance(key, ec.EllipticCurvePublicKey):
            key.verify(signature, signed, ec.ECDSA(algorithm))
        else:
            return False
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


def is_signed_by(certificate: x509.Certificate, issuer: x509.Certificate) -> bool:
    """Whether the names fit and the signature verifies."""
    try:
        certificate.verify_directly_issued_by(issuer)
    except (InvalidSignature, UnsupportedAlgorithm, ValueError, TypeError):
        return False
    return True


# -- AlgorithmIdentifiers, as octets ---------------------------------------------------------------

_SIGNATURE: Final = 1
_SUBJECT_KEY: Final = 5
"""Where the fields stand in a TBSCertificate, after the version (RFC 5280 §4.1)."""


def _algorithm(certificate: x509.Certificate, at: int) -> tuple[bytes, ...]:
    """The OID, and the parameters where there are any, of one field's AlgorithmIdentifier."""
    fields = list(der.children(certificate.tbs_certificate_bytes))
    if fields[0][0] == der.VERSION:
        del fields[0]
    field = fields[at] if at == _SIGNATURE else next(der.children(fields[at]))
    return tuple(der.children(field))


def _pss_parameters(algorithm: HashAlgorithm, oid: str) -> frozenset[bytes]:
    """RSASSA-PSS-params of RFC 4055 §3.1, as TLS fixes them: with and without the hash's NULL."""
    mgf1 = bytes.fromhex("06092a864886f70d010108")
    salt = der.encode(0x02, bytes((algorithm.digest_size,)))
    forms = []
    for null in (b"\x05\x00", b""):
        name = der.encode(der.SEQUENCE, bytes.fromhex(oid), null)
        mask = der.encode(der.SEQUENCE, mgf1, name)
        forms.append(
            der.encode(
                der.SEQUENCE,
                der.encode(0xA0, name),
                der.encode(0xA1, mask),
                der.encode(0xA2, salt),
            )
        )
    return frozenset(forms)


_PSS_PARAMETERS: Final = {
    algorithm: _pss_parameters(algorithm, oid)
    for algorithm, oid in (
        (SHA256, "0609608648016503040201"),
        (SHA384, "0609608648016503040202"),
        (SHA512, "0609608648016503040203"),
    )
}
