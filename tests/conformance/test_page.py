"""The page in a real browser: it opens from a file, its filters work, and it fits a telephone."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests import chromium
from tests.conformance.reports import REPORT
from tlsconform.report.html import page

PROBE = """
addEventListener("load", () => {
  const seen = () => [...document.querySelectorAll("details.row:not([hidden])")].length;
  const said = [];
  said.push(["all", seen()]);
  const verdict = document.getElementById("verdict");
  verdict.value = "violates"; verdict.dispatchEvent(new Event("input"));
  said.push(["violates", seen()]);
  document.getElementById("reset").click();
  const text = document.getElementById("text");
  text.value = "4.2.2-7"; text.dispatchEvent(new Event("input"));
  said.push(["text", seen()]);
  document.getElementById("reset").click();
  document.querySelector("[data-show=deviates]").click();
  said.push(["button", seen()]);
  document.getElementById("reset").click();
  said.push(["wide", document.documentElement.scrollWidth > innerWidth]);
  document.title = JSON.stringify(Object.fromEntries(said));
});
"""


@pytest.mark.parametrize("width", [1280, 500])
def test_filters_work_and_nothing_sticks_out(tmp_path: Path, width: int) -> None:
    rows = REPORT.rows()
    violating = sum(row.verdict == "violates" for row in rows)
    deviating = sum(row.verdict == "deviates" for row in rows)
    said = chromium.title(tmp_path, page(REPORT), PROBE, f"--window-size={width},900")
    assert said == (
        f'{{"all":{len(rows)},"violates":{violating},"text":1,"button":{deviating},"wide":false}}'
    )
