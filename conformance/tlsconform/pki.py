"""The certificates that the suite shows to what is under test: an authority, and its leaves."""

from __future__ import annotations

import datetime
import ipaddress
from collections.abc import Callable
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any, Final

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, padding, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, ExtensionOID, NameOID

from tlsconform.authentication import Credential
from tpmtls.backends.software_signer import SoftwareSigner
from tpmtls.codepoints import SignatureScheme

_S = SignatureScheme
_DAY: Final = datetime.timedelta(days=1)
_NAMES: Final = (
    x509.DNSName("localhost"),
    x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
    x509.IPAddress(ipaddress.ip_address("::1")),
)

KINDS: Final[dict[str, tuple[Callable[[], Any], tuple[SignatureScheme, ...]]]] = {
    "p256": (lambda: ec.generate_private_key(ec.SECP256R1()), (_S.ecdsa_secp256r1_sha256,)),
    "rsa": (
        lambda: rsa.generate_private_key(65537, 2048),
        (_S.rsa_pss_rsae_sha256, _S.rsa_pss_rsae_sha384, _S.rsa_pss_rsae_sha512),
    ),
    "rsa-pss": (
        lambda: rsa.generate_private_key(65537, 2048),
        (_S.rsa_pss_pss_sha256, _S.rsa_pss_pss_sha384, _S.rsa_pss_pss_sha512),
    ),
    "p384": (lambda: ec.generate_private_key(ec.SECP384R1()), (_S.ecdsa_secp384r1_sha384,)),
    "p521": (lambda: ec.generate_private_key(ec.SECP521R1()), (_S.ecdsa_secp521r1_sha512,)),
    "ed25519": (ed25519.Ed25519PrivateKey.generate, (_S.ed25519,)),
    "ed448": (ed448.Ed448PrivateKey.generate, (_S.ed448,)),
}
"""Kinds of keys: how one is made, and the schemes that it signs handshakes with."""

_ECDSA_SHA256: Final = bytes.fromhex("300a06082a8648ce3d040302")
_ECDSA_SHA1: Final = bytes.fromhex("300906072a8648ce3d0401")
_RSA_SHA256: Final = bytes.fromhex("300d06092a864886f70d01010b0500")
_RSA_MD5: Final = bytes.fromhex("300d06092a864886f70d0101040500")
_RSA_ENCRYPTION: Final = bytes.fromhex("300d06092a864886f70d0101010500")
_RSASSA_PSS: Final = bytes.fromhex("300b06092a864886f70d01010a")
"""AlgorithmIdentifiers in DER."""


class Authority:
    """A root that is made anew for each run, with the leaves that it has signed so far."""

    def __init__(self) -> None:
        self._key = ec.generate_private_key(ec.SECP256R1())
        self._leaves: dict[tuple[str, str], Credential] = {}
        self._keys: dict[tuple[str, str], Any] = {}

    @cached_property
    def certificate(self) -> x509.Certificate:
        """The root, self-signed."""
        builder = self._builder("tlsconform root", self._key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(True, None), critical=True)
        builder = builder.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        return builder.sign(self._key, hashes.SHA256())

    @cached_property
    def pem(self) -> bytes:
        """The root in PEM."""
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    def write_files(self, folder: Path) -> dict[str, str]:
        """Write what a client under test may want; the paths by their fields in its command.

        `ca` is the root, `cert` and `key` a client's certificate with its key, all in PEM.
        """
        client = self.credential("p256", "client")
        key = self._keys["p256", "client"].private_bytes(
            serialization.Encoding.PEM,
            serialization.PrivateFormat.PKCS8,
            serialization.NoEncryption(),
        )
        certificate = x509.load_der_x509_certificate(client.chain[0])
        contents = {
            "ca": self.pem,
            "cert": certificate.public_bytes(serialization.Encoding.PEM),
            "key": key,
        }
        for name, content in contents.items():
            (folder / f"{name}.pem").write_bytes(content)
        return {name: str(folder / f"{name}.pem") for name in contents}

    def credential(self, kind: str = "p256", usage: str = "server") -> Credential:
        """A leaf of that kind for localhost, as a server or a `client`; the same one each time."""
        known = self._leaves.get((kind, usage))
        if known is None:
            known = self._leaves[kind, usage] = self._issue(kind, usage)
        return known

    def key(self, kind: str = "p256", usage: str = "server") -> Any:
        """The private key of that leaf, for signatures that its signer does not make."""
        self.credential(kind, usage)
        return self._keys[kind, usage]

    def signed_with_sha1(self, kind: str = "p256", usage: str = "server") -> Credential:
        """The same leaf, but signed by the root with ECDSA and SHA-1."""
        own = self.credential(kind, usage)
        signed = self._resigned(own.chain[0], _ECDSA_SHA1, hashes.SHA1())  # noqa: S303 - on purpose
        return replace(own, chain=(signed,))

    def signed_with_md5(self, usage: str = "server") -> Credential:
        """A leaf on P-256, signed with RSA and MD5 by an issuer that the root has signed."""
        own = self.credential("p256", usage)
        name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tlsconform RSA issuer")])
        key = rsa.generate_private_key(65537, 2048)
        issuer = self._builder("tlsconform RSA issuer", key.public_key())
        issuer = issuer.add_extension(x509.BasicConstraints(True, None), critical=True)
        issuer = issuer.add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        above = issuer.sign(self._key, hashes.SHA256())
        leaf = x509.load_der_x509_certificate(own.chain[0])
        builder = x509.CertificateBuilder(name, leaf.subject, leaf.public_key())
        builder = builder.serial_number(x509.random_serial_number())
        builder = builder.not_valid_before(leaf.not_valid_before_utc)
        builder = builder.not_valid_after(leaf.not_valid_after_utc)
        for each in leaf.extensions:
            if each.oid != ExtensionOID.AUTHORITY_KEY_IDENTIFIER:
                builder = builder.add_extension(each.value, each.critical)
        sha256 = builder.sign(key, hashes.SHA256())
        inside = sha256.tbs_certificate_bytes.replace(_RSA_SHA256, _RSA_MD5)
        signature = key.sign(inside, padding.PKCS1v15(), hashes.MD5())  # noqa: S303 - on purpose
        signed = _der(0x30, inside + _RSA_MD5 + _der(0x03, b"\0" + signature))
        chain = (signed, above.public_bytes(serialization.Encoding.DER))
        return replace(own, chain=chain)

    def _resigned(
        self,
        der: bytes,
        algorithm: bytes,
        digest: hashes.HashAlgorithm,
        *changes: tuple[bytes, bytes],
    ) -> bytes:
        """A certificate with the algorithm and parts of its inside replaced, signed anew."""
        inside = _content(x509.load_der_x509_certificate(der).tbs_certificate_bytes)
        for old, new in ((_ECDSA_SHA256, algorithm), *changes):
            inside = inside.replace(old, new)
        inside = _der(0x30, inside)
        signature = self._key.sign(inside, ec.ECDSA(digest))
        return _der(0x30, inside + algorithm + _der(0x03, b"\0" + signature))

    def _issue(self, kind: str, usage: str) -> Credential:
        make, schemes = KINDS[kind]
        key = self._keys[kind, usage] = make()
        oid = (
            ExtendedKeyUsageOID.SERVER_AUTH
            if usage == "server"
            else ExtendedKeyUsageOID.CLIENT_AUTH
        )
        builder = self._builder(f"tlsconform {usage} {kind}", key.public_key())
        builder = builder.add_extension(x509.BasicConstraints(False, None), critical=True)
        builder = builder.add_extension(_usage(digital_signature=True), critical=True)
        builder = builder.add_extension(x509.ExtendedKeyUsage([oid]), critical=False)
        builder = builder.add_extension(x509.SubjectAlternativeName(_NAMES), critical=False)
        leaf = builder.sign(self._key, hashes.SHA256())
        der = leaf.public_bytes(serialization.Encoding.DER)
        if kind == "rsa-pss":
            der = self._resigned(der, _ECDSA_SHA256, hashes.SHA256(), _pss_only(key.public_key()))
        return Credential((der,), SoftwareSigner(key), schemes)

    def _builder(self, name: str, public_key: Any) -> x509.CertificateBuilder:
        now = datetime.datetime.now(datetime.UTC)
        subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
        issuer = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "tlsconform root")])
        own = x509.SubjectKeyIdentifier.from_public_key(public_key)
        authority = x509.AuthorityKeyIdentifier.from_issuer_public_key(self._key.public_key())
        return (
            x509.CertificateBuilder()
            .subject_name(subject)
            .issuer_name(issuer)
            .public_key(public_key)
            .serial_number(x509.random_serial_number())
            .not_valid_before(now - _DAY)
            .not_valid_after(now + 30 * _DAY)
            .add_extension(own, critical=False)
            .add_extension(authority, critical=False)
        )


def _pss_only(public_key: Any) -> tuple[bytes, bytes]:
    """The key's SubjectPublicKeyInfo, and the same under the OID RSASSA-PSS."""
    info = public_key.public_bytes(
        serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo
    )
    return info, _der(0x30, _RSASSA_PSS + _content(info).removeprefix(_RSA_ENCRYPTION))


def _der(tag: int, content: bytes) -> bytes:
    """A DER value of that tag."""
    size = len(content)
    octets = size.to_bytes((size.bit_length() + 7) // 8 or 1, "big")
    length = octets if size < 0x80 else bytes((0x80 | len(octets),)) + octets
    return bytes((tag,)) + length + content


def _content(der: bytes) -> bytes:
    """What a DER value holds."""
    return der[2 + (der[1] & 0x7F if der[1] & 0x80 else 0) :]


def _usage(**set_bits: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: set_bits.get(name, False) for name in names})
