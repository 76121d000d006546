"""Other programs with keys of ours, and we with theirs; docs/tpm-keys.md sums it up."""

from __future__ import annotations

import re
import shutil
import subprocess
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.tpm.key_commands import (  # noqa: F401 - fixtures
    ECHO,
    folder_with_tpm,
    key,
    openssl,
    persistent_handle,
    program,
    tool,
)
from tests.unit.commands import tpmtls
from tpmtls.backends.tpm import commands, keys
from tpmtls.backends.tpm.frames import Entity
from tpmtls.backends.tpm.opening import open_tpm
from tpmtls.backends.tpm.public import parse_public


def _public_key(path: str) -> bytes:
    from tpmtls.backends.tpm.keyfile import KeyFile

    area = parse_public(KeyFile.parse(Path(path).read_bytes()).area)
    return keys.public_key(area).public_bytes(
        serialization.Encoding.PEM, serialization.PublicFormat.SubjectPublicKeyInfo
    )


@pytest.mark.usefixtures("need_tools")
@pytest.mark.parametrize("algorithm", keys.ALGORITHMS)
def test_tpm2_tools_load_a_key_file(folder: Path, algorithm: str) -> None:
    key("create", "--out", "my.key", "--algorithm", algorithm)
    tool("tpm2_load", "-Q", "-r", "my.key", "-c", "my.ctx")
    tool("tpm2_readpublic", "-Q", "-c", "my.ctx", "-f", "pem", "-o", "public.pem")
    assert (folder / "public.pem").read_bytes() == _public_key("my.key")
    (folder / "data").write_bytes(ECHO)
    digest = "sha384" if algorithm == "ecc-p384" else "sha256"
    tool(*("tpm2_sign", "-Q", "-c", "my.ctx", "-g", digest, "-f", "plain"), "-o", "sig", "data")
    openssl("dgst", f"-{digest}", "-verify", "public.pem", "-signature", "sig", "data")


@pytest.mark.usefixtures("need_tools", "need_pytss")
def test_others_and_passwords(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from tpm2_pytss.tsskey import TSSPrivKey

    monkeypatch.setenv("PW", "geheim")
    key("create", "--out", "my.key", "--password", "env:PW")
    assert TSSPrivKey.from_pem((folder / "my.key").read_bytes()).empty_auth is False
    (folder / "data").write_bytes(ECHO)
    (folder / "public.pem").write_bytes(_public_key("my.key"))
    tool("tpm2_load", "-Q", "-r", "my.key", "-c", "my.ctx")
    tool("tpm2_sign", "-Q", "-c", "my.ctx", "-p", "geheim", "-f", "plain", "-o", "sig", "data")
    openssl("dgst", "-sha256", "-verify", "public.pem", "-signature", "sig", "data")


@pytest.mark.usefixtures("need_tools", "need_pytss")
def test_others_do_not_know_policies(folder: Path) -> None:
    """When this fails, docs/tpm-keys.md is to change."""
    from tpm2_pytss.tsskey import TSSPrivKey

    key("create", "--out", "my.key", "--pcrs", "sha256:16")
    with pytest.raises(ValueError, match="UnexpectedTag"):
        TSSPrivKey.from_pem((folder / "my.key").read_bytes())
    if 'version="5.' in program("tpm2_load", "--version").decode():
        with pytest.raises(AssertionError, match="Unable to read PEM"):
            tool("tpm2_load", "-Q", "-r", "my.key", "-c", "my.ctx")


@pytest.mark.usefixtures("need_tools")
def test_tpm2_readpublic_reads_a_persistent_key(folder: Path, persistent: str) -> None:
    key("create", "--handle", persistent)
    tool("tpm2_readpublic", "-Q", "-c", persistent, "-f", "pem", "-o", "public.pem")
    with open_tpm() as tpm:
        area = parse_public(tpm.run(commands.read_public(Entity(int(persistent, 16), b""))).public)
    read = serialization.load_pem_public_key((folder / "public.pem").read_bytes())
    assert read == keys.public_key(area)


@pytest.mark.usefixtures("need_tools")
def test_a_key_file_that_tpm2_tools_made(folder: Path) -> None:
    parent = ("-C", "parent.ctx")
    tool("tpm2_createprimary", "-Q", "-C", "o", "-G", "ecc", "-c", "parent.ctx", "-a", _STORAGE)
    tool("tpm2_create", "-Q", *parent, "-G", "ecc", "-u", "my.pub", "-r", "my.priv")
    tool("tpm2_encodeobject", "-C", "o", "-u", "my.pub", "-r", "my.priv", "-o", "my.key")
    request = tpmtls("key", "csr", "--key", "my.key", "--name", "a")
    # It says that the key has a password, which is wrong, and such keys count wrong passwords.
    assert "has a password" in request.stderr
    key("csr", "--key", "my.key", "--name", "a", "--key-password", "file:/dev/null")
    attributes = ("-a", f"{_STORAGE}|sign".replace("restricted|decrypt|", ""))
    tool("tpm2_create", "-Q", *parent, "-G", "ecc", "-u", "my.pub", "-r", "my.priv", *attributes)
    tool("tpm2_encodeobject", "-C", "o", "-u", "my.pub", "-r", "my.priv", "-o", "my.key")
    request = key("csr", "--key", "my.key", "--name", "a")
    assert x509.load_pem_x509_csr(request.stdout).is_signature_valid


_STORAGE = "restricted|decrypt|fixedtpm|fixedparent|sensitivedataorigin|userwithauth|noda"

PROVIDER = ("-provider", "tpm2", "-provider", "default", "-propquery", "?provider=tpm2")


@pytest.fixture
def need_provider() -> None:
    """Debian's tpm2-openssl; without it these tests are skipped, also where CI is true."""
    if not any(Path("/usr/lib").glob("*/ossl-modules/tpm2.so")) or not shutil.which("openssl"):
        pytest.skip("tpm2-openssl is not installed")


@pytest.mark.usefixtures("need_provider")
@pytest.mark.parametrize("password", [None, "geheim"])
@pytest.mark.parametrize("algorithm", keys.ALGORITHMS)
def test_tpm2_openssl_signs_with_a_key_file(
    folder: Path, algorithm: str, password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", password or "")
    protected = ("--password", "env:PW") if password else ()
    key("create", "--out", "my.key", "--algorithm", algorithm, *protected)
    (folder / "public.pem").write_bytes(_public_key("my.key"))
    (folder / "data").write_bytes(ECHO)
    openssl(
        *("pkeyutl", *PROVIDER, "-sign", "-rawin", "-digest", "sha256", "-in", "data"),
        *("-inkey", "my.key", "-passin", "env:PW", "-out", "sig"),
    )
    openssl("dgst", "-sha256", "-verify", "public.pem", "-signature", "sig", "data")


@pytest.mark.usefixtures("need_provider")
@pytest.mark.parametrize("password", [None, "geheim"])
@pytest.mark.parametrize("algorithm", ["EC", "RSA", "RSA-PSS"])
def test_a_key_file_that_tpm2_openssl_made(
    algorithm: str, password: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PW", password or "")
    options = {"EC": ["group:P-384"], "RSA-PSS": ["digest:SHA256"]}.get(algorithm, [])
    options += [f"user-auth:{password}"] if password else []
    generate = ("genpkey", "-provider", "tpm2", "-algorithm", algorithm, "-out", "my.key")
    openssl(*generate, *(word for option in options for word in ("-pkeyopt", option)))
    request = key("csr", "--key", "my.key", "--name", "a", "--key-password", "env:PW").stdout
    assert b"self-signature verify OK" in openssl("req", "-verify", "-noout", stdin=request)


@pytest.mark.usefixtures("need_provider")
def test_tpm2_openssl_uses_a_persistent_key(folder: Path, persistent: str) -> None:
    key("create", "--handle", persistent)
    read = openssl("pkey", *PROVIDER, "-in", f"handle:{persistent}", "-pubout")
    request = key("csr", "--key", f"handle:{persistent}", "--name", "a").stdout
    asked = x509.load_pem_x509_csr(request).public_key()
    assert serialization.load_pem_public_key(read) == asked


@pytest.mark.usefixtures("need_provider")
def test_tpm2_openssl_of_debian_12_does_not_know_policies() -> None:
    """Its ASN.1 template has no field for one; when this fails, docs/tpm-keys.md is to change."""
    version = openssl("list", *PROVIDER[:4], "-providers").decode()
    if not re.search(r"TPM 2\.0 Provider\s+version: 1\.1\.", version):
        pytest.skip("another version of tpm2-openssl")
    key("create", "--out", "my.key", "--pcrs", "sha256:16")
    read = subprocess.run(
        ["openssl", "pkey", *PROVIDER, "-in", "my.key", "-pubout"],
        capture_output=True,
        timeout=60,
        check=False,
    )
    assert b"Could not read key from my.key" in read.stderr
