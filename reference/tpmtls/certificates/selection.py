"""Whether a certificate is for a peer: names, authorities, OID filters (RFC 9846 §4.5.1.2)."""

from __future__ import annotations

import ipaddress
from collections.abc import Sequence
from functools import lru_cache
from typing import Any, Final

from cryptography import x509

from tpmtls.certificates import der
from tpmtls.violations import ConfigurationError, PeerViolation, Violation
from tpmtls.wire.extensions import OidFilter

_KEY_USAGE: Final = bytes.fromhex("0603551d0f")
_EXTENDED_KEY_USAGE: Final = bytes.fromhex("0603551d25")
_ANY_EXTENDED_KEY_USAGE: Final = bytes.fromhex("0604551d2500")


# -- names: RFC 6066 §3, RFC 9525 ------------------------------------------------------------------


@lru_cache(maxsize=256)
def parse_server_name(server_name: str) -> x509.DNSName | x509.IPAddress:
    """A host name or an IP address literal, as certificates hold it.

    Raises ConfigurationError where it is neither. Names beyond ASCII come as A-labels.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(server_name.partition("%")[0]))
    except ValueError:
        pass
    name = server_name.removesuffix(".")
    if not name.isascii():
        raise ConfigurationError(f"server name {server_name!r}: write it in ASCII (IDNA A-labels)")
    labels = name.lower().split(".")
    if len(name) > 253 or not all(map(_is_label, labels)):
        raise ConfigurationError(f"{server_name!r} is neither a host name nor an IP address")
    return x509.DNSName(name)


def _is_label(label: str) -> bool:
    return (
        len(label) < 64
        and label.replace("-", "a").isalnum()
        and not label.startswith("-")
        and not label.endswith("-")
    )


def names_in(certificate: x509.Certificate) -> tuple[str, ...]:
    """The DNS names, in lower case, and the IP addresses of the subjectAltName."""
    return (*_dns_names(certificate), *map(str, _names(certificate, x509.IPAddress)))


@lru_cache(maxsize=64)  # a server asks for those of its own certificates at each handshake
def _dns_names(certificate: x509.Certificate) -> tuple[str, ...]:
    return tuple(name.lower() for name in _names(certificate, x509.DNSName))


def _names(certificate: x509.Certificate, kind: type[x509.DNSName | x509.IPAddress]) -> list[Any]:
    try:
        extension = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName)
    except x509.ExtensionNotFound:
        return []
    return extension.value.get_values_for_type(kind)


def matches_name(certificate: x509.Certificate, server_name: str) -> bool:
    """Whether the subjectAltName has that host name or IP address.

    A wildcard stands for exactly one label, the leftmost, whole (RFC 9525 §6.3). The subject's
    common name does not count.
    """
    try:
        wanted = parse_server_name(server_name)
    except ConfigurationError:
        return False
    if isinstance(wanted, x509.IPAddress):
        return wanted.value in _names(certificate, x509.IPAddress)
    name = wanted.value.lower()
    _, dot, domain = name.partition(".")
    names = _dns_names(certificate)
    return name in names or (bool(dot) and f"*.{domain}" in names)


# -- authorities: RFC 9846 §4.3.4 ------------------------------------------------------------------


def issued_by(chain: Sequence[x509.Certificate], authorities: Sequence[bytes]) -> bool:
    """Whether a certificate in the chain has one of the listed issuers (names in DER)."""
    # req: 4.5.1.2-5
    return any(certificate.issuer.public_bytes() in authorities for certificate in chain)


# -- OID filters: RFC 9846 §4.3.5 ------------------------------------------------------------------


def satisfies_oid_filters(certificate: x509.Certificate, filters: Sequence[OidFilter]) -> bool:
    """Whether the certificate has every value that the filters name for the OIDs we recognise.

    These are keyUsage and extendedKeyUsage; others are skipped. Raises PeerViolation where a filter
    is malformed or names anyExtendedKeyUsage.
    """
    # req: 4.3.5-2 4.3.5-3 4.3.5-5
    return all(_satisfies(certificate, wanted) for wanted in filters)


def _satisfies(certificate: x509.Certificate, wanted: OidFilter) -> bool:
    # req: 4.3.5-4
    values = wanted.certificate_extension_values
    if wanted.certificate_extension_oid == _KEY_USAGE:
        bits = _filter_bits(values)
        present = _extension_value(certificate, x509.KeyUsage)
        return present is not None and bits & ~_bits(present) == 0
    if wanted.certificate_extension_oid == _EXTENDED_KEY_USAGE:
        purposes = _filter_purposes(values)
        present = _extension_value(certificate, x509.ExtendedKeyUsage)
        return present is not None and purposes <= _purposes(present)
    return True


def _filter_bits(values: bytes) -> int:
    try:
        return _bits(values) if values else 0
    except ValueError as error:
        raise PeerViolation(Violation.OID_FILTER_VALUES, f"keyUsage: {error}") from None


def _filter_purposes(values: bytes) -> frozenset[bytes]:
    try:
        purposes = _purposes(values) if values else frozenset()
    except ValueError as error:
        raise PeerViolation(Violation.OID_FILTER_VALUES, f"extendedKeyUsage: {error}") from None
    if _ANY_EXTENDED_KEY_USAGE in purposes:
        # req: 4.3.5-8
        raise PeerViolation(Violation.OID_FILTER_ANY_USAGE)
    return purposes


def _extension_value(
    certificate: x509.Certificate, kind: type[x509.KeyUsage | x509.ExtendedKeyUsage]
) -> bytes | None:
    """The DER of an extension's value, or None where the certificate does not have it."""
    try:
        return certificate.extensions.get_extension_for_class(kind).value.public_bytes()
    except x509.ExtensionNotFound:
        return None


def _bits(key_usage: bytes) -> int:
    """The bits of a KeyUsage, the first one at 2^15 (RFC 5280 §4.2.1.3)."""
    string = der.content(key_usage, der.BIT_STRING)
    if not 1 <= len(string) <= 3 or string[0] > 7 or (len(string) == 1 and string[0]):
        raise ValueError("not a string of at most 16 bits")
    bits = int.from_bytes(string[1:].ljust(2, b"\0"), "big")
    unused = 8 * (3 - len(string)) + string[0]
    if bits & ((1 << unused) - 1):
        raise ValueError("an unused bit is set")
    return bits


def _purposes(extended_key_usage: bytes) -> frozenset[bytes]:
    """The OIDs, in DER, of an ExtendedKeyUsage (RFC 5280 §4.2.1.12)."""
    purposes = frozenset(der.children(extended_key_usage))
    for purpose in purposes:
        if not der.content(purpose, der.OBJECT_IDENTIFIER):
            raise ValueError("an object identifier is empty")
    return purposes
