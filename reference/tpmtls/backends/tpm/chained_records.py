"""Records under AES keys that a chain made: TPM2_EncryptDecrypt2, authorized by its session."""

from __future__ import annotations

from collections.abc import Sequence

from tpmtls.aead import BlockCipher
from tpmtls.algorithms import SuiteParameters
from tpmtls.backends.ledger import Ledger
from tpmtls.backends.tpm.chain import Chain
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.records import Encryption, TpmAead, TpmBlockCipher


class ChainedBlockCipher(TpmBlockCipher):
    """AES under a key that only the chain's session may use."""

    def __init__(self, chain: Chain, key: TpmObject, key_length: int) -> None:
        super().__init__(chain.tpm, key, key_length)
        self._chain = chain

    def _run(self, command: Encryption) -> bytes:
        made: bytes = self._chain.plain(command)[0]
        return made

    def ctr_each(self, pieces: Sequence[tuple[bytes, bytes]]) -> list[bytes]:
        return BlockCipher.ctr_each(self, pieces)  # each command is the chain's session's


class ChainedAead(TpmAead):
    """One direction's record protection. The key is in the TPM, and was never anywhere else."""

    def __init__(
        self, chain: Chain, ledger: Ledger, suite: SuiteParameters, key: TpmObject, iv: bytes
    ) -> None:
        self._start(ledger, suite, key, ChainedBlockCipher(chain, key, suite.key_length), iv)
