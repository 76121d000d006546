"""Counter blocks, keystream and CBC-MAC from the modes that a block cipher offers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Iterable

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from tests.block_ciphers import FACTORIES, SoftwareCipher
from tpmtls.aead import BLOCK, BlockCipher, Mode
from tpmtls.aead.cipher import Counters, cbc_mac, counter_blocks, keystream

KEY = bytes(range(16))
BLOCKS = [0, 1, 2, 63, 64, 65, 128, 200]


def cipher_with(*offered: Mode, max_command: int = 1024) -> SoftwareCipher:
    return SoftwareCipher(KEY, offered, max_command)


def ecb(data: bytes) -> bytes:
    context = Cipher(AES(KEY), modes.ECB()).encryptor()
    return context.update(data) + context.finalize()


def one_by_one(counters: Counters) -> bytes:
    fixed, width = counters.first[: -counters.width], counters.width
    number = int.from_bytes(counters.first[-width:])
    return b"".join(
        fixed + ((number + place) % 256**width).to_bytes(width) for place in range(counters.blocks)
    )


@pytest.mark.parametrize("width", [2, 3, 4, 8])
@pytest.mark.parametrize("start", [0, 1, -1, -5, -64, -65, -130])
@pytest.mark.parametrize("blocks", BLOCKS)
def test_counters_wrap_in_their_width(width: int, start: int, blocks: int) -> None:
    first = b"\xff" * (BLOCK - width) + (start % 256**width).to_bytes(width)
    counters = Counters(first, blocks, width)
    assert counter_blocks(counters) == one_by_one(counters)


@pytest.mark.parametrize("start", [0, 1, 65534, 65535, 65536, 65600])
def test_a_part_starts_where_it_would(start: int) -> None:
    counters = Counters(random.Random(1).randbytes(BLOCK), 70000, 2)
    part = one_by_one(counters)[BLOCK * start :][: BLOCK * 9]
    assert counter_blocks(counters.part(start, 9)) == part


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("blocks", BLOCKS)
def test_keystream(name: str, blocks: int) -> None:
    near_wrap = Counters(bytes(12) + b"\xff\xff\xff\xfe", blocks, 4)
    runs = [Counters(bytes(BLOCK), 3, 4), near_wrap, Counters(b"\1" * BLOCK, 0, 3), near_wrap]
    expected = ecb(b"".join(map(one_by_one, runs)))
    assert keystream(FACTORIES[name](KEY), runs) == expected
    assert keystream(FACTORIES[name](KEY), [near_wrap]) == ecb(one_by_one(near_wrap))


@pytest.mark.parametrize("name", FACTORIES)
@pytest.mark.parametrize("blocks", [1, 2, 63, 64, 65, 128, 200])
def test_cbc_mac(name: str, blocks: int) -> None:
    data = random.Random(blocks).randbytes(BLOCK * blocks)
    context = Cipher(AES(KEY), modes.CBC(bytes(BLOCK))).encryptor()
    assert cbc_mac(FACTORIES[name](KEY), data) == context.update(data)[-BLOCK:]


@pytest.mark.parametrize("name", FACTORIES)
def test_blocks_by_whatever_there_is(name: str) -> None:
    data = random.Random(3).randbytes(48)
    assert FACTORIES[name](KEY).encrypt_blocks(data) == ecb(data)


def lengths(cipher: SoftwareCipher) -> list[tuple[Mode, int]]:
    return [(mode, len(data)) for mode, data in cipher.commands]


@pytest.mark.parametrize(
    ("offered", "mode"),
    [
        ([Mode.ECB], Mode.ECB),
        ([Mode.CFB], Mode.CFB),
        ([Mode.CTR], Mode.CTR),
        ([Mode.ECB, Mode.CTR], Mode.CTR),
        ([Mode.CFB, Mode.CTR, Mode.CBC], Mode.CTR),
    ],
)
def test_keystream_of_one_run_fills_its_commands(offered: Iterable[Mode], mode: Mode) -> None:
    cipher = cipher_with(*offered)
    keystream(cipher, [Counters(bytes(BLOCK), 130, 4)])
    assert lengths(cipher) == [(mode, 1024), (mode, 1024), (mode, 32)]


@pytest.mark.parametrize(
    ("offered", "mode"),
    [([Mode.ECB, Mode.CTR], Mode.ECB), ([Mode.CFB, Mode.CTR], Mode.CFB), (list(Mode), Mode.ECB)],
)
def test_keystream_of_several_runs_shares_commands(offered: Iterable[Mode], mode: Mode) -> None:
    cipher = cipher_with(*offered)
    keystream(cipher, [Counters(bytes((run,)) * BLOCK, 13, 4) for run in range(10)])
    assert lengths(cipher) == [(mode, 1024), (mode, 1024), (mode, 32)]


@pytest.mark.parametrize(
    ("offered", "mode", "commands"),
    [
        ([Mode.CBC], Mode.CBC, 3),
        ([Mode.ECB, Mode.CFB, Mode.CBC], Mode.CBC, 3),
        ([Mode.ECB, Mode.CFB], Mode.CFB, 3),
        ([Mode.ECB], Mode.ECB, 130),
        ([Mode.CTR], Mode.CTR, 130),
    ],
)
def test_commands_of_cbc_mac(offered: Iterable[Mode], mode: Mode, commands: int) -> None:
    cipher = cipher_with(*offered)
    cbc_mac(cipher, bytes(BLOCK * 130))
    assert Counter(mode for mode, _ in cipher.commands) == {mode: commands}


def test_modes_that_are_not_offered_say_so() -> None:
    cipher = BlockCipher()
    for call in (cipher.cbc, cipher.cfb_encrypt, cipher.cfb_decrypt, cipher.ctr):
        with pytest.raises(NotImplementedError, match="not offered"):
            call(bytes(BLOCK), bytes(BLOCK))
    with pytest.raises(NotImplementedError):
        cipher.encrypt_blocks(bytes(BLOCK))
