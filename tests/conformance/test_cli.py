"""`tlsconform` as users run it: on targets that behave, hang, crash, or are not there."""

from __future__ import annotations

import json
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from xml.etree import ElementTree

import pytest

from tests.pki import Pki
from tpmtls import Credential, ServerConfig, serve

ONE_TEST = ("-k", "test_compression_methods", "-n", "1")


def tlsconform(*arguments: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "tlsconform.cli", *arguments]
    return subprocess.run(command, capture_output=True, text=True, timeout=100, check=False)


def test_without_the_extra() -> None:
    code = """
import sys
sys.modules["pytest"] = None
from tlsconform.cli import main
sys.exit(main())
"""
    command = [sys.executable, "-c", code, "vectors"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.returncode == 2
    assert done.stderr == (
        "tlsconform needs pytest: install tpmtls with the extra, tpmtls[conformance]\n"
    )


@contextmanager
def listening(answer: Callable[[socket.socket], None]) -> Iterator[str]:
    """A server of one's own making, until the end of the block."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.1)
        over = threading.Event()

        def run() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    answer(connection)

        thread = threading.Thread(target=run)
        thread.start()
        try:
            yield f"127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


@pytest.fixture
def ours(pki: Pki) -> Iterator[str]:
    files = pki.server("p256")
    config = ServerConfig(credentials=(Credential.load(files.chain, files.key),))

    def echo(stream) -> None:
        while data := stream.recv():
            stream.sendall(data)

    with serve(("127.0.0.1", 0), config, echo) as server:
        yield f"127.0.0.1:{server.address[1]}"


def test_a_server_that_conforms(ours: str, tmp_path: Path) -> None:
    files = {name: tmp_path / f"report.{name}" for name in ("json", "html", "xml")}
    ended = tlsconform(
        "server", ours, *ONE_TEST, "--json", str(files["json"]), "--html", str(files["html"]),
        "--junitxml", str(files["xml"]),
    )  # fmt: skip
    assert ended.returncode == 0, ended.stdout + ended.stderr
    assert " 0 violates" in ended.stdout
    report = json.loads(files["json"].read_text())
    assert {test["verdict"] for test in report["tests"]} == {"conforms", "not applicable"}
    assert report["targets"][0]["features"]["responds"] is True
    suites = ElementTree.parse(files["xml"]).getroot().iter("testsuite")
    assert [suite.get("tests") for suite in suites] == [str(len(report["tests"]))]
    again = tlsconform("report", str(files["json"]))
    assert again.returncode == 0
    assert " 0 violates" in again.stdout


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (("server", "nowhere"), 2, "is not HOST:PORT"),
        (("server", "localhost:4433", "--timeout", "0"), 2, "--timeout"),
        (("server", "localhost:4433", "-n", "many"), 2, "-n takes"),
        (("server", "localhost:4433", "--expect", "/no/such"), 2, "cannot read /no/such"),
        (("server", "localhost:4433", "--json", "/no/such/file"), 2, "no folder"),
        (("client", "--command", "x {host}"), 2, "{port}"),
        (("client", "--command", "x {port} {nonsense}"), 2, "nonsense"),
        (("client", "--command", "/no/such/program {port}"), 3, "cannot run /no/such/program"),
        (("client", "--command", "true {port}"), 3, "did not connect"),
        (("report", "/no/such"), 2, "cannot read /no/such"),
        (("self", "--backend", "nonsense"), 2, "nonsense"),
    ],
)
def test_bad_input_is_one_line(arguments: tuple[str, ...], status: int, said: str) -> None:
    ended = tlsconform(*arguments)
    output = ended.stdout + ended.stderr
    assert ended.returncode == status, output
    assert said in output
    assert "Traceback" not in output


def test_nobody_listens() -> None:
    with socket.create_server(("127.0.0.1", 0)) as listener:
        port = listener.getsockname()[1]
    ended = tlsconform("server", f"127.0.0.1:{port}")
    assert ended.returncode == 3
    assert "cannot connect" in ended.stdout + ended.stderr


@pytest.mark.parametrize(
    "answer",
    [
        lambda connection: connection.recv(1),
        lambda connection: connection.sendall(b"HTTP/1.0 400 Bad Request\r\n\r\n"),
        lambda connection: None,
    ],
    ids=["resets", "speaks HTTP", "closes"],
)
def test_what_is_no_tls_server(answer: Callable[[socket.socket], None]) -> None:
    with listening(answer) as address:
        ended = tlsconform("server", address, "--timeout", "0.5")
    assert ended.returncode == 3
    assert "completes no TLS 1.3 handshake" in ended.stdout + ended.stderr


def test_a_client_of_ours(tmp_path: Path) -> None:
    command = f"{sys.executable} -m tpmtls.cli connect {{host}}:{{port}} --ca {{ca}}"
    report = tmp_path / "report.json"
    ended = tlsconform(
        "client",
        "--command",
        command,
        "-k",
        "test_session_id_echo",
        "-n",
        "1",
        "--json",
        str(report),
    )
    assert ended.returncode == 0, ended.stdout + ended.stderr
    tests = json.loads(report.read_text())["tests"]
    assert {test["verdict"] for test in tests} == {"conforms"}
