"""Ours, through the blocking interface that its users have."""

from __future__ import annotations

import socket
from collections.abc import Callable
from typing import Any

import tpmtls
from tests.interop.peers.inprocess import READ, Library, Stream
from tests.interop.peers.interface import EARLY_DATA, EXPORTED, Facts, Settings, Supports
from tests.pki import KINDS
from tpmtls.algorithms import SHA256, SHA384
from tpmtls.codepoints import PskKeyExchangeMode
from tpmtls.wire.messages import (
    CertificateVerify,
    ClientHello,
    HandshakeMessage,
    HelloRetryRequest,
    KeyUpdate,
)

_SUPPORTS = Supports(
    suites=(
        "TLS_AES_128_GCM_SHA256",
        "TLS_AES_256_GCM_SHA384",
        "TLS_CHACHA20_POLY1305_SHA256",
        "TLS_AES_128_CCM_SHA256",
        "TLS_AES_128_CCM_8_SHA256",
    ),
    groups=("X25519MLKEM768", "x25519", "secp256r1", "secp384r1", "secp521r1", "x448"),
    certificates=tuple(KINDS),
    post_handshake_auth=True,
    early_data=True,
    psk=("sha256", "sha384"),
    psk_without_dhe=True,
    exporter=True,
    record_size_limit=True,
    cookie="with any client",
    middlebox_compatibility=True,
    reports=frozenset(
        {
            *("suite", "group", "alpn", "resumed", "hello_retry", "early_data", "peer"),
            *("exported", "key_updates"),
        }
    ),
)


class Ours(Library):
    """The package `tpmtls`."""

    name = "tpmtls"
    as_client = _SUPPORTS
    as_server = Supports(**vars(_SUPPORTS) | {"reports": _SUPPORTS.reports | {"scheme"}})

    def __init__(self, backend: tpmtls.Backend | None = None) -> None:
        """With a backend that the caller closes; None stands for software."""
        self.backend = backend

    def version(self) -> str:
        return tpmtls.__version__

    def server(self, settings: Settings) -> Callable[[socket.socket], Stream]:
        common = _common(settings)
        config = tpmtls.ServerConfig(
            **common,
            client_trust=settings.trust,
            request_client_certificate=settings.client_auth == "request",
            require_client_certificate=settings.client_auth == "require",
            max_early_data=settings.max_early_data,
            retry_with_cookie=settings.cookie,
        )

        def accept(connection: socket.socket) -> Stream:
            sent = Sent()
            return OurStream(
                tpmtls.wrap_server(connection, config.replace(arrange=sent), self.backend),
                settings,
                sent,
            )

        return accept

    def client(self, settings: Settings, session: Any) -> Callable[[socket.socket], Stream]:
        cache = session or tpmtls.SessionCache()
        common = _common(settings)
        if settings.key_shares is not None:
            common["key_shares"] = tuple(tpmtls.NamedGroup[name] for name in settings.key_shares)
        config = tpmtls.ClientConfig(
            **common,
            trust=settings.trust,
            server_name=settings.server_name,
            session_cache=cache,
            post_handshake_auth=settings.client_auth == "post-handshake",
            middlebox_compatibility=settings.middlebox_compatibility,
        )

        def connect(connection: socket.socket) -> Stream:
            sent = Sent()
            early_data = settings.early_data if session else b""
            stream = tpmtls.wrap_client(
                connection,
                config.replace(arrange=sent),
                backend=self.backend,
                early_data=early_data,
            )
            return OurStream(stream, settings, sent, cache)

        return connect


class Sent:
    """Remembers the handshake messages that we send."""

    def __init__(self) -> None:
        self.messages: list[HandshakeMessage] = []

    def __call__(self, message: HandshakeMessage) -> HandshakeMessage:
        self.messages.append(message)
        return message

    def count(self, kind: type[HandshakeMessage]) -> int:
        return sum(isinstance(message, kind) for message in self.messages)


def _common(settings: Settings) -> dict[str, Any]:
    config: dict[str, Any] = {"alpn": settings.alpn}
    if settings.record_size_limit:
        config["record_size_limit"] = settings.record_size_limit
    if settings.suites:
        config["suites"] = tuple(tpmtls.CipherSuite[name] for name in settings.suites)
    if settings.groups:
        config["groups"] = tuple(tpmtls.NamedGroup[name] for name in settings.groups)
    if settings.signature_schemes:
        config["signature_schemes"] = tuple(
            tpmtls.SignatureScheme[name] for name in settings.signature_schemes
        )
    if settings.credential:
        config["credentials"] = tuple(
            tpmtls.Credential.load(credential.chain, credential.key)
            for credential in (settings.credential, *settings.more_credentials)
        )
    if settings.psk:
        psk = settings.psk
        name = {"sha256": SHA256, "sha384": SHA384}[psk.hash]
        config["psks"] = (tpmtls.ExternalPsk(psk.identity.encode(), psk.key, name),)
    if settings.psk_without_dhe:
        config["psk_modes"] = (PskKeyExchangeMode.psk_ke,)
    return config


class OurStream(Stream):
    def __init__(
        self,
        stream: tpmtls.TlsStream,
        settings: Settings,
        sent: Sent,
        cache: tpmtls.SessionCache | None = None,
    ) -> None:
        self._stream = stream
        self._label = settings.exporter
        self._sent = sent
        self._cache = cache

    def receive(self) -> bytes:
        data = self._stream.recv(READ)
        if self._cache:
            self.session = self._cache
        return data

    def send(self, data: bytes) -> None:
        self._stream.sendall(data)

    def rekey(self, *, request: bool) -> None:
        self._stream.update_keys(request_peer=request)

    def request_certificate(self) -> None:
        self._stream.request_client_certificate()

    def close(self) -> None:
        self._stream.unwrap().close()

    def facts(self) -> Facts:
        stream, sent = self._stream, self._sent
        verified = [each for each in sent.messages if isinstance(each, CertificateVerify)]
        early_data = stream.early_data_accepted
        if self._cache is None:
            early_data = stream.early_data == EARLY_DATA
        return Facts(
            suite=stream.suite.name,
            group=stream.group.name if stream.group else None,
            scheme=verified[0].algorithm.name if verified else None,
            alpn=stream.alpn,
            resumed=stream.resumed,
            hello_retry=sent.count(HelloRetryRequest) == 1 or sent.count(ClientHello) == 2,
            early_data=early_data,
            peer=_common_name(stream.getpeercert()),
            exported=stream.export_keying_material(self._label, EXPORTED) if self._label else None,
            key_updates=sent.count(KeyUpdate),
        )


def _common_name(certificate: Any) -> str | None:
    names = [pair for relative in (certificate or {}).get("subject", ()) for pair in relative]
    return next((value for name, value in names if name == "commonName"), None)
