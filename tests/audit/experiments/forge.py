"""Records that nobody wrote: made of one that was, by who has no key."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tpmtls.aead.cipher import xor
from tpmtls.aead.ghash import Ghash
from tpmtls.record import RECORD_HEADER_SIZE

TAG = 16


def rewrite(record: bytes, written: bytes, instead: bytes, hash_key: bytes | None) -> bytes:
    """The same record as if `instead` had been written where it begins with `written`.

    Its ciphertext is XORed with the difference of the two. GCM's tag is the GHASH of header and
    ciphertext, plus something that the nonce decides: with the hash key, its difference is known
    too. Without, the tag stays as it was.
    """
    header, rest = record[:RECORD_HEADER_SIZE], record[RECORD_HEADER_SIZE:]
    ciphertext, tag = rest[:-TAG], rest[-TAG:]
    change = xor(written, instead)
    changed = xor(ciphertext, change + bytes(len(ciphertext) - len(change)))
    if hash_key is not None:
        tag = xor(tag, xor(*(hashed(hash_key, header, text) for text in (ciphertext, changed))))
    return header + changed + tag


def hashed(hash_key: bytes, header: bytes, ciphertext: bytes) -> bytes:
    bits = [(8 * len(text)).to_bytes(8, "big") for text in (header, ciphertext)]
    return Ghash(hash_key).digest(header, ciphertext, b"".join(bits))


def encrypted_zeros(key: bytes) -> bytes:
    """What is the hash key in GCM: a block of zeros under the write_key."""
    return Cipher(algorithms.AES(key), modes.ECB()).encryptor().update(bytes(TAG))
