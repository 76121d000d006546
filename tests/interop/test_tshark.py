"""Wireshark's dissector decrypts what ours sent, by our key log, and finds nothing malformed."""

from __future__ import annotations

import os
import re
import shutil
import signal
import socket
import subprocess
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

import pytest

from tests.interop.cases import exchange
from tests.interop.peers.interface import HOST, PATIENCE, Client, Server, Settings, message
from tests.interop.peers.ours import Ours
from tests.interop.peers.process import output
from tests.pki import Pki
from tests.table import NameRow

SUITES = Ours.as_client.suites
HANDSHAKE = {
    1: "ClientHello",
    2: "ServerHello",
    4: "NewSessionTicket",
    8: "EncryptedExtensions",
    11: "Certificate",
    13: "CertificateRequest",
    15: "CertificateVerify",
    20: "Finished",
    24: "KeyUpdate",
}
ONE_CONNECTION = Counter(
    {
        "ClientHello": 2,
        "ServerHello": 2,  # the first of them is a HelloRetryRequest
        "EncryptedExtensions": 1,
        "CertificateRequest": 1,
        "Certificate": 2,
        "CertificateVerify": 2,
        "Finished": 2,
        "NewSessionTicket": 2,
        "KeyUpdate": 2,
    }
)


@pytest.fixture(scope="module")
def capture(pki: Pki, tmp_path_factory: pytest.TempPathFactory) -> Capture:
    """One connection of ours per suite, with all that a handshake can have."""
    if not shutil.which("tshark"):
        pytest.skip("tshark is not installed")
    folder = tmp_path_factory.mktemp("capture")
    key_log = folder / "keys"
    shared = Settings(trust=pki.ca, groups=("x25519", "secp256r1"))
    server_settings = Settings(
        credential=pki.chained(),
        trust=pki.ca,
        suites=SUITES,
        groups=("secp256r1",),
        client_auth="require",
        connections=len(SUITES),
    )
    ours = Ours()
    with (
        pytest.MonkeyPatch.context() as patch,
        ours.serve(server_settings) as server,
        _capturing(folder / "capture.pcapng", server.port) as path,
    ):
        patch.setenv("SSLKEYLOGFILE", str(key_log))
        for suite in SUITES:
            settings = Settings(
                **vars(shared)
                | {"suites": (suite,), "key_shares": ("x25519",), "credential": pki.client()}
            )
            with ours.connect(server.port, settings) as client:
                _converse(client, server, suite)
        server.finish()
    return Capture(path, key_log, server.port)


def _converse(client: Client, server: Server, suite: str) -> None:
    exchange(client, 500, 500, f"{suite} before")
    client.rekey(request=True)
    exchange(client, 40_000, 40_000, f"{suite} after")
    client.close()


# --- capturing ----------------------------------------------------------------------------------


@contextmanager
def _capturing(path: Path, port: int) -> Iterator[Path]:
    """Capture that port's traffic; the file is complete after the block."""
    with socket.create_server((HOST, 0)) as marks:
        marks.settimeout(PATIENCE)
        marked: int = marks.getsockname()[1]
        expression = f"tcp port {port} or tcp port {marked}"
        with (path.parent / "tshark.log").open("wb") as log:
            tshark = subprocess.Popen(
                ["tshark", "-i", "lo", "-f", expression, "-w", path],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
            )
        try:
            _mark(b"the capture has begun", path, marks, tshark)
            yield path
            _mark(b"the capture may end", path, marks, tshark)
        finally:
            with suppress(ProcessLookupError):
                tshark.send_signal(signal.SIGINT)
            try:
                tshark.wait(PATIENCE)
            finally:
                tshark.kill()


def _mark(text: bytes, path: Path, marks: socket.socket, tshark: subprocess.Popen[bytes]) -> None:
    """Send something until the capture has it, and so all that was sent before."""
    deadline = time.monotonic() + PATIENCE
    while not (path.exists() and text in path.read_bytes()):
        if tshark.poll() is not None:
            log = (path.parent / "tshark.log").read_text(errors="replace")
            pytest.skip(f"no permission to capture: {log.strip().splitlines()[-1]}")
        if time.monotonic() > deadline:
            pytest.fail(f"{text!r} never arrived in the capture")
        with socket.create_connection(marks.getsockname()) as sender:
            receiver, _address = marks.accept()
            with receiver:
                sender.sendall(text)
                receiver.recv(100)
        time.sleep(0.1)


# --- reading what was captured ------------------------------------------------------------------


class Capture:
    def __init__(self, path: Path, key_log: Path, port: int) -> None:
        self._path = path
        self.key_log = key_log
        self.port = port

    def dissect(self, *arguments: str, keys: Path | None = None) -> str:
        """What tshark says of the capture, read with the keys."""
        done = subprocess.run(
            [
                *("tshark", "-n", "-2", "-r", self._path),
                *("-d", f"tcp.port=={self.port},tls"),
                *("-o", f"tls.keylog_file:{keys or self.key_log}"),
                *arguments,
            ],
            env=os.environ | {"LC_ALL": "C"},
            capture_output=True,
            text=True,
            timeout=3 * PATIENCE,
            check=True,
        )
        return done.stdout

    def handshake_messages(self, keys: Path | None = None) -> dict[str, Counter[str]]:
        """How often each message was seen in each TCP stream."""
        fields = self.dissect(
            *("-Y", "tls.handshake.type", "-T", "fields"),
            *("-e", "tcp.stream", "-e", "tls.handshake.type"),
            keys=keys,
        )
        seen: dict[str, Counter[str]] = {}
        for line in fields.splitlines():
            stream, types = line.split("\t")
            seen.setdefault(stream, Counter()).update(
                HANDSHAKE.get(int(number), number) for number in types.split(",")
            )
        return seen


@pytest.fixture(autouse=True)
def _row(row: NameRow) -> None:
    version = output("tshark", "--version").partition("TShark (Wireshark) ")[2].split(" ")[0]
    row(what="capture of ours, read with our key log", against="tshark", version=version)


def test_every_handshake_message_is_decrypted(capture: Capture) -> None:
    seen = capture.handshake_messages()
    assert len(seen) == len(SUITES)
    for stream, messages in seen.items():
        assert messages == ONE_CONNECTION, f"stream {stream}"


def test_nothing_is_decrypted_without_keys(capture: Capture, tmp_path: Path) -> None:
    """Else the test above would say nothing about the key log."""
    empty = tmp_path / "keys"
    empty.touch()
    for messages in capture.handshake_messages(empty).values():
        assert messages == Counter({"ClientHello": 2, "ServerHello": 2})


def test_suites_are_as_asked_for(capture: Capture) -> None:
    hellos = capture.dissect(
        *("-Y", "tls.handshake.type == 2", "-T", "fields", "-e", "tls.handshake.ciphersuite")
    )
    chosen = Counter(int(line, 16) for line in hellos.split())
    assert chosen == Counter({0x1301: 2, 0x1302: 2, 0x1303: 2, 0x1304: 2, 0x1305: 2})


def test_application_data_is_decrypted(capture: Capture) -> None:
    for stream, suite in zip(sorted(map(int, capture.handshake_messages())), SUITES, strict=True):
        followed = capture.dissect("-q", "-z", f"follow,tls,raw,{stream}")
        lines = followed.splitlines()[6:-1]
        there = bytes.fromhex("".join(line for line in lines if not line.startswith("\t")))
        back = bytes.fromhex("".join(line[1:] for line in lines if line.startswith("\t")))
        sent = message(500, f"{suite} before/0") + message(40_000, f"{suite} after/0")
        assert there == sent
        assert back == sent


def test_nothing_is_malformed(capture: Capture) -> None:
    report = capture.dissect("-q", "-z", "expert")
    entries = re.findall(r"(?m)^ +\d+ +(\w+) +(\S+) +(.*)$", report)
    assert entries, report
    assert {protocol for _group, protocol, _summary in entries} == {"TCP"}, report
    assert "Malformed" not in {group for group, _protocol, _summary in entries}, report
