"""What the interop tests share: the certificates, made once."""

from __future__ import annotations

import pytest

from tests.pki import Pki


@pytest.fixture(scope="session")
def pki(tmp_path_factory: pytest.TempPathFactory) -> Pki:
    return Pki(tmp_path_factory.mktemp("pki"))
