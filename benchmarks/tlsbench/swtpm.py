"""A swtpm on a free port and the next, where tpm2-tss looks for its control channel."""

from __future__ import annotations

import shutil
import socket
import subprocess
import time
from pathlib import Path
from typing import Self

from tlsbench.measure import Missing

_ATTEMPTS = 10
_SECONDS = 30.0


class Swtpm:
    """Runs until `stop` or `kill`; may be started again, on the same state and port."""

    def __init__(self, folder: Path) -> None:
        if shutil.which("swtpm") is None:
            raise Missing("swtpm is not installed")
        self.folder = folder
        folder.mkdir(exist_ok=True)
        for _ in range(_ATTEMPTS):  # somebody else may take the port that was free
            self.port = free_port()
            if self.start():
                return
        raise RuntimeError((folder / "log").read_text())

    @property
    def tcti(self) -> str:
        """Its TCTI string."""
        return f"swtpm:host=127.0.0.1,port={self.port}"

    def start(self) -> bool:
        """Whether it runs now."""
        with (self.folder / "log").open("wb") as log:
            self.process = subprocess.Popen(
                [
                    *("swtpm", "socket", "--tpm2", "--tpmstate", f"dir={self.folder}"),
                    *("--server", f"type=tcp,port={self.port}"),
                    *("--ctrl", f"type=tcp,port={self.port + 1}"),
                    *("--flags", "not-need-init"),
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

    def kill(self) -> None:
        """End it as a crash would."""
        self.process.kill()
        self.process.wait()

    def stop(self) -> None:
        """End it."""
        if self.process.poll() is None:
            self.process.terminate()
            self.process.wait()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port
