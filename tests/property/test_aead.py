"""The properties of GCM and CCM, from each choice of modes; no plaintext before the right tag."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.aead_properties import (
    flipped,
    test_a_shortened_message_is_refused,
    test_any_flipped_bit_is_refused,
    test_ccm_is_aesccm,
    test_every_bit_of_a_message_counts,
    test_gcm_is_aesgcm,
    test_records_are_those_of_the_library,
    texts,
)
from tests.block_ciphers import FACTORIES, Factory, SoftwareCipher
from tpmtls.aead import Ccm, Gcm, Mode

__all__ = [
    "test_a_shortened_message_is_refused",
    "test_any_flipped_bit_is_refused",
    "test_ccm_is_aesccm",
    "test_every_bit_of_a_message_counts",
    "test_gcm_is_aesgcm",
    "test_records_are_those_of_the_library",
]


@pytest.fixture(scope="module", params=FACTORIES)
def factory(request: pytest.FixtureRequest) -> Factory:
    """Makes a block cipher in some modes."""
    return FACTORIES[request.param]


# -- no plaintext before the tag is checked --------------------------------------------------------


@given(plaintext=texts(), bit=st.integers(0))
def test_gcm_decrypts_nothing_before_the_tag_is_right(plaintext: bytes, bit: int) -> None:
    cipher = SoftwareCipher(bytes(16), [Mode.ECB])
    gcm, nonce = Gcm(cipher), bytes(12)
    sealed = gcm.seal(nonce, b"header", plaintext)
    mask = cipher.encrypt_blocks(nonce + (1).to_bytes(4))
    decrypted: list[bytes] = []

    def crypt(text: bytes) -> bytes:
        decrypted.append(text)
        return plaintext

    assert gcm.open_with(mask, crypt, nonce, b"header", flipped(sealed, bit)) is None
    assert not decrypted
    assert gcm.open_with(mask, crypt, nonce, b"header", sealed) == plaintext
    assert decrypted


@pytest.mark.parametrize("mode", [Gcm, Ccm])
@given(plaintext=texts(), bit=st.integers(0))
def test_a_refused_message_leaves_nothing_behind(
    mode: type[Gcm | Ccm], plaintext: bytes, bit: int
) -> None:
    aead = mode(SoftwareCipher(bytes(16), [Mode.ECB, Mode.CBC]), 16)
    sealed = aead.seal(bytes(12), b"header", plaintext)
    before = set(vars(aead))
    assert aead.open(bytes(12), b"header", flipped(sealed, bit)) is None
    assert set(vars(aead)) == before
    assert plaintext not in vars(aead).values()
