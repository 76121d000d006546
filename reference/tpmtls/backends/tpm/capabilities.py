"""What this TPM can do, found out once. Lists are asked for; what matters to a handshake is tried.

A chip that lists EncryptDecrypt2 may still refuse a mode, a key size or a hash, so each is used on
a known input, and the answer compared with the host's.
"""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from enum import Enum
from functools import partial
from typing import Final, TypeVar

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import padding, rsa
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms, modes

from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.constants import HASHES, MODES, Alg, Capability, CommandCode, Curve
from tpmtls.backends.tpm.constants import Property as PT
from tpmtls.backends.tpm.device import Device
from tpmtls.backends.tpm.frames import Command, Creation, Entity
from tpmtls.backends.tpm.objects import ObjectTable, Owner, TpmObject
from tpmtls.backends.tpm.public import parse_public
from tpmtls.violations import TpmBusy, TpmError, TpmUnavailable

T = TypeVar("T")

_DEFAULT_SLOTS: Final = 3  # what PC Client TPMs have at least
_DEFAULT_BUFFER: Final = 1024
_PAGE: Final = 254
_COMMAND_MASK: Final = 1 << 29 | 0xFFFF  # vendor's or not, and index
_KEY: Final = bytes(range(32))
_ZEROS: Final = bytes(16)
AES_KEY_BITS: Final = (128, 256)


class PssSalt(Enum):
    """How long a salt TPM2_Sign gives RSA-PSS; TLS 1.3 wants the digest's length."""

    DIGEST = "the digest's length, as TLS 1.3 wants it"
    MAXIMUM = "the longest possible: not for TLS 1.3"
    OTHER = "of another length: not for TLS 1.3"
    NONE = "it does not sign with RSA-PSS"


@dataclass(frozen=True)
class Capabilities:
    """What a TPM can do. `hmac_hashes`, `aes_modes` and no more were tried; the rest it says.

    `aes_modes` has (key bits, mode) for each that EncryptDecrypt2 does right.
    """

    manufacturer: str
    model: str
    firmware: str
    revision: str
    commands: frozenset[int]
    algorithms: frozenset[int]
    curves: frozenset[int]
    hmac_hashes: frozenset[str]
    aes_modes: frozenset[tuple[int, Alg]]
    slots: int
    loaded_sessions: int
    active_sessions: int
    input_buffer: int

    def can(self, *needed: CommandCode) -> bool:
        """Whether the TPM lists all of these commands."""
        return self.commands.issuperset(needed)

    def modes(self, bits: int) -> list[Alg]:
        """The modes of AES with a key of that many bits, as EncryptDecrypt2 does them."""
        return [mode for mode in MODES if (bits, mode) in self.aes_modes]

    def describe(self) -> str:
        """A table for people."""
        lacking = [code.name for code in CommandCode if code not in self.commands]
        rows = [
            ("TPM", f"{self.manufacturer} {self.model}".strip()),
            ("firmware", f"{self.firmware}, TPM 2.0 revision {self.revision}"),
            ("commands", f"{len(self.commands)}, lacking {_list(lacking)}"),
            ("curves", _list(f"P-{curve.name[6:]}" for curve in Curve if curve in self.curves)),
            ("HMAC keys", _list(f"SHA-{name[3:]}" for name in sorted(self.hmac_hashes))),
            *(
                (f"AES-{bits}", _list(mode.name for mode in self.modes(bits)))
                for bits in AES_KEY_BITS
            ),
            ("objects", f"{self.slots} at a time"),
            ("sessions", f"{self.loaded_sessions} at a time, {self.active_sessions} with saved"),
            ("input", f"{self.input_buffer} octets a command"),
        ]
        return "\n".join(f"{title:<10} {text}" for title, text in rows)


def _list(items: Iterable[str]) -> str:
    return " ".join(items) or "none"


# -- what it says ----------------------------------------------------------------------------------


def _ask(device: Device, capability: Capability, start: int = 0) -> list[tuple[int, ...]]:
    """All items of a capability; none where the TPM does not know it."""
    found: list[tuple[int, ...]] = []
    more = True
    while more:
        answer = _attempt(lambda: device.execute(_request(capability, start)))  # noqa: B023
        if answer is None or not answer[1]:
            break
        more, items = answer
        found += items
        start = _identifier(items[-1][0], capability) + 1
    return found


def _request(capability: Capability, start: int) -> Command[tuple[bool, list[tuple[int, ...]]]]:
    return commands.get_capability(capability, start, _PAGE)


def _identifier(value: int, capability: Capability) -> int:
    """The number of an item, without what else TPMA_CC (Part 2 §8.9) says of a command."""
    return value & _COMMAND_MASK if capability is Capability.COMMANDS else value


def _attempt(action: Callable[[], T]) -> T | None:
    """The result, or None where the TPM refuses; a TPM that is gone or busy is no answer."""
    try:
        return action()
    except (TpmUnavailable, TpmBusy):
        raise
    except TpmError:
        return None


def slots(device: Device) -> int:
    """How many transient objects fit into the TPM at a time."""
    return _properties(device).get(PT.HR_TRANSIENT_MIN) or _DEFAULT_SLOTS


def _properties(device: Device) -> dict[int, int]:
    return {item[0]: item[1] for item in _ask(device, Capability.TPM_PROPERTIES, PT.FIXED)}


def probe(device: Device, table: ObjectTable) -> Capabilities:
    """Ask, and try; takes a few milliseconds on libtpms, and about a second on a chip."""
    properties = _properties(device)
    strings = range(PT.VENDOR_STRING_1, PT.VENDOR_STRING_4 + 1)
    firmware = properties.get(PT.FIRMWARE_VERSION_1, 0), properties.get(PT.FIRMWARE_VERSION_2, 0)
    revision = properties.get(PT.REVISION, 0)
    return Capabilities(
        manufacturer=_text([properties.get(PT.MANUFACTURER, 0)]),
        model=_text([properties.get(string, 0) for string in strings]),
        firmware=".".join(str(half) for word in firmware for half in divmod(word, 1 << 16)),
        revision=f"{revision // 100}.{revision % 100:02}",
        commands=_numbers(device, Capability.COMMANDS),
        algorithms=_numbers(device, Capability.ALGS),
        curves=_numbers(device, Capability.ECC_CURVES),
        hmac_hashes=frozenset(name for name in HASHES if _does_hmac(table, name)),
        aes_modes=frozenset(
            (bits, mode) for bits in AES_KEY_BITS for mode in _aes_modes(table, bits)
        ),
        slots=table.slots,
        loaded_sessions=properties.get(PT.HR_LOADED_MIN, 0),
        active_sessions=properties.get(PT.ACTIVE_SESSIONS_MAX, 0),
        input_buffer=properties.get(PT.INPUT_BUFFER, _DEFAULT_BUFFER),
    )


def _numbers(device: Device, capability: Capability) -> frozenset[int]:
    return frozenset(_identifier(item[0], capability) for item in _ask(device, capability))


def _text(words: list[int]) -> str:
    """Characters packed into integers, four each."""
    octets = b"".join(word.to_bytes(4, "big") for word in words)
    return " ".join(octets.replace(b"\0", b"").decode("ascii", "replace").split())


# -- what it does ----------------------------------------------------------------------------------


def _does_hmac(table: ObjectTable, name: str) -> bool:
    """Whether HMAC with this hash comes out right."""
    algorithm = HASHES[name]
    with _loaded(table, commands.load_hmac_key(_KEY, algorithm)) as key:
        if key is None:
            return False
        result = _attempt(lambda: table.run(commands.hmac(key, _KEY, algorithm)))
    return result == hmac.digest(_KEY, _KEY, name)


def _aes_modes(table: ObjectTable, bits: int) -> Iterator[Alg]:
    """The modes in which AES comes out right.

    One known answer serves for all: with an IV of zeros, each makes AES(0) of a block of zeros.
    """
    octets = _KEY[: bits // 8]
    encryptor = Cipher(algorithms.AES(octets), modes.ECB()).encryptor()  # noqa: S305
    expected = encryptor.update(_ZEROS)
    with _loaded(table, commands.load_aes_key(octets)) as key:
        if key is None:
            return
        for mode in MODES:
            iv = b"" if mode is Alg.ECB else _ZEROS
            command = commands.encrypt_decrypt2(key, _ZEROS, mode, iv)
            result = _attempt(partial(table.run, command))
            if result is not None and result[0] == expected:
                yield mode


@contextmanager
def _loaded(table: ObjectTable, command: Creation) -> Iterator[TpmObject | None]:
    """The object, or None where the TPM does not take it."""
    key = _attempt(lambda: table.load(command, Owner()))
    try:
        yield key
    finally:
        if key is not None:
            key.flush()


def probe_pss_salt(table: ObjectTable, key: Entity | None) -> PssSalt:
    """Sign once with RSA-PSS, and see which salt lengths verify."""
    if key is not None:
        return _pss_salt_of(table, key)
    made = rsa.generate_private_key(65537, 2048)  # sooner than a chip would
    numbers = made.private_numbers()
    command = commands.load_rsa_key(
        numbers.public_numbers.n.to_bytes(256, "big"), numbers.p.to_bytes(128, "big")
    )
    with _loaded(table, command) as loaded:
        return PssSalt.NONE if loaded is None else _pss_salt_of(table, loaded)


def _pss_salt_of(table: ObjectTable, key: Entity) -> PssSalt:
    area = parse_public(table.run(commands.read_public(key)).public)
    modulus = int.from_bytes(area.modulus, "big")
    verifier = rsa.RSAPublicNumbers(area.exponent, modulus).public_key()
    command = commands.sign(key, hashlib.sha256(_KEY).digest(), Alg.RSAPSS, Alg.SHA256)
    signature = _attempt(lambda: table.run(command))
    if signature is None:
        return PssSalt.NONE
    longest = padding.calculate_max_pss_salt_length(verifier, hashes.SHA256())
    for length, verdict in ((32, PssSalt.DIGEST), (longest, PssSalt.MAXIMUM)):
        scheme = padding.PSS(padding.MGF1(hashes.SHA256()), length)
        with suppress(InvalidSignature):
            verifier.verify(signature.encoded(), _KEY, scheme, hashes.SHA256())
            return verdict
    return PssSalt.OTHER
