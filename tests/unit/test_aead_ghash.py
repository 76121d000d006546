"""GHASH, against the definition carried out bit by bit."""

from __future__ import annotations

import random

import pytest

from tpmtls.aead import ghash as implementation
from tpmtls.aead.ghash import Ghash

RANDOM = random.Random(38)
SUBKEYS = {
    "zero": bytes(16),
    "one": b"\x80" + bytes(15),
    "x": b"\x40" + bytes(15),
    "x^127": bytes(15) + b"\x01",
    "all ones": b"\xff" * 16,
    "random": RANDOM.randbytes(16),
}
FOLD = implementation._FOLD_FROM
PIECE, ROUND = implementation._PIECE // 16, implementation._ROUND // 16
LENGTHS = [
    *(0, 1, 2, 3, PIECE - 1, PIECE, PIECE + 1, FOLD - 1, FOLD, FOLD + 1),
    *(5 * PIECE, 5 * PIECE + 1, 6 * PIECE - 1, ROUND - 1, ROUND, ROUND + 1),
    *(ROUND + PIECE + 3, 2 * ROUND - 1, 2 * ROUND, 2 * ROUND + 1, 3 * ROUND),
]
"""In blocks: around a piece, the shortest message that is folded, and what is added up at once."""


def product(one: int, other: int) -> int:
    """SP 800-38D §6.3, algorithm 1."""
    z, v = 0, other
    for place in range(127, -1, -1):
        if one >> place & 1:
            z ^= v
        v = v >> 1 ^ (0xE1 << 120 if v & 1 else 0)
    return z


def expected(subkey: bytes, data: bytes) -> bytes:
    """SP 800-38D §6.4, algorithm 2."""
    y = 0
    for start in range(0, len(data), 16):
        y = product(y ^ int.from_bytes(data[start : start + 16]), int.from_bytes(subkey))
    return y.to_bytes(16)


@pytest.mark.parametrize("subkey", SUBKEYS.values(), ids=SUBKEYS)
@pytest.mark.parametrize("blocks", [0, 1, 2, 3, 30, 111])
def test_definition(subkey: bytes, blocks: int) -> None:
    data = RANDOM.randbytes(16 * blocks)
    assert Ghash(subkey).digest(data) == expected(subkey, data)


@pytest.mark.parametrize("subkey", SUBKEYS.values(), ids=SUBKEYS)
@pytest.mark.parametrize("blocks", LENGTHS)
def test_ways_to_multiply_agree(subkey: bytes, blocks: int) -> None:
    data, h = RANDOM.randbytes(16 * blocks), int.from_bytes(subkey)
    multiples = implementation._octet_multiples(h)
    by_octets = implementation._by_octets(multiples, data)
    places = implementation._place_multiples(h)
    assert implementation._by_places(places, data) == by_octets
    if blocks:
        assert implementation._Fold(multiples, places)(data) == by_octets
    assert Ghash(subkey).digest(data) == by_octets.to_bytes(16)


def test_sparse_messages_are_folded() -> None:
    ghash, subkey = Ghash(SUBKEYS["random"]), SUBKEYS["random"]
    ghash.digest(bytes(16 * implementation._SMALL))
    for place in (0, 15, 16, 67, 68, 93, 94, 118, 119):
        data = bytearray(16 * 120)
        data[16 * place] = 0x80  # one
        assert ghash.digest(bytes(data)) == expected(subkey, bytes(data))


def test_strings_are_padded_each() -> None:
    ghash = Ghash(SUBKEYS["random"])
    padded = b"one" + bytes(13) + b"four and a half." + b"!" + bytes(15)
    assert ghash.digest(b"one", b"four and a half.!", b"") == ghash.digest(padded)


@pytest.mark.parametrize(
    ("blocks", "table"), [(FOLD - 1, "_place_multiples"), (FOLD, "_fold")], ids=["places", "fold"]
)
def test_larger_tables_change_nothing(blocks: int, table: str) -> None:
    ghash, data = Ghash(SUBKEYS["random"]), RANDOM.randbytes(16 * blocks)
    digests = {ghash.digest(data) for _ in range(8)}
    assert digests == {expected(SUBKEYS["random"], data)}
    assert table in vars(ghash)


def test_a_key_hardly_used_has_small_tables_only() -> None:
    ghash = Ghash(SUBKEYS["random"])
    ghash.digest(bytes(16 * implementation._SMALL))
    assert not {"_place_multiples", "_fold"} & set(vars(ghash))
