"""The memory of another process, and what secrets look like in it."""

from __future__ import annotations

import base64
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Literal

from tests.tpm.prepared import hmac_states, round_keys

PAGE = 4096
WORD = 8
"""Octets that have to be in place, and aligned, for a secret to be found: whatever has 15 octets of
one has these. Memory that was freed may have lost the beginning of what it held."""


def forms(octets: bytes) -> Iterator[tuple[str, bytes]]:
    """The ways in which a secret may lie about."""
    yield "raw", octets
    yield "reversed", octets[::-1]
    for size in 4, 8:
        yield f"words of {8 * size} bits in the other order", _turned(octets, size)
    yield "hexadecimal", octets.hex().encode()
    yield "hexadecimal, upper case", octets.hex().upper().encode()
    yield "hexadecimal with colons", octets.hex(":").encode()
    yield "base64", base64.b64encode(octets[: len(octets) // 3 * 3])
    yield "escaped", repr(octets)[2:-1].encode()
    yield "a decimal number", str(int.from_bytes(octets, "big")).encode()
    for end in _ENDS:
        yield f"a Python integer, {end} end first", _digits(int.from_bytes(octets, end))
    for pad in 0x36, 0x5C:  # RFC 2104: what an HMAC makes of its key
        yield f"XOR {pad:02x}", bytes(octet ^ pad for octet in octets)
    if len(octets) in _HASHED:
        bits = _HASHED[len(octets)]
        for name, state in zip(("inner", "outer"), hmac_states(octets, bits), strict=True):
            for end in _ENDS:
                looks = b"".join([word.to_bytes(bits // 8, end) for word in state])
                yield f"{name} state of HMAC, {end} end first", looks
    if len(octets) in _AES:
        for number, key in enumerate(round_keys(octets), len(octets) // 16):
            yield f"round key {number}", key
            yield f"round key {number}, words in the other order", _turned(key, 4)


_HASHED: dict[int, int] = {32: 32, 48: 64}
"""How long a secret is that is used with SHA-256 or SHA-384, and the bits of their words."""
_AES = (16, 32)
_ENDS: tuple[Literal["big", "little"], ...] = ("big", "little")


def _turned(octets: bytes, size: int) -> bytes:
    """Each word with its other end first."""
    starts = range(0, len(octets), size)
    return b"".join([octets[start : start + size][::-1] for start in starts])


def _digits(number: int) -> bytes:
    """CPython keeps integers as digits of 30 bits, in words of 32."""
    made = b""
    while number:
        made += (number % 2**30).to_bytes(4, sys.byteorder)
        number >>= 30
    return made


class Images:
    """The pages of a process's writable memory at several moments, each content once."""

    def __init__(self, pid: int) -> None:
        self._folder = Path(f"/proc/{pid}")
        self._seen: set[int] = set()
        self.pieces: list[bytes] = []
        self.moments = 0

    def take(self) -> None:
        """Another image."""
        self.moments += 1
        with (self._folder / "mem").open("rb", buffering=0) as memory:
            for start, end in self._regions():
                try:
                    memory.seek(start)
                    octets = memory.read(end - start)
                except (OSError, ValueError, OverflowError):
                    continue  # gone meanwhile, or not to be read
                self._keep(octets)

    def _regions(self) -> Iterator[tuple[int, int]]:
        for line in (self._folder / "maps").read_text().splitlines():
            where, permissions, *_ = line.split()
            if permissions.startswith("rw"):
                start, end = (int(number, 16) for number in where.split("-"))
                yield start, end

    def _keep(self, octets: bytes) -> None:
        """The pages whose content is new."""
        for start in range(0, len(octets), PAGE):
            page = octets[start : start + PAGE]
            digest = hash(page)
            if digest not in self._seen:
                self._seen.add(digest)
                self.pieces.append(page)

    @property
    def octets(self) -> int:
        """How much there is to search."""
        return sum(map(len, self.pieces))


Found = set[tuple[str, str]]
"""(name, form) of what is found."""


Wanted = dict[int, tuple[str, str, bytes, int]]
"""Each word of each form of the secrets: whose, which form, all of that, and where in it."""


def wanted_words(secrets: Iterable[tuple[str, bytes]]) -> Wanted:
    """What to search for."""
    return {
        int.from_bytes(looks[start : start + WORD], sys.byteorder): (name, form, looks, start)
        for name, octets in secrets
        for form, looks in forms(octets)
        for start in range(len(looks) - WORD + 1)
    }


def search_piece(piece: bytes, wanted: Wanted) -> Found:
    """Any aligned word of any form of a secret; of text, where a word says little, more of it."""
    found: Found = set()
    for word in set(memoryview(piece).cast("Q")) & wanted.keys():
        name, form, looks, start = wanted[word]
        if not form.startswith(TEXTS) or _more(piece, looks, start):
            found.add((name, form))
    return found


def search_memory(pieces: Iterable[bytes], secrets: Iterable[tuple[str, bytes]]) -> Found:
    """The same in all of them."""
    wanted = wanted_words(secrets)
    return {each for piece in pieces for each in search_piece(piece, wanted)}


TEXTS = ("hexadecimal", "base64", "escaped", "a decimal number")
"""The forms of which a word says little: any text may have it."""
TEXT = 24


def _more(piece: bytes, looks: bytes, start: int) -> bool:
    """Whether TEXT octets about that word are there."""
    begins = range(max(0, start + WORD - TEXT), min(start, len(looks) - TEXT) + 1)
    return any(looks[begin : begin + TEXT] in piece for begin in begins)


def search_traffic(frames: Iterable[bytes], secrets: Iterable[tuple[str, bytes]]) -> Found:
    """Any form of a secret, anywhere."""
    everything = b"".join(frames)
    return {
        (name, form)
        for name, octets in secrets
        for form, looks in forms(octets)
        if looks in everything
    }
