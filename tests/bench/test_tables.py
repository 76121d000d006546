"""Each benchmark runs, and says what its schema says. What it measures is nobody's verdict."""

from __future__ import annotations

import json

import jsonschema
import pytest

from tlsbench import plot, text
from tlsbench.measure import SMOKE, Missing, Progress
from tlsbench.results import Report, schema
from tlsbench.run import TABLES, run
from tlsbench.stacks import tlslite


def smoke(name: str) -> Report:
    report = run([name], SMOKE, Progress(silent=True))
    jsonschema.validate(json.loads(report.to_json()), schema())
    return report


@pytest.mark.parametrize("name", TABLES)
def test_smoke(name):
    report = smoke(name)
    (table,) = report.tables
    assert table.name == name
    assert any(row.figures for row in table.rows)
    again = Report.from_json(report.to_json())
    assert again.to_json() == report.to_json()
    assert list(text.as_text(again))
    assert plot.draw(table).startswith("<svg ")


def test_peer_that_is_missing_is_a_row_with_the_reason(monkeypatch):
    def no_api():
        raise Missing("the package tlslite-ng is not installed")

    monkeypatch.setattr(tlslite, "_api", no_api)
    report = smoke("handshakes")
    reasons = {row.absent for row in report.tables[0].rows if row.subject == "tlslite-ng"}
    assert reasons == {"the package tlslite-ng is not installed"}
    assert "tlslite-ng" not in report.versions
    beside = report.tables[0].targets[0]
    assert (beside.value, beside.met) == (None, None)
    assert "not here: the package tlslite-ng is not installed" in "\n".join(text.as_text(report))
    assert "not here: the package tlslite-ng" in plot.draw(report.tables[0])
