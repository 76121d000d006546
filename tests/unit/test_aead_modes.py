"""GCM's and CCM's bounds: what is refused, and how that is said."""

from __future__ import annotations

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM

from tests.block_ciphers import SoftwareCipher
from tpmtls.aead import Ccm, Gcm, Mode
from tpmtls.aead.ccm import _with_length

KEY = bytes(16)


def cipher() -> SoftwareCipher:
    return SoftwareCipher(KEY, [Mode.ECB, Mode.CBC])


@pytest.mark.parametrize("tag", [0, 1, 3, 5, 6, 7, 9, 10, 11, 17])
def test_gcm_tags(tag: int) -> None:
    with pytest.raises(ValueError, match=rf"GCM: tag of {tag} octets, not one of \(4, 8, 12"):
        Gcm(cipher(), tag)


@pytest.mark.parametrize("tag", [0, 2, 3, 5, 7, 15, 17, 18])
def test_ccm_tags(tag: int) -> None:
    with pytest.raises(ValueError, match=rf"CCM: tag of {tag} octets, not one of \(4, 6, 8"):
        Ccm(cipher(), tag)


def test_gcm_has_no_empty_nonce() -> None:
    with pytest.raises(ValueError, match="GCM: nonce of 0 octets, not 1 to"):
        Gcm(cipher()).seal(b"", b"", b"text")
    with pytest.raises(ValueError, match="GCM: nonce of 0 octets, not 1 to"):
        Gcm(cipher()).open(b"", b"", bytes(20))


@pytest.mark.parametrize("size", [0, 6, 14, 16])
def test_ccm_nonces(size: int) -> None:
    with pytest.raises(ValueError, match=f"CCM: nonce of {size} octets, not 7 to 13"):
        Ccm(cipher()).seal(bytes(size), b"", b"text")
    with pytest.raises(ValueError, match=f"CCM: nonce of {size} octets, not 7 to 13"):
        Ccm(cipher()).open(bytes(size), b"", bytes(20))


def test_ccm_counts_to_the_end_of_its_length_field() -> None:
    nonce, longest = bytes(13), bytes(2**16 - 1)
    sealed = Ccm(cipher()).seal(nonce, b"", longest)
    assert sealed == AESCCM(KEY).encrypt(nonce, longest, None)
    with pytest.raises(ValueError, match="CCM: plaintext of 65536 octets, not 0 to 65535"):
        Ccm(cipher()).seal(nonce, b"", longest + b"!")


@pytest.mark.parametrize(
    ("mode", "nonce", "longest"),
    [
        (Gcm, 12, 2**36 - 32),
        (Gcm, 16, 2**36 - 32),
        (Ccm, 12, 2**24 - 1),
        (Ccm, 7, 2**64 - 1),
    ],
)
def test_longest_plaintext(mode: type[Gcm | Ccm], nonce: int, longest: int) -> None:
    aead = mode(cipher())
    assert aead.counters(bytes(nonce), longest).blocks == 1 + -(-longest // 16)
    with pytest.raises(ValueError, match=f"plaintext of {longest + 1} octets"):
        aead.counters(bytes(nonce), longest + 1)


@pytest.mark.parametrize("size", [2**16 - 2**8 - 1, 2**16 - 2**8, 2**16])
def test_length_of_ccm_additional_data(size: int) -> None:
    additional_data = bytes(size)
    expected = AESCCM(KEY).encrypt(bytes(12), b"text", additional_data)
    assert Ccm(cipher()).seal(bytes(12), additional_data, b"text") == expected


class Long(bytes):
    """Additional data that claims more octets than there is memory."""

    claimed: int

    def __new__(cls, octets: bytes, claimed: int) -> Long:
        made = super().__new__(cls, octets)
        made.claimed = claimed
        return made

    def __len__(self) -> int:
        return self.claimed


@pytest.mark.parametrize(
    ("size", "encoded"),
    [
        (2**32 - 1, "fffeffffffff"),
        (2**32, "ffff0000000100000000"),
        (2**63 - 1, "ffff7fffffffffffffff"),
    ],
)
def test_length_of_very_long_ccm_additional_data(size: int, encoded: str) -> None:
    assert _with_length(Long(b"data", size)) == bytes.fromhex(encoded) + b"data"


def test_longest_gcm_additional_data() -> None:
    with pytest.raises(ValueError, match=f"GCM: additional data of {2**61} octets"):
        Gcm(cipher()).seal(bytes(12), Long(b"", 2**61), b"text")


@pytest.mark.parametrize("mode", [Gcm, Ccm])
@pytest.mark.parametrize("size", [0, 1, 7, 15])
def test_shorter_than_a_tag_is_refused(mode: type[Gcm | Ccm], size: int) -> None:
    assert mode(cipher()).open(bytes(12), b"", bytes(size)) is None
