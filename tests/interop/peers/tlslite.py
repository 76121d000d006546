"""tlslite-ng, a TLS written in Python."""

from __future__ import annotations

import secrets
import socket
from collections.abc import Callable, Iterator
from importlib import metadata
from typing import Any

from cryptography import x509
from cryptography.x509.oid import NameOID
from tlslite.api import HandshakeSettings, TLSConnection, X509CertChain, parsePEMKey
from tlslite.constants import (
    AlertDescription,
    CipherSuite,
    GroupName,
    KeyUpdateMessageType,
    SignatureScheme,
)
from tlslite.errors import TLSRemoteAlert
from tlslite.utils.compat import ML_KEM_AVAILABLE

from tests.interop.peers.inprocess import READ, Library, Stream
from tests.interop.peers.interface import EXPORTED, Facts, Settings, Supports

CIPHERS = {
    "TLS_AES_128_GCM_SHA256": "aes128gcm",
    "TLS_AES_256_GCM_SHA384": "aes256gcm",
    "TLS_CHACHA20_POLY1305_SHA256": "chacha20-poly1305",
    "TLS_AES_128_CCM_SHA256": "aes128ccm",
    "TLS_AES_128_CCM_8_SHA256": "aes128ccm_8",
}
GROUPS = {
    "x25519": "x25519",
    "secp256r1": "secp256r1",
    "secp384r1": "secp384r1",
    "secp521r1": "secp521r1",
    "x448": "x448",
}
if ML_KEM_AVAILABLE:  # with the package kyber-py
    GROUPS["X25519MLKEM768"] = "x25519mlkem768"

_SUPPORTS = Supports(
    suites=tuple(CIPHERS),
    groups=tuple(GROUPS),
    certificates=("rsa", "rsa-pss", "p256", "p384", "p521", "ed25519", "ed448"),
    post_handshake_auth=True,
    psk=("sha256", "sha384"),
    psk_without_dhe=True,
    exporter=True,
    record_size_limit=True,
    reports=frozenset({"suite", "group", "scheme", "alpn", "resumed", "peer", "exported"}),
)


class TlsLite(Library):
    """The package tlslite-ng. It checks signatures, but no certificate chains."""

    name = "tlslite-ng"
    as_client = _SUPPORTS
    as_server = Supports(  # it does not tell a resumed session from another
        **vars(_SUPPORTS) | {"reports": _SUPPORTS.reports - {"resumed"}}
    )

    def version(self) -> str:
        return metadata.version("tlslite-ng")

    def server(self, settings: Settings) -> Callable[[socket.socket], Stream]:
        configured = _settings(settings)
        configured.ticketKeys = [bytearray(secrets.token_bytes(32))]
        chain, key = _credential(settings)

        def accept(connection: socket.socket) -> Stream:
            tls = TLSConnection(connection)
            tls.closeSocket = False
            tls.handshakeServer(
                certChain=chain,
                privateKey=key,
                reqCert=settings.client_auth in {"request", "require"},
                settings=configured,
                alpn=[protocol.encode() for protocol in settings.alpn] or None,
            )
            return TlsLiteStream(tls, settings, configured)

        return accept

    def client(self, settings: Settings, session: Any) -> Callable[[socket.socket], Stream]:
        configured = _settings(settings)
        shares = (
            (settings.groups or ("x25519",))[:1]
            if settings.key_shares is None
            else settings.key_shares
        )
        configured.keyShares = [GROUPS[group] for group in shares]
        chain, key = _credential(settings)

        def connect(connection: socket.socket) -> Stream:
            tls = TLSConnection(connection)
            tls.closeSocket = False
            tls.handshakeClientCert(
                certChain=chain,
                privateKey=key,
                session=session,
                settings=configured,
                serverName=settings.server_name,
                alpn=[protocol.encode() for protocol in settings.alpn] or None,
            )
            return TlsLiteStream(tls, settings, configured)

        return connect


def _credential(settings: Settings) -> tuple[Any, Any]:
    if not settings.credential:
        return None, None
    chain = X509CertChain()
    chain.parsePemList(settings.credential.chain.read_text())
    return chain, parsePEMKey(settings.credential.key.read_text(), private=True)


def _settings(settings: Settings) -> Any:
    configured = HandshakeSettings()
    configured.minVersion = configured.maxVersion = (3, 4)
    configured.versions = [(3, 4)]
    configured.use_heartbeat_extension = False
    configured.certificate_compression_send = []  # its client compresses without being asked
    if settings.suites:
        configured.cipherNames = [CIPHERS[suite] for suite in settings.suites]
    configured.eccCurves = [GROUPS[group] for group in settings.groups or GROUPS]
    configured.dhGroups = []
    configured.keyShares = []
    if settings.psk:
        psk = settings.psk
        configured.pskConfigs = [(psk.identity.encode(), bytearray(psk.key), psk.hash)]
    if settings.psk_without_dhe:
        configured.psk_modes = ["psk_ke"]
    if settings.record_size_limit:
        configured.record_size_limit = settings.record_size_limit
    if settings.signature_schemes:
        _choose_schemes(configured, settings.signature_schemes)
    return configured


def _choose_schemes(configured: Any, schemes: tuple[str, ...]) -> None:
    """These alone; tlslite-ng splits them by algorithm and by hash."""

    def hashes(algorithm: str) -> list[str]:
        return [scheme.rpartition("_")[2] for scheme in schemes if scheme.startswith(algorithm)]

    configured.rsaSigHashes = hashes("rsa_pss")
    configured.ecdsaSigHashes = hashes("ecdsa")
    configured.rsaSchemes = ["pss"]
    configured.more_sig_schemes = [name for name in ("Ed25519", "Ed448") if name.lower() in schemes]


class TlsLiteStream(Stream):
    def __init__(self, tls: Any, settings: Settings, configured: Any) -> None:
        self._tls = tls
        self._configured = configured
        exporter = bytearray(settings.exporter.encode())
        self._exported = tls.keyingMaterialExporter(exporter, EXPORTED) if exporter else b""

    def receive(self) -> bytes:
        data: bytes = self._tls.read(max=READ, min=1)
        self.session = self._tls.session
        return data

    def send(self, data: bytes) -> None:
        self._tls.write(data)

    def rekey(self, *, request: bool) -> None:
        kind = (
            KeyUpdateMessageType.update_requested
            if request
            else KeyUpdateMessageType.update_not_requested
        )
        _run(self._tls.send_keyupdate_request(kind))

    def request_certificate(self) -> None:
        _run(self._tls.request_post_handshake_auth(self._configured))

    def close(self) -> None:
        try:
            self._tls.close()
        except TLSRemoteAlert as alert:
            if alert.description != AlertDescription.close_notify:
                raise
        self._tls.sock.close()

    def facts(self) -> Facts:
        tls = self._tls
        session = tls.session
        theirs = session.serverCertChain if tls._client else session.clientCertChain
        return Facts(
            suite=CipherSuite.ietfNames[session.cipherSuite],
            group=_named(GROUPS, GroupName.toRepr(tls.ecdhCurve)) if tls.ecdhCurve else None,
            scheme=SignatureScheme.toRepr(tls.serverSigAlg) if tls.serverSigAlg else None,
            alpn=bytes(session.appProto or b"").decode() or None,
            resumed=tls.resumed,
            peer=_common_name(theirs) if theirs else None,
            exported=bytes(self._exported) or None,
        )


def _run(steps: Iterator[object]) -> None:
    for _ in steps:  # the socket blocks, so there is nothing to wait for between them
        pass


def _named(names: dict[str, str], theirs: str) -> str | None:
    return next((ours for ours, name in names.items() if name == theirs), None)


def _common_name(chain: Any) -> str:
    certificate = x509.load_der_x509_certificate(bytes(chain.x509List[0].bytes))
    (name,) = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    return str(name.value)
