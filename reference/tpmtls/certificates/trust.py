"""Certificates read from files and from peers, and the anchors of trust."""

from __future__ import annotations

import contextlib
import os
import re
import warnings
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import cache, cached_property, lru_cache
from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.utils import CryptographyDeprecationWarning
from cryptography.x509.verification import Store

from tpmtls.codepoints import AlertDescription as Alert
from tpmtls.violations import CertificateError, ConfigurationError

MAX_CERTIFICATES: Final = 16
"""Certificates that a peer may send in one chain."""

Source = str | os.PathLike[str] | bytes

_PEM: Final = re.compile(rb"-----BEGIN CERTIFICATE-----[^-]+-----END CERTIFICATE-----")
_BUNDLES: Final = (
    "/etc/ssl/certs/ca-certificates.crt",  # Debian, Alpine, Arch
    "/etc/pki/tls/certs/ca-bundle.crt",  # Fedora
    "/etc/ssl/cert.pem",  # BSD, macOS
)

# What reading a certificate can raise: its fields are parsed when they are first looked at.
_MALFORMED: Final = (
    ValueError,
    TypeError,
    x509.InvalidVersion,
    x509.DuplicateExtension,
    x509.UnsupportedGeneralNameType,
    Warning,  # where the caller made errors of warnings
)


# -- trust anchors ---------------------------------------------------------------------------------


@dataclass(frozen=True)
class TrustStore:
    """The certificates taken on trust. Immutable, and made for many verifications."""

    certificates: tuple[x509.Certificate, ...]

    def __post_init__(self) -> None:
        if not self.certificates:
            raise ConfigurationError("a trust store needs at least one certificate")

    @classmethod
    def system(cls) -> TrustStore:
        """The trust anchors of the machine: OpenSSL's defaults, its environment variables too.

        Raises ConfigurationError where there are none.
        """
        return _system_store()

    @classmethod
    def load(cls, source: Source | Sequence[x509.Certificate]) -> TrustStore:
        """From a PEM file's path, PEM octets, or certificates."""
        if isinstance(source, str | os.PathLike | bytes):
            source = _load_pem(source, "trust anchors")
        return cls(tuple(dict.fromkeys(source)))

    @cached_property
    def subjects(self) -> tuple[bytes, ...]:
        """The names of the anchors, in DER: what certificate_authorities carries."""
        return tuple(dict.fromkeys(anchor.subject.public_bytes() for anchor in self.certificates))

    @cached_property
    def verifier_store(self) -> Store:
        """The same, as `cryptography.x509.verification` wants it."""
        return Store(list(self.certificates))

    def __contains__(self, certificate: x509.Certificate) -> bool:
        return certificate in self._members

    def issuers(self, certificate: x509.Certificate) -> tuple[x509.Certificate, ...]:
        """The anchors that bear the name of the certificate's issuer."""
        return self._by_subject.get(certificate.issuer, ())

    @cached_property
    def _members(self) -> frozenset[x509.Certificate]:
        return frozenset(self.certificates)

    @cached_property
    def _by_subject(self) -> Mapping[x509.Name, tuple[x509.Certificate, ...]]:
        index = defaultdict[x509.Name, tuple[x509.Certificate, ...]](tuple)
        for anchor in self.certificates:
            index[anchor.subject] += (anchor,)
        return dict(index)


@cache
def _system_store() -> TrustStore:
    import ssl  # for where OpenSSL looks, and nothing else

    paths = ssl.get_default_verify_paths()
    bundles: tuple[str | None, ...] = (paths.cafile, *_BUNDLES)
    for bundle in bundles:
        if bundle is not None and (anchors := _readable(Path(bundle))):
            return TrustStore(anchors)
    if paths.capath is not None:
        files = [file for file in sorted(Path(paths.capath).iterdir()) if file.is_file()]
        anchors = tuple(dict.fromkeys(anchor for file in files for anchor in _readable(file)))
        if anchors:
            return TrustStore(anchors)
    raise ConfigurationError(
        "this machine has no trust anchors where OpenSSL looks for them; name a file with yours"
        " (or install the package ca-certificates)"
    )


def _readable(file: Path) -> tuple[x509.Certificate, ...]:
    """The certificates of a bundle that can be read; one odd anchor does not spoil the others."""
    anchors = []
    try:
        octets = file.read_bytes()
    except OSError:
        return ()
    for block in _PEM.findall(octets):
        with contextlib.suppress(*_MALFORMED, UnsupportedAlgorithm):
            anchors += _read_pem(block)
    return tuple(dict.fromkeys(anchors))


# -- certificates from files -----------------------------------------------------------------------


def load_chain(source: Source) -> tuple[bytes, ...]:
    """A certificate chain, leaf first, from a PEM file's path or PEM octets; in DER."""
    return tuple(c.public_bytes(Encoding.DER) for c in _load_pem(source, "certificate chain"))


def _load_pem(source: Source, what: str) -> list[x509.Certificate]:
    if isinstance(source, bytes):
        octets, where = source, ""
    else:
        where = f" in {os.fspath(source)}"
        try:
            octets = Path(source).read_bytes()
        except OSError as error:
            raise ConfigurationError(
                f"{what}: cannot read {os.fspath(source)}: {error.strerror}"
            ) from None
    if b"-----BEGIN CERTIFICATE-----" not in octets:
        raise ConfigurationError(f"{what}: there is no PEM certificate{where}")
    try:
        return _read_pem(octets)
    except (*_MALFORMED, UnsupportedAlgorithm) as error:
        raise ConfigurationError(f"{what}: a malformed certificate{where}: {error}") from None


def _read_pem(octets: bytes) -> list[x509.Certificate]:
    with warnings.catch_warnings():
        # the owner of the machine decides which certificates are good enough
        warnings.simplefilter("ignore", CryptographyDeprecationWarning)
        certificates = x509.load_pem_x509_certificates(octets)
        for certificate in certificates:
            _look_at(certificate)
    return certificates


# -- certificates from peers -----------------------------------------------------------------------


def parse_chain(entries: Sequence[bytes]) -> list[x509.Certificate]:
    """The peer's certificates, from DER; every field has been parsed once and is well-formed.

    Raises CertificateError. A key of an unknown kind is an error in the leaf; further on it may
    belong to a certificate that nobody needs (RFC 9846 §4.5.1).
    """
    # req: 4.5.1-12
    if len(entries) > MAX_CERTIFICATES:
        raise CertificateError(
            "encoding",
            f"{len(entries)} certificates, and no more than {MAX_CERTIFICATES} are accepted",
            Alert.bad_certificate,
        )
    chain = [_parse(entry) for entry in entries]
    if chain:
        try:
            chain[0].public_key()
        except UnsupportedAlgorithm as error:
            raise CertificateError(
                "algorithm", f"the key's type is unknown: {error}", Alert.unsupported_certificate
            ) from None
    return chain


def _parse(entry: bytes) -> x509.Certificate:
    try:
        return _parse_known(entry) if len(entry) <= _CACHED_OCTETS else _parse_new(entry)
    except (*_MALFORMED, UnsupportedAlgorithm) as error:
        raise CertificateError("encoding", str(error), Alert.bad_certificate) from None


def _parse_new(entry: bytes) -> x509.Certificate:
    certificate = x509.load_der_x509_certificate(entry)
    _look_at(certificate)
    return certificate


def _look_at(certificate: x509.Certificate) -> None:
    """Parse each field, so that what is malformed says so now. Unknown algorithms may stand."""
    _ = certificate.subject, certificate.issuer, certificate.extensions
    _ = certificate.not_valid_before_utc, certificate.not_valid_after_utc
    with contextlib.suppress(UnsupportedAlgorithm):
        certificate.public_key()
    with contextlib.suppress(UnsupportedAlgorithm):
        _ = certificate.signature_hash_algorithm, certificate.signature_algorithm_parameters


_CACHED_OCTETS: Final = 8192
_parse_known = lru_cache(maxsize=128)(_parse_new)
"""Peers come back with the certificates that they had: at most 1 MiB of them is kept."""
