"""GHASH (SP 800-38D §6.4) on Python's integers.

A block is an integer whose bit 127 is the coefficient of x^0 (§6.3), so that shifting right
multiplies by x. Two ways to multiply, neither of which looks at single bits of the data:

*Block by block*: Shoup's method, an octet at a time, with a table of 256 multiples of H. Soon
enough the key has earned sixteen such tables, one for each octet's place, and a product is sixteen
look-ups.

*Many blocks at once*: `_Fold` takes the data in pieces of 26 blocks and adds them up, each
multiplied by its power of H^26, so that one piece is left for the first way. Python's XOR and shift
work on all blocks of a piece together. Σ c_j·P_j over several P_j goes bit by bit of the constants
c_j, for five P_j at once, by a table of the 32 sums of subsets of them (the method of the four
Russians). Only the last step, which shifts these sums into place, needs room beside each block: it
is taken once for all blocks and once for the even ones, and the difference is the odd ones'.

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

_SMALL: Final = 250
"""Blocks that a key has hashed before tables larger than those of Shoup's method are made."""
_FOLD_FROM: Final = 96
"""Blocks from which on a message is folded."""


class Ghash:
    """GHASH under one hash subkey H."""

    def __init__(self, subkey: bytes) -> None:
        self._h = int.from_bytes(subkey, "big")
        self._hashed = 0

    def digest(self, *strings: bytes) -> bytes:
        """GHASH of strings, each padded with zeros to whole blocks."""
        padded = b"".join(part for text in strings for part in (text, bytes(-len(text) % BLOCK)))
        blocks = len(padded) // BLOCK
        self._hashed += blocks
        if self._hashed <= _SMALL:
            total = _by_octets(self._octet_multiples, padded)
        elif blocks < _FOLD_FROM:
            total = _by_places(self._place_multiples, padded)
        else:
            total = self._fold(padded)
        return total.to_bytes(BLOCK, "big")

    def of_message(self, additional_data: bytes, ciphertext: bytes) -> bytes:
        """What GCM hashes (§7.1, steps 4 and 5): both, padded, and their lengths in bits."""
        lengths = (8 * len(text) for text in (additional_data, ciphertext))
        last = b"".join(bits.to_bytes(8, "big") for bits in lengths)
        return self.digest(additional_data, ciphertext, last)

    @cached_property
    def _octet_multiples(self) -> list[int]:
        return _octet_multiples(self._h)

    @cached_property
    def _place_multiples(self) -> list[list[int]]:
        return _place_multiples(self._h)

    @cached_property
    def _fold(self) -> _Fold:
        return _Fold(self._octet_multiples, self._place_multiples)


# -- block by block --------------------------------------------------------------------------------


def _times_x(block: int) -> int:
    return block >> 1 ^ _POLYNOMIAL if block & 1 else block >> 1


def _sums(terms: Iterable[int]) -> list[int]:
    """The XOR of each subset of the terms, at the subset's number: bit i stands for term i."""
    sums = [0]
    for term in terms:
        for other in sums.copy():
            sums.append(term ^ other)  # noqa: PERF401 - faster than a comprehension
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
"""Blocks in a piece. More leave more for Horner's rule at the end, and numbers that Python's own
allocator does not take; fewer make each operation of Python's do less."""
_PIECE: Final = BLOCK * _LANES
_ROUND: Final = 40 * _PIECE
"""What is added up at once: a full record, its header and the lengths."""
_GROUP: Final = 5
"""Numbers in one table of sums of subsets."""

_EACH: Final = sum(1 << 128 * lane for lane in range(_LANES))
"""The last bit of each block."""
_EVENS: Final = sum((2**128 - 1) << 128 * lane for lane in range(0, _LANES, 2))
"""Every other block, from the last one on: each then has as much room again in front of it."""
_ODDS: Final = _EVENS << 128


class _Fold:
    """GHASH of long messages, given the octet multiples of H and, by places, those of H."""

    def __init__(self, multiples: list[int], place_multiples: list[list[int]]) -> None:
        # Horner's rule on 1, 0, 0, … makes a power of H.
        one = _ONE.to_bytes(BLOCK, "big")
        step = _octet_multiples(_by_octets(multiples, one + bytes(_PIECE - BLOCK)))
        powers = [_ONE]
        for _ in range(_ROUND // _PIECE):
            powers.append(_by_octets(step, powers[-1].to_bytes(BLOCK, "big")))
        self._selections = _selections(powers)
        self._place_multiples = place_multiples

    def __call__(self, data: bytes) -> int:
        """GHASH of whole blocks; zeros in front change nothing."""
        data = bytes(-len(data) % _PIECE) + data
        start, end = 0, len(data) % _ROUND or _ROUND
        total: list[int] = []
        while start < len(data):
            numbers = [int.from_bytes(piece, "big") for piece in pieces(data[start:end], _PIECE)]
            # from the last piece on, as the powers are; what was added up so far is in front
            total = [self._add_up(numbers[::-1] + total)]
            start, end = end, end + _ROUND
        return _by_places(self._place_multiples, total[0].to_bytes(_PIECE, "big"))

    def _add_up(self, terms: list[int]) -> int:
        """Σ c_j · terms[j] in each lane, c_j being 1, H^26, H^52, …"""
        terms += [0] * (-len(terms) % _GROUP)
        groups = [terms[start : start + _GROUP] for start in range(0, len(terms), _GROUP)]
        chosen = [
            select(_sums(group))
            for select, group in zip(self._selections, groups, strict=False)  # a short message
        ]
        # Products are twice as long as blocks: in `total` those of neighbours overlap.
        total, evens, mask = 0, 0, _EVENS
        for term in reduce(lambda one, other: map(xor, one, other), chosen):
            total = total << 1 ^ term
            evens = evens << 1 ^ term & mask
        return _reduce(evens, total ^ evens)


def _selections(constants: Sequence[int]) -> list[itemgetter[Any]]:
    """For each group of constants: bit by bit, x^0 first, the sum of those that have it."""
    ones = int.from_bytes(b"\1" * 128, "big")
    spread = [int.from_bytes(format(c, "0128b").encode(), "big") & ones for c in constants]
    groups = [spread[start : start + _GROUP] for start in range(0, len(spread), _GROUP)]
    return [
        itemgetter(*sum(bits << place for place, bits in enumerate(group)).to_bytes(128, "big"))
        for group in groups
    ]


def _reduce(evens: int, odds: int) -> int:
    """The products of even and of odd blocks, whose bit b stands for x^(254 - b), as blocks."""
    blocks = evens >> 127 & _EVENS | odds >> 127 & _ODDS
    above = evens << 1 & _EVENS | odds << 1 & _ODDS
    # The products by x² and x⁷ push out what is x^128 and up once more.
    above ^= (above & 0x02 * _EACH) << 126 ^ (above & 0x7E * _EACH) << 121
    shifted = (above >> count & _EACH * (2 ** (128 - count) - 1) for count in (1, 2, 7))
    return reduce(xor, shifted, blocks ^ above)
