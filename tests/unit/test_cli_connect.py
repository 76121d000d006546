"""`tpmtls connect`, against servers in this process."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from tests.unit.commands import Outcome, client_certificate
from tests.unit.commands import tpmtls as run
from tests.unit.support import pki, server_config, trust
from tpmtls.codepoints import AlertDescription
from tpmtls.config import ExternalPsk
from tpmtls.sockets import Server, TlsStream, serve
from tpmtls.tickets import SessionCache


def echo(stream: TlsStream) -> None:
    stream.sendall(stream.early_data)
    while data := stream.recv():
        stream.sendall(data)


@contextmanager
def serving(handler: Callable[[TlsStream], object] = echo, **changes: object) -> Iterator[Server]:
    with serve(("127.0.0.1", 0), server_config(**changes), handler) as server:
        yield server


def connect(server: Server, *arguments: object, stdin: bytes = b"", ca: bool = True) -> Outcome:
    address = f"localhost:{server.address[1]}"
    options = ("--ca", pki().ca) if ca else ()
    return run("connect", address, *options, *arguments, stdin=stdin)


# -- data ------------------------------------------------------------------------------------------


def test_stdin_goes_to_the_peer_and_the_answer_to_stdout():
    data = os.urandom(2**20)
    with serving() as server:
        outcome = connect(server, stdin=data)
    assert outcome == Outcome(0, data, "")


def test_the_peer_may_end_first():
    def handler(stream: TlsStream) -> None:
        stream.sendall(b"that is all")

    with serving(handler) as server:
        command = [sys.executable, "-m", "tpmtls.cli", "connect", "--insecure"]
        process = subprocess.Popen(
            [*command, f"localhost:{server.address[1]}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        stdout, _ = process.communicate()  # its stdin is open until it has ended
    assert process.returncode == 0
    assert stdout == b"that is all"


def test_what_came_before_a_truncation_is_shown():
    def handler(stream: TlsStream) -> None:
        stream.sendall(b"most of it")
        stream._channel.close()

    with serving(handler) as server:
        outcome = connect(server)
    assert outcome.status == 1
    assert outcome.stdout == b"most of it"
    assert outcome.stderr.endswith(": the transport ended before close_notify\n")


def test_a_peer_that_does_not_end():
    over = threading.Event()

    def handler(stream: TlsStream) -> None:
        while data := stream.recv():
            stream.sendall(data)
        over.wait()

    with serving(handler) as server:
        outcome = connect(server, "--timeout", "0.3", stdin=b"echo")
        over.set()
    assert outcome.status == 1
    assert outcome.stdout == b"echo"
    assert "did not end its side within 0.3 s" in outcome.stderr


def test_an_alert_in_the_middle():
    def handler(stream: TlsStream) -> None:
        stream.connection.abort(AlertDescription.access_denied)
        stream._flush()

    with serving(handler) as server:
        outcome = connect(server, stdin=b"hello")
    assert outcome.status == 1
    assert "the peer sent the alert access_denied" in outcome.stderr


def test_a_reader_that_has_seen_enough(monkeypatch):
    def handler(stream: TlsStream) -> None:
        stream.sendall(b"more than anybody wants to read")

    read, write = os.pipe()
    os.close(read)
    monkeypatch.setattr("tpmtls.cli.connect._write", lambda data: os.write(write, data))
    with serving(handler) as server:
        assert connect(server).status == 0
    os.close(write)


def test_without_stdin_and_stdout(monkeypatch):
    with serving() as server:
        script = 'exec 0<&- 1>&-; exec "$0" -m tpmtls.cli connect --insecure "$1" --json'
        result = subprocess.run(
            ["/bin/sh", "-c", script, sys.executable, f"localhost:{server.address[1]}"],
            stderr=subprocess.PIPE,
            check=True,
        )
    assert json.loads(result.stderr)["sent"] == 0


def test_ctrl_c_ends_politely():
    ended = threading.Event()

    def handler(stream: TlsStream) -> None:
        stream.sendall(b"ready")
        if stream.recv() == b"":
            ended.set()

    with serving(handler) as server:
        command = [sys.executable, "-m", "tpmtls.cli", "connect", "--insecure"]
        process = subprocess.Popen(
            [*command, f"localhost:{server.address[1]}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        assert process.stdout is not None
        assert process.stdout.read(5) == b"ready"
        process.send_signal(signal.SIGINT)
        _, stderr = process.communicate()
        assert ended.wait(30)
    assert process.returncode == 130
    assert stderr == b""


# -- options ---------------------------------------------------------------------------------------


def test_what_was_negotiated_is_said():
    options = ("--alpn", "a,b", "--groups", "x448", "--suites", "tls_aes_256_gcm_sha384")
    with serving(alpn=("b",)) as server:
        told = connect(server, "-v", *options)
        report = connect(server, "--json", *options, stdin=b"four").report
    peer = f"127.0.0.1:{server.address[1]}"
    assert told.stderr == (
        f"{peer} TLS_1_3 TLS_AES_256_GCM_SHA384 x448 alpn=b server_name=localhost"
        " peer_certificate=CN=localhost,O=tpmtls tests\n"
    )
    assert report == {
        "peer": peer,
        "version": "TLS_1_3",
        "suite": "TLS_AES_256_GCM_SHA384",
        "group": "x448",
        "psk": None,
        "alpn": "b",
        "server_name": "localhost",
        "early_data_accepted": None,
        "authenticated": None,
        "peer_certificate": "CN=localhost,O=tpmtls tests",
        "sent": 4,
        "received": 4,
        "tickets": 0,
        "error": None,
    }


def test_a_certificate_must_be_trusted_and_for_the_name():
    with serving() as server:
        stranger = connect(server, ca=False)
        assert stranger.status == 1
        assert "certificate not accepted" in stranger.stderr
        assert connect(server, "--insecure", ca=False).status == 0
        other = connect(server, "--server-name", "elsewhere.example", "--json")
        assert other.status == 1
        assert "elsewhere.example" in other.report["error"]
        assert other.report["peer"].startswith("127.0.0.1:")


def test_sessions_are_kept_in_a_file(tmp_path):
    sessions = tmp_path / "sessions.json"
    with serving() as server:
        first = connect(server, "--session", sessions, "--json").report
        second = connect(server, "--session", sessions, "--json").report
    assert (first["psk"], second["psk"]) == (None, "resumption")
    assert len(SessionCache.load(sessions)) == 3
    assert sessions.stat().st_mode & 0o777 == 0o600


def test_early_data_comes_first_whether_or_not_it_is_early(tmp_path):
    early, sessions = tmp_path / "early", tmp_path / "sessions"
    early.write_bytes(b"early ")
    options = ("--session", sessions, "--early-data", early, "--json")
    with serving(max_early_data=10) as server:
        outcomes = [connect(server, *options, stdin=b"late") for _ in range(2)]
    assert [outcome.stdout for outcome in outcomes] == [b"early late", b"early late"]
    assert [outcome.report["early_data_accepted"] for outcome in outcomes] == [None, True]
    assert [outcome.report["sent"] for outcome in outcomes] == [10, 4]


def test_sessions_that_cannot_be_saved(tmp_path):
    folder = tmp_path / "folder"
    folder.mkdir()

    def handler(stream: TlsStream) -> None:
        folder.rmdir()

    with serving(handler) as server:
        outcome = connect(server, "--session", folder / "sessions")
    assert outcome.status == 2
    assert "--session: cannot write" in outcome.stderr


def test_an_external_psk(tmp_path):
    early = tmp_path / "early"
    early.write_bytes(b"early")
    psk = ExternalPsk(b"a:b", bytes(16))
    with serving(credentials=(), psks=(psk,)) as server:
        assert connect(server, "--psk", f"a:b:{'00' * 16}", "--json").report["psk"] == "external"
        assert connect(server, "--psk", f"a:b:{'01' * 16}").status == 1
        plain = connect(server, "--psk", f"a:b:{'00' * 16}", "--early-data", early, "--json")
    assert plain.stdout == b"early"
    assert plain.report["early_data_accepted"] is False


def test_early_data_needs_a_suite_that_fits_the_psk(tmp_path):
    early = tmp_path / "early"
    early.write_bytes(b"early")
    options = ("--psk", "a:00", "--early-data", early, "--suites", "TLS_AES_256_GCM_SHA384")
    with serving() as server:
        outcome = connect(server, *options, "--json")
    assert outcome.stdout == b"early"
    assert outcome.report["early_data_accepted"] is None


def test_a_client_certificate():
    names = []

    def handler(stream: TlsStream) -> None:
        assert stream.peer_certificate is not None
        names.append(stream.peer_certificate.subject.rfc4514_string())

    with serving(handler, client_trust=trust(), require_client_certificate=True) as server:
        assert connect(server, *client_certificate()).status == 0
        assert connect(server).status == 1
        made = pki().bad("unknown-authority")
        outcome = connect(server, "--cert", made.chain, "--key", made.key)
        assert outcome.status == 1
        assert "certificate_required; no certificate of ours was sent" in outcome.stderr
    assert names == ["CN=client-p256,O=tpmtls tests"]


def test_a_retry_can_be_provoked():
    with serving() as server:
        options = ("--key-shares", "none", "--sigalgs", "ecdsa_secp256r1_sha256", "--json")
        report = connect(server, *options).report
    assert report["error"] is None


def test_the_key_log(tmp_path):
    path = tmp_path / "keys.log"
    with serving() as server:
        connect(server, "--keylog", path)
    assert len(path.read_text().splitlines()) >= 5


def test_a_server_that_says_nothing():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        address = "127.0.0.1:{1}".format(*listener.getsockname())
        outcome = run("connect", address, "--insecure", "--timeout", "0.2")
    assert outcome.status == 1
    assert "no handshake within 0.2 s" in outcome.stderr
