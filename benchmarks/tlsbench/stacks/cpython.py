"""CPython's `ssl`, both ends over memory BIOs."""

from __future__ import annotations

import platform
import ssl

import tpmtls
from tlsbench.measure import Missing
from tlsbench.stacks.base import HOST, Files, Run, Stack, Stream
from tpmtls.codepoints import CipherSuite, NamedGroup

_CURVES = {NamedGroup.x25519: "X25519", NamedGroup.secp256r1: "prime256v1"}
_SUITES = (
    CipherSuite.TLS_AES_128_GCM_SHA256,
    CipherSuite.TLS_AES_256_GCM_SHA384,
    CipherSuite.TLS_CHACHA20_POLY1305_SHA256,
)
"""Those of its default, which cannot be changed: a server that takes one decides."""


class SslStream(Stream):
    """An SSLObject and its BIOs."""

    def __init__(self, tls: ssl.SSLObject, incoming: ssl.MemoryBIO, outgoing: ssl.MemoryBIO):
        self._tls = tls
        self._incoming = incoming
        self._outgoing = outgoing

    def seal(self, data: bytes) -> bytes:
        self._tls.write(data)
        return self._outgoing.read()

    def open(self, records: bytes) -> int:
        self._incoming.write(records)
        octets = 0
        try:
            while data := self._tls.read(2**14):
                octets += len(data)
        except ssl.SSLWantReadError:
            pass
        return octets


class CPython(Stack):
    """The `ssl` of the Python that runs this."""

    name = "CPython ssl"

    def version(self) -> str:
        return f"{platform.python_version()}, {' '.join(ssl.OPENSSL_VERSION.split()[:2])}"

    def handshakes(self, files: Files, group: NamedGroup, *, resumed: bool) -> Run:
        if group not in _CURVES:
            raise Missing(f"{' '.join(ssl.OPENSSL_VERSION.split()[:2])} has no {group.name}")
        server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        server_context.load_cert_chain(files.chain, files.key)
        server_context.num_tickets = int(resumed)
        client_context = _client_context(files)
        for context in (server_context, client_context):
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.set_ecdh_curve(_CURVES[group])
        session: ssl.SSLSession | None = None

        def run() -> bool | None:
            nonlocal session
            to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
            client = client_context.wrap_bio(
                to_client, to_server, server_hostname=HOST, session=session
            )
            server = server_context.wrap_bio(to_server, to_client, server_side=True)
            pending = [client, server]
            while pending:
                for end in tuple(pending):
                    try:
                        end.do_handshake()
                        pending.remove(end)
                    except ssl.SSLWantReadError:
                        pass
            if resumed:
                try:  # the ticket comes with the first reading
                    client.read(1)
                except ssl.SSLWantReadError:
                    session = client.session
            return client.session_reused

        if resumed:
            run()
            if not run():
                raise RuntimeError("the handshake was not resumed")
        return run

    def stream(self, server: tpmtls.ServerConnection, files: Files, suite: CipherSuite) -> Stream:
        if suite not in _SUITES:
            raise Missing("it offers no AES-CCM, and cannot be told to")
        incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
        tls = _client_context(files).wrap_bio(incoming, outgoing, server_hostname=HOST)
        while True:
            try:
                tls.do_handshake()
                break
            except ssl.SSLWantReadError:
                server.receive_data(outgoing.read())
                incoming.write(server.data_to_send())
        server.receive_data(outgoing.read())
        return SslStream(tls, incoming, outgoing)


def _client_context(files: Files) -> ssl.SSLContext:
    context = ssl.create_default_context(cafile=str(files.ca))
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    return context
