"""`tpmtls key import-psk`: from where the PSK comes, what is left of it, and what is refused."""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import pytest

from tests.tpm.support import Ends, Pair, client_config, server_config
from tests.tpm.swtpm import Swtpm
from tests.unit.commands import Outcome, serving
from tests.unit.commands import tpmtls as run
from tpmtls import open_backend
from tpmtls.algorithms import SHA256, SHA384
from tpmtls.backends.tpm.frames import OWNER, Command, sized
from tpmtls.backends.tpm.hkdf import host_octets
from tpmtls.backends.tpm.opening import open_tpm
from tpmtls.backends.tpm.psk import two_keys
from tpmtls.codepoints import CipherSuite
from tpmtls.config import ExternalPsk

KEY = bytes(range(100, 132))
PSK = f"printer:{KEY.hex()}"


@pytest.fixture
def tcti(need_libtpms: None, tmp_path: Path) -> str:
    return f"libtpms:{tmp_path / 'tpm'}"


@pytest.fixture
def out(tmp_path: Path) -> Path:
    return tmp_path / "printer.psk"


def import_psk(tcti: str, out: Path, *arguments: object, stdin: bytes = b"") -> Outcome:
    return run("key", "import-psk", "--tcti", tcti, "--out", out, *arguments, stdin=stdin)


@pytest.mark.parametrize("source", ["argument", "file", "stdin", "terminal"])
def test_it_is_of_use_in_its_tpm(tcti: str, tmp_path: Path, out: Path, source: str) -> None:
    file = tmp_path / "secret.txt"
    file.write_text(f"{PSK}\nanother:00\n")
    if source == "argument":
        outcome = import_psk(tcti, out, PSK)
    elif source == "file":
        outcome = import_psk(tcti, out, "--hex-file", file)
    elif source == "stdin":
        outcome = import_psk(tcti, out, stdin=file.read_bytes())
    else:
        with (
            mock.patch("tpmtls.cli.key_psk.getpass", return_value=PSK),
            mock.patch("tpmtls.cli.key_psk.sys") as system,
        ):
            system.stdin.isatty.return_value = True
            outcome = import_psk(tcti, out)
    assert outcome.status == 0, outcome.stderr
    assert outcome.stderr == f"{out} has the PSK 'printer', of use in {tcti} only\n"
    assert outcome.stdout == b""
    assert out.stat().st_mode & 0o777 == 0o600
    for secret in KEY, KEY.hex().encode():
        assert secret not in out.read_bytes()
    backend = open_backend("tpm", tcti=tcti, protect={"hkdf"})
    pair = Pair(
        Ends(backend, None),
        client_config(psks=(ExternalPsk.load(out),)),
        server_config(credentials=(), psks=(ExternalPsk(b"printer", KEY, SHA256),)),
    ).complete()
    assert pair.info.psk == "external"
    pair.end()
    backend.close()


def test_the_hash_is_that_of_the_suites(tcti: str, out: Path) -> None:
    assert import_psk(tcti, out, "--hash", "sha384", PSK).status == 0
    psk = ExternalPsk.load(out)
    assert psk.hash == SHA384
    backend = open_backend("tpm", tcti=tcti, protect={"hkdf"})
    known = ExternalPsk(b"printer", KEY, SHA384)
    ends = Ends(None, backend)
    pair = Pair(ends, client_config(psks=(known,)), server_config(credentials=(), psks=(psk,)))
    assert pair.complete().info.suite is CipherSuite.TLS_AES_256_GCM_SHA384
    pair.end()
    backend.close()


def test_a_file_is_replaced_only_if_told(tcti: str, out: Path) -> None:
    out.write_text("precious")
    outcome = import_psk(tcti, out, PSK)
    assert outcome.status == 2
    assert "--force replaces it" in outcome.stderr
    assert out.read_text() == "precious"
    assert import_psk(tcti, out, "--force", PSK).status == 0
    assert ExternalPsk.load(out).identity == b"printer"


@pytest.mark.parametrize(
    "line", [b"", b"\n", b"printer\n", b"printer:\n", b"printer:4242abc\n", b":4242\n", b"\xff:42"]
)
def test_nothing_of_what_is_no_psk_is_repeated(
    tcti: str, tmp_path: Path, out: Path, line: bytes
) -> None:
    file = tmp_path / "secret.txt"
    file.write_bytes(line)
    for outcome in import_psk(tcti, out, stdin=line), import_psk(tcti, out, "--hex-file", file):
        assert outcome.status == 2
        assert "its first line is not ID:HEX, such as printer:0011" in outcome.stderr
        assert "4242" not in outcome.stderr
        assert len(outcome.stderr.splitlines()) == 1
    assert not out.exists()


def test_usage(tcti: str, tmp_path: Path, out: Path) -> None:
    for arguments, words in (
        ((PSK, "--hex-file", "x"), "not allowed with argument"),
        (("--hash", "sha512", PSK), "invalid choice: 'sha512'"),
        (("--hex-file", tmp_path / "nothing"), "cannot read it: No such file or directory"),
        (("no psk",), "a PSK is ID:HEX"),
    ):
        outcome = import_psk(tcti, out, *arguments)
        assert outcome.status == 2
        assert words in outcome.stderr
    outcome = import_psk("libtpms:", out, PSK)
    assert outcome.status == 2
    assert "forgets its keys" in outcome.stderr
    outcome = import_psk("swtpm:host=localhost,port=1", out, PSK)
    assert outcome.status == 3
    outcome = import_psk(tcti, tmp_path / "no" / "folder", PSK)
    assert outcome.status == 2
    assert "cannot write" in outcome.stderr
    help_text = run("key", "import-psk", "--help").stdout.decode()
    for promise in "no", "0-RTT", "code on this host":
        assert promise in help_text


def test_without_stdin(tcti: str, out: Path) -> None:
    with mock.patch("tpmtls.cli.key_psk.sys") as system:
        system.stdin = None
        outcome = import_psk(tcti, out)
    assert outcome.status == 2
    assert "stdin: its first line is not ID:HEX" in outcome.stderr


# -- serve and connect -----------------------------------------------------------------------------


@pytest.mark.parametrize("role", ["client", "server"])
def test_serve_and_connect_take_the_file(shared_swtpm: Swtpm, out: Path, role: str) -> None:
    tcti = shared_swtpm.tcti
    assert import_psk(tcti, out, PSK).status == 0
    in_tpm = ("--psk", out, "--backend", "tpm", "--tcti", tcti, "--protect", "hkdf")
    known = ("--psk", PSK)
    ours, theirs = (in_tpm, known) if role == "server" else (known, in_tpm)
    with serving(*ours, certificate=False) as served:
        address = f"localhost:{served.port}"
        outcome = run("connect", address, "--json", *theirs, stdin=b"to and fro")
    assert (outcome.status, outcome.stdout) == (0, b"to and fro"), outcome.stderr
    assert outcome.report["psk"] == "external"


def test_what_is_wrong_with_it_is_said_at_once(
    tcti: str, shared_swtpm: Swtpm, tmp_path: Path, out: Path
) -> None:
    assert import_psk(tcti, out, PSK).status == 0
    torn = tmp_path / "torn.psk"
    torn.write_bytes(out.read_bytes()[:100])
    tpm = ("--backend", "tpm", "--tcti")
    for arguments, words in (
        ((out,), "the PSK b'printer' is in a TPM: it needs the backend tpm, not software"),
        ((out, *tpm, tcti, "--protect", "ecdhe"), "it needs the protection level hkdf"),
        ((out, *tpm, shared_swtpm.tcti), "b'printer' was provisioned in another TPM"),
        ((torn,), "torn.psk: not a PSK file"),
        ((tmp_path / "none.psk",), "a PSK is ID:HEX, such as printer:0011"),
        (("x" * 1000,), "or a file that `tpmtls key import-psk` made"),
    ):
        for command in ("connect", "localhost:1"), ("serve", "--listen", "localhost:0"):
            outcome = run(*command, "--psk", *arguments)
            assert outcome.status == 2, outcome.stderr
            assert words in outcome.stderr
            assert len(outcome.stderr.splitlines()) == 1


def test_early_data_goes_in_the_ordinary_way(shared_swtpm: Swtpm, out: Path) -> None:
    assert import_psk(shared_swtpm.tcti, out, PSK).status == 0
    tpm = ("--backend", "tpm", "--tcti", shared_swtpm.tcti)
    early = out.with_name("early.bin")
    early.write_bytes(b"early")
    with serving("--psk", PSK, "--early-data", 1000, certificate=False) as served:
        address = f"localhost:{served.port}"
        outcome = run("connect", address, "--psk", out, *tpm, "--early-data", early)
    assert (outcome.status, outcome.stdout) == (0, b"early"), outcome.stderr


@pytest.mark.parametrize("encrypt_bus", ["no", "yes", "pinned"])
def test_the_bus_can_be_encrypted(tcti: str, out: Path, encrypt_bus: str) -> None:
    """The two keys cross to the TPM in clear otherwise."""
    arguments: tuple[str, ...] = ()
    if encrypt_bus != "no":
        arguments = ("--encrypt-bus",)
    if encrypt_bus == "pinned":
        arguments += (run("key", "salt-name", "--tcti", tcti).stdout.decode().strip(),)
    finished_key, derived = map(host_octets, two_keys(KEY, SHA256))
    with open_tpm(tcti) as beside, beside.device.recording() as recorder:
        outcome = import_psk(tcti, out, PSK, *arguments)
        assert outcome.status == 0, outcome.stderr
        assert len(recorder) > 0
    for secret in finished_key, derived:
        assert recorder.find(secret) == ([("TPM2_Create", "in")] if encrypt_bus == "no" else [])


def test_a_psk_taken_for_a_name_is_not_repeated(tcti: str, out: Path) -> None:
    outcome = import_psk(tcti, out, "--encrypt-bus", PSK)
    assert outcome.status == 2
    assert "that is no Name of a salt key" in outcome.stderr
    assert KEY.hex() not in outcome.stderr


def test_another_salt_key_is_refused(tcti: str, out: Path) -> None:
    outcome = import_psk(tcti, out, PSK, "--encrypt-bus", "000b" + 32 * "00")
    assert outcome.status == 2
    assert "does not have the expected Name" in outcome.stderr
    assert not out.exists()


def test_the_owners_password_is_read_from_where_it_is(
    swtpm: Swtpm, tmp_path: Path, out: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    with open_tpm(swtpm.tcti) as tpm:
        tpm.run(Command(0x129, (OWNER,), sized(b"owner"), bytes, 1))  # TPM2_HierarchyChangeAuth
    file = tmp_path / "owner.txt"
    file.write_text("owner\n")
    monkeypatch.setenv("OWNER_AUTH", "owner")
    assert "--owner-auth" in import_psk(swtpm.tcti, out, PSK).stderr
    assert not out.exists()
    for source in "env:OWNER_AUTH", f"file:{file}":
        outcome = import_psk(swtpm.tcti, out, PSK, "--force", "--owner-auth", source)
        assert outcome.status == 0, outcome.stderr
    key, owner = tmp_path / "my.key", ("--owner-auth", "env:OWNER_AUTH")
    where = ("--tcti", swtpm.tcti)
    certificate = tmp_path / "my.pem"
    for arguments in (
        ("create", "--out", key),
        ("create", "--handle", "0x81000047"),
        ("create", "--handle", "0x81000047", "--force"),
        ("cert", "--key", key, "--name", "localhost", "--out", certificate),
        ("salt-name",),
    ):
        outcome = run("key", *arguments, *where, *owner)
        assert outcome.status == 0, outcome.stderr
    both = ("--psk", out, "--backend", "tpm", *where, *owner, "--key", key, "--cert", certificate)
    with serving(*both, certificate=False) as served:
        address = f"localhost:{served.port}"
        outcome = run("connect", address, "--ca", certificate, stdin=b"to and fro")
    assert (outcome.status, outcome.stdout) == (0, b"to and fro"), outcome.stderr
    assert "say where the password is" in run("key", "salt-name", "--owner-auth", "owner").stderr
