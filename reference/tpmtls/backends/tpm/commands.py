"""The commands we send often, as functions from arguments to `Command`; sections are Part 3's.

Hashes, curves and modes are numbers of `constants`; keys are entities, usually objects that
`Tpm.load` gave.
"""

from __future__ import annotations

import os
from functools import lru_cache
from struct import Struct
from typing import Final, NamedTuple

from cryptography.hazmat.primitives.asymmetric.utils import encode_dss_signature

from tpmtls.backends.tpm import public
from tpmtls.backends.tpm.constants import Alg, Capability, Curve
from tpmtls.backends.tpm.constants import CommandCode as CC
from tpmtls.backends.tpm.frames import (
    NULL_HIERARCHY,
    SESSIONS,
    Command,
    Created,
    Creation,
    Entity,
    Reader,
    encode,
    malformed,
    only,
    sized,
)
from tpmtls.backends.tpm.public import Point

_NO_HANDLES: Final[tuple[Entity, ...]] = ()
_NULL_HANDLE: Final = NULL_HIERARCHY.handle.to_bytes(4, "big")
_NULL_TICKET: Final = b"\x80\x24" + _NULL_HANDLE + b"\0\0"  # TPM_ST_HASHCHECK
_DIGEST_SIZES: Final = {Alg.SHA256: 32, Alg.SHA384: 48, Alg.SHA512: 64}


def _nothing(parameters: bytes) -> None:
    if parameters:
        raise malformed()


# -- start and stop --------------------------------------------------------------------------------


def startup() -> Command[None]:
    """TPM2_Startup(CLEAR), §9.3."""
    return Command(CC.Startup, _NO_HANDLES, b"\0\0", _nothing)


def shutdown() -> Command[None]:
    """TPM2_Shutdown(CLEAR), §9.4."""
    return Command(CC.Shutdown, _NO_HANDLES, b"\0\0", _nothing)


def get_capability(
    capability: Capability, start: int, count: int
) -> Command[tuple[bool, list[tuple[int, ...]]]]:
    """TPM2_GetCapability, §30.2: whether there is more, and what there is from `start` on.

    An item is (value,), but (property, value) for properties and (algorithm, attributes) for
    algorithms.
    """
    parameters = b"".join(number.to_bytes(4, "big") for number in (capability, start, count))
    return Command(CC.GetCapability, _NO_HANDLES, parameters, _capability)


_LAYOUTS: Final[dict[int, tuple[int, ...]]] = {
    Capability.ALGS: (2, 4),
    Capability.HANDLES: (4,),
    Capability.COMMANDS: (4,),
    Capability.TPM_PROPERTIES: (4, 4),
    Capability.ECC_CURVES: (2,),
}


def _capability(parameters: bytes) -> tuple[bool, list[tuple[int, ...]]]:
    reader = Reader(parameters)
    more = bool(reader.integer(1))
    layout = _LAYOUTS.get(reader.integer(4))
    if layout is None:
        raise malformed()
    items = [tuple(map(reader.integer, layout)) for _ in range(reader.integer(4))]
    reader.end()
    return more, items


def get_random(number: int) -> Command[bytes]:
    """TPM2_GetRandom, §16.1: at most that many octets; often no more than 64."""
    return Command(CC.GetRandom, _NO_HANDLES, number.to_bytes(2, "big"), only)


# -- objects ---------------------------------------------------------------------------------------


def load_external(area: bytes, sensitive: bytes = b"", hierarchy: int = 0x40000007) -> Creation:
    """TPM2_LoadExternal, §12.3: a public area, and a sensitive area or none.

    Only a public area alone may go under another hierarchy than NULL.
    """
    parameters = sized(sensitive) + sized(area) + hierarchy.to_bytes(4, "big")
    return Creation(CC.LoadExternal, _NO_HANDLES, parameters, _external)


def _external(parameters: bytes) -> Created:
    return Created(only(parameters))


def _sensitive(kind: Alg, octets: bytes, seed: bytes = b"") -> bytes:
    """TPMT_SENSITIVE without a password."""
    return kind.to_bytes(2, "big") + b"\0\0" + sized(seed) + sized(octets)


def load_hmac_key(key: bytes, algorithm: Alg) -> Creation:
    """LoadExternal of an HMAC key, which must not be longer than the hash's block.

    It has no name algorithm and so no Name, which saves the TPM two hashes.
    """
    return load_external(_HMAC_KEYS[algorithm], _sensitive(Alg.KEYEDHASH, key))


_HMAC_KEYS: Final = {algorithm: public.hmac_key(algorithm) for algorithm in _DIGEST_SIZES}


def load_aes_key(key: bytes) -> Creation:
    """LoadExternal of an AES key, for any mode; without a Name, like `load_hmac_key`."""
    return load_external(_AES_KEYS[len(key)], _sensitive(Alg.SYMCIPHER, key))


_AES_KEYS: Final = {size: public.aes_key(8 * size) for size in (16, 32)}


def load_ecdh_peer(curve: Curve, point: Point) -> Creation:
    """LoadExternal of a peer's public key; TPM_RC_ECC_POINT if the point is not on the curve."""
    return load_external(public.ecdh_peer(curve, point))


def load_ecdh_key(curve: Curve, point: Point, scalar: bytes) -> Creation:
    """LoadExternal of a private key for key agreement: to replay a recorded handshake."""
    return load_external(public.ecdh_peer(curve, point), _sensitive(Alg.ECC, scalar))


def load_rsa_key(modulus: bytes, prime: bytes) -> Creation:
    """LoadExternal of an RSA private key by one of its primes; its exponent is 65537."""
    return load_external(public.rsa_external(modulus), _sensitive(Alg.RSA, prime))


def load(parent: Entity, private: bytes, area: bytes) -> Creation:
    """TPM2_Load, §12.2: a key that the TPM made and wrapped with `parent`."""
    return Creation(CC.Load, (parent,), sized(private) + sized(area), _external, 1)


def create(
    parent: Entity, area: bytes, *, octets: bytes = b"", password: bytes = b""
) -> Command[Created]:
    """TPM2_Create, §12.1: a key, or `octets` to be one, wrapped with `parent`; no Name yet."""
    parameters = _creation(area, octets, password)
    return Command(CC.Create, (parent,), parameters, _wrapped, 1)


def _wrapped(parameters: bytes) -> Created:
    reader = Reader(parameters)
    private, area = reader.sized(), reader.sized()
    _creation_data(reader)
    reader.end()
    return Created(b"", area, private)


def create_primary(
    area: bytes, *, hierarchy: Entity = NULL_HIERARCHY, password: bytes = b""
) -> Creation:
    """TPM2_CreatePrimary, §24.1: the key that the hierarchy's seed and `area` determine."""
    parameters = _creation(area, b"", password)
    return Creation(CC.CreatePrimary, (hierarchy,), parameters, _primary, 1)


def _creation(area: bytes, octets: bytes, password: bytes) -> bytes:
    """Sensitive and public area, no outside information, no PCRs."""
    sensitive = sized(password) + sized(octets)
    return b"".join((sized(sensitive), sized(area), b"\0\0\0\0\0\0"))


def _creation_data(reader: Reader) -> None:
    """Skip what certifies how an object was made: data, hash and ticket."""
    reader.sized()
    reader.sized()
    reader.take(6)
    reader.sized()


def _primary(parameters: bytes) -> Created:
    reader = Reader(parameters)
    area = reader.sized()
    _creation_data(reader)
    name = reader.sized()
    reader.end()
    return Created(name, area)


def create_ecdh_key(curve: Curve) -> Creation:
    """A fresh key for key agreement: CreatePrimary(NULL) with a random `unique`.

    It is fresh because `unique` is; see `public.ecdh_key`. 32 octets are as good as the TPM's seed.
    """
    return create_primary(public.ecdh_key(curve, Point(os.urandom(32), b"")))


@lru_cache(maxsize=64)  # a third of all that is sent, and always of the same few handles
def flush_context(handle: int) -> Command[None]:
    """TPM2_FlushContext, §28.4; its handle is a parameter."""
    return Command(CC.FlushContext, _NO_HANDLES, handle.to_bytes(4, "big"), _nothing)


def context_save(entity: Entity) -> Command[bytes]:
    """TPM2_ContextSave, §28.2: TPMS_CONTEXT, encrypted by the TPM for itself."""
    return Command(CC.ContextSave, (entity,), b"", bytes)


_NOTHING_NEW: Final = Created()


def context_load(context: bytes) -> Creation:
    """TPM2_ContextLoad, §28.3."""
    return Creation(CC.ContextLoad, _NO_HANDLES, context, _loaded)


def _loaded(parameters: bytes) -> Created:
    _nothing(parameters)
    return _NOTHING_NEW


def read_public(key: Entity) -> Command[Created]:
    """TPM2_ReadPublic, §12.4: the public area and the Name."""
    return Command(CC.ReadPublic, (key,), b"", _read_public)


def _read_public(parameters: bytes) -> Created:
    reader = Reader(parameters)
    area, name = reader.sized(), reader.sized()
    reader.sized()  # the qualified name
    reader.end()
    return Created(name, area)


# -- symmetric -------------------------------------------------------------------------------------


def hmac(key: Entity, data: bytes, algorithm: Alg) -> Command[bytes]:
    """TPM2_HMAC, §15.5, with the hash of the key; `data` within the input buffer (1024 octets)."""
    parameters = sized(data) + algorithm.to_bytes(2, "big")
    return Command(CC.HMAC, (key,), parameters, only, 1)


def encrypt_decrypt2(
    key: Entity, data: bytes, mode: Alg, iv: bytes = b"", *, decrypt: bool = False
) -> Command[tuple[bytes, bytes]]:
    """TPM2_EncryptDecrypt2, §15.3: the result, and the IV with which the next call goes on.

    `data` is whole blocks for ECB and CBC; `iv` is a block, or empty for ECB. In CTR the IV goes on
    only after whole blocks.
    """
    sizes = len(data).to_bytes(2, "big"), len(iv).to_bytes(2, "big")
    parameters = b"".join((sizes[0], data, _DIRECTIONS[decrypt], _MODES[mode], sizes[1], iv))
    return Command(CC.EncryptDecrypt2, (key,), parameters, _two_buffers, 1)


class CounterMode:
    """The frames of `encrypt_decrypt2` in CTR under one key, and their responses, all of one size.

    What is the same in all of them is made once: full records consist of little else.
    """

    def __init__(self, key: Entity, size: int) -> None:
        self.handle = key.handle
        self.size = size
        frame = encode(encrypt_decrypt2(key, bytes(size), Alg.CTR, bytes(_BLOCK)), None)
        text = len(frame) - _BLOCK - _AFTER_TEXT - size
        self._before, self._after = frame[:text], frame[text + size : -_BLOCK]
        self._total = _RESULT.size + size + 2 + _BLOCK + _ACKNOWLEDGED
        self._result = _RESULT.pack(SESSIONS, self._total, 0, 2 + size + 2 + _BLOCK, size)

    def frame(self, counter: bytes, text: bytes) -> bytes:
        """The command that encrypts a text of `size` octets from a counter block on."""
        return b"".join((self._before, text, self._after, counter))

    def result(self, response: bytes) -> bytes:
        """What a response says that the text became."""
        if len(response) != self._total or response[: _RESULT.size] != self._result:
            raise malformed()
        return response[_RESULT.size : _RESULT.size + self.size]


_BLOCK: Final = 16
_AFTER_TEXT: Final = 5
"""Octets between text and IV: direction, mode, and the IV's size."""
_ACKNOWLEDGED: Final = 5
"""Octets in a response for a password: no nonce, attributes, no HMAC (Part 1 §19.4)."""
_RESULT: Final = Struct(">HIIIH")
"""A response's header, and the sizes of its parameters and of the first of them."""
_DIRECTIONS: Final = (b"\x00", b"\x01")
_MODES: Final = {mode: mode.to_bytes(2, "big") for mode in Alg}


def _two_buffers(parameters: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(parameters[:2], "big")
    return parameters[2:end], only(parameters[end:])


def hash_data(data: bytes, algorithm: Alg, hierarchy: Entity) -> Command[tuple[bytes, bytes]]:
    """TPM2_Hash, §15.4: the digest, and the ticket that lets a restricted key sign it."""
    parameters = sized(data) + algorithm.to_bytes(2, "big") + hierarchy.handle.to_bytes(4, "big")
    return Command(CC.Hash, _NO_HANDLES, parameters, _digest_and_ticket)


def _digest_and_ticket(parameters: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(parameters[:2], "big")
    return parameters[2:end], parameters[end:]


# -- asymmetric ------------------------------------------------------------------------------------


def ecdh_zgen(key: Entity, peer: Point) -> Command[Point]:
    """TPM2_ECDH_ZGen, §14.5: the shared point of our key and the peer's."""
    return Command(CC.ECDH_ZGen, (key,), sized(sized(peer.x) + sized(peer.y)), _point, 1)


def _point(parameters: bytes) -> Point:
    return _points(parameters, 1)[0]


def _points(parameters: bytes, number: int) -> list[Point]:
    reader = Reader(parameters)
    points = []
    for _ in range(number):
        inner = Reader(reader.sized())
        points.append(Point(inner.sized(), inner.sized()))
        inner.end()
    reader.end()
    return points


class KeyAgreement(NamedTuple):
    """Both results of TPM2_ECDH_KeyGen."""

    shared: Point
    public: Point


def ecdh_keygen(peer: Entity) -> Command[KeyAgreement]:
    """TPM2_ECDH_KeyGen, §14.4: a fresh key and its agreement with a loaded peer, in one step."""
    return Command(CC.ECDH_KeyGen, (peer,), b"", _agreement)


def _agreement(parameters: bytes) -> KeyAgreement:
    return KeyAgreement(*_points(parameters, 2))


class TpmSignature(NamedTuple):
    """TPMT_SIGNATURE: `values` is (signature,) for RSA and (r, s) for ECDSA."""

    scheme: int
    hash: int
    values: tuple[bytes, ...]

    def encoded(self) -> bytes:
        """As X.509 and TLS carry it."""
        if self.scheme != Alg.ECDSA:
            return self.values[0]
        r, s = (int.from_bytes(value, "big") for value in self.values)
        return encode_dss_signature(r, s)


def sign(
    key: Entity, digest: bytes, scheme: Alg, algorithm: Alg, ticket: bytes = b""
) -> Command[TpmSignature]:
    """TPM2_Sign, §20.2; a restricted key wants the ticket that `hash_data` gave."""
    chosen = scheme.to_bytes(2, "big") + algorithm.to_bytes(2, "big")
    parameters = sized(digest) + chosen + (ticket or _NULL_TICKET)
    return Command(CC.Sign, (key,), parameters, _signature, 1)


def _signature(parameters: bytes) -> TpmSignature:
    reader = Reader(parameters)
    scheme, algorithm = reader.integer(2), reader.integer(2)
    number = 2 if scheme == Alg.ECDSA else 1
    values = tuple(reader.sized() for _ in range(number))
    reader.end()
    return TpmSignature(scheme, algorithm, values)


def rsa_decrypt(key: Entity, ciphertext: bytes) -> Command[bytes]:
    """TPM2_RSA_Decrypt, §14.3, without a scheme: the private key's operation, and no more."""
    parameters = sized(ciphertext) + Alg.NULL.to_bytes(2, "big") + b"\0\0"
    return Command(CC.RSA_Decrypt, (key,), parameters, only, 1)
