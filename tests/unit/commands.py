"""Running `tpmtls` in tests: in this process for commands that end, beside it for servers."""

from __future__ import annotations

import contextlib
import io
import json
import re
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from dataclasses import dataclass
from typing import IO, Any
from unittest import mock

from tests.unit.support import pki
from tpmtls.cli import main


@dataclass(frozen=True)
class Outcome:
    """What a command left behind."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def report(self) -> dict[str, Any]:
        """What --json said: one object, in the last line."""
        values = json.loads(self.stderr.splitlines()[-1])
        assert isinstance(values, dict)
        return values


def tpmtls(*arguments: object, stdin: bytes = b"") -> Outcome:
    """Run a command to its end in this process."""
    with tempfile.TemporaryFile() as feed, tempfile.TemporaryFile() as result:
        feed.write(stdin)
        feed.seek(0)
        stderr = io.StringIO()
        text = io.TextIOWrapper(result, write_through=True)
        with (
            mock.patch("sys.stdin", feed),
            mock.patch("sys.stdout", text),
            mock.patch("sys.stderr", stderr),
        ):
            status = main([str(argument) for argument in arguments])
        text.flush()
        result.seek(0)
        stdout = result.read()
        text.detach()
    return Outcome(status, stdout, stderr.getvalue())


class Served:
    """`tpmtls serve` in a process of its own."""

    def __init__(self, process: subprocess.Popen[str], stderr: IO[str], announced: str) -> None:
        self.process = process
        self.announced = announced
        self._stderr = stderr

    @property
    def port(self) -> int:
        found = re.search(r":(\d+)\W*$", self.announced)
        assert found, self.announced
        return int(found[1])

    def next_line(self) -> str:
        """What the server says next."""
        return self._stderr.readline()

    def end(self, number: signal.Signals = signal.SIGINT) -> tuple[int, str]:
        """Signal it to end; its exit status, and what it said in the end."""
        self.process.send_signal(number)
        return self.wait()

    def wait(self) -> tuple[int, str]:
        """Until it has ended."""
        rest = self._stderr.read()
        return self.process.wait(30), rest


def server_certificate() -> tuple[object, ...]:
    made = pki().server()
    return ("--cert", made.chain, "--key", made.key)


def client_certificate() -> tuple[object, ...]:
    made = pki().client()
    return ("--cert", made.chain, "--key", made.key)


@contextlib.contextmanager
def serving(
    *arguments: object, listen: str = "127.0.0.1:0", certificate: bool = True
) -> Iterator[Served]:
    """A server, on a port of its own; with a certificate for localhost, unless told otherwise."""
    options = server_certificate() if certificate else ()
    command = [sys.executable, "-m", "tpmtls.cli", "serve", "--listen", listen]
    process = subprocess.Popen(
        [*command, *(str(argument) for argument in (*options, *arguments))],
        stderr=subprocess.PIPE,
        text=True,
    )
    assert process.stderr is not None
    with process.stderr as stderr:
        try:
            yield Served(process, stderr, stderr.readline())
        finally:
            if process.poll() is None:
                process.send_signal(signal.SIGTERM)
            process.wait(30)
