"""Handshakes with secrets in the TPM, in both roles: they complete, and leave nothing behind."""

from __future__ import annotations

import pytest

from tests.tpm.support import ROLES, SCENARIOS, at_rest, each_level, ends
from tpmtls.backends.tpm.backend import TpmBackend
from tpmtls.backends.tpm.opening import Tpm


@each_level
@pytest.mark.parametrize("role", ROLES)
@pytest.mark.parametrize("scenario", SCENARIOS)
def test_handshake(tpm: Tpm, levels: frozenset[str], role: str, scenario: str) -> None:
    backend = TpmBackend(tpm, levels)
    before = at_rest(backend)
    SCENARIOS[scenario](ends(role, backend))
    assert tpm.live == before
