"""What GCM and CCM share: counter mode, whose first keystream block masks the tag."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Sequence
from functools import partial

from tpmtls.aead.cipher import BLOCK, BlockCipher, Counters, Octets, keystream, xor

Crypt = Callable[[bytes], bytes]
"""The XOR of a text with its keystream, by whoever has that."""


class AuthenticatedMode(ABC):
    """An AEAD (RFC 5116 §2) made from a block cipher; the tag ends the ciphertext.

    `seal` and `open` make their keystream when called. `seal_with` and `open_with` are given what
    it does, for the `counters` of the same nonce and length: the first block, which is the tag's
    mask, and the rest as a function of the text.
    """

    name: str

    def __init__(self, cipher: BlockCipher, tag_length: int) -> None:
        self.cipher = cipher
        self.tag_length = tag_length

    def seal(self, nonce: bytes, additional_data: bytes, plaintext: bytes) -> bytes:
        """Ciphertext and tag. A nonce must never be used twice under one key.

        Raises ValueError where a length is out of the mode's bounds.
        """
        stream = self.keystream([self.counters(nonce, len(plaintext))])
        return self.seal_with(stream[:BLOCK], xor_by(stream), nonce, additional_data, plaintext)

    def open(self, nonce: bytes, additional_data: bytes, data: bytes) -> bytes | None:
        """The plaintext of ciphertext and tag; None, and nothing of it, if the tag is not right.

        Raises ValueError where the nonce's length is out of the mode's bounds.
        """
        stream = self.keystream([self.counters(nonce, self.plaintext_length(data))])
        return self.open_with(stream[:BLOCK], xor_by(stream), nonce, additional_data, data)

    def keystream(self, runs: Sequence[Counters]) -> bytes:
        """The keystream of several runs on end, in as few commands as the cipher's modes allow."""
        return keystream(self.cipher, runs)

    def plaintext_length(self, data: bytes) -> int:
        """What the ciphertext has without its tag; 0 for one that is shorter than a tag."""
        return max(0, len(data) - self.tag_length)

    @abstractmethod
    def counters(self, nonce: bytes, octets: int) -> Counters:
        """The counter blocks of a message: one for the tag, then those of that many octets.

        Raises ValueError where a length is out of bounds.
        """

    @abstractmethod
    def seal_with(
        self, mask: Octets, crypt: Crypt, nonce: bytes, additional_data: bytes, plaintext: bytes
    ) -> bytes:
        """`seal`, with the keystream of `counters`."""

    @abstractmethod
    def open_with(
        self, mask: Octets, crypt: Crypt, nonce: bytes, additional_data: bytes, data: bytes
    ) -> bytes | None:
        """`open`, with the keystream of `counters`."""

    def _bound(self, what: str, octets: int, minimum: int, maximum: int) -> None:
        if not minimum <= octets <= maximum:
            raise ValueError(f"{self.name}: {what} of {octets} octets, not {minimum} to {maximum}")


def xor_by(stream: Octets) -> Crypt:
    """What keystream does to a text; its first block is the mask."""
    return partial(_xor_by, stream)


def _xor_by(stream: Octets, text: bytes) -> bytes:
    return xor(text, stream[BLOCK : BLOCK + len(text)])


def blocks_for(octets: int) -> int:
    """Blocks that hold so many octets."""
    return -(-octets // BLOCK)
