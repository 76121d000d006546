"""The block cipher under GCM and CCM: what it may offer, and keystream and CBC-MAC from that.

Whoever holds the key (a TPM, a test) offers at least one mode of SP 800-38A §6. Every call is then
one command of at most `max_command` octets, so data is cut here, and commands are filled.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from enum import Enum
from typing import Final, NamedTuple

BLOCK: Final = 16
"""Octets in a block: the 128 bits that SP 800-38C and SP 800-38D ask for."""

ZERO: Final = bytes(BLOCK)


class Mode(Enum):
    """The modes of SP 800-38A that serve here; OFB could not start in the middle."""

    ECB = "ECB"
    CBC = "CBC"
    CFB = "CFB"
    CTR = "CTR"


class BlockCipher:
    """A block cipher under one key, in the modes that its holder offers.

    A subclass overrides the methods of its `modes`, one command each. Their data is whole blocks
    and at most `max_command` octets; an `iv` or `counter` is one block.
    """

    modes: frozenset[Mode] = frozenset({Mode.ECB})
    max_command: int = 1024

    def encrypt_blocks(self, data: bytes) -> bytes:
        """Each block for itself (§6.1): the one operation that cannot be missing.

        Unless overridden it is made from another mode: from CFB in one command, else from CTR or
        CBC in one for each block.
        """
        if Mode.CFB in self.modes:
            # §6.3: decryption gives C_i ⊕ E(C_{i-1}), whatever C is
            shifted = data[BLOCK:] + ZERO
            return xor(self.cfb_decrypt(data[:BLOCK], shifted), shifted)
        if Mode.CTR in self.modes:
            return b"".join(self.ctr(block, ZERO) for block in pieces(data, BLOCK))
        return b"".join(self.cbc(ZERO, block) for block in pieces(data, BLOCK))

    def cbc(self, iv: bytes, data: bytes) -> bytes:
        """CBC encryption (§6.2)."""
        raise NotImplementedError("CBC is not offered")

    def cfb_encrypt(self, iv: bytes, data: bytes) -> bytes:
        """CFB encryption with segments of a block (§6.3)."""
        raise NotImplementedError("CFB is not offered")

    def cfb_decrypt(self, iv: bytes, data: bytes) -> bytes:
        """CFB decryption with segments of a block (§6.3)."""
        raise NotImplementedError("CFB is not offered")

    def ctr(self, counter: bytes, data: bytes) -> bytes:
        """CTR encryption, which is decryption, from a first counter block (§6.5).

        The block is incremented as one number, or in its last octets: no call makes those wrap.
        """
        raise NotImplementedError("CTR is not offered")

    def ctr_each(self, pieces: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        """`ctr` of each (counter, data): for a cipher that does several at less expense."""
        return [self.ctr(counter, data) for counter, data in pieces]


Octets = bytes | bytearray | memoryview


def pieces(data: bytes, size: int) -> Iterator[bytes]:
    """`data` cut into pieces of `size` octets, the last one possibly shorter."""
    return (data[start : start + size] for start in range(0, len(data), size))


def xor(one: Octets, other: Octets) -> bytes:
    """The XOR of two strings of one length."""
    size = len(one)
    return (int.from_bytes(one, "big") ^ int.from_bytes(other, "big")).to_bytes(size, "big")


# -- counter mode ----------------------------------------------------------------------------------


class Counters(NamedTuple):
    """A run of counter blocks: the last `width` octets of `first` count up, modulo 256^width.

    This is inc_s of SP 800-38D §6.2, and Ctr_i of SP 800-38C A.3.
    """

    first: bytes
    blocks: int
    width: int

    def part(self, start: int, blocks: int) -> Counters:
        """A run of `blocks` from this one's block number `start`."""
        fixed, counter = self.first[: -self.width], self.first[-self.width :]
        number = (int.from_bytes(counter, "big") + start) % 256**self.width
        return Counters(fixed + number.to_bytes(self.width, "big"), blocks, self.width)

    def stretches(self, size: int = 2**16) -> Iterator[tuple[int, int]]:
        """The run in parts of at most `size` blocks, in which only the last two octets change.

        Gives the first block of each, as a number, and how many blocks it has.
        """
        number, left, cycle = int.from_bytes(self.first, "big"), self.blocks, 256**self.width
        while left > 0:
            count = min(size, left, 2**16 - number % 2**16)
            yield number, count
            left -= count
            number += count
            if number % cycle == 0:
                number -= cycle


_HIGH: Final = b"".join(bytes((octet,)) * 256 for octet in range(256))
_LOW: Final = bytes(range(256)) * 256
"""The last but one and the last octet of each number of 16 bits."""


def counter_blocks(counters: Counters) -> bytes:
    """The blocks of a run."""
    made = []
    for number, count in counters.stretches():
        low = number % 2**16
        blocks = bytearray((number - low).to_bytes(BLOCK, "big") * count)
        blocks[BLOCK - 2 :: BLOCK] = _HIGH[low : low + count]
        blocks[BLOCK - 1 :: BLOCK] = _LOW[low : low + count]
        made.append(blocks)
    return b"".join(made)


def keystream(cipher: BlockCipher, runs: Sequence[Counters]) -> bytes:
    """The keystream of several runs on end, in as few commands as the cipher's modes allow."""
    if Mode.CTR in cipher.modes and (len(runs) == 1 or not packs(cipher)):
        return b"".join(
            cipher.ctr(start.to_bytes(BLOCK, "big"), bytes(BLOCK * count))
            for run in runs
            for start, count in run.stretches(cipher.max_command // BLOCK)
        )
    blocks = b"".join(map(counter_blocks, runs))
    return b"".join(map(cipher.encrypt_blocks, pieces(blocks, cipher.max_command)))


def counter_mode(cipher: BlockCipher, counters: Counters, data: bytes) -> bytes:
    """`data` encrypted, or decrypted, by a cipher that has CTR: no keystream leaves it."""
    padded = data + bytes(BLOCK * counters.blocks - len(data))
    per_command = cipher.max_command // BLOCK
    numbered = []
    for number, blocks in counters.stretches():
        stretch, padded = padded[: BLOCK * blocks], padded[BLOCK * blocks :]
        counts = range(number, number + blocks, per_command)
        for count, piece in zip(counts, pieces(stretch, BLOCK * per_command), strict=True):
            numbered.append((count.to_bytes(BLOCK, "big"), piece))
    return b"".join(cipher.ctr_each(numbered))[: len(data)]


def packs(cipher: BlockCipher) -> bool:
    """Whether one command can encrypt blocks that have nothing to do with each other."""
    return not cipher.modes.isdisjoint({Mode.ECB, Mode.CFB})


# -- CBC-MAC ---------------------------------------------------------------------------------------


def cbc_mac(cipher: BlockCipher, data: bytes) -> bytes:
    """The last block of CBC encryption of whole blocks under a zero IV (SP 800-38C §6.1)."""
    if Mode.CBC in cipher.modes:
        chained = ZERO
        for piece in pieces(data, cipher.max_command):
            chained = cipher.cbc(chained, piece)[-BLOCK:]
        return chained
    if Mode.CFB in cipher.modes:
        # CFB makes C_i = P_i ⊕ E(C_{i-1}), CBC E(P_i ⊕ C_{i-1}): the same E, one block apart.
        chained = data[:BLOCK]
        for piece in pieces(data[BLOCK:] + ZERO, cipher.max_command):
            chained = cipher.cfb_encrypt(chained, piece)[-BLOCK:]
        return chained
    chained = ZERO
    for block in pieces(data, BLOCK):
        chained = cipher.encrypt_blocks(xor(chained, block))
    return chained
