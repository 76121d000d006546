"""What AES and HMAC make of a key before they use it: as good as the key, and what a library keeps.

Neither `hashlib` nor `cryptography` gives these out, so they are computed here, from FIPS 197 §5.2
and FIPS 180-4 §6.2 and §6.4.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import cache
from math import isqrt, prod

# -- AES -------------------------------------------------------------------------------------------


def round_keys(key: bytes) -> list[bytes]:
    """The round keys of AES-128 or AES-256 after those that are the key itself."""
    size = len(key) // 4
    words = [key[start : start + 4] for start in range(0, len(key), 4)]
    constant = 1
    while len(words) < 4 * (size + 7):
        word = words[-1]
        if len(words) % size == 0:
            word = _substituted(word[1:] + word[:1])
            word = bytes((word[0] ^ constant,)) + word[1:]
            constant = constant << 1 ^ (0x11B if constant & 0x80 else 0)
        elif size > 6 and len(words) % size == 4:
            word = _substituted(word)
        words.append(bytes(a ^ b for a, b in zip(words[-size], word, strict=True)))
    octets = b"".join(words)
    return [octets[start : start + 16] for start in range(len(key), len(octets), 16)]


def _substituted(word: bytes) -> bytes:
    return bytes(_substitution()[octet] for octet in word)


@cache
def _substitution() -> bytes:
    """The S-box: the inverse in GF(2^8), and the affine transformation (FIPS 197 §5.1.1)."""
    exponents, number = [], 1
    for _ in range(255):
        exponents.append(number)
        number ^= number << 1 ^ (0x11B if number & 0x80 else 0)
    made = [0x63] + [0] * 255
    for place, number in enumerate(exponents):
        inverse = exponents[-place % 255]
        made[number] = 0x63
        for turn in range(5):
            made[number] ^= (inverse << turn | inverse >> 8 - turn) & 0xFF
    return bytes(made)


# -- HMAC ------------------------------------------------------------------------------------------


def hmac_states(key: bytes, bits: int) -> Iterator[list[int]]:
    """Inner and outer state after the padded key: eight words of 32 bits for SHA-256, or of 64."""
    for pad in 0x36, 0x5C:
        block = bytes(octet ^ pad for octet in key.ljust(2 * bits, b"\0"))
        yield compressed(initial(bits), block, bits)


@cache
def _primes() -> list[int]:
    return [number for number in range(2, 410) if all(number % each for each in range(2, number))]


@cache
def _constants(bits: int) -> list[int]:
    """Of the cube roots of the first primes, the first `bits` bits behind the point."""
    return [_cube_root(prime << 192) % 2**64 >> 64 - bits for prime in _primes()]


def _cube_root(number: int) -> int:
    low, high = 0, 1 << 70
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if prod((middle,) * 3) <= number else (low, middle)
    return low


def initial(bits: int) -> list[int]:
    """Where SHA-256 (words of 32 bits) and SHA-384 (of 64) begin: in the same way square roots."""
    primes = _primes()[:8] if bits == 32 else _primes()[8:16]
    return [isqrt(prime << 128) % 2**64 >> 64 - bits for prime in primes]


_ROTATIONS = {
    32: ((7, 18, 3), (17, 19, 10), (2, 13, 22), (6, 11, 25), 64),
    64: ((1, 8, 7), (19, 61, 6), (28, 34, 39), (14, 18, 41), 80),
}


def compressed(state: list[int], block: bytes, bits: int) -> list[int]:
    """The state after one more block."""
    small0, small1, big0, big1, rounds = _ROTATIONS[bits]
    mask, size = 2**bits - 1, bits // 8

    def turned(word: int, *by: int) -> list[int]:
        return [(word >> each | word << bits - each) & mask for each in by]

    def xored(words: list[int], last: int = 0) -> int:
        for word in words:
            last ^= word
        return last

    schedule = [int.from_bytes(block[at : at + size], "big") for at in range(0, 16 * size, size)]
    for at in range(16, rounds):
        one, two = schedule[at - 15], schedule[at - 2]
        first = xored(turned(one, *small0[:2]), one >> small0[2])
        second = xored(turned(two, *small1[:2]), two >> small1[2])
        schedule.append(schedule[at - 16] + first + schedule[at - 7] + second & mask)
    a, b, c, d, e, f, g, h = state
    for constant, word in zip(_constants(bits), schedule, strict=False):
        first = h + xored(turned(e, *big1)) + (e & f ^ ~e & g) + constant + word
        second = xored(turned(a, *big0)) + (a & b ^ a & c ^ b & c)
        a, b, c, d, e, f, g, h = first + second & mask, a, b, c, d + first & mask, e, f, g
    return [x + y & mask for x, y in zip(state, (a, b, c, d, e, f, g, h), strict=True)]
