"""The block ciphers that the tests of `tpmtls.aead` run on: each a `BlockCipher` in some modes.

`FACTORIES` is what those tests are parametrised with; whatever holds an AES key and offers a mode
can join them.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher, modes
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from tpmtls.aead import BLOCK, BlockCipher, Mode


class SoftwareCipher(BlockCipher):
    """AES by `cryptography`, in the modes it is told to have.

    Notes each command, and accepts none that a TPM would not: whole blocks, no more than fit, in
    a mode that there is.
    """

    def __init__(self, key: bytes, offered: Iterable[Mode], max_command: int = 1024) -> None:
        self._aes = AES(key)
        self.modes = frozenset(offered)
        self.max_command = max_command
        self.commands: list[tuple[Mode, bytes]] = []

    def encrypt_blocks(self, data: bytes) -> bytes:
        if Mode.ECB not in self.modes:
            return super().encrypt_blocks(data)
        return self._run(Mode.ECB, modes.ECB(), data)  # what is tested is not ECB's secrecy

    def cbc(self, iv: bytes, data: bytes) -> bytes:
        return self._run(Mode.CBC, modes.CBC(iv), data)

    def cfb_encrypt(self, iv: bytes, data: bytes) -> bytes:
        return self._run(Mode.CFB, CFB(iv), data)

    def cfb_decrypt(self, iv: bytes, data: bytes) -> bytes:
        return self._run(Mode.CFB, CFB(iv), data, decrypt=True)

    def ctr(self, counter: bytes, data: bytes) -> bytes:
        return self._run(Mode.CTR, modes.CTR(counter), data)

    def _run(self, mode: Mode, how: modes.Mode, data: bytes, *, decrypt: bool = False) -> bytes:
        assert mode in self.modes, f"{mode} is not offered"
        assert 0 < len(data) <= self.max_command, f"{len(data)} octets in one command"
        assert len(data) % BLOCK == 0, f"{len(data)} octets are not whole blocks"
        self.commands.append((mode, data))
        cipher: Cipher[Any] = Cipher(self._aes, how)
        context = cipher.decryptor() if decrypt else cipher.encryptor()
        return context.update(data) + context.finalize()


@dataclass(frozen=True)
class Factory:
    """Makes block ciphers from AES keys of `key_sizes` octets."""

    make: Callable[[bytes], BlockCipher]
    key_sizes: tuple[int, ...] = (16, 24, 32)

    def __call__(self, key: bytes) -> BlockCipher:
        return self.make(key)


def software(*offered: Mode, max_command: int = 1024) -> Factory:
    """Makes software ciphers that have these modes."""
    return Factory(lambda key: SoftwareCipher(key, offered, max_command))


FACTORIES: Final[dict[str, Factory]] = {
    "ECB": software(Mode.ECB),
    "CFB": software(Mode.CFB),
    "CTR": software(Mode.CTR),
    "CBC": software(Mode.CBC),
    "ECB and CBC": software(Mode.ECB, Mode.CBC),
    "ECB and CTR": software(Mode.ECB, Mode.CTR),
    "all modes": software(*Mode),
    "small commands": software(Mode.ECB, Mode.CBC, max_command=48),
}
"""By name: how to make a block cipher from an AES key."""
