"""Keys, CertificateVerify, and what signs certificates (RFC 9846 §4.3.3, §4.5.2)."""

from __future__ import annotations

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec, padding, rsa

from tests.pki import KINDS, SCHEMES
from tests.unit.certificate_builder import (
    ALL_SCHEMES,
    MD5_RSA,
    SHA1_ECDSA,
    SHA1_RSA,
    Holder,
    authority,
    leaf,
    pss_algorithm,
    pss_signed,
    resigned,
    resigned_octets,
    rsa_signed,
    tlv,
    with_key_algorithm,
)
from tpmtls.backends.software_signer import SoftwareSigner
from tpmtls.certificates import (
    chain_schemes,
    key_type,
    parse_chain,
    schemes_for_key,
    signature_content,
    verify_signature,
)
from tpmtls.codepoints import AlertDescription as Alert
from tpmtls.codepoints import SignatureScheme as S
from tpmtls.violations import CertificateError

ALL_PSS = (S.rsa_pss_pss_sha256, S.rsa_pss_pss_sha384, S.rsa_pss_pss_sha512)
CONTENT = signature_content("server", bytes(32))


def certificate(kind: str) -> x509.Certificate:
    return leaf(authority(), kind).certificate


# -- the content of the signature ------------------------------------------------------------------


def test_content_as_the_rfc_shows_it() -> None:
    """The example of RFC 9846 §4.5.2."""
    expected = "20" * 64 + "544c5320312e332c2073657276657220436572746966696361746556657269667900"
    assert signature_content("server", b"\1" * 32).hex() == expected + "01" * 32


def test_contents_of_the_roles_differ() -> None:
    client = signature_content("client", b"\1" * 48)
    assert client[64:-49] == b"TLS 1.3, client CertificateVerify"
    assert client[-49:] == b"\0" + b"\1" * 48


# -- kinds of keys ---------------------------------------------------------------------------------


@pytest.mark.req("4.3.3-8")
@pytest.mark.req("4.3.3-10")
@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("rsa", "rsa"),
        ("rsa-pss", "rsa-pss"),
        ("p256", "secp256r1"),
        ("p384", "secp384r1"),
        ("p521", "secp521r1"),
        ("ed25519", "ed25519"),
        ("ed448", "ed448"),
        ("mldsa44", "mldsa44"),
        ("mldsa65", "mldsa65"),
        ("mldsa87", "mldsa87"),
        ("secp256k1", None),
    ],
)
def test_key_type(kind: str, expected: str | None) -> None:
    assert key_type(certificate(kind)) == expected


@pytest.mark.req("4.5.1.2-2")
@pytest.mark.req("4.5.1.2-4")
@pytest.mark.parametrize("kind", KINDS)
def test_schemes_for_key(kind: str) -> None:
    fitting = tuple(S[name] for name in SCHEMES[kind])
    assert schemes_for_key(certificate(kind), fitting) == fitting
    assert schemes_for_key(certificate(kind), fitting[::-1]) == fitting[::-1]
    assert set(schemes_for_key(certificate(kind), ALL_SCHEMES)) == set(fitting)
    assert schemes_for_key(certificate(kind), [S(0xFE01), S.rsa_pkcs1_sha1]) == ()


def test_no_scheme_for_a_key_of_an_unknown_kind() -> None:
    assert schemes_for_key(certificate("secp256k1"), ALL_SCHEMES) == ()
    assert not verify_signature(certificate("secp256k1"), S.ecdsa_secp256r1_sha256, b"", CONTENT)


def test_a_short_modulus_has_no_room_for_a_long_hash() -> None:
    assert schemes_for_key(certificate("rsa-1024"), ALL_SCHEMES) == (
        S.rsa_pss_rsae_sha256,
        S.rsa_pss_rsae_sha384,
    )


def _limited(algorithm: bytes) -> x509.Certificate:
    root = authority()
    return with_key_algorithm(leaf(root, "rsa").certificate, algorithm, root.key)


@pytest.mark.req("4.3.3-12")
@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [
        (pss_algorithm(), (S.rsa_pss_pss_sha256,)),
        (pss_algorithm(null=b""), (S.rsa_pss_pss_sha256,)),
        (pss_algorithm(salt=31), ()),
        (tlv(0x30, bytes.fromhex("06092a864886f70d01010a")), ALL_PSS),
    ],
)
def test_parameters_of_a_pss_key(algorithm: bytes, expected: tuple[S, ...]) -> None:
    assert schemes_for_key(_limited(algorithm), ALL_SCHEMES) == expected


# -- verifying CertificateVerify -------------------------------------------------------------------

SIGNING = [(kind, S[name]) for kind in KINDS for name in SCHEMES[kind]]


@pytest.mark.req("4.5.2-8")
@pytest.mark.req("4.5.2-9")
@pytest.mark.req("4.3.3-7")
@pytest.mark.req("4.3.3-9")
@pytest.mark.parametrize(("kind", "scheme"), SIGNING)
def test_signatures(kind: str, scheme: S) -> None:
    end = leaf(authority(), kind)
    signature = SoftwareSigner(end.key).sign(scheme, CONTENT)
    assert verify_signature(end.certificate, scheme, signature, CONTENT)
    assert not verify_signature(end.certificate, scheme, signature, CONTENT + b"\0")
    assert not verify_signature(
        end.certificate, scheme, signature, signature_content("client", bytes(32))
    )
    for at in (0, 1, len(signature) // 2, len(signature) - 1):
        changed = bytearray(signature)
        changed[at] ^= 0x04
        assert not verify_signature(end.certificate, scheme, bytes(changed), CONTENT)
    for wrong in (b"", signature[:-1], signature + b"\0", bytes(len(signature))):
        assert not verify_signature(end.certificate, scheme, wrong, CONTENT)


@pytest.mark.req("4.5.2-6")
@pytest.mark.req("4.5.2-7")
@pytest.mark.req("4.3.3-1")
@pytest.mark.req("4.3.3-6")
@pytest.mark.parametrize("kind", KINDS)
def test_schemes_that_do_not_fit_the_key_verify_nothing(kind: str) -> None:
    end = leaf(authority(), kind)
    signer = SoftwareSigner(end.key)
    signatures = [signer.sign(scheme, CONTENT) for scheme in signer.schemes]
    for scheme in set(ALL_SCHEMES) - {S[name] for name in SCHEMES[kind]}:
        for signature in signatures:
            assert not verify_signature(end.certificate, scheme, signature, CONTENT)


@pytest.mark.req("4.3.3-6")
@pytest.mark.req("4.3.3-13")
def test_pkcs1_is_not_for_handshakes() -> None:
    end = leaf(authority(), "rsa")
    signature = end.key.sign(CONTENT, padding.PKCS1v15(), hashes.SHA256())
    assert not verify_signature(end.certificate, S.rsa_pkcs1_sha256, signature, CONTENT)


@pytest.mark.req("4.3.3-7")
@pytest.mark.req("4.3.3-9")
@pytest.mark.parametrize("kind", ["rsa", "rsa-pss"])
def test_the_salt_has_the_length_of_the_digest(kind: str) -> None:
    end = leaf(authority(), kind)
    scheme = S.rsa_pss_rsae_sha256 if kind == "rsa" else S.rsa_pss_pss_sha256
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 20)
    signature = end.key.sign(CONTENT, pss, hashes.SHA256())
    assert not verify_signature(end.certificate, scheme, signature, CONTENT)


# -- signatures of certificates --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("kind", "expected"),
    [
        ("rsa", S.rsa_pkcs1_sha256),
        ("rsa-pss", S.rsa_pss_pss_sha256),
        ("p256", S.ecdsa_secp256r1_sha256),
        ("p384", S.ecdsa_secp256r1_sha256),  # by the hash: the builder signs with SHA-256
        ("ed25519", S.ed25519),
        ("ed448", S.ed448),
        ("mldsa44", S.mldsa44),
        ("mldsa65", S.mldsa65),
        ("mldsa87", S.mldsa87),
    ],
)
def test_chain_schemes(kind: str, expected: S) -> None:
    root = authority(kind=kind)
    chain = [leaf(root).certificate, root.certificate]
    assert chain_schemes(chain) == (expected,)


@pytest.mark.req("4.3.3-17")
@pytest.mark.req("4.5.1.2-10")
def test_chain_schemes_leaves_the_self_signed_out() -> None:
    root = authority()
    middle = authority("middle", "ed25519", issuer=root, number=1)
    end = leaf(middle)
    chain = [holder.certificate for holder in (end, middle, root)]
    assert chain_schemes(chain) == (S.ed25519, S.ecdsa_secp256r1_sha256)
    assert chain_schemes([root.certificate]) == ()
    renamed = leaf(authority("host"), number=8)  # self-issued, but by another key
    assert chain_schemes([renamed.certificate]) == (S.ecdsa_secp256r1_sha256,)


def _rsa() -> tuple[Holder, x509.Certificate]:
    root = authority(kind="rsa")
    return root, leaf(root).certificate


@pytest.mark.req("4.3.3-17")
@pytest.mark.req("4.5.1.2-10")
@pytest.mark.parametrize("algorithm", [SHA1_RSA, MD5_RSA])
def test_with_what_a_self_signed_certificate_is_signed_does_not_matter(algorithm: bytes) -> None:
    root, end = _rsa()
    own = rsa_signed(root.certificate, root.key, algorithm)
    assert chain_schemes([end, own]) == (S.rsa_pkcs1_sha256,)
    stranger = rsa_signed(own, rsa.generate_private_key(65537, 2048), algorithm)
    assert len(chain_schemes([end, stranger])) == 2


@pytest.mark.req("4.3.3-17")
def test_a_self_signature_with_ecdsa_and_sha1() -> None:
    root = authority()
    stranger = authority(kind="p384")

    def signed_by(holder: Holder) -> x509.Certificate:
        sha1 = ec.ECDSA(hashes.SHA1())
        return resigned(root.certificate, SHA1_ECDSA, lambda tbs: holder.key.sign(tbs, sha1))

    assert chain_schemes([signed_by(root)]) == ()
    assert chain_schemes([signed_by(stranger)]) == (S.ecdsa_sha1,)


def test_pss_is_told_by_the_issuers_key() -> None:
    root, end = _rsa()
    signed = pss_signed(end, root.key)
    assert chain_schemes([signed]) == (S.rsa_pss_rsae_sha256,)
    assert chain_schemes([signed, root.certificate]) == (S.rsa_pss_rsae_sha256,)
    assert chain_schemes([pss_signed(end, root.key, version=1)]) == (S.rsa_pss_rsae_sha256,)
    pss_root = authority(kind="rsa-pss")
    assert chain_schemes([leaf(pss_root).certificate, pss_root.certificate]) == (
        S.rsa_pss_pss_sha256,
    )


@pytest.mark.parametrize(
    ("algorithm", "expected"),
    [(SHA1_RSA, S.rsa_pkcs1_sha1), (MD5_RSA, None)],
)
def test_schemes_of_deprecated_signatures(algorithm: bytes, expected: S | None) -> None:
    root, end = _rsa()
    assert chain_schemes([rsa_signed(end, root.key, algorithm)]) == (expected,)


@pytest.mark.req("4.3.3-12")
def test_pss_with_other_parameters_than_the_issuers_key_has_no_code_point() -> None:
    root, end = _rsa()
    signed = pss_signed(end, root.key)
    sha384 = pss_algorithm(salt=48, digest="0609608648016503040202")
    bare = tlv(0x30, bytes.fromhex("06092a864886f70d01010a"))
    for algorithm, expected in (
        (bare, S.rsa_pss_pss_sha256),
        (pss_algorithm(), S.rsa_pss_pss_sha256),
        (pss_algorithm(null=b""), S.rsa_pss_pss_sha256),
        (pss_algorithm(salt=48), None),
        (sha384, None),
    ):
        issuer = with_key_algorithm(root.certificate, algorithm, root.key)
        assert chain_schemes([signed, issuer])[0] == expected


@pytest.mark.req("4.3.3-11")
@pytest.mark.parametrize("salt", ["a20402020020", "a28103020120", "a20402810120"])
def test_pss_parameters_that_are_not_in_der_are_refused(salt: str) -> None:
    root, end = _rsa()
    pss = padding.PSS(padding.MGF1(hashes.SHA256()), 32)

    def with_salt(length: str) -> bytes:
        algorithm = pss_algorithm(length=length)
        return resigned_octets(end, algorithm, lambda t: root.key.sign(t, pss, hashes.SHA256()))

    assert chain_schemes(parse_chain([with_salt("a203020120")])) == (S.rsa_pss_rsae_sha256,)
    with pytest.raises(CertificateError) as caught:
        parse_chain([with_salt(salt)])
    assert caught.value.alert is Alert.bad_certificate


@pytest.mark.req("4.3.3-7")
def test_pss_with_another_salt_has_no_code_point() -> None:
    root, end = _rsa()
    assert chain_schemes([pss_signed(end, root.key, salt=31)]) == (None,)
