"""Each benchmark runs, and says what its schema says. What it measures is nobody's verdict.

Those that need a TPM are in tests/tpm, the conformance suite's is in tests/conformance.
"""

from __future__ import annotations

import pytest

from tests.bench.smoke import smoke
from tlsbench import plot, text
from tlsbench.measure import Missing
from tlsbench.stacks import tlslite


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
    assert "not here: the package tlslite-ng is not installed" in "\n".join(text.as_text(report))
    assert "not here: the package tlslite-ng" in plot.draw(report.tables[0])
