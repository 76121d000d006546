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
from typing import Any, Final, NamedTuple

from tpmtls.aead import ghash as in_python
from tpmtls.aead.cipher import BLOCK, ZERO

_NAME: Final = "libcrypto.so.3"
"""The one whose functions were looked at; libtpms and tpm2-tss are linked with it, too."""
_ATTEMPTS: Final = 5

_Block = CFUNCTYPE(None, c_void_p, c_void_p, c_void_p)
"""block128_f: one block in, one block out, the key."""
_Stream = CFUNCTYPE(None, c_void_p, c_void_p, c_size_t, c_void_p, c_void_p)
"""ctr128_f: text in, text out, how many blocks, the key, the first counter block."""


def _encrypt(_block: int, encrypted: int, key: int) -> None:
    ctypes.memmove(encrypted, key, BLOCK)
    ctypes.memset(key + BLOCK, 1, 1)


def _leave(_text: int, _result: int, _blocks: int, _key: int, _counter: int) -> None:
    pass


class Library(NamedTuple):
    """libcrypto, and what it calls: a block cipher, and counter mode."""

    functions: Any
    key_is_ciphertext: Any
    nothing: Any


def ghash(subkey: bytes) -> Ghash | in_python.Ghash:
    """GHASH under the hash subkey H, as fast as can be had here."""
    found = library()
    return in_python.Ghash(subkey) if found is None else Ghash(found, subkey)


@cache
def library() -> Library | None:
    """libcrypto; None where it is not there, lacks a function, or computes something else.

    Nor is it used where a process may not make the functions that libcrypto would call.
    """
    try:
        # The calls are too short to let other threads run meanwhile.
        functions = ctypes.PyDLL(_NAME)
        functions.CRYPTO_gcm128_new.restype = c_void_p
        for name, arguments in _SIGNATURES.items():
            getattr(functions, name).argtypes = arguments
        found = Library(functions, _Block(_encrypt), _Stream(_leave))
    except (OSError, AttributeError, MemoryError):
        return None
    return found if _agrees(found) else None


_SIGNATURES: Final = {
    "CRYPTO_gcm128_new": (c_void_p, _Block),
    "CRYPTO_gcm128_setiv": (c_void_p, c_char_p, c_size_t),
    "CRYPTO_gcm128_aad": (c_void_p, c_char_p, c_size_t),
    "CRYPTO_gcm128_decrypt_ctr32": (c_void_p, c_char_p, c_char_p, c_size_t, _Stream),
    "CRYPTO_gcm128_tag": (c_void_p, c_char_p, c_size_t),
    "CRYPTO_gcm128_release": (c_void_p,),
}


def _agrees(found: Library) -> bool:
    """Whether it computes what Python does, also where it works in pieces."""
    subkey = bytes(range(1, 17))
    ours, theirs = in_python.Ghash(subkey), Ghash(found, subkey)
    messages = [(bytes(size % 17), subkey * (size // 8)) for size in (0, 5, 16, 2011)]
    return all(ours.of_message(*each) == theirs.of_message(*each) for each in messages)


def _context(found: Library, key: Any) -> int:
    """A context under H, which is in `key`, and behind it a mark that libcrypto got it.

    An exception that is raised where libcrypto calls Python, such as that of Ctrl-C, is lost there,
    and H with it.
    """
    for _ in range(_ATTEMPTS):
        context: int | None = found.functions.CRYPTO_gcm128_new(key, found.key_is_ciphertext)
        if not context:
            raise MemoryError("libcrypto has no memory for GHASH")
        if key.raw[BLOCK:] == b"\1":
            return context
        found.functions.CRYPTO_gcm128_release(context)
    raise RuntimeError("libcrypto was interrupted each time that it was given the hash key")


class Ghash:
    """GHASH under one hash subkey H, of what GCM hashes."""

    def __init__(self, found: Library, subkey: bytes) -> None:
        key = ctypes.create_string_buffer(subkey + b"\0", BLOCK + 1)
        try:
            context = _context(found, key)
        finally:
            key.raw = bytes(BLOCK + 1)
        # which overwrites it; not at the end of the process, when threads may still be using it
        weakref.finalize(self, found.functions.CRYPTO_gcm128_release, context).atexit = False
        self._key = key  # the context points at it
        self._context = context
        self._library = found
        self._lock = threading.Lock()
        self._unused = ctypes.create_string_buffer(0)
        """For texts that libcrypto decrypts; it has no key, so there is nothing in it."""

    def of_message(self, additional_data: bytes, ciphertext: bytes) -> bytes:
        """What GCM hashes (SP 800-38D §7.1, steps 4 and 5)."""
        functions, context, size = self._library.functions, self._context, len(ciphertext)
        digest = ctypes.create_string_buffer(BLOCK)
        with self._lock:
            if len(self._unused) < size:
                self._unused = ctypes.create_string_buffer(size)
            functions.CRYPTO_gcm128_setiv(context, ZERO, 12)
            failed = functions.CRYPTO_gcm128_aad(context, additional_data, len(additional_data))
            failed |= functions.CRYPTO_gcm128_decrypt_ctr32(
                context, ciphertext, self._unused, size, self._library.nothing
            )
            functions.CRYPTO_gcm128_tag(context, digest, BLOCK)
        if failed:
            raise ValueError("libcrypto: a message longer than GCM takes")
        return digest.raw
