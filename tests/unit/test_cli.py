"""The command line: what it refuses, and in which words; what is read from its options."""

from __future__ import annotations

import argparse
import os
import subprocess
import sys

import pytest

import tpmtls.cli
from tests.unit.commands import client_certificate, server_certificate
from tests.unit.commands import tpmtls as run
from tests.unit.support import pki
from tpmtls.cli import options
from tpmtls.cli.exits import explain, say
from tpmtls.cli.report import place
from tpmtls.codepoints import NamedGroup

# -- help and version ------------------------------------------------------------------------------


@pytest.mark.parametrize("command", [(), ("connect",), ("serve",)])
def test_help_teaches_by_example(command):
    outcome = run(*command, "--help")
    assert outcome.status == 0
    assert b"examples:\n  tpmtls " in outcome.stdout
    assert all(len(line) <= 85 for line in outcome.stdout.decode().splitlines())


def test_version():
    assert run("--version").stdout.decode() == f"tpmtls {tpmtls.__version__}\n"


def test_no_command_is_a_question():
    outcome = run()
    assert outcome.status == 2
    assert "usage: tpmtls" in outcome.stderr


def test_it_is_a_program():
    for command in ([sys.executable, "-m", "tpmtls.cli"], ["tpmtls"]):
        path = os.pathsep.join([os.path.dirname(sys.executable), os.environ["PATH"]])  # noqa: PTH120
        result = subprocess.run(
            [*command, "--version"],
            capture_output=True,
            text=True,
            check=True,
            env={**os.environ, "PATH": path},
        )
        assert result.stdout.startswith("tpmtls ")


# -- one line for each mistake ---------------------------------------------------------------------

SERVE = ("serve", "--listen", "127.0.0.1:0")
CONNECT = ("connect", "localhost:1", "--insecure")


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (("fly",), "invalid choice: 'fly'"),
        (("connect",), "HOST:PORT"),
        (("connect", "localhost"), "'localhost' is not HOST:PORT, such as"),
        (("connect", ":443"), "not HOST:PORT"),
        (("connect", "::1:443"), "in brackets: [::1]:443"),
        (("connect", "localhost:https"), "'https' is not a port"),
        (("connect", "localhost:65536"), "not a port, 0 to 65535"),
        ((*CONNECT, "--ca", "x"), "not allowed with argument"),
        ((*CONNECT, "--groups", "x25519,p256"), "no group 'p256'; there are secp256r1, "),
        ((*CONNECT, "--suites", "AES"), "no cipher suite 'AES'; there are TLS_AES_128_GCM_SHA256"),
        ((*CONNECT, "--sigalgs", "rsa"), "no signature scheme 'rsa'"),
        ((*CONNECT, "--alpn", "a,,b"), "between commas"),
        ((*CONNECT, "--key-shares", "x448,x25519"), "order of groups"),
        ((*CONNECT, "--groups", "x448", "--key-shares", "x25519"), "not in groups"),
        ((*CONNECT, "--psk", "00ff"), "a PSK is ID:HEX"),
        ((*CONNECT, "--psk", "id:"), "a PSK is ID:HEX"),
        ((*CONNECT, "--psk", "id:xyz"), "a PSK is ID:HEX"),
        ((*CONNECT, "--timeout", "0"), "positive number of seconds"),
        ((*CONNECT, "--timeout", "soon"), "positive number of seconds"),
        ((*CONNECT, "--timeout", "inf"), "positive number of seconds"),
        ((*CONNECT, "--backend", "tmp"), "invalid choice: 'tmp'"),
        ((*CONNECT, "--cert", "a"), "1 --cert and 0 --key"),
        ((*CONNECT, "--cert", "a", "--key", "/nowhere"), "cannot read /nowhere"),
        ((*CONNECT, "--cert", "a", "--key", "handle:key"), "is not the handle of a"),
        ((*CONNECT, "--early-data", "/nowhere"), "--early-data: cannot read /nowhere"),
        ((*CONNECT, "--session", "/nowhere/s"), "--session: there is no folder /nowhere"),
        ((*CONNECT, "--session", "/"), "--session: cannot read /"),
        ((*CONNECT, "--keylog", "/nowhere/k"), "key log '/nowhere/k' cannot be written"),
        (("connect", "localhost:1", "--ca", "/nowhere"), "cannot read /nowhere"),
        (("serve",), "--listen"),
        (SERVE, "a server needs --cert and --key, or --psk"),
        ((*SERVE, "--psk", "a:00", "--early-data", "much"), "not a number of octets"),
        ((*SERVE, "--psk", "a:00", "--early-data", "4294967296"), "0 to 4294967295"),
        ((*SERVE, "--psk", "a:00", "--tickets", "256"), "0 to 255"),
        ((*SERVE, "--psk", "a:00", "--require-client-cert"), "needs --client-ca FILE"),
        ((*SERVE, "--psk", "a:00", "--request-client-auth-after"), "needs --client-ca FILE"),
        ((*SERVE, "--psk", "a:00", "--client-ca", "/nowhere"), "cannot read /nowhere"),
        (("serve", "--listen", "192.0.2.1:1", "--psk", "a:00"), "cannot listen on 192.0.2.1:1"),
        (("serve", "--listen", "no.invalid:0", "--psk", "a:00"), "cannot listen on no.invalid:0"),
    ],
)
def test_mistakes_of_usage(arguments, words):
    outcome = run(*arguments)
    assert outcome.status == 2
    assert outcome.stdout == b""
    assert outcome.stderr.startswith("tpmtls: ")
    assert outcome.stderr.count("\n") == 1
    assert words in outcome.stderr


def test_client_certificates_are_asked_for_before_or_after():
    both = ("--require-client-cert", "--request-client-auth-after")
    outcome = run(*SERVE, *server_certificate(), "--client-ca", pki().ca, *both)
    assert outcome.status == 2
    assert "not both" in outcome.stderr


def test_a_key_and_a_certificate_must_belong_together():
    strangers = run(*CONNECT, "--cert", pki().client().chain, "--key", pki().server().key)
    assert strangers.status == 2
    assert "is not that of the first certificate" in strangers.stderr
    unlike = run(*CONNECT, "--cert", pki().client().chain, "--key", pki().server("ed25519").key)
    assert unlike.status == 2
    assert "does not belong to the certificate" in unlike.stderr


def test_a_key_that_is_none(tmp_path):
    path = tmp_path / "key"
    path.write_text("-----BEGIN NONSENSE-----\n")
    outcome = run(*CONNECT, "--cert", pki().client().chain, "--key", path)
    assert outcome.status == 2
    assert "not a private key" in outcome.stderr


def test_a_session_file_of_another_kind(tmp_path):
    path = tmp_path / "sessions"
    path.write_text("[]")
    outcome = run(*CONNECT, "--session", path)
    assert outcome.status == 2
    assert "holds no sessions" in outcome.stderr


def test_nobody_to_talk_to():
    for address in ("127.0.0.1:1", "[::1]:1", "no.invalid:1"):
        outcome = run("connect", address, *client_certificate())
        assert outcome.status == 3
        assert outcome.stderr.startswith("tpmtls: cannot connect to ")


# -- the last resorts ------------------------------------------------------------------------------


def failing(error):
    def run_command(arguments: argparse.Namespace) -> int:
        raise error

    return run_command


@pytest.mark.parametrize(
    ("error", "status", "words"),
    [
        (KeyboardInterrupt(), 130, ""),
        (ZeroDivisionError("oops"), 1, "internal error, ZeroDivisionError: oops"),
        (OSError(5, "Input/output error"), 1, "tpmtls: input/output error\n"),
        (TimeoutError("late"), 1, "tpmtls: late\n"),
    ],
)
def test_never_a_traceback(error, status, words, monkeypatch):
    monkeypatch.setattr("tpmtls.cli.connect.run", failing(error))
    outcome = run(*CONNECT)
    assert outcome.status == status
    assert words in outcome.stderr
    assert "Traceback" not in outcome.stderr


def test_a_traceback_for_who_asks_for_it(monkeypatch):
    monkeypatch.setattr("tpmtls.cli.connect.run", failing(ZeroDivisionError("oops")))
    assert "Traceback" in run(*CONNECT, "-v").stderr


def test_errors_bring_their_notes():
    error = ValueError("wrong")
    error.add_note("very")
    assert explain(error) == "wrong; very"
    assert explain(ValueError()) == "ValueError"


def test_a_line_that_nobody_reads(monkeypatch):
    class Closed:
        def write(self, _: str) -> None:
            raise BrokenPipeError

    monkeypatch.setattr("sys.stderr", Closed())
    say("is lost")


def test_places():
    assert place(("127.0.0.1", 443)) == "127.0.0.1:443"
    assert place(("::1", 443, 0, 0)) == "[::1]:443"
    assert place("") == "?"  # a socket of another family


# -- values ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "address"),
    [
        ("localhost:443", ("localhost", 443)),
        ("[::1]:0", ("::1", 0)),
        ("[fe80::1%eth0]:65535", ("fe80::1%eth0", 65535)),
    ],
)
def test_addresses(text, address):
    assert options.host_and_port(text) == address


def test_names_are_read_in_any_case_and_order():
    groups = options.names("group", NamedGroup)("X25519, secp256R1,x25519mlkem768")
    assert groups == (NamedGroup.x25519, NamedGroup.secp256r1, NamedGroup.X25519MLKEM768)
    assert options.key_shares("None") == ()
    assert options.key_shares("x448") == (NamedGroup.x448,)


def test_the_identity_of_a_psk_may_have_colons():
    assert options.psk("a:b:00FF") == (b"a:b", b"\0\xff")
    assert options.psk("größe:00") == ("größe".encode(), b"\0")
