"""Signing: which schemes a key is good for, and signatures that others verify."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    ed448,
    ed25519,
    mldsa,
    padding,
    rsa,
    x25519,
)

from tpmtls.algorithms import SCHEMES
from tpmtls.backends.base import Signer
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.software_signer import (
    HASHES,
    SoftwareSigner,
    load_private_key,
    private_key_types,
)
from tpmtls.codepoints import SignatureScheme
from tpmtls.violations import ConfigurationError
from vectors.vectorlib.library import load

DATA = b"what CertificateVerify signs"
RSA_PSS = ("rsa_pss_rsae", "rsa_pss_pss")

MAKE: dict[str, Callable[[], Any]] = {
    "rsa": lambda: rsa.generate_private_key(65537, 2048),
    "secp256r1": lambda: ec.generate_private_key(ec.SECP256R1()),
    "secp384r1": lambda: ec.generate_private_key(ec.SECP384R1()),
    "secp521r1": lambda: ec.generate_private_key(ec.SECP521R1()),
    "ed25519": ed25519.Ed25519PrivateKey.generate,
    "ed448": ed448.Ed448PrivateKey.generate,
    "mldsa44": mldsa.MLDSA44PrivateKey.generate,
    "mldsa65": mldsa.MLDSA65PrivateKey.generate,
    "mldsa87": mldsa.MLDSA87PrivateKey.generate,
}
EXPECTED = {
    "rsa": {
        SignatureScheme[f"{family}_{h}"]
        for family in RSA_PSS
        for h in ("sha256", "sha384", "sha512")
    },
    "secp256r1": {SignatureScheme.ecdsa_secp256r1_sha256},
    "secp384r1": {SignatureScheme.ecdsa_secp384r1_sha384},
    "secp521r1": {SignatureScheme.ecdsa_secp521r1_sha512},
    **{name: {SignatureScheme[name]} for name in MAKE if name.startswith(("ed", "mldsa"))},
}


@pytest.fixture(scope="module")
def keys() -> dict[str, Any]:
    return {kind: make() for kind, make in MAKE.items()}


def verify(key: Any, scheme: SignatureScheme, signature: bytes, data: bytes = DATA) -> None:
    """With the library alone, and parameters spelled out."""
    public = key.public_key()
    if isinstance(public, rsa.RSAPublicKey):
        digest = HASHES[scheme.name.rpartition("_")[2]]
        pss = padding.PSS(padding.MGF1(digest), salt_length=digest.digest_size)
        public.verify(signature, data, pss, digest)
    elif isinstance(public, ec.EllipticCurvePublicKey):
        public.verify(signature, data, ec.ECDSA(HASHES[scheme.name.rpartition("_")[2]]))
    else:
        public.verify(signature, data)


def pem(key: Any, encryption: Any = None) -> bytes:
    octets: bytes = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        encryption or serialization.NoEncryption(),
    )
    return octets


# -- schemes ---------------------------------------------------------------------------------------


@pytest.mark.req("4.5.2-6", "4.3.3-6", "4.5.2-7")
@pytest.mark.parametrize("kind", MAKE)
def test_schemes_of_a_key(keys: dict[str, Any], kind: str) -> None:
    signer: Signer = SoftwareBackend().signer(keys[kind])
    assert set(signer.schemes) == EXPECTED[kind]
    assert len(signer.schemes) == len(EXPECTED[kind])


def test_every_scheme_for_handshakes_has_a_key() -> None:
    assert set.union(*EXPECTED.values()) == {s for s in SCHEMES if SCHEMES[s].signs_handshakes}


def test_an_rsa_key_is_of_two_types(keys: dict[str, Any]) -> None:
    assert private_key_types(keys["rsa"]) == ("rsa", "rsa-pss")
    assert private_key_types(keys["secp384r1"]) == ("secp384r1",)
    assert private_key_types(keys["mldsa65"]) == ("mldsa65",)
    assert private_key_types("no key") == ()


def test_a_short_rsa_key_has_no_room_for_a_long_hash() -> None:
    signer = SoftwareSigner(rsa.generate_private_key(65537, 1024))
    assert {scheme.name.rpartition("_")[2] for scheme in signer.schemes} == {"sha256", "sha384"}
    recorded = load("keys")["rsa_private_key"]  # the server's key of RFC 8448
    key = rsa_key(*(int(recorded[name], 16) for name in ("prime1", "prime2")))
    assert key.key_size == 1024
    assert SoftwareSigner(key).schemes == signer.schemes


def test_the_shortest_rsa_key_for_a_hash() -> None:
    """Room for digest, salt and two octets, less one bit (RFC 8017 §9.1.1)."""
    scheme = SignatureScheme.rsa_pss_rsae_sha512
    key = rsa.generate_private_key(65537, 2 * 8 * 64 + 10)
    verify(key, scheme, SoftwareSigner(key).sign(scheme, DATA))
    shorter = rsa.generate_private_key(65537, 2 * 8 * 64 + 9)
    assert scheme not in SoftwareSigner(shorter).schemes


def rsa_key(p: int, q: int) -> rsa.RSAPrivateKey:
    d = pow(65537, -1, (p - 1) * (q - 1))
    crt = rsa.rsa_crt_dmp1(d, p), rsa.rsa_crt_dmq1(d, q), rsa.rsa_crt_iqmp(p, q)
    return rsa.RSAPrivateNumbers(p, q, d, *crt, rsa.RSAPublicNumbers(65537, p * q)).private_key()


# -- signatures ------------------------------------------------------------------------------------


@pytest.mark.req("4.3.3-7", "4.3.3-9")
@pytest.mark.parametrize(
    ("kind", "scheme"), [(kind, s) for kind, found in EXPECTED.items() for s in sorted(found)]
)
def test_signatures_verify(keys: dict[str, Any], kind: str, scheme: SignatureScheme) -> None:
    signature = SoftwareSigner(keys[kind]).sign(scheme, DATA)
    verify(keys[kind], scheme, signature)
    with pytest.raises(InvalidSignature):
        verify(keys[kind], scheme, signature, DATA + b"\0")


@pytest.mark.req("4.5.2-6", "4.5.2-7")
@pytest.mark.parametrize("kind", MAKE)
def test_a_scheme_that_is_not_the_keys_is_refused(keys: dict[str, Any], kind: str) -> None:
    signer = SoftwareSigner(keys[kind])
    for scheme in {*SignatureScheme, SignatureScheme(0xFE00)} - EXPECTED[kind]:
        with pytest.raises(ConfigurationError, match=f"{scheme} is not for this key"):
            signer.sign(scheme, DATA)


@pytest.mark.req("C.3-1")
@pytest.mark.parametrize("kind", ["secp256r1", "secp384r1", "secp521r1"])
def test_ecdsa_is_reproducible_if_asked_for(keys: dict[str, Any], kind: str) -> None:
    (scheme,) = EXPECTED[kind]
    steady = SoftwareBackend(deterministic_ecdsa=True).signer(keys[kind])
    assert steady.sign(scheme, DATA) == steady.sign(scheme, DATA)
    verify(keys[kind], scheme, steady.sign(scheme, DATA))
    random = SoftwareBackend().signer(keys[kind])
    assert random.sign(scheme, DATA) != random.sign(scheme, DATA)


# -- keys ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", MAKE)
def test_keys_from_pem(keys: dict[str, Any], kind: str) -> None:
    octets = pem(keys[kind])
    for form in (octets, bytearray(octets), octets.decode()):
        assert set(SoftwareSigner(form).schemes) == EXPECTED[kind]


def test_what_is_no_private_key(keys: dict[str, Any]) -> None:
    encrypted = pem(keys["ed25519"], serialization.BestAvailableEncryption(b"password"))
    with pytest.raises(ConfigurationError, match="encrypted; decrypt it first"):
        load_private_key(encrypted)
    public = (
        keys["ed25519"]
        .public_key()
        .public_bytes(serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo)
    )
    for other in (public, b"", "nonsense", pem(keys["rsa"])[:400]):
        with pytest.raises(ConfigurationError, match="not a private key in PEM") as caught:
            load_private_key(other)
        assert caught.value.__suppress_context__


@pytest.mark.parametrize(
    ("key", "name"),
    [
        (ec.generate_private_key(ec.SECP256K1()), "ECPrivateKey"),
        (x25519.X25519PrivateKey.generate(), "X25519PrivateKey"),
        (17, "int"),
        (None, "NoneType"),
    ],
    ids=["secp256k1", "x25519", "int", "None"],
)
def test_keys_that_tls_1_3_has_no_use_for(key: object, name: str) -> None:
    with pytest.raises(ConfigurationError, match=f"no TLS 1.3 signature scheme uses a .*{name}"):
        SoftwareSigner(key)


def test_an_rsa_key_with_room_for_no_hash() -> None:
    key = rsa_key(2**256 - 189, 2**256 - 357)
    assert key.key_size == 512
    with pytest.raises(ConfigurationError, match="an RSA key of 512 bits is too short"):
        SoftwareSigner(key)


def test_no_key_shows_itself(keys: dict[str, Any]) -> None:
    signer = SoftwareSigner(keys["secp256r1"])
    number = keys["secp256r1"].private_numbers().private_value
    for shown in (repr(signer), str(signer), repr(vars(signer))):
        assert f"{number:x}"[:16] not in shown
        assert str(number)[:16] not in shown
