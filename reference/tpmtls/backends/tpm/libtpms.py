"""A TPM in this process: libtpms through ctypes, its state in memory or in a folder.

libtpms is global state, so a process has one such TPM at a time. Its keys lie in the memory of this
process: it shows and tests what a TPM would do, and protects nothing.
"""

from __future__ import annotations

import ctypes
import fcntl
import os
import threading
from ctypes import CFUNCTYPE, POINTER, c_char_p, c_int, c_uint32, c_void_p
from functools import cache
from pathlib import Path
from typing import Any, Final

from tpmtls.violations import TpmBusy, TpmUnavailable

_LIBRARY: Final = "libtpms.so.0"
_VERSION_2: Final = 1
_SUCCESS: Final = 0
_FAIL: Final = 9
_NOT_THERE: Final = 0x800  # TPM_RETRY: make it anew

# TPM_RESULT (*)(…) of struct libtpms_callbacks
_Plain = CFUNCTYPE(c_uint32)
_Load = CFUNCTYPE(c_uint32, POINTER(c_void_p), POINTER(c_uint32), c_uint32, c_char_p)
_Store = CFUNCTYPE(c_uint32, c_void_p, c_uint32, c_uint32, c_char_p)


class _Callbacks(ctypes.Structure):
    _fields_ = (
        ("sizeOfStruct", c_int),
        ("nvram_init", _Plain),
        ("nvram_loaddata", _Load),
        ("nvram_storedata", _Store),
        ("nvram_deletename", c_void_p),
        ("io_init", _Plain),
        ("io_getlocality", c_void_p),
        ("io_getphysicalpresence", c_void_p),
    )


class _Memory(dict[str, bytes]):
    """State that is gone with the process."""

    def close(self) -> None:
        self.clear()


class _Folder:
    """State in a folder, which one process may use at a time."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        try:
            folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._lock = os.open(folder / "lock", os.O_RDWR | os.O_CREAT, 0o600)
        except OSError as error:
            raise TpmUnavailable(f"libtpms:{folder}: {error.strerror}") from None
        try:
            fcntl.flock(self._lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            os.close(self._lock)
            raise TpmBusy(f"libtpms:{folder} is in use by another process") from None

    def get(self, name: str) -> bytes | None:
        try:
            return (self._folder / name).read_bytes()
        except FileNotFoundError:
            return None

    def __setitem__(self, name: str, data: bytes) -> None:
        # Whole or not at all: a state cut short would be a TPM lost.
        draft = self._folder / f"{name}.new"
        descriptor = os.open(draft, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
        with os.fdopen(descriptor, "wb") as file:
            file.write(data)
            file.flush()
            os.fsync(descriptor)
        draft.replace(self._folder / name)

    def close(self) -> None:
        os.close(self._lock)


class _Libtpms:
    """The library, and whose state it works on."""

    def __init__(self) -> None:
        try:
            self.functions = ctypes.CDLL(_LIBRARY)
        except OSError:
            raise TpmUnavailable(
                f"{_LIBRARY} is not there: install libtpms (Debian: libtpms0), or name a TPM, "
                "such as device:/dev/tpmrm0"
            ) from None
        self.lock = threading.Lock()
        self.state: _Memory | _Folder | None = None
        self.failure: OSError | None = None
        self.inherited = False
        self._callbacks = _Callbacks(  # kept: libtpms calls them for as long as the process lives
            ctypes.sizeof(_Callbacks),
            _Plain(lambda: _SUCCESS),
            _Load(self._load),
            _Store(self._store),
            None,
            _Plain(lambda: _SUCCESS),
            None,
            None,
        )
        self.functions.TPM_Malloc.argtypes = (POINTER(c_void_p), c_uint32)
        self.functions.TPMLIB_Process.argtypes = (c_void_p, c_void_p, c_void_p, c_char_p, c_uint32)
        self.process = self.functions.TPMLIB_Process
        # libtpms allocates a buffer for responses once, and keeps to it.
        self.response, self.size, self._room = c_void_p(), c_uint32(), c_uint32()
        self.results = tuple(map(ctypes.byref, (self.response, self.size, self._room)))
        # A TPM in failure mode prints the command that led there, secrets and all.
        self.functions.TPMLIB_SetDebugFD(os.open(os.devnull, os.O_WRONLY | os.O_CLOEXEC))
        self.functions.TPMLIB_ChooseTPMVersion(_VERSION_2)
        self.functions.TPMLIB_RegisterCallbacks(ctypes.byref(self._callbacks))

    def why(self) -> str:
        """What went wrong, as far as a callback knows."""
        return "its state is not readable" if self.failure is None else str(self.failure.strerror)

    # Called by libtpms; an exception would be printed and taken for success.

    def _load(self, data: Any, length: Any, _number: int, name: bytes) -> int:
        try:
            octets = None if self.state is None else self.state.get(name.decode())
        except OSError as error:
            self.failure = error
            return _FAIL
        if octets is None:
            return _NOT_THERE
        if self.functions.TPM_Malloc(data, len(octets)) != _SUCCESS:
            return _FAIL
        ctypes.memmove(data[0], octets, len(octets))
        length[0] = len(octets)
        return _SUCCESS

    def _store(self, data: int, length: int, _number: int, name: bytes) -> int:
        try:
            if self.state is not None:
                self.state[name.decode()] = ctypes.string_at(data, length)
        except OSError as error:
            self.failure = error
            return _FAIL
        return _SUCCESS


@cache
def _library() -> _Libtpms:
    return _Libtpms()


class LibtpmsTransport:
    """libtpms in this process, with its state in `folder`, or in memory until it is closed."""

    def __init__(self, folder: Path | None = None) -> None:
        self.name = f"libtpms:{folder or ''}"
        self._library = _library()
        self._open = True
        with self._library.lock:
            if self._library.state is not None:
                raise TpmBusy("libtpms is in use: a process has one TPM of it at a time")
            self._start(folder)

    def _start(self, folder: Path | None) -> None:
        library = self._library
        library.state = _Memory() if folder is None else _Folder(folder)
        library.failure = None
        if library.inherited:
            library.functions.TPMLIB_Terminate()
            library.inherited = False
        if library.functions.TPMLIB_MainInit() != _SUCCESS:
            self._stop()
            raise TpmUnavailable(f"{self.name} does not start: {library.why()}")

    def _stop(self) -> None:
        library = self._library
        library.functions.TPMLIB_Terminate()
        if library.state is not None:
            library.state.close()
            library.state = None

    def transmit(self, command: bytes) -> bytes:
        library = self._library
        scratch = ctypes.create_string_buffer(command, len(command))  # decrypted where it is
        code = library.process(*library.results, scratch, len(command))
        if library.failure is not None:
            raise TpmUnavailable(f"{self.name} cannot keep its state: {library.why()}")
        if code != _SUCCESS:
            raise TpmUnavailable(f"{self.name} does not take commands (0x{code:x})")
        return ctypes.string_at(library.response.value or 0, library.size.value)

    def close(self) -> None:
        with self._library.lock:
            if self._open:
                self._open = False
                self._stop()

    def abandon(self) -> None:
        library = self._library
        library.lock = threading.Lock()
        library.inherited = True
        if library.state is not None:
            library.state.close()
            library.state = None
