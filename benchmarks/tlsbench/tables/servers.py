"""Servers with their keys in one swtpm, over loopback: tpmtls serve beside openssl's s_server."""

from __future__ import annotations

import socket
import ssl
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tlsbench.measure import WALL, Effort, Missing, Probe, Progress, interleave
from tlsbench.programs import PATIENCE, failure, served
from tlsbench.results import Row, Table, figures, rate, target
from tlsbench.stacks.base import HOST
from tlsbench.swtpm import Swtpm

COLUMN = "rate"
CASE = "P-256, a TCP connection each"
KEY = "handle:0x81000001"
OURS = "tpmtls: sign,ecdhe,hkdf,aead"
THEIRS = "tpm2-openssl: sign, ecdhe"
ABOUT = (
    "Full handshakes with a client of CPython's `ssl`, one after the other, each over a TCP "
    "connection of its own, on the wall. Each server is a process; all use one swtpm, and a key at "
    "a persistent handle in it. `tpmtls serve` runs with the levels named; `openssl s_server` with "
    "the provider tpm2-openssl, first for signing alone, then with key agreement in the TPM too."
)


@dataclass(frozen=True, slots=True)
class Program:
    """A server to be started; `{port}` and `{cert}` stand for what they are."""

    name: str
    command: tuple[str, ...]


_SERVE = (
    *(sys.executable, "-m", "tpmtls.cli", "serve", "--listen", "127.0.0.1:{port}"),
    *("--cert", "{cert}", "--key", KEY, "--groups", "secp256r1", "--tickets", "0"),
    *("--backend", "tpm", "--protect"),
)
_S_SERVER = (
    *("openssl", "s_server", "-accept", "127.0.0.1:{port}", "-cert", "{cert}", "-key", KEY),
    *("-tls1_3", "-num_tickets", "0", "-quiet", "-groups", "P-256"),
    *("-provider", "default", "-provider", "tpm2", "-propquery"),
)
PROGRAMS = (
    Program(OURS, (*_SERVE, "sign,ecdhe,hkdf,aead")),
    Program("tpmtls: sign,ecdhe", (*_SERVE, "sign,ecdhe")),
    Program("tpmtls: sign", (*_SERVE, "sign")),
    Program("tpm2-openssl: sign", (*_S_SERVER, "?tpm2.signature")),
    Program(THEIRS, (*_S_SERVER, "?provider=tpm2,tpm2.digest!=yes,tpm2.cipher!=yes")),
)


def measure(effort: Effort, progress: Progress) -> Table:
    """The table."""
    rows: list[Row] = []
    probes: dict[str, Probe] = {}
    try:
        with ExitStack() as stack:
            swtpm = stack.enter_context(_swtpm())
            certificate = _certificate(swtpm)
            for program in PROGRAMS:
                try:
                    probes[program.name] = stack.enter_context(_served(program, swtpm, certificate))
                except Missing as reason:
                    rows.append(Row(CASE, program.name, absent=str(reason)))
            turns = interleave(probes, effort, progress, "servers")
    except Missing as reason:
        return _table([Row(CASE, program.name, absent=str(reason)) for program in PROGRAMS])
    others = [program.name for program in PROGRAMS[1:]]
    measured, ratios = figures(turns, CASE, (COLUMN,), rate(), beside=others, subject=OURS)
    table = _table(measured + rows)
    text = "server with all levels, beside tpm2-openssl with sign and ECDHE alone, on one swtpm"
    return Table(
        name=table.name,
        title=table.title,
        about=ABOUT,
        columns=table.columns,
        rows=table.rows,
        ratios=ratios,
        targets=(target(text, "at least", 3, ratios, beside=THEIRS),),
    )


def _table(rows: Sequence[Row]) -> Table:
    return Table(
        name="servers",
        title="Servers on one swtpm",
        about=ABOUT,
        columns={COLUMN: "handshakes/s"},
        rows=rows,
    )


@contextmanager
def _swtpm() -> Iterator[Swtpm]:
    with (
        tempfile.TemporaryDirectory(prefix="tlsbench-") as folder,
        Swtpm(Path(folder) / "swtpm") as server,
    ):
        yield server


def _certificate(swtpm: Swtpm) -> Path:
    """A key in the TPM, and a certificate for it."""
    path = swtpm.folder / "cert.pem"
    for command in (
        ("create", "--handle", KEY.removeprefix("handle:")),
        ("cert", "--key", KEY, "--name", HOST, "--out", str(path)),
    ):
        full = (sys.executable, "-m", "tpmtls.cli", "key", *command, "--tcti", swtpm.tcti)
        done = subprocess.run(full, capture_output=True, text=True, check=False)
        if done.returncode:
            raise failure(done)
    return path


@contextmanager
def _served(program: Program, swtpm: Swtpm, certificate: Path) -> Iterator[Probe]:
    """The server, running, and handshakes with it; Missing where none completes."""
    context = ssl.create_default_context(cafile=str(certificate))
    context.set_ecdh_curve("prime256v1")
    command = [part.replace("{cert}", str(certificate)) for part in program.command]
    tcti = {"TPM2TOOLS_TCTI": swtpm.tcti, "TPM2OPENSSL_TCTI": swtpm.tcti}
    with served(command, tcti) as port:

        def handshake() -> None:
            with (
                socket.create_connection(("127.0.0.1", port), PATIENCE) as connection,
                context.wrap_socket(connection, server_hostname=HOST),
            ):
                pass

        def probe(count: int) -> Sequence[float]:
            handshake()  # the others let go of the TPM
            start = WALL()
            for _ in range(count):
                handshake()
            return (WALL() - start,)

        handshake()
        yield probe
