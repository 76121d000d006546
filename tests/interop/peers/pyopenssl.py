"""The OpenSSL that comes with `cryptography`, through pyOpenSSL: newer than Debian's.

It has what the other peers lack: X25519MLKEM768 and ML-DSA.
"""

from __future__ import annotations

import socket
import struct
from collections.abc import Callable
from typing import Any

from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from OpenSSL import SSL

from tests.interop.peers.inprocess import READ, Library, Stream
from tests.interop.peers.interface import EXPORTED, PATIENCE, Facts, Settings, Supports

_GROUPS = {
    "X25519MLKEM768": "X25519MLKEM768",
    "x25519": "x25519",
    "secp256r1": "secp256r1",
    "secp384r1": "secp384r1",
    "secp521r1": "secp521r1",
    "x448": "x448",
}
_CURVES = {"secp256r1": ec.SECP256R1(), "secp384r1": ec.SECP384R1(), "secp521r1": ec.SECP521R1()}
"""What a server can be restricted to; its client can't be."""
_SUPPORTS = Supports(
    suites=(
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_CCM_8_SHA256",
    ),
    groups=tuple(_GROUPS),
    certificates=(
        *("rsa", "rsa-pss", "p256", "p384", "p521", "ed25519", "ed448"),
        *("mldsa44", "mldsa65", "mldsa87"),
    ),
    key_update=(),
    exporter=True,
    chooses=frozenset({"suites"}),
    reports=frozenset({"suite", "group", "alpn", "peer", "exported"}),
)


class PyOpenSsl(Library):
    """The package pyOpenSSL."""

    name = "pyOpenSSL"
    as_client = _SUPPORTS
    as_server = _SUPPORTS

    def version(self) -> str:
        return " ".join(SSL.OpenSSL_version(SSL.OPENSSL_VERSION).decode().split()[:2])

    def server(self, settings: Settings) -> Callable[[socket.socket], Stream]:
        context = _context(SSL.TLS_SERVER_METHOD, settings)
        context.set_session_id(b"interop")
        if settings.client_auth == "request":
            context.set_verify(SSL.VERIFY_PEER)
        if settings.client_auth == "require":
            context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT)
        if len(settings.groups) == 1 and settings.groups[0] in _CURVES:
            context.set_tmp_ecdh(_CURVES[settings.groups[0]])
        if settings.alpn:
            ours = [protocol.encode() for protocol in settings.alpn]
            context.set_alpn_select_callback(
                lambda _connection, offered: next(
                    (protocol for protocol in ours if protocol in offered),
                    SSL.NO_OVERLAPPING_PROTOCOLS,
                )
            )

        def accept(connection: socket.socket) -> Stream:
            tls = SSL.Connection(context, _blocking(connection))
            tls.set_accept_state()
            tls.do_handshake()
            return PyOpenSslStream(tls, connection, settings)

        return accept

    def client(self, settings: Settings, session: Any) -> Callable[[socket.socket], Stream]:
        context = session[0] if session else _context(SSL.TLS_CLIENT_METHOD, settings)
        if not session:
            context.set_verify(SSL.VERIFY_PEER)
            if settings.alpn:
                context.set_alpn_protos([protocol.encode() for protocol in settings.alpn])

        def connect(connection: socket.socket) -> Stream:
            tls = SSL.Connection(context, _blocking(connection))
            tls.set_tlsext_host_name(settings.server_name.encode())
            tls.set_connect_state()
            if session:
                tls.set_session(session[1])
            tls.do_handshake()
            return PyOpenSslStream(tls, connection, settings)

        return connect


def _context(method: int, settings: Settings) -> SSL.Context:
    context = SSL.Context(method)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    if "TLS_AES_128_CCM_8_SHA256" in settings.suites:
        context.set_cipher_list(b"DEFAULT:@SECLEVEL=0")  # its tag is too short for the default
    if settings.suites:
        context.set_tls13_ciphersuites(":".join(settings.suites).encode())
    if settings.credential:
        context.use_certificate_chain_file(settings.credential.chain)
        context.use_privatekey_file(settings.credential.key)
    if settings.trust:
        context.load_verify_locations(settings.trust)
    return context


def _blocking(connection: socket.socket) -> socket.socket:
    """Blocking, as this library needs it, and yet bounded in time."""
    connection.settimeout(None)
    bound = struct.pack("ll", int(PATIENCE), 0)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, bound)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, bound)
    return connection


class PyOpenSslStream(Stream):
    def __init__(self, tls: SSL.Connection, connection: socket.socket, settings: Settings) -> None:
        self._tls = tls
        self._connection = connection
        self._label = settings.exporter.encode()

    def receive(self) -> bytes:
        try:
            data = self._tls.recv(READ)
        except SSL.ZeroReturnError:
            return b""
        self.session = (self._tls.get_context(), self._tls.get_session())
        return data

    def send(self, data: bytes) -> None:
        self._tls.sendall(data)

    def close(self) -> None:
        if not self._tls.shutdown() and self.receive():
            raise ConnectionError("data instead of close_notify")
        self._connection.close()

    def facts(self) -> Facts:
        tls = self._tls
        certificate = tls.get_peer_certificate(as_cryptography=True)
        name = certificate and certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
        group = tls.get_group_name()
        return Facts(
            suite=tls.get_cipher_name(),
            group=next((ours for ours, theirs in _GROUPS.items() if theirs == group), group),
            alpn=tls.get_alpn_proto_negotiated().decode() or None,
            peer=str(name[0].value) if name else None,
            exported=tls.export_keying_material(self._label, EXPORTED) if self._label else None,
        )
