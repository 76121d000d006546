"""`tpmtls key`, and what others make of its keys: serve, connect, OpenSSL, tpm2-tools."""

from __future__ import annotations

import re
import subprocess
from pathlib import Path
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import serialization

from tests.tpm.conftest import loaded_sessions, transient
from tests.tpm.key_commands import (  # noqa: F401 - fixtures
    ECHO,
    HANDLE,
    folder_with_tpm,
    issue,
    key,
    openssl,
    persistent_handle,
)
from tests.unit.commands import serving, tpmtls
from tests.unit.support import pki
from tpmtls.backends.tpm import commands, keys, public
from tpmtls.backends.tpm.frames import OWNER
from tpmtls.backends.tpm.opening import open_tpm

# -- create ----------------------------------------------------------------------------------------


def test_a_key_file_is_for_its_owner_alone(folder: Path) -> None:
    made = key("create", "--out", "my.key")
    assert "my.key has a new ecc-p256 key, of use in swtpm:" in made.stderr
    path = folder / "my.key"
    assert path.stat().st_mode & 0o777 == 0o600
    first = path.read_bytes()
    assert first.startswith(b"-----BEGIN TSS2 PRIVATE KEY-----\n")
    refused = tpmtls("key", "create", "--out", "my.key")
    assert refused.status == 2
    assert "--force replaces it" in refused.stderr
    assert path.read_bytes() == first
    path.chmod(0o644)
    key("create", "--out", "my.key", "--force")
    assert path.read_bytes() != first
    assert path.stat().st_mode & 0o777 == 0o600
    assert [p.name for p in folder.iterdir()] == ["my.key"]


def test_a_key_at_a_handle(persistent: str) -> None:
    made = key("create", "--handle", persistent, "--algorithm", "ecc-p384")
    assert made.stderr.endswith(f"has a new ecc-p384 key: --key handle:{persistent}\n")
    again = tpmtls("key", "create", "--handle", persistent)
    assert again.status == 2
    assert "there is a key at 0x81000077 already" in again.stderr
    key("create", "--handle", persistent, "--force", "--pcrs", "sha256:16")
    assert tpmtls("key", "csr", "--key", f"handle:{persistent}", "--name", "a").status == 2
    key("csr", "--key", f"handle:{persistent}@sha256:16", "--name", "a")


def test_a_parent_of_ones_own(persistent: str) -> None:
    with open_tpm() as tpm:
        storage = commands.create_primary(public.storage_key(), hierarchy=OWNER)
        with tpm.load(storage) as parent:
            keys._evict(tpm, parent, int(persistent, 16))
    key("create", "--out", "my.key", "--parent", persistent)
    key("csr", "--key", "my.key", "--name", "localhost")


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        ((), 2, "COMMAND"),
        (("create",), 2, "one of the arguments --out --handle is required"),
        (("create", "--out", "a", "--handle", HANDLE), 2, "not allowed with"),
        (("create", "--handle", "1"), 2, "not a persistent handle"),
        (("create", "--handle", "0x81800000"), 2, "0x81000000 to 0x817fffff"),
        (("create", "--out", "/nowhere/k"), 2, "cannot write /nowhere/k"),
        (("create", "--out", "/nowhere/k", "--force"), 2, "cannot write /nowhere/k"),
        (("create", "--out", "a", "--algorithm", "dsa"), 2, "invalid choice"),
        (("create", "--out", "a", "--password", "hunter2"), 2, "say where the password is"),
        (("create", "--out", "a", "--password", "env:NOT_SET"), 2, "has no NOT_SET"),
        (("create", "--out", "a", "--password", "file:/nowhere"), 2, "cannot read /nowhere"),
        (("create", "--out", "a", "--password", "file:/dev/null"), 2, "it is empty"),
        (("create", "--out", "a", "--pcrs", "0,7"), 2, "are not PCRs"),
        (("create", "--out", "a", "--tcti", "swtpm:host=127.0.0.1,port=1"), 3, "refused"),
        (("create", "--out", "a", "--tcti", "libtpms:"), 2, "forgets its keys"),
        (("csr", "--name", "a"), 2, "--key"),
        (("csr", "--key", "/nowhere", "--name", "a"), 2, "cannot read /nowhere"),
        (("csr", "--key", f"handle:{HANDLE}", "--name", "a"), 2, "no key at 0x81000077"),
        (("csr", "--key", "a"), 2, "Give --name, --san or --subject"),
        (("csr", "--key", "a", "--name", "a b"), 2, "'DNS:a b' is not a name"),
        (("csr", "--key", "a", "--name", "ü"), 2, "is not a name"),
        (("csr", "--key", "a", "--san", "IP:localhost"), 2, "is not a name"),
        (("csr", "--key", "a", "--subject", "localhost"), 2, "not a subject"),
        (("cert", "--key", "a", "--name", "a", "--days", "0"), 2, "number of days"),
    ],
)
@pytest.mark.usefixtures("need_libtpms")
def test_mistakes(arguments: tuple[str, ...], status: int, words: str) -> None:
    outcome = tpmtls("key", *arguments)
    assert outcome.status == status, outcome.stderr
    assert words in outcome.stderr
    assert outcome.stderr.count("\n") == 1
    assert outcome.stdout == b""
    assert "hunter2" not in outcome.stderr


@pytest.mark.parametrize("command", [(), ("create",), ("csr",), ("cert",)])
def test_the_help_teaches(command: tuple[str, ...]) -> None:
    text = tpmtls("key", *command, "--help").stdout.decode()
    assert max(map(len, text.splitlines())) <= 100
    if not command:
        for word in ("steals the disk", "memory", "does not help", "examples"):
            assert word in text


# -- passwords -------------------------------------------------------------------------------------


def test_passwords_come_from_where_the_user_says(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (folder / "pw").write_bytes(b"from a file\r\nand more\n")
    monkeypatch.setenv("PW", "from a file")
    key("create", "--out", "my.key", "--password", "file:pw")
    for source in ("env:PW", "file:pw"):
        key("csr", "--key", "my.key", "--name", "a", "--key-password", source)
    with mock.patch("tpmtls.cli.settings.getpass", return_value="from a file") as asked:
        key("csr", "--key", "my.key", "--name", "a", "--key-password", "prompt")
    asked.assert_called_once()
    with mock.patch("tpmtls.cli.settings.getpass", side_effect=["one", "another"]):
        two = tpmtls("key", "create", "--out", "b.key", "--password", "prompt")
    assert "the two differ" in two.stderr
    none = tpmtls("key", "csr", "--key", "my.key", "--name", "a")
    assert none.status == 2
    assert "has a password" in none.stderr
    monkeypatch.setenv("PW", "wrong")
    wrong = tpmtls("key", "csr", "--key", "my.key", "--name", "a", "--key-password", "env:PW")
    assert wrong.status == 2
    assert "check the key's password" in wrong.stderr


def test_a_software_key_with_a_password(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    encrypted = serialization.BestAvailableEncryption(b"geheim")
    pem = (
        pki()
        .server()
        .private_key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, encrypted
        )
    )
    (folder / "soft.key").write_bytes(pem)
    monkeypatch.setenv("PW", "geheim")
    request = key("csr", "--key", "soft.key", "--name", "a", "--key-password", "env:PW").stdout
    assert x509.load_pem_x509_csr(request).is_signature_valid
    refused = tpmtls("key", "csr", "--key", "soft.key", "--name", "a")
    assert "is encrypted" in refused.stderr
    monkeypatch.setenv("PW", "wrong")
    refused = tpmtls("key", "csr", "--key", "soft.key", "--name", "a", "--key-password", "env:PW")
    assert "another password" in refused.stderr


@pytest.mark.parametrize("kind", ["rsa", "p521", "ed25519"])
def test_requests_for_software_keys(kind: str) -> None:
    made = tpmtls("key", "csr", "--key", pki().server(kind).key, "--name", "a")
    if kind == "ed25519":
        assert "only ECDSA and RSA" in made.stderr
    else:
        assert b"self-signature verify OK" in openssl("req", "-verify", stdin=made.stdout)


# -- requests and certificates ---------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", keys.ALGORITHMS)
def test_openssl_verifies_requests(algorithm: str) -> None:
    key("create", "--out", "my.key", "--algorithm", algorithm)
    names = ("--name", "localhost", "--name", "127.0.0.1", "--name", "::1")
    more = ("--san", "DNS:*.example.org", "--san", "email:a@example.org", "--san", "URI:https://b/")
    key("csr", "--key", "my.key", *names, *more, "--subject", "CN=me,O=Us", "--out", "my.csr")
    text = openssl("req", "-in", "my.csr", "-verify", "-noout", "-text", "-subject").decode()
    assert "Certificate request self-signature verify OK" in text
    assert "subject=O = Us, CN = me" in text
    for name in (
        *("DNS:localhost", "IP Address:127.0.0.1", "IP Address:0:0:0:0:0:0:0:1"),
        *("DNS:*.example.org", "email:a@example.org", "URI:https://b/", "Digital Signature"),
    ):
        assert name in text


def test_a_name_too_long_for_a_common_name() -> None:
    key("create", "--out", "my.key")
    name = ".".join(["label"] * 12)
    request = key("csr", "--key", "my.key", "--name", name).stdout
    read = x509.load_pem_x509_csr(request)
    assert not read.subject.rdns
    assert read.extensions.get_extension_for_class(x509.SubjectAlternativeName).critical


def test_a_self_signed_certificate_serves(folder: Path) -> None:
    key("create", "--out", "my.key")
    key("cert", "--key", "my.key", "--name", "localhost", "--out", "my.pem", "--days", "2")
    openssl("verify", "-CAfile", "my.pem", "-verify_hostname", "localhost", "my.pem")
    read = x509.load_pem_x509_certificate((folder / "my.pem").read_bytes())
    assert read.subject == read.issuer
    assert (read.not_valid_after_utc - read.not_valid_before_utc).days == 2
    with serving("--cert", "my.pem", "--key", "my.key", certificate=False) as served:
        outcome = tpmtls("connect", f"localhost:{served.port}", "--ca", "my.pem", stdin=ECHO)
    assert (outcome.status, outcome.stdout) == (0, ECHO)


# -- in TLS ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("algorithm", keys.ALGORITHMS)
def test_from_a_key_to_mutual_tls(folder: Path, algorithm: str, persistent: str) -> None:
    key("create", "--out", "server.key", "--algorithm", algorithm)
    key("create", "--handle", persistent, "--algorithm", algorithm)
    client = f"handle:{persistent}"
    request = key("csr", "--key", "server.key", "--name", "localhost").stdout
    issue(request, folder / "server.pem")
    issue(key("csr", "--key", client, "--name", "client").stdout, folder / "client.pem")
    server = ("--cert", "server.pem", "--key", "server.key", "--client-ca", pki().ca)
    with serving(*server, "--require-client-cert", "--json", certificate=False) as served:
        outcome = tpmtls(
            *("connect", f"localhost:{served.port}", "--ca", pki().ca),
            *("--cert", "client.pem", "--key", client),
            stdin=ECHO,
        )
        assert (outcome.status, outcome.stdout) == (0, ECHO)
        assert '"peer_certificate": "CN=client"' in served.next_line()


@pytest.mark.parametrize("algorithm", keys.ALGORITHMS)
def test_openssl_accepts_a_client_with_its_key_in_the_tpm(folder: Path, algorithm: str) -> None:
    key("create", "--out", "my.key", "--algorithm", algorithm)
    issue(key("csr", "--key", "my.key", "--name", "client").stdout, folder / "my.pem")
    server = pki().server()
    command = [
        *("openssl", "s_server", "-accept", "127.0.0.1:0", "-naccept", "1", "-tls1_3", "-rev"),
        *("-cert", str(server.chain), "-key", str(server.key)),
        *("-CAfile", str(pki().ca), "-Verify", "2", "-verify_return_error"),
    ]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
    ) as served:
        assert served.stdout is not None
        announced = next(line for line in served.stdout if line.startswith("ACCEPT"))
        port = announced.rpartition(":")[2].strip()
        outcome = tpmtls(
            *("connect", f"localhost:{port}", "--ca", pki().ca),
            *("--cert", "my.pem", "--key", "my.key"),
            stdin=b"abc\n",
        )
        said = served.stdout.read()
    assert (outcome.status, outcome.stdout) == (0, b"cba\n"), outcome.stderr
    assert re.search(r"verify return:1|CN = client", said)


def test_a_key_that_is_not_the_certificates(folder: Path) -> None:
    key("create", "--out", "my.key")
    key("create", "--out", "other.key")
    key("cert", "--key", "my.key", "--name", "localhost", "--out", "my.pem")
    serve = ("serve", "--listen", "127.0.0.1:0", "--cert", "my.pem", "--key", "other.key")
    outcome = tpmtls(*serve)
    assert outcome.status == 2
    assert "is not that of the first certificate" in outcome.stderr
    nobody = tpmtls(*serve, "--tcti", "swtpm:host=127.0.0.1,port=1")
    assert nobody.status == 3


def test_nothing_stays_in_the_tpm(folder: Path) -> None:
    with open_tpm() as tpm:
        before = transient(tpm), loaded_sessions(tpm)
        key("create", "--out", "my.key", "--pcrs", "sha256:16")
        key("cert", "--key", "my.key", "--name", "a")
        assert (transient(tpm), loaded_sessions(tpm)) == before
    assert [path.name for path in folder.iterdir()] == ["my.key"]
