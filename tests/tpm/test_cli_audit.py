"""`tpmtls audit`: what is printed of an audit, and of a TPM's capabilities."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from jsonschema import Draft202012Validator, FormatChecker, ValidationError

import tpmtls.cli.audit
from tests.tpm.conftest import loaded_sessions, nv_and_persistent
from tests.tpm.fakes import Restricted, command_code, without
from tests.tpm.swtpm import Swtpm
from tests.unit.commands import tpmtls as run
from tpmtls.audit.attackers import ATTACKERS, GOALS
from tpmtls.audit.document import schema
from tpmtls.audit.profiles import PROFILES
from tpmtls.backends.tpm import opening, tcti
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
    for wrong in (
        ("--profile", "none"),
        ("--suite", "TLS_NULL"),
        ("--protect", "hkdf,none"),
        ("--capabilities", "--profile", "all"),
    ):
        outcome = run("audit", *wrong)
        assert (outcome.status, outcome.stdout) == (2, b"")
        assert len(outcome.stderr.splitlines()) == 1
    help_text = run("audit", "--help").stdout.decode()
    assert "examples:\n  tpmtls audit" in help_text
    assert tpmtls.cli.audit.SUMMARY in run("--help").stdout.decode()


# -- audits ----------------------------------------------------------------------------------------


def test_the_names_of_profiles() -> None:
    assert tuple(profile.key for profile in PROFILES) == tpmtls.cli.audit.PROFILES


def test_no_options(need_libtpms: None) -> None:
    outcome = run("audit", "--tcti", "libtpms:")
    assert outcome.status == 0
    lines = outcome.stdout.decode().splitlines()
    assert max(map(len, lines)) <= 100
    shown = [line.removeprefix("== ").partition(":")[0] for line in lines if line[:2] == "=="]
    assert shown == [*(profile.key for profile in PROFILES), "What each attacker can do", "Why"]
    assert [line for line in lines if "not possible" in line] == []
    for goal in GOALS:
        assert sum(line.startswith(f"-- {goal}: ") for line in lines) == 1
    progress = outcome.stderr.splitlines()
    assert [line for line in progress if "connections" in line] == [
        f"tpmtls audit: {profile.key}: two connections" for profile in PROFILES
    ]


def test_rows(need_libtpms: None) -> None:
    said = run("audit", "--profile", "all", "--tcti", "libtpms:").stdout.decode()
    for secret, way, kept in (
        ("   signing_key", "Create", "tpm (file)"),
        ("12 ephemeral_key", "CreatePrimary", "tpm"),
        ("12 shared_secret", "ECDH_ZGen > HMAC", "host"),
        ("12 client_application_traffic_secret_0", "HMAC > LoadExternal", "tpm"),
        ("12 …traffic_secret…/ghash_key", "EncryptDecrypt2", "host"),
        ("2  early_secret", "HMAC > Create, (Load)", "tpm (file)"),
    ):
        assert re.search(
            rf"^{re.escape(secret)} +{re.escape(way)} +{re.escape(kept)} ", said, re.MULTILINE
        )


def document(*options: str) -> dict[str, Any]:
    """What an audit says to programs, under its schema."""
    outcome = run("audit", "--json", *options)
    assert outcome.status == 0
    said: dict[str, Any] = json.loads(outcome.stdout)
    check(said)
    return said


def check(said: dict[str, Any]) -> None:
    Draft202012Validator(schema(), format_checker=FormatChecker()).validate(said)


def test_json_is_under_the_schema(need_libtpms: None) -> None:
    Draft202012Validator.check_schema(schema())
    said = document("--tcti", "libtpms:", "--profile", "all", "--profile", "chained")
    assert [each["profile"] for each in said["observations"]] == ["all", "chained"]
    assert len(said["cells"]) == 2 * len(ATTACKERS) * len(GOALS)
    assert said["unavailable"] == []
    again = json.loads(json.dumps(said))
    del again["observations"][0]["secrets"][0]["born"]
    with pytest.raises(ValidationError):
        check(again)


def test_profiles_come_once_and_in_order(need_libtpms: None) -> None:
    said = document("--profile", "sign", "--profile", "software", "--profile", "sign")
    assert [each["profile"] for each in said["observations"]] == ["software", "sign"]


def test_another_suite(need_libtpms: None) -> None:
    suite = "TLS_AES_128_CCM_SHA256"
    (seen,) = document("--profile", "chained", "--suite", suite)["observations"]
    assert seen["suite"] == suite
    assert "ghash_key" not in {secret["name"] for secret in seen["secrets"]}


@pytest.mark.parametrize(
    ("levels", "key"),
    [("hkdf,ecdhe", "ecdhe+hkdf"), ("sign", "sign"), ("chained", "chained")],
)
def test_other_levels(need_libtpms: None, levels: str, key: str) -> None:
    said = document("--protect", levels, "--tcti", "libtpms:")
    assert [each["profile"] for each in said["observations"]] == [key]


def test_software_needs_no_tpm() -> None:
    said = document("--profile", "software", "--tcti", "swtpm:host=localhost,port=1")
    assert [each["tpm"] for each in said["observations"]] == [None]


def test_what_a_tpm_cannot_do(need_libtpms: None, monkeypatch: pytest.MonkeyPatch) -> None:
    def lesser(name: str, **_: Any) -> Any:
        return Restricted(LibtpmsTransport(), without(CommandCode.EncryptDecrypt2))

    monkeypatch.setattr(tcti, "open_transport", lesser)
    names = ("sign", "all", "psk", "chained")
    options = [f"--profile={name}" for name in names]
    said = document("--tcti", "libtpms:", *options)
    missing = {each["profile"]: each["reason"] for each in said["unavailable"]}
    assert missing.keys() == {"all", "psk", "chained"}
    assert [each["profile"] for each in said["observations"]] == ["sign"]
    assert "this TPM cannot do aead" in missing["all"]
    shown = run("audit", "--tcti", "libtpms:", *options).stdout.decode()
    assert shown.count("   not possible here: ") == len(missing)


def test_no_tpm_to_audit(need_pytss: None) -> None:
    outcome = run("audit", "--tcti", "swtpm:host=localhost,port=1")
    assert (outcome.status, outcome.stdout) == (3, b"")
    assert len(outcome.stderr.splitlines()) == 1


def test_either_tpm_and_nothing_is_left_in_it(tpm: Tpm) -> None:
    before = nv_and_persistent(tpm), loaded_sessions(tpm)
    options = [f"--profile={each.key}" for each in PROFILES if each.key != "chained"]
    said = document("--tcti", tpm.name, *options)
    assert [each["tpm"] for each in said["observations"][1:]] == [tpm.name] * (len(options) - 1)
    assert (nv_and_persistent(tpm), loaded_sessions(tpm)) == before


def test_chained_on_a_provisioned_tpm(provisioned: Tpm) -> None:
    (seen,) = document("--tcti", provisioned.name, "--profile", "chained")["observations"]
    assert seen["claim"]


def test_chained_says_how_to_provision(shared_swtpm: Swtpm) -> None:
    said = document("--tcti", shared_swtpm.tcti, "--profile", "chained")
    assert said["observations"] == []
    (missing,) = said["unavailable"]
    assert "`tpmtls key chain`" in missing["reason"]


def test_a_page(need_libtpms: None, tmp_path: Path) -> None:
    file = tmp_path / "audit.html"
    outcome = run("audit", "--profile", "software", "--profile", "all", "--html", str(file))
    assert outcome.status == 0
    assert outcome.stdout.startswith(b"tpmtls audit ")
    page = file.read_text("utf-8")
    assert page.startswith("<!doctype html>")
    assert "ghash_key" in page


@pytest.mark.parametrize("where", ["none/audit.html", "."])
def test_a_page_that_cannot_be_written(tmp_path: Path, where: str) -> None:
    outcome = run("audit", "--profile", "software", "--html", str(tmp_path / where))
    assert outcome.status == 2
    assert outcome.stderr.splitlines()[-1].startswith("tpmtls: --html: ")
