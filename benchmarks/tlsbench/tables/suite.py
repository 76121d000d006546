"""The conformance suite: tests per second, against servers on this machine and in process."""

from __future__ import annotations

import subprocess
import sys
import tempfile
from pathlib import Path

from tlsbench.measure import WALL, Effort, Missing, Progress, Spread
from tlsbench.programs import failure, served
from tlsbench.results import Row, Table
from tlsbench.stacks import certificates
from tlsbench.stacks.base import Files

RATE, TESTS = "rate", "tests"
PART = "test_4_2_3"
IN_PROCESS = "tpmtls, in process"
TIMEOUT = 300.0
ABOUT = (
    "Tests of `tlsconform` per second on the wall, one process, start-up and the questions before "
    "the first test included; those that are not applicable count too. “openssl s_server” and "
    "`tpmtls serve` listen on loopback; in process there is no transport."
)


def measure(effort: Effort, progress: Progress) -> Table:
    """The table."""
    keyword = PART if effort.quick else None
    case = "tests of ServerHello alone" if keyword else "all tests"
    rounds = 1 if keyword else min(effort.rounds, 2)
    rows = []
    with certificates() as files:
        for name, command in _servers(files)[: 1 if effort.quick else None]:
            progress.say(f"suite: {name}")
            try:
                with served(command) as port:
                    target = ["server", f"localhost:{port}"]
                    figures = _figures([_run(target, keyword) for _ in range(rounds)])
            except Missing as reason:
                rows.append(Row(case, name, absent=str(reason)))
            else:
                rows.append(Row(case, name, figures))
        progress.say(f"suite: {IN_PROCESS}")
        try:
            figures = _figures([_run(["self"], keyword) for _ in range(rounds)])
            rows.append(Row(case, IN_PROCESS, figures))
        except Missing as reason:
            rows.append(Row(case, IN_PROCESS, absent=str(reason)))
    return Table(
        name="suite",
        title="The conformance suite",
        about=ABOUT,
        columns={RATE: "tests/s", TESTS: ""},
        rows=rows,
    )


def _servers(files: Files) -> list[tuple[str, list[str]]]:
    """The servers to ask, as commands."""
    credential = ["-cert", str(files.chain), "-key", str(files.key)]
    openssl = ["openssl", "s_server", "-accept", "{port}", "-rev", "-quiet", *credential]
    ours = [
        *(sys.executable, "-m", "tpmtls.cli", "serve", "--listen", "127.0.0.1:{port}"),
        *("--cert", str(files.chain), "--key", str(files.key)),
    ]
    return [("openssl s_server", openssl), ("tpmtls serve", ours)]


def _run(target: list[str], keyword: str | None) -> tuple[float, float]:
    """Tests per second, and how many there are."""
    with tempfile.TemporaryDirectory(prefix="tlsbench-") as folder:
        file = Path(folder) / "junit.xml"
        command = [
            sys.executable,
            "-m",
            "tlsconform.cli",
            *target,
            "--junitxml",
            str(file),
            "-n",
            "1",
        ]
        command += ["-k", keyword] if keyword else []
        start = WALL()
        try:
            done = subprocess.run(
                command, capture_output=True, text=True, check=False, timeout=TIMEOUT, cwd=folder
            )
        except subprocess.TimeoutExpired:
            raise Missing(f"the tests took more than {TIMEOUT:g} s") from None
        spent = WALL() - start
        if not file.exists():
            raise failure(done)
        number = file.read_text("utf-8").count("<testcase ")
    return number / spent, float(number)


def _figures(runs: list[tuple[float, float]]) -> dict[str, Spread]:
    rates, numbers = zip(*runs, strict=True)
    return {RATE: Spread.of(rates), TESTS: Spread.of(numbers)}
