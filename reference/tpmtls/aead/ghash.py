"""GHASH (SP 800-38D §6.4) on Python's integers.

A block is an integer whose bit 127 is the coefficient of x^0 (§6.3), so that shifting right
multiplies by x. Two ways to multiply, neither of which looks at single bits of the data:

*Block by block*: Shoup's method, an octet at a time, with a table of 256 multiples of H. Soon
enough the key has earned sixteen such tables, one for each octet's place, and a product is sixteen
look-ups.

*Many blocks at once*: `_Fold` takes the data in pieces of 26 blocks and adds them up, each
multiplied by its power of H^26; 26 blocks are left for the first way. In a piece, Python's XOR and
shift work on all blocks together. What is multiplied there is halves of blocks, so that a 127-bit
product has the place of its block (Karatsuba: three products for four); and Σ c_j·P_j over several
pieces P_j goes bit by bit of the constants c_j, for five pieces at once, by a table of the 32 sums
of subsets of them (the method of the four Russians).

Table look-ups take a time that depends on what is looked up, and nothing in Python is free of that.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from functools import cached_property, reduce
from operator import itemgetter, xor
from typing import Any, Final

from tpmtls.aead.cipher import BLOCK, pieces

_ONE: Final = 1 << 127
_POLYNOMIAL: Final = 0xE1 << 120
"""x^128 reduced: 1 + x + x² + x⁷."""

_TABLES_AFTER: Final = 200
"""Blocks that Shoup's method may hash before the larger tables are worth making."""
_FOLD_FROM: Final = 104
"""Blocks from which on a message is folded."""


class Ghash:
    """GHASH under one hash subkey H."""

    def __init__(self, subkey: bytes) -> None:
        self._h = int.from_bytes(subkey, "big")
        self._octet_multiples = _octet_multiples(self._h)
        self._hashed = 0

    def digest(self, *strings: bytes) -> bytes:
        """GHASH of strings, each padded with zeros to whole blocks."""
        padded = b"".join(part for text in strings for part in (text, bytes(-len(text) % BLOCK)))
        if len(padded) >= BLOCK * _FOLD_FROM:
            padded = self._fold(padded)
        self._hashed += len(padded) // BLOCK
        if self._hashed > _TABLES_AFTER:
            return _by_places(self._place_multiples, padded).to_bytes(BLOCK, "big")
        return _by_octets(self._octet_multiples, padded).to_bytes(BLOCK, "big")

    @cached_property
    def _place_multiples(self) -> list[list[int]]:
        return _place_multiples(self._h)

    @cached_property
    def _fold(self) -> _Fold:
        return _Fold(self._h)


# -- block by block --------------------------------------------------------------------------------


def _times_x(block: int) -> int:
    return block >> 1 ^ _POLYNOMIAL if block & 1 else block >> 1


def _sums(terms: Iterable[int]) -> list[int]:
    """The XOR of each subset of the terms, at the subset's number: bit i stands for term i."""
    sums = [0]
    for term in terms:
        sums += [term ^ other for other in sums]
    return sums


def _multiples_by_powers(factor: int, count: int) -> list[int]:
    """`factor` times x^0, x^1, …"""
    powers = [factor]
    while len(powers) < count:
        powers.append(_times_x(powers[-1]))
    return powers


def _octet_multiples(factor: int) -> list[int]:
    """`factor` times each octet, taken as the first one of a block: bit 7 stands for x^0."""
    return _sums(reversed(_multiples_by_powers(factor, 8)))


def _place_multiples(factor: int) -> list[list[int]]:
    """`factor` times each octet, at each of its sixteen places in a block."""
    powers = _multiples_by_powers(factor, 8 * BLOCK)
    return [_sums(powers[start : start + 8][::-1]) for start in range(0, 8 * BLOCK, 8)]


def _shifted_out(octet: int) -> int:
    """x^8 times a block of which only the last octet is not zero."""
    return _multiples_by_powers(octet, 9)[8]


_REDUCED: Final = [_shifted_out(octet) for octet in range(256)]


def _by_octets(multiples: list[int], data: bytes) -> int:
    """Horner's rule with Shoup's method: the octets of a block from its last to its first."""
    reduced = _REDUCED
    product = 0
    for block in pieces(data, BLOCK):
        total, product = product ^ int.from_bytes(block, "big"), 0
        for octet in total.to_bytes(BLOCK, "little"):
            product = product >> 8 ^ reduced[product & 0xFF] ^ multiples[octet]
    return product


def _by_places(multiples: list[list[int]], data: bytes) -> int:
    """Horner's rule with sixteen tables; written out, as this is the loop that counts."""
    t0, t1, t2, t3, t4, t5, t6, t7, t8, t9, ta, tb, tc, td, te, tf = multiples
    product = 0
    for block in pieces(data, BLOCK):
        total = product ^ int.from_bytes(block, "big")
        a, b, c, d, e, f, g, h, i, j, k, l, m, n, o, p = total.to_bytes(BLOCK, "big")  # noqa: E741
        product = (
            t0[a] ^ t1[b] ^ t2[c] ^ t3[d] ^ t4[e] ^ t5[f] ^ t6[g] ^ t7[h]
            ^ t8[i] ^ t9[j] ^ ta[k] ^ tb[l] ^ tc[m] ^ td[n] ^ te[o] ^ tf[p]
        )  # fmt: skip
    return product


# -- many blocks at once ---------------------------------------------------------------------------

_LANES: Final = 26
"""Blocks in a piece: more make the rest longer that goes block by block, fewer make each of
Python's operations do less. A full record, its header and the lengths are forty pieces."""
_PIECE: Final = BLOCK * _LANES
_TERMS: Final = 40
"""Pieces added up at once."""
_GROUP: Final = 5
"""Pieces in one table of sums of subsets."""

_EACH: Final = sum(1 << 128 * lane for lane in range(_LANES))
"""The last bit of each block."""
_BACKS: Final = _EACH * (2**64 - 1)
"""The back half of each block: x^64 and up."""


class _Fold:
    """Adds up the pieces of a message, each times the power of H that its place asks for."""

    def __init__(self, h: int) -> None:
        def block(value: int) -> bytes:
            return value.to_bytes(BLOCK, "big")

        # Horner's rule on 1, 0, 0, … makes a power of H.
        step = _by_octets(_octet_multiples(h), block(_ONE) + bytes(_PIECE - BLOCK))
        multiples, powers = _octet_multiples(step), [_ONE]
        while len(powers) < _TERMS:
            powers.append(_by_octets(multiples, block(powers[-1])))
        fronts, backs = [power >> 64 for power in powers], [power & 2**64 - 1 for power in powers]
        self._fronts, self._backs = _selections(fronts), _selections(backs)
        self._sums = _selections(list(map(xor, fronts, backs)))

    def __call__(self, data: bytes) -> bytes:
        """A message of one piece, from whole blocks, that has the same GHASH."""
        first = len(data) % _PIECE or _PIECE
        parts = [int.from_bytes(data[:first], "big")]
        parts += [int.from_bytes(piece, "big") for piece in pieces(data[first:], _PIECE)]
        while len(parts) > 1:
            # the first round takes so many that all later ones are full
            count = (len(parts) - 2) % (_TERMS - 1) + 2
            parts[:count] = [self._add_up(parts[count - 1 :: -1])]
        return parts[0].to_bytes(_PIECE, "big")

    def _add_up(self, parts: Sequence[int]) -> int:
        """Σ H^26^j · parts[j], in each lane, by Karatsuba's method."""
        parts = [*parts, *[0] * (-len(parts) % _GROUP)]
        fronts = [part >> 64 & _BACKS for part in parts]
        backs = [part & _BACKS for part in parts]
        front = _scaled_sum(fronts, self._fronts)
        back = _scaled_sum(backs, self._backs)
        middle = _scaled_sum(list(map(xor, fronts, backs)), self._sums) ^ front ^ back
        return _reduce(front ^ (middle >> 64 & _BACKS), back ^ (middle & _BACKS) << 64)


def _selections(constants: Sequence[int]) -> list[itemgetter[Any]]:
    """For each group of 64-bit constants: bit by bit, x^0 first, the sum of those that have it."""
    ones = int.from_bytes(b"\1" * 64, "big")
    spread = [int.from_bytes(format(c, "064b").encode(), "big") & ones for c in constants]
    return [
        itemgetter(
            *sum(bits << at for at, bits in enumerate(spread[start : start + _GROUP])).to_bytes(64)
        )
        for start in range(0, len(spread), _GROUP)
    ]


def _scaled_sum(parts: Sequence[int], selections: Sequence[itemgetter[Any]]) -> int:
    """Σ c_j · parts[j], as blocks; 64-bit c_j by their selections, 64-bit values in the parts."""
    groups = [parts[start : start + _GROUP] for start in range(0, len(parts), _GROUP)]
    chosen = [select(_sums(group)) for group, select in zip(groups, selections, strict=False)]
    total = 0
    for term in reduce(lambda one, other: map(xor, one, other), chosen):
        total = total << 1 ^ term
    return total << 1


def _reduce(blocks: int, above: int) -> int:
    """blocks + x^128 · above, in each lane; `above` is of degree 126 at most."""
    # What the products by x² and x⁷ push out is x^128 and up once more.
    above ^= (above & 0x02 * _EACH) << 126 ^ (above & 0x7E * _EACH) << 121
    shifted = (above >> count & _EACH * (2 ** (128 - count) - 1) for count in (1, 2, 7))
    return reduce(xor, shifted, blocks ^ above)
