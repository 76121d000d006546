"""A peer that is a program: started, fed, read, and ended whatever happens."""

from __future__ import annotations

import fcntl
import os
import selectors
import signal
import subprocess
import termios
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from tests.interop.peers.interface import PATIENCE, PeerError, Sieve

CLEAN_ENVIRONMENT = {"LC_ALL": "C", "PATH": os.environ.get("PATH", os.defpath)}
"""Without SSLKEYLOGFILE, GNUTLS_* or OPENSSL_CONF of whoever runs the tests."""


class Program:
    """A running program: what it prints is log, and what the sieve finds in it is data."""

    def __init__(self, arguments: Sequence[str | Path], environment: dict[str, str] | None) -> None:
        self.arguments = [str(argument) for argument in arguments]
        self._child = subprocess.Popen(
            self.arguments,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=CLEAN_ENVIRONMENT | (environment or {}),
            start_new_session=True,
        )
        assert self._child.stdin is not None
        os.set_blocking(self._child.stdin.fileno(), False)
        self.stdout, self.stderr = bytearray(), bytearray()
        self._data = bytearray()
        self._sieve = Sieve()
        self._changed = threading.Condition()
        self.on_data: Callable[[bytes], None] | None = None
        self._readers = [
            threading.Thread(target=self._read_stdout, daemon=True),
            threading.Thread(target=self._read_stderr, daemon=True),
        ]
        self._open = len(self._readers)
        for reader in self._readers:
            reader.start()

    @property
    def pid(self) -> int:
        return self._child.pid

    # --- output ---

    def _read_stdout(self) -> None:
        assert self._child.stdout is not None
        while octets := os.read(self._child.stdout.fileno(), 1 << 16):
            data = self._sieve.feed(octets)
            with self._changed:
                self.stdout += octets
                if self.on_data is None:
                    self._data += data
                self._changed.notify_all()
            if data and self.on_data is not None:
                self.on_data(data)
        self._reader_done()

    def _read_stderr(self) -> None:
        assert self._child.stderr is not None
        while octets := os.read(self._child.stderr.fileno(), 1 << 16):
            with self._changed:
                self.stderr += octets
                self._changed.notify_all()
        self._reader_done()

    def _reader_done(self) -> None:
        with self._changed:
            self._open -= 1
            self._changed.notify_all()

    def wait_for(self, condition: Callable[[], bool], what: str) -> None:
        """Until the output satisfies the condition; PeerError when it ends or time is up."""
        with self._changed:
            self._changed.wait_for(lambda: condition() or not self._open, PATIENCE)
            met, ended = condition(), not self._open
        if not met:
            raise PeerError(f"{'ended' if ended else 'timed out'} before {what}", self.log())

    def receive(self, octets: int) -> bytes:
        self.wait_for(lambda: len(self._data) >= octets, f"{octets} octets of data came")
        with self._changed:
            data = bytes(self._data[:octets])
            del self._data[:octets]
        return data

    def await_text(self, text: bytes) -> None:
        self.wait_for(lambda: text in self.stdout, f"{text!r} came")

    # --- input ---

    def send(self, data: bytes) -> None:
        assert self._child.stdin is not None
        deadline = time.monotonic() + PATIENCE
        left = memoryview(data)
        with selectors.DefaultSelector() as selector:
            selector.register(self._child.stdin, selectors.EVENT_WRITE)
            while left:
                if not selector.select(max(0.0, deadline - time.monotonic())):
                    raise PeerError(f"took no input for {PATIENCE} s", self.log())
                try:
                    left = left[os.write(self._child.stdin.fileno(), left) :]
                except BlockingIOError:
                    continue
                except BrokenPipeError:
                    self.wait()  # for its last words
                    raise PeerError("ended before it took its input", self.log()) from None

    def drain(self) -> None:
        """Until it has read all its input, so that what follows is read by itself."""
        assert self._child.stdin is not None
        deadline = time.monotonic() + PATIENCE
        unread = bytearray(4)
        while fcntl.ioctl(self._child.stdin, termios.FIONREAD, unread) or any(unread):
            if time.monotonic() > deadline:
                raise PeerError(f"took no input for {PATIENCE} s", self.log())
            time.sleep(0.005)

    def end_input(self) -> None:
        assert self._child.stdin is not None
        if not self._child.stdin.closed:
            self._child.stdin.close()

    # --- the end ---

    def wait(self) -> int:
        """Until it ends by itself; its exit status."""
        try:
            status = self._child.wait(PATIENCE)
        except subprocess.TimeoutExpired:
            raise PeerError(f"did not end within {PATIENCE} s", self.log()) from None
        for reader in self._readers:
            reader.join(PATIENCE)
        return status

    def signal(self, number: signal.Signals) -> None:
        self._child.send_signal(number)

    def terminate(self) -> int:
        """Ask it to end, and see that it does."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def kill(self) -> None:
        """End it, in whatever state it is; nothing happens when it has ended."""
        if self._child.poll() is None:
            self._child.kill()
            self._child.wait(PATIENCE)
        for reader in self._readers:
            reader.join(PATIENCE)
        for stream in (self._child.stdin, self._child.stdout, self._child.stderr):
            assert stream is not None
            stream.close()

    def text(self) -> str:
        """Everything it printed."""
        with self._changed:
            return bytes(self.stdout + b"\n" + self.stderr).decode(errors="replace")

    def log(self) -> str:
        lines = [" ".join(self.arguments), f"status {self._child.poll()}"]
        with self._changed:
            for name, stream in (("stdout", self.stdout), ("stderr", self.stderr)):
                shown = bytes(stream[-3000:]).decode(errors="replace")
                lines += [f"[{name}, {len(stream)} octets]", shown]
        return "\n".join(lines)


@contextmanager
def run(
    arguments: Sequence[str | Path], environment: dict[str, str] | None = None
) -> Iterator[Program]:
    """Run a program for the length of the block."""
    program = Program(arguments, environment)
    try:
        yield program
    finally:
        program.kill()


def output(*arguments: str) -> str:
    """What a short program prints; empty if it isn't there."""
    try:
        done = subprocess.run(
            arguments, capture_output=True, text=True, timeout=PATIENCE, check=False
        )
    except FileNotFoundError:
        return ""
    return done.stdout
