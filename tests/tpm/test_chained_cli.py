"""`tpmtls connect` and `tpmtls serve` with --protect chained."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from tests.tpm.swtpm import Swtpm
from tests.unit.commands import serving, tpmtls
from tests.unit.support import pki, server_config
from tpmtls.sockets import serve


@pytest.fixture
def options(swtpm: Swtpm) -> list[str]:
    assert tpmtls("key", "chain", "--tcti", swtpm.tcti).status == 0
    return ["--backend", "tpm", "--protect", "chained", "--tcti", swtpm.tcti]


def test_a_client_starts_again_and_resumes(options: list[str], tmp_path: Path) -> None:
    options += ["--session", str(tmp_path / "sessions"), "--ca", str(pki().ca), "--json"]
    data = os.urandom(100_000)
    with serve(("127.0.0.1", 0), server_config(), lambda s: s.sendall(s.recv())) as server:
        address = f"localhost:{server.address[1]}"
        first, second = (tpmtls("connect", address, *options, stdin=data) for _ in range(2))
    assert first.status == second.status == 0
    assert data.startswith(first.stdout)
    assert first.report["psk"] is None
    assert second.report["psk"] == "resumption"


def test_a_server(options: list[str]) -> None:
    with serving(*options) as served:
        address = f"localhost:{served.port}"
        for _ in range(2):
            outcome = tpmtls("connect", address, "--ca", pki().ca, stdin=b"text")
            assert outcome.status == 0, outcome.stderr


def test_what_does_not_go_together(options: list[str], tmp_path: Path) -> None:
    connect = ("connect", "localhost:1", "--insecure")
    for more, said in (
        (["--keylog", str(tmp_path / "log")], "with chained the secrets are in the TPM"),
        (["--protect", "chained,aead"], "in place of aead"),
        (["--encrypt-bus"], "encrypts what crosses already"),
        (["--suites", "TLS_CHACHA20_POLY1305_SHA256"], "with --backend tpm there is"),
    ):
        outcome = tpmtls(*connect, *options, *more)
        assert outcome.status == 2
        assert said in outcome.stderr


def test_not_provisioned(swtpm: Swtpm) -> None:
    options = ("--backend", "tpm", "--protect", "chained", "--tcti", swtpm.tcti)
    outcome = tpmtls("connect", "localhost:1", "--insecure", *options)
    assert outcome.status == 2
    assert "run `tpmtls key chain` once" in outcome.stderr
