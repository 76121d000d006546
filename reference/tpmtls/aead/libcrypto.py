"""GHASH by OpenSSL's libcrypto, where this machine has it; in Python where not.

libcrypto multiplies with the processor's carry-less multiplication, in a time that does not depend
on what is multiplied. It has no function for GHASH, but one for GCM around any block cipher
(`CRYPTO_gcm128_…` of <openssl/modes.h>). With a cipher that encrypts every block to its key, which
is H at first and then zeros, and counter mode that does nothing, the tag it makes is GHASH.
"""

from __future__ import annotations

import ctypes
import threading
import weakref
from ctypes import CFUNCTYPE, c_char_p, c_size_t, c_void_p
from functools import cache
from typing import Final

from tpmtls.aead import ghash as in_python
from tpmtls.aead.cipher import BLOCK, ZERO

_NAME: Final = "libcrypto.so.3"
"""The one whose functions were looked at; libtpms and tpm2-tss are linked with it, too."""

_Block = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p)
"""block128_f: one block in, one block out, the key."""
_Stream = CFUNCTYPE(None, c_void_p, c_void_p, c_size_t, c_void_p, c_void_p)
"""ctr128_f: text in, text out, how many blocks, the key, the first counter block."""


def _encrypt(_block: int, encrypted: int, key: int) -> None:
    ctypes.memmove(encrypted, key, BLOCK)


_key_is_ciphertext: Final = _Block(_encrypt)
_nothing: Final = _Stream(lambda *_: None)


def ghash(subkey: bytes) -> Ghash | in_python.Ghash:
    """GHASH under the hash subkey H, as fast as can be had here."""
    functions = library()
    return in_python.Ghash(subkey) if functions is None else Ghash(functions, subkey)


@cache
def library() -> ctypes.PyDLL | None:
    """libcrypto; None where it is not there, lacks a function, or computes something else."""
    try:
        # The calls are too short to let other threads run meanwhile.
        functions = ctypes.PyDLL(_NAME)
        functions.CRYPTO_gcm128_new.restype = c_void_p
        for name, arguments in _SIGNATURES.items():
            getattr(functions, name).argtypes = arguments
    except (OSError, AttributeError):
        return None
    return functions if _agrees(functions) else None


_SIGNATURES: Final = {
    "CRYPTO_gcm128_new": (c_void_p, _Block),
    "CRYPTO_gcm128_setiv": (c_void_p, c_char_p, c_size_t),
    "CRYPTO_gcm128_aad": (c_void_p, c_char_p, c_size_t),
    "CRYPTO_gcm128_decrypt_ctr32": (c_void_p, c_char_p, c_char_p, c_size_t, _Stream),
    "CRYPTO_gcm128_tag": (c_void_p, c_char_p, c_size_t),
    "CRYPTO_gcm128_release": (c_void_p,),
}


def _agrees(functions: ctypes.PyDLL) -> bool:
    """Whether it computes what Python does, also where it works in pieces."""
    subkey = bytes(range(1, 17))
    ours, theirs = in_python.Ghash(subkey), Ghash(functions, subkey)
    messages = [(bytes(size % 17), subkey * (size // 8)) for size in (0, 5, 16, 2011)]
    return all(ours.of_message(*each) == theirs.of_message(*each) for each in messages)


class Ghash:
    """GHASH under one hash subkey H, of what GCM hashes."""

    def __init__(self, functions: ctypes.PyDLL, subkey: bytes) -> None:
        key = ctypes.create_string_buffer(subkey, BLOCK)
        context = functions.CRYPTO_gcm128_new(key, _key_is_ciphertext)
        if not context:
            raise MemoryError("libcrypto has no memory for GHASH")
        weakref.finalize(self, functions.CRYPTO_gcm128_release, context)  # and overwrite it
        key.raw = ZERO
        self._key = key  # the context points at it
        self._context = context
        self._functions = functions
        self._lock = threading.Lock()
        self._unused = ctypes.create_string_buffer(0)
        """For texts that libcrypto decrypts; it has no key, so there is nothing in it."""

    def of_message(self, additional_data: bytes, ciphertext: bytes) -> bytes:
        """What GCM hashes (SP 800-38D §7.1, steps 4 and 5)."""
        functions, context, size = self._functions, self._context, len(ciphertext)
        digest = ctypes.create_string_buffer(BLOCK)
        with self._lock:
            if len(self._unused) < size:
                self._unused = ctypes.create_string_buffer(size)
            functions.CRYPTO_gcm128_setiv(context, ZERO, 12)
            failed = functions.CRYPTO_gcm128_aad(context, additional_data, len(additional_data))
            failed |= functions.CRYPTO_gcm128_decrypt_ctr32(
                context, ciphertext, self._unused, size, _nothing
            )
            functions.CRYPTO_gcm128_tag(context, digest, BLOCK)
        if failed:
            raise ValueError("libcrypto: a message longer than GCM takes")
        return digest.raw
