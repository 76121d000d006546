"""A TPM that fails where it has no reason to: its answer is told as it is, and nothing is lost."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import pytest

from tests.tpm.fakes import Restricted, command_code
from tests.tpm.support import SCENARIOS, Ends
from tpmtls.backends.tpm import keys
from tpmtls.backends.tpm.chained import ChainedBackend
from tpmtls.backends.tpm.chained_provisioning import provision_opened, remove_opened
from tpmtls.backends.tpm.constants import CommandCode as CC
from tpmtls.backends.tpm.device import Device
from tpmtls.backends.tpm.libtpms import LibtpmsTransport
from tpmtls.backends.tpm.opening import Tpm, open_device
from tpmtls.backends.tpm.responses import TpmResponseError
from tpmtls.violations import TpmLacks

FAILURE, NV_SPACE = 0x101, 0x14B
HANDLE = 0x81000055


@contextmanager
def failing(code: CC, answer: int = FAILURE) -> Iterator[tuple[Tpm, Callable[[], None]]]:
    """A TPM, and what makes it answer a command so from then on."""
    now: list[CC] = []

    def verdict(frame: bytes) -> int | None:
        return answer if command_code(frame) in now else None

    tpm = open_device(Device(Restricted(LibtpmsTransport(), verdict)))
    try:
        yield tpm, lambda: now.append(code)
    finally:
        now.clear()
        tpm.close()


@pytest.mark.usefixtures("need_libtpms")
@pytest.mark.parametrize("code", [CC.NV_ReadPublic, CC.NV_DefineSpace, CC.NV_Write])
def test_provisioning(code: CC) -> None:
    with failing(code) as (tpm, start):
        provision_opened(tpm)
        start()
        with pytest.raises(TpmResponseError, match="FAILURE"):
            provision_opened(tpm, replace=True)


@pytest.mark.usefixtures("need_libtpms")
def test_no_room_for_an_index() -> None:
    with failing(CC.NV_DefineSpace, NV_SPACE) as (tpm, start):
        start()
        with pytest.raises(TpmLacks, match="no room for another NV index"):
            provision_opened(tpm)


@pytest.mark.usefixtures("need_libtpms")
def test_persistent_keys() -> None:
    with failing(CC.EvictControl) as (tpm, start):
        key = keys.create_key(tpm, "ecc-p256")
        start()
        with pytest.raises(TpmResponseError, match="FAILURE"):
            keys.persist(tpm, key, HANDLE)
    with failing(CC.ReadPublic) as (tpm, start):
        start()
        with pytest.raises(TpmResponseError, match="FAILURE"):
            keys.remove(tpm, HANDLE)
        with pytest.raises(TpmResponseError, match="FAILURE"):
            keys.persistent_key(tpm, HANDLE)


@pytest.mark.usefixtures("need_libtpms")
def test_a_key_file() -> None:
    with failing(CC.Load) as (tpm, start):
        key = keys.create_key(tpm, "ecc-p256")
        start()
        with pytest.raises(TpmResponseError, match="FAILURE"):
            keys.load_key(tpm, key)


@pytest.mark.usefixtures("need_libtpms")
def test_provisioned_again_after_all() -> None:
    """What failed in between left nothing that is in the way."""
    with failing(CC.NV_Write) as (tpm, start):
        start()
        with pytest.raises(TpmResponseError):
            provision_opened(tpm)
        tpm.device.transport.verdict = lambda _: None  # type: ignore[attr-defined]
        provision_opened(tpm)
        backend = ChainedBackend(tpm.beside())
        SCENARIOS["full"](Ends(backend, None))
        backend.close()
        assert remove_opened(tpm) == 3
