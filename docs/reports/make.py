"""Run the suite against the implementations at hand, and write the reports that stand beside this.

    .venv/bin/python docs/reports/make.py [NAME …]

Each report is a page of HTML, and a line in README.md. Everything is on loopback.
"""

from __future__ import annotations

import json
import os
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
PEERS: Final = "docs/reports/peers"
PYTHON: Final = "python"
"""The one that runs this, found by `ENVIRONMENT`; reports name no path of this machine."""
ENVIRONMENT: Final = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
}
TLSCONFORM: Final = (PYTHON, "-m", "tlsconform.cli")
START: Final = 10.0
"""Seconds that a server may take until it listens."""


@dataclass(frozen=True)
class Subject:
    """An implementation in one role. A server's `command` names {port}, or prints the port."""

    name: str
    role: str
    version: tuple[str, ...]
    command: str
    resume: str | None = None
    early_data: str | None = None
    workers: int = 1


OPENSSL: Final = ("openssl", "version")
GNUTLS: Final = ("gnutls-cli", "--version")
CPYTHON: Final = (
    PYTHON,
    "-c",
    "import sys, ssl; print('CPython', sys.version.split()[0], 'with', ssl.OPENSSL_VERSION)",
)
TLSLITE: Final = (
    PYTHON,
    "-c",
    "from importlib.metadata import version as v; print('tlslite-ng', v('tlslite-ng'))",
)
S_CLIENT: Final = "openssl s_client -connect {host}:{port} -CAfile {ca} -verify_return_error -quiet"

SUBJECTS: Final = (
    Subject(
        "openssl-server",
        "server",
        OPENSSL,
        "openssl s_server -accept 127.0.0.1:{port} -cert {cert} -key {key} -rev -quiet",
    ),
    Subject(
        "openssl-client",
        "client",
        OPENSSL,
        S_CLIENT + " -sess_out {session}",
        S_CLIENT + " -sess_in {session}",
        S_CLIENT + " -sess_in {session} -early_data {early_data}",
    ),
    Subject(
        "gnutls-server",
        "server",
        GNUTLS,
        "gnutls-serv --quiet --echo --port {port} --x509certfile {cert} --x509keyfile {key}",
    ),
    Subject(
        "gnutls-client",
        "client",
        GNUTLS,
        "gnutls-cli --port {port} --x509cafile {ca} {host}",
    ),
    Subject(
        "tlslite-server", "server", TLSLITE, f"{PYTHON} {PEERS}/tlslite_server.py {{cert}} {{key}}"
    ),
    Subject(
        "tlslite-client", "client", TLSLITE, f"{PYTHON} {PEERS}/tlslite_client.py {{host}} {{port}}"
    ),
    Subject(
        "cpython-server", "server", CPYTHON, f"{PYTHON} {PEERS}/cpython_server.py {{cert}} {{key}}"
    ),
    Subject(
        "cpython-client",
        "client",
        CPYTHON,
        f"{PYTHON} {PEERS}/cpython_client.py {{host}} {{port}} {{ca}}",
    ),
)


def version_of(subject: Subject) -> str:
    """What the program says that it is, in a line."""
    said = subprocess.run(
        subject.version, capture_output=True, text=True, check=True, env=ENVIRONMENT
    ).stdout
    return said.splitlines()[0].partition(" (")[0]


@contextmanager
def serving(subject: Subject, folder: Path) -> Iterator[int]:
    """The server under test, until the end of the block; its port."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    fields = {"port": port, "cert": folder / "cert.pem", "key": folder / "key.pem"}
    words = [word.format(**fields) for word in shlex.split(subject.command)]
    prints = "{port}" not in subject.command
    output = subprocess.PIPE if prints else subprocess.DEVNULL
    with subprocess.Popen(
        words,
        stdin=subprocess.PIPE,
        stdout=output,
        stderr=subprocess.DEVNULL,
        text=True,
        cwd=ROOT,
        env=ENVIRONMENT,
    ) as server:
        try:
            yield int(server.stdout.readline()) if server.stdout is not None else _wait_for(port)
        finally:
            server.kill()


def _wait_for(port: int) -> int:
    deadline = time.monotonic() + START
    while time.monotonic() < deadline:
        try:
            socket.create_connection(("127.0.0.1", port), 1.0).close()
        except OSError:
            time.sleep(0.1)
        else:
            return port
    raise SystemExit(f"nothing listens on port {port}")


def certificate(folder: Path) -> None:
    """A certificate for the servers under test."""
    command = "openssl req -x509 -newkey rsa:2048 -noenc -days 30 -subj /CN=localhost"
    command += " -addext subjectAltName=DNS:localhost -keyout key.pem -out cert.pem"
    subprocess.run(shlex.split(command), cwd=folder, check=True, capture_output=True)


def examine(subject: Subject, rfc: str, folder: Path) -> dict[str, object]:
    """Run the suite; the JSON report, which is not kept, and the page, which is."""
    result = folder / f"{subject.name}-{rfc}.json"
    options = ["--rfc", rfc, "--json", str(result), "--timeout", "1.5"]
    if rfc == "9846":
        options += ["--html", str(HERE / f"{subject.name}.html")]
    if subject.role == "server":
        with serving(subject, folder) as port:
            _run(["server", f"localhost:{port}", "-n", str(subject.workers), *options])
    else:
        command = ["client", "--command", subject.command, "-n", "4"]
        command += ["--resume-command", subject.resume] if subject.resume else []
        command += ["--early-data-command", subject.early_data] if subject.early_data else []
        _run([*command, *options])
    found: dict[str, object] = json.loads(result.read_text())
    return found


def _run(arguments: Sequence[str]) -> None:
    ended = subprocess.run(
        [*TLSCONFORM, *arguments],
        capture_output=True,
        text=True,
        check=False,
        cwd=ROOT,
        env=ENVIRONMENT,
    )
    if ended.returncode not in (0, 1):
        raise SystemExit(ended.stdout[-2000:] + ended.stderr[-2000:])


def main() -> None:
    """Run what is named, or all; print a line of the table for each."""
    wanted = sys.argv[1:] or [subject.name for subject in SUBJECTS]
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        certificate(folder)
        for subject in SUBJECTS:
            if subject.name in wanted:
                for rfc in ("9846", "8446"):
                    report = examine(subject, rfc, folder)
                    print(line(subject, rfc, report), flush=True)


def line(subject: Subject, rfc: str, report: dict[str, object]) -> str:
    """One row of the table in README.md."""
    requirements, tests = report["requirements"], report["tests"]
    if not isinstance(requirements, list) or not isinstance(tests, list):
        raise SystemExit("not a report")
    counts = Counter(each["verdict"] for each in requirements)
    cells = [counts[v] for v in ("conforms", "violates", "deviates", "not applicable", "untested")]
    return (
        f"| [{version_of(subject)}, {subject.role}]({subject.name}.html) | {rfc} | "
        + " | ".join(map(str, [*cells, len(tests), report["seconds"]]))
        + " |"
    )


if __name__ == "__main__":
    main()
