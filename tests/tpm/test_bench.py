"""The benchmarks of the TPM run. What they measure is nobody's verdict."""

from __future__ import annotations

import shutil

import pytest

from tests.bench.smoke import smoke

pytestmark = pytest.mark.usefixtures("need_libtpms", "need_swtpm")


@pytest.mark.parametrize("name", ["tpm", "aead", "servers"])
def test_smoke(name):
    report = smoke(name)
    assert not [row for row in report.tables[0].rows if row.absent and "openssl" not in row.subject]


def test_tpm_that_is_missing_is_a_row_with_the_reason(monkeypatch):
    monkeypatch.setattr(shutil, "which", lambda _name: None)
    report = smoke("aead")
    reasons = [row.absent for row in report.tables[0].rows if row.absent]
    assert reasons == ["swtpm is not installed"]
