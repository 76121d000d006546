"""Mutants: copies of the reference with one small bug each, and the suite's verdict on them.

The copy gets another name, `tpmtls_mutant`, so that the suite's own peers, which stand on the lower
layers of the reference, stay as they are: a bug in the key schedule is then one side's only.
"""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import tempfile
import tomllib
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

import tpmtls
from tlsconform.requirements.coverage import suite_folder
from tlsconform.targets import inprocess

BUGS = Path(__file__).with_name("mutants.toml")
KILLERS = Path(__file__).with_name("killers.json")
"""Which test killed which mutant when they were last all run: where to look first."""
REFERENCE = Path(tpmtls.__file__).parent
NAME = "tpmtls_mutant"
TARGET = f"{NAME}_target"
TIME_LIMIT = 50.0
"""Seconds for one mutant, tests included."""


@dataclass(frozen=True)
class Mutant:
    """A bug: in `file` of the reference, `old` (which stands there once) becomes `new`."""

    name: str
    role: Literal["client", "server"]
    file: str
    old: str
    new: str


def mutants() -> list[Mutant]:
    """The bugs of `mutants.toml`."""
    return [Mutant(**table) for table in tomllib.loads(BUGS.read_text("utf-8"))["mutant"]]


@dataclass(frozen=True)
class Outcome:
    """What the suite made of a mutant: the test that killed it, or what it said instead."""

    killer: str | None
    output: str


def known_killers() -> dict[str, str]:
    """Mutant → the test that killed it, from `killers.json`."""
    found: dict[str, str] = json.loads(KILLERS.read_text("utf-8")) if KILLERS.exists() else {}
    return found


def examine(mutant: Mutant, first: str | None = None) -> Outcome:
    """Run the suite of the mutant's role on it, up to the first violation.

    `first` is a test that is tried alone before all the others are.
    """
    with tempfile.TemporaryDirectory(prefix="mutant-") as folder:
        build(mutant, Path(folder))
        if first is not None:
            outcome = _run(Path(folder), suite_folder() / first)
            if outcome.killer is not None:
                return outcome
        return _run(Path(folder), suite_folder() / mutant.role)


def _run(folder: Path, tests: Path) -> Outcome:
    report, suite = folder / "report.json", suite_folder()
    command = [sys.executable, "-m", "pytest", str(tests), "-c", os.devnull]
    command += ["--rootdir", str(suite), "-p", "no:cacheprovider", "-x", "-q", "--tb=short"]
    command += ["--tls-self", "software", "--tls-self-module", TARGET, "--tls-json", str(report)]
    environment = os.environ | {"PYTHONPATH": str(folder), "PYTHONDONTWRITEBYTECODE": "1"}
    try:
        ended = subprocess.run(
            command,
            env=environment,
            capture_output=True,
            text=True,
            timeout=TIME_LIMIT,
            check=False,
        )
    except subprocess.TimeoutExpired as error:
        return Outcome(None, f"not over after {TIME_LIMIT:g} s: {error.stdout!r}")
    return Outcome(_killer(report), ended.stdout + ended.stderr)


def _killer(report: Path) -> str | None:
    """The first test that claims a violation; one that could not run has killed nothing."""
    if not report.exists():
        return None
    tests = json.loads(report.read_text())["tests"]
    return next((test["test"] for test in tests if test["verdict"] == "violates"), None)


def build(mutant: Mutant, folder: Path) -> None:
    """Write the mutated copy and its target module; ValueError where the bug does not fit."""
    for path in REFERENCE.rglob("*.py"):
        relative = path.relative_to(REFERENCE)
        text = path.read_text("utf-8")
        if relative.as_posix() == mutant.file:
            if text.count(mutant.old) != 1:
                raise ValueError(f"{mutant.name}: {text.count(mutant.old)} places in {mutant.file}")
            text = text.replace(mutant.old, mutant.new)
        copy = folder / NAME / relative
        copy.parent.mkdir(parents=True, exist_ok=True)
        copy.write_text(renamed(text), "utf-8")
    target = Path(inprocess.__file__).read_text("utf-8")
    Path(folder, f"{TARGET}.py").write_text(renamed(target), "utf-8")


def renamed(text: str) -> str:
    """The same module, importing from the copy."""
    return re.sub(r"^(\s*(?:from|import) )tpmtls\b", rf"\1{NAME}", text, flags=re.MULTILINE)
