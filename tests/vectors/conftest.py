"""What the tests of the vectors share."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from vectors.vectorlib import library

SPECS = library.ROOT.parent.parent / "shared" / "specs"


def rfc(number: int) -> Path:
    """The text of an RFC, or a skip where it is not at hand."""
    path = SPECS / f"rfc{number}.txt"
    if not path.exists():
        pytest.skip(f"no ../shared/specs/rfc{number}.txt beside the project")
    return path


@pytest.fixture(scope="session")
def rfc8448() -> Path:
    return rfc(8448)


@pytest.fixture(scope="session")
def rfc5869() -> Path:
    return rfc(5869)


@pytest.fixture
def copied(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A copy of the vectors that a test may spoil."""
    root = tmp_path / "vectors"
    shutil.copytree(library.ROOT, root, ignore=shutil.ignore_patterns("__pycache__"))
    monkeypatch.setattr(library, "ROOT", root)
    monkeypatch.setattr(library, "SUMS", root / "SHA256SUMS")
    return root
