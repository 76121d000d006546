"""HKDF as RFC 5869 and RFC 9846 §7.1 have it.

On the standard library alone, so that it owes nothing to the code that the vectors test.
"""

import hashlib
import hmac


def digest(hash_name: str, data: bytes) -> bytes:
    """The hash of `data`."""
    return hashlib.new(hash_name, data).digest()


def mac(hash_name: str, key: bytes, data: bytes) -> bytes:
    """HMAC of `data` under `key`."""
    return hmac.digest(key, data, hash_name)


def extract(hash_name: str, salt: bytes, ikm: bytes) -> bytes:
    """HKDF-Extract. An empty salt counts as Hash.length zeros, as HMAC pads its key."""
    return mac(hash_name, salt, ikm)


def expand(hash_name: str, prk: bytes, info: bytes, length: int) -> bytes:
    """HKDF-Expand."""
    output = block = b""
    counter = 1
    while len(output) < length:
        block = mac(hash_name, prk, block + info + bytes([counter]))
        output += block
        counter += 1
    return output[:length]


def hkdf_label(length: int, label: str, context: bytes) -> bytes:
    """The HkdfLabel struct of RFC 9846 §7.1, whose encoding is HKDF-Expand-Label's info."""
    full_label = b"tls13 " + label.encode("ascii")
    return (
        length.to_bytes(2, "big")
        + bytes([len(full_label)])
        + full_label
        + bytes([len(context)])
        + context
    )


def expand_label(hash_name: str, secret: bytes, label: str, context: bytes, length: int) -> bytes:
    """HKDF-Expand-Label."""
    return expand(hash_name, secret, hkdf_label(length, label, context), length)
