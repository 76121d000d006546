"""The key log: a file of secrets by which tools such as Wireshark read a capture (SSLKEYLOGFILE).

Nothing is logged unless somebody asked for it: `Config.key_log`, or the environment variable.
"""

from __future__ import annotations

import os
import sys
import threading
from functools import lru_cache
from typing import Final, TypeVar

from tpmtls.config import Config
from tpmtls.violations import ConfigurationError

VARIABLE: Final = "SSLKEYLOGFILE"

_lock = threading.Lock()
"""One for all files: two names may lead to the same one."""

SomeConfig = TypeVar("SomeConfig", bound=Config)


class KeyLogFile:
    """Appends lines to a file that, if it is made here, only its owner may read."""

    def __init__(self, path: str | os.PathLike[str]) -> None:
        """Remembers `path`; `open` or the first line opens it."""
        self.path = os.fspath(path)
        self._descriptor: int | None = None

    def open(self) -> None:
        """Open the file unless it is; raises ConfigurationError where that is not possible."""
        with _lock:
            self._open()

    def __call__(self, line: str) -> None:
        """Append one line, given without its end, in a single write."""
        with _lock:
            os.write(self._open(), line.encode("ascii") + b"\n")

    def close(self) -> None:
        """Close the file; another line would open it again."""
        with _lock:
            if self._descriptor is not None:
                os.close(self._descriptor)
                self._descriptor = None

    def _open(self) -> int:
        if self._descriptor is None:
            flags = os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC
            try:
                self._descriptor = os.open(self.path, flags, 0o600)
            except OSError as error:
                raise ConfigurationError(
                    f"the key log {self.path!r} cannot be written: {error.strerror}"
                ) from None
        return self._descriptor


@lru_cache(maxsize=16)
def _shared(path: str) -> KeyLogFile:
    return KeyLogFile(path)


def from_environment() -> KeyLogFile | None:
    """The log that SSLKEYLOGFILE names, opened; None where it is unset, empty, or `python -E` runs.

    Raises ConfigurationError where the file cannot be opened.
    """
    path = os.environ.get(VARIABLE)
    if not path or sys.flags.ignore_environment:
        return None
    log = _shared(path)
    log.open()
    return log


def with_environment(config: SomeConfig) -> SomeConfig:
    """The configuration with the environment's key log, where it has none of its own."""
    if config.key_log is not None:
        return config
    log = from_environment()
    return config if log is None else config.replace(key_log=log)
