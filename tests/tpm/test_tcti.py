"""How a TPM is named and reached, and what is said when it is not."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import pytest

from tests.tpm.fakes import response
from tests.tpm.swtpm import Swtpm
from tpmtls.backends.tpm import commands, tcti
from tpmtls.backends.tpm.constants import Alg, Curve
from tpmtls.backends.tpm.device import Device
from tpmtls.backends.tpm.frames import OWNER, Creation, encode
from tpmtls.backends.tpm.libtpms import LibtpmsTransport
from tpmtls.backends.tpm.opening import open_device, open_tpm
from tpmtls.backends.tpm.tcti import SwtpmTransport, TctiTransport, open_transport, resolve
from tpmtls.violations import ConfigurationError, TpmBusy, TpmUnavailable

RANDOM = encode(commands.get_random(8), None)
STARTUP = encode(commands.startup(), None)

# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("given", "meant"),
    [
        ("libtpms:", "libtpms:"),
        ("libtpms", "libtpms:"),
        ("libtpms:/a/folder", "libtpms:/a/folder"),
        ("swtpm", "swtpm:host=localhost,port=2321"),
        ("swtpm:", "swtpm:host=localhost,port=2321"),
        ("swtpm:port=1,host=h", "swtpm:host=h,port=1"),
        ("swtpm:path=/a/socket", "swtpm:path=/a/socket"),
        ("device:/dev/tpmrm0", "device:/dev/tpmrm0"),
        ("mssim:host=h,port=1", "mssim:host=h,port=1"),
        ("tabrmd", "tabrmd"),
    ],
)
def test_resolve(given: str, meant: str) -> None:
    assert resolve(given) == meant
    assert resolve(meant) == meant


def test_a_folder_is_the_same_from_everywhere() -> None:
    assert resolve("libtpms:a") == f"libtpms:{Path.cwd() / 'a'}"


def test_the_environment_names_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("TPM2TOOLS_TCTI", raising=False)
    assert resolve(None) == "libtpms:"
    monkeypatch.setenv("TPM2TOOLS_TCTI", "device:/dev/tpm0")
    assert resolve(None) == resolve("") == "device:/dev/tpm0"
    assert resolve("libtpms:") == "libtpms:"
    monkeypatch.setenv("TPM2TOOLS_TCTI", "")
    assert resolve(None) == "libtpms:"


@pytest.mark.parametrize(
    ("name", "words"),
    [
        ("swtpm:speed=1", "'speed=1' is not host=…, port=… or path=…"),
        ("swtpm:localhost", "'localhost' is not host="),
        ("swtpm:port=ssh", "the port 'ssh' is not a number"),
    ],
)
def test_a_name_that_means_nothing(name: str, words: str) -> None:
    with pytest.raises(ConfigurationError, match=words):
        resolve(name)


# -- swtpm -----------------------------------------------------------------------------------------


def test_nobody_is_there() -> None:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        name = f"swtpm:host=127.0.0.1,port={taken.getsockname()[1]}"
        with pytest.raises(TpmUnavailable, match=r"Connection refused: is swtpm running there\?$"):
            open_tpm(name)


def test_swtpm_on_a_unix_socket(need_swtpm: None, tmp_path: Path) -> None:
    path = tmp_path / "socket"
    with pytest.raises(TpmUnavailable, match="No such file or directory: is swtpm running"):
        open_tpm(f"swtpm:path={path}")
    process = subprocess.Popen(
        [
            "swtpm",
            "socket",
            "--tpm2",
            "--tpmstate",
            f"dir={tmp_path}",
            "--server",
            f"type=unixio,path={path}",
            "--ctrl",
            f"type=unixio,path={tmp_path}/control",
            "--flags",
            "not-need-init",
        ]
    )
    try:
        while not path.exists():
            assert process.poll() is None
        with open_tpm(f"swtpm:path={path}") as tpm:
            assert len(tpm.run(commands.get_random(8))) == 8
    finally:
        process.terminate()
        process.wait()


def test_a_connection_is_given_up_after_a_moment(swtpm: Swtpm) -> None:
    one, two = open_transport(swtpm.tcti), open_transport(swtpm.tcti)
    try:
        one.transmit(STARTUP)
        for _ in range(2):  # each waits until the other has let go
            assert len(one.transmit(RANDOM)) == 20
            assert len(two.transmit(RANDOM)) == 20
    finally:
        one.close()
        two.close()


def test_objects_outlive_the_connection(swtpm: Swtpm) -> None:
    transport = SwtpmTransport(swtpm.tcti.partition(":")[2])
    with open_device(Device(transport)) as tpm, tpm.load(_key()) as key:
        transport.close()  # what the end of its tenure does
        assert len(tpm.run(commands.hmac(key, b"", Alg.SHA256))) == 32


def _key() -> Creation:
    return commands.load_hmac_key(b"secret", Alg.SHA256)


def test_a_tpm_that_is_killed_between_commands(swtpm: Swtpm) -> None:
    with open_tpm(swtpm.tcti) as tpm:
        key = tpm.load(_key())
        swtpm.kill()
        with pytest.raises(TpmUnavailable, match="is swtpm running there"):
            tpm.run(commands.hmac(key, b"", Alg.SHA256))
        with pytest.raises(TpmUnavailable, match="an earlier command failed"):
            tpm.run(commands.hmac(key, b"", Alg.SHA256))
        key.flush()


def test_a_tpm_that_is_killed_at_work(swtpm: Swtpm) -> None:
    with open_tpm(swtpm.tcti) as tpm, ThreadPoolExecutor(1) as pool:
        swtpm.pause()
        answer = pool.submit(tpm.run, commands.get_random(8))
        swtpm.kill()
        with pytest.raises(TpmUnavailable, match="is swtpm running there"):
            answer.result()


def test_a_tpm_that_is_opened_again_after_it_was_killed(swtpm: Swtpm) -> None:
    with open_tpm(swtpm.tcti) as tpm:
        swtpm.kill()
        with pytest.raises(TpmUnavailable):
            tpm.run(commands.get_random(8))
        assert swtpm.start()
        with pytest.raises(TpmUnavailable):
            tpm.run(commands.get_random(8))
        with open_tpm(swtpm.tcti) as again:
            assert len(again.run(commands.get_random(8))) == 8


def test_a_tpm_that_was_reset(swtpm: Swtpm) -> None:
    """It came back before we noticed that it was away: our objects are gone."""
    with open_tpm(swtpm.tcti) as tpm:
        key = tpm.load(_key())
        tpm.device.transport.close()
        swtpm.kill()
        assert swtpm.start()
        with pytest.raises(TpmUnavailable, match="the TPM was reset"):
            tpm.run(commands.hmac(key, b"", Alg.SHA256))
        key.flush()


def test_a_tpm_that_does_not_answer(swtpm: Swtpm) -> None:
    transport = SwtpmTransport(swtpm.tcti.partition(":")[2])
    with open_device(Device(transport)) as tpm:
        transport.close()
        transport._patience = transport._timeout = 0.1
        swtpm.pause()
        with pytest.raises(TpmUnavailable, match="did not answer in time"):
            tpm.run(commands.get_random(8))
        swtpm.resume()
        with pytest.raises(TpmUnavailable, match="an earlier command failed"):
            tpm.run(commands.get_random(8))


@contextmanager
def server(*answers: bytes) -> Iterator[str]:
    """The name of a swtpm that answers one connection's first command like this, and hangs up."""
    with socket.create_server(("127.0.0.1", 0)) as listener:

        def serve() -> None:
            connection, _ = listener.accept()
            with connection:
                connection.recv(4096)
                for answer in answers:
                    connection.sendall(answer)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"host=127.0.0.1,port={listener.getsockname()[1]}"
        finally:
            thread.join()


def test_an_answer_in_pieces() -> None:
    answer = response(0, b"\0\2ab")
    with server(answer[:5], answer[5:]) as where:
        transport = SwtpmTransport(where)
        assert transport.transmit(RANDOM) == answer
        transport.close()


@pytest.mark.parametrize("length", [0, 1, 9, 10, 13])
def test_half_an_answer(length: int) -> None:
    with (
        server(response(0, b"\0\2ab")[:length]) as where,
        pytest.raises(TpmUnavailable, match="ended without an answer: is swtpm running"),
    ):
        SwtpmTransport(where).transmit(RANDOM)


def test_an_interruption_ends_the_connection(monkeypatch: pytest.MonkeyPatch) -> None:
    """Its answer must not be taken for that of the next command."""
    with server(response(0, b"\0\2ab")) as where:
        transport = SwtpmTransport(where)

        def interrupted(_connection: socket.socket) -> bytes:
            raise KeyboardInterrupt

        monkeypatch.setattr(SwtpmTransport, "_receive", staticmethod(interrupted))
        with pytest.raises(KeyboardInterrupt):
            transport.transmit(RANDOM)
        assert transport._socket is None


# -- tpm2-tss --------------------------------------------------------------------------------------


@pytest.mark.usefixtures("need_pytss")
class TestTss:
    def test_a_tcti_of_tpm2_tss(self, shared_swtpm: Swtpm) -> None:
        with open_device(
            Device(TctiTransport("swtpm", shared_swtpm.tcti.partition(":")[2]))
        ) as tpm:
            assert len(tpm.run(commands.get_random(8))) == 8

    def test_it_is_killed(self, swtpm: Swtpm) -> None:
        with open_device(Device(TctiTransport("swtpm", swtpm.tcti.partition(":")[2]))) as tpm:
            swtpm.kill()
            with pytest.raises(TpmUnavailable, match=r"swtpm:host=127\.0\.0\.1,port=\d+: tcti:"):
                tpm.run(commands.get_random(8))

    def test_a_response_that_is_none(self, monkeypatch: pytest.MonkeyPatch, swtpm: Swtpm) -> None:
        transport = TctiTransport("swtpm", swtpm.tcti.partition(":")[2])
        monkeypatch.setattr(
            transport, "_tcti", type("", (), {"transmit": _ignore, "receive": _ignore})
        )
        with pytest.raises(TpmUnavailable, match="malformed"):
            transport.transmit(RANDOM)

    def test_no_such_device(self) -> None:
        with pytest.raises(TpmUnavailable, match=r"^device:/dev/no-tpm: no such device: is there"):
            open_tpm("device:/dev/no-tpm")

    def test_a_device_of_somebody_else(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(os, "access", lambda *_: False)
        with pytest.raises(TpmUnavailable, match="may not read and write it: join its group"):
            open_tpm(f"device:{tmp_path}")

    @pytest.mark.parametrize("name", ["mssim:host=127.0.0.1,port=1", "nonsense"])
    def test_what_tpm2_tss_cannot_open(self, name: str) -> None:
        with pytest.raises(TpmUnavailable, match=f"^{name}: .*is the name right"):
            open_tpm(name)

    def test_a_child_closes_the_device(self, monkeypatch: pytest.MonkeyPatch) -> None:
        closed = []
        for name in ("device:/dev/tpm0", "mssim"):
            transport = TctiTransport.__new__(TctiTransport)
            transport.name = name
            monkeypatch.setattr(TctiTransport, "close", lambda self: closed.append(self.name))
            transport.abandon()
        assert closed == ["device:/dev/tpm0"]


def _ignore(*_: object) -> bytes:
    return b""


def test_tpm2_pytss_is_named_where_it_is_missing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "tpm2_pytss", None)
    with pytest.raises(TpmUnavailable, match=r"pip install 'tpmtls\[tpm\]'"):
        open_tpm("device:/dev/tpm0")


def test_importing_does_not_need_tpm2_pytss() -> None:
    code = (
        "import sys; sys.modules['tpm2_pytss'] = None\n"
        "from tpmtls.backends.tpm import opening, commands\n"
        "print(len(opening.open_tpm('libtpms:').run(commands.get_random(8))))"
    )
    assert run(code) == ("8\n", "")


def run(code: str) -> tuple[str, str]:
    """What another process says and complains of."""
    command = [sys.executable, "-c", code]
    done = subprocess.run(command, capture_output=True, check=False, text=True)
    return done.stdout, done.stderr


# -- libtpms ---------------------------------------------------------------------------------------


@pytest.mark.usefixtures("need_libtpms")
class TestLibtpms:
    def test_state_in_a_folder_stays(self, tmp_path: Path) -> None:
        name = f"libtpms:{tmp_path / 'state'}"
        with open_tpm(name) as tpm, tpm.load(_primary()) as key:
            public = key.public
        with open_tpm(name) as tpm, tpm.load(_primary()) as key:
            assert key.public == public
        assert (tmp_path / "state").stat().st_mode & 0o777 == 0o700
        assert (tmp_path / "state" / "permall").stat().st_mode & 0o777 == 0o600

    def test_state_in_memory_does_not(self) -> None:
        names = set()
        for _ in range(2):
            with open_tpm("libtpms:") as tpm, tpm.load(_primary()) as key:
                names.add(key.name)
        assert len(names) == 2

    def test_nothing_is_written_for_state_in_memory(
        self, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.chdir(tmp_path)
        with open_tpm("libtpms:") as tpm, tpm.load(_primary()):
            pass
        assert list(tmp_path.iterdir()) == []

    def test_a_process_has_one(self, tmp_path: Path) -> None:
        with (
            open_tpm("libtpms:"),
            pytest.raises(TpmBusy, match="libtpms is in use: a process has one TPM of it"),
        ):
            open_tpm(f"libtpms:{tmp_path}")
        with open_tpm(f"libtpms:{tmp_path}") as tpm:
            assert len(tpm.run(commands.get_random(8))) == 8

    def test_a_folder_has_one_process(self, tmp_path: Path) -> None:
        code = (
            "from tpmtls.backends.tpm.opening import open_tpm; from tpmtls.violations import *\n"
            "try:\n"
            f"    open_tpm('libtpms:{tmp_path}').close()\n"
            "except TpmBusy as error:\n"
            "    print(error, end='')"
        )
        with open_tpm(f"libtpms:{tmp_path}"):
            assert run(code) == (f"libtpms:{tmp_path} is in use by another process", "")
        assert run(code) == ("", "")

    def test_a_folder_that_cannot_be(self, tmp_path: Path) -> None:
        (tmp_path / "file").touch()
        with pytest.raises(TpmUnavailable, match="file/state: Not a directory"):
            open_tpm(f"libtpms:{tmp_path}/file/state")
        open_tpm("libtpms:").close()

    def test_a_state_that_is_damaged(self, tmp_path: Path) -> None:
        (tmp_path / "permall").write_bytes(b"not a state")
        with pytest.raises(TpmUnavailable, match="does not start: its state is not readable"):
            open_tpm(f"libtpms:{tmp_path}")
        open_tpm("libtpms:").close()

    def test_a_state_that_cannot_be_read(self, tmp_path: Path) -> None:
        (tmp_path / "permall").mkdir()
        with pytest.raises(TpmUnavailable, match="does not start: Is a directory"):
            open_tpm(f"libtpms:{tmp_path}")

    def test_a_state_that_cannot_be_written(
        self, tmp_path: Path, capfd: pytest.CaptureFixture[str]
    ) -> None:
        tpm = open_tpm(f"libtpms:{tmp_path}")
        (tmp_path / "permall.new").mkdir()
        with pytest.raises(TpmUnavailable, match="cannot keep its state: Is a directory"):
            tpm.run(commands.shutdown())
        tpm.close()
        assert "".join(capfd.readouterr()) == ""

    def test_the_library_is_named_where_it_is_missing(
        self, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        from tpmtls.backends.tpm import libtpms

        monkeypatch.setattr(libtpms, "_LIBRARY", "libnowhere.so")
        with pytest.raises(TpmUnavailable, match=r"libnowhere\.so is not there: install libtpms"):
            libtpms._Libtpms()

    def test_a_transport_of_its_own(self) -> None:
        transport = LibtpmsTransport()
        assert transport.name == "libtpms:"
        transport.transmit(STARTUP)
        assert len(transport.transmit(RANDOM)) == 20
        transport.close()


def _primary() -> Creation:
    from tpmtls.backends.tpm.public import ecdsa_key

    return commands.create_primary(ecdsa_key(Curve.NIST_P256), hierarchy=OWNER)


def test_the_default_waits_as_long_as_a_chip_needs() -> None:
    assert tcti.TIMEOUT >= 60
