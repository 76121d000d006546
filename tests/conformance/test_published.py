"""docs/reports: the pages, the table and the findings say the same, and nothing of this machine."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
REPORTS = ROOT / "docs" / "reports"
RESULTS = json.loads((REPORTS / "results.json").read_text("utf-8"))
LARGEST = 400_000
PRIVATE = re.compile(r"/(work|root|tmp|home)/|" + re.escape(f"@{socket.gethostname()}"))


def test_every_claim_is_covered_by_a_finding_and_the_readme_says_so() -> None:
    command = [sys.executable, "docs/reports/notes.py", "--check"]
    result = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False)
    assert result.returncode == 0, result.stderr


@pytest.mark.parametrize("name", RESULTS)
def test_pages_are_small_and_name_no_path_of_a_machine(name: str) -> None:
    text = (REPORTS / f"{name}.html").read_text("utf-8")
    assert len(text.encode()) < LARGEST
    assert PRIVATE.search(text) is None


@pytest.mark.parametrize("name", RESULTS)
def test_pages_count_what_the_table_counts(name: str) -> None:
    text = (REPORTS / f"{name}.html").read_text("utf-8")
    shown = {verdict: int(count) for count, verdict in re.findall(r"<b>(\d+)</b> ([a-z ]+)<", text)}
    counts = RESULTS[name]["runs"]["9846"]["counts"]
    assert {verdict: count for verdict, count in shown.items() if count} == counts
