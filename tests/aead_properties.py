"""What GCM and CCM from a block cipher have to do, whoever holds the key: for tests to import.

A module that imports these tests has a fixture `factory`. They compare with `cryptography`'s own.
"""

from __future__ import annotations

import random

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.block_ciphers import Factory
from tpmtls.aead import Ccm, Gcm, Records, libcrypto
from tpmtls.aead.ghash import Ghash

BORDERS = [0, 1, 15, 16, 17, 31, 32, 33, 1007, 1008, 1009, 1023, 1024, 1025, 2032, 2064, 4095]
"""Around a block, a command, and a command that has the tag's block in front."""
LONG = [16383, 16384, 16385, 20000]
"""Around a full record (RFC 9846 §5.2), and more than GHASH takes at once."""

lengths = st.sampled_from(BORDERS + LONG) | st.integers(0, 300)
gcm_nonces = st.binary(min_size=12, max_size=12) | st.binary(min_size=8, max_size=128)
ccm_nonces = st.binary(min_size=7, max_size=13)
ccm_tags = st.sampled_from([4, 6, 8, 10, 12, 14, 16])


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Octets of any length of interest; what they are makes no difference, so they are cheap."""
    return random.Random(draw(st.integers(0, 2**32))).randbytes(draw(lengths))


def draw_key(data: st.DataObject, factory: Factory) -> bytes:
    """A key of a size that the cipher takes."""
    size = data.draw(st.sampled_from(factory.key_sizes))
    return data.draw(st.binary(min_size=size, max_size=size))


def flipped(data: bytes, bit: int) -> bytes:
    octet, place = divmod(bit % (8 * len(data)), 8)
    return data[:octet] + bytes((data[octet] ^ 1 << place,)) + data[octet + 1 :]


@given(data=st.data(), nonce=gcm_nonces, additional_data=texts(), plaintext=texts())
def test_gcm_is_aesgcm(
    factory: Factory, data: st.DataObject, nonce: bytes, additional_data: bytes, plaintext: bytes
) -> None:
    key = draw_key(data, factory)
    gcm = Gcm(factory(key), 16, data.draw(st.sampled_from([libcrypto.ghash, Ghash])))
    sealed = gcm.seal(nonce, additional_data, plaintext)
    assert sealed == AESGCM(key).encrypt(nonce, plaintext, additional_data)
    assert gcm.open(nonce, additional_data, sealed) == plaintext


@given(data=st.data(), nonce=ccm_nonces, tag=ccm_tags, additional_data=texts(), plaintext=texts())
def test_ccm_is_aesccm(
    factory: Factory,
    data: st.DataObject,
    nonce: bytes,
    tag: int,
    additional_data: bytes,
    plaintext: bytes,
) -> None:
    key = draw_key(data, factory)
    ccm = Ccm(factory(key), tag)
    sealed = ccm.seal(nonce, additional_data, plaintext)
    assert sealed == AESCCM(key, tag).encrypt(nonce, plaintext, additional_data)
    assert ccm.open(nonce, additional_data, sealed) == plaintext


@pytest.mark.parametrize("mode", [Gcm, Ccm])
@given(data=st.data(), additional_data=texts(), plaintext=texts(), bit=st.integers(0))
def test_any_flipped_bit_is_refused(
    factory: Factory,
    mode: type[Gcm | Ccm],
    data: st.DataObject,
    additional_data: bytes,
    plaintext: bytes,
    bit: int,
) -> None:
    key = draw_key(data, factory)
    nonce = data.draw(gcm_nonces if mode is Gcm else ccm_nonces)
    aead = mode(factory(key), 16)
    sealed = aead.seal(nonce, additional_data, plaintext)
    assert aead.open(nonce, additional_data, flipped(sealed, bit)) is None
    assert aead.open(flipped(nonce, bit), additional_data, sealed) is None
    if additional_data:
        assert aead.open(nonce, flipped(additional_data, bit), sealed) is None


@pytest.mark.parametrize("mode", [Gcm, Ccm])
@pytest.mark.parametrize("tag", [4, 8, 12, 16])
def test_every_bit_of_a_message_counts(factory: Factory, mode: type[Gcm | Ccm], tag: int) -> None:
    aead = mode(factory(bytes(16)), tag)
    sealed = aead.seal(bytes(12), b"header", b"some text of 24 octets..")
    for bit in range(8 * len(sealed)):
        assert aead.open(bytes(12), b"header", flipped(sealed, bit)) is None


@pytest.mark.parametrize("mode", [Gcm, Ccm])
@given(plaintext=texts(), cut=st.integers(1))
def test_a_shortened_message_is_refused(
    factory: Factory, mode: type[Gcm | Ccm], plaintext: bytes, cut: int
) -> None:
    aead = mode(factory(bytes(16)), 16)
    sealed = aead.seal(bytes(12), b"header", plaintext)
    size = len(sealed)
    assert aead.open(bytes(12), b"header", sealed[: size - 1 - cut % size]) is None
    assert aead.open(bytes(12), b"header", sealed + b"\0") is None


# -- records ---------------------------------------------------------------------------------------


@settings(max_examples=20)
@given(
    data=st.data(),
    iv=st.binary(min_size=12, max_size=12),
    first=st.sampled_from([0, 255, 2**32 - 1, 2**64 - 7]),
    plaintexts=st.lists(texts(), min_size=1, max_size=6),
    lookahead=st.sampled_from([0, 16, 1000, 1024, 20000]),
    idle=st.sets(st.integers(0, 5)),
)
@pytest.mark.parametrize("mode", [Gcm, Ccm])
def test_records_are_those_of_the_library(
    factory: Factory,
    mode: type[Gcm | Ccm],
    data: st.DataObject,
    iv: bytes,
    first: int,
    plaintexts: list[bytes],
    lookahead: int,
    idle: set[int],
) -> None:
    key = draw_key(data, factory)
    expected: AESGCM | AESCCM = AESGCM(key) if mode is Gcm else AESCCM(key)
    sender = Records(mode(factory(key), 16), iv, lookahead)
    receiver = Records(mode(factory(key), 16), iv, lookahead)
    for sequence, plaintext in enumerate(plaintexts, first):
        nonce = (int.from_bytes(iv, "big") ^ sequence).to_bytes(12, "big")
        sealed = sender.seal(sequence, b"header", plaintext)
        assert sealed == expected.encrypt(nonce, plaintext, b"header")
        assert receiver.open(sequence, b"header", flipped(sealed, sequence)) is None
        assert receiver.open(sequence, b"header", sealed) == plaintext
        if sequence - first in idle:
            sender.prefetch()
            receiver.prefetch()
