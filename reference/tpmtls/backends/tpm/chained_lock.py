"""Who uses the chained keys of a TPM: one process at a time for a step, and what a dead one left.

A TPM without a resource manager keeps the session and the objects of a process that was killed. So
each process writes down its session, in a file that it holds locked for as long as it lives: a file
that can be locked is of one that is dead. A TPM in this process needs none of this.

A session is ours for as long as we did not flush it. When we do, its handle may soon be another's,
and a kill may come before the file is gone. So a session that is to end is marked in the TPM first,
by a policy with a random number in it, and its file says how to know it: TPM2_PolicyGetDigest tells
without changing anything. So no session that was written down is lost, and no other's is flushed.
What is left is the time from TPM2_StartAuthSession to the file, when nobody but the dead process
knew the handle.
"""

from __future__ import annotations

import fcntl
import hashlib
import json
import os
import tempfile
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from time import monotonic, sleep
from typing import Final

from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.constants import Alg, Capability
from tpmtls.backends.tpm.constants import CommandCode as CC
from tpmtls.backends.tpm.device import Device
from tpmtls.backends.tpm.frames import Command, Entity, Reader, only, sized
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.backends.tpm.responses import TpmResponseError
from tpmtls.violations import TpmBusy, TpmUnavailable

_TRANSIENT: Final = 0x80000000
_MAX_HANDLES: Final = 254
_MAX_NOTE: Final = 500
_DIGEST: Final = 32
_PATIENCE: Final = 30.0
_FIRST_PAUSE: Final = 0.0002
_LONGEST_PAUSE: Final = 0.01


class ChainLock:
    """The files of one process for one TPM; `folder` None where the TPM is in this process."""

    def __init__(self, folder: Path | None) -> None:
        self._folder = folder
        self._depth = 0
        self._turn = threading.RLock()
        self._steps: int | None = None
        self._mine: int | None = None
        self._path: Path | None = None
        self._note: dict[str, int | str] = {}
        if folder is not None:
            _private(folder)
            self._steps = _open(folder / "steps")
            self._path = folder / f"process-{os.getpid()}-{os.urandom(4).hex()}"
            self._mine = _open(self._path)
            fcntl.flock(self._mine, fcntl.LOCK_EX)

    @contextmanager
    def exclusive(self) -> Iterator[None]:
        """No other process takes a step meanwhile; raises TpmBusy where one does not end its own.

        To be taken before the device's lock: who waits here must let go of a swtpm.
        """
        with self._turn:
            if self._steps is not None and not self._depth:
                self._wait(self._steps)
            self._depth += 1
            try:
                yield
            finally:
                self._depth -= 1
                if self._steps is not None and not self._depth:
                    fcntl.flock(self._steps, fcntl.LOCK_UN)

    @staticmethod
    def _wait(descriptor: int) -> None:
        """flock, which has no time limit of its own."""
        deadline, pause = monotonic() + _PATIENCE, _FIRST_PAUSE
        while True:
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                if monotonic() > deadline:
                    raise TpmBusy("another process does not end its use of chained keys") from None
            else:
                return
            sleep(pause)
            pause = min(2 * pause, _LONGEST_PAUSE)

    def started(self, session: int, reset_count: int, parent: bytes) -> None:
        """Write down session and parent (its qualified Name).

        Whoever finds this file unlocked may flush the session, and the parent's children.
        """
        self._note = {"session": session, "resets": reset_count, "parent": parent.hex()}
        self._write()

    def ending(self, device: Device) -> None:
        """Before the session is flushed: mark it, and write down how."""
        if self._mine is None:
            return
        number = os.urandom(_DIGEST)
        try:
            device.execute(_policy_cp_hash(int(self._note["session"]), number))
        except TpmResponseError:  # then it is lost if we are killed before it is flushed
            os.ftruncate(self._mine, 0)
            return
        code = CC.PolicyCpHash.to_bytes(4, "big")
        self._note["digest"] = hashlib.sha256(bytes(_DIGEST) + code + number).hexdigest()
        self._write()

    def _write(self) -> None:
        if self._mine is not None:
            os.pwrite(self._mine, json.dumps(self._note).encode("ascii"), 0)

    def close(self) -> None:
        """Remove the file; idempotent."""
        for descriptor in self._mine, self._steps:
            if descriptor is not None:
                os.close(descriptor)
        self._mine = self._steps = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def recover(self, tpm: Tpm) -> None:
        """Flush what dead processes left: their sessions, and children of their parents.

        Children only where no other process is alive, whose they could be. The TPM may be full, so
        that it cannot even load a persistent key to tell of it.
        """
        if self._folder is None:
            return
        with self.exclusive(), tpm.device.lock:
            alive, parents = False, set()
            for path in self._folder.glob("process-*"):
                if path != self._path:
                    found = _bury(path, tpm)
                    alive |= found is None
                    parents.add(found or b"")
            if not alive:
                _flush_children(tpm, parents - {b""})


def lock_for(tpm: Tpm) -> ChainLock:
    """The files for a TPM, by its TCTI string; raises TpmUnavailable."""
    if tpm.name.startswith("libtpms:"):
        return ChainLock(None)
    base = Path(os.environ.get("XDG_RUNTIME_DIR") or tempfile.gettempdir())
    digest = hashlib.sha256(tpm.name.encode()).hexdigest()[:16]
    try:
        top = base / f"tpmtls-{os.getuid()}"
        _private(top)
        return ChainLock(top / digest)
    except OSError as error:
        raise TpmUnavailable(f"the lock of {tpm.name}: {error}") from None


def _private(folder: Path) -> None:
    """A folder that nobody else can write to."""
    folder.mkdir(mode=0o700, exist_ok=True)
    found = folder.lstat()
    if found.st_uid != os.getuid() or found.st_mode & 0o22 or folder.is_symlink():
        raise PermissionError(f"{folder} is another's, or others can write to it")


def _open(path: Path) -> int:
    return os.open(path, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o600)


# -- what is left of others ------------------------------------------------------------------------


def resets(tpm: Tpm) -> int:
    """How often the TPM was reset (TPM2_ReadClock, Part 3 §29.1): sessions do not survive that."""
    return tpm.run(Command(CC.ReadClock, (), b"", _resets))


def _resets(parameters: bytes) -> int:
    reader = Reader(parameters)
    reader.take(16)  # time and clock
    return reader.integer(4)


def _bury(path: Path, tpm: Tpm) -> bytes | None:
    """Flush the session of a dead process and remove its file; None if it is alive.

    Else the qualified Name of its parent, or nothing.
    """
    parent = b""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return b""
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(ValueError, KeyError, TypeError):
            note = json.loads(os.pread(descriptor, _MAX_NOTE, 0))
            session, parent = int(note["session"]), bytes.fromhex(note["parent"])
            if note["resets"] == resets(tpm):
                with suppress(TpmResponseError):  # it is gone
                    if _is_still(tpm.device, session, note.get("digest")):
                        os.ftruncate(descriptor, 0)
                        tpm.device.execute(commands.flush_context(session))
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return None
    finally:
        os.close(descriptor)
    return parent


def _is_still(device: Device, session: int, digest: str | None) -> bool:
    """Whether the handle is of the session that was marked; it is, if none was."""
    return digest is None or device.execute(_policy_get_digest(session)).hex() == digest


def _policy_cp_hash(session: int, number: bytes) -> Command[bytes]:
    """TPM2_PolicyCpHash (§23.13): the session is of no use any more, and has another digest."""
    return Command(CC.PolicyCpHash, (Entity(session, b""),), sized(number), bytes)


def _policy_get_digest(session: int) -> Command[bytes]:
    """TPM2_PolicyGetDigest (§23.19)."""
    return Command(CC.PolicyGetDigest, (Entity(session, b""),), b"", only)


def _flush_children(tpm: Tpm, parents: set[bytes]) -> None:
    """Flush the transient objects that a parent wraps; their qualified Names say which these are.

    A qualified Name (Part 1 §16) is made of the parent's and the object's own.
    """
    if not parents:
        return
    device, algorithm = tpm.device, Alg.SHA256.to_bytes(2, "big")
    command = commands.get_capability(Capability.HANDLES, _TRANSIENT, _MAX_HANDLES)
    for (handle,) in device.execute(command)[1]:
        with suppress(TpmResponseError):  # it is gone
            _, name, qualified = device.execute(read_names(handle))
            for above in parents:
                if qualified == algorithm + hashlib.sha256(above + name).digest():
                    device.execute(commands.flush_context(handle))


def read_names(handle: int) -> Command[tuple[bytes, bytes, bytes]]:
    """TPM2_ReadPublic (§12.4): public area, Name and qualified Name."""
    return Command(CC.ReadPublic, (Entity(handle, b""),), b"", _names)


def _names(parameters: bytes) -> tuple[bytes, bytes, bytes]:
    reader = Reader(parameters)
    names = reader.sized(), reader.sized(), reader.sized()
    reader.end()
    return names
