"""Runs the AEAD cases through the reference: its records, and its GCM and CCM on a block cipher."""

from collections.abc import Callable, Iterator
from typing import Any, Final

from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from tpmtls.aead import BlockCipher, Ccm, Gcm
from tpmtls.algorithms import SUITES
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.codepoints import CipherSuite

from ..problems import Problem

Case = dict[str, Any]
MakeCipher = Callable[[bytes], BlockCipher]

MODES: Final[dict[str, type[Gcm | Ccm]]] = {"AES-GCM": Gcm, "AES-CCM": Ccm}
_LENGTHS_REFUSED: Final = {"ZeroLengthIv", "InvalidNonceSize", "InvalidTagSize", "InsecureTagSize"}
"""Wycheproof's flags of cases whose lengths GCM or CCM do not allow."""


class _Ecb(BlockCipher):
    def __init__(self, key: bytes) -> None:
        self._cipher: Cipher[modes.ECB] = Cipher(AES(key), modes.ECB())  # noqa: S305 - a primitive

    def encrypt_blocks(self, data: bytes) -> bytes:
        return self._cipher.encryptor().update(data)


def protection_problems(name: str, document: dict[str, Any]) -> Iterator[Problem]:
    """What the reference does otherwise than a document of AEAD cases."""
    if "algorithm" in document:
        yield from wycheproof_problems(name, MODES[document["algorithm"]], document["cases"])
    else:
        yield from record_problems(name, document["cases"])


def record_problems(name: str, cases: list[Case]) -> Iterator[Problem]:
    """Records that the software backend does not seal to what they are, or does not open."""
    backend = SoftwareBackend()
    for number, case in enumerate(cases):
        key, iv, sequence, header, inner, record = _octets(
            case, "key", "iv", "sequence", "header", "inner_plaintext", "encrypted_record"
        )
        suite = SUITES[CipherSuite[case["suite"]]]
        aead = backend.aead(
            suite,
            SoftwareSecret("key", key, suite.hash),
            SoftwareSecret("iv", iv, suite.hash),
        )
        count = int.from_bytes(sequence, "big")
        if aead.seal(count, header, inner) != record:
            yield Problem(name, f"case {number}", "the reference seals it otherwise")
        if aead.open(count, header, record) != inner:
            yield Problem(name, f"case {number}", "the reference does not open it")


def wycheproof_problems(
    name: str, mode: type[Gcm | Ccm], cases: list[Case], make_cipher: MakeCipher = _Ecb
) -> Iterator[Problem]:
    """Cases that GCM or CCM, on ciphers so made, accept, refuse or seal otherwise than they say."""
    for case in cases:
        what = _difference(mode, make_cipher, case)
        if what is not None:
            yield Problem(name, f"case {case['id']}", f"{what} ({case['comment'] or 'plain'})")


def _difference(mode: type[Gcm | Ccm], make_cipher: MakeCipher, case: Case) -> str | None:
    key, nonce, additional_data, plaintext, ciphertext, tag = _octets(
        case, "key", "nonce", "additional_data", "plaintext", "ciphertext", "tag"
    )
    valid = case["result"] == "valid"
    try:
        aead = mode(make_cipher(key), len(tag))
        opened = aead.open(nonce, additional_data, ciphertext + tag)
    except ValueError:  # of a length
        return None if _LENGTHS_REFUSED & set(case["flags"]) else "the lengths are refused"
    if _LENGTHS_REFUSED & set(case["flags"]):
        return "the lengths are not refused"
    if opened != (plaintext if valid else None):
        return "does not open to the plaintext" if valid else "must be refused and is not"
    if valid and aead.seal(nonce, additional_data, plaintext) != ciphertext + tag:
        return "is sealed otherwise"
    return None


def _octets(case: Case, *fields: str) -> list[bytes]:
    return [bytes.fromhex(case[field]) for field in fields]
