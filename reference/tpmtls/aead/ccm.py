"""Counter with CBC-MAC, SP 800-38C, formatted as its appendix A says (as RFC 3610 does)."""

from __future__ import annotations

import hmac
from typing import Final

from tpmtls.aead.cipher import BLOCK, BlockCipher, Counters, Octets, cbc_mac, xor
from tpmtls.aead.mode import AuthenticatedMode, Crypt, blocks_for

NONCE_MIN: Final = 7
NONCE_MAX: Final = 13
TAG_LENGTHS: Final = (4, 6, 8, 10, 12, 14, 16)


class Ccm(AuthenticatedMode):
    """CCM; AEAD_AES_128_CCM of RFC 5116 §5.3, and with tags of 8 that of RFC 6655 §6.1.

    Nothing but keystream and CBC-MAC leaves the cipher: there is no value like GCM's H.
    """

    name = "CCM"

    def __init__(self, cipher: BlockCipher, tag_length: int = BLOCK) -> None:
        if tag_length not in TAG_LENGTHS:
            raise ValueError(f"CCM: tag of {tag_length} octets, not one of {TAG_LENGTHS}")
        super().__init__(cipher, tag_length)

    def counters(self, nonce: bytes, octets: int) -> Counters:
        """Ctr_0, whose encryption masks the tag, and its successors (§6.1, A.3)."""
        self._bound("nonce", len(nonce), NONCE_MIN, NONCE_MAX)
        width = BLOCK - 1 - len(nonce)
        self._bound("plaintext", octets, 0, 256**width - 1)
        first = bytes((width - 1,)) + nonce + bytes(width)
        return Counters(first, 1 + blocks_for(octets), width)

    def seal_with(
        self, mask: Octets, crypt: Crypt, nonce: bytes, additional_data: bytes, plaintext: bytes
    ) -> bytes:
        """Generation-Encryption (§6.1)."""
        tag = self._tag(mask, nonce, additional_data, plaintext)
        return crypt(plaintext) + tag

    def open_with(
        self, mask: Octets, crypt: Crypt, nonce: bytes, additional_data: bytes, data: bytes
    ) -> bytes | None:
        """Decryption-Verification (§6.2): the tag is over the plaintext, which waits for it."""
        size = self.plaintext_length(data)
        plaintext = crypt(data[:size])
        tag = self._tag(mask, nonce, additional_data, plaintext)
        return plaintext if hmac.compare_digest(tag, data[size:]) else None

    def _tag(self, mask: Octets, nonce: bytes, additional_data: bytes, plaintext: bytes) -> bytes:
        formatted = _padded(
            self._first_block(nonce, bool(additional_data), len(plaintext)),
            _with_length(additional_data),
            plaintext,
        )
        return xor(cbc_mac(self.cipher, formatted), mask)[: self.tag_length]

    def _first_block(self, nonce: bytes, has_additional_data: bool, octets: int) -> bytes:
        """B_0 (A.2.1)."""
        width = BLOCK - 1 - len(nonce)
        flags = has_additional_data << 6 | (self.tag_length - 2) // 2 << 3 | width - 1
        return bytes((flags,)) + nonce + octets.to_bytes(width, "big")


def _padded(*strings: bytes) -> bytes:
    return b"".join(part for text in strings for part in (text, bytes(-len(text) % BLOCK)))


def _with_length(additional_data: bytes) -> bytes:
    """Additional data after its length (A.2.2), which may be up to 2^64 - 1; or nothing."""
    size = len(additional_data)
    if size == 0:
        return b""
    if size < 2**16 - 2**8:
        return size.to_bytes(2, "big") + additional_data
    if size < 2**32:
        return b"\xff\xfe" + size.to_bytes(4, "big") + additional_data
    return b"\xff\xff" + size.to_bytes(8, "big") + additional_data
