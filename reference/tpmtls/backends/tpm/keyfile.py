"""Key files: "TSS2 PRIVATE KEY" in PEM, as tpm2-openssl, tpm2-tss-engine and tpm2-tools have them.

The structure is TPMKey of draft-bottomley-tpm2-keys. The private part is encrypted by the TPM for
its parent, a key in the same TPM: the file is of no use with another.
"""

from __future__ import annotations

import base64
import binascii
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from tpmtls.backends.tpm.constants import CommandCode
from tpmtls.backends.tpm.frames import only, sized
from tpmtls.backends.tpm.public import parse_public
from tpmtls.violations import ConfigurationError, TpmError

BEGIN: Final = b"-----BEGIN TSS2 PRIVATE KEY-----"
END: Final = b"-----END TSS2 PRIVATE KEY-----"
OWNER: Final = 0x40000001

_OIDS: Final = bytes.fromhex("6781050a01")  # 2.23.133.10.1
_LOADABLE: Final = _OIDS + b"\x03"
_OTHER_TYPES: Final = {_OIDS + b"\x04": "an importable key", _OIDS + b"\x05": "sealed data"}
_BOOLEAN: Final = 0x01
_INTEGER: Final = 0x02
_OCTET_STRING: Final = 0x04
_OID: Final = 0x06
_SEQUENCE: Final = 0x30
_EMPTY_AUTH: Final = 0xA0
_POLICY: Final = 0xA1
_DESCRIPTION: Final = 0xA4
_RSA_PARENT: Final = 0xA5
_NOT_DONE: Final = {0xA2: "secret", 0xA3: "authPolicy"}
_STEPS: Final = frozenset(
    (
        CommandCode.PolicyPCR,
        CommandCode.PolicyAuthValue,
        CommandCode.PolicyPassword,
        CommandCode.PolicyCommandCode,
    )
)


class PolicyStep(NamedTuple):
    """A policy command: its code, and its parameters as the TPM takes them (TPMPolicy)."""

    command: int
    parameters: bytes = b""


@dataclass(frozen=True)
class KeyFile:
    """What a key file says.

    `area` is a TPMT_PUBLIC; `private` (TPM2B_PRIVATE's buffer) is encrypted. `parent` is a
    persistent handle, or a hierarchy whose standard storage key it is. `empty_auth` is None where
    the file does not say whether the key has a password.
    """

    area: bytes
    private: bytes = field(repr=False)
    parent: int = OWNER
    empty_auth: bool | None = None
    policy: tuple[PolicyStep, ...] = ()

    # -- writing -----------------------------------------------------------------------------------

    def der(self) -> bytes:
        """TPMKey in DER."""
        parts = [_element(_OID, _LOADABLE)]
        if self.empty_auth is not None:
            boolean = _element(_BOOLEAN, b"\xff" if self.empty_auth else b"\0")
            parts.append(_element(_EMPTY_AUTH, boolean))
        if self.policy:
            steps = b"".join(_step(step) for step in self.policy)
            parts.append(_element(_POLICY, _element(_SEQUENCE, steps)))
        parts.append(_integer(self.parent))
        parts.append(_element(_OCTET_STRING, sized(self.area)))
        parts.append(_element(_OCTET_STRING, sized(self.private)))
        return _element(_SEQUENCE, b"".join(parts))

    def pem(self) -> bytes:
        """The file."""
        lines = base64.b64encode(self.der())
        body = [lines[at : at + 64] for at in range(0, len(lines), 64)]
        return b"\n".join([BEGIN, *body, END, b""])

    # -- reading -----------------------------------------------------------------------------------

    @classmethod
    def parse(cls, pem: bytes) -> KeyFile:
        """From PEM; raises ConfigurationError for what is no such file, or not of use here."""
        try:
            return _read(_unarmour(pem))
        except ConfigurationError:
            raise
        except (ValueError, TpmError) as error:
            raise ConfigurationError(f"the TSS2 key file is damaged: {error}") from None


def is_key_file(octets: bytes) -> bool:
    """Whether this looks like a TSS2 key file."""
    return BEGIN in octets


def _unarmour(pem: bytes) -> bytes:
    _, begin, rest = pem.partition(BEGIN)
    body, end, _ = rest.partition(END)
    if not begin or not end:
        raise ValueError("its END line is missing" if begin else "its BEGIN line is missing")
    try:
        return base64.b64decode(b"".join(body.split()), validate=True)
    except binascii.Error:
        raise ValueError("it is not Base64") from None


def _read(der: bytes) -> KeyFile:
    fields = list(_elements(_content(der, _SEQUENCE)))
    if not fields or fields[0][0] != _OID:
        raise ValueError("it has no type")
    if (kind := fields[0][1]) != _LOADABLE:
        what = _OTHER_TYPES.get(kind, "of a type that this version does not know")
        raise ConfigurationError(f"the TSS2 key file is {what}: only loadable keys can be used")
    tags = [tag for tag, _ in fields]
    optional = dict(fields[1:-3])
    if tags[-3:] != [_INTEGER, _OCTET_STRING, _OCTET_STRING] or tags[1:-3] != sorted(optional):
        raise ValueError("its fields are not those of a TPMKey")
    parent, area, private = (content for _, content in fields[-3:])
    for tag in optional.keys() - {_EMPTY_AUTH, _POLICY, _DESCRIPTION, _RSA_PARENT}:
        name = _NOT_DONE.get(tag, f"field 0x{tag:02x}")
        raise ConfigurationError(f"the TSS2 key file has {name}, which is not supported")
    if _RSA_PARENT in optional and _flag(optional[_RSA_PARENT]):
        raise ConfigurationError("the TSS2 key file has an RSA parent, which is not supported")
    parse_public(only(area))
    return KeyFile(
        only(area),
        only(private),
        _parent(parent),
        _flag(optional[_EMPTY_AUTH]) if _EMPTY_AUTH in optional else None,
        tuple(_steps(optional[_POLICY])) if _POLICY in optional else (),
    )


def _parent(octets: bytes) -> int:
    value = int.from_bytes(octets, "big", signed=True)
    if not value:
        return OWNER  # as the first writers of such files had it
    if value >> 24 not in (0x40, 0x81):
        raise ValueError(f"its parent 0x{value:x} is neither a hierarchy nor a persistent key")
    return value


def _flag(octets: bytes) -> bool:
    """A BOOLEAN; tpm2-tss-engine and tpm2-openssl write TRUE as 1, which is not DER."""
    content = _content(octets, _BOOLEAN)
    if len(content) != 1:
        raise ValueError("a BOOLEAN is not one octet")
    return content != b"\0"


def _steps(octets: bytes) -> Iterator[PolicyStep]:
    for tag, content in _elements(_content(octets, _SEQUENCE)):
        fields = list(_elements(content))
        if tag != _SEQUENCE or [field_tag for field_tag, _ in fields] != [0xA0, 0xA1]:
            raise ValueError("its policy is not a list of TPMPolicy")
        code = int.from_bytes(_content(fields[0][1], _INTEGER), "big", signed=True)
        if code not in _STEPS:
            raise ConfigurationError(
                f"the key's policy has the command 0x{code:x}, which is not supported; these are:"
                f" {', '.join(sorted(CommandCode(step).name for step in _STEPS))}"
            )
        yield PolicyStep(code, _content(fields[1][1], _OCTET_STRING))


# -- DER (X.690 §8, §10): little, and strict but for BOOLEAN ---------------------------------------


def _elements(octets: bytes) -> Iterator[tuple[int, bytes]]:
    """Tag and content of each element."""
    at = 0
    while at < len(octets):
        tag, length, at = octets[at], octets[at + 1 : at + 2], at + 2
        if not length:
            raise ValueError("it is cut off")
        size = length[0]
        if size >= 0x80:
            number = size & 0x7F
            size = int.from_bytes(octets[at : at + number], "big")
            at += number
            if not 1 <= number <= 4 or size < 0x80 or size >> 8 * (number - 1) == 0:
                raise ValueError("a length is not in its shortest form")
        if at + size > len(octets):
            raise ValueError("it is cut off")
        yield tag, octets[at : at + size]
        at += size


def _content(octets: bytes, tag: int) -> bytes:
    """The content of the one element of that type."""
    found = list(_elements(octets))
    if len(found) != 1 or found[0][0] != tag:
        raise ValueError(f"an element of type 0x{tag:02x} is missing")
    return found[0][1]


def _element(tag: int, content: bytes) -> bytes:
    size = len(content)
    if size < 0x80:
        return bytes((tag, size)) + content
    length = size.to_bytes((size.bit_length() + 7) // 8, "big")
    return bytes((tag, 0x80 | len(length))) + length + content


def _integer(value: int) -> bytes:
    return _element(_INTEGER, value.to_bytes(value.bit_length() // 8 + 1, "big"))


def _step(step: PolicyStep) -> bytes:
    command = _element(0xA0, _integer(step.command))
    parameters = _element(0xA1, _element(_OCTET_STRING, step.parameters))
    return _element(_SEQUENCE, command + parameters)
