"""That a write_key opens and seals without its write_iv, as `AEAD_NEEDS` has it."""

from __future__ import annotations

from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes
from cryptography.hazmat.primitives.ciphers.aead import AESCCM, AESGCM
from hypothesis import given
from hypothesis import strategies as st

from tpmtls.aead.cipher import xor
from tpmtls.aead.ghash import Ghash
from tpmtls.algorithms import AeadName
from tpmtls.audit.rules import AEAD_NEEDS
from tpmtls.key_schedule import WRITE_IV, WRITE_KEY

BLOCK = 16
key = st.binary(min_size=BLOCK, max_size=BLOCK)
nonce = st.binary(min_size=12, max_size=12)
header = st.binary(min_size=5, max_size=5)


def decrypted(under: bytes, block: bytes) -> bytes:
    return Cipher(algorithms.AES(under), modes.ECB()).decryptor().update(block)


def encrypted(under: bytes, block: bytes) -> bytes:
    return Cipher(algorithms.AES(under), modes.ECB()).encryptor().update(block)


@given(key, nonce, header, st.binary(max_size=64))
def test_gcm_gives_its_nonce_to_who_has_the_key(
    key: bytes, nonce: bytes, header: bytes, plaintext: bytes
) -> None:
    """The tag is GHASH, which the key gives, and the encryption of nonce and counter."""
    record = AESGCM(key).encrypt(nonce, plaintext, header)
    ciphertext, tag = record[:-BLOCK], record[-BLOCK:]
    lengths = b"".join((8 * len(part)).to_bytes(8, "big") for part in (header, ciphertext))
    hashed = Ghash(encrypted(key, bytes(BLOCK))).digest(header, ciphertext, lengths)
    assert decrypted(key, xor(tag, hashed)) == nonce + b"\0\0\0\1"


@given(key, nonce, header, st.binary(min_size=BLOCK, max_size=64))
def test_ccm_gives_its_nonce_to_who_has_the_key_and_knows_a_block(
    key: bytes, nonce: bytes, header: bytes, plaintext: bytes
) -> None:
    """Keystream is the encryption of flags, nonce and counter: `GET / HTTP/1.1` and it is known."""
    record = AESCCM(key).encrypt(nonce, plaintext, header)
    block = decrypted(key, xor(record[:BLOCK], plaintext[:BLOCK]))
    assert block == b"\x02" + nonce + b"\0\0\1"


def test_the_rules_take_the_iv_where_it_cannot_be_had_so() -> None:
    needs: dict[AeadName, bool] = {name: WRITE_IV in of for name, of in AEAD_NEEDS.items()}
    assert needs == {"aes-gcm": False, "aes-ccm": False, "chacha20-poly1305": True}
    assert all(WRITE_KEY in of for of in AEAD_NEEDS.values())
