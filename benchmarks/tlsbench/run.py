"""A run: the tables that are asked for, one after the other."""

from __future__ import annotations

import os
import platform
import shutil
import subprocess
from collections.abc import Callable, Sequence
from importlib import import_module, metadata
from pathlib import Path
from typing import Final

from tlsbench.measure import FULL, QUICK, SMOKE, Effort, Missing, Progress
from tlsbench.results import Report, Row, Table
from tlsbench.stacks import STACKS

TABLES: Final = (
    *("handshakes", "profile", "records", "startup", "connections", "transfers"),
    *("tpm", "aead", "servers", "suite"),
)
_EFFORTS: Final = {FULL: "full", QUICK: "quick", SMOKE: "smoke"}
_PROGRAMS: Final = {"openssl": ("openssl", "version"), "swtpm": ("swtpm", "--version")}


def run(
    names: Sequence[str],
    effort: Effort,
    progress: Progress,
    finished: Callable[[Table], object] | None = None,
) -> Report:
    """Measure these tables, in their own order; `finished` gets each as soon as there is one."""
    tables: list[Table] = []
    for name in TABLES:
        if name in names:
            try:
                tables.append(table(name, effort, progress))
            finally:
                progress.done()
            if finished is not None:
                finished(tables[-1])
    return Report(machine(), versions(), _EFFORTS.get(effort, "other"), tables)


def table(name: str, effort: Effort, progress: Progress) -> Table:
    """Measure one; where that cannot be done here at all, it says why."""
    try:
        measured: Table = import_module(f"tlsbench.tables.{name}").measure(effort, progress)
    except Missing as reason:
        row = Row("anything", "tpmtls", absent=str(reason))
        return Table(name, name.capitalize(), "Not measured.", {"figure": ""}, [row])
    return measured


def machine() -> dict[str, str]:
    """What kind of machine this is; nothing that tells which one."""
    return {
        "processor": _processor(),
        "processors": str(os.cpu_count()),
        "memory": f"{os.sysconf('SC_PAGE_SIZE') * os.sysconf('SC_PHYS_PAGES') / 2**30:.0f} GiB",
        "system": _system(),
        "load": f"{os.getloadavg()[0]:.1f}",
    }


def versions() -> dict[str, str]:
    """Of Python, of the stacks, of what they stand on; what is missing is left out."""
    found = {"Python": platform.python_version()}
    for stack in STACKS:
        try:
            found[stack.name] = stack.version()
        except Missing:
            continue
    for package in ("cryptography", "tpm2-pytss"):
        try:
            found[package] = metadata.version(package)
        except metadata.PackageNotFoundError:
            continue
    for name, command in _PROGRAMS.items():
        if shutil.which(command[0]):
            answer = subprocess.run(command, capture_output=True, text=True, check=False)
            found[name] = " ".join(answer.stdout.split("\n", maxsplit=1)[0].split()[:4]).rstrip(",")
    return found


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text("utf-8").splitlines()
    except OSError:
        return platform.machine()
    models = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return models[0] if models else platform.machine()


def _system() -> str:
    try:
        name = platform.freedesktop_os_release()["PRETTY_NAME"]
    except (OSError, KeyError):
        name = platform.system()
    return f"{name}, {platform.machine()}"
