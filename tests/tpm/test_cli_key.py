"""`tpmtls key`, and what others make of its keys: serve, connect, OpenSSL, tpm2-tools."""

from __future__ import annotations

import contextlib
import datetime
import re
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from unittest import mock

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization

from tests.tpm.conftest import loaded_sessions, transient
from tests.tpm.swtpm import Swtpm
from tests.unit.commands import Outcome, serving, tpmtls
from tests.unit.support import pki
from tpmtls.backends.tpm import commands, keys, public
from tpmtls.backends.tpm.frames import OWNER, Entity
from tpmtls.backends.tpm.opening import open_tpm
from tpmtls.backends.tpm.public import parse_public
from tpmtls.violations import TpmError

HANDLE = "0x81000077"
ECHO = b"through the TPM's signature\n"


@pytest.fixture(autouse=True)
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, shared_swtpm: Swtpm) -> Iterator[Path]:
    """The current folder, and a TPM for commands in it, without a word in their arguments."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("TPM2TOOLS_TCTI", shared_swtpm.tcti)
    monkeypatch.setenv("TPM2OPENSSL_TCTI", shared_swtpm.tcti)
    with open_tpm() as tpm:
        yield tmp_path
        for handle in (*transient(tpm), *loaded_sessions(tpm)):
            with contextlib.suppress(TpmError):  # a key of ours, gone since
                tpm.run(commands.flush_context(handle))  # tpm2_encodeobject leaves sessions


@pytest.fixture
def persistent() -> Iterator[str]:
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
            tpm.run(keys._evict_control(parent, int(persistent, 16)))
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
    assert "is not the key of --cert" in outcome.stderr
    nobody = tpmtls(*serve, "--tcti", "swtpm:host=127.0.0.1,port=1")
    assert nobody.status == 3


# -- other programs with our keys ------------------------------------------------------------------


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


def test_nothing_stays_in_the_tpm(folder: Path) -> None:
    with open_tpm() as tpm:
        before = transient(tpm), loaded_sessions(tpm)
        key("create", "--out", "my.key", "--pcrs", "sha256:16")
        key("cert", "--key", "my.key", "--name", "a")
        assert (transient(tpm), loaded_sessions(tpm)) == before
    assert [path.name for path in folder.iterdir()] == ["my.key"]
