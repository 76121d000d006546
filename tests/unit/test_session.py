"""What the adapters share: names of hosts, certificates as `ssl` shows them, the key log."""

from __future__ import annotations

import datetime
import os
import socket
import ssl
import sys
import threading
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import NameOID

from tests.unit.support import Pair, client_config, server_config
from tpmtls import keylog
from tpmtls.connection import ClientConnection
from tpmtls.session import client_connection, describe, name_of
from tpmtls.sockets import TlsStream
from tpmtls.violations import ConfigurationError

# -- names -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("host", "name"),
    [
        ("example.org", "example.org"),
        ("example.org.", "example.org"),
        ("127.0.0.1", "127.0.0.1"),
        ("fe80::1%eth0", "fe80::1"),
        ("bücher.example", "xn--bcher-kva.example"),
    ],
)
def test_the_name_of_a_host(host, name):
    assert name_of(host) == name


def test_what_is_no_name():
    with pytest.raises(ConfigurationError, match="not a host name"):
        name_of("ü" * 100)


def test_a_configured_name_goes_before_the_host():
    connection = client_connection(client_config(server_name="a.example"), None, "b.example", b"")
    assert connection.config.server_name == "a.example"  # type: ignore[attr-defined]


def test_trust_that_nobody_needs_is_not_loaded(tmp_path):
    nowhere = tmp_path / "nowhere.pem"
    config = client_config(trust=nowhere, verify=False, server_name=None)
    connection = client_connection(config, None, "b.example", b"")
    assert connection.config.server_name == "b.example"  # type: ignore[attr-defined]


# -- certificates ----------------------------------------------------------------------------------


def _certificate(*alternatives: x509.GeneralName) -> x509.Certificate:
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.COUNTRY_NAME, "DE"),
            x509.NameAttribute(NameOID.STATE_OR_PROVINCE_NAME, "Somewhere"),
            x509.NameAttribute(NameOID.COMMON_NAME, "a.example"),
        ]
    )
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(0x0123456789ABCDEF)
        .not_valid_before(datetime.datetime(2024, 2, 3, 4, 5, 6, tzinfo=datetime.UTC))
        .not_valid_after(datetime.datetime(2034, 12, 13, 14, 15, 16, tzinfo=datetime.UTC))
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(key, hashes.SHA256())


def _as_ssl_sees_it(certificate: x509.Certificate, folder: Path) -> object:
    path = folder / "certificate.pem"
    path.write_bytes(certificate.public_bytes(Encoding.PEM))
    return ssl._ssl._test_decode_cert(str(path))  # type: ignore[attr-defined]


def test_certificates_look_as_in_the_standard_library(tmp_path):
    certificate = _certificate(
        x509.DNSName("a.example"),
        x509.RFC822Name("root@a.example"),
        x509.UniformResourceIdentifier("https://a.example/"),
    )
    ours = describe(certificate)
    assert ours == _as_ssl_sees_it(certificate, tmp_path)
    assert ours["notBefore"] == "Feb  3 04:05:06 2024 GMT"


def test_addresses_and_other_names_look_nearly_so():
    import ipaddress

    certificate = _certificate(
        x509.IPAddress(ipaddress.ip_address("127.0.0.1")),
        x509.IPAddress(ipaddress.ip_address("::1")),
        x509.RegisteredID(NameOID.COMMON_NAME),
    )
    assert describe(certificate)["subjectAltName"] == (
        ("IP Address", "127.0.0.1"),
        ("IP Address", "::1"),
        ("othername", "<unsupported>"),
    )


def test_a_certificate_without_alternative_names(tmp_path):
    certificate = _certificate()
    assert describe(certificate) == _as_ssl_sees_it(certificate, tmp_path)


def test_a_peer_without_a_certificate():
    pair = Pair().complete()
    near, there = socket.socketpair()
    with near, there:
        stream = TlsStream(near, pair.server)
        assert stream.getpeercert() is None
        assert stream.getpeercert(binary_form=True) is None
        assert stream.peer_certificate is None


@pytest.mark.parametrize("beginning", [b"\x00\x01\x02", b"\x80binary", b"\n\n", b"tab\there"])
def test_only_plain_text_is_quoted(beginning):
    near, there = socket.socketpair()
    with near, there:
        stream = TlsStream(near, ClientConnection(client_config()))
        _, failure = stream._receive(beginning + bytes(100))
        assert failure is not None
        assert not hasattr(failure, "__notes__")


# -- the key log -----------------------------------------------------------------------------------


@pytest.fixture
def log(tmp_path):
    return tmp_path / "keys.log"


def test_nothing_is_logged_unless_asked_for(monkeypatch):
    monkeypatch.delenv(keylog.VARIABLE, raising=False)
    assert keylog.from_environment() is None
    config = client_config()
    assert keylog.with_environment(config) is config
    monkeypatch.setenv(keylog.VARIABLE, "")
    assert keylog.with_environment(config) is config


def test_the_environment_is_ignored_where_python_is_told_so(monkeypatch, log):
    class Flags:
        ignore_environment = True

    monkeypatch.setenv(keylog.VARIABLE, str(log))
    monkeypatch.setattr(sys, "flags", Flags)
    assert keylog.from_environment() is None
    assert not log.exists()


def test_the_environment_names_a_log_for_both_sides(monkeypatch, log):
    monkeypatch.setenv(keylog.VARIABLE, str(log))
    client = keylog.with_environment(client_config())
    server = keylog.with_environment(server_config())
    assert client.key_log is server.key_log
    Pair(client, server).complete()
    assert isinstance(client.key_log, keylog.KeyLogFile)
    client.key_log.close()
    lines = log.read_text().splitlines()
    assert len(lines) == 2 * len(set(lines))
    assert {line.split()[0] for line in lines} >= {
        "CLIENT_HANDSHAKE_TRAFFIC_SECRET",
        "SERVER_TRAFFIC_SECRET_0",
        "EXPORTER_SECRET",
    }
    assert log.stat().st_mode & 0o777 == 0o600


def test_a_configured_log_goes_before_the_environment(monkeypatch, log):
    lines: list[str] = []
    monkeypatch.setenv(keylog.VARIABLE, str(log))
    config = client_config(key_log=lines.append)
    assert keylog.with_environment(config) is config
    assert not log.exists()


def test_a_log_is_appended_to_and_can_be_reopened(log):
    log.write_text("# what was there\n")
    log.chmod(0o644)
    file = keylog.KeyLogFile(log)
    file.close()
    file("A 1 2")
    file.close()
    file("B 3 4")
    file.close()
    assert log.read_text() == "# what was there\nA 1 2\nB 3 4\n"
    assert log.stat().st_mode & 0o777 == 0o644


def test_threads_write_whole_lines(log):
    file = keylog.KeyLogFile(log)

    def write(i: int) -> None:
        for n in range(50):
            file(f"LINE {i} {n}")

    threads = [threading.Thread(target=write, args=(i,)) for i in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    file.close()
    expected = {f"LINE {i} {n}" for i in range(8) for n in range(50)}
    assert set(log.read_text().splitlines()) == expected


@pytest.mark.skipif(os.name != "posix", reason="permissions as POSIX has them")
def test_a_log_that_cannot_be_written(tmp_path):
    with pytest.raises(ConfigurationError, match=r"nowhere/keys.* cannot be written"):
        keylog.KeyLogFile(tmp_path / "nowhere" / "keys").open()
