"""A headless Chromium, for pages that have to work in one."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path

import pytest

_FOUND = shutil.which("chromium")
_FLAGS = (
    "--headless",
    "--no-sandbox",
    "--disable-gpu",
    "--disable-quic",
    "--no-first-run",
    "--disable-background-networking",
    "--disable-component-update",
    "--disable-sync",
    "--proxy-server=127.0.0.1:9",  # nobody there: the page has no network
)


def run(tmp_path: Path, text: str, *arguments: str) -> str:
    """What it says, with these arguments, of a page that it opens from a file."""
    if _FOUND is None:
        pytest.skip("there is no chromium")
    file = tmp_path / "page.html"
    file.write_text(text, "utf-8")
    command = [_FOUND, *_FLAGS, f"--user-data-dir={tmp_path / 'profile'}", *arguments]
    command.append(file.as_uri())
    return subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout


def title(tmp_path: Path, text: str, probe: str, *arguments: str) -> str:
    """The title that a script gives the page; it stands before the page's own."""
    probed = text.replace("<script>", f"<script>{probe}</script><script>", 1)
    dumped = run(tmp_path, probed, "--dump-dom", *arguments)
    return dumped.partition("<title>")[2].partition("</title>")[0]
