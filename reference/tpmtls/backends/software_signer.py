"""Signing with a private key of `cryptography` (RFC 9846 §4.3.3, §4.5.2)."""

from __future__ import annotations

from typing import Any, Final

from cryptography.exceptions import UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import (
    ec,
    ed448,
    ed25519,
    mldsa,
    padding,
    rsa,
)

from tpmtls.algorithms import SCHEMES, KeyType, SchemeParameters
from tpmtls.backends.base import Signer
from tpmtls.codepoints import SignatureScheme
from tpmtls.violations import ConfigurationError

HASHES: Final[dict[str, hashes.HashAlgorithm]] = {
    "sha256": hashes.SHA256(),
    "sha384": hashes.SHA384(),
    "sha512": hashes.SHA512(),
}

_KEY_TYPES: Final[tuple[tuple[type, KeyType], ...]] = (
    (ed25519.Ed25519PrivateKey, "ed25519"),
    (ed448.Ed448PrivateKey, "ed448"),
    (mldsa.MLDSA44PrivateKey, "mldsa44"),
    (mldsa.MLDSA65PrivateKey, "mldsa65"),
    (mldsa.MLDSA87PrivateKey, "mldsa87"),
)


def private_key_types(key: object) -> tuple[KeyType, ...]:
    """The key types that a private key object can stand for; empty where it is of no use.

    An RSA key is both `rsa` and `rsa-pss`: which of the two, its certificate says by its OID.
    """
    if isinstance(key, rsa.RSAPrivateKey):
        return ("rsa", "rsa-pss")
    if isinstance(key, ec.EllipticCurvePrivateKey):
        curve = key.curve.name
        return tuple(t for t in ("secp256r1", "secp384r1", "secp521r1") if t == curve)
    return tuple(name for kind, name in _KEY_TYPES if isinstance(key, kind))


class SoftwareSigner(Signer):
    """Signs with a key in this process's memory."""

    def __init__(self, key: Any, *, deterministic_ecdsa: bool = False) -> None:
        if isinstance(key, bytes | bytearray | str):
            key = load_private_key(key)
        types = private_key_types(key)
        if not types:
            raise ConfigurationError(f"no TLS 1.3 signature scheme uses a {type(key).__name__}")
        self._key = key
        self.public_key = key.public_key()
        """Whose signatures these are."""
        self._deterministic = deterministic_ecdsa
        self.schemes = tuple(
            row.scheme
            for row in SCHEMES.values()
            if row.key_type in types and row.signs_handshakes and _fits(key, row)
        )
        if not self.schemes:
            raise ConfigurationError(f"an RSA key of {key.key_size} bits is too short for TLS 1.3")

    def sign(self, scheme: SignatureScheme, data: bytes) -> bytes:
        # req: 4.5.2-6 C.3-1
        if scheme not in self.schemes:
            raise ConfigurationError(f"{scheme} is not for this key")
        signature: bytes
        if (hash_algorithm := SCHEMES[scheme].hash) is None:
            signature = self._key.sign(data)
            return signature
        algorithm = HASHES[hash_algorithm.name]
        if isinstance(self._key, rsa.RSAPrivateKey):
            return self._key.sign(data, pss_padding(algorithm), algorithm)
        ecdsa = ec.ECDSA(algorithm, deterministic_signing=self._deterministic)
        signature = self._key.sign(data, ecdsa)
        return signature


def load_private_key(pem: bytes | bytearray | str) -> Any:
    """A private key from PEM (PKCS#8 or traditional, not encrypted)."""
    octets = pem.encode() if isinstance(pem, str) else bytes(pem)
    try:
        return serialization.load_pem_private_key(octets, password=None)
    except TypeError:
        raise ConfigurationError("the private key is encrypted; decrypt it first") from None
    except (ValueError, UnsupportedAlgorithm):
        raise ConfigurationError("not a private key in PEM that this version can read") from None


def pss_padding(algorithm: hashes.HashAlgorithm) -> padding.PSS:
    """RSASSA-PSS as TLS has it: MGF1 and salt of the digest's length."""
    # req: 4.3.3-7 4.3.3-9
    return padding.PSS(padding.MGF1(algorithm), algorithm.digest_size)


def _fits(key: object, parameters: SchemeParameters) -> bool:
    """Whether an RSA modulus has room for the hash and its salt (RFC 8017 §9.1.1)."""
    if not isinstance(key, rsa.RSAPrivateKey) or parameters.hash is None:
        return True
    return (key.key_size + 6) // 8 >= 2 * parameters.hash.digest_size + 2
