"""`tpmtls bench`: what it prints, draws and refuses."""

from __future__ import annotations

import json
import subprocess
import sys

import jsonschema
import pytest

import tlsbench.measure
from tests.unit.commands import tpmtls as run
from tlsbench.results import schema
from tlsbench.run import TABLES
from tlsbench.tables import connections


@pytest.fixture(autouse=True)
def _smoke(monkeypatch):
    monkeypatch.setattr(tlsbench.measure, "QUICK", tlsbench.measure.SMOKE)


def test_json_and_plots(tmp_path):
    outcome = run("bench", "--quick", "--only", "records", "--json", "--plot", tmp_path / "a" / "b")
    assert outcome.status == 0
    report = json.loads(outcome.stdout)
    jsonschema.validate(report, schema())
    assert [table["name"] for table in report["tables"]] == ["records"]
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["records.svg"]
    assert "records: 16384 octets, TLS_AES_128_GCM_SHA256" in outcome.stderr


def test_text():
    outcome = run("bench", "--quick", "--only", "startup")
    assert outcome.status == 0
    assert "cryptography.x509" in outcome.stdout.decode()


def test_unknown_table():
    outcome = run("bench", "--only", "handshake")
    assert outcome.status == 2
    assert outcome.stderr.startswith("tpmtls: there is no table 'handshake'; there are handshakes,")


def test_plots_cannot_be_written(tmp_path):
    (tmp_path / "file").write_text("")
    outcome = run("bench", "--only", "startup", "--plot", tmp_path / "file")
    assert outcome.status == 2
    assert outcome.stderr.count("\n") == 1


def test_a_folder_that_nothing_can_be_written_to_is_refused_at_once():
    outcome = run("bench", "--only", "startup", "--plot", "/proc")
    assert (outcome.status, outcome.stdout) == (2, b"")
    assert outcome.stderr.startswith("tpmtls: /proc: ")
    assert outcome.stderr.count("\n") == 1


def test_a_plot_that_cannot_be_written_is_named(tmp_path):
    plot = tmp_path / "startup.svg"
    plot.mkdir()
    outcome = run("bench", "--quick", "--only", "startup", "--plot", tmp_path)
    assert outcome.status == 2
    assert "cryptography.x509" in outcome.stdout.decode()
    assert outcome.stderr.endswith(f"tpmtls: {plot}: is a directory\n")


def test_an_interrupted_run_has_printed_what_it_had(monkeypatch):
    def interrupted(effort, progress):
        raise KeyboardInterrupt

    monkeypatch.setattr(connections, "measure", interrupted)
    outcome = run("bench", "--quick", "--only", "startup,connections")
    assert outcome.status == 130
    assert "cryptography.x509" in outcome.stdout.decode()


def test_help_names_the_tables():
    assert f"tables: {', '.join(TABLES)}\n" in run("bench", "--help").stdout.decode()


def test_the_command_loads_the_benchmarks_only_when_it_runs():
    program = (
        "import sys, tpmtls.cli; tpmtls.cli.main(['bench', '--help']); "
        "sys.exit('tlsbench' in sys.modules)"
    )
    subprocess.run([sys.executable, "-c", program], check=True, stdout=subprocess.DEVNULL)
