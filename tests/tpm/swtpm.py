"""A swtpm on a free port and the next, where tpm2-tss looks for its control channel."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path

_ATTEMPTS = 10
_SECONDS = 30.0


class Swtpm:
    """Runs until `stop` or `kill`; may be started again, on the same state and port."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for _ in range(_ATTEMPTS):  # somebody else may take the port that was free
            self.port = _free_port()
            if self.start():
                return
        raise RuntimeError((folder / "log").read_text())

    @property
    def tcti(self) -> str:
        return f"swtpm:host=127.0.0.1,port={self.port}"

    def start(self) -> bool:
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    "swtpm",
                    "socket",
                    "--tpm2",
                    "--tpmstate",
                    f"dir={self.folder}",
                    "--server",
                    f"type=tcp,port={self.port}",
                    "--ctrl",
                    f"type=tcp,port={self.port + 1}",
                    "--flags",
                    "not-need-init",
                ],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
            )
        deadline = time.monotonic() + _SECONDS
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                return False
            try:
                socket.create_connection(("127.0.0.1", self.port), 1).close()
            except OSError:
                time.sleep(0.01)
            else:
                return True
        self.kill()
        return False

    def pause(self) -> None:
        """Take commands, and answer none."""
        os.kill(self.process.pid, signal.SIGSTOP)

    def resume(self) -> None:
        os.kill(self.process.pid, signal.SIGCONT)

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        if self.process.poll() is None:
            self.resume()
            self.process.terminate()
            self.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
