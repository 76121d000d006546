"""Public areas (TPMT_PUBLIC, Part 2 §12.2): templates of the keys we make, and what others' say.

Every template sets noDA: a wrong password for a key of ours must not lock the owner's other keys.
"""

from __future__ import annotations

from struct import Struct
from typing import Final, NamedTuple

from tpmtls.backends.tpm.constants import Alg, Attribute, Curve
from tpmtls.backends.tpm.frames import Reader, sized

_START: Final = Struct(">HHI")
_NULL: Final = Alg.NULL.to_bytes(2, "big")
_EXTERNAL: Final = Attribute.USER_WITH_AUTH | Attribute.NO_DA
_OURS: Final = (
    Attribute.FIXED_TPM
    | Attribute.FIXED_PARENT
    | Attribute.SENSITIVE_DATA_ORIGIN
    | Attribute.USER_WITH_AUTH
    | Attribute.NO_DA
)


class Point(NamedTuple):
    """A point on a curve; a coordinate may lack leading zeros."""

    x: bytes
    y: bytes

    def uncompressed(self, size: int) -> bytes:
        """As SEC 1 and TLS write it, with coordinates of `size` octets."""
        return b"\x04" + self.x.rjust(size, b"\0") + self.y.rjust(size, b"\0")

    @classmethod
    def from_uncompressed(cls, octets: bytes) -> Point:
        """The reverse; the caller has checked the form and the length."""
        middle = 1 + len(octets) // 2
        return cls(octets[1:middle], octets[middle:])


# -- templates -------------------------------------------------------------------------------------


def _area(kind: Alg, attributes: int, body: bytes, name_algorithm: Alg = Alg.SHA256) -> bytes:
    """A public area without a policy."""
    return _START.pack(kind, name_algorithm, attributes) + b"\0\0" + body


def _ids(*numbers: int) -> bytes:
    return b"".join([number.to_bytes(2, "big") for number in numbers])


def hmac_key(algorithm: int, *, name_algorithm: Alg = Alg.NULL, unique: bytes = b"") -> bytes:
    """An HMAC key from octets of ours, for that hash only."""
    attributes = _EXTERNAL | Attribute.SIGN_ENCRYPT
    body = _ids(Alg.HMAC, algorithm) + sized(unique)
    return _area(Alg.KEYEDHASH, attributes, body, name_algorithm)


def aes_key(bits: int, *, name_algorithm: Alg = Alg.NULL, unique: bytes = b"") -> bytes:
    """An AES key from octets of ours, for any mode."""
    attributes = _EXTERNAL | Attribute.SIGN_ENCRYPT | Attribute.DECRYPT
    body = _ids(Alg.AES, bits, Alg.NULL) + sized(unique)
    return _area(Alg.SYMCIPHER, attributes, body, name_algorithm)


def ecdh_peer(curve: int, point: Point) -> bytes:
    """A peer's public key, for key agreement."""
    return _area(Alg.ECC, _EXTERNAL | Attribute.DECRYPT, _ecc(curve, point))


def ecdh_key(curve: int, unique: Point) -> bytes:
    """A key for key agreement that the TPM makes.

    `unique` is random: a primary key is derived from its template, so that the same one twice is
    the same key twice (Part 1 §14).
    """
    return _area(Alg.ECC, _OURS | Attribute.DECRYPT, _ecc(curve, unique))


def ecdsa_key(curve: int) -> bytes:
    """A signing key that the TPM makes, for ECDSA with any hash."""
    return _area(Alg.ECC, _OURS | Attribute.SIGN_ENCRYPT, _ecc(curve, Point(b"", b"")))


def _ecc(curve: int, point: Point) -> bytes:
    """TPMS_ECC_PARMS without symmetric, scheme and KDF, and TPMS_ECC_POINT."""
    return _ids(Alg.NULL, Alg.NULL, curve, Alg.NULL) + sized(point.x) + sized(point.y)


def rsa_key(bits: int = 2048, *, decrypt: bool = False) -> bytes:
    """An RSA key that the TPM makes, for any signature scheme and, if so asked, raw decryption."""
    attributes = _OURS | Attribute.SIGN_ENCRYPT | (Attribute.DECRYPT if decrypt else 0)
    return _area(Alg.RSA, attributes, _rsa(bits, b""))


def rsa_external(modulus: bytes) -> bytes:
    """An RSA signing key from a prime of ours, with the exponent 65537."""
    return _area(Alg.RSA, _EXTERNAL | Attribute.SIGN_ENCRYPT, _rsa(8 * len(modulus), modulus))


def _rsa(bits: int, modulus: bytes) -> bytes:
    """TPMS_RSA_PARMS without symmetric and scheme, the default exponent, and the modulus."""
    return _NULL + _NULL + bits.to_bytes(2, "big") + bytes(4) + sized(modulus)


def storage_key() -> bytes:
    """A primary key that wraps others: ECC P-256, AES-128-CFB."""
    attributes = _OURS | Attribute.RESTRICTED | Attribute.DECRYPT
    parameters = _ids(Alg.AES, 128, Alg.CFB, Alg.NULL, Curve.NIST_P256, Alg.NULL)
    return _area(Alg.ECC, attributes, parameters + sized(b"") + sized(b""))


def keyed_hash(attributes: int, *scheme: int) -> bytes:
    """A child from octets of ours that never leaves its TPM: an HMAC key, or sealed data."""
    ours = _EXTERNAL | Attribute.FIXED_TPM | Attribute.FIXED_PARENT
    return _area(Alg.KEYEDHASH, ours | attributes, _ids(*scheme) + sized(b""))


# -- what a public area says -----------------------------------------------------------------------


class Public(NamedTuple):
    """The public area of an ECC or RSA key, taken apart.

    `scheme` and `scheme_hash` are None where the key leaves the choice to each use of it, `curve`
    is None for RSA, `modulus` empty and `exponent` 0 for ECC.
    """

    kind: int
    name_algorithm: int
    attributes: int
    policy: bytes
    scheme: int | None
    scheme_hash: int | None
    curve: int | None
    point: Point
    exponent: int
    modulus: bytes

    def has(self, attribute: Attribute) -> bool:
        """Whether the key has an attribute."""
        return bool(self.attributes & attribute)


def parse_public(octets: bytes) -> Public:
    """Read a TPMT_PUBLIC of an ECC or RSA key; raises ValueError for another kind."""
    reader = Reader(octets)
    kind, name_algorithm = reader.integer(2), reader.integer(2)
    attributes, policy = reader.integer(4), reader.sized()
    if kind not in (Alg.ECC, Alg.RSA):
        raise ValueError(f"neither an ECC nor an RSA key: TPM_ALG 0x{kind:02x}")
    _optional_symmetric(reader)
    scheme, scheme_hash = _optional_scheme(reader)
    curve, point, exponent, modulus = None, Point(b"", b""), 0, b""
    if kind == Alg.ECC:
        curve = reader.integer(2)
        _optional_scheme(reader)  # the KDF
        point = Point(reader.sized(), reader.sized())
    else:
        reader.integer(2)  # the modulus says how many bits it has
        exponent = reader.integer(4) or 65537
        modulus = reader.sized()
    reader.end()
    return Public(
        kind,
        name_algorithm,
        attributes,
        policy,
        scheme,
        scheme_hash,
        curve,
        point,
        exponent,
        modulus,
    )


def _optional_symmetric(reader: Reader) -> None:
    """TPMT_SYM_DEF_OBJECT: of a key that protects others."""
    if reader.integer(2) != Alg.NULL:
        reader.integer(4)  # key bits and mode


def _optional_scheme(reader: Reader) -> tuple[int | None, int | None]:
    """TPMT_ASYM_SCHEME, TPMT_KDF_SCHEME: an algorithm, and the hash that most of them carry."""
    algorithm = reader.integer(2)
    if algorithm == Alg.NULL:
        return None, None
    if algorithm == Alg.RSAES:
        return algorithm, None
    if algorithm == _ECDAA:
        raise ValueError("an ECDAA key signs nothing that TLS knows")
    return algorithm, reader.integer(2)


_ECDAA: Final = 0x1A
