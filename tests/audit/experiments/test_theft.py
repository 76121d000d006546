"""The disk is stolen, without the TPM, with it, or together with the use of it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.audit.experiments.attacks import Loot, new_connections, stored_sessions
from tests.audit.experiments.live import Ours, Server
from tests.audit.experiments.machine import SESSIONS, Machine, credential, used
from tests.audit.experiments.verdicts import Measured, assert_agrees, verdict
from tests.pki import Pki
from tpmtls.algorithms import SHA256
from tpmtls.audit.profiles import BY_KEY, PROFILES, Profile
from tpmtls.backends.software import SoftwareBackend
from tpmtls.violations import StoredSecretError, TpmError

pytestmark = pytest.mark.usefixtures("need_libtpms")

each_profile = pytest.mark.parametrize("profile", PROFILES, ids=lambda p: p.key)


def steal(profile: Profile, server: Server, pki: Pki, folder: Path) -> Measured:
    """Take the disk of a machine: to where another TPM is, and with its own."""
    disk = folder / "disk"
    disk.mkdir()
    attacks = new_connections(profile)
    with used(Machine(profile, disk, pki), server) as machine:
        loot = Loot(disk, tpm=machine.tpm, backend=machine.backend)
        with_tpm = {goal: attack(loot, server, pki) for goal, attack in attacks.items()}
    with Machine(profile, folder, pki) as elsewhere:
        loot = Loot(disk, tpm=elsewhere.tpm, backend=elsewhere.backend)
        without = {goal: attack(loot, server, pki) for goal, attack in attacks.items()}
    measured = {("disk", profile.key, goal): verdict(away=without[goal]) for goal in attacks}
    for goal in attacks:
        away = with_tpm[goal] or without[goal]
        measured["host-tpm", profile.key, goal] = verdict(away=away)
    return measured


@each_profile
def test_a_stolen_disk(profile: Profile, server: Server, pki: Pki, tmp_path: Path) -> None:
    assert_agrees(steal(profile, server, pki, tmp_path))


@pytest.mark.parametrize("key", ["sign", "sign+ecdhe+hkdf", "chained", "handle-only"])
def test_what_another_tpm_says_of_it(key: str, ours: Ours, pki: Pki, tmp_path: Path) -> None:
    profile = BY_KEY[key]
    with used(Machine(profile, tmp_path, pki), ours) as machine:
        stored = stored_sessions(tmp_path)
        for ticket in stored:
            machine.backend.destroy(machine.backend.unwrap(ticket.psk, "PSK", SHA256))
            with pytest.raises(StoredSecretError):
                SoftwareBackend().unwrap(ticket.psk, "PSK", SHA256)
    elsewhere = tmp_path / "elsewhere"
    elsewhere.mkdir()
    with Machine(profile, elsewhere, pki) as other:
        for ticket in stored:
            with pytest.raises(StoredSecretError):
                other.backend.unwrap(ticket.psk, "PSK", SHA256)
        with pytest.raises(TpmError):
            credential(tmp_path, other.tpm)


@pytest.mark.parametrize(
    ("key", "options", "resumes"),
    [
        ("software", (), True),
        ("all", ("--backend", "tpm"), False),
        ("chained", ("--backend", "tpm", "--protect", "chained"), False),
    ],
)
def test_another_process_has_another_tpm(
    key: str, options: tuple[str, ...], resumes: bool, ours: Ours, pki: Pki, tmp_path: Path
) -> None:
    """The thief's is `tpmtls connect`, which opens a TPM of its own."""
    with used(Machine(BY_KEY[key], tmp_path, pki), ours):
        command = [sys.executable, "-m", "tpmtls.cli", "connect", f"localhost:{ours.port}"]
        command += ["--ca", str(pki.ca), "--session", str(tmp_path / SESSIONS), "--json"]
        environment = {k: v for k, v in os.environ.items() if k != "TPM2TOOLS_TCTI"}
        done = subprocess.run(
            [*command, *options],
            input=b"",
            capture_output=True,
            timeout=60,
            env=environment,
            check=False,
        )
    assert done.returncode == 0, done.stderr
    report = json.loads(done.stderr.splitlines()[-1])
    assert report["psk"] == ("resumption" if resumes else None)
