"""The examples of README.md do as written what it says, in the order of a reader who tries them."""

from __future__ import annotations

import os
import re
import shutil
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
BINARIES = Path(sys.executable).parent


def blocks(language: str) -> list[str]:
    found = re.findall(rf"^```{language}\n(.*?)^```$", README.read_text(), re.DOTALL | re.MULTILINE)
    return [block.replace("4433", str(PORT)) for block in found]


def _free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port: int = taken.getsockname()[1]
    return port


PORT = _free_port()
"""In place of 4433, which may be taken where the tests run."""


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    if shutil.which("openssl") is None:
        pytest.skip("README makes its certificate with openssl, and there is none")
    folder = tmp_path_factory.mktemp("readme")
    make_certificate = blocks("sh")[0].partition("tpmtls")[0]
    subprocess.run(make_certificate, shell=True, cwd=folder, check=True, stderr=subprocess.DEVNULL)
    return folder


def environment() -> dict[str, str]:
    path = os.pathsep.join([str(BINARIES), os.environ["PATH"]])
    return {**os.environ, "PATH": path, "PYTHONUNBUFFERED": "1"}


def run(command: list[str], folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        command,
        cwd=folder,
        env=environment(),
        check=True,
        text=True,
        capture_output=True,
    )


@contextmanager
def running(command: list[str], folder: Path) -> Iterator[subprocess.Popen[str]]:
    """A server of README, once it answers."""
    with subprocess.Popen(
        command, cwd=folder, env=environment(), text=True, stderr=subprocess.PIPE
    ) as process:
        try:
            while True:
                try:
                    socket.create_connection(("localhost", PORT)).close()
                    break
                except ConnectionRefusedError:
                    assert process.poll() is None
            yield process
        finally:
            process.terminate()


def test_the_commands(folder):
    serve = blocks("sh")[0][blocks("sh")[0].index("tpmtls serve") :]
    with running(["/bin/sh", "-c", f"exec {serve}"], folder):
        shown = run(["/bin/sh", "-ec", blocks("sh")[1]], folder)
    assert shown.stdout == "hello\nagain\nearly\n"
    said = shown.stderr.splitlines()
    assert "TLS_1_3" in said[0]
    assert '"psk": null' in said[1]
    assert '"psk": "resumption"' in said[2]


def test_the_client_and_the_server_in_python(folder):
    client, server, _ = blocks("python")
    with running([sys.executable, "-c", server], folder):
        assert run([sys.executable, "-c", client], folder).stdout.startswith("b'HELLO\\n' TLS_")


def test_the_connection_without_io(folder):
    shown = run([sys.executable, "-c", blocks("python")[2]], folder).stdout
    assert shown == "TLS_AES_128_GCM_SHA256 b'hello'\n"
