"""What is not installed is skipped, but never where CI is true."""

from __future__ import annotations

import pytest

from tests.tpm.conftest import _need


def test_what_is_there_is_used() -> None:
    _need(True, "libtpms")


@pytest.mark.parametrize("value", ["", "false"])
def test_what_is_missing_is_skipped(monkeypatch: pytest.MonkeyPatch, value: str) -> None:
    monkeypatch.setenv("CI", value)
    with pytest.raises(pytest.skip.Exception, match=r"libtpms is not installed: \./dev setup"):
        _need(False, "libtpms")


def test_what_is_missing_fails_in_ci(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CI", "true")
    with pytest.raises(pytest.fail.Exception, match="libtpms is not installed, and CI is true"):
        _need(False, "libtpms")
