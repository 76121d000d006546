"""GHASH by libcrypto: the same as in Python, or not used; the hash subkey does not stay behind."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterator
from types import SimpleNamespace

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


def altered(**functions: object) -> libcrypto.Library:
    """libcrypto, but for some functions."""
    found = libcrypto.library()
    assert found is not None
    names = [name for name in libcrypto._SIGNATURES if name not in functions]
    others = {name: getattr(found.functions, name) for name in names}
    return found._replace(functions=SimpleNamespace(**others, **functions))


@there
def test_the_subkey_is_overwritten_when_it_is_no_longer_used() -> None:
    released: list[int] = []
    found = altered(CRYPTO_gcm128_release=released.append)
    used = libcrypto.Ghash(found, SUBKEY)
    assert used._key.raw == bytes(17)
    context = used._context
    del used
    assert released == [context]
    libcrypto.library().functions.CRYPTO_gcm128_release(context)  # type: ignore[union-attr]


@there
def test_a_process_that_ends_lets_threads_go_on() -> None:
    """A context that is freed under a thread's hands ends the process by a signal."""
    code = """
import atexit, threading, time
atexit.register(time.sleep, 0.3)
from tpmtls.aead import libcrypto
used = libcrypto.ghash(bytes(16))
def work():
    while True:
        used.of_message(b"abc", b"d" * 100)
threading.Thread(target=work, daemon=True).start()
"""
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False)
    assert (done.returncode, done.stderr) == (0, b"")


@there
def test_a_subkey_that_got_lost_on_its_way_is_given_again() -> None:
    found = altered()
    calls = iter([False, False, True])

    def encrypt(block: int, encrypted: int, key: int) -> None:
        if next(calls):
            libcrypto._encrypt(block, encrypted, key)

    made = libcrypto.Ghash(found._replace(key_is_ciphertext=libcrypto._Block(encrypt)), SUBKEY)
    assert next(calls, None) is None
    assert made._key.raw == bytes(17)
    never = found._replace(key_is_ciphertext=libcrypto._Block(lambda *_: None))
    with pytest.raises(RuntimeError, match="interrupted each time"):
        libcrypto.Ghash(never, SUBKEY)


@there
def test_what_libcrypto_refuses_is_said() -> None:
    refusing = libcrypto.Ghash(altered(CRYPTO_gcm128_decrypt_ctr32=lambda *_: -1), SUBKEY)
    with pytest.raises(ValueError, match="longer than GCM takes"):
        refusing.of_message(b"", b"text")


@there
def test_no_memory_is_said() -> None:
    with pytest.raises(MemoryError, match="libcrypto"):
        libcrypto.Ghash(altered(CRYPTO_gcm128_new=lambda *_: None), SUBKEY)


@pytest.mark.usefixtures("forgotten")
def test_without_functions_for_it_to_call_python_hashes(monkeypatch: pytest.MonkeyPatch) -> None:
    def refuse(_function: object) -> None:
        raise MemoryError

    monkeypatch.setattr(libcrypto, "_Stream", refuse)
    assert libcrypto.library() is None


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
