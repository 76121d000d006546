"""A small public-key infrastructure for tests: two roots, an intermediate, leaves of every kind.

Everything is made on first use and kept as PEM files in one folder, so that programs can read it.
The certificates satisfy the Web PKI profile that `cryptography.x509.verification` demands; those of
`Pki.bad` break it, or RFC 9846, in exactly the one way their name says.
"""

from __future__ import annotations

import base64
import datetime
import ipaddress
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.hazmat.primitives.asymmetric.types import CertificateIssuerPrivateKeyTypes
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

PrivateKey = CertificateIssuerPrivateKeyTypes

NAMES = ("localhost", "127.0.0.1", "::1")
DAY = datetime.timedelta(days=1)

# --- kinds of keys ------------------------------------------------------------------------------

KINDS: dict[str, Callable[[], PrivateKey]] = {
    "rsa": partial(rsa.generate_private_key, 65537, 2048),
    "rsa-pss": partial(rsa.generate_private_key, 65537, 2048),  # made id-RSASSA-PSS when written
    "p256": partial(ec.generate_private_key, ec.SECP256R1()),
    "p384": partial(ec.generate_private_key, ec.SECP384R1()),
    "p521": partial(ec.generate_private_key, ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
}

try:
    from cryptography.hazmat.primitives.asymmetric import mldsa
except ImportError:  # older than the first release that has them
    pass
else:
    KINDS |= {
        "mldsa44": mldsa.MLDSA44PrivateKey.generate,
        "mldsa65": mldsa.MLDSA65PrivateKey.generate,
        "mldsa87": mldsa.MLDSA87PrivateKey.generate,
    }

SCHEMES: dict[str, tuple[str, ...]] = {
    "rsa": ("rsa_pss_rsae_sha256", "rsa_pss_rsae_sha384", "rsa_pss_rsae_sha512"),
    "rsa-pss": ("rsa_pss_pss_sha256", "rsa_pss_pss_sha384", "rsa_pss_pss_sha512"),
    "p256": ("ecdsa_secp256r1_sha256",),
    "p384": ("ecdsa_secp384r1_sha384",),
    "p521": ("ecdsa_secp521r1_sha512",),
    "ed25519": ("ed25519",),
    "ed448": ("ed448",),
    "mldsa44": ("mldsa44",),
    "mldsa65": ("mldsa65",),
    "mldsa87": ("mldsa87",),
}
"""What a key of each kind can sign CertificateVerify with, by IANA name."""

CA_SCHEME = "ecdsa_secp256r1_sha256"
"""What the authorities sign certificates with."""


@dataclass(frozen=True)
class Credential:
    """A certificate, its chain up to but without the root, and its key, as PEM files."""

    name: str
    kind: str
    chain: Path
    """The leaf, then its intermediates."""
    intermediates: Path | None
    """The intermediates alone, where there are any."""
    key: Path
    certificate: x509.Certificate
    private_key: PrivateKey


# --- what a certificate says --------------------------------------------------------------------


@dataclass(frozen=True)
class Profile:
    """What a leaf certificate says; the variants for negative tests change one field each."""

    common_name: str
    names: Sequence[str] = NAMES
    usages: Sequence[x509.ObjectIdentifier] = (
        ExtendedKeyUsageOID.SERVER_AUTH,
        ExtendedKeyUsageOID.CLIENT_AUTH,
    )
    starts_in: datetime.timedelta = -DAY
    ends_in: datetime.timedelta = 30 * DAY
    digital_signature: bool = True


def _general_name(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)


def _distinguished(common_name: str) -> x509.Name:
    return x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "tpmtls tests"),
            x509.NameAttribute(NameOID.COMMON_NAME, common_name),
        ]
    )


def _key_usage(*, authority: bool, digital_signature: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=digital_signature,
        content_commitment=not authority and not digital_signature,
        key_encipherment=False,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


def _digest(key: PrivateKey) -> hashes.SHA256 | None:
    return (
        hashes.SHA256() if isinstance(key, ec.EllipticCurvePrivateKey | rsa.RSAPrivateKey) else None
    )


@dataclass(frozen=True)
class Authority:
    """A certificate that signs others; the root signs itself."""

    certificate: x509.Certificate
    private_key: PrivateKey

    @classmethod
    def root(cls, common_name: str) -> Authority:
        key = KINDS["p256"]()
        name = _distinguished(common_name)
        builder = cls._ca_builder(name, key).issuer_name(name)
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(key.public_key())
        return cls(builder.add_extension(identifier, critical=False).sign(key, _digest(key)), key)

    def intermediate(self, common_name: str) -> Authority:
        key = KINDS["p256"]()
        return Authority(self._sign(self._ca_builder(_distinguished(common_name), key)), key)

    def leaf(self, key: PrivateKey, profile: Profile) -> x509.Certificate:
        return self._sign(_leaf_builder(key, profile))

    def _sign(self, builder: x509.CertificateBuilder) -> x509.Certificate:
        identifier = x509.AuthorityKeyIdentifier.from_issuer_public_key(
            self.private_key.public_key()
        )
        return (
            builder.issuer_name(self.certificate.subject)
            .add_extension(identifier, critical=False)
            .sign(self.private_key, _digest(self.private_key))
        )

    @staticmethod
    def _ca_builder(name: x509.Name, key: PrivateKey) -> x509.CertificateBuilder:
        return (
            _builder(name, key, -2 * DAY, 60 * DAY)
            .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
            .add_extension(_key_usage(authority=True, digital_signature=False), critical=True)
        )


def _builder(
    name: x509.Name, key: PrivateKey, starts_in: datetime.timedelta, ends_in: datetime.timedelta
) -> x509.CertificateBuilder:
    now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
    return (
        x509.CertificateBuilder()
        .subject_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now + starts_in)
        .not_valid_after(now + ends_in)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )


def _leaf_builder(key: PrivateKey, profile: Profile) -> x509.CertificateBuilder:
    name = _distinguished(profile.common_name)
    return (
        _builder(name, key, profile.starts_in, profile.ends_in)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(
            _key_usage(authority=False, digital_signature=profile.digital_signature), critical=True
        )
        .add_extension(x509.ExtendedKeyUsage(list(profile.usages)), critical=False)
        .add_extension(
            x509.SubjectAlternativeName([_general_name(name) for name in profile.names]),
            critical=False,
        )
    )


# --- RSA keys for PSS alone: `cryptography` reads them, but does not write their identifier ------

_RSA_ENCRYPTION = bytes.fromhex("300d06092a864886f70d0101010500")
_RSASSA_PSS = bytes.fromhex("300b06092a864886f70d01010a")


def _tlv(tag: int, content: bytes) -> bytes:
    if len(content) < 0x80:
        return bytes([tag, len(content)]) + content
    length = len(content).to_bytes((len(content).bit_length() + 7) // 8)
    return bytes([tag, 0x80 | len(length)]) + length + content


def _children(der: bytes) -> list[bytes]:
    """The elements inside one DER element."""

    def content(at: int) -> tuple[int, int]:
        first = der[at + 1]
        if first < 0x80:
            return at + 2, at + 2 + first
        start = at + 2 + (first & 0x7F)
        return start, start + int.from_bytes(der[at + 2 : start])

    at, end = content(0)
    found = []
    while at < end:
        following = content(at)[1]
        found.append(der[at:following])
        at = following
    return found


def _pss_certificate(plain: x509.Certificate, issuer: Authority) -> x509.Certificate:
    """The same certificate, its key marked id-RSASSA-PSS, signed anew."""
    tbs, algorithm, _signature = _children(plain.public_bytes(serialization.Encoding.DER))
    fields = [
        _tlv(0x30, b"".join([_RSASSA_PSS, *_children(field)[1:]]))
        if field[0] == 0x30 and _RSA_ENCRYPTION in field[:24]
        else field
        for field in _children(tbs)
    ]
    tbs = _tlv(0x30, b"".join(fields))
    assert isinstance(issuer.private_key, ec.EllipticCurvePrivateKey)
    signature = issuer.private_key.sign(tbs, ec.ECDSA(hashes.SHA256()))
    der = _tlv(0x30, tbs + algorithm + _tlv(0x03, b"\0" + signature))
    return x509.load_der_x509_certificate(der)


def _key_pem(key: PrivateKey, kind: str) -> bytes:
    pem = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    if kind != "rsa-pss":
        return pem
    der = key.private_bytes(
        serialization.Encoding.DER,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    version, _algorithm, *rest = _children(der)
    return _pem("PRIVATE KEY", _tlv(0x30, b"".join([version, _RSASSA_PSS, *rest])))


def _pem(label: str, der: bytes) -> bytes:
    lines = base64.encodebytes(der).replace(b"\n", b"")
    body = b"\n".join(lines[at : at + 64] for at in range(0, len(lines), 64))
    return b"-----BEGIN %b-----\n%b\n-----END %b-----\n" % (label.encode(), body, label.encode())


# --- the infrastructure -------------------------------------------------------------------------

BAD: dict[str, Callable[[Profile], Profile]] = {
    "expired": lambda profile: replace(profile, starts_in=-3 * DAY, ends_in=-DAY),
    "not-yet-valid": lambda profile: replace(profile, starts_in=DAY),
    "wrong-name": lambda profile: replace(profile, names=("elsewhere.example", "192.0.2.1")),
    "wrong-usage": lambda profile: replace(profile, usages=(ExtendedKeyUsageOID.CODE_SIGNING,)),
    "no-signing": lambda profile: replace(profile, digital_signature=False),
    "self-signed": lambda profile: profile,
    "unknown-authority": lambda profile: profile,
}
"""What can be wrong with a certificate; the last two are signed by someone else."""


class Pki:
    """The authorities and every certificate the tests ask for, made once, kept in `folder`."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.root = Authority.root("root")
        self.stranger = Authority.root("a root nobody trusts")
        self.intermediate = self.root.intermediate("intermediate")
        self.ca = self._write("root.pem", _certificate_pem(self.root.certificate))
        self.other_ca = self._write("stranger.pem", _certificate_pem(self.stranger.certificate))
        self._made: dict[str, Credential] = {}

    def server(self, kind: str = "p256") -> Credential:
        """A certificate for localhost, signed by the root."""
        return self._credential(f"server-{kind}", kind, Profile("localhost"))

    def client(self, kind: str = "p256") -> Credential:
        """A certificate for a client, signed by the root; its name is `client-<kind>`."""
        name = f"client-{kind}"
        usages = (ExtendedKeyUsageOID.CLIENT_AUTH,)
        names = ("client.example",)
        return self._credential(name, kind, Profile(name, names=names, usages=usages))

    def chained(self, kind: str = "p256") -> Credential:
        """A certificate for localhost, signed by an intermediate authority."""
        return self._credential(f"chained-{kind}", kind, Profile("localhost"), self.intermediate)

    def named(self, *names: str, kind: str = "p256") -> Credential:
        """A certificate for other names."""
        return self._credential(f"named-{names[0]}-{kind}", kind, Profile(names[0], names=names))

    def bad(self, what: str, kind: str = "p256") -> Credential:
        """A certificate for localhost, wrong in the way that `what` (one of BAD) says."""
        profile = BAD[what](Profile("localhost"))
        issuer = {"self-signed": None, "unknown-authority": self.stranger}.get(what, self.root)
        return self._credential(f"bad-{what}-{kind}", kind, profile, issuer)

    _THE_ROOT = object()

    def _credential(
        self, name: str, kind: str, profile: Profile, issuer: Authority | object | None = _THE_ROOT
    ) -> Credential:
        if name not in self._made:
            authority = self.root if issuer is self._THE_ROOT else issuer
            assert authority is None or isinstance(authority, Authority)
            self._made[name] = self._make(name, kind, profile, authority)
        return self._made[name]

    def _make(self, name: str, kind: str, profile: Profile, issuer: Authority | None) -> Credential:
        key = KINDS[kind]()
        if issuer is None:
            builder = _leaf_builder(key, profile)
            certificate = builder.issuer_name(_distinguished(profile.common_name)).sign(
                key, _digest(key)
            )
        else:
            certificate = issuer.leaf(key, profile)
            if kind == "rsa-pss":
                certificate = _pss_certificate(certificate, issuer)
        chain, intermediates = _certificate_pem(certificate), None
        if issuer is self.intermediate:
            rest = _certificate_pem(issuer.certificate)
            chain, intermediates = chain + rest, self._write("intermediate.pem", rest)
        return Credential(
            name=name,
            kind=kind,
            chain=self._write(f"{name}.pem", chain),
            intermediates=intermediates,
            key=self._write(f"{name}.key", _key_pem(key, kind)),
            certificate=certificate,
            private_key=key,
        )

    def _write(self, name: str, content: bytes) -> Path:
        path = self.folder / name
        path.write_bytes(content)
        return path


def _certificate_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)
