"""Chains that are refused, and what each refusal says (RFC 9846 §4.5.1.2, §4.5.1.3, §6.2)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding
from cryptography.x509.oid import ExtendedKeyUsageOID

from tests.unit.certificate_builder import (
    ALL_SCHEMES,
    CLIENT,
    DAY,
    MD5_RSA,
    NOW,
    SERVER,
    SHA1_RSA,
    Holder,
    authority,
    issue,
    key,
    leaf,
    pss_signed,
    resigned,
    rsa_signed,
    usage,
    verify,
    verify_client,
    version_1,
)
from tpmtls.certificates import (
    TrustStore,
)
from tpmtls.codepoints import AlertDescription as Alert
from tpmtls.codepoints import SignatureScheme
from tpmtls.violations import CertificateError, ConfigurationError

# -- what is refused, and how ----------------------------------------------------------------------


@dataclass(frozen=True)
class Fault:
    """A chain under a root of the kind, and what its refusal says."""

    chain: Callable[[Holder], Sequence[Holder | x509.Certificate]]
    check: str
    alert: Alert


def _middle(root: Holder, number: int = 1, **changes: Any) -> Holder:
    return authority("middle", root.kind, issuer=root, number=number, **changes)


def _under(root: Holder, **changes: Any) -> tuple[Holder, Holder]:
    middle = _middle(root, **changes)
    return leaf(middle), middle


def _two_deep(root: Holder, **changes: Any) -> tuple[Holder, Holder, Holder]:
    upper = _middle(root, **changes)
    lower = authority("lower", root.kind, issuer=upper, number=2)
    return leaf(lower), lower, upper


_UNKNOWN_EXTENSION = x509.UnrecognizedExtension(x509.ObjectIdentifier("1.3.6.1.4.1.99999.1"), b"")

FAULTS = {
    "expired": Fault(
        lambda root: [leaf(root, starts=NOW - 2 * DAY, ends=NOW - DAY)],
        "validity period",
        Alert.certificate_expired,
    ),
    "not yet valid": Fault(
        lambda root: [leaf(root, starts=NOW + DAY, ends=NOW + 2 * DAY)],
        "validity period",
        Alert.certificate_expired,
    ),
    "expired intermediate": Fault(
        lambda root: _under(root, starts=NOW - 2 * DAY, ends=NOW - DAY),
        "validity period",
        Alert.certificate_expired,
    ),
    "self-signed": Fault(lambda root: [leaf(None, root.kind)], "issuer", Alert.unknown_ca),
    "another root": Fault(
        lambda root: [leaf(authority("another", root.kind, number=5))], "issuer", Alert.unknown_ca
    ),
    "another root, sent along": Fault(
        lambda root: [
            leaf(authority("another", root.kind, number=5)),
            authority("another", root.kind, number=5),
        ],
        "issuer",
        Alert.unknown_ca,
    ),
    "missing intermediate": Fault(lambda root: _under(root)[:1], "issuer", Alert.unknown_ca),
    "a root of the same name and another key": Fault(
        lambda root: [leaf(authority(kind=root.kind, number=5))], "issuer", Alert.unknown_ca
    ),
    "forged signature": Fault(
        lambda root: [leaf(root, signed_with=key(root.kind, 5))],
        "signature",
        Alert.bad_certificate,
    ),
    "forged intermediate": Fault(
        lambda root: _under(root, signed_with=key(root.kind, 5)),
        "signature",
        Alert.bad_certificate,
    ),
    "another name": Fault(
        lambda root: [leaf(root, names=("other.example",))], "name", Alert.certificate_unknown
    ),
    "no name": Fault(lambda root: [leaf(root, names=())], "name", Alert.certificate_unknown),
    "a wildcard for more than a label": Fault(
        lambda root: [leaf(root, names=("*.host.example",))], "name", Alert.certificate_unknown
    ),
    "for clients": Fault(
        lambda root: [leaf(root, usages=(CLIENT,))],
        "extended key usage",
        Alert.unsupported_certificate,
    ),
    "for any usage": Fault(
        lambda root: [leaf(root, usages=(ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,))],
        "extended key usage",
        Alert.unsupported_certificate,
    ),
    "not for signatures": Fault(
        lambda root: [leaf(root, key_usage=usage())], "key usage", Alert.unsupported_certificate
    ),
    "an authority as leaf": Fault(
        lambda root: [leaf(root, ca=True)], "path", Alert.certificate_unknown
    ),
    "a leaf that signs certificates": Fault(
        lambda root: [leaf(root, key_usage=usage(sign=True, certify=True))],
        "path",
        Alert.certificate_unknown,
    ),
    "a leaf as authority": Fault(
        lambda root: _under(root, ca=False, key_usage=usage(sign=True)),
        "path",
        Alert.certificate_unknown,
    ),
    "an authority that says it is none": Fault(
        lambda root: _under(root, ca=False, key_usage=None), "path", Alert.certificate_unknown
    ),
    "an authority without basicConstraints": Fault(
        lambda root: _under(root, ca=None), "path", Alert.certificate_unknown
    ),
    "an authority that may not certify": Fault(
        lambda root: _under(root, key_usage=usage(sign=True)), "path", Alert.certificate_unknown
    ),
    "an authority for clients": Fault(
        lambda root: _under(root, usages=(CLIENT,)), "path", Alert.certificate_unknown
    ),
    "path length": Fault(
        lambda root: _two_deep(root, path_length=0), "path", Alert.certificate_unknown
    ),
    "name constraints": Fault(
        lambda root: _under(
            root, more=[(x509.NameConstraints([x509.DNSName("other.example")], None), True)]
        ),
        "path",
        Alert.certificate_unknown,
    ),
    "unknown critical extension": Fault(
        lambda root: [leaf(root, more=[(_UNKNOWN_EXTENSION, True)])],
        "path",
        Alert.certificate_unknown,
    ),
    "unknown critical extension of an authority": Fault(
        lambda root: _under(root, more=[(_UNKNOWN_EXTENSION, True)]),
        "path",
        Alert.certificate_unknown,
    ),
    "weak leaf": Fault(
        lambda root: [leaf(root, "rsa-1024")], "algorithm", Alert.unsupported_certificate
    ),
    "unknown curve": Fault(
        lambda root: [leaf(root, "secp256k1")], "algorithm", Alert.unsupported_certificate
    ),
    "version 1": Fault(
        lambda root: [version_1(leaf(root).certificate, root.key)],
        "version",
        Alert.unsupported_certificate,
    ),
}


@pytest.mark.req("4.5.1.2-1")
@pytest.mark.req("4.5.1.2-2")
@pytest.mark.req("4.5.1.2-3")
@pytest.mark.req("4.5.1.2-4")
@pytest.mark.req("4.5.1.2-14")
@pytest.mark.parametrize("fault", FAULTS)
@pytest.mark.parametrize("kind", ["p256", "rsa", "ed25519"])
def test_fault(kind: str, fault: str) -> None:
    """The same answer, whether the library or `path` goes through the signatures."""
    expected = FAULTS[fault]
    root = authority(kind=kind)
    with pytest.raises(CertificateError) as caught:
        verify(*expected.chain(root), root=root)
    assert (caught.value.check, caught.value.alert) == (expected.check, expected.alert)
    assert f"not accepted, {expected.check}: " in str(caught.value)


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_a_client_certificate_has_its_own_usage(kind: str) -> None:
    root = authority(kind=kind)
    with pytest.raises(CertificateError) as caught:
        verify_client(leaf(root, usages=(SERVER,)), root=root)
    assert caught.value.check == "extended key usage"
    assert "client authentication" in str(caught.value)
    with pytest.raises(CertificateError) as caught:
        verify_client(*_under(root, usages=(SERVER,)), root=root)
    assert caught.value.check == "path"


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_an_authority_may_be_for_this_usage_or_any(kind: str) -> None:
    root = authority(kind=kind)
    for usages in ((SERVER,), (ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE,)):
        verify(*_under(root, usages=usages), root=root)


@pytest.mark.parametrize("kind", ["p256", "ed25519"])
def test_path_length_counts_intermediates(kind: str) -> None:
    root = authority(kind=kind)
    verify(*_two_deep(root, path_length=1), root=root)
    verify(*_under(root, path_length=0), root=root)


@pytest.mark.req("4.5.1.3-4")
@pytest.mark.req("4.5.1.3-5")
@pytest.mark.parametrize("algorithm", [MD5_RSA, SHA1_RSA])
def test_deprecated_hashes(algorithm: bytes) -> None:
    root = authority(kind="rsa")
    weak = rsa_signed(leaf(root).certificate, root.key, algorithm)
    stranger = TrustStore.load([authority("stranger", number=1).certificate])
    for store in (root.store, stranger):
        with pytest.raises(CertificateError, match=r"MD5|SHA1") as caught:
            verify(weak, root=store)
        assert (caught.value.check, caught.value.alert) == ("signature", Alert.bad_certificate)


def test_deprecated_hashes_beside_algorithms_outside_the_library() -> None:
    root = authority(kind="ed25519")
    middle = authority("middle", "rsa", issuer=root, number=1)
    verify(leaf(middle), middle, root=root)
    weak = rsa_signed(leaf(middle).certificate, middle.key, SHA1_RSA)
    with pytest.raises(CertificateError) as caught:
        verify(weak, middle, root=root)
    assert (caught.value.check, caught.value.alert) == ("signature", Alert.bad_certificate)


def test_a_trusted_leaf_is_checked_all_the_same() -> None:
    own = leaf(None)
    for changes in ({"server_name": "other.example"}, {"now": NOW + 2 * DAY}):
        with pytest.raises(CertificateError):
            verify(own, root=own, **changes)
    no_signing = leaf(None, key_usage=usage())
    with pytest.raises(CertificateError) as caught:
        verify(no_signing, root=no_signing)
    assert caught.value.check == "key usage"


def test_a_weak_authority() -> None:
    root = authority(kind="rsa-1024")
    with pytest.raises(CertificateError) as caught:
        verify(leaf(root), root=root)
    assert (caught.value.check, caught.value.alert) == ("algorithm", Alert.unsupported_certificate)
    mixed = authority("middle", "rsa-1024", issuer=authority(kind="ed25519"), number=1)
    with pytest.raises(CertificateError) as caught:
        verify(leaf(mixed), mixed, root=authority(kind="ed25519"))
    assert caught.value.check == "algorithm"


def test_an_authority_with_an_unknown_kind_of_key() -> None:
    root = authority(kind="secp256k1")
    with pytest.raises(CertificateError) as caught:
        verify(leaf(root), root=root)
    assert caught.value.check == "algorithm"


@pytest.mark.req("4.3.3-1")
@pytest.mark.req("4.5.1.2-9")
@pytest.mark.req("4.5.1.2-14")
@pytest.mark.parametrize("kind", ["p256", "rsa", "ed25519", "rsa-pss", "mldsa65"])
def test_signature_algorithms_that_were_not_offered(kind: str) -> None:
    root = authority(kind=kind)
    used = {
        "p256": SignatureScheme.ecdsa_secp256r1_sha256,
        "rsa": SignatureScheme.rsa_pkcs1_sha256,
        "rsa-pss": SignatureScheme.rsa_pss_pss_sha256,
    }.get(kind) or SignatureScheme[kind]
    verify(leaf(root), root=root, schemes=[used])
    verify(leaf(root), root, root=root, schemes=[used])
    with pytest.raises(CertificateError) as caught:
        verify(leaf(root), root=root, schemes=[s for s in ALL_SCHEMES if s != used])
    assert caught.value.alert is Alert.unsupported_certificate
    assert caught.value.check == "algorithm"


def test_a_signature_without_a_code_point() -> None:
    """A PSS salt that TLS does not have: the library does not take it, `path` neither."""
    root = authority(kind="rsa")
    odd = pss_signed(leaf(root).certificate, root.key, salt=31)
    with pytest.raises(CertificateError) as caught:
        verify(odd, root=root)
    assert (caught.value.check, caught.value.alert) == ("algorithm", Alert.unsupported_certificate)


def test_sha224_is_no_algorithm_of_tls() -> None:
    root = authority(kind="rsa")
    sha224 = bytes.fromhex("300d06092a864886f70d01010e0500")
    odd = resigned(
        leaf(root).certificate,
        sha224,
        lambda tbs: root.key.sign(tbs, padding.PKCS1v15(), hashes.SHA224()),
    )
    with pytest.raises(CertificateError) as caught:
        verify(odd, root=root)
    assert (caught.value.check, caught.value.alert) == ("algorithm", Alert.unsupported_certificate)


def test_the_ends_of_the_validity_period_belong_to_it() -> None:
    root = authority()
    for now in (NOW - DAY, NOW + DAY):
        verify(leaf(root), root=root, now=now)
        with pytest.raises(CertificateError) as caught:
            verify(leaf(root), root=root, now=now, server_name="other.example")
        assert caught.value.check == "name"


def test_a_missing_anchor_is_described() -> None:
    root = authority()
    with pytest.raises(CertificateError, match="CN=host is self-signed and not trusted"):
        verify(leaf(None), root=root)
    with pytest.raises(CertificateError, match="issued by CN=middle, which is neither trusted"):
        verify(_under(root)[0], root=root)


def test_the_first_fault_in_a_fixed_order_is_named() -> None:
    root = authority()
    everything = {
        "starts": NOW - 2 * DAY,
        "ends": NOW - DAY,
        "names": ("other.example",),
        "usages": (CLIENT,),
        "key_usage": usage(),
        "signed_with": key("p256", 5),
    }
    seen = []
    while True:
        try:
            verify(leaf(root, **everything), root=root)
        except CertificateError as error:
            seen.append(error.check)
            match error.check:
                case "validity period":
                    del everything["starts"], everything["ends"]
                case "signature":
                    del everything["signed_with"]
                case "name":
                    del everything["names"]
                case "extended key usage":
                    del everything["usages"]
                case _:
                    del everything["key_usage"]
        else:
            break
    assert seen == ["validity period", "signature", "name", "extended key usage", "key usage"]


def test_what_a_peer_wrote_is_shown_with_care() -> None:
    root = authority()
    rude = issue("\x1b[2J" + "x" * 60, issuer=root, names=("evil\n.example",), number=3)
    with pytest.raises(CertificateError) as caught:
        verify(rude, root=root)
    assert str(caught.value).isprintable()
    many = leaf(root, names=[f"host{n}.example" for n in range(500)])
    with pytest.raises(CertificateError) as caught:
        verify(many, root=root)
    assert len(str(caught.value)) < 300


@pytest.mark.parametrize(
    "server_name", ["", "a b", "-a.example", "a..b", "nä.example", "*.example"]
)
def test_a_server_name_that_is_none(server_name: str) -> None:
    root = authority()
    with pytest.raises(ConfigurationError, match=r"name|IDNA"):
        verify(leaf(root), root=root, server_name=server_name)
