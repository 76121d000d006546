"""Secrets on the bus: a salted session that encrypts them on their way (Part 1 §19, §21).

Commands that carry a secret, and those whose answer a later secret depends on, go out under one
HMAC session. It encrypts their first parameter, in the command, the response or both (AES-128-CFB,
Part 1 §21.3), and that is where their secrets are: `CARRIERS` says which, with the section of Part
3. Later parameters, handles, sizes and the kind of command cross in clear. Among those is ivIn of
EncryptDecrypt2: it holds a nonce where the TPM has no ECB, and the CBC-MAC of a record with CCM.

The session's key comes from a salt that only the holder of the salt key can read: the owner's
standard storage key. Against one who reads the bus that is enough. One who alters it could put a
key of his own in its place, and then reads everything: against him the Name of the key has to be
pinned, as it was found over a bus that was trusted. Then whatever he alters is noticed, with three
exceptions that give no secret away: what the TPM says it can do, that a command failed, and
signatures, which go their own way (`policy.py`).

A key without a Name could be exchanged for another unnoticed, since a command's HMAC covers Names
and no handles. So under a session, keys that we load get one.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, NamedTuple

from cryptography.hazmat.decrepit.ciphers.modes import CFB
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.ciphers import Cipher
from cryptography.hazmat.primitives.ciphers.algorithms import AES
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from tpmtls.backends.ledger import Crossing, Ledger
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.constants import Alg, Curve, ResponseCode
from tpmtls.backends.tpm.constants import CommandCode as CC
from tpmtls.backends.tpm.frames import (
    NULL_HIERARCHY,
    Authorization,
    Command,
    Entity,
    Reader,
    malformed,
    sized,
)
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.public import Point, parse_public, storage_key
from tpmtls.backends.tpm.responses import TpmResponseError, command_name
from tpmtls.backends.tpm.storage import storage_parent
from tpmtls.violations import ConfigurationError, TpmAuthError, TpmError, TpmUnavailable

HASH: Final = "sha256"
_NAME_ALGORITHM: Final = Alg.SHA256.to_bytes(2, "big")
_NO_NAME: Final = Alg.NULL.to_bytes(2, "big")
_NONCE_SIZE: Final = 16
_KEY_BITS: Final = 128
_BLOCK_BITS: Final = 128
_POINT_SIZE: Final = Curve.NIST_P256.size
_CONTINUE, _DECRYPT, _ENCRYPT = 0x01, 0x20, 0x40  # TPMA_SESSION (Part 2 §8.4)


class Carrier(NamedTuple):
    """Whether a command's first parameter is encrypted, and its response's."""

    command: bool
    response: bool


CARRIERS: Final[dict[int, Carrier]] = {
    CC.HMAC: Carrier(True, True),  # buffer; outHMAC (§15.5)
    CC.LoadExternal: Carrier(True, False),  # inPrivate (§12.3)
    CC.EncryptDecrypt2: Carrier(True, True),  # inData; outData (§15.3)
    CC.ECDH_ZGen: Carrier(False, True),  # outPoint (§14.5)
    CC.ECDH_KeyGen: Carrier(False, True),  # zPoint (§14.4)
    CC.Create: Carrier(True, False),  # inSensitive (§12.1)
    CC.CreatePrimary: Carrier(True, False),  # inSensitive (§24.1); the public key is what counts
    CC.Load: Carrier(False, False),  # wrapped, but by whom is what counts (§12.2)
    CC.Unseal: Carrier(False, True),  # outData (§12.7)
    CC.GetRandom: Carrier(False, True),  # randomBytes (§16.1)
    CC.NV_DefineSpace: Carrier(True, False),  # auth (§31.3)
    CC.NV_Write: Carrier(True, False),  # data (§31.7)
}
"""What goes out under the session: all that the backend asks for, but to sign."""


class TransitLedger(Ledger):
    """A ledger that knows which crossings are encrypted.

    `exposes_iv` says that the TPM has no ECB: then nonces go to it as ivIn, the last parameter.
    """

    def __init__(self, *, exposes_iv: bool) -> None:
        super().__init__()
        self._exposed = ("write_iv", "TPM2_EncryptDecrypt2") if exposes_iv else None

    def record(self, crossing: Crossing) -> None:
        if (
            crossing.boundary == "tpm"
            and (crossing.via, crossing.direction) in _ENCRYPTED
            and (crossing.secret, crossing.via) != self._exposed
        ):
            crossing = crossing._replace(visibility="encrypted")
        super().record(crossing)


_ENCRYPTED: Final = frozenset(
    (command_name(code), direction)
    for code, carrier in CARRIERS.items()
    for direction, encrypted in zip(("in", "out"), carrier, strict=True)
    if encrypted
)


# -- derivation and encryption ---------------------------------------------------------------------


def kdfa(key: bytes, label: bytes, u: bytes, v: bytes, bits: int, algorithm: str = HASH) -> bytes:
    """KDFa (Part 1 §11.4.10.2): SP 800-108 in counter mode; whole octets only."""
    tail = label + b"\0" + u + v + bits.to_bytes(4, "big")
    size = bits // 8
    output, counter = b"", 0
    while len(output) < size:
        counter += 1
        output += hmac.digest(key, counter.to_bytes(4, "big") + tail, algorithm)
    return output[:size]


def kdfe(z: bytes, label: bytes, u: bytes, v: bytes, bits: int, algorithm: str = HASH) -> bytes:
    """KDFe (Part 1 §11.4.10.3): SP 800-56A over a shared x-coordinate; whole octets only."""
    tail = z + label + b"\0" + u + v
    size = bits // 8
    output, counter = b"", 0
    while len(output) < size:
        counter += 1
        output += hashlib.new(algorithm, counter.to_bytes(4, "big") + tail).digest()
    return output[:size]


def parameter_cipher(secret: bytes, newer: bytes, older: bytes) -> Cipher[CFB]:
    """AES-128-CFB for one parameter, from the nonces of its command (Part 1 §21.3).

    `secret` is the session's key, and the authValue of what it authorizes behind it.
    """
    material = kdfa(secret, b"CFB", newer, older, _KEY_BITS + _BLOCK_BITS)
    split = _KEY_BITS // 8
    return Cipher(AES(material[:split]), CFB(material[split:]))


def _split(parameters: bytes) -> tuple[bytes, bytes]:
    """The buffer of the first parameter, a TPM2B, and what follows."""
    end = 2 + int.from_bytes(parameters[:2], "big")
    if not 2 <= end <= len(parameters):
        raise malformed()
    return parameters[2:end], parameters[end:]


def named(parameters: bytes) -> bytes:
    """Those of LoadExternal, where a secret key without a Name gets one.

    The Name covers `unique`, the digest of seed and key (Part 1 §27.5): as the seed is random, it
    tells nothing of the key.
    """
    reader = Reader(parameters)
    sensitive, area = reader.sized(), reader.sized()
    if not sensitive or area[2:4] != _NO_NAME or not area.endswith(b"\0\0"):
        return parameters
    inner = Reader(sensitive)
    kind, password, _, octets = inner.take(2), inner.sized(), inner.sized(), inner.sized()
    seed = os.urandom(32)
    sensitive = kind + sized(password) + sized(seed) + sized(octets)
    unique = hashlib.new(HASH, seed + octets).digest()
    area = area[:2] + _NAME_ALGORITHM + area[4:-2] + sized(unique)
    return sized(sensitive) + sized(area) + reader.rest


# -- the salt key ----------------------------------------------------------------------------------


def salt_name(tpm: Tpm) -> bytes:
    """The Name of the key that secrets would be protected with, to be pinned."""
    with _salt_key(tpm) as key:
        return _name(key.public)


def parse_salt_name(text: str) -> bytes:
    """A Name in hexadecimal, as `tpmtls key salt-name` prints it."""
    try:
        name = bytes.fromhex(text)
    except ValueError:
        name = b""
    if len(name) != 34 or name[:2] != _NAME_ALGORITHM:
        raise ConfigurationError(
            "that is no Name of a salt key, 68 hexadecimal digits from 000b on: `tpmtls key"
            " salt-name` prints it"
        )
    return name


def _salt_key(tpm: Tpm) -> TpmObject:
    return storage_parent(tpm)


def _name(area: bytes) -> bytes:
    """The Name of a public area (Part 1 §16), which the host computes for itself."""
    return _NAME_ALGORITHM + hashlib.new(HASH, area).digest()


def _salt(area: bytes) -> tuple[bytes, bytes]:
    """A salt, and the point from which the holder of the key derives it (Part 1 §C.6.1)."""
    template = storage_key()[:-4]  # up to the point
    try:
        if not area.startswith(template):
            raise ValueError
        theirs = parse_public(area).point.uncompressed(_POINT_SIZE)
        peer = ec.EllipticCurvePublicKey.from_encoded_point(ec.SECP256R1(), theirs)
    except ValueError:
        raise TpmError("the TPM's salt key is not what we asked for") from None
    key = ec.generate_private_key(ec.SECP256R1())
    octets = key.public_key().public_bytes(Encoding.X962, PublicFormat.UncompressedPoint)
    ours = Point.from_uncompressed(octets)
    x = Point.from_uncompressed(theirs).x
    salt = kdfe(key.exchange(ec.ECDH(), peer), b"SECRET", ours.x, x, 256)
    return salt, sized(ours.x) + sized(ours.y)


# -- the session -----------------------------------------------------------------------------------


class Session:
    """One HMAC session of the TPM, for one command after another (Part 1 §19.6).

    It is salted and not bound: a password of what it authorizes goes into each HMAC.
    """

    __slots__ = ("_handle", "_key", "_nonce", "_nonce_tpm", "_secret", "altered", "last")

    def __init__(self, handle: int, key: bytes, nonce_tpm: bytes) -> None:
        self._handle = handle.to_bytes(4, "big")
        self._key = key
        self._nonce_tpm = nonce_tpm
        self._nonce = b""
        self._secret = b""
        self.last = False
        """Whether the TPM is to forget it after the next command."""
        self.altered = False
        """Whether it cannot be used any more, because an answer did not verify."""

    @property
    def handle(self) -> int:
        """Where it is in the TPM."""
        return int.from_bytes(self._handle, "big")

    def seal(self, command: Command[Any]) -> tuple[bytes, bytes]:
        carrier = CARRIERS[command.code]
        parameters = command.parameters
        self._nonce = os.urandom(_NONCE_SIZE)
        self._secret = self._key
        if command.authorized:
            self._secret += command.handles[0].auth.rstrip(b"\0")
        if command.code == CC.LoadExternal:
            parameters = named(parameters)
        if carrier.command:
            first, rest = _split(parameters)
            encryptor = parameter_cipher(self._secret, self._nonce, self._nonce_tpm).encryptor()
            parameters = sized(encryptor.update(first)) + rest
        attributes = bytes(
            (
                _CONTINUE * (not self.last)
                | _DECRYPT * carrier.command
                | _ENCRYPT * carrier.response,
            )
        )
        names = b"".join([entity.name for entity in command.handles])
        about = command.code.to_bytes(4, "big") + names + parameters
        proof = self._proof(about, self._nonce + self._nonce_tpm + attributes)
        return self._handle + sized(self._nonce) + attributes + sized(proof), parameters

    def open(self, command: Command[Any], parameters: bytes, area: bytes) -> bytes:
        try:
            reader = Reader(area)
            nonce, attributes, proof = reader.sized(), reader.take(1), reader.sized()
            reader.end()
            about = bytes(4) + command.code.to_bytes(4, "big") + parameters
            if not hmac.compare_digest(proof, self._proof(about, nonce + self._nonce + attributes)):
                raise malformed()
        except TpmError:
            self.altered = True
            raise TpmError(
                f"{command_name(command.code)}: the TPM's answer was altered on its way"
            ) from None
        self._nonce_tpm = nonce
        if not CARRIERS[command.code].response:
            return parameters
        first, rest = _split(parameters)
        decryptor = parameter_cipher(self._secret, nonce, self._nonce).decryptor()
        return sized(decryptor.update(first)) + rest

    def _proof(self, about: bytes, nonces: bytes) -> bytes:
        """The HMAC over cpHash or rpHash (Part 1 §19.6.5)."""
        return hmac.digest(self._secret, hashlib.new(HASH, about).digest() + nonces, HASH)


def _start(salt_key: Entity, encrypted_salt: bytes, nonce: bytes) -> Command[tuple[int, bytes]]:
    """TPM2_StartAuthSession (Part 3 §11.1) of an HMAC session; its handle and nonceTPM."""
    symmetric = b"".join(n.to_bytes(2, "big") for n in (Alg.AES, _KEY_BITS, Alg.CFB))
    parameters = sized(nonce) + sized(encrypted_salt) + b"\0" + symmetric + _NAME_ALGORITHM
    return Command(CC.StartAuthSession, (salt_key, NULL_HIERARCHY), parameters, _started)


def _started(response: bytes) -> tuple[int, bytes]:
    reader = Reader(response)
    handle, nonce = reader.integer(4), reader.sized()
    reader.end()
    return handle, nonce


# -- for one opening of a TPM ----------------------------------------------------------------------

_NO_SLOT: Final = (ResponseCode.SESSION_MEMORY, ResponseCode.SESSION_HANDLES)
_ATTEMPTS: Final = 10
_WHERE, _AT_A_SESSION = 0x8C0, 0x880  # in a format-one code (Part 2 §6.6.2)


class Transit:
    """Puts the commands of one opening under a session, for as long as the opening lasts.

    `pin` is the Name that the salt key must have; None trusts the key that the TPM shows first.
    The session is made anew where the TPM has lost it, or somebody interfered with it.
    """

    def __init__(self, tpm: Tpm, pin: bytes | None = None) -> None:
        self._tpm = tpm
        self._name = pin
        self._session: Session | None = None
        self._starting = False
        self.ledger = TransitLedger(exposes_iv=Alg.ECB not in tpm.capabilities.modes(_KEY_BITS))
        """A ledger for what crosses in this opening."""
        with tpm.device.lock:
            self._renew()
            tpm.authorize, tpm.recover = self.authorize, self.recover
            tpm.at_close.append(self.close)

    def authorize(self, command: Command[Any]) -> Authorization | None:
        """The session, for commands that it is meant for; the device's lock is held."""
        if self._starting or command.code not in CARRIERS:
            return None
        if self._session is None or self._session.altered:
            self._end()
            self._renew()
        return self._session

    def recover(self, failure: TpmResponseError) -> bool:
        """Whether a failure was for the session's sake: then it is gone, and the next one is new.

        A wrong password looks the same, and so is refused twice.
        """
        if ResponseCode.REFERENCE_S0 <= failure.code <= ResponseCode.REFERENCE_S6:
            self._session = None
            return True
        if failure.raw & _WHERE == _AT_A_SESSION:
            self._end()
            return True
        return False

    def close(self) -> None:
        """End the session."""
        with suppress(TpmUnavailable), self._tpm.device.lock:
            self._end()

    def _end(self) -> None:
        """Have the TPM forget the session, if it is ours: another may be where ours was.

        The TPM itself tells, by the HMAC; unless an answer was altered, and we lost its nonce.
        """
        session, self._session = self._session, None
        if session is None:
            return
        session.last = True
        with suppress(TpmError):
            if session.altered:
                self._tpm.device.execute(commands.flush_context(session.handle))
            else:
                self._tpm.device.execute(commands.get_random(1), session)

    def _renew(self) -> None:
        self._starting = True
        try:
            with _salt_key(self._tpm) as key:
                self._check(key)
                salt, encrypted = _salt(key.public)
                nonce = os.urandom(_NONCE_SIZE)
                handle, nonce_tpm = self._insist(_start(key, encrypted, nonce))
        finally:
            self._starting = False
        session_key = kdfa(salt, b"ATH", nonce_tpm, nonce, 256)
        self._session = Session(handle, session_key, nonce_tpm)

    def _check(self, key: TpmObject) -> None:
        """The key that we pinned, or saw first."""
        name = _name(key.public)
        if self._name is None:
            self._name = name
        if name != self._name:
            raise TpmAuthError(
                "the TPM's salt key does not have the expected Name: this is another TPM, its owner"
                " hierarchy was cleared, or somebody answers in its place"
            )

    def _insist(self, command: Command[tuple[int, bytes]]) -> tuple[int, bytes]:
        """Wait a moment for a slot, where other programs' sessions have them all."""
        patience = self._tpm.device.patience
        pauses = replace(patience, attempts=min(_ATTEMPTS, patience.attempts)).pauses()
        while True:
            try:
                return self._tpm.run(command)
            except TpmResponseError as failure:
                pause = next(pauses, None)
                if failure.code not in _NO_SLOT or pause is None:
                    raise
                patience.sleep(pause)
