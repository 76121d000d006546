"""Servers that are programs: started on a free port, waited for, ended."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager

from tlsbench.measure import Missing
from tlsbench.swtpm import free_port

PATIENCE = 10.0
"""Seconds for a server to start, and for a connection."""


@contextmanager
def served(command: Sequence[str], environment: Mapping[str, str] | None = None) -> Iterator[int]:
    """Run a server, `{port}` in its command replaced; its port, once it listens there.

    Where it does not, or the block fails with an OSError, it is Missing, with its last words.
    """
    if shutil.which(command[0]) is None:
        raise Missing(f"{command[0]} is not installed")
    port = free_port()
    with tempfile.TemporaryFile("w+") as log:
        process = subprocess.Popen(
            [part.replace("{port}", str(port)) for part in command],
            env=os.environ | (environment or {}),
            stdin=subprocess.PIPE,  # an end of file would end some
            stdout=log,
            stderr=log,
        )
        try:
            _wait_for(port, process)
            yield port
        except OSError as error:
            log.seek(0)
            raise Missing(last_line(log.read()) or str(error)) from None
        finally:
            process.kill()
            process.communicate()


def _wait_for(port: int, process: subprocess.Popen[bytes]) -> None:
    """Until it listens."""
    deadline = time.monotonic() + PATIENCE
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), PATIENCE).close()
        except OSError:
            if process.poll() is not None or time.monotonic() > deadline:
                raise
            time.sleep(0.02)
        else:
            return


def failure(done: subprocess.CompletedProcess[str]) -> Missing:
    """Why a program failed: its last words, or else its status."""
    words = last_line(done.stderr) or last_line(done.stdout)
    return Missing(words or f"{done.args[0]} ended with status {done.returncode}")


def last_line(text: str) -> str:
    """What a program said last, without what only its author can use."""
    lines = [line for line in text.splitlines() if line.strip()]
    return lines[-1].rpartition(":")[2].strip() if lines else ""
