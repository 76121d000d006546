"""As much DER as certificates need beyond what `cryptography` shows (ITU-T X.690 §8, §10)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Final

BIT_STRING: Final = 0x03
OBJECT_IDENTIFIER: Final = 0x06
SEQUENCE: Final = 0x30
VERSION: Final = 0xA0
"""The context tag [0]: a certificate's version, PSS's hash."""


def element(octets: bytes, at: int = 0) -> tuple[int, int, int]:
    """The element that starts at `at`: its tag, and where its content starts and ends.

    Raises ValueError where there is none, or its length is not encoded as DER demands.
    """
    if len(octets) < at + 2:
        raise ValueError("an element is cut off")
    tag, length, start = octets[at], octets[at + 1], at + 2
    if length >= 0x80:
        size = length & 0x7F
        length = int.from_bytes(octets[start : start + size], "big")
        start += size
        if not 1 <= size <= 4 or length < 0x80 or length >> (8 * (size - 1)) == 0:
            raise ValueError("a length is not in its shortest form")
    if start + length > len(octets):
        raise ValueError("an element is cut off")
    return tag, start, start + length


def children(octets: bytes, tag: int = SEQUENCE) -> Iterator[bytes]:
    """Each element, whole, inside the one constructed element that `octets` are."""
    at, end = _bounds(octets, tag)
    while at < end:
        _, _, following = element(octets, at)
        yield octets[at:following]
        at = following


def content(octets: bytes, tag: int) -> bytes:
    """The content of the one primitive element that `octets` are."""
    start, end = _bounds(octets, tag)
    return octets[start:end]


def _bounds(octets: bytes, tag: int) -> tuple[int, int]:
    found, start, end = element(octets)
    if found != tag or end != len(octets):
        raise ValueError(f"not one element of type 0x{tag:02x}")
    return start, end


def encode(tag: int, *parts: bytes) -> bytes:
    """An element whose content is `parts`, of less than 128 octets together."""
    octets = b"".join(parts)
    return bytes((tag, len(octets))) + octets
