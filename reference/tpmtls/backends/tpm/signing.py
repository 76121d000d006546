"""Signing with a key in a TPM (RFC 9846 §4.3.3, §4.5.2)."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import Any, Final, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric import ec

from tpmtls.algorithms import SCHEMES, HashAlgorithm, KeyType, SchemeParameters
from tpmtls.backends.base import Kept, Signer
from tpmtls.backends.software_signer import HASHES as HOST_HASHES
from tpmtls.backends.software_signer import pss_padding
from tpmtls.backends.tpm import commands, keys
from tpmtls.backends.tpm.capabilities import Capabilities, PssSalt
from tpmtls.backends.tpm.constants import HASHES, Alg, Attribute, CommandCode, Curve
from tpmtls.backends.tpm.frames import OWNER, Command, Created, Creation, only, sized
from tpmtls.backends.tpm.keys import TpmKey
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.public import Public
from tpmtls.codepoints import SignatureScheme
from tpmtls.violations import ConfigurationError, TpmError

T = TypeVar("T")
_KEY_TYPES: Final[dict[int, KeyType]] = {
    Curve.NIST_P256: "secp256r1",
    Curve.NIST_P384: "secp384r1",
    Curve.NIST_P521: "secp521r1",
}


class TpmSigner(Signer):
    """Signs with a key in a TPM; what is signed and how is no secret.

    It takes the key over, and unless `closes_tpm` is false the opening of the TPM too.

    `schemes` is what this key and this TPM can do for CertificateVerify. `certificate_schemes` has
    RSASSA-PKCS1-v1_5 too, which only certificates and requests may be signed with.
    """

    def __init__(self, tpm: Tpm, key: TpmKey, *, closes_tpm: bool = True) -> None:
        self._tpm = tpm
        self._closes_tpm = closes_tpm
        self._key = key
        self.public_key = keys.public_key(key.public)
        self._pads = _pads_on_host(tpm, key.public)
        fitting = tuple(_fitting(key.public, tpm.capabilities, self._can_pss()))
        self.certificate_schemes = fitting
        self.schemes = tuple(s for s in fitting if SCHEMES[s].signs_handshakes)
        if not self.schemes:
            raise ConfigurationError(f"no TLS 1.3 signature scheme fits: {_why(key.public)}")

    @property
    def kept(self) -> tuple[Kept, ...]:
        return (Kept("signing_key", "tpm"),)

    def _can_pss(self) -> bool:
        return self._pads or self._tpm.pss_salt() is PssSalt.DIGEST

    def sign(self, scheme: SignatureScheme, data: bytes) -> bytes:
        # req: 4.5.2-6
        if scheme not in self.certificate_schemes:
            raise ConfigurationError(f"{scheme} is not for this key")
        parameters, algorithm = SCHEMES[scheme], _hash(scheme)
        if self._pads and parameters.padding == "pss":
            return self._sign_padded(algorithm, data)
        with self._tpm.device.lock:
            digest, ticket = self._digest(algorithm, data)
            command = commands.sign(
                self._key.entity,
                digest,
                _algorithm(parameters),
                HASHES[algorithm.name],
                ticket,
            )
            return self._run(command).encoded()

    def check(self) -> None:
        """Sign once, so that a wrong password is found now, and not by the first peer."""
        scheme, data = self.schemes[0], os.urandom(32)
        try:
            _verify(self.public_key, scheme, self.sign(scheme, data), data)
        except InvalidSignature:
            raise TpmError(f"what this TPM signs with {scheme} does not verify") from None

    def close(self) -> None:
        """Flush the key, and close the TPM if it is ours."""
        self._key.flush()
        if self._closes_tpm:
            self._tpm.close()

    def __repr__(self) -> str:
        return f"<TpmSigner {self._key.entity!r} {', '.join(map(str, self.schemes))}>"

    def _run(self, command: Command[T]) -> T:
        with self._key.access.session(self._tpm) as authorization:
            return self._tpm.run(command, authorization)

    def _digest(self, algorithm: HashAlgorithm, data: bytes) -> tuple[bytes, bytes]:
        """The digest, and the ticket that a restricted key needs to sign it.

        The ticket says that the TPM hashed the data, and that the data is not what the TPM itself
        would attest to.
        """
        if not self._key.public.has(Attribute.RESTRICTED):
            return algorithm.digest(data), b""
        number = HASHES[algorithm.name]
        size = self._tpm.capabilities.input_buffer
        if len(data) <= size:
            return self._tpm.run(commands.hash_data(data, number, OWNER))
        with self._tpm.load(_start_hash(number)) as sequence:
            *chunks, last = (data[at : at + size] for at in range(0, len(data), size))
            for chunk in chunks:
                update = Command(CommandCode.SequenceUpdate, (sequence,), sized(chunk), bytes, 1)
                self._tpm.run(update)
            end = sized(last) + OWNER.handle.to_bytes(4, "big")
            return self._tpm.run(
                Command(CommandCode.SequenceComplete, (sequence,), end, _completed, 1)
            )

    def _sign_padded(self, algorithm: HashAlgorithm, data: bytes) -> bytes:
        """RSASSA-PSS where the TPM's own has another salt: we pad, it uses the private key."""
        modulus = self._key.public.modulus
        bits = int.from_bytes(modulus, "big").bit_length()
        encoded = emsa_pss(algorithm, data, bits - 1, os.urandom(algorithm.digest_size))
        command = commands.rsa_decrypt(self._key.entity, encoded.rjust(len(modulus), b"\0"))
        return self._run(command).rjust(len(modulus), b"\0")


# -- what key and TPM can do together --------------------------------------------------------------


def _fitting(area: Public, capabilities: Capabilities, pss: bool) -> Iterator[SignatureScheme]:
    """The schemes, best first. A key that names a scheme or hash does no other (0x2d2)."""
    types: tuple[KeyType, ...] = ("rsa", "rsa-pss")
    if area.kind == Alg.ECC:
        types = (_KEY_TYPES[area.curve],) if area.curve in _KEY_TYPES else ()
    size = len(area.modulus)
    for scheme, row in SCHEMES.items():
        if row.key_type not in types or row.hash is None:
            continue
        number = HASHES[row.hash.name]
        room = row.padding != "pss" or (pss and size >= 2 * row.hash.digest_size + 2)
        if (
            room
            and area.scheme in (None, _algorithm(row))
            and area.scheme_hash in (None, number)
            and number in capabilities.algorithms
            and area.has(Attribute.SIGN_ENCRYPT)
        ):
            yield scheme


def _algorithm(parameters: SchemeParameters) -> Alg:
    """The TPM's name of a signature scheme."""
    if parameters.padding is None:
        return Alg.ECDSA
    return Alg.RSAPSS if parameters.padding == "pss" else Alg.RSASSA


def _pads_on_host(tpm: Tpm, area: Public) -> bool:
    """Whether PSS needs our padding, and this key permits it."""
    return (
        area.kind == Alg.RSA
        and area.scheme is None
        and area.has(Attribute.DECRYPT)
        and not area.has(Attribute.RESTRICTED)
        and tpm.pss_salt() is not PssSalt.DIGEST
        and tpm.capabilities.can(CommandCode.RSA_Decrypt)
    )


def _why(area: Public) -> str:
    """Why no scheme is left, in a few words."""
    if not area.has(Attribute.SIGN_ENCRYPT):
        return "the key may not sign"
    if area.scheme is not None:
        return "the key is bound to another scheme or hash"
    if area.kind == Alg.RSA:
        return "the TPM's RSA-PSS has another salt, or the key is too short"
    return "the TPM lacks the hash"


def _hash(scheme: SignatureScheme) -> HashAlgorithm:
    algorithm = SCHEMES[scheme].hash
    if algorithm is None:
        raise ConfigurationError(f"no TPM signs with {scheme}")
    return algorithm


def _verify(key: Any, scheme: SignatureScheme, signature: bytes, data: bytes) -> None:
    """Verify a handshake's signature; raises InvalidSignature."""
    algorithm = HOST_HASHES[_hash(scheme).name]
    if isinstance(key, ec.EllipticCurvePublicKey):
        key.verify(signature, data, ec.ECDSA(algorithm))
    else:
        key.verify(signature, data, pss_padding(algorithm), algorithm)


def _start_hash(algorithm: Alg) -> Creation:
    """TPM2_HashSequenceStart (Part 3 §17.3), without a password."""
    parameters = sized(b"") + algorithm.to_bytes(2, "big")
    return Creation(CommandCode.HashSequenceStart, (), parameters, _started)


def _started(parameters: bytes) -> Created:
    if parameters:
        only(parameters)
    return Created()


def _completed(parameters: bytes) -> tuple[bytes, bytes]:
    end = 2 + int.from_bytes(parameters[:2], "big")
    return parameters[2:end], parameters[end:]


# -- EMSA-PSS (RFC 8017 §9.1.1) --------------------------------------------------------------------


def emsa_pss(algorithm: HashAlgorithm, data: bytes, bits: int, salt: bytes) -> bytes:
    """The encoded message of so many bits, with MGF1 and the same hash."""
    size = (bits + 7) // 8
    digest = algorithm.digest(bytes(8) + algorithm.digest(data) + salt)
    block = b"\x01".rjust(size - len(salt) - len(digest) - 1, b"\0") + salt
    mask = _mgf1(algorithm, digest, len(block))
    masked = int.from_bytes(block, "big") ^ int.from_bytes(mask, "big")
    masked &= (1 << (8 * len(block) - (8 * size - bits))) - 1
    return masked.to_bytes(len(block), "big") + digest + b"\xbc"


def _mgf1(algorithm: HashAlgorithm, seed: bytes, size: int) -> bytes:
    blocks = range(-(-size // algorithm.digest_size))
    octets = b"".join(algorithm.digest(seed + n.to_bytes(4, "big")) for n in blocks)
    return octets[:size]
