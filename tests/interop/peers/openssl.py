"""OpenSSL's command line: `openssl s_server` and `openssl s_client`."""

from __future__ import annotations

import re
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from tests.interop.peers.interface import (
    EXPORTED,
    HOST,
    Client,
    Facts,
    PeerError,
    Psk,
    Server,
    Settings,
    Supports,
    message,
)
from tests.interop.peers.process import Program, output, run

GROUPS = {
    "x25519": "X25519",
    "secp256r1": "P-256",
    "secp384r1": "P-384",
    "secp521r1": "P-521",
    "x448": "X448",
}
_REPORTED_GROUPS = {
    "X25519": "x25519",
    "X448": "x448",
    "ECDH, prime256v1": "secp256r1",
    "ECDH, secp384r1": "secp384r1",
    "ECDH, secp521r1": "secp521r1",
}
_SUPPORTS = Supports(
    suites=(
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_CCM_8_SHA256",
    ),
    groups=tuple(GROUPS),
    certificates=("rsa", "rsa-pss", "p256", "p384", "p521", "ed25519", "ed448"),
    post_handshake_auth=True,
    early_data=True,
    psk=("sha256",),
    psk_without_dhe=True,
    exporter=True,
    middlebox_compatibility=True,
)

_ERROR = re.compile(r"^.*(?::error:|\bERROR\b).*$", re.MULTILINE)


class OpenSsl:
    """The `openssl` program on the path."""

    name = "OpenSSL"

    def version(self) -> str:
        return output("openssl", "version").partition(" (")[0].split(" ")[1]

    def missing(self) -> str | None:
        return None if shutil.which("openssl") else "there is no openssl program"

    as_client = Supports(
        **vars(_SUPPORTS)
        | {
            "reports": frozenset(
                {"suite", "group", "alpn", "resumed", "early_data", "peer", "exported"}
            )
        }
    )
    as_server = Supports(
        **vars(_SUPPORTS)
        | {
            "cookie": "without change_cipher_spec",
            "closes_first": False,  # its Q and q close the socket without close_notify
            "reports": frozenset({"suite", "alpn", "resumed", "early_data", "peer", "exported"}),
        }
    )

    @contextmanager
    def serve(self, settings: Settings) -> Iterator[Server]:
        with run(["openssl", "s_server", *_server_arguments(settings)]) as program:
            accepting = re.compile(rb"^ACCEPT .*:(\d+)$", re.MULTILINE)
            program.wait_for(lambda: bool(accepting.search(program.stdout)), "it listened")
            found = accepting.search(program.stdout)
            assert found
            yield OpenSslServer(program, int(found[1]))

    @contextmanager
    def connect(self, port: int, settings: Settings) -> Iterator[Client]:
        with tempfile.TemporaryDirectory() as folder:
            session = Path(folder, "session.pem")
            arguments = ["openssl", "s_client", *_client_arguments(port, settings)]
            if settings.resumed:
                with run([*arguments, "-sess_out", session]) as program:
                    first = OpenSslClient(program)
                    first.send(message(100))
                    first.receive(100)  # tickets come before it
                    first.close()
                arguments += ["-sess_in", str(session)]
            if settings.early_data:
                early_data = Path(folder, "early-data")
                early_data.write_bytes(settings.early_data)
                arguments += ["-early_data", str(early_data)]
            with run(arguments) as program:
                yield OpenSslClient(program)


# --- arguments ----------------------------------------------------------------------------------


def _server_arguments(settings: Settings) -> list[str | Path]:
    arguments = _arguments(settings)
    arguments += ["-accept", f"{HOST}:0", "-naccept", str(settings.connections)]
    if not settings.credential:
        arguments += ["-nocert"]
    if settings.client_auth == "request":
        arguments += ["-verify", "2", "-verify_return_error"]
    if settings.client_auth == "require":
        arguments += ["-Verify", "2", "-verify_return_error"]
    if settings.max_early_data:
        arguments += ["-early_data", "-max_early_data", str(settings.max_early_data)]
    if settings.cookie:
        arguments += ["-stateless"]
    return arguments


def _client_arguments(port: int, settings: Settings) -> list[str | Path]:
    arguments = _arguments(settings)
    arguments += ["-connect", f"{HOST}:{port}", "-servername", settings.server_name]
    if not settings.psk:
        arguments += ["-verify_return_error", "-verify_hostname", settings.server_name]
    if settings.client_auth == "post-handshake":
        arguments += ["-enable_pha"]
    return arguments


def _arguments(settings: Settings) -> list[str | Path]:
    arguments: list[str | Path] = ["-tls1_2" if settings.old else "-tls1_3"]
    if settings.credential:
        arguments += ["-cert", settings.credential.chain, "-key", settings.credential.key]
        if settings.credential.intermediates:
            arguments += ["-cert_chain", settings.credential.intermediates]
    if settings.trust:
        arguments += ["-CAfile", settings.trust]
    if suites := settings.suites or _suites_of(settings.psk):
        arguments += ["-ciphersuites", ":".join(suites)]
    if settings.groups:
        arguments += ["-groups", ":".join(GROUPS[group] for group in settings.groups)]
    if settings.signature_schemes:
        arguments += ["-sigalgs", ":".join(settings.signature_schemes)]
    if settings.alpn:
        arguments += ["-alpn", ",".join(settings.alpn)]
    if settings.psk:
        arguments += ["-psk", settings.psk.key.hex(), "-psk_identity", settings.psk.identity]
    if not settings.middlebox_compatibility:
        arguments += ["-no_middlebox"]
    if settings.psk_without_dhe:
        arguments += ["-allow_no_dhe_kex"]
    if settings.exporter:
        arguments += ["-keymatexport", settings.exporter, "-keymatexportlen", str(EXPORTED)]
    return arguments


def _suites_of(psk: Psk | None) -> tuple[str, ...]:
    """Those of an external PSK's hash: s_server would rather drop the PSK than its first suite."""
    return ("TLS_AES_128_GCM_SHA256",) if psk else ()


# --- what it prints -----------------------------------------------------------------------------


def _first(pattern: str, text: str) -> str | None:
    found = re.search(pattern, text, re.MULTILINE)
    return found[1] if found else None


def _exported(text: str) -> bytes | None:
    printed = _first(r"^ +Keying material: ([0-9A-F]+)$", text)
    return bytes.fromhex(printed) if printed else None


def _client_facts(text: str) -> Facts:
    group = _first(r"^Server Temp Key: (.*), \d+ bits$", text)
    return Facts(
        suite=_first(r"^(?:New|Reused), TLSv1.3, Cipher is (\w+)$", text),
        group=_REPORTED_GROUPS.get(group) if group else None,
        alpn=_first(r"^ALPN protocol: (.*)$", text),
        resumed=_first(r"^(New|Reused), TLSv1.3", text) == "Reused",
        early_data="Early data was accepted" in text,
        peer=_first(r"^subject=.*CN = (.*)$", text),
        exported=_exported(text),
    )


def _server_facts(text: str) -> Facts:
    return Facts(
        suite=_first(r"^CIPHER is (\w+)$", text),
        alpn=_first(r"^ALPN protocols selected: (.*)$", text),
        resumed="Reused session-id" in text,
        early_data="Early data received" in text,
        peer=_first(r"^(?:subject=|depth=0 ).*CN = (.*)$", text),
        exported=_exported(text),
    )


# --- the two ends -------------------------------------------------------------------------------


class OpenSslClient:
    """A running s_client; a single K or k on its input starts a KeyUpdate."""

    def __init__(self, program: Program) -> None:
        self._program = program
        self.send = program.send
        self.receive = program.receive
        self.await_text = program.await_text
        self.log = program.log

    def rekey(self, *, request: bool) -> None:
        before = self._program.stderr.count(b"KEYUPDATE")
        self._program.send(b"K\n" if request else b"k\n")
        self._program.wait_for(
            lambda: self._program.stderr.count(b"KEYUPDATE") > before, "it sent a KeyUpdate"
        )

    def close(self) -> Facts:
        self._program.end_input()
        return self.await_close()

    def await_close(self) -> Facts:
        status, text = self._program.wait(), self._program.text()
        if status or _ERROR.search(text):
            raise PeerError(f"s_client ended with status {status}", self.log())
        return _client_facts(text)


class OpenSslServer:
    """A running s_server; a single K, k or c on its input is a command."""

    def __init__(self, program: Program, port: int) -> None:
        self.port = port
        self._program = program
        self.log = program.log
        program.on_data = program.send

    def rekey(self, client: Client, *, request: bool) -> None:
        self._program.send(b"K\n" if request else b"k\n")

    def request_certificate(self, client: Client) -> None:
        self._program.send(b"c\n")

    def close_first(self, client: Client) -> None:
        raise NotImplementedError

    def finish(self) -> list[Facts]:
        status, text = self._program.wait(), self._program.text()
        if status or _ERROR.search(text):
            raise PeerError(f"s_server ended with status {status}", self.log())
        *parts, verified = text.split("CONNECTION CLOSED")
        return [_server_facts(part) for part in [*parts[:-1], parts[-1] + verified]]
