"""CPython's `ssl` module."""

from __future__ import annotations

import platform
import socket
import ssl
from collections.abc import Callable
from typing import Any

from tests.interop.peers.inprocess import READ, Library, Stream
from tests.interop.peers.interface import Facts, Settings, Supports

_CURVES = {
    "x25519": "X25519",
    "secp256r1": "prime256v1",
    "secp384r1": "secp384r1",
    "secp521r1": "secp521r1",
    "x448": "X448",
}
_SUPPORTS = Supports(
    suites=(  # the module's defaults: it has no way to choose them
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
    ),
    groups=tuple(_CURVES),
    certificates=("rsa", "rsa-pss", "p256", "p384", "p521", "ed25519", "ed448"),
    post_handshake_auth=True,
    key_update=(),
    chooses=frozenset(),
    reports=frozenset({"suite", "alpn", "resumed", "peer"}),
)


class CPython(Library):
    """The `ssl` module of the Python that runs the tests."""

    name = "CPython ssl"
    as_client = _SUPPORTS
    as_server = _SUPPORTS

    def version(self) -> str:
        return f"{platform.python_version()} ({' '.join(ssl.OPENSSL_VERSION.split()[:2])})"

    def server(self, settings: Settings) -> Callable[[socket.socket], Stream]:
        context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        _configure(context, settings)
        context.verify_mode = {
            "none": ssl.CERT_NONE,
            "request": ssl.CERT_OPTIONAL,
            "require": ssl.CERT_REQUIRED,
            "post-handshake": ssl.CERT_REQUIRED,
        }[settings.client_auth]
        context.post_handshake_auth = settings.client_auth == "post-handshake"
        if len(settings.groups) == 1:
            context.set_ecdh_curve(_CURVES[settings.groups[0]])

        def accept(connection: socket.socket) -> Stream:
            return SslStream(
                context.wrap_socket(connection, server_side=True, suppress_ragged_eofs=False)
            )

        return accept

    def client(self, settings: Settings, session: Any) -> Callable[[socket.socket], Stream]:
        context = session[0] if session else ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
        if not session:
            _configure(context, settings)
            context.post_handshake_auth = settings.client_auth == "post-handshake"

        def connect(connection: socket.socket) -> Stream:
            return SslStream(
                context.wrap_socket(
                    connection,
                    server_hostname=settings.server_name,
                    suppress_ragged_eofs=False,
                    session=session[1] if session else None,
                )
            )

        return connect


def _configure(context: ssl.SSLContext, settings: Settings) -> None:
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    if settings.credential:
        context.load_cert_chain(settings.credential.chain, settings.credential.key)
    if settings.trust:
        context.load_verify_locations(settings.trust)
    if settings.alpn:
        context.set_alpn_protocols(list(settings.alpn))


def _common_name(certificate: Any) -> str | None:
    for ((attribute, value),) in (certificate or {}).get("subject", ()):
        if attribute == "commonName":
            return str(value)
    return None


class SslStream(Stream):
    def __init__(self, wrapped: ssl.SSLSocket) -> None:
        self._socket = wrapped

    def receive(self) -> bytes:
        data = self._socket.recv(READ)
        self.session = (self._socket.context, self._socket.session)
        return data

    def send(self, data: bytes) -> None:
        self._socket.sendall(data)

    def request_certificate(self) -> None:
        self._socket.verify_client_post_handshake()

    def close(self) -> None:
        self._socket.unwrap().close()

    def facts(self) -> Facts:
        cipher = self._socket.cipher()
        return Facts(
            suite=cipher[0] if cipher else None,
            alpn=self._socket.selected_alpn_protocol(),
            resumed=self._socket.session_reused,
            peer=_common_name(self._socket.getpeercert()),
        )
