"""Secrets from one command to the next, as ciphertext that this process cannot read.

A TPM encrypts the first parameter of a response, where a session asks for it, under

    KDFa(sessionKey ‖ authValue, "CFB", nonceTPM ‖ nonceCaller)

and expects that of the next command under nonceCaller ‖ nonceTPM (Part 1 §21.3). With an empty
nonceCaller the two are one key and one IV. So what comes out of one command of a session goes into
the next one as it is. The session is neither salted nor bound, so that its sessionKey is empty and
needs no HMAC of the host; as a policy session it authorizes all the same, and mixes in the
authValue A of what it authorizes, which nobody knows (`chained_layout`).

The rule of order: a ciphertext is good for the very next command of its session, and for no other.
The rule of alignment: CFB deciphers from the left, so that it must stand at the beginning of the
next parameter, with nothing before it; it may be cut at its end. What begins elsewhere is
moved through NV memory, which can be written and read at any offset:

    TPM2_HMAC ───► Digest ────────────────────────────► TPM2_HMAC (it is a Message)
                     │
                     └► NV_Write at 36 ► NV_Read from 0 ► Sensitive ► TPM2_CreateLoaded
                                     0020 │ A │ 0020 │ X

    TPM2_ECDH_ZGen ► Point ► NV_Write at 0 ► NV_Read from 2 ► Message ► TPM2_HMAC
                                0020 │ X

Each box between two commands is a type, and each method takes the one that fits: what is not
aligned does not type-check. Out of order is found when it happens, before the TPM is asked: a
ciphertext knows after which command of the session it came, and a `Chain` counts them.

**What this does not give.** It keeps plaintext out of host memory and off the bus, against those
who only read them. Whoever can send commands to the TPM reads everything, A too: he leaves out the
flag that asks for encryption, and no policy can demand it.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from typing import Any, Final

from tpmtls.backends.ledger import Crossing, Ledger
from tpmtls.backends.tpm import chained_layout as layout
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.chained_lock import ChainLock, resets
from tpmtls.backends.tpm.constants import Alg
from tpmtls.backends.tpm.constants import CommandCode as CC
from tpmtls.backends.tpm.frames import (
    NULL_HIERARCHY,
    Command,
    Created,
    Creation,
    Entity,
    Reader,
    only,
    sized,
)
from tpmtls.backends.tpm.objects import TpmObject
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.public import Point
from tpmtls.backends.tpm.responses import command_name
from tpmtls.backends.tpm.transit import parameter_cipher
from tpmtls.violations import BackendError, TpmError, TpmUnavailable

_CONTINUE, _DECRYPT, _ENCRYPT = 0x01, 0x20, 0x40  # TPMA_SESSION (Part 2 §8.4)
_NONCE: Final = 16
_AUTH_VALUE: Final = "authValue"
NO_SECRET: Final = ""
"""The name of what is encrypted although everyone knows it, or there is nothing in it."""


class ChainOrderError(BackendError):
    """A ciphertext was used after another command than the one that it is good for."""


# -- what is between two commands ------------------------------------------------------------------


class Ciphertext:
    """A secret (its RFC name) that the TPM encrypted; good for the next command, once."""

    __slots__ = ("_nonce", "_octets", "_position", "name")

    def __init__(self, name: str, octets: bytes, position: int, nonce: bytes) -> None:
        self.name = name
        self._octets: bytes | None = octets
        self._position = position
        self._nonce = nonce

    def take(self, position: int) -> bytes:
        """The octets, if `position` commands of the session have passed and this was the last."""
        octets, self._octets = self._octets, None
        if octets is None or position != self._position:
            raise ChainOrderError(f"the ciphertext of {self.name} is used out of order")
        return octets

    def shows(self, octets: bytes) -> bool:
        """Whether one who reads the bus finds these octets in it: as it is, or deciphered by what
        he has read there, as where the TPM left A out of the key, or A is empty.
        """
        if self._octets is None:
            return True
        decryptor = parameter_cipher(b"", self._nonce, b"").decryptor()
        return octets in self._octets or octets in decryptor.update(self._octets)

    def repeats(self, other: Ciphertext) -> bool:
        """Whether both were encrypted under one key and IV: their nonces say."""
        return self._nonce == other._nonce

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name}>"


class Message(Ciphertext):
    """Begins with what TPM2_HMAC is to take as its data."""

    __slots__ = ()


class Digest(Message):
    """An HMAC: a Message as it is, and what may be written into a slot."""

    __slots__ = ()


class SharedPoint(Ciphertext):
    """Begins with the size of an x-coordinate, and the x-coordinate."""

    __slots__ = ()


class Sensitive(Ciphertext):
    """A TPMS_SENSITIVE_CREATE: what TPM2_CreateLoaded takes."""

    __slots__ = ()


# -- the session -----------------------------------------------------------------------------------


class _Use:
    """The authorization area of a command: the session, an empty nonceCaller, and no HMAC."""

    __slots__ = ("_area", "nonce")

    def __init__(self, handle: int, attributes: int) -> None:
        self.nonce = b""
        flags = bytes((_CONTINUE | attributes,))
        self._area = handle.to_bytes(4, "big") + b"\0\0" + flags + b"\0\0"

    def seal(self, command: Command[Any]) -> tuple[bytes, bytes]:
        return self._area, command.parameters

    def open(self, command: Command[Any], parameters: bytes, area: bytes) -> bytes:
        del command  # and the HMAC in the area is empty
        self.nonce = Reader(area).sized()
        return parameters


def start_session() -> Command[int]:
    """TPM2_StartAuthSession (Part 3 §11.1) of a policy session as described above; its handle."""
    symmetric = b"".join(number.to_bytes(2, "big") for number in (Alg.AES, 128, Alg.CFB))
    algorithm = Alg.SHA256.to_bytes(2, "big")
    parameters = sized(os.urandom(_NONCE)) + sized(b"") + b"\x01" + symmetric + algorithm
    nobody = (NULL_HIERARCHY, NULL_HIERARCHY)
    return Command(CC.StartAuthSession, nobody, parameters, _started)


def _started(response: bytes) -> int:
    reader = Reader(response)
    handle = reader.integer(4)
    reader.sized()
    reader.end()
    return handle


class Parent(Entity):
    """The storage key, and its qualified Name."""

    __slots__ = ("qualified",)

    def __init__(self, handle: int, name: bytes, qualified: bytes) -> None:
        super().__init__(handle, name)
        self.qualified = qualified


class Chain:
    """The session, and the steps that can be taken in it. Take them within `step`."""

    def __init__(
        self,
        tpm: Tpm,
        place: layout.Place,
        parent: Parent,
        ledger: Ledger,
        lock: ChainLock,
    ) -> None:
        self.tpm = tpm
        self.place = place
        self.lock = lock
        self.parent = parent
        self._store = Entity(place.store, b"")
        self._slots = Entity(place.slots, b"")
        self.ledger = ledger
        self._position = 0
        with tpm.device.lock:
            reset_count = resets(tpm)
            self._handle: int | None = tpm.run(start_session())
            lock.started(self._handle, reset_count, parent.qualified)
        tpm.at_close.append(self.close)
        flags = (0, _DECRYPT, _ENCRYPT, _DECRYPT | _ENCRYPT)
        self._uses = {flag: _Use(self._handle, flag) for flag in flags}
        self._latest = self._uses[0]

    @contextmanager
    def step(self) -> Iterator[None]:
        """Commands that belong together: the TPM, and the slots, are ours meanwhile."""
        with self.lock.exclusive(), self.tpm.device.lock:
            yield

    def close(self) -> None:
        """End the session."""
        handle, self._handle = self._handle, None
        if handle is None:
            return
        device = self.tpm.device  # `tpm` may be closed already
        with suppress(TpmUnavailable), device.lock:
            self.lock.ending(device)
            with suppress(TpmError):
                device.execute(commands.flush_context(handle))
        self.lock.close()

    # -- with HMAC keys ----------------------------------------------------------------------------

    def hmac(self, key: TpmObject, data: bytes | Message, algorithm: Alg, name: str) -> Digest:
        """An HMAC, named `name`; over data of the host, or over a secret."""
        octets, flags = self._input(data, CC.HMAC)
        result = self._run(commands.hmac(key, octets, algorithm), flags | _ENCRYPT)
        return Digest(*self._output(name, result, CC.HMAC))

    def hmac_in_clear(self, key: TpmObject, data: bytes, algorithm: Alg) -> bytes:
        """An HMAC that goes on the wire, or is no secret; the caller knows."""
        return bytes(self._run(commands.hmac(key, data, algorithm), 0))

    def message(self, point: SharedPoint, size: int) -> Message:
        """The x-coordinate of a point, as data for `hmac`."""
        name = point.name
        octets, flags = self._input(point, CC.NV_Write)
        if len(octets) != 2 * (2 + size):
            # One coordinate came without its leading zeros, and only the TPM knows which.
            raise BackendError("the TPM shortened a coordinate of the shared point: try again")
        self._write(octets[: 2 + size], layout.COORDINATE, flags)
        octets = self._read(self._slots, size, layout.COORDINATE + 2, _ENCRYPT)
        return Message(*self._output(name, octets, CC.NV_Read))

    # -- making keys -------------------------------------------------------------------------------

    def sensitive(self, secret: Digest | bytes, size: int, name: str) -> Sensitive:
        """What is to be a key: the first `size` octets of an HMAC, or octets that all know."""
        start, head = layout.header(size)
        octets, flags = self._input(secret, CC.NV_Write)
        if len(octets) < size:  # the rest would be of what was in the slot before
            raise BackendError(f"{name}: an HMAC of {len(octets)} octets makes no key of {size}")
        self._write(octets[:size], start + head, flags)
        octets = self._read(self._slots, head + size, start, _ENCRYPT)
        return self._sensitive(name, octets)

    def sensitive_of_nothing(self) -> Sensitive:
        """For a key that the TPM is to draw."""
        octets = self._read(self._store, layout.AUTH + 4, layout.STORE_A, _ENCRYPT)
        return self._sensitive(NO_SECRET, octets)

    def _sensitive(self, name: str, octets: bytes) -> Sensitive:
        self._record(_AUTH_VALUE, "out", CC.NV_Read)
        return Sensitive(*self._output(name, octets, CC.NV_Read))

    def create(self, sensitive: Sensitive, area: bytes) -> TpmObject:
        """TPM2_CreateLoaded (§12.9): a key, and the same wrapped by the parent, in `private`."""
        octets, flags = self._input(sensitive, CC.CreateLoaded)
        self._record(_AUTH_VALUE, "in", CC.CreateLoaded)
        parameters = sized(octets) + sized(area)
        command = Creation(CC.CreateLoaded, (self.parent,), parameters, _created, 1)
        return self._load(command, flags)

    def load(self, private: bytes, area: bytes) -> TpmObject:
        """TPM2_Load of what `create` made; raises TpmError."""
        return self._load(commands.load(self.parent, private, area), 0)

    # -- anything else -----------------------------------------------------------------------------

    def ecdh_zgen(self, key: TpmObject, peer: Point, name: str) -> SharedPoint:
        """ECDH with a peer's point."""
        parameters = sized(sized(peer.x) + sized(peer.y))
        result = self._run(Command(CC.ECDH_ZGen, (key,), parameters, only, 1), _ENCRYPT)
        return SharedPoint(*self._output(name, result, CC.ECDH_ZGen))

    def plain(self, command: Command[Any]) -> Any:
        """A command with nothing encrypted, such as TPM2_EncryptDecrypt2."""
        return self._run(command, 0)

    def read_store(self) -> bytes:
        """What the store begins with, which is no secret: marker, generation, Name."""
        return self._read(self._store, layout.STORE_A, 0, 0)

    def prepare_slots(self) -> None:
        """Write `0020 A` and the size of the key into each slot, as the TPM may have lost them."""
        with self.step():
            self._record(_AUTH_VALUE, "out", CC.NV_Read)
            self._record(_AUTH_VALUE, "in", CC.NV_Write)
            for size, start in layout.SLOT.items():
                octets = self._read(self._store, 2 + layout.AUTH, layout.STORE_A, _ENCRYPT)
                self._write(octets, start, _DECRYPT)
                self._write(size.to_bytes(2, "big"), start + 2 + layout.AUTH, 0)

    # -- parts -------------------------------------------------------------------------------------

    def _input(self, data: bytes | Ciphertext, code: CC) -> tuple[bytes, int]:
        """The octets of a first parameter, and the flag that goes with them."""
        if isinstance(data, bytes):
            return data, 0
        octets = data.take(self._position)
        self._record(data.name, "in", code)
        return octets, _DECRYPT

    def _output(self, name: str, octets: bytes, code: CC) -> tuple[str, bytes, int, bytes]:
        self._record(name, "out", code)
        return name, octets, self._position, self._latest.nonce

    def _record(self, name: str, direction: Any, code: CC) -> None:
        if name != NO_SECRET:
            self.ledger.record(Crossing(name, "tpm", direction, command_name(code), "encrypted"))

    def _use(self, flags: int) -> _Use:
        if self._handle is None:
            raise TpmUnavailable(f"{self.tpm.name} was closed: open it again")
        self._position += 1
        self._latest = self._uses[flags]
        return self._latest

    def _run(self, command: Command[Any], flags: int) -> Any:
        with self.tpm.device.lock:  # counted, and sent
            return self.tpm.run(command, self._use(flags))

    def _load(self, command: Creation, flags: int) -> TpmObject:
        with self.tpm.device.lock:
            return self.tpm.load(command, self._use(flags))

    def _write(self, octets: bytes, offset: int, flags: int) -> None:
        """TPM2_NV_Write (§31.7) into the slots."""
        parameters = sized(octets) + offset.to_bytes(2, "big")
        index = self._slots
        self._run(Command(CC.NV_Write, (index, index), parameters, bytes, 1), flags)

    def _read(self, index: Entity, size: int, offset: int, flags: int) -> bytes:
        """TPM2_NV_Read (§31.13)."""
        parameters = size.to_bytes(2, "big") + offset.to_bytes(2, "big")
        octets = self._run(Command(CC.NV_Read, (index, index), parameters, only, 1), flags)
        return bytes(octets)


def _created(parameters: bytes) -> Created:
    reader = Reader(parameters)
    private, area, name = reader.sized(), reader.sized(), reader.sized()
    reader.end()
    return Created(name, area, private)
