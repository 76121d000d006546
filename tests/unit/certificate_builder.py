"""Certificates with any single property changed, for the tests of `tpmtls.certificates`."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import cache
from typing import Any

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from tests.pki import KINDS
from tpmtls.certificates import TrustStore, der, verify_client_chain, verify_server_chain
from tpmtls.codepoints import SignatureScheme

NOW = datetime.datetime(2031, 5, 6, 7, 8, 9, tzinfo=datetime.UTC)
DAY = datetime.timedelta(days=1)
SERVER, CLIENT = ExtendedKeyUsageOID.SERVER_AUTH, ExtendedKeyUsageOID.CLIENT_AUTH
ALL_SCHEMES = tuple(SignatureScheme)

SHA1_RSA = bytes.fromhex("300d06092a864886f70d0101050500")
SHA1_ECDSA = bytes.fromhex("300906072a8648ce3d0401")
MD5_RSA = bytes.fromhex("300d06092a864886f70d0101040500")
_RSA_KEY = bytes.fromhex("300d06092a864886f70d0101010500")


@cache
def key(kind: str, number: int = 0) -> Any:
    """A private key of the kind, always the same one for a number."""
    del number
    if kind == "rsa-1024":
        return rsa.generate_private_key(65537, 1024)
    if kind == "secp256k1":
        return ec.generate_private_key(ec.SECP256K1())
    return KINDS[kind]()


def name(common_name: str) -> x509.Name:
    return x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])


def usage(*, sign: bool = False, certify: bool = False) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=sign,
        content_commitment=False,
        key_encipherment=not sign and not certify,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=certify,
        crl_sign=False,
        encipher_only=False,
        decipher_only=False,
    )


def general(text: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(text))
    except ValueError:
        return x509.DNSName(text)


@dataclass(frozen=True)
class Holder:
    """A certificate and its private key."""

    certificate: x509.Certificate
    key: Any
    kind: str

    @property
    def store(self) -> TrustStore:
        return TrustStore.load([self.certificate])


def issue(
    common_name: str,
    kind: str = "p256",
    issuer: Holder | None = None,
    *,
    number: int = 0,
    ca: bool | None = False,
    path_length: int | None = None,
    critical_constraints: bool = True,
    key_usage: x509.KeyUsage | None = None,
    usages: Sequence[x509.ObjectIdentifier] | None = None,
    names: Sequence[str] = (),
    starts: datetime.datetime = NOW - DAY,
    ends: datetime.datetime = NOW + DAY,
    more: Sequence[tuple[x509.ExtensionType, bool]] = (),
    identifiers: bool = True,
    signed_with: Any = None,
) -> Holder:
    """A certificate; by its own key where there is no `issuer`. `signed_with` falsifies that."""
    private = key(kind, number)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name(common_name))
        .issuer_name(name(common_name) if issuer is None else issuer.certificate.subject)
        .public_key(private.public_key())
        .serial_number(1 + number)
        .not_valid_before(starts)
        .not_valid_after(ends)
    )
    signer = private if issuer is None else issuer.key
    extensions: list[tuple[x509.ExtensionType, bool]] = []
    if identifiers:
        subject_id = x509.SubjectKeyIdentifier.from_public_key(private.public_key())
        issuer_id = x509.AuthorityKeyIdentifier.from_issuer_public_key(signer.public_key())
        extensions += [(subject_id, False), (issuer_id, False)]
    if ca is not None:
        constraints = x509.BasicConstraints(ca=ca, path_length=path_length)
        extensions.append((constraints, critical_constraints))
    if key_usage is not None:
        extensions.append((key_usage, True))
    if usages is not None:
        extensions.append((x509.ExtendedKeyUsage(usages), False))
    if names:
        extensions.append((x509.SubjectAlternativeName([general(n) for n in names]), False))
    for extension, critical in (*extensions, *more):
        builder = builder.add_extension(extension, critical=critical)
    signer = signed_with or signer
    digest = (
        hashes.SHA256()
        if isinstance(signer, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey)
        else None
    )
    certificate = builder.sign(signer, digest)
    if kind == "rsa-pss":
        certificate = with_key_algorithm(certificate, _pss_key(), signer)
    if issuer is not None and issuer.kind == "rsa-pss":
        certificate = pss_signed(certificate, signer)
    return Holder(certificate, private, kind)


def authority(common_name: str = "root", kind: str = "p256", **changes: Any) -> Holder:
    """A root; an intermediate where `issuer` is given."""
    defaults: dict[str, Any] = {"ca": True, "key_usage": usage(certify=True)}
    return issue(common_name, kind, **(defaults | changes))


def leaf(issuer: Holder | None, kind: str = "p256", **changes: Any) -> Holder:
    """A server's certificate for host.example."""
    defaults: dict[str, Any] = {
        "names": ("host.example",),
        "usages": (SERVER, CLIENT),
        "key_usage": usage(sign=True),
        "number": 9,
    }
    return issue("host", kind, issuer, **(defaults | changes))


# -- verifying them --------------------------------------------------------------------------------


def verify(
    *chain: Holder | x509.Certificate,
    root: Holder | TrustStore,
    server_name: str = "host.example",
    now: datetime.datetime = NOW,
    schemes: Sequence[SignatureScheme] = ALL_SCHEMES,
) -> None:
    store = root if isinstance(root, TrustStore) else root.store
    verify_server_chain(certificates(chain), store, server_name, now, schemes)


def verify_client(
    *chain: Holder | x509.Certificate,
    root: Holder,
    schemes: Sequence[SignatureScheme] = ALL_SCHEMES,
) -> None:
    verify_client_chain(certificates(chain), root.store, NOW, schemes)


def certificates(chain: Sequence[Holder | x509.Certificate]) -> list[x509.Certificate]:
    return [link.certificate if isinstance(link, Holder) else link for link in chain]


# -- what the library cannot write -----------------------------------------------------------------


def tlv(tag: int, *parts: bytes) -> bytes:
    """An element of any length."""
    octets = b"".join(parts)
    if len(octets) < 0x80:
        return bytes((tag, len(octets))) + octets
    length = len(octets).to_bytes((len(octets).bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + octets


def resigned(
    certificate: x509.Certificate,
    algorithm: bytes,
    sign: Callable[[bytes], bytes],
    edit: Callable[[list[bytes]], None] = lambda fields: None,
) -> x509.Certificate:
    """The certificate with another signature algorithm, and its fields edited."""
    return x509.load_der_x509_certificate(resigned_octets(certificate, algorithm, sign, edit))


def resigned_octets(
    certificate: x509.Certificate,
    algorithm: bytes,
    sign: Callable[[bytes], bytes],
    edit: Callable[[list[bytes]], None] = lambda fields: None,
) -> bytes:
    """The same in DER, whether or not the library can read it."""
    fields = list(der.children(certificate.tbs_certificate_bytes))
    fields[2] = algorithm
    edit(fields)
    tbs = tlv(der.SEQUENCE, *fields)
    signature = tlv(der.BIT_STRING, b"\0", sign(tbs))
    return tlv(der.SEQUENCE, tbs, algorithm, signature)


def rsa_signed(
    certificate: x509.Certificate, private: rsa.RSAPrivateKey, algorithm: bytes
) -> x509.Certificate:
    """Signed with SHA-1 or MD5 under PKCS#1 v1.5."""
    digest = hashes.MD5() if algorithm == MD5_RSA else hashes.SHA1()
    return resigned(certificate, algorithm, lambda t: private.sign(t, padding.PKCS1v15(), digest))


def pss_algorithm(
    salt: int = 32,
    null: bytes = b"\x05\x00",
    digest: str = "0609608648016503040201",
    length: str | None = None,
) -> bytes:
    """AlgorithmIdentifier of RSASSA-PSS with SHA-256; `length` is the salt's, as it is encoded."""
    name = tlv(0x30, bytes.fromhex(digest), null)
    mask = tlv(0x30, bytes.fromhex("06092a864886f70d010108"), name)
    octets = tlv(0xA2, tlv(0x02, bytes((salt,)))) if length is None else bytes.fromhex(length)
    parameters = tlv(0x30, tlv(0xA0, name), tlv(0xA1, mask), octets)
    return tlv(0x30, bytes.fromhex("06092a864886f70d01010a"), parameters)


def pss_signed(
    certificate: x509.Certificate, private: rsa.RSAPrivateKey, salt: int = 32, version: int = 3
) -> x509.Certificate:
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), salt)
    return resigned(
        certificate,
        pss_algorithm(salt),
        lambda tbs: private.sign(tbs, pss, hashes.SHA256()),
        _to_version_1 if version == 1 else lambda fields: None,
    )


def _pss_key() -> bytes:
    return bytes.fromhex("300b06092a864886f70d01010a")


def with_key_algorithm(
    certificate: x509.Certificate, algorithm: bytes, signer: Any
) -> x509.Certificate:
    """The RSA key marked with another AlgorithmIdentifier."""

    def edit(fields: list[bytes]) -> None:
        assert _RSA_KEY in fields[6]
        _, bits = der.children(fields[6])
        fields[6] = tlv(0x30, algorithm, bits)

    return _again(certificate, signer, edit)


def version_1(certificate: x509.Certificate, signer: Any) -> x509.Certificate:
    """A version 1 certificate."""
    return _again(certificate, signer, _to_version_1)


def _to_version_1(fields: list[bytes]) -> None:
    """Without the version's field, and without extensions."""
    fields[:] = fields[1:7]


def _again(
    certificate: x509.Certificate, signer: Any, edit: Callable[[list[bytes]], None]
) -> x509.Certificate:
    algorithm = list(der.children(certificate.tbs_certificate_bytes))[2]

    def sign(tbs: bytes) -> bytes:
        if isinstance(signer, rsa.RSAPrivateKey):
            return signer.sign(tbs, padding.PKCS1v15(), hashes.SHA256())
        if isinstance(signer, ec.EllipticCurvePrivateKey):
            return signer.sign(tbs, ec.ECDSA(hashes.SHA256()))
        assert isinstance(signer, ed25519.Ed25519PrivateKey)
        return signer.sign(tbs)

    return resigned(certificate, algorithm, sign, edit)


def octets(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.DER)


def pem(*certificates: x509.Certificate) -> bytes:
    return b"".join(c.public_bytes(serialization.Encoding.PEM) for c in certificates)
