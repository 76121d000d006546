"""What a start costs: importing, and `tpmtls --help`; each in an interpreter of its own."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence

from tlsbench.measure import Effort, Missing, Probe, Progress, Spread, interleave
from tlsbench.results import Ratio, Row, Table, figures, scaled, target

COLUMN = "time"
NOTHING = "pass"
BARE = "python"
PROGRAMS = {
    "import": {
        BARE: NOTHING,
        "tpmtls": "import tpmtls",
        "cryptography.x509": "import cryptography.x509",
        "x509, then tpmtls": "import cryptography.x509, tpmtls",
        "x509, then a connection": (
            "import cryptography.x509\nfrom tpmtls import ClientConfig, ClientConnection"
        ),
        "x509, then both and streams": (
            "import cryptography.x509\n"
            "from tpmtls import ClientConfig, ClientConnection, ServerConnection, connect, serve"
        ),
    },
    "command": {
        BARE: NOTHING,
        "tpmtls": "import sys; sys.argv[1:] = ['--help']; import tpmtls.cli; tpmtls.cli.main()",
        "argparse": "import argparse; argparse.ArgumentParser().format_help()",
        "tlsconform": (
            "import sys; sys.argv[1:] = ['--help']; import tlsconform.cli as c; sys.exit(c.main())"
        ),
    },
}
ABOUT = (
    "Processor time of a whole interpreter, isolated (`python -I`), with what it imports already "
    "compiled; “python” does nothing. The share is what `import tpmtls` takes, of importing "
    "`cryptography.x509` and it, each less the bare interpreter. A name of `tpmtls` loads its "
    "module on first use, so a connection costs more than the import; `cryptography.x509` is the "
    "floor for that, since every connection needs it."
)


def measure(effort: Effort, progress: Progress) -> Table:
    """The table."""
    rows: list[Row] = []
    ratios: list[Ratio] = []
    share: list[float] = []
    for case, programs in PROGRAMS.items():
        probes: dict[str, Probe] = {name: _probe(program) for name, program in programs.items()}
        turns = interleave(probes, effort, progress, f"startup: {case}")
        more = figures(turns, case, (COLUMN,), scaled(1e3), beside=(BARE,))
        rows += more[0]
        ratios += more[1]
        if case == "import":
            seconds = {name: [turn[0] for turn in each] for name, each in turns.items()}
            share = [
                (own - bare) / (together - bare)
                for own, together, bare in zip(
                    seconds["tpmtls"], seconds["x509, then tpmtls"], seconds[BARE], strict=True
                )
            ]
    ratios.append(Ratio("import", "share", "tpmtls", "x509, then tpmtls", Spread.of(share)))
    return Table(
        name="startup",
        title="Start-up",
        about=ABOUT,
        columns={COLUMN: "ms"},
        rows=rows,
        ratios=ratios,
        targets=(
            target(
                "import of tpmtls, of that and cryptography.x509",
                "at most",
                0.25,
                ratios,
                beside="x509, then tpmtls",
            ),
        ),
    )


def _probe(program: str) -> Probe:
    """Runs the program so many times."""
    command = [sys.executable, "-I", "-c", program]

    def probe(count: int) -> Sequence[float]:
        return (sum(_processor_seconds(command) for _ in range(count)),)

    return probe


def _processor_seconds(command: list[str]) -> float:
    """What a process took of the processors, by the kernel's account."""
    process = subprocess.Popen(command, stdout=subprocess.DEVNULL)
    _, status, usage = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    if process.returncode:
        raise Missing(f"{command[-1]!r} ended with {process.returncode}")
    return usage.ru_utime + usage.ru_stime
