"""What a code point stands for: hash, AEAD, group and signature parameters; sizes in octets."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from functools import cached_property
from typing import Final, Literal

from tpmtls.codepoints import CipherSuite, NamedGroup, SignatureScheme


@dataclass(frozen=True)
class HashAlgorithm:
    """A hash as TLS uses it: for the transcript, HMAC and HKDF."""

    name: Literal["sha256", "sha384", "sha512"]

    @cached_property
    def digest_size(self) -> int:
        """Hash.length of RFC 9846 §7.1, in octets."""
        return hashlib.new(self.name).digest_size

    @cached_property
    def empty_digest(self) -> bytes:
        """The Transcript-Hash of no messages."""
        return hashlib.new(self.name).digest()

    def digest(self, data: bytes) -> bytes:
        """Hash(data)."""
        return hashlib.new(self.name, data).digest()


SHA256: Final = HashAlgorithm("sha256")
SHA384: Final = HashAlgorithm("sha384")
SHA512: Final = HashAlgorithm("sha512")

AeadName = Literal["aes-gcm", "aes-ccm", "chacha20-poly1305"]

GCM_RECORD_LIMIT: Final = int(2**24.5)
"""Full-size records that AES-GCM may protect under one key (RFC 9846 §5.5)."""
CCM_RECORD_LIMIT: Final = 2**23
"""The same for AES-CCM: the bound that RFC 9147 §4.5.3 computes; RFC 9846 §5.5 names none."""
SEQUENCE_LIMIT: Final = 2**64 - 1
"""ChaCha20-Poly1305 has no bound below the end of the sequence numbers (RFC 9846 §5.5)."""


@dataclass(frozen=True)
class SuiteParameters:
    """One row of RFC 9846 Appendix B.4, spelled out.

    `key_length`, `iv_length` and `tag_length` are in octets; `record_limit` counts records.
    """

    suite: CipherSuite
    aead: AeadName
    key_length: int
    tag_length: int
    hash: HashAlgorithm
    record_limit: int
    iv_length: int = 12


# req: E.5-2 E.5-3 9.1-1 9.1-2
SUITES: Final = {
    row.suite: row
    for row in (
        SuiteParameters(
            CipherSuite.TLS_AES_128_GCM_SHA256, "aes-gcm", 16, 16, SHA256, GCM_RECORD_LIMIT
        ),
        SuiteParameters(
            CipherSuite.TLS_AES_256_GCM_SHA384, "aes-gcm", 32, 16, SHA384, GCM_RECORD_LIMIT
        ),
        SuiteParameters(
            CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
            "chacha20-poly1305",
            32,
            16,
            SHA256,
            SEQUENCE_LIMIT,
        ),
        SuiteParameters(
            CipherSuite.TLS_AES_128_CCM_SHA256, "aes-ccm", 16, 16, SHA256, CCM_RECORD_LIMIT
        ),
        SuiteParameters(
            CipherSuite.TLS_AES_128_CCM_8_SHA256, "aes-ccm", 16, 8, SHA256, CCM_RECORD_LIMIT
        ),
    )
}


@dataclass(frozen=True)
class GroupParameters:
    """Sizes, in octets, of a group's KeyShareEntry.key_exchange, by who sends it."""

    group: NamedGroup
    client_share: int
    server_share: int
    shared_secret: int


# req: 9.1-4 9.1-5 9.3-4 B.3.1.4-1
GROUPS: Final = {
    row.group: row
    for row in (
        GroupParameters(NamedGroup.secp256r1, 65, 65, 32),
        GroupParameters(NamedGroup.secp384r1, 97, 97, 48),
        GroupParameters(NamedGroup.secp521r1, 133, 133, 66),
        GroupParameters(NamedGroup.x25519, 32, 32, 32),
        GroupParameters(NamedGroup.x448, 56, 56, 56),
        GroupParameters(NamedGroup.X25519MLKEM768, 1184 + 32, 1088 + 32, 64),
    )
}

KeyType = Literal[
    "rsa",
    "rsa-pss",
    "secp256r1",
    "secp384r1",
    "secp521r1",
    "ed25519",
    "ed448",
    "mldsa44",
    "mldsa65",
    "mldsa87",
]


@dataclass(frozen=True)
class SchemeParameters:
    """What a SignatureScheme asks of the key, and whether CertificateVerify may use it."""

    scheme: SignatureScheme
    key_type: KeyType
    hash: HashAlgorithm | None
    padding: Literal["pss", "pkcs1"] | None = None

    @property
    def signs_handshakes(self) -> bool:
        """RSASSA-PKCS1-v1_5 is for certificates only (RFC 9846 §4.3.3)."""
        return self.padding != "pkcs1"


_S = SignatureScheme
# req: 4.3.3-14 4.3.3-20 4.3.3-21 9.1-3
SCHEMES: Final = {
    row.scheme: row
    for row in (
        SchemeParameters(_S.ecdsa_secp256r1_sha256, "secp256r1", SHA256),
        SchemeParameters(_S.ecdsa_secp384r1_sha384, "secp384r1", SHA384),
        SchemeParameters(_S.ecdsa_secp521r1_sha512, "secp521r1", SHA512),
        SchemeParameters(_S.ed25519, "ed25519", None),
        SchemeParameters(_S.ed448, "ed448", None),
        SchemeParameters(_S.rsa_pss_rsae_sha256, "rsa", SHA256, "pss"),
        SchemeParameters(_S.rsa_pss_rsae_sha384, "rsa", SHA384, "pss"),
        SchemeParameters(_S.rsa_pss_rsae_sha512, "rsa", SHA512, "pss"),
        SchemeParameters(_S.rsa_pss_pss_sha256, "rsa-pss", SHA256, "pss"),
        SchemeParameters(_S.rsa_pss_pss_sha384, "rsa-pss", SHA384, "pss"),
        SchemeParameters(_S.rsa_pss_pss_sha512, "rsa-pss", SHA512, "pss"),
        SchemeParameters(_S.mldsa44, "mldsa44", None),
        SchemeParameters(_S.mldsa65, "mldsa65", None),
        SchemeParameters(_S.mldsa87, "mldsa87", None),
        SchemeParameters(_S.rsa_pkcs1_sha256, "rsa", SHA256, "pkcs1"),
        SchemeParameters(_S.rsa_pkcs1_sha384, "rsa", SHA384, "pkcs1"),
        SchemeParameters(_S.rsa_pkcs1_sha512, "rsa", SHA512, "pkcs1"),
    )
}
