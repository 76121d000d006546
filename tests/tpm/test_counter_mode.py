"""Counter mode of full commands, whose frames are put together by hand."""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import Any

import pytest
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tests.tpm.fakes import Noted, Restricted, command_code
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.constants import Alg, CommandCode, ResponseCode
from tpmtls.backends.tpm.device import Device, Patience
from tpmtls.backends.tpm.frames import encode
from tpmtls.backends.tpm.libtpms import LibtpmsTransport
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.opening import Tpm, open_device, open_tpm
from tpmtls.backends.tpm.records import TpmBlockCipher
from tpmtls.backends.tpm.responses import TpmResponseError
from tpmtls.violations import TpmUnavailable

SECRET = bytes(range(16))
PIECES = [(bytes((number,)) * 16, os.urandom(1024)) for number in range(4)]


def expected(pieces: list[tuple[bytes, bytes]]) -> list[bytes]:
    """What `cryptography` makes of them."""
    ciphers: list[Cipher[Any]] = [
        Cipher(algorithms.AES(SECRET), modes.CTR(counter)) for counter, _ in pieces
    ]
    return [
        cipher.encryptor().update(text) for cipher, (_, text) in zip(ciphers, pieces, strict=True)
    ]


def key_in(tpm: Tpm) -> TpmObject:
    return tpm.load(commands.load_aes_key(SECRET))


def test_it_is_counter_mode(tpm: Tpm) -> None:
    with key_in(tpm) as key:
        cipher = TpmBlockCipher(tpm, key, 16)
        assert cipher.ctr_each(PIECES) == expected(PIECES)
        with tpm.device.recording() as recorder:
            assert cipher.ctr_each(PIECES) == expected(PIECES)
        frames = [
            encode(commands.encrypt_decrypt2(key, text, Alg.CTR, counter), None)
            for counter, text in PIECES
        ]
        assert [exchange.command for exchange in recorder.exchanges] == frames
        short = [*PIECES, (bytes(16), bytes(48))]
        assert cipher.ctr_each(short) == expected(short)


def test_the_key_comes_back_to_another_slot(tpm: Tpm) -> None:
    with key_in(tpm) as key:
        cipher = TpmBlockCipher(tpm, key, 16)
        assert cipher.ctr_each(PIECES) == expected(PIECES)
        before = key.handle
        tpm.evict()
        with key_in(tpm):
            assert cipher.ctr_each(PIECES) == expected(PIECES)
        assert key.handle not in (0, before)


def cipher_behind(verdict: Callable[[bytes], int | None]) -> tuple[Tpm, TpmBlockCipher]:
    patience = Patience(attempts=2, sleep=lambda _: None)
    tpm = open_device(Device(Restricted(LibtpmsTransport(), verdict), patience=patience))
    tpm.capabilities  # noqa: B018 - found out by trying
    return tpm, TpmBlockCipher(tpm, key_in(tpm), 16)


def refusing(*answers: int | None) -> Callable[[bytes], int | None]:
    """EncryptDecrypt2 of 1 KiB is answered so, one after another."""
    left = list(answers)

    def verdict(frame: bytes) -> int | None:
        full = command_code(frame) == CommandCode.EncryptDecrypt2 and len(frame) > 1024
        return left.pop(0) if full and left else None

    return verdict


@pytest.mark.usefixtures("need_libtpms")
def test_a_use_that_needs_a_slot_of_its_own() -> None:
    slots = ResponseCode.OBJECT_MEMORY, ResponseCode.OBJECT_HANDLES
    tpm, cipher = cipher_behind(refusing(None, slots[0], None, slots[1]))
    with tpm, tpm.load(commands.load_hmac_key(b"secret", Alg.SHA256)) as other:
        assert cipher.ctr_each(PIECES) == expected(PIECES)
        assert other.handle == 0  # it made room


@pytest.mark.usefixtures("need_libtpms")
def test_another_refusal_is_the_callers() -> None:
    tpm, cipher = cipher_behind(refusing(None, ResponseCode.VALUE))
    with tpm:
        with pytest.raises(TpmResponseError, match="EncryptDecrypt2: TPM_RC_VALUE"):
            cipher.ctr_each(PIECES)
        assert cipher.ctr_each(PIECES) == expected(PIECES)


def test_sessions_see_each_command(libtpms: Tpm) -> None:
    noted = Noted()
    with key_in(libtpms) as key:
        cipher = TpmBlockCipher(libtpms, key, 16)
        libtpms.authorize = lambda command: noted if command.authorized else None
        assert cipher.ctr_each(PIECES) == expected(PIECES)
    assert noted.sealed == [CommandCode.EncryptDecrypt2] * len(PIECES)


@pytest.mark.usefixtures("need_libtpms")
def test_after_the_end() -> None:
    with open_tpm("libtpms:") as tpm:
        cipher = TpmBlockCipher(tpm, key_in(tpm), 16)
    with pytest.raises(TpmUnavailable, match="was closed"):
        cipher.ctr_each(PIECES)


def test_a_response_that_is_none(libtpms: Tpm) -> None:
    with key_in(libtpms) as key:
        made = commands.CounterMode(key, 32)
        good = libtpms.device.transmit(made.frame(bytes(16), bytes(32)))
        assert len(made.result(good)) == 32
        for bad in (good[:-1], good + b"\0", good[:15] + b"\1" + good[16:], b"", bytes(len(good))):
            with pytest.raises(TpmUnavailable, match="malformed"):
                made.result(bad)
