"""What `--protect chained` keeps in a TPM, and what it makes there: places, sizes, templates.

Everything is authorized by one authValue A, 32 octets that nobody knows once they are provisioned,
or by a policy that a fresh policy session fulfils: 32 zero octets, the digest that such a session
starts with. So the host can use all of it without knowing A, and the TPM mixes A into the
encryption of parameters (Part 1 §21).

    store    NV index, kept through resets   marker ‖ generation ‖ Name of the parent ‖ 0020 A 0000
    slots    NV index, orderly: in memory    0020 A 0010 X   0020 A 0020 X   0020 A 0030 X   size X
    parent   persistent storage key          wraps what CreateLoaded makes of the slots

`0020 A 0000` and the slots are each a TPMS_SENSITIVE_CREATE (Part 2 §11.1.15) without its size: the
authValue of what is to be made, and its key X. The last place has the x-coordinate of a point
after its size, as in TPMS_ECC_POINT.
"""

from __future__ import annotations

import hashlib
from typing import Final, NamedTuple

from tpmtls.backends.tpm.constants import Alg, Attribute, Curve
from tpmtls.backends.tpm.frames import sized

AUTH: Final = 32
"""Octets of A."""
FRESH_POLICY: Final = bytes(32)
MARKER: Final = b"tpmtls chained 1"
GENERATION: Final = 8
"""Octets that tell one provisioning from the next: what one wrapped is of no use to the other."""
NAME: Final = 34

# -- places ----------------------------------------------------------------------------------------


class Place(NamedTuple):
    """Where one provisioning is: a persistent handle and two NV indices."""

    parent: int
    store: int
    slots: int


PLACES: Final = tuple(
    Place(0x81007A00 + number, 0x01507A00 + 2 * number, 0x01507A01 + 2 * number)
    for number in range(8)
)
"""In order of preference: one that somebody else has anything in is passed over."""

STORE_A: Final = len(MARKER) + GENERATION + NAME
"""Where `0020 A 0000` is in the store."""
STORE_SIZE: Final = STORE_A + 2 + AUTH + 2
_HEADER: Final = 2 + AUTH + 2

SLOT: Final[dict[int, int]] = {16: 0, 32: _HEADER + 16, 48: 2 * _HEADER + 16 + 32}
"""For keys of how many octets there is a slot, and where it begins in the slots."""
COORDINATE: Final = 3 * _HEADER + 16 + 32 + 48
"""Where the x-coordinate's place begins."""
MAX_COORDINATE: Final = 66
SLOTS_SIZE: Final = COORDINATE + 2 + MAX_COORDINATE


def header(size: int) -> tuple[int, int]:
    """Where a slot begins, and how much of it stands before the key."""
    return SLOT[size], _HEADER


# -- NV indices (TPMS_NV_PUBLIC, Part 2 §13.5) -----------------------------------------------------

_AUTHWRITE, _POLICYWRITE, _POLICYREAD = 1 << 2, 1 << 3, 1 << 19
_NO_DA, _ORDERLY, _WRITTEN = 1 << 25, 1 << 26, 1 << 29


def store_area(index: int) -> bytes:
    """The store: written once, by the one who knows A."""
    return _nv_area(index, _AUTHWRITE | _POLICYREAD | _NO_DA, STORE_SIZE)


def slots_area(index: int) -> bytes:
    """The slots: orderly, since a chip's other memory wears out."""
    return _nv_area(index, _POLICYWRITE | _POLICYREAD | _NO_DA | _ORDERLY, SLOTS_SIZE)


def _nv_area(index: int, attributes: int, size: int) -> bytes:
    return b"".join(
        (
            index.to_bytes(4, "big"),
            Alg.SHA256.to_bytes(2, "big"),
            attributes.to_bytes(4, "big"),
            sized(FRESH_POLICY),
            size.to_bytes(2, "big"),
        )
    )


def unwritten(area: bytes) -> bytes:
    """The area without what writing changes in it, TPMA_NV_WRITTEN."""
    attributes = int.from_bytes(area[6:10], "big") & ~_WRITTEN
    return area[:6] + attributes.to_bytes(4, "big") + area[10:]


def is_written(area: bytes) -> bool:
    """Whether there is anything in the index."""
    return bool(int.from_bytes(area[6:10], "big") & _WRITTEN)


def nv_name(area: bytes) -> bytes:
    """The Name of an index (Part 1 §16)."""
    return Alg.SHA256.to_bytes(2, "big") + hashlib.sha256(area).digest()


# -- templates (TPMT_PUBLIC, Part 2 §12.2) ---------------------------------------------------------

_CHILD: Final = Attribute.FIXED_TPM | Attribute.FIXED_PARENT | Attribute.NO_DA
"""Used by policy alone, and never taken to another TPM or parent."""


def _area(kind: Alg, attributes: int, *body: bytes) -> bytes:
    head = kind.to_bytes(2, "big") + Alg.SHA256.to_bytes(2, "big") + attributes.to_bytes(4, "big")
    return b"".join((head, sized(FRESH_POLICY), *body))


def _ids(*numbers: int) -> bytes:
    return b"".join([number.to_bytes(2, "big") for number in numbers])


def parent_area() -> bytes:
    """The storage key. Its `unique` is ours, so that no other program makes the same key."""
    attributes = _CHILD | Attribute.SENSITIVE_DATA_ORIGIN | Attribute.RESTRICTED | Attribute.DECRYPT
    parameters = _ids(Alg.AES, 128, Alg.CFB, Alg.NULL, Curve.NIST_P256, Alg.NULL)
    unique = hashlib.sha256(MARKER).digest()
    return _area(Alg.ECC, attributes, parameters, sized(unique), sized(b""))


def hmac_area(algorithm: Alg) -> bytes:
    """An HMAC key from a slot."""
    scheme = _ids(Alg.HMAC, algorithm)
    return _area(Alg.KEYEDHASH, _CHILD | Attribute.SIGN_ENCRYPT, scheme, sized(b""))


def aes_area(bits: int) -> bytes:
    """An AES key from a slot, for any mode."""
    attributes = _CHILD | Attribute.SIGN_ENCRYPT | Attribute.DECRYPT
    return _area(Alg.SYMCIPHER, attributes, _ids(Alg.AES, bits, Alg.NULL), sized(b""))


def ecdh_area(curve: Curve) -> bytes:
    """A key for key agreement, which the TPM draws."""
    attributes = _CHILD | Attribute.SENSITIVE_DATA_ORIGIN | Attribute.DECRYPT
    scheme = _ids(Alg.NULL, Alg.ECDH, Alg.SHA256, curve, Alg.NULL)
    return _area(Alg.ECC, attributes, scheme, sized(b""), sized(b""))
