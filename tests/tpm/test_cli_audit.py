"""`tpmtls audit --capabilities`: what a TPM can do, and what each level offers with it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import pytest

import tpmtls.cli.audit
from tests.tpm.fakes import Restricted, command_code
from tests.unit.commands import tpmtls as run
from tpmtls.backends.tpm import opening
from tpmtls.backends.tpm.backend import LEVELS, TpmBackend
from tpmtls.backends.tpm.constants import CommandCode, ResponseCode
from tpmtls.backends.tpm.device import Device
from tpmtls.backends.tpm.libtpms import LibtpmsTransport
from tpmtls.backends.tpm.opening import Tpm, open_device

KEYS = {
    *("tpm", "manufacturer", "model", "firmware", "revision", "commands", "lacking", "curves"),
    *("hmac_hashes", "aes_modes", "slots", "loaded_sessions", "active_sessions", "input_buffer"),
    *("pss_salt", "levels", "all"),
}


def test_for_people(tpm: Tpm) -> None:
    outcome = run("audit", "--capabilities", "--tcti", tpm.name)
    assert (outcome.status, outcome.stderr) == (0, "")
    said = outcome.stdout.decode()
    assert said.startswith(tpm.capabilities.describe())
    assert tpm.pss_salt().value in said
    for level in LEVELS:
        assert f"--protect {level}\n  groups   secp256r1 secp384r1" in said
    assert f"--protect {','.join(LEVELS)}, the default\n" in said


def test_for_programs(tpm: Tpm) -> None:
    outcome = run("audit", "--capabilities", "--json", "--tcti", tpm.name)
    assert (outcome.status, outcome.stderr) == (0, "")
    said = json.loads(outcome.stdout)
    assert said.keys() == KEYS
    assert said["tpm"] == tpm.name
    assert said["lacking"] == []
    assert said["hmac_hashes"] == sorted(tpm.capabilities.hmac_hashes)
    assert said["aes_modes"].keys() == {"128", "256"}
    assert tuple(said["levels"]) == LEVELS
    for level in LEVELS:
        backend = TpmBackend(tpm, {level})
        assert said["levels"][level] == {
            "protect": [level],
            "groups": [group.name for group in backend.groups],
            "suites": [suite.name for suite in backend.suites],
        }
    assert said["all"]["protect"] == list(LEVELS)


@pytest.fixture
def lesser(need_libtpms: None, monkeypatch: pytest.MonkeyPatch) -> Callable[[CommandCode], None]:
    """Makes a TPM of those that the command opens lack a command."""

    def lack(code: CommandCode) -> None:
        def verdict(frame: bytes) -> int | None:
            return ResponseCode.COMMAND_CODE if command_code(frame) == code else None

        def open_lesser(_: Any) -> Tpm:
            return open_device(Device(Restricted(LibtpmsTransport(), verdict)))

        monkeypatch.setattr(opening, "open_tpm", open_lesser)

    return lack


def test_a_level_that_is_not_possible(lesser: Callable[[CommandCode], None]) -> None:
    lesser(CommandCode.EncryptDecrypt2)
    said = json.loads(run("audit", "--capabilities", "--json").stdout)
    assert said["levels"]["aead"] is None
    assert said["aes_modes"] == {"128": [], "256": []}
    assert said["all"]["protect"] == [level for level in LEVELS if level != "aead"]
    shown = run("audit", "--capabilities").stdout.decode()
    assert "\n--protect aead: this TPM cannot do it\n" in shown
    assert "\n--protect sign,ecdhe,hkdf, the default\n" in shown


def test_no_tpm(need_pytss: None) -> None:
    for form in (), ("--json",):
        tcti = "swtpm:host=localhost,port=1"
        outcome = run("audit", "--capabilities", "--tcti", tcti, *form)
        assert (outcome.status, outcome.stdout) == (3, b"")
        assert len(outcome.stderr.splitlines()) == 1


def test_usage() -> None:
    outcome = run("audit")
    assert outcome.status == 2
    assert "--capabilities" in outcome.stderr
    help_text = run("audit", "--help").stdout.decode()
    assert "examples:\n  tpmtls audit" in help_text
    assert tpmtls.cli.audit.SUMMARY in run("--help").stdout.decode()
