"""The gate on coverage: lines and branches are judged apart."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests import covered


@pytest.fixture
def report(tmp_path: Path) -> Path:
    path = tmp_path / "coverage.json"
    whole = {
        "covered_lines": 890,
        "num_statements": 900,
        "covered_branches": 94,
        "num_branches": 100,
    }
    branchless = {
        "covered_lines": 100,
        "num_statements": 100,
        "covered_branches": 0,
        "num_branches": 0,
    }
    files = {"a/whole.py": {"summary": whole}, "b/branchless.py": {"summary": branchless}}
    path.write_text(json.dumps({"files": files}))
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


def test_a_part_of_the_files_is_judged(report: Path, capsys: pytest.CaptureFixture[str]) -> None:
    command = [str(report), "--at-least", "95"]
    assert covered.main([*command, "--only", "b/*,c/*"]) == 0
    assert "100 of 100 lines: 100.0 %\n" in capsys.readouterr().out
    assert covered.main([*command, "--except", "a/*"]) == 0
    assert covered.main([*command, "--except", "b/*"]) == 1
