"""The software backend: every secret in this process's memory, every primitive from `cryptography`.

Secrets are kept in buffers that `destroy` overwrites. What Python and OpenSSL copy on the way
(arguments of HMAC, results of an exchange, key objects) cannot be wiped from here.
"""

from __future__ import annotations

import hmac
import os
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.asymmetric import ec, mlkem, x448, x25519
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tpmtls.algorithms import GROUPS, SUITES, HashAlgorithm, SuiteParameters
from tpmtls.backends.base import (
    Aead,
    Backend,
    Kept,
    KeyShare,
    PskReference,
    Secret,
    Signer,
    hkdf_label,
)
from tpmtls.backends.ledger import Crossing, Direction, Ledger
from tpmtls.backends.software_signer import SoftwareSigner
from tpmtls.codepoints import NamedGroup
from tpmtls.violations import BackendError, PeerViolation, StoredSecretError, Violation

Entropy = Callable[[int], bytes]
"""A source of that many random octets."""

CURVES: Final[dict[NamedGroup, ec.EllipticCurve]] = {
    NamedGroup.secp256r1: ec.SECP256R1(),
    NamedGroup.secp384r1: ec.SECP384R1(),
    NamedGroup.secp521r1: ec.SECP521R1(),
}
MLKEM768_CIPHERTEXT: Final = 1088
MLKEM768_ENCAPSULATION_KEY: Final = 1184
MLKEM768_SEED: Final = 64


class SoftwareSecret(Secret):
    """A secret in a buffer of this process."""

    __slots__ = ("octets",)

    def __init__(self, name: str, octets: bytes, algorithm: HashAlgorithm | None) -> None:
        super().__init__(name, len(octets), algorithm)
        self.octets = bytearray(octets)

    @property
    def kept(self) -> tuple[Kept, ...]:
        return (Kept(self.name, "host"),) if self.octets else ()


# -- key exchange ----------------------------------------------------------------------------------


class _Private(ABC):
    """An ephemeral private key of one group."""

    public: bytes

    @abstractmethod
    def exchange(self, peer: bytes) -> bytes:
        """Z of RFC 9846 §7.4.2; raises PeerViolation."""


class _EcPrivate(_Private):
    def __init__(self, group: NamedGroup, entropy: Entropy) -> None:
        self._curve = CURVES[group]
        if entropy is os.urandom:  # the library draws from the system, too, and faster
            self._key = ec.generate_private_key(self._curve)
        else:
            self._key = ec.derive_private_key(_scalar(self._curve, entropy), self._curve)
        self.public = self._key.public_key().public_bytes(
            Encoding.X962, PublicFormat.UncompressedPoint
        )

    def exchange(self, peer: bytes) -> bytes:
        # req: 4.3.8.2-1 7.4.2-1
        if peer[0] != 4:  # legacy_form
            raise PeerViolation(Violation.INVALID_POINT, "legacy_form is not 4")
        try:
            point = ec.EllipticCurvePublicKey.from_encoded_point(self._curve, peer)
        except ValueError:
            raise PeerViolation(Violation.INVALID_POINT, self._curve.name) from None
        return self._key.exchange(ec.ECDH(), point)


def _scalar(curve: ec.EllipticCurve, entropy: Entropy) -> int:
    """A private scalar, by rejection: FIPS 186-5 A.2.2."""
    size, excess = (curve.key_size + 7) // 8, -curve.key_size % 8
    while True:
        scalar = int.from_bytes(entropy(size), "big") >> excess
        if 0 < scalar < curve.group_order:
            return scalar


class _X25519Private(_Private):
    # req: 7.4.2-2
    def __init__(self, entropy: Entropy) -> None:
        if entropy is os.urandom:
            self._key = x25519.X25519PrivateKey.generate()
        else:
            self._key = x25519.X25519PrivateKey.from_private_bytes(entropy(32))
        self.public = self._key.public_key().public_bytes_raw()

    def exchange(self, peer: bytes) -> bytes:
        # req: 7.4.2-3
        try:
            return self._key.exchange(x25519.X25519PublicKey.from_public_bytes(peer))
        except ValueError:
            raise PeerViolation(Violation.ZERO_SHARED_SECRET, "x25519") from None


class _X448Private(_Private):
    def __init__(self, entropy: Entropy) -> None:
        self._key = x448.X448PrivateKey.from_private_bytes(entropy(56))
        self.public = self._key.public_key().public_bytes_raw()

    def exchange(self, peer: bytes) -> bytes:
        # req: 7.4.2-3
        try:
            return self._key.exchange(x448.X448PublicKey.from_public_bytes(peer))
        except ValueError:
            raise PeerViolation(Violation.ZERO_SHARED_SECRET, "x448") from None


class _HybridPrivate(_Private):
    """X25519MLKEM768, client side: the ML-KEM part stands first in shares and secret."""

    def __init__(self, entropy: Entropy) -> None:
        self._kem = mlkem.MLKEM768PrivateKey.from_seed_bytes(entropy(MLKEM768_SEED))
        self._dh = _X25519Private(entropy)
        self.public = self._kem.public_key().public_bytes_raw() + self._dh.public

    def exchange(self, peer: bytes) -> bytes:
        ciphertext, share = peer[:MLKEM768_CIPHERTEXT], peer[MLKEM768_CIPHERTEXT:]
        return self._kem.decapsulate(ciphertext) + self._dh.exchange(share)


def _private_key(group: NamedGroup, entropy: Entropy) -> _Private:
    if group in CURVES:
        return _EcPrivate(group, entropy)
    if group is NamedGroup.x25519:
        return _X25519Private(entropy)
    if group is NamedGroup.x448:
        return _X448Private(entropy)
    if group is NamedGroup.X25519MLKEM768:
        return _HybridPrivate(entropy)
    raise BackendError(f"{group} is not a group of this backend")


class SoftwareKeyShare(KeyShare):
    """An ephemeral key in this process."""

    def __init__(self, group: NamedGroup, private: _Private) -> None:
        self.group = group
        self.public = private.public
        self._private = private

    def agree(self, peer_share: bytes) -> Secret:
        return SoftwareSecret("shared_secret", self._private.exchange(peer_share), None)


# -- records ---------------------------------------------------------------------------------------


class SoftwareAead(Aead):
    """An AEAD object of `cryptography`, and the IV as a number."""

    __slots__ = ("_cipher", "_iv", "_iv_length")

    def __init__(self, suite: SuiteParameters, key: bytes, iv: bytes) -> None:
        self._cipher: AESGCM | AESCCM | ChaCha20Poly1305
        if suite.aead == "aes-gcm":
            self._cipher = AESGCM(key)
        elif suite.aead == "aes-ccm":
            self._cipher = AESCCM(key, suite.tag_length)
        else:
            self._cipher = ChaCha20Poly1305(key)
        self._iv = int.from_bytes(iv, "big")
        self._iv_length = len(iv)

    def per_record_nonce(self, sequence: int) -> bytes:
        """The IV XORed with the sequence number, padded on the left (RFC 9846 §5.3)."""
        return (self._iv ^ sequence).to_bytes(self._iv_length, "big")

    def seal(self, sequence: int, additional_data: bytes, plaintext: bytes) -> bytes:
        nonce = self.per_record_nonce(sequence)
        return self._cipher.encrypt(nonce, plaintext, additional_data)

    def open(self, sequence: int, additional_data: bytes, ciphertext: bytes) -> bytes | None:
        nonce = self.per_record_nonce(sequence)
        try:
            return self._cipher.decrypt(nonce, ciphertext, additional_data)
        except InvalidTag:
            return None


# -- the backend -----------------------------------------------------------------------------------


class SoftwareBackend(Backend):
    """Everything in this process.

    `entropy` is where ephemeral keys come from. With it fixed, and a signature scheme that is
    deterministic, a handshake repeats octet for octet; ML-KEM encapsulation and RSA-PSS draw their
    randomness inside the library and do not.
    """

    name = "software"
    groups = tuple(GROUPS)
    suites = tuple(SUITES)

    def __init__(self, entropy: Entropy = os.urandom, *, deterministic_ecdsa: bool = False) -> None:
        self.ledger = Ledger()
        self._entropy = entropy
        self._deterministic_ecdsa = deterministic_ecdsa

    def key_share(self, group: NamedGroup) -> KeyShare:
        # req: 4.3.8-8 4.3.8-12
        return SoftwareKeyShare(group, _private_key(group, self._entropy))

    def respond(self, group: NamedGroup, client_share: bytes) -> tuple[bytes, Secret]:
        if group is NamedGroup.X25519MLKEM768:
            public, shared = self._encapsulate(client_share)
        else:
            private = _private_key(group, self._entropy)
            public, shared = private.public, private.exchange(client_share)
        return public, SoftwareSecret("shared_secret", shared, None)

    def _encapsulate(self, client_share: bytes) -> tuple[bytes, bytes]:
        key, share = (
            client_share[:MLKEM768_ENCAPSULATION_KEY],
            client_share[MLKEM768_ENCAPSULATION_KEY:],
        )
        dh = _X25519Private(self._entropy)
        try:
            shared, ciphertext = mlkem.MLKEM768PublicKey.from_public_bytes(key).encapsulate()
        except ValueError:
            raise PeerViolation(Violation.INVALID_POINT, "ML-KEM encapsulation key") from None
        return ciphertext + dh.public, shared + dh.exchange(share)

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        zeros = bytes(algorithm.digest_size)
        key = zeros if salt is None else _octets(salt)
        data = zeros if ikm is None else _octets(ikm)
        return SoftwareSecret(name, hmac.digest(key, data, algorithm.name), algorithm)

    def expand_label(
        self, secret: Secret, label: bytes, context: bytes, length: int, name: str
    ) -> Secret:
        info = hkdf_label(length, label, context)
        output = block = _hmac(secret, info + b"\x01")
        while len(output) < length:
            counter = len(output) // len(block) + 1
            block = _hmac(secret, block + info + bytes((counter,)))
            output += block
        return SoftwareSecret(name, output[:length], secret.hash)

    def mac(self, key: Secret, data: bytes) -> bytes:
        return _hmac(key, data)

    def verify_mac(self, key: Secret, data: bytes, tag: bytes) -> bool:
        return hmac.compare_digest(self.mac(key, data), tag)

    def aead(self, suite: SuiteParameters, key: Secret, iv: Secret) -> Aead:
        aead = SoftwareAead(suite, bytes(_octets(key)), bytes(_octets(iv)))
        self.destroy(key, iv)
        return aead

    def signer(self, key: Any) -> Signer:
        return SoftwareSigner(key, deterministic_ecdsa=self._deterministic_ecdsa)

    def import_psk(self, key: bytes | PskReference, algorithm: HashAlgorithm) -> Secret:
        if isinstance(key, PskReference):
            raise self._unfit(key)
        self._record("PSK", "in", "import_psk")
        return SoftwareSecret("PSK", key, algorithm)

    def wrap(self, secret: Secret) -> bytes:
        blob = bytes(_octets(secret))
        self._record(secret.name, "out", "wrap")
        return blob

    def unwrap(self, blob: bytes, name: str, algorithm: HashAlgorithm) -> Secret:
        if not 0 < len(blob) <= algorithm.digest_size:  # what a TPM wrapped is longer
            raise StoredSecretError("a stored secret is not of this backend")
        self._record(name, "in", "unwrap")
        return SoftwareSecret(name, blob, algorithm)

    def reveal(self, secret: Secret, reason: str) -> bytes:
        octets = bytes(_octets(secret))
        self._record(secret.name, "out", f"reveal: {reason}")
        return octets

    def destroy(self, *secrets: Secret | None) -> None:
        for secret in secrets:
            if isinstance(secret, SoftwareSecret):
                secret.octets[:] = bytes(secret.length)
                secret.octets.clear()

    def _record(self, secret: str, direction: Direction, via: str) -> None:
        self.ledger.record(Crossing(secret, "protocol", direction, via))


def _octets(secret: Secret) -> bytearray:
    if not isinstance(secret, SoftwareSecret):
        raise BackendError(f"{secret!r} belongs to another backend")
    if len(secret.octets) != secret.length:
        raise BackendError(f"{secret!r} was destroyed")
    return secret.octets


def _hmac(key: Secret, data: bytes) -> bytes:
    """HMAC with the hash that `key` is tied to."""
    octets = _octets(key)
    if key.hash is None:
        raise BackendError(f"{key!r} is not tied to a hash")
    return hmac.digest(octets, data, key.hash.name)
