"""Records under AES keys that a chain made: TPM2_EncryptDecrypt2, authorized by its session."""

from __future__ import annotations

from tpmtls.algorithms import SuiteParameters
from tpmtls.backends.ledger import Ledger
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.chain import Chain
from tpmtls.backends.tpm.constants import Alg
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.records import TpmAead, TpmBlockCipher


class ChainedBlockCipher(TpmBlockCipher):
    """AES under a key that only the chain's session may use."""

    def __init__(self, chain: Chain, key: TpmObject, key_length: int) -> None:
        super().__init__(chain.tpm, key, key_length)
        self._chain = chain

    def _run(self, data: bytes, mode: Alg, iv: bytes = b"", *, decrypt: bool = False) -> bytes:
        command = commands.encrypt_decrypt2(self._key, data, mode, iv, decrypt=decrypt)
        made: bytes = self._chain.plain(command)[0]
        return made


class ChainedAead(TpmAead):
    """One direction's record protection. The key is in the TPM, and was never anywhere else."""

    def __init__(
        self, chain: Chain, ledger: Ledger, suite: SuiteParameters, key: TpmObject, iv: bytes
    ) -> None:
        self._start(ledger, suite, key, ChainedBlockCipher(chain, key, suite.key_length), iv)
