"""pyOpenSSL: the OpenSSL that `cryptography` brings, which is the one under the reference too."""

from __future__ import annotations

from typing import Any

import tpmtls
from tlsbench.measure import Missing
from tlsbench.stacks.base import HOST, Files, Run, Stack, Stream
from tpmtls.codepoints import CipherSuite, NamedGroup

_READ = 2**16


class PyOpenSslStream(Stream):
    """A connection without a socket."""

    def __init__(self, tls: Any) -> None:
        self._tls = tls

    def seal(self, data: bytes) -> bytes:
        self._tls.send(data)
        return _drain(self._tls)

    def open(self, records: bytes) -> int:
        from OpenSSL import SSL

        self._tls.bio_write(records)
        octets = 0
        try:
            while True:
                octets += len(self._tls.recv(2**14))
        except SSL.WantReadError:
            return octets


class PyOpenSsl(Stack):
    """The package pyOpenSSL."""

    name = "pyOpenSSL"

    def version(self) -> str:
        return " ".join(_ssl().OpenSSL_version(_ssl().OPENSSL_VERSION).decode().split()[:2])

    def handshakes(self, files: Files, group: NamedGroup, *, resumed: bool) -> Run:
        ssl = _ssl()
        if group is not NamedGroup.X25519MLKEM768:
            raise Missing("its client starts with X25519MLKEM768, and cannot be told otherwise")
        if resumed:
            raise Missing("its server gives two tickets, and cannot be told otherwise")
        server_context = ssl.Context(ssl.TLS_SERVER_METHOD)
        server_context.set_min_proto_version(ssl.TLS1_3_VERSION)
        server_context.set_options(ssl.OP_NO_TICKET)
        server_context.set_session_cache_mode(ssl.SESS_CACHE_OFF)
        server_context.use_certificate_chain_file(str(files.chain))
        server_context.use_privatekey_file(str(files.key))
        client_context = _client_context(files)

        def run() -> None:
            client, server = _client(client_context), ssl.Connection(server_context, None)
            server.set_accept_state()
            _handshake(client)
            while octets := _drain(client):
                server.bio_write(octets)
                _handshake(server)
                if octets := _drain(server):
                    client.bio_write(octets)
                    _handshake(client)

        run()
        return run

    def stream(self, server: tpmtls.ServerConnection, files: Files, suite: CipherSuite) -> Stream:
        client = _client(_client_context(files, suite))
        _handshake(client)
        while octets := _drain(client):
            server.receive_data(octets)
            if octets := server.data_to_send():
                client.bio_write(octets)
                _handshake(client)
        return PyOpenSslStream(client)


def _ssl() -> Any:
    try:
        from OpenSSL import SSL
    except ImportError:
        raise Missing("the package pyOpenSSL is not installed") from None
    return SSL


def _client_context(files: Files, suite: CipherSuite | None = None) -> Any:
    ssl = _ssl()
    context = ssl.Context(ssl.TLS_CLIENT_METHOD)
    context.set_min_proto_version(ssl.TLS1_3_VERSION)
    context.load_verify_locations(str(files.ca))
    context.set_verify(ssl.VERIFY_PEER)
    if suite is CipherSuite.TLS_AES_128_CCM_8_SHA256:
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")  # its tag is too short for the default
    if suite is not None:
        context.set_tls13_ciphersuites(suite.name.encode())
    return context


def _client(context: Any) -> Any:
    connection = _ssl().Connection(context, None)
    connection.set_tlsext_host_name(HOST.encode())
    connection.set_connect_state()
    return connection


def _handshake(connection: Any) -> None:
    try:
        connection.do_handshake()
    except _ssl().WantReadError:
        pass


def _drain(connection: Any) -> bytes:
    try:
        octets: bytes = connection.bio_read(_READ)
    except _ssl().WantReadError:
        return b""
    return octets
