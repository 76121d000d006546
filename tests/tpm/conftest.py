"""The TPMs that the tests talk to: libtpms in this process, and swtpm over its socket.

Where one is not installed its tests are skipped; where CI is true they fail.
"""

from __future__ import annotations

import ctypes
import os
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path

import pytest

from tests.tpm.swtpm import Swtpm
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.chained_provisioning import provision_opened, remove_opened
from tpmtls.backends.tpm.constants import Capability
from tpmtls.backends.tpm.opening import Tpm, open_tpm


def _has_libtpms() -> bool:
    try:
        ctypes.CDLL("libtpms.so.0")
    except OSError:
        return False
    return True


def _need(there: bool, what: str) -> None:
    if there:
        return
    if os.environ.get("CI") == "true":
        pytest.fail(f"{what} is not installed, and CI is true: ./dev setup installs it")
    pytest.skip(f"{what} is not installed: ./dev setup installs it")


@pytest.fixture(scope="session")
def need_libtpms() -> None:
    _need(_has_libtpms(), "libtpms")


@pytest.fixture(scope="session")
def need_pytss() -> None:
    _need(find_spec("tpm2_pytss") is not None, "tpm2-pytss")


@pytest.fixture(scope="session")
def need_swtpm() -> None:
    _need(shutil.which("swtpm") is not None, "swtpm")


@pytest.fixture(scope="session")
def need_tools() -> None:
    _need(shutil.which("tpm2_getcap") is not None, "tpm2-tools")


@pytest.fixture(scope="session")
def shared_swtpm(need_swtpm: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Swtpm]:
    """One for all tests that leave it as they found it."""
    server = Swtpm(tmp_path_factory.mktemp("swtpm"))
    yield server
    server.stop()


@pytest.fixture
def swtpm(need_swtpm: None, tmp_path: Path) -> Iterator[Swtpm]:
    """One for a test that kills it, or fills it."""
    server = Swtpm(tmp_path / "swtpm")
    yield server
    server.stop()


@pytest.fixture
def libtpms(need_libtpms: None) -> Iterator[Tpm]:
    """A fresh TPM in this process."""
    with open_tpm("libtpms:") as tpm:
        yield tpm


@pytest.fixture(params=["libtpms", "swtpm"])
def tpm(request: pytest.FixtureRequest) -> Iterator[Tpm]:
    """Either TPM; the test must leave nothing in it that it did not tell `Tpm` of."""
    if request.param == "libtpms":
        request.getfixturevalue("need_libtpms")
        name = "libtpms:"
    else:
        name = request.getfixturevalue("shared_swtpm").tcti
    with open_tpm(name) as beside, open_tpm(name) as tpm:
        before = transient(beside)
        yield tpm
        tpm.close()
        assert transient(beside) == before


@pytest.fixture
def provisioned(tpm: Tpm) -> Iterator[Tpm]:
    """Either TPM, with what `--protect chained` needs for as long as the test runs."""
    with tpm.beside() as beside:
        before, sessions = nv_and_persistent(beside), loaded_sessions(beside)
        provision_opened(beside)
        yield tpm
        tpm.close()
        assert loaded_sessions(beside) == sessions
        assert remove_opened(beside) == 3
        assert nv_and_persistent(beside) == before


def transient(tpm: Tpm) -> list[int]:
    """The handles of all transient objects in the TPM, whoever made them."""
    return _handles(tpm, 0x80000000)


def loaded_sessions(tpm: Tpm) -> list[int]:
    """The handles of all sessions in the TPM, whoever made them."""
    return _handles(tpm, 0x02000000)


def nv_and_persistent(tpm: Tpm) -> tuple[list[int], list[int]]:
    """All NV indices and all persistent handles."""
    return _handles(tpm, 0x01000000), _handles(tpm, 0x81000000)


def _handles(tpm: Tpm, first: int) -> list[int]:
    _, items = tpm.run(commands.get_capability(Capability.HANDLES, first, 254))
    return [item[0] for item in items]
