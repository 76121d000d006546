"""GCM and CCM from each choice of modes do what `cryptography`'s own do, and refuse the rest."""

from __future__ import annotations

import random
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.block_ciphers import FACTORIES, Factory, SoftwareCipher
from tpmtls.aead import BLOCK, Ccm, Gcm, Mode, Records

BORDERS = [0, 1, 15, 16, 17, 31, 32, 33, 1007, 1008, 1009, 1023, 1024, 1025, 2032, 2064, 4095]
"""Around a block, a command, and a command that has the tag's block in front."""
LONG = [16383, 16384, 16385, 20000]
"""Around a full record (RFC 9846 §5.2), and more than GHASH takes at once."""

lengths = st.sampled_from(BORDERS + LONG) | st.integers(0, 300)
keys = st.sampled_from([16, 24, 32]).flatmap(lambda size: st.binary(min_size=size, max_size=size))
gcm_nonces = st.binary(min_size=12, max_size=12) | st.binary(min_size=8, max_size=128)
ccm_nonces = st.binary(min_size=7, max_size=13)
ccm_tags = st.sampled_from([4, 6, 8, 10, 12, 14, 16])


@st.composite
def texts(draw: st.DrawFn) -> bytes:
    """Octets of any length of interest; what they are makes no difference, so they are cheap."""
    return random.Random(draw(st.integers(0, 2**32))).randbytes(draw(lengths))


from_each_cipher = pytest.mark.parametrize("factory", FACTORIES.values(), ids=FACTORIES)


def flipped(data: bytes, bit: int) -> bytes:
    octet, place = divmod(bit % (8 * len(data)), 8)
    return data[:octet] + bytes((data[octet] ^ 1 << place,)) + data[octet + 1 :]


@from_each_cipher
@given(key=keys, nonce=gcm_nonces, additional_data=texts(), plaintext=texts())
def test_gcm_is_aesgcm(
    factory: Factory, key: bytes, nonce: bytes, additional_data: bytes, plaintext: bytes
) -> None:
    gcm = Gcm(factory(key))
    sealed = gcm.seal(nonce, additional_data, plaintext)
    assert sealed == AESGCM(key).encrypt(nonce, plaintext, additional_data)
    assert gcm.open(nonce, additional_data, sealed) == plaintext


@from_each_cipher
@given(key=keys, nonce=ccm_nonces, tag=ccm_tags, additional_data=texts(), plaintext=texts())
def test_ccm_is_aesccm(
    factory: Factory, key: bytes, nonce: bytes, tag: int, additional_data: bytes, plaintext: bytes
) -> None:
    ccm = Ccm(factory(key), tag)
    sealed = ccm.seal(nonce, additional_data, plaintext)
    assert sealed == AESCCM(key, tag).encrypt(nonce, plaintext, additional_data)
    assert ccm.open(nonce, additional_data, sealed) == plaintext


@from_each_cipher
@pytest.mark.parametrize("mode", [Gcm, Ccm])
@given(data=st.data(), key=keys, additional_data=texts(), plaintext=texts(), bit=st.integers(0))
def test_any_flipped_bit_is_refused(
    factory: Factory,
    mode: type[Gcm | Ccm],
    data: st.DataObject,
    key: bytes,
    additional_data: bytes,
    plaintext: bytes,
    bit: int,
) -> None:
    nonce = data.draw(gcm_nonces if mode is Gcm else ccm_nonces)
    aead = mode(factory(key), 16)
    sealed = aead.seal(nonce, additional_data, plaintext)
    assert aead.open(nonce, additional_data, flipped(sealed, bit)) is None
    assert aead.open(flipped(nonce, bit), additional_data, sealed) is None
    if additional_data:
        assert aead.open(nonce, flipped(additional_data, bit), sealed) is None


@pytest.mark.parametrize("mode", [Gcm, Ccm])
@pytest.mark.parametrize("tag", [4, 8, 12, 16])
def test_every_bit_of_a_message_counts(mode: type[Gcm | Ccm], tag: int) -> None:
    aead = mode(FACTORIES["all modes"](bytes(16)), tag)
    sealed = aead.seal(bytes(12), b"header", b"some text of 24 octets..")
    for bit in range(8 * len(sealed)):
        assert aead.open(bytes(12), b"header", flipped(sealed, bit)) is None


@from_each_cipher
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


# -- no plaintext before the tag is checked --------------------------------------------------------


class Watched(bytes):
    """Keystream that notes which slices of it were asked for."""

    def __new__(cls, octets: bytes) -> Watched:
        made = super().__new__(cls, octets)
        made.asked = []
        return made

    asked: list[slice]

    def __getitem__(self, key: Any) -> Any:
        self.asked.append(key)
        return super().__getitem__(key)


@given(plaintext=texts(), bit=st.integers(0))
def test_gcm_decrypts_nothing_before_the_tag_is_right(plaintext: bytes, bit: int) -> None:
    cipher = SoftwareCipher(bytes(16), [Mode.ECB])
    gcm, nonce = Gcm(cipher), bytes(12)
    sealed = gcm.seal(nonce, b"header", plaintext)
    stream = Watched(AESGCM(bytes(16)).encrypt(nonce, bytes(len(plaintext)), None))
    assert gcm.open_with(stream, nonce, b"header", flipped(sealed, bit)) is None
    assert stream.asked == [slice(None, BLOCK)]  # what masks the tag


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


# -- records ---------------------------------------------------------------------------------------


@from_each_cipher
@settings(max_examples=20)
@given(
    key=keys,
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
    key: bytes,
    iv: bytes,
    first: int,
    plaintexts: list[bytes],
    lookahead: int,
    idle: set[int],
) -> None:
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
