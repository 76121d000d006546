"""Record protection in the TPM: GCM or CCM from TPM2_EncryptDecrypt2 (Part 3 §15.3).

The key is in the TPM and is used there. Keystream comes out of it, which is worth no more than the
records it covers. With CCM that is all: the MAC is computed in the TPM too. With GCM the hash key
H, the encryption of a zero block, has to be on the host, and whoever has H and one record with its
tag can forge others under that key.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from tpmtls.aead import BLOCK, BlockCipher, Ccm, Gcm, Mode, Records
from tpmtls.algorithms import SuiteParameters
from tpmtls.backends.base import Aead, Kept
from tpmtls.backends.ledger import Crossing, Ledger
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.commands import CounterMode
from tpmtls.backends.tpm.commands import encrypt_decrypt2 as encrypt
from tpmtls.backends.tpm.constants import Alg, CommandCode
from tpmtls.backends.tpm.frames import Command
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.responses import SLOTS, TpmResponseError

Encryption = Command[tuple[bytes, bytes]]
MODES: Final = {Alg.ECB: Mode.ECB, Alg.CTR: Mode.CTR, Alg.CBC: Mode.CBC, Alg.CFB: Mode.CFB}
"""The modes of EncryptDecrypt2 that serve; any one of them is enough."""
MAX_COMMAND: Final = 1024
"""Octets for one command, where the TPM's buffer takes as many."""


class TpmBlockCipher(BlockCipher):
    """AES under a key in a TPM, in the modes that it does right."""

    def __init__(self, tpm: Tpm, key: TpmObject, key_length: int) -> None:
        capabilities = tpm.capabilities
        offered = capabilities.modes(8 * key_length)
        self.modes = frozenset(MODES[mode] for mode in offered if mode in MODES)
        if tpm.authorize is not None and Mode.ECB in self.modes:
            self.modes -= {Mode.CTR}  # its counter is a parameter that no session encrypts
        self.max_command = min(MAX_COMMAND, capabilities.input_buffer)
        self._tpm = tpm
        self._key = key
        self._full = self.max_command - self.max_command % BLOCK
        self._frames: CounterMode | None = None

    def encrypt_blocks(self, data: bytes) -> bytes:
        if Mode.ECB not in self.modes:
            return super().encrypt_blocks(data)
        return self._run(encrypt(self._key, data, Alg.ECB))

    def cbc(self, iv: bytes, data: bytes) -> bytes:
        return self._run(encrypt(self._key, data, Alg.CBC, iv))

    def cfb_encrypt(self, iv: bytes, data: bytes) -> bytes:
        return self._run(encrypt(self._key, data, Alg.CFB, iv))

    def cfb_decrypt(self, iv: bytes, data: bytes) -> bytes:
        return self._run(encrypt(self._key, data, Alg.CFB, iv, decrypt=True))

    def ctr(self, counter: bytes, data: bytes) -> bytes:
        return self._run(encrypt(self._key, data, Alg.CTR, counter))

    def ctr_each(self, pieces: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        tpm, key, made = self._tpm, self._key, self._frames
        if tpm.authorize is not None or any(len(text) != self._full for _, text in pieces):
            return super().ctr_each(pieces)
        try:
            with tpm.holding(key):
                if made is None or made.handle != key.handle:
                    made = self._frames = CounterMode(key, self._full)
                frames = [made.frame(*piece) for piece in pieces]
                responses = tpm.device.submit_each(CommandCode.EncryptDecrypt2, frames)
        except TpmResponseError as failure:
            if failure.code not in SLOTS:
                raise
            return super().ctr_each(pieces)  # one by one, for each of which room is made
        return [made.result(response) for response in responses]

    def _run(self, command: Encryption) -> bytes:
        return self._tpm.run(command)[0]


class TpmAead(Aead):
    """One direction's record protection by a key in the TPM."""

    def __init__(
        self, tpm: Tpm, ledger: Ledger, suite: SuiteParameters, key: bytes, iv: bytes
    ) -> None:
        ledger.record(Crossing("write_key", "tpm", "in", "TPM2_LoadExternal"))
        loaded = tpm.load(commands.load_aes_key(key))
        try:
            cipher = TpmBlockCipher(tpm, loaded, suite.key_length)
            self._start(ledger, suite, loaded, cipher, iv)
        except BaseException:
            loaded.flush()
            raise

    def _start(
        self,
        ledger: Ledger,
        suite: SuiteParameters,
        key: TpmObject,
        cipher: TpmBlockCipher,
        iv: bytes,
    ) -> None:
        """With a key that is in the TPM."""
        self._ledger = ledger
        self._used = False
        self._key = key
        self._has_hash_key = suite.aead == "aes-gcm"
        mode = Gcm(cipher) if self._has_hash_key else Ccm(cipher, suite.tag_length)
        self._records = Records(mode, iv)

    @property
    def kept(self) -> tuple[Kept, ...]:
        """The IV is on the host, with GCM the hash key once used; keystream is not counted."""
        kept = Kept("write_key", "tpm"), Kept("write_iv", "host")
        return (*kept, Kept("ghash_key", "host")) if self._used and self._has_hash_key else kept

    def seal(self, sequence: int, additional_data: bytes, plaintext: bytes) -> bytes:
        self._use()
        return self._records.seal(sequence, additional_data, plaintext)

    def open(self, sequence: int, additional_data: bytes, ciphertext: bytes) -> bytes | None:
        self._use()
        return self._records.open(sequence, additional_data, ciphertext)

    def _use(self) -> None:
        """The nonces that the TPM encrypts are made of the IV, and the first of them is it."""
        if not self._used:
            self._used = True
            self._ledger.record(Crossing("write_iv", "tpm", "in", "TPM2_EncryptDecrypt2"))
            if self._has_hash_key:
                self._ledger.record(Crossing("ghash_key", "tpm", "out", "TPM2_EncryptDecrypt2"))

    def close(self) -> None:
        self._records.close()
        self._key.flush()
