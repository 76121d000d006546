"""The servers of the experiments, and the TPMs of those of tests/tpm."""

from __future__ import annotations

import shutil
from collections.abc import Iterator

import pytest

from tests.audit.experiments import live
from tests.pki import Pki
from tests.tpm.conftest import need_libtpms

__all__ = ["need_libtpms"]


@pytest.fixture(scope="session")
def ours(pki: Pki) -> Iterator[live.Ours]:
    """Our server, for all experiments."""
    with live.ours(pki) as server:
        yield server


@pytest.fixture(scope="session")
def need_openssl() -> None:
    """Skips where the program is not installed."""
    if shutil.which("openssl") is None:
        pytest.skip("there is no openssl program: ./dev setup installs it")


@pytest.fixture(scope="session")
def openssl(need_openssl: None, pki: Pki) -> Iterator[live.OpenSsl]:
    """OpenSSL's server, for all experiments without 0-RTT."""
    with live.openssl(pki, "-rev", *live.PSK_OPTIONS) as server:
        yield server


@pytest.fixture(params=["tpmtls", "OpenSSL"])
def server(request: pytest.FixtureRequest) -> live.Server:
    """Either."""
    found: live.Server = request.getfixturevalue(
        {"tpmtls": "ours", "OpenSSL": "openssl"}[request.param]
    )
    return found
