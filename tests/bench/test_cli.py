"""`tpmtls bench`: what it prints, draws and refuses."""

from __future__ import annotations

import json

import jsonschema
import pytest

import tlsbench.measure
from tests.unit.commands import tpmtls as run
from tlsbench.results import schema


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
