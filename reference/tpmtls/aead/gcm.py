"""Galois/Counter Mode, SP 800-38D."""

from __future__ import annotations

import hmac
from collections.abc import Callable, Sequence
from typing import Final

from tpmtls.aead import libcrypto
from tpmtls.aead.cipher import BLOCK, ZERO, BlockCipher, Counters, Mode, Octets, xor
from tpmtls.aead.ghash import Ghash
from tpmtls.aead.mode import AuthenticatedMode, Crypt, blocks_for

PLAINTEXT_MAX: Final = 2**36 - 32
LENGTH_MAX: Final = 2**61 - 1
"""Of nonce and additional data (§5.2.1.1): 2^64 - 1 bits, in octets."""
TAG_LENGTHS: Final = (4, 8, 12, 13, 14, 15, 16)
"""§5.2.1.2; 4 and 8 only under the conditions of its appendix C."""
COUNTER: Final = 4
"""Octets of the counter: inc_32."""
_COUNTER_1: Final = (1).to_bytes(COUNTER, "big")
_ZERO_BLOCK: Final = Counters(ZERO, 1, COUNTER)


class Gcm(AuthenticatedMode):
    """GCM; AEAD_AES_128_GCM and AEAD_AES_256_GCM of RFC 5116 §5 with AES and tags of 16.

    The hash subkey H is in this process's memory: who has it and one tag can forge. GHASH is
    libcrypto's where that can be had, unless another is given, such as `Ghash`.
    """

    name = "GCM"

    def __init__(
        self,
        cipher: BlockCipher,
        tag_length: int = BLOCK,
        ghash: Callable[[bytes], Ghash | libcrypto.Ghash] = libcrypto.ghash,
    ) -> None:
        if tag_length not in TAG_LENGTHS:
            raise ValueError(f"GCM: tag of {tag_length} octets, not one of {TAG_LENGTHS}")
        super().__init__(cipher, tag_length)
        self._ghash_under = ghash
        self._ghash: Ghash | libcrypto.Ghash | None = None

    def keystream(self, runs: Sequence[Counters]) -> bytes:
        """Of several runs on end; in ECB the first makes H, too (§7.1, step 1)."""
        if self._ghash is not None or Mode.ECB not in self.cipher.modes:
            return super().keystream(runs)
        made = super().keystream([_ZERO_BLOCK, *runs])
        self._ghash = self._ghash_under(made[:BLOCK])
        return made[BLOCK:]

    def _hash(self, additional_data: bytes, ciphertext: bytes) -> bytes:
        if self._ghash is None:
            self._ghash = self._ghash_under(super().keystream([_ZERO_BLOCK]))
        return self._ghash.of_message(additional_data, ciphertext)

    def counters(self, nonce: bytes, octets: int) -> Counters:
        """J_0, whose encryption masks the tag, and its successors (§7.1, steps 2 and 3)."""
        self._bound("nonce", len(nonce), 1, LENGTH_MAX)
        self._bound("plaintext", octets, 0, PLAINTEXT_MAX)
        first = nonce + _COUNTER_1 if len(nonce) == 12 else self._hash(b"", nonce)
        return Counters(first, 1 + blocks_for(octets), COUNTER)

    def seal_with(
        self, mask: Octets, crypt: Crypt, nonce: bytes, additional_data: bytes, plaintext: bytes
    ) -> bytes:
        """GCM-AE (§7.1)."""
        ciphertext = crypt(plaintext)
        return ciphertext + self._tag(mask, additional_data, ciphertext)

    def open_with(
        self, mask: Octets, crypt: Crypt, nonce: bytes, additional_data: bytes, data: bytes
    ) -> bytes | None:
        """GCM-AD (§7.2), the tag first: nothing is decrypted before it was found right."""
        size = self.plaintext_length(data)
        ciphertext, tag = data[:size], data[size:]
        if not hmac.compare_digest(self._tag(mask, additional_data, ciphertext), tag):
            return None
        return crypt(ciphertext)

    def _tag(self, mask: Octets, additional_data: bytes, ciphertext: bytes) -> bytes:
        self._bound("additional data", len(additional_data), 0, LENGTH_MAX)
        return xor(self._hash(additional_data, ciphertext), mask)[: self.tag_length]
