"""What the tests of `tpmtls key` share: a TPM for commands, and ways to run them and others.

Its fixtures hold where they are imported.
"""

from __future__ import annotations

import contextlib
import datetime
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.tpm.conftest import loaded_sessions, transient
from tests.tpm.swtpm import Swtpm
from tests.unit.commands import Outcome, tpmtls
from tests.unit.support import pki
from tpmtls.backends.tpm import commands, keys
from tpmtls.backends.tpm.opening import open_tpm
from tpmtls.violations import TpmError

HANDLE = "0x81000077"
ECHO = b"through the TPM's signature\n"


@pytest.fixture(name="folder", autouse=True)
def folder_with_tpm(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_swtpm: Swtpm
) -> Iterator[Path]:
    """The current folder, and a TPM for commands in it, without a word in their arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TPM2TOOLS_TCTI", shared_swtpm.tcti)
    monkeypatch.setenv("TPM2OPENSSL_TCTI", shared_swtpm.tcti)
    with open_tpm() as tpm:
        yield tmp_path
        for handle in (*transient(tpm), *loaded_sessions(tpm)):
            with contextlib.suppress(TpmError):  # a key of ours, gone since
                tpm.run(commands.flush_context(handle))  # tpm2_encodeobject leaves sessions


@pytest.fixture(name="persistent")
def persistent_handle() -> Iterator[str]:
    yield HANDLE
    with open_tpm() as tpm:
        keys.remove(tpm, int(HANDLE, 16))


def key(*arguments: object) -> Outcome:
    """Run `tpmtls key`, which must succeed."""
    outcome = tpmtls("key", *arguments)
    assert outcome.status == 0, outcome.stderr
    return outcome


def openssl(*arguments: object, stdin: bytes = b"") -> bytes:
    return program("openssl", *arguments, stdin=stdin)


def program(*command: object, stdin: bytes = b"") -> bytes:
    """Run another program, which must succeed."""
    done = subprocess.run(
        [str(word) for word in command], input=stdin, capture_output=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr.decode()
    return done.stdout + done.stderr


def tool(*command: object) -> None:
    """Run one of tpm2-tools, and remove what it leaves in the TPM where nobody manages slots."""
    try:
        program(*command)
    finally:
        program("tpm2_flushcontext", "-t")


def issue(request: bytes, path: Path) -> Path:
    """A certificate that the tests' root signs, for what a request asks."""
    asked = x509.load_pem_x509_csr(request)
    assert asked.is_signature_valid
    root = pki().root
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(asked.subject)
        .issuer_name(root.certificate.subject)
        .public_key(asked.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(root.private_key.public_key()),
            critical=False,
        )
    )
    for extension in asked.extensions:
        builder = builder.add_extension(extension.value, critical=extension.critical)
    certificate = builder.sign(root.private_key, hashes.SHA256())
    path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    return path
