"""`tlsconform vectors`, as installed from a clone, as in a wheel, and without vectors."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import tlsconform
from vectors.vectorlib import library

PACKAGE = Path(tlsconform.__file__).parent


def run(*arguments: str, installed: Path | None = None) -> subprocess.CompletedProcess[str]:
    path = {} if installed is None else {"PYTHONPATH": str(installed)}
    return subprocess.run(
        [sys.executable, "-m", "tlsconform.cli", "vectors", *arguments],
        capture_output=True, text=True, timeout=100, check=False, env=os.environ | path, cwd="/",
    )  # fmt: skip


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """`tlsconform` without a clone around it."""
    shutil.copytree(PACKAGE, tmp_path / "lib" / "a" / "tlsconform")
    return tmp_path / "lib" / "a"


@pytest.fixture
def wheel(installed: Path) -> Path:
    """The same with the vectors where the wheel has them."""
    shutil.copytree(library.ROOT, installed / "tlsconform" / "vectors")
    return installed


def test_each_file_is_listed() -> None:
    ended = run()
    assert ended.returncode == 0
    assert [line.split()[0] for line in ended.stdout.splitlines()] == [*library.FILES.values()]


def test_the_path_leads_to_the_files(wheel: Path) -> None:
    for where, expected in ((None, library.ROOT), (wheel, wheel / "tlsconform" / "vectors")):
        folder = Path(run("--path", installed=where).stdout.strip())
        assert folder == expected
        assert json.loads((folder / "rfc8448" / "simple-1rtt.json").read_text())["steps"]


def test_the_check_passes_and_says_what_was_done(wheel: Path) -> None:
    for where in (None, wheel):
        ended = run("--check", installed=where)
        assert ended.returncode == 0, ended.stdout + ended.stderr
        for part in ("recomputed", "schemas followed", "replayed in both roles", "AEAD cases run"):
            assert part in ended.stdout


@pytest.mark.parametrize(
    ("file", "old", "new", "found"),
    [
        ("rfc8448/keys.json", '"rsa_private_key"', '"rsa"', "keys: document: "),
        ("aead/wycheproof-ccm.json", '"result": "invalid"', '"result": "valid"', "wycheproof-ccm"),
        ("aead/records.json", '"sequence": "00', '"sequence": "01', "records: case 0: "),
        ("rfc8448/simple-1rtt.json", '"iv": ', '"vi": ', "simple-1rtt: "),
    ],
)
def test_a_changed_file_is_noticed(wheel: Path, file: str, old: str, new: str, found: str) -> None:
    path = wheel / "tlsconform" / "vectors" / file
    path.write_text(path.read_text().replace(old, new, 1))
    ended = run("--check", installed=wheel)
    assert ended.returncode == 1
    assert found in ended.stdout
    assert "Traceback" not in ended.stderr


def test_a_missing_file_is_noticed(wheel: Path) -> None:
    (wheel / "tlsconform" / "vectors" / "aead" / "records.json").unlink()
    ended = run("--check", installed=wheel)
    assert ended.returncode == 1
    assert "is missing" in ended.stdout
    listed = run(installed=wheel)
    assert listed.returncode == 2
    assert listed.stderr.startswith("tlsconform: aead/records.json cannot be read")


def test_no_vectors_is_said_in_a_line(installed: Path) -> None:
    ended = run("--check", installed=installed)
    assert ended.returncode == 2
    assert ended.stderr.startswith("tlsconform: the vectors are not installed")
    assert len(ended.stderr.splitlines()) == 1
