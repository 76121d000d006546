"""AEAD cases: those of Project Wycheproof in our form, and protected records made from seeds."""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM, ChaCha20Poly1305

from .problems import Problem

Document = dict[str, Any]

# -- Wycheproof ------------------------------------------------------------------------------------

WYCHEPROOF: Final = {"wycheproof-gcm": "aes_gcm_test.json", "wycheproof-ccm": "aes_ccm_test.json"}
# Our names for Wycheproof's
_FIELDS: Final = {
    "key": "key",
    "iv": "nonce",
    "aad": "additional_data",
    "msg": "plaintext",
    "ct": "ciphertext",
    "tag": "tag",
}


class WycheproofError(ValueError):
    """A file that is not Wycheproof's, or not of the schema that is read here."""


def build_wycheproof(folder: Path) -> dict[str, Document]:
    """The documents that the files of a folder `testvectors_v1` make."""
    return {name: _wycheproof(folder / file) for name, file in WYCHEPROOF.items()}


def _wycheproof(path: Path) -> Document:
    try:
        data = json.loads(path.read_bytes())
        groups = data["testGroups"]
        (source,) = {tuple(group["source"].values()) for group in groups}
        return {
            "$schema": "../schema/aead-wycheproof.schema.json",
            "source": {
                "document": "Project Wycheproof",
                "file": f"testvectors_v1/{path.name}",
                "version": source[1],
                "license": "Apache-2.0",
            },
            "algorithm": data["algorithm"],
            "cases": [_wycheproof_case(case) for group in groups for case in group["tests"]],
        }
    except (LookupError, ValueError, TypeError, AttributeError) as error:
        raise WycheproofError(f"{path}: not Wycheproof's AEAD tests ({error})") from error


def _wycheproof_case(case: Document) -> Document:
    return {
        "id": case["tcId"],
        "result": case["result"],
        "flags": case["flags"],
        "comment": case["comment"],
        **{ours: case[theirs] for theirs, ours in _FIELDS.items()},
    }


# -- records ---------------------------------------------------------------------------------------


@dataclass(frozen=True)
class Suite:
    """What a cipher suite of RFC 9846 appendix B.4 protects records with."""

    name: str
    key_length: int
    aead: type[AESGCM | AESCCM | ChaCha20Poly1305]
    tag_length: int = 16

    def seal(self, key: bytes, nonce: bytes, header: bytes, inner: bytes) -> bytes:
        """AEAD-Encrypt (RFC 9846 §5.2)."""
        if issubclass(self.aead, AESCCM):
            return self.aead(key, self.tag_length).encrypt(nonce, inner, header)
        return self.aead(key).encrypt(nonce, inner, header)


SUITES: Final = {
    suite.name: suite
    for suite in (
        Suite("TLS_AES_128_GCM_SHA256", 16, AESGCM),
        Suite("TLS_AES_256_GCM_SHA384", 32, AESGCM),
        Suite("TLS_CHACHA20_POLY1305_SHA256", 32, ChaCha20Poly1305),
        Suite("TLS_AES_128_CCM_SHA256", 16, AESCCM),
        Suite("TLS_AES_128_CCM_8_SHA256", 16, AESCCM, 8),
    )
}
# Sequence numbers that tell whether the nonce is formed right, and lengths of TLSInnerPlaintext
# around a block, several of them, and 64 with the one that the tag takes
RECORDS: Final = (
    (0, 1),
    (1, 15),
    (255, 16),
    (256, 17),
    (2**32 - 1, 64),
    (2**32, 1007),
    (2**53 + 1, 1008),
    (2**64 - 1, 1009),
)
_APPLICATION_DATA: Final = b"\x17"


def build_records() -> Document:
    """One case for each suite and each of RECORDS; all octets follow from their names."""
    return {
        "$schema": "../schema/aead-records.schema.json",
        "source": {
            "document": "RFC 9846",
            "section": "5.2",
            "seeds": "SHA-256 of `suite field counter`, with the counter from 0, on end",
        },
        "cases": [
            _record(f"{suite.name} {sequence}", suite, sequence, length)
            for suite in SUITES.values()
            for sequence, length in RECORDS
        ],
    }


def _record(name: str, suite: Suite, sequence: int, length: int) -> Document:
    key, iv = _seeded(f"{suite.name} key", suite.key_length), _seeded(f"{suite.name} iv", 12)
    inner = _seeded(f"{name} content", length - 1) + _APPLICATION_DATA
    counted = sequence.to_bytes(8, "big")
    nonce, header = per_record_nonce(iv, counted), record_header(length + suite.tag_length)
    return {
        "suite": suite.name,
        "key": key.hex(),
        "iv": iv.hex(),
        "sequence": counted.hex(),
        "nonce": nonce.hex(),
        "header": header.hex(),
        "inner_plaintext": inner.hex(),
        "encrypted_record": suite.seal(key, nonce, header, inner).hex(),
    }


def _seeded(name: str, length: int) -> bytes:
    counts = range(length // 32 + 1)
    return b"".join(hashlib.sha256(f"{name} {count}".encode()).digest() for count in counts)[
        :length
    ]


def per_record_nonce(iv: bytes, sequence: bytes) -> bytes:
    """RFC 9846 §5.3."""
    padded = sequence.rjust(len(iv), b"\0")
    return bytes(one ^ other for one, other in zip(iv, padded, strict=True))


def record_header(length: int) -> bytes:
    """The header of a TLSCiphertext, which is its additional data (RFC 9846 §5.2)."""
    return _APPLICATION_DATA + b"\x03\x03" + length.to_bytes(2, "big")


_built_records: Final = cache(build_records)


def record_problems(document: Document) -> Iterator[Problem]:
    """Every value that is not what the seeds and the other values give."""
    rebuilt = _built_records()["cases"]
    if len(rebuilt) != len(document["cases"]):
        yield Problem("records", "cases", f"not {len(rebuilt)}")
    for number, (case, expected) in enumerate(zip(document["cases"], rebuilt, strict=False)):
        for field, value in expected.items():
            if case[field] != value:
                yield Problem("records", f"case {number}: {field}", "is not what the rest gives")
