"""Opening and closing: who shares what, and what the end of a program leaves."""

from __future__ import annotations

import subprocess
import sys
import threading

import pytest

from tests.tpm.conftest import transient
from tests.tpm.fakes import Noted, Scripted
from tests.tpm.swtpm import Swtpm
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.constants import Alg, ResponseCode
from tpmtls.backends.tpm.device import Device
from tpmtls.backends.tpm.frames import encode
from tpmtls.backends.tpm.opening import Tpm, open_device, open_tpm
from tpmtls.violations import TpmUnavailable

KEY = commands.load_hmac_key(b"secret", Alg.SHA256)


def test_openings_of_one_tpm_share_its_device(tpm: Tpm) -> None:
    with open_tpm(tpm.name) as other:
        assert other.device is tpm.device
        with other.load(KEY) as key:
            assert len(tpm.run(commands.hmac(key, b"", Alg.SHA256))) == 32
        assert repr(other) == f"<Tpm {tpm.name}>"
    assert len(tpm.run(commands.get_random(8))) == 8


def test_a_closed_opening_is_closed(tpm: Tpm) -> None:
    other = open_tpm(tpm.name)
    other.close()
    other.close()
    for use in (
        lambda: other.run(commands.get_random(8)),
        lambda: other.load(KEY),
    ):
        with pytest.raises(TpmUnavailable, match=r"was closed: open it again$"):
            use()


@pytest.mark.usefixtures("need_libtpms")
def test_the_last_one_shuts_the_tpm_down() -> None:
    one, two = open_tpm("libtpms:"), open_tpm("libtpms:")
    with one.device.recording() as recorder:
        one.close()
        assert len(recorder) == 0
        two.close()
    assert [e.command for e in recorder.exchanges] == [encode(commands.shutdown(), None)]
    assert one.device.broken


@pytest.mark.usefixtures("need_libtpms")
def test_threads_open_and_close() -> None:
    def work() -> None:
        for _ in range(20):
            with open_tpm("libtpms:") as tpm, tpm.load(KEY) as key:
                assert len(tpm.run(commands.hmac(key, b"", Alg.SHA256))) == 32

    threads = [threading.Thread(target=work) for _ in range(4)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()


def test_a_tpm_that_does_not_start_is_let_go() -> None:
    scripted = Scripted([ResponseCode.FAILURE])
    with pytest.raises(TpmUnavailable, match="failure mode"):
        open_device(Device(scripted))
    assert scripted.closed


def test_a_program_that_forgets_to_close(swtpm: Swtpm) -> None:
    code = (
        "from tpmtls.backends.tpm.opening import open_tpm\n"
        "from tpmtls.backends.tpm import commands\n"
        f"tpm = open_tpm({swtpm.tcti!r})\n"
        "keys = [tpm.load(commands.load_aes_key(bytes(16))) for _ in range(5)]\n"
        "print(tpm.live)"
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, check=False, text=True)
    assert (done.stdout, done.stderr) == ("5\n", "")
    with open_tpm(swtpm.tcti) as tpm:
        assert transient(tpm) == []


def test_the_seam_for_sessions(libtpms: Tpm) -> None:
    """An opening may say how its commands are authorized; a caller may say it better."""
    general, special = Noted(), Noted()
    libtpms.authorize = lambda command: general if command.authorized else None
    with libtpms.load(KEY) as key:
        hmac = commands.hmac(key, b"", Alg.SHA256)
        first = libtpms.run(hmac)
        assert libtpms.run(hmac, special) == first
        with open_tpm("libtpms:") as other:
            assert other.run(hmac) == first
    assert (general.sealed, special.sealed) == ([hmac.code], [hmac.code])
