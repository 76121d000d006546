"""The benchmark of the suite runs. What it measures is nobody's verdict."""

from __future__ import annotations

from tests.bench.smoke import smoke


def test_smoke():
    report = smoke("suite")
    assert "tpmtls, in process" in {row.subject for row in report.tables[0].rows if row.figures}
