"""What we ask of a leaf and of an authority, in the terms of `cryptography.x509.verification`.

The library's defaults are the profile of the public Web PKI. Ours is RFC 5280's path validation:
private authorities that omit keyUsage, leave basicConstraints non-critical, or put more (or
nothing) into authorityKeyIdentifier are common, and none of these is a reason for distrust. What
RFC 9846 adds is here too: digitalSignature in the leaf's keyUsage.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, Literal

from cryptography import x509
from cryptography.x509.oid import ExtendedKeyUsageOID
from cryptography.x509.verification import Criticality, ExtensionPolicy, Policy

MAX_DEPTH: Final = 8
"""Intermediate certificates in a path."""


def _leaf_key_usage(_: Policy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    # req: 4.5.1.2-3
    if usage is not None and not usage.digital_signature:
        raise ValueError("keyUsage is without digitalSignature")
    if usage is not None and usage.key_cert_sign:
        raise ValueError("keyUsage has keyCertSign, and the certificate is no authority's")


def _pinned_key_usage(_: Policy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    # req: 4.5.1.2-3
    if usage is not None and not usage.digital_signature:
        raise ValueError("keyUsage is without digitalSignature")


def _authority_key_usage(_: Policy, __: x509.Certificate, usage: x509.KeyUsage | None) -> None:
    if usage is not None and not usage.key_cert_sign:
        raise ValueError("keyUsage is without keyCertSign")


def _authority(_: Policy, __: x509.Certificate, constraints: x509.BasicConstraints) -> None:
    if not constraints.ca:
        raise ValueError("basicConstraints says that this is no authority")


def _authority_for(
    usage: x509.ObjectIdentifier,
) -> Callable[[Policy, x509.Certificate, x509.ExtendedKeyUsage | None], None]:
    def check(_: Policy, __: x509.Certificate, usages: x509.ExtendedKeyUsage | None) -> None:
        if usages is not None and not {usage, ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE} & {
            *usages
        }:
            raise ValueError("extendedKeyUsage does not allow issuing for this purpose")

    return check


# An ExtensionPolicy takes one word on each extension, so every variant is built from the start.


def _leaf_policy(*, named: bool, pinned: bool) -> ExtensionPolicy:
    """A leaf: with a subjectAltName where a name is to be checked.

    Where the leaf is itself a trust anchor, it may call itself an authority: many tools say so.
    """
    leaf = (
        ExtensionPolicy.webpki_defaults_ee()
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
        .may_be_present(
            x509.KeyUsage, Criticality.AGNOSTIC, _pinned_key_usage if pinned else _leaf_key_usage
        )
    )
    if pinned:
        leaf = leaf.may_be_present(x509.BasicConstraints, Criticality.AGNOSTIC, None)
    if not named:
        leaf = leaf.may_be_present(x509.SubjectAlternativeName, Criticality.AGNOSTIC, None)
    return leaf


def _authority_policy() -> ExtensionPolicy:
    return (
        ExtensionPolicy.webpki_defaults_ca()
        .may_be_present(x509.AuthorityKeyIdentifier, Criticality.AGNOSTIC, None)
        .may_be_present(x509.KeyUsage, Criticality.AGNOSTIC, _authority_key_usage)
        .require_present(x509.BasicConstraints, Criticality.AGNOSTIC, _authority)
    )


AUTHORITY: Final = _authority_policy()


@dataclass(frozen=True)
class Purpose:
    """What a chain is verified for: the policies of its leaf, and of its authorities.

    `judged_authority` is for an authority judged by itself, outside a chain (see `path`); it admits
    no name constraints, which only the library evaluates.
    """

    role: Literal["server", "client"]
    usage: x509.ObjectIdentifier
    leaf: ExtensionPolicy
    pinned_leaf: ExtensionPolicy
    judged_authority: ExtensionPolicy


def _purpose(role: Literal["server", "client"], usage: x509.ObjectIdentifier) -> Purpose:
    named = role == "server"
    return Purpose(
        role,
        usage,
        leaf=_leaf_policy(named=named, pinned=False),
        pinned_leaf=_leaf_policy(named=named, pinned=True),
        judged_authority=_authority_policy()
        .require_not_present(x509.NameConstraints)
        .may_be_present(x509.ExtendedKeyUsage, Criticality.AGNOSTIC, _authority_for(usage)),
    )


SERVER: Final = _purpose("server", ExtendedKeyUsageOID.SERVER_AUTH)
CLIENT: Final = _purpose("client", ExtendedKeyUsageOID.CLIENT_AUTH)
