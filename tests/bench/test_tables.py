"""Each benchmark runs, and says what its schema says. What it measures is nobody's verdict.

Those that need a TPM are in tests/tpm, the conformance suite's is in tests/conformance.
"""

from __future__ import annotations

import json
import sys

import jsonschema
import pytest

from tests.bench.smoke import smoke
from tlsbench import plot, text
from tlsbench.measure import SMOKE, Missing, Progress
from tlsbench.results import schema
from tlsbench.run import run
from tlsbench.stacks import tlslite
from tlsbench.tables import suite


@pytest.mark.parametrize(
    "name", ["handshakes", "profile", "records", "startup", "connections", "transfers"]
)
def test_smoke(name):
    smoke(name)


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
    assert "not here: the package tlslite-ng is not installed" in "\n".join(
        text.as_text(report.tables[0])
    )
    assert "not here: the package tlslite-ng" in plot.draw(report.tables[0])


def test_table_that_cannot_be_measured_says_why(monkeypatch):
    monkeypatch.setattr(sys, "executable", "/bin/false")
    report = run(["connections"], SMOKE, Progress(silent=True))
    jsonschema.validate(json.loads(report.to_json()), schema())
    (table,) = report.tables
    (row,) = table.rows
    assert row.absent == "/bin/false ended with status 1"
    assert "not here: /bin/false" in "\n".join(text.as_text(report.tables[0]))


def test_a_suite_that_does_not_end_is_a_row_with_the_reason(monkeypatch):
    monkeypatch.setattr(suite, "TIMEOUT", 0.01)
    rows = suite.measure(SMOKE, Progress(silent=True)).rows
    assert {row.absent for row in rows} == {"the tests took more than 0.01 s"}
