"""Run the suite against the implementations at hand, and write the reports that stand beside this.

    .venv/bin/python docs/reports/make.py [--json FOLDER] [--timeout SECONDS] [NAME …]

Each subject's report is a page of HTML, and an entry of `results.json`, which `notes.py` makes
README.md from. FOLDER keeps the whole reports; those that it has already are not made again.
Everything is on loopback.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import shlex
import socket
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from tlsconform.report.html import BRIEF, page
from tlsconform.report.model import Report

HERE: Final = Path(__file__).resolve().parent
ROOT: Final = HERE.parents[1]
PEERS: Final = "docs/reports/peers"
PYTHON: Final = "python"
"""The one that runs this, found by `ENVIRONMENT`; reports name no path of this machine."""
ENVIRONMENT: Final = os.environ | {
    "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}"
}
RESULTS: Final = HERE / "results.json"
TIMEOUT: Final = 3.0
"""Seconds that silence may last: much, since a target that is slow must not look silent."""
TLSCONFORM: Final = (PYTHON, "-m", "tlsconform.cli")
START: Final = 10.0
"""Seconds that a server may take until it listens."""


@dataclass(frozen=True)
class Subject:
    """An implementation in one role. A server's `command` names {port}, or prints the port."""

    name: str
    title: str
    role: str
    version: tuple[str, ...]
    command: str
    resume: str | None = None
    early_data: str | None = None
    workers: int = 1


OPENSSL: Final = ("openssl", "version")
GNUTLS: Final = ("sh", "-c", "gnutls-cli --version | sed 's/^gnutls-cli/GnuTLS/'")
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
        "OpenSSL, server",
        "server",
        OPENSSL,
        "openssl s_server -accept 127.0.0.1:{port} -cert {cert} -key {key} -rev -quiet",
    ),
    Subject(
        "openssl-client",
        "OpenSSL, client",
        "client",
        OPENSSL,
        S_CLIENT + " -sess_out {session}",
        S_CLIENT + " -sess_in {session}",
        S_CLIENT + " -sess_in {session} -early_data {early_data}",
    ),
    Subject(
        "gnutls-server",
        "GnuTLS, server",
        "server",
        GNUTLS,
        "gnutls-serv --quiet --echo --port {port} --x509certfile {cert} --x509keyfile {key}",
    ),
    Subject(
        "gnutls-client",
        "GnuTLS, client",
        "client",
        GNUTLS,
        "gnutls-cli --port {port} --x509cafile {ca} {host}",
    ),
    Subject(
        "tlslite-server",
        "tlslite-ng, server",
        "server",
        TLSLITE,
        f"{PYTHON} {PEERS}/tlslite_server.py {{cert}} {{key}}",
    ),
    Subject(
        "tlslite-client",
        "tlslite-ng, client",
        "client",
        TLSLITE,
        f"{PYTHON} {PEERS}/tlslite_client.py {{host}} {{port}}",
    ),
    Subject(
        "cpython-server",
        "CPython's ssl, server",
        "server",
        CPYTHON,
        f"{PYTHON} {PEERS}/cpython_server.py {{cert}} {{key}}",
    ),
    Subject(
        "cpython-client",
        "CPython's ssl, client",
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


def examine(subject: Subject, rfc: str, folder: Path, timeout: float) -> dict[str, Any]:
    """Run the suite, unless there is a report of that; the report."""
    file = folder / f"{subject.name}-{rfc}.json"
    if not file.exists():
        options = ["--rfc", rfc, "--json", str(file), "--timeout", str(timeout)]
        if subject.role == "server":
            with serving(subject, folder) as port:
                _run(["server", f"localhost:{port}", "-n", str(subject.workers), *options])
        else:
            command = ["client", "--command", subject.command, "-n", "4"]
            command += ["--resume-command", subject.resume] if subject.resume else []
            command += ["--early-data-command", subject.early_data] if subject.early_data else []
            _run([*command, *options])
    found: dict[str, Any] = json.loads(file.read_text("utf-8"))
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


def write_page(report: dict[str, Any], file: Path) -> None:
    """The brief page; a server's port, which is another each time, is left out."""
    text = page(Report.from_json(report), BRIEF)
    file.write_text(re.sub(r"localhost:\d+", "localhost:PORT", text), "utf-8")


def in_short(report: dict[str, Any]) -> dict[str, Any]:
    """What `results.json` keeps of a run."""
    verdicts = {each["id"]: each["verdict"] for each in report["requirements"]}
    return {
        "date": report["date"][:10],
        "tests": len(report["tests"]),
        "seconds": round(report["seconds"]),
        "counts": dict(Counter(verdicts.values())),
        "claims": {k: v for k, v in verdicts.items() if v in ("violates", "deviates")},
    }


def write(subject: Subject, reports: dict[str, dict[str, Any]]) -> None:
    """The page, and the subject's entry of `results.json`."""
    write_page(reports["9846"], HERE / f"{subject.name}.html")
    known = json.loads(RESULTS.read_text("utf-8")) if RESULTS.exists() else {}
    known[subject.name] = {
        "title": subject.title,
        "version": version_of(subject),
        "command": subject.command,
        "runs": {rfc: in_short(report) for rfc, report in reports.items()},
    }
    names = [each.name for each in SUBJECTS]
    known = {name: known[name] for name in names if name in known}
    RESULTS.write_text(json.dumps(known, indent=1) + "\n", "utf-8")


def main() -> None:
    """Run what is named, or all."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("names", nargs="*", metavar="NAME")
    parser.add_argument("--json", type=Path, metavar="FOLDER")
    parser.add_argument("--timeout", type=float, default=TIMEOUT, metavar="SECONDS")
    arguments = parser.parse_args()
    kept = nullcontext(arguments.json) if arguments.json else tempfile.TemporaryDirectory()
    with kept as name:
        folder = Path(name)
        if not (folder / "cert.pem").exists():
            certificate(folder)
        for subject in SUBJECTS:
            if subject.name in (arguments.names or [each.name for each in SUBJECTS]):
                reports = {
                    rfc: examine(subject, rfc, folder, arguments.timeout)
                    for rfc in ("9846", "8446")
                }
                write(subject, reports)
                print(subject.name, in_short(reports["9846"])["counts"], flush=True)


if __name__ == "__main__":
    main()
