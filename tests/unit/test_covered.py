"""The gate on coverage: lines and branches are judged apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import covered


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "coverage.json"
    totals = {
        "covered_lines": 990,
        "num_statements": 1000,
        "covered_branches": 94,
        "num_branches": 100,
    }
    path.write_text(json.dumps({"totals": totals}))
    return path


def test_branches_are_not_hidden_among_lines(
    report: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert covered.main([str(report), "--at-least", "95"]) == 1
    printed = capsys.readouterr().out
    assert "990 of 1000 lines: 99.0 %\n" in printed
    assert "94 of 100 branches: 94.0 %, less than 95 %\n" in printed
    assert covered.main([str(report), "--at-least", "94"]) == 0


def test_a_part_of_the_tests_is_not_judged(report: Path) -> None:
    assert covered.main([str(report), "--at-least", "95", "tests/unit", "-k", "record"]) == 0


def test_no_report_is_a_failure(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert covered.main([str(tmp_path / "coverage.json"), "--at-least", "95"]) == 1
    assert "is not there" in capsys.readouterr().out
