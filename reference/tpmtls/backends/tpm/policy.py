"""How the use of a key is authorized: by password, by policy, or by both (Part 1 §19).

A password never crosses to the TPM when a key is used: it keys the HMAC of a session. Each session
serves one command, after which the TPM forgets it.
"""

from __future__ import annotations

import hashlib
import hmac
import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from typing import Any, Final

from tpmtls.backends.tpm.commands import flush_context
from tpmtls.backends.tpm.constants import HASHES, Alg, CommandCode, ResponseCode
from tpmtls.backends.tpm.frames import (
    NULL_HIERARCHY,
    Authorization,
    Command,
    Reader,
    permanent,
    sized,
)
from tpmtls.backends.tpm.keyfile import PolicyStep
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.responses import TpmResponseError
from tpmtls.violations import ConfigurationError, TpmAuthError, TpmError, TpmLacks

MAX_PASSWORD: Final = 32
"""Octets of a password: as long as the digest of the keys that we make."""
_HMAC_SESSION: Final = b"\x00"
_POLICY_SESSION: Final = b"\x01"
_NONCE_SIZE: Final = 16
_USE_ONCE: Final = b"\x00"  # TPMA_SESSION without continueSession
_PCR_BANKS: Final = {"sha1": Alg.SHA1, **HASHES}
_PCRS: Final = 24
_NAMES: Final = {int(number): name for name, number in HASHES.items()}
_AUTH_VALUE: Final = frozenset((CommandCode.PolicyAuthValue, CommandCode.PolicyPassword))


# -- PCRs ------------------------------------------------------------------------------------------


def parse_pcrs(text: str) -> bytes:
    """A TPML_PCR_SELECTION from tpm2-tools' notation, `sha256:0,7` or `sha1:0+sha256:1,2`."""
    banks = []
    for bank in text.split("+"):
        name, colon, numbers = bank.partition(":")
        indices = [int(n) for n in numbers.split(",") if n.isascii() and n.isdigit()]
        if (
            name not in _PCR_BANKS
            or not colon
            or len(indices) != len(numbers.split(","))
            or max(indices, default=_PCRS) >= _PCRS
        ):
            raise ConfigurationError(
                f"{text!r} are not PCRs, such as sha256:0,7; banks are {', '.join(_PCR_BANKS)},"
                f" PCRs 0 to {_PCRS - 1}"
            )
        bits = sum(1 << index for index in set(indices)).to_bytes(_PCRS // 8, "little")
        banks.append(_PCR_BANKS[name].to_bytes(2, "big") + bytes((len(bits),)) + bits)
    return len(banks).to_bytes(4, "big") + b"".join(banks)


def pcr_step(tpm: Tpm, selection: bytes) -> PolicyStep:
    """The policy command that wants these PCRs (TPML_PCR_SELECTION) to be as they are now."""
    digest = hashlib.sha256()
    for bank in _banks(selection):
        for bits in _single(bank[3:]):
            one = b"\0\0\0\1" + bank[:3] + bits
            digest.update(tpm.run(Command(CommandCode.PCR_Read, (), one, _pcr_value)))
    return PolicyStep(CommandCode.PolicyPCR, sized(digest.digest()) + selection)


def _banks(selection: bytes) -> Iterator[bytes]:
    """Each TPMS_PCR_SELECTION."""
    reader = Reader(selection)
    for _ in range(reader.integer(4)):
        head = reader.take(3)
        yield head + reader.take(head[2])


def _single(bits: bytes) -> Iterator[bytes]:
    """The bit maps of one PCR each."""
    value = int.from_bytes(bits, "little")
    for index in range(8 * len(bits)):
        if value >> index & 1:
            yield (1 << index).to_bytes(len(bits), "little")


def _pcr_value(parameters: bytes) -> bytes:
    reader = Reader(parameters)
    reader.integer(4)  # how often PCRs have changed
    for _ in range(reader.integer(4)):
        reader.take(2)
        reader.take(reader.integer(1))
    values = [reader.sized() for _ in range(reader.integer(4))]
    reader.end()
    if len(values) != 1:
        raise TpmLacks("this TPM does not have one of the PCRs or their bank: choose others")
    return values[0]


# -- policies --------------------------------------------------------------------------------------


def policy_digest(steps: tuple[PolicyStep, ...], algorithm: str = "sha256") -> bytes:
    """The authPolicy of a key that these commands authorize (Part 3 §23)."""
    digest = bytes(hashlib.new(algorithm).digest_size)
    for command, parameters in steps:
        code, extra = CommandCode(command), parameters
        if code is CommandCode.PolicyPassword:
            code = CommandCode.PolicyAuthValue  # the same policy, otherwise fulfilled
        if code is CommandCode.PolicyPCR:
            reader = Reader(parameters)
            values = reader.sized()
            extra = reader.rest + values
        digest = hashlib.new(algorithm, digest + code.to_bytes(4, "big") + extra).digest()
    return digest


@dataclass(frozen=True)
class Access:
    """What the use of one key needs; `name_algorithm` is that of the key.

    `policy` is empty where the password alone authorizes.
    """

    password: bytes = field(default=b"", repr=False)
    policy: tuple[PolicyStep, ...] = ()
    name_algorithm: int = Alg.SHA256

    def __post_init__(self) -> None:
        # The TPM takes zeros at the end for padding (Part 1 §19.4).
        object.__setattr__(self, "password", self.password.rstrip(b"\0"))

    @contextmanager
    def session(self, tpm: Tpm) -> Iterator[Authorization | None]:
        """The authorization of one command, to be run in the block; the TPM is ours meanwhile."""
        if not self.password and not self.policy:
            yield None
            return
        name = _NAMES.get(self.name_algorithm)
        if name is None:
            raise TpmLacks(f"a key whose name algorithm is 0x{self.name_algorithm:02x}")
        with tpm.device.lock:
            handle, nonce = tpm.run(_start(_POLICY_SESSION if self.policy else _HMAC_SESSION, name))
            needs_password = not self.policy or any(s.command in _AUTH_VALUE for s in self.policy)
            session = _Session(handle, nonce, name, self.password if needs_password else b"")
            try:
                self._fulfil(tpm, handle)
                yield session
            finally:
                if not session.used:
                    with suppress(TpmError):
                        tpm.run(flush_context(handle))

    def _fulfil(self, tpm: Tpm, handle: int) -> None:
        for code, parameters in self.policy:
            # With the password in an HMAC, instead of in clear; the digest is the same.
            sent = CommandCode.PolicyAuthValue if code in _AUTH_VALUE else code
            try:
                tpm.run(Command(sent, (permanent(handle),), parameters, bytes))
            except TpmResponseError as failure:
                if code == CommandCode.PolicyPCR and failure.code == ResponseCode.VALUE:
                    raise TpmAuthError(
                        "the PCRs that the key is bound to have changed, as after an update of"
                        " firmware or boot loader: restore that state, or make a new key"
                    ) from None
                raise


def password_octets(password: str | bytes | None) -> bytes:
    """A password as the TPM has it; raises ConfigurationError where it is too long."""
    octets = password.encode() if isinstance(password, str) else password or b""
    if len(octets) > MAX_PASSWORD:
        raise ConfigurationError(f"the password of a TPM key has at most {MAX_PASSWORD} octets")
    return octets


# -- sessions --------------------------------------------------------------------------------------


def _start(kind: bytes, name: str) -> Command[tuple[int, bytes]]:
    """TPM2_StartAuthSession (Part 3 §11.1), neither salted nor bound."""
    symmetric = Alg.NULL.to_bytes(2, "big")
    parameters = b"".join(
        (sized(os.urandom(_NONCE_SIZE)), sized(b""), kind, symmetric, HASHES[name].to_bytes(2))
    )
    nobody = (NULL_HIERARCHY, NULL_HIERARCHY)
    return Command(CommandCode.StartAuthSession, nobody, parameters, _started)


def _started(response: bytes) -> tuple[int, bytes]:
    reader = Reader(response)
    handle, nonce = reader.integer(4), reader.sized()
    reader.end()
    return handle, nonce


class _Session:
    """Authorizes one command with the HMAC that shows the password, if there is one."""

    def __init__(self, handle: int, nonce_tpm: bytes, name: str, password: bytes) -> None:
        self.used = False
        self._handle = handle.to_bytes(4, "big")
        self._nonce_tpm = nonce_tpm
        self._nonce = b""
        self._name = name
        self._password = password

    def seal(self, command: Command[Any]) -> tuple[bytes, bytes]:
        self._nonce = os.urandom(_NONCE_SIZE)
        names = b"".join(entity.name for entity in command.handles)
        about = command.code.to_bytes(4, "big") + names + command.parameters
        proof = self._proof(about, self._nonce + self._nonce_tpm + _USE_ONCE)
        area = self._handle + sized(self._nonce) + _USE_ONCE + sized(proof)
        return area, command.parameters

    def open(self, command: Command[Any], parameters: bytes, area: bytes) -> bytes:
        self.used = True
        reader = Reader(area)
        nonce, attributes, proof = reader.sized(), reader.take(1), reader.sized()
        reader.end()
        about = bytes(4) + command.code.to_bytes(4, "big") + parameters
        expected = self._proof(about, nonce + self._nonce + attributes)
        if not hmac.compare_digest(proof, expected):
            raise TpmError("the TPM's answer was changed on its way: its HMAC is wrong")
        return parameters

    def _proof(self, about: bytes, nonces: bytes) -> bytes:
        if not self._password:
            return b""
        digest = hashlib.new(self._name, about).digest()
        return hmac.digest(self._password, digest + nonces, self._name)
