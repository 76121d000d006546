"""The page in a real browser: it opens from a file, its filters work, and it fits a telephone."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

from tests.conformance.reports import REPORT
from tlsconform.report.html import page

CHROMIUM = shutil.which("chromium")
FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
)
PROBE = """<script>
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
</script>"""


def dump(tmp_path: Path, width: int) -> str:
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    file = tmp_path / "report.html"
    file.write_text(page(REPORT).replace("</body>", f"{PROBE}</body>"), "utf-8")
    command = [CHROMIUM, *FLAGS, f"--user-data-dir={tmp_path / 'profile'}"]
    command += [f"--window-size={width},900", "--dump-dom", file.as_uri()]
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


@pytest.mark.parametrize("width", [1280, 500])
def test_filters_work_and_nothing_sticks_out(tmp_path: Path, width: int) -> None:
    rows = REPORT.rows()
    violating = sum(row.verdict == "violates" for row in rows)
    deviating = sum(row.verdict == "deviates" for row in rows)
    title = dump(tmp_path, width).partition("<title>")[2].partition("</title>")[0]
    assert title == (
        f'{{"all":{len(rows)},"violates":{violating},"text":1,"button":{deviating},"wide":false}}'
    )
