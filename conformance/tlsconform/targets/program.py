"""A client under test that is a program: run anew for each connection, unmodified."""

from __future__ import annotations

import os
import shlex
import signal
import socket
import subprocess
import tempfile
import threading
import time
from contextlib import suppress
from pathlib import Path
from typing import Final

from tlsconform.channel import Channel, TcpChannel
from tlsconform.outcome import TargetUnavailable
from tlsconform.pki import Authority
from tlsconform.targets.base import ClientTarget

START_TIMEOUT: Final = 10.0
"""Seconds that a client may take until it connects."""
WIND_UP: Final = 2.0
"""Seconds that a client may take to end once its connection is closed."""
MAX_OUTPUT: Final = 1 << 16
"""Octets of output kept of each of a program's streams."""
FIELDS: Final = ("host", "port", "ca", "session", "cert", "key", "early_data")


def check_command(command: str) -> None:
    """Raises ValueError, in one line, where a command's template is of no use."""
    try:
        words = shlex.split(command)
        formatted = [word.format(**dict.fromkeys(FIELDS, "0")) for word in words]
    except (ValueError, KeyError, IndexError) as error:
        known = ", ".join(f"{{{name}}}" for name in FIELDS)
        raise ValueError(f"{command!r}: {error}; the fields are {known}") from None
    if not formatted or "{port}" not in command:
        raise ValueError(f"{command!r} must say where {{port}} goes")


class Program:
    """One run of the client: its output is gathered, its input comes from `say`."""

    def __init__(self, arguments: list[str]) -> None:
        try:
            self._child = subprocess.Popen(  # noqa: S603 - the user's own command
                arguments,
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        except OSError as error:
            raise TargetUnavailable(f"cannot run {arguments[0]}: {error.strerror}") from None
        self._output = bytearray()
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    def _read(self) -> None:
        stdout = self._child.stdout
        while stdout is not None and (octets := os.read(stdout.fileno(), 1 << 14)):
            self._output += octets[: max(0, MAX_OUTPUT - len(self._output))]

    @property
    def has_ended(self) -> bool:
        """Whether the program is gone."""
        return self._child.poll() is not None

    def say(self, data: bytes) -> None:
        """Write to its stdin; a program that takes none is not at fault."""
        if self._child.stdin is not None:
            try:
                self._child.stdin.write(data)
                self._child.stdin.flush()
            except (BrokenPipeError, ValueError):
                return

    def wind_up(self, seconds: float) -> None:
        """Close its stdin, and wait for it to end by itself."""
        if self._child.stdin is not None:
            with suppress(BrokenPipeError):
                self._child.stdin.close()
        with suppress(subprocess.TimeoutExpired):
            self._child.wait(seconds)

    def end(self) -> str:
        """End the program and what it started; what it printed."""
        if self._child.poll() is None:
            with suppress(ProcessLookupError):
                os.killpg(self._child.pid, signal.SIGKILL)
        self._child.wait()
        self._reader.join(1.0)
        if self._child.stdin is not None:
            with suppress(BrokenPipeError):
                self._child.stdin.close()
        if self._child.stdout is not None and not self._reader.is_alive():
            self._child.stdout.close()
        return self._output.decode(errors="replace")


class CommandClient(ClientTarget):
    """A command with `{host}` and `{port}`, and, where it wants them, `{ca}`, `{session}`…

    `resume` is the command for connections that resume; without one, a command that names
    `{session}` serves for both.
    """

    def __init__(
        self,
        command: str,
        *,
        resume: str | None = None,
        early_data: str | None = None,
        authority: Authority | None = None,
        timeout: float = START_TIMEOUT,
    ) -> None:
        self.command, self.resume_command = command, resume
        self.early_data_command = early_data
        self.name = command
        self.knows_authority = "{ca}" in command
        self._timeout = timeout
        self._kept = tempfile.TemporaryDirectory(prefix="tlsconform-")
        self._folder = tempfile.TemporaryDirectory(prefix="tlsconform-")
        self._files = {} if authority is None else authority.write_files(Path(self._kept.name))
        self._programs: list[Program] = []
        self._printed: list[str] = []

    def start(
        self,
        *,
        resume: bool = False,
        early_data: bool = False,
        needs: frozenset[str] = frozenset(),
    ) -> Channel:
        command = (resume and self.resume_command) or self.command
        if early_data and self.early_data_command is not None:
            command = self.early_data_command
        with socket.create_server(("127.0.0.1", 0)) as listener:
            program = Program(self._arguments(command, listener.getsockname()[1]))
            self._programs.append(program)
            return TcpChannel(self._accept(listener, program))

    def _arguments(self, command: str, port: int) -> list[str]:
        session = Path(self._folder.name, "session")
        early = Path(self._folder.name, "early-data")
        early.write_bytes(b"early data\n")
        fields = {"host": "localhost", "port": port, "session": session, "early_data": early}
        known = dict.fromkeys(FIELDS, "") | self._files | fields
        return [word.format(**known) for word in shlex.split(command)]

    def _accept(self, listener: socket.socket, program: Program) -> socket.socket:
        deadline = time.monotonic() + self._timeout
        listener.settimeout(0.05)
        while time.monotonic() < deadline:
            try:
                return listener.accept()[0]
            except TimeoutError:
                if program.has_ended:
                    break
        output = program.end().strip().splitlines()
        last = f"; it said: {output[-1]}" if output else ""
        raise TargetUnavailable(f"the client did not connect: {self.command}{last}")

    def say(self, data: bytes) -> None:
        if self._programs:
            self._programs[-1].say(data)

    def wind_up(self) -> None:
        if self._programs:
            self._programs[-1].wind_up(WIND_UP)

    def output(self) -> str:
        self._end_programs()
        return "".join(self._printed)

    def _end_programs(self) -> None:
        self._printed += [program.end() for program in self._programs]
        self._programs.clear()

    def finish(self) -> None:
        self._end_programs()
        self._printed.clear()
        for file in Path(self._folder.name).iterdir():
            file.unlink(missing_ok=True)

    def close(self) -> None:
        self._end_programs()
        self._folder.cleanup()
        self._kept.cleanup()
