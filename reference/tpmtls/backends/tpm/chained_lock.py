"""Who uses the chained keys of a TPM: one process at a time for a step, and what a dead one left.

A TPM without a resource manager keeps the session and the objects of a process that was killed. So
each process writes down its session, in a file that it holds locked for as long as it lives: a file
that can be locked is of one that is dead. A TPM in this process needs none of this.
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
from tpmtls.backends.tpm.frames import Command, Entity, Reader
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.violations import TpmBusy, TpmError, TpmUnavailable

_TRANSIENT: Final = 0x80000000
_MAX_HANDLES: Final = 254
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

    def started(self, session: int, reset_count: int) -> None:
        """Write the session down: whoever finds this file unlocked may flush it."""
        if self._mine is not None:
            note = json.dumps({"session": session, "resets": reset_count}).encode("ascii")
            os.pwrite(self._mine, note, 0)

    def ending(self) -> None:
        """Before the session is flushed: its handle may soon be another's.

        So one who is killed between the two loses a session, and nobody else's is ever flushed.
        """
        if self._mine is not None:
            os.ftruncate(self._mine, 0)

    def close(self) -> None:
        """Remove the file; idempotent."""
        for descriptor in self._mine, self._steps:
            if descriptor is not None:
                os.close(descriptor)
        self._mine = self._steps = None
        if self._path is not None:
            self._path.unlink(missing_ok=True)

    def recover(self, tpm: Tpm, parent: Entity) -> None:
        """Flush what dead processes left: their sessions, and children of `parent`.

        Children only where no other process is alive, whose they could be.
        """
        if self._folder is None:
            return
        with self.exclusive(), tpm.device.lock:
            alive = False
            for path in self._folder.glob("process-*"):
                if path != self._path:
                    alive |= not _bury(path, tpm)
            if not alive:
                _flush_children(tpm, parent)


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


def _bury(path: Path, tpm: Tpm) -> bool:
    """Flush the session of a dead process and remove its file; False if it is alive."""
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_NOFOLLOW | os.O_CLOEXEC)
    except FileNotFoundError:
        return True
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        with suppress(ValueError, KeyError, TypeError):
            note = json.loads(os.pread(descriptor, 200, 0))
            if note["resets"] == resets(tpm):
                session = int(note["session"])
                os.ftruncate(descriptor, 0)
                with suppress(TpmError):  # it is gone
                    tpm.device.execute(commands.flush_context(session))
        path.unlink(missing_ok=True)
    except BlockingIOError:
        return False
    finally:
        os.close(descriptor)
    return True


def _flush_children(tpm: Tpm, parent: Entity) -> None:
    """Flush the transient objects that `parent` wraps; their qualified Names say which these are.

    A qualified Name (Part 1 §16) is made of the parent's and the object's own.
    """
    device = tpm.device
    above = device.execute(Command(CC.ReadPublic, (parent,), b"", _names))[1]
    command = commands.get_capability(Capability.HANDLES, _TRANSIENT, _MAX_HANDLES)
    for (handle,) in device.execute(command)[1]:
        with suppress(TpmError):
            name, qualified = device.execute(
                Command(CC.ReadPublic, (Entity(handle, b""),), b"", _names)
            )
            algorithm = Alg.SHA256.to_bytes(2, "big")
            if qualified == algorithm + hashlib.sha256(above + name).digest():
                device.execute(commands.flush_context(handle))


def _names(parameters: bytes) -> tuple[bytes, bytes]:
    """Name and qualified Name."""
    reader = Reader(parameters)
    reader.sized()
    names = reader.sized(), reader.sized()
    reader.end()
    return names
