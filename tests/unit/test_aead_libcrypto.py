"""GHASH by libcrypto: the same as in Python, or not used; the hash subkey does not stay behind."""

from __future__ import annotations

import random
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest

from tests.block_ciphers import SoftwareCipher
from tpmtls.aead import Gcm, Mode, ghash, libcrypto

RANDOM = random.Random(38)
SUBKEY = RANDOM.randbytes(16)
LENGTHS = [0, 1, 15, 16, 17, 255, 3071, 3072, 3073, 6144, 16384, 16385, 50000]
"""Around a block, and around the 3 KiB that libcrypto takes at once."""

there = pytest.mark.skipif(libcrypto.library() is None, reason="libcrypto.so.3 is not there")


@pytest.fixture
def forgotten() -> Iterator[None]:
    """`library` looks again, in the test and after it."""
    libcrypto.library.cache_clear()
    yield
    libcrypto.library.cache_clear()


def by_libcrypto(subkey: bytes) -> libcrypto.Ghash:
    made = libcrypto.ghash(subkey)
    assert isinstance(made, libcrypto.Ghash)
    return made


@there
@pytest.mark.parametrize("additional", [0, 5, 16, 100])
@pytest.mark.parametrize("size", LENGTHS)
def test_the_two_agree(size: int, additional: int) -> None:
    message = RANDOM.randbytes(additional), RANDOM.randbytes(size)
    theirs = by_libcrypto(SUBKEY)
    assert theirs.of_message(*message) == ghash.Ghash(SUBKEY).of_message(*message)
    assert theirs.of_message(*message) == ghash.Ghash(SUBKEY).of_message(*message)  # once more


@there
def test_nothing_is_done_to_what_is_hashed() -> None:
    text = RANDOM.randbytes(5000)
    before = bytearray(text)
    by_libcrypto(SUBKEY).of_message(b"header", text)
    assert text == before


@there
def test_two_keys_do_not_meet() -> None:
    one, other = by_libcrypto(SUBKEY), by_libcrypto(bytes(16))
    expected = one.of_message(b"", b"text")
    assert other.of_message(b"", b"text") == bytes(16)
    assert one.of_message(b"", b"text") == expected != bytes(16)


@there
def test_the_subkey_is_overwritten_when_it_is_no_longer_used() -> None:
    released: list[int] = []
    functions: Any = libcrypto.library()
    noted = SimpleNamespace(
        CRYPTO_gcm128_new=functions.CRYPTO_gcm128_new, CRYPTO_gcm128_release=released.append
    )
    used = libcrypto.Ghash(noted, SUBKEY)  # type: ignore[arg-type]
    assert used._key.raw == bytes(16)
    context = used._context
    del used
    assert released == [context]
    functions.CRYPTO_gcm128_release(context)


@there
def test_what_libcrypto_refuses_is_said() -> None:
    refusing: Any = by_libcrypto(SUBKEY)
    functions = refusing._functions
    refusing._functions = SimpleNamespace(
        CRYPTO_gcm128_setiv=functions.CRYPTO_gcm128_setiv,
        CRYPTO_gcm128_aad=functions.CRYPTO_gcm128_aad,
        CRYPTO_gcm128_decrypt_ctr32=lambda *_: -1,
        CRYPTO_gcm128_tag=functions.CRYPTO_gcm128_tag,
    )
    with pytest.raises(ValueError, match="longer than GCM takes"):
        refusing.of_message(b"", b"text")


def test_no_memory_is_said() -> None:
    empty: Any = SimpleNamespace(CRYPTO_gcm128_new=lambda *_: None)
    with pytest.raises(MemoryError, match="libcrypto"):
        libcrypto.Ghash(empty, SUBKEY)


@pytest.mark.usefixtures("forgotten")
@pytest.mark.parametrize("name", ["libcrypto.so.0", "libm.so.6"])
def test_without_it_python_hashes(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    monkeypatch.setattr(libcrypto, "_NAME", name)
    assert libcrypto.library() is None
    gcm = Gcm(SoftwareCipher(bytes(16), [Mode.ECB]))
    gcm.seal(bytes(12), b"", b"")
    assert isinstance(gcm._ghash, ghash.Ghash)


@there
@pytest.mark.usefixtures("forgotten")
def test_one_that_hashes_otherwise_is_not_used(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ghash, "_POLYNOMIAL", 0xE3 << 120)
    assert libcrypto.library() is None
