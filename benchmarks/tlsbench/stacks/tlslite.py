"""tlslite-ng, both ends in one thread, over buffers instead of sockets."""

from __future__ import annotations

import errno
import secrets
from collections.abc import Iterator
from importlib import metadata
from typing import Any

import tpmtls
from tlsbench.measure import Missing
from tlsbench.stacks.base import Files, Run, Stack, Stream, Wire
from tpmtls.codepoints import CipherSuite, NamedGroup

_CIPHERS = {
    CipherSuite.TLS_AES_128_GCM_SHA256: "aes128gcm",
    CipherSuite.TLS_AES_256_GCM_SHA384: "aes256gcm",
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256: "chacha20-poly1305",
    CipherSuite.TLS_AES_128_CCM_SHA256: "aes128ccm",
    CipherSuite.TLS_AES_128_CCM_8_SHA256: "aes128ccm_8",
}
_GROUPS = {
    NamedGroup.x25519: "x25519",
    NamedGroup.secp256r1: "secp256r1",
    NamedGroup.X25519MLKEM768: "x25519mlkem768",
}


class _Socket:
    """One end of a pair of buffers."""

    def __init__(self, incoming: bytearray, outgoing: bytearray) -> None:
        self._incoming = incoming
        self._outgoing = outgoing

    def send(self, octets: bytes) -> int:
        self._outgoing.extend(octets)
        return len(octets)

    def sendall(self, octets: bytes) -> None:
        self._outgoing.extend(octets)

    def recv(self, size: int) -> bytes:
        if not self._incoming:
            raise BlockingIOError(errno.EWOULDBLOCK, "nothing is here")
        octets = bytes(self._incoming[:size])
        del self._incoming[:size]
        return octets


class TlsLiteStream(Stream):
    """A connection over a wire."""

    def __init__(self, tls: Any, wire: Wire) -> None:
        self._tls = tls
        self._wire = wire

    def seal(self, data: bytes) -> bytes:
        self._tls.write(data)
        octets = bytes(self._wire.sent)
        self._wire.sent.clear()
        return octets

    def open(self, records: bytes) -> int:
        self._wire.put(records)
        octets = 0
        while True:
            for result in self._tls.readAsync(max=2**14, min=1):
                if isinstance(result, int):  # it would wait: all is read
                    return octets
                octets += len(result)


class TlsLite(Stack):
    """The package tlslite-ng. It checks signatures, but no certificate chains."""

    name = "tlslite-ng"

    def version(self) -> str:
        _api()
        return metadata.version("tlslite-ng")

    def handshakes(self, files: Files, group: NamedGroup, *, resumed: bool) -> Run:
        api = _api()
        chain = api.X509CertChain()
        chain.parsePemList(files.chain.read_text())
        key = api.parsePEMKey(files.key.read_text(), private=True)
        settings = _settings(group)
        settings.ticket_count = int(resumed)
        settings.ticketKeys = [bytearray(secrets.token_bytes(32))]
        session = None

        def run() -> bool:
            nonlocal session
            to_server, to_client = bytearray(), bytearray()
            client = api.TLSConnection(_Socket(to_client, to_server))
            server = api.TLSConnection(_Socket(to_server, to_client))
            _together(
                client.handshakeClientCert(settings=settings, session=session, async_=True),
                server.handshakeServerAsync(certChain=chain, privateKey=key, settings=settings),
            )
            if resumed:  # the ticket comes with the first reading
                next(client.readAsync(max=1, min=1))
                session = client.session
            return bool(client.resumed)

        if resumed:
            run()
            if not run():
                raise RuntimeError("the handshake was not resumed")
        return run

    def stream(self, server: tpmtls.ServerConnection, files: Files, suite: CipherSuite) -> Stream:
        settings = _settings(NamedGroup.x25519)
        settings.cipherNames = [_CIPHERS[suite]]
        wire = Wire(server)
        tls = _api().TLSConnection(wire)
        _together(tls.handshakeClientCert(settings=settings, async_=True))
        wire.exchange()
        return TlsLiteStream(tls, wire)


def _api() -> Any:
    try:
        from tlslite import api
    except ImportError:
        raise Missing("the package tlslite-ng is not installed") from None
    return api


def _settings(group: NamedGroup) -> Any:
    if group is NamedGroup.X25519MLKEM768:
        from tlslite.utils.compat import ML_KEM_AVAILABLE

        if not ML_KEM_AVAILABLE:
            raise Missing("tlslite-ng has no ML-KEM without the package kyber-py")
    settings = _api().HandshakeSettings()
    settings.minVersion = settings.maxVersion = (3, 4)
    settings.versions = [(3, 4)]
    settings.certificate_compression_send = []  # its client compresses without being asked
    settings.eccCurves = settings.keyShares = [_GROUPS[group]]
    settings.dhGroups = []
    return settings


def _together(*ends: Iterator[object]) -> None:
    """Step through handshakes by turns until each is done."""
    pending = list(ends)
    while pending:
        pending = [end for end in pending if next(end, None) is not None]
