"""Certificate requests, and self-signed certificates, for keys that we cannot see.

`cryptography` signs with any object that implements its interface of a private key. Ours passes
what is to be signed to a `Signer`, so that the key may be in a TPM; of the DER, nothing is ours.
"""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any, Final, NoReturn, Protocol, TypeVar

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tpmtls.algorithms import SCHEMES
from tpmtls.backends.software_signer import HASHES, pss_padding
from tpmtls.codepoints import SignatureScheme
from tpmtls.violations import ConfigurationError

_EARLIER: Final = timedelta(minutes=5)
"""For clocks that are slow."""
_NAMES: Final = "DNS:localhost, IP:127.0.0.1, email:me@example.org or URI:https://example.org/"


class KnownSigner(Protocol):
    """A signer whose public key is at hand."""

    public_key: Any
    schemes: Sequence[SignatureScheme]

    def sign(self, scheme: SignatureScheme, data: bytes) -> bytes:
        """As `backends.base.Signer`."""


# -- who is named ----------------------------------------------------------------------------------


def parse_subject(text: str) -> x509.Name:
    """A distinguished name in the notation of RFC 4514, CN=localhost,O=Example."""
    try:
        return x509.Name.from_rfc4514_string(text)
    except ValueError:
        raise ConfigurationError(
            f"{text!r} is not a subject, such as CN=localhost,O=Example"
        ) from None


def parse_name(text: str) -> x509.GeneralName:
    """A host name, or an IP address."""
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return parse_alternative(f"DNS:{text}")


def parse_alternative(text: str) -> x509.GeneralName:
    """A subject alternative name as OpenSSL writes it, DNS:localhost."""
    kind, _, value = text.partition(":")
    try:
        if kind == "DNS" and value and " " not in value:
            return x509.DNSName(value)
        if kind == "IP":
            return x509.IPAddress(ipaddress.ip_address(value))
        if kind == "email" and "@" in value:
            return x509.RFC822Name(value)
        if kind == "URI" and ":" in value:
            return x509.UniformResourceIdentifier(value)
    except ValueError:
        pass
    raise ConfigurationError(f"{text!r} is not a name of a subject, such as {_NAMES}")


def subject_for(name: x509.GeneralName) -> x509.Name:
    """The subject of a certificate for that name: its common name, where it has the length."""
    common = str(name.value)
    if len(common) > 64:  # ub-common-name of RFC 5280 Appendix A
        return x509.Name([])
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common)])


# -- what is made ----------------------------------------------------------------------------------


def certificate_request(
    signer: KnownSigner, subject: x509.Name, names: Sequence[x509.GeneralName]
) -> x509.CertificateSigningRequest:
    """A request (PKCS #10) for a certificate of the signer's key."""
    builder = x509.CertificateSigningRequestBuilder().subject_name(subject)
    builder = builder.add_extension(_KEY_USAGE, critical=True)
    if names:
        builder = _with_names(builder, subject, names)
    request: x509.CertificateSigningRequest = _sign(builder, signer)
    return request


def self_signed(
    signer: KnownSigner,
    subject: x509.Name,
    names: Sequence[x509.GeneralName],
    *,
    now: datetime,
    days: int,
) -> x509.Certificate:
    """A certificate that the signer's key vouches for by itself, for servers and for clients."""
    key = signer.public_key
    identifier = x509.SubjectKeyIdentifier.from_public_key(key)
    usages = [ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH]
    builder = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _EARLIER)
        .not_valid_after(now + timedelta(days=days))
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_KEY_USAGE, critical=True)
        .add_extension(x509.ExtendedKeyUsage(usages), critical=False)
        .add_extension(identifier, critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_subject_key_identifier(identifier),
            critical=False,
        )
    )
    if names:
        builder = _with_names(builder, subject, names)
    certificate: x509.Certificate = _sign(builder, signer)
    return certificate


_KEY_USAGE: Final = x509.KeyUsage(
    digital_signature=True,  # all that TLS 1.3 uses a certificate's key for
    content_commitment=False,
    key_encipherment=False,
    data_encipherment=False,
    key_agreement=False,
    key_cert_sign=False,
    crl_sign=False,
    encipher_only=False,
    decipher_only=False,
)

Builder = TypeVar("Builder", x509.CertificateBuilder, x509.CertificateSigningRequestBuilder)


def _with_names(builder: Builder, subject: x509.Name, names: Sequence[x509.GeneralName]) -> Builder:
    """Critical where there is no subject (RFC 5280 §4.2.1.6)."""
    unique = list(dict.fromkeys(names))
    return builder.add_extension(x509.SubjectAlternativeName(unique), critical=not subject.rdns)


def _sign(builder: Any, signer: KnownSigner) -> Any:
    # req: 4.5.1.3-6
    scheme = _scheme(signer)
    row = SCHEMES[scheme]
    if row.hash is None:
        raise ConfigurationError("only ECDSA and RSA keys can be used here")
    algorithm = HASHES[row.hash.name]
    if row.padding is None:
        return builder.sign(_EcKey(signer, scheme), algorithm)
    pad = pss_padding(algorithm) if row.padding == "pss" else padding.PKCS1v15()
    return builder.sign(_RsaKey(signer, scheme), algorithm, rsa_padding=pad)


def _scheme(signer: KnownSigner) -> SignatureScheme:
    """The scheme that most authorities take: for RSA the padding of PKCS #1 v1.5, if possible."""
    schemes = getattr(signer, "certificate_schemes", signer.schemes)
    return next((s for s in schemes if SCHEMES[s].padding == "pkcs1"), schemes[0])


# -- a signer as a private key ---------------------------------------------------------------------


class _Key:
    """What both kinds of keys share: they sign, by one scheme, and that is all."""

    def __init__(self, signer: KnownSigner, scheme: SignatureScheme) -> None:
        self._signer = signer
        self._scheme = scheme

    def public_key(self) -> Any:
        """Of the signer."""
        return self._signer.public_key

    @property
    def key_size(self) -> int:
        """In bits."""
        size: int = self._signer.public_key.key_size
        return size

    def sign(self, data: Any, *_: object) -> bytes:
        """By the scheme for which `_sign` chose the algorithms that are passed here."""
        return self._signer.sign(self._scheme, bytes(data))

    def _cannot(self, *_: object) -> NoReturn:
        raise UnsupportedAlgorithm("the private key is not at hand")

    decrypt = exchange = private_numbers = private_bytes = __copy__ = __deepcopy__ = _cannot


class _EcKey(_Key, ec.EllipticCurvePrivateKey):
    @property
    def curve(self) -> ec.EllipticCurve:
        curve: ec.EllipticCurve = self._signer.public_key.curve
        return curve


class _RsaKey(_Key, rsa.RSAPrivateKey):
    pass
