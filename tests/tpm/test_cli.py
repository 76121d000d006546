"""`tpmtls serve` and `tpmtls connect` with --backend tpm; two processes on one TPM."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.tpm.conftest import transient
from tests.tpm.swtpm import Swtpm
from tests.unit.commands import serving, tpmtls
from tests.unit.support import pki
from tpmtls.backends.tpm.backend import LEVELS
from tpmtls.backends.tpm.opening import open_tpm
from tpmtls.cli import options
from tpmtls.cli.exits import NOTHING_THERE, SUCCESS, USAGE


def test_the_options_know_every_level() -> None:
    assert options.LEVELS == LEVELS


def test_the_help_says_against_whom_a_level_helps() -> None:
    for command in "serve", "connect":
        said = tpmtls(command, "--help").stdout.decode()
        for words in (*LEVELS, "steals the disk", "snapshot of memory", "bus", "protects nothing"):
            assert words in said, words


@pytest.mark.parametrize("levels", ["ecdhe,hkdf", "aead", "sign,ecdhe,hkdf,aead"])
def test_two_processes_on_one_tpm(shared_swtpm: Swtpm, levels: str, tmp_path: Path) -> None:
    made, sessions = pki().server(), tmp_path / "sessions.json"
    tcti = ("--backend", "tpm", "--protect", levels, "--tcti", shared_swtpm.tcti)
    with open_tpm(shared_swtpm.tcti) as beside:
        before = transient(beside)
        with serving("--cert", made.chain, "--key", made.key, *tcti) as served:
            for resumed in False, True:
                outcome = tpmtls(
                    *("connect", f"localhost:{served.port}", "--ca", pki().ca, "--json"),
                    *(*tcti, "--session", sessions),
                    stdin=b"to and fro",
                )
                assert outcome.status == SUCCESS, outcome.stderr
                assert outcome.stdout == b"to and fro"
                assert (outcome.report["psk"] == "resumption") is resumed
            served.end()
        assert transient(beside) == before


CONNECT = ("connect", "localhost:1", "--insecure", "--backend", "tpm")


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        (("--protect", "hkfd"), USAGE, "there is no level 'hkfd'; there are sign, ecdhe, hkdf"),
        (("--backend", "software", "--protect", "hkdf"), USAGE, "--protect needs --backend tpm"),
        (("--tcti", "swtpm:port=1"), NOTHING_THERE, "is swtpm running there?"),
        (("--tcti", "device:/dev/none"), NOTHING_THERE, "no such device"),
        (("--groups", "x25519"), USAGE, "--groups: with --backend tpm there is: secp256r1, "),
        (
            ("--suites", "TLS_CHACHA20_POLY1305_SHA256"),
            USAGE,
            "--suites: with --backend tpm there is: TLS_AES_128_GCM_SHA256",
        ),
    ],
)
@pytest.mark.usefixtures("need_libtpms", "need_pytss")
def test_what_cannot_be_is_said_at_once(arguments: tuple[str, ...], status: int, says: str) -> None:
    outcome = tpmtls(*CONNECT, *arguments)
    assert (outcome.status, outcome.stdout) == (status, b"")
    assert says in outcome.stderr
    assert len(outcome.stderr.splitlines()) == 1


@pytest.mark.usefixtures("need_libtpms")
def test_there_is_no_key_log_of_what_is_in_the_tpm(tmp_path: Path) -> None:
    log = tmp_path / "log"
    outcome = tpmtls(*CONNECT, "--keylog", log)
    assert outcome.status == USAGE
    assert "no key log can have them: leave out hkdf" in outcome.stderr
    assert not log.exists() or log.read_bytes() == b""
    assert tpmtls(*CONNECT, "--keylog", log, "--protect", "ecdhe").status == NOTHING_THERE
