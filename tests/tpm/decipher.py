"""What crossed in a chain's session, deciphered by one who knows the authValue A."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES

from tests.tpm.fakes import command_code
from tpmtls.backends.ledger import Ledger
from tpmtls.backends.tpm import chained_layout as layout
from tpmtls.backends.tpm.chained_provisioning import open_chain
from tpmtls.backends.tpm.constants import CommandCode as CC
from tpmtls.backends.tpm.device import Exchange
from tpmtls.backends.tpm.frames import Reader
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.transit import kdfa

HANDLES: Final[dict[int, int]] = {
    **dict.fromkeys((CC.HMAC, CC.ECDH_ZGen, CC.EncryptDecrypt2, CC.CreateLoaded, CC.Load), 1),
    **dict.fromkeys((CC.NV_Read, CC.NV_Write), 2),
}
"""The commands that go in a chain's session, and how many handles each has."""
MAKING: Final = (CC.CreateLoaded, CC.Load)
"""Whose responses begin with a handle."""
SESSIONS: Final = b"\x80\x02"
"""TPM_ST_SESSIONS, as which such commands and responses begin."""
_DECRYPT, _ENCRYPT = 0x20, 0x40


def auth_value(tpm: Tpm) -> bytes:
    """A, as anybody can have it who can send commands."""
    found = open_chain(tpm, Ledger())
    assert found is not None
    octets = found.chain._read(found.chain._store, layout.AUTH, layout.STORE_A + 2, 0)
    found.chain.close()
    return octets


def deciphered(exchanges: Iterable[Exchange], auth: bytes) -> list[Exchange]:
    """Each exchange with nothing left in it but the first parameters, in clear, if encrypted.

    All exchanges of the session are needed, from its beginning on.
    """
    nonces: dict[int, bytes] = {}
    return [_deciphered(each, auth, nonces) for each in exchanges]


def _deciphered(exchange: Exchange, auth: bytes, nonces: dict[int, bytes]) -> Exchange:
    command, response = exchange
    code, session_in, session_out = command_code(command), b"", b""
    if response[6:10] != bytes(4):
        return Exchange(command[:10], response[:10])
    if code == CC.StartAuthSession and _is_policy(command):
        reader = Reader(response[10:])
        handle = reader.integer(4)
        nonces[handle] = reader.sized()
    session, flags, sent = _command(command)
    if session in nonces:
        older = nonces[session]
        nonces[session] = newer = _nonce(response, 4 if code in MAKING else 0)
        if flags & _DECRYPT:
            session_in = _decipher(auth, older, sent)
        if flags & _ENCRYPT:
            session_out = _decipher(auth, newer, Reader(response[14:]).sized())
    return Exchange(command[:10] + session_in, response[:10] + session_out)


def _is_policy(command: bytes) -> bool:
    """Whether a session is to be one as a chain's; those of provisioning are not."""
    reader = Reader(command[10 + 8 :])
    reader.sized()
    reader.sized()
    return reader.integer(1) == 1  # TPM_SE_POLICY


def _command(command: bytes) -> tuple[int, int, bytes]:
    """The first session of a command, its flags, and the first parameter, a TPM2B."""
    number = HANDLES.get(command_code(command))
    if number is None or command[:2] != SESSIONS:
        return 0, 0, b""
    reader = Reader(command[10 + 4 * number :])
    area = Reader(reader.take(reader.integer(4)))
    session = area.integer(4)
    area.sized()
    flags = area.integer(1)
    return session, flags, reader.sized() if flags & _DECRYPT else b""


def _nonce(response: bytes, handles: int) -> bytes:
    """nonceTPM of a response's first session."""
    reader = Reader(response[10 + handles :])
    reader.take(reader.integer(4))
    return reader.sized()


def _decipher(auth: bytes, nonce: bytes, data: bytes) -> bytes:
    material = kdfa(auth, b"CFB", nonce, b"", 256)
    return Cipher(AES(material[:16]), CFB(material[16:])).decryptor().update(data)
