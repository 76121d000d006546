"""GnuTLS's command line: `gnutls-serv --echo` and `gnutls-cli`."""

from __future__ import annotations

import re
import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.peers.interface import (
    EXPORTED,
    HOST,
    PATIENCE,
    Client,
    Facts,
    PeerError,
    Server,
    Settings,
    Supports,
)
from tests.interop.peers.process import Program, output, run
from tests.pki import CA_SCHEME

CIPHERS = {
    "TLS_AES_128_GCM_SHA256": "AES-128-GCM",
    "TLS_AES_256_GCM_SHA384": "AES-256-GCM",
    "TLS_CHACHA20_POLY1305_SHA256": "CHACHA20-POLY1305",
    "TLS_AES_128_CCM_SHA256": "AES-128-CCM",
    "TLS_AES_128_CCM_8_SHA256": "AES-128-CCM-8",
}
GROUPS = {
    "x25519": "X25519",
    "secp256r1": "SECP256R1",
    "secp384r1": "SECP384R1",
    "secp521r1": "SECP521R1",
    "x448": "X448",
}
SCHEMES = {
    "rsa_pss_rsae_sha256": "RSA-PSS-RSAE-SHA256",
    "rsa_pss_rsae_sha384": "RSA-PSS-RSAE-SHA384",
    "rsa_pss_rsae_sha512": "RSA-PSS-RSAE-SHA512",
    "rsa_pss_pss_sha256": "RSA-PSS-SHA256",
    "rsa_pss_pss_sha384": "RSA-PSS-SHA384",
    "rsa_pss_pss_sha512": "RSA-PSS-SHA512",
    "ecdsa_secp256r1_sha256": "ECDSA-SECP256R1-SHA256",
    "ecdsa_secp384r1_sha384": "ECDSA-SECP384R1-SHA384",
    "ecdsa_secp521r1_sha512": "ECDSA-SECP521R1-SHA512",
    "ed25519": "EdDSA-Ed25519",
    "ed448": "EdDSA-Ed448",
}
_SUPPORTS = Supports(
    suites=tuple(CIPHERS),
    groups=tuple(GROUPS),
    certificates=("rsa", "rsa-pss", "p256", "p384", "p521", "ed25519", "ed448"),
    post_handshake_auth=True,
    key_update=(True,),
    early_data=True,
    psk=("sha256",),
    psk_without_dhe=True,
    exporter=True,
    middlebox_compatibility=True,
    record_size_limit=True,
    reports=frozenset(
        {"suite", "group", "scheme", "alpn", "resumed", "early_data", "peer", "exported"}
    ),
)

_ERROR = re.compile(r"^(?:\*+ )?(?:Fatal )?[Ee]rror\b.*$", re.MULTILINE)


class GnuTls:
    """The programs of the Debian package gnutls-bin.

    gnutls-serv has no option for an address: it listens on all of them, on ports that the system
    picks, one for IPv4 and another for IPv6, for the length of a test.
    """

    name = "GnuTLS"

    def version(self) -> str:
        return output("gnutls-cli", "--version").partition("\n")[0].split(" ")[-1]

    def missing(self) -> str | None:
        return None if shutil.which("gnutls-cli") else "gnutls-bin is not installed"

    as_client = Supports(**vars(_SUPPORTS) | {"closes_back": False})
    as_server = Supports(**vars(_SUPPORTS) | {"closes_first": False, "reports_late": False})

    @contextmanager
    def serve(self, settings: Settings) -> Iterator[Server]:
        with tempfile.TemporaryDirectory() as folder:
            arguments = _server_arguments(settings, Path(folder))
            with run(["gnutls-serv", *arguments]) as program:
                program.wait_for(lambda: program.stderr.count(b"done\n") > 0, "it listened")
                yield GnuTlsServer(program, next(iter(_listening(program).values())))

    @contextmanager
    def connect(self, port: int, settings: Settings) -> Iterator[Client]:
        with tempfile.TemporaryDirectory() as folder:
            arguments = _client_arguments(port, settings, Path(folder))
            with run(["gnutls-cli", *arguments]) as program:
                yield GnuTlsClient(program)


# --- arguments ----------------------------------------------------------------------------------


def _server_arguments(settings: Settings, folder: Path) -> list[str | Path]:
    arguments: list[str | Path] = ["--echo", "--port", "0", *_arguments(settings)]
    if settings.client_auth == "none":
        arguments += ["--disable-client-cert"]
    else:
        arguments += ["--verify-client-cert"]
    if settings.client_auth == "require":
        arguments += ["--require-client-cert"]
    if settings.max_early_data:
        arguments += ["--earlydata", "--maxearlydata", str(settings.max_early_data), "-d", "5"]
    if settings.alpn:
        arguments += ["--alpn-fatal"]
    if settings.psk:
        passwords = folder / "psk"
        passwords.write_text(f"{settings.psk.identity}:{settings.psk.key.hex()}\n")
        arguments += ["--pskpasswd", passwords]
    return arguments


def _client_arguments(port: int, settings: Settings, folder: Path) -> list[str | Path]:
    arguments = ["--port", str(port), HOST, *_arguments(settings)]
    arguments += ["--sni-hostname", settings.server_name, "--verify-hostname", settings.server_name]
    arguments += ["--inline-commands"]
    if settings.key_shares and len(settings.key_shares) == 1:
        arguments += ["--single-key-share"]
    if settings.resumed:
        arguments += ["--resume", "--waitresumption"]
    if settings.early_data:
        early_data = folder / "early-data"
        early_data.write_bytes(settings.early_data)
        arguments += ["--earlydata", early_data, "-d", "5"]
    if settings.psk:
        arguments += ["--pskusername", settings.psk.identity, "--pskkey", settings.psk.key.hex()]
    if settings.client_auth == "post-handshake":
        arguments += ["--post-handshake-auth"]
    return arguments


def _arguments(settings: Settings) -> list[str | Path]:
    arguments: list[str | Path] = ["--priority", _priority(settings)]
    if settings.credential:
        arguments += ["--x509certfile", settings.credential.chain]
        arguments += ["--x509keyfile", settings.credential.key]
    if settings.trust:
        arguments += ["--x509cafile", settings.trust]
    for protocol in settings.alpn:
        arguments += ["--alpn", protocol]
    if settings.exporter:
        arguments += ["--keymatexport", settings.exporter, "--keymatexportsize", str(EXPORTED)]
    if settings.record_size_limit:
        arguments += ["--recordsize", str(settings.record_size_limit)]
    return arguments


def _priority(settings: Settings) -> str:
    words = ["NORMAL", "-VERS-ALL", f"+VERS-TLS1.{2 if settings.old else 3}"]
    if settings.suites:
        words += ["-CIPHER-ALL", *(f"+{CIPHERS[suite]}" for suite in settings.suites)]
    if settings.groups:
        words += ["-GROUP-ALL", *(f"+GROUP-{GROUPS[group]}" for group in settings.groups)]
    if settings.signature_schemes:
        schemes = dict.fromkeys([*settings.signature_schemes, CA_SCHEME])  # chains are checked too
        words += ["-SIGN-ALL", *(f"+SIGN-{SCHEMES[scheme].upper()}" for scheme in schemes)]
    if settings.psk:
        words += ["-KX-ALL", "+PSK"] if settings.psk_without_dhe else ["+ECDHE-PSK", "+DHE-PSK"]
    if not settings.middlebox_compatibility:
        words += ["%DISABLE_TLS13_COMPAT_MODE"]
    return ":".join(words)


def _sockets(program: Program) -> set[str]:
    """The inodes of the program's sockets."""
    inodes = set()
    for descriptor in Path(f"/proc/{program.pid}/fd").iterdir():
        try:
            target = descriptor.readlink().name
        except FileNotFoundError:  # closed just now
            continue
        if target.startswith("socket:["):
            inodes.add(target.removeprefix("socket:[").removesuffix("]"))
    return inodes


def _listening(program: Program) -> dict[str, int]:
    """Its listening sockets, by inode, and their ports; gnutls-serv itself says port 0."""
    inodes, found = _sockets(program), {}
    for line in (*_table("tcp"), *_table("tcp6")):
        _number, local, _remote, state, *_rest, inode = line.split()[:10]
        if state == "0A" and inode in inodes:
            found[inode] = int(local.rpartition(":")[2], 16)
    return found


def _table(name: str) -> list[str]:
    path = Path("/proc/net", name)
    return path.read_text().splitlines()[1:] if path.exists() else []


# --- what it prints -----------------------------------------------------------------------------


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


def _named(names: dict[str, str], theirs: str | None) -> str | None:
    return next((ours for ours, name in names.items() if name == theirs), None)


def _facts(text: str) -> Facts:
    """Of a description such as (TLS1.3-X.509)-(ECDHE-X25519)-(EdDSA-Ed25519)-(AES-128-GCM)."""
    description = _first(r"^- Description: (.*)$", text) or ""
    parts = re.findall(r"\((.*?)\)", description)
    group = _first(r"\((?:ECDHE|ECDHE-PSK)-([^)]+)\)", description)
    exported = _first(r"^- Key material: ([0-9a-f]+)$", text)
    return Facts(
        suite=_named(CIPHERS, parts[-1]) if parts else None,
        group=_named(GROUPS, group or _first(r"^ - Using curve: (\S+)$", text)),
        scheme=next((found for part in parts if (found := _named(SCHEMES, part))), None),
        alpn=_first(r"^- Application protocol: (.*)$", text),
        resumed="This is a resumed session" in text,
        peer=_first(r"^(?: - subject `|\tSubject: ).*?CN=([^,'\n]*)", text),
        exported=bytes.fromhex(exported) if exported else None,
    )


# --- the two ends -------------------------------------------------------------------------------


class GnuTlsClient:
    """A running gnutls-cli; ^rekey^ on a line of its own starts a KeyUpdate."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.send = program.send
        self.receive = program.receive
        self.await_text = program.await_text
        self.log = program.log

    def rekey(self, *, request: bool) -> None:
        assert request, "gnutls-cli always asks for a KeyUpdate back"
        self._program.send(b"^rekey^\n")
        self._program.drain()

    def close(self) -> Facts:
        self._program.end_input()
        return self.await_close()

    def await_close(self) -> Facts:
        status, text = self._program.wait(), self._program.text()
        if status or _ERROR.search(text) or "Peer has closed" not in text:
            raise PeerError(f"gnutls-cli ended with status {status}", self.log())
        first, _, second = text.partition("- Connecting again")
        facts = _facts(second or first)
        accepted = "Parsing extension 'Early Data/42' (0 bytes)" in text
        return Facts(**vars(facts) | {"early_data": accepted})


class GnuTlsServer:
    """A running gnutls-serv; it echoes by itself, and takes commands from its client."""

    def __init__(self, program: Program, port: int) -> None:
        self.port = port
        self._program = program
        self.log = program.log

    def rekey(self, client: Client, *, request: bool) -> None:
        assert request, "gnutls-serv always asks for a KeyUpdate back"
        self._command(client, b"**REHANDSHAKE**\n")

    def request_certificate(self, client: Client) -> None:
        self._command(client, b"**REAUTH**\n")

    @staticmethod
    def _command(client: Client, command: bytes) -> None:
        client.send(command)
        client.await_text(b"Successfully executed command")

    def close_first(self, client: Client) -> None:
        raise NotImplementedError

    def finish(self) -> list[Facts]:
        deadline = time.monotonic() + PATIENCE
        while _sockets(self._program) - set(_listening(self._program)):
            if time.monotonic() > deadline:
                raise PeerError("did not close its connections", self.log())
            time.sleep(0.01)
        self._program.terminate()
        text = self._program.text()
        if _ERROR.search(text) or "Exiting via signal 15" not in text:
            raise PeerError("gnutls-serv met an error", self.log())
        accepted = "decrypted early data" in text
        return [
            Facts(**vars(_facts(part)) | {"early_data": accepted})
            for part in text.split("* Accepted connection from")[1:]
        ]
