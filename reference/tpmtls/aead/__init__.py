"""GCM and CCM from a block cipher that someone else holds, such as a TPM.

`BlockCipher` is what to subclass: whichever of ECB, CBC, CFB and CTR there is. `Gcm` and `Ccm` are
AEADs with any nonce that their standards allow; `Records` is one of them for the records of TLS.

>>> from tpmtls.aead import Gcm, Records
>>> records = Records(Gcm(cipher), iv)
>>> records.open(0, header, records.seal(0, header, b"text"))
b'text'
"""

from tpmtls.aead.ccm import Ccm
from tpmtls.aead.cipher import BLOCK, BlockCipher, Mode
from tpmtls.aead.gcm import Gcm
from tpmtls.aead.mode import AuthenticatedMode
from tpmtls.aead.records import Records

__all__ = ["BLOCK", "AuthenticatedMode", "BlockCipher", "Ccm", "Gcm", "Mode", "Records"]
