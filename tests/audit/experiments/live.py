"""The servers that are attacked: ours and OpenSSL's, each in a process of its own."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any, Protocol

from tests.interop.peers.process import Program, run
from tests.pki import Pki

CLIENT = "client-p256"
"""The common name of the client's certificate."""
IDENTITY = "an identity"
PSK = bytes(range(100, 132))
GCM, CCM = "TLS_AES_128_GCM_SHA256", "TLS_AES_128_CCM_SHA256"


class Server(Protocol):
    """What a client needs to know of one."""

    name: str
    port: int

    def answer(self, data: bytes) -> bytes:
        """What it sends back for a line."""
        ...

    def took_for_the_client(self, port: int) -> bool:
        """Whether it took who is at that port for the client whose certificate it knows."""
        ...


@dataclass(frozen=True)
class Told:
    """What our server knows of a connection."""

    facts: dict[str, Any]
    secrets: tuple[tuple[str, str, bytes], ...]
    """Name, name of the parent or nothing, octets; in the order in which they came to be."""


class Ours:
    """`tests.audit.experiments.server`."""

    name = "tpmtls"

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process
        self.port = int(self._line())

    def answer(self, data: bytes) -> bytes:
        return data

    def took_for_the_client(self, port: int) -> bool:
        return CLIENT in (self.tell(port).facts["client"] or "")

    def _line(self) -> str:
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        assert line, "the server has ended"
        return line

    def tell(self, port: int) -> Told:
        """All about the client at that port, once its handshake is over."""
        assert self._process.stdin is not None
        self._process.stdin.write(f"{port}\n")
        self._process.stdin.flush()
        told = json.loads(self._line())
        secrets = tuple((name, parent, bytes.fromhex(o)) for name, parent, o in told["secrets"])
        return Told(told["facts"], secrets)


@contextmanager
def ours(pki: Pki) -> Iterator[Ours]:
    """Our server, for as long as the block runs."""
    made = pki.server()
    told = {
        "chain": str(made.chain),
        "key": str(made.key),
        "ca": str(pki.ca),
        "psk": [IDENTITY, PSK.hex()],
        "suites": [GCM, CCM],
    }
    command = [sys.executable, "-m", "tests.audit.experiments.server", json.dumps(told)]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        yield Ours(process)
    finally:
        for stream in process.stdin, process.stdout:
            assert stream is not None
            stream.close()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait(10)


class OpenSsl:
    """`openssl s_server`."""

    name = "OpenSSL"

    def __init__(self, program: Program, key_log: Path) -> None:
        accepting = re.compile(rb"^ACCEPT .*:(\d+)$", re.MULTILINE)
        program.wait_for(lambda: bool(accepting.search(program.stdout)), "it listened")
        found = accepting.search(program.stdout)
        assert found
        self.port = int(found[1])
        self._program = program
        self._key_log = key_log

    def answer(self, data: bytes) -> bytes:
        return data.rstrip(b"\n")[::-1] + b"\n"

    def took_for_the_client(self, port: int) -> bool:
        del port  # it insists on a certificate (-Verify), and answers nobody else
        return True

    def logged(self, label: str, random: bytes) -> bytes:
        """A secret of a connection, as its key log has it."""
        prefix = f"{label} {random.hex()} "
        lines = self._key_log.read_text().splitlines()
        return bytes.fromhex(next(line for line in lines if line.startswith(prefix))[len(prefix) :])

    def await_text(self, text: bytes, times: int = 1) -> None:
        """Until it has said that so often."""
        self._program.wait_for(lambda: self._program.stdout.count(text) >= times, repr(text))

    def count(self, text: bytes) -> int:
        """How often it has said that."""
        return self._program.stdout.count(text)


@contextmanager
def openssl(pki: Pki, *options: str) -> Iterator[OpenSsl]:
    """An s_server for one client at a time; with `-rev` it sends lines back reversed.

    It insists on a certificate of the client, unless there is a PSK.
    """
    made = pki.server()
    arguments = ["-tls1_3", "-accept", "127.0.0.1:0", "-groups", "P-256"]
    arguments += ["-CAfile", str(pki.ca), "-Verify", "2", "-verify_return_error"]
    arguments += ["-cert", str(made.chain), "-key", str(made.key)]
    with TemporaryDirectory() as folder:
        key_log = Path(folder, "keys")
        arguments += ["-keylogfile", str(key_log)]
        with run(["openssl", "s_server", *arguments, *options]) as program:
            yield OpenSsl(program, key_log)


PSK_OPTIONS: Sequence[str] = (
    "-psk",
    PSK.hex(),
    "-psk_identity",
    IDENTITY,
    "-ciphersuites",
    f"{GCM}:{CCM}",
)
"""For openssl: the external PSK of the experiments."""
