"""asyncio: `open_connection` and `start_server`, with the streams that everyone knows.

`writer.get_extra_info("tls")` is the `Session`: what was negotiated, the peer's certificate,
exporters, key updates. `writer.write_eof()` sends close_notify and leaves reading open. The
reader's end is the peer's close_notify; a transport that just ends is a TruncationError.
"""

from __future__ import annotations

import asyncio

from tpmtls.aio.server import LIMIT, TlsServer, start_server
from tpmtls.aio.transport import Below, TlsTransport
from tpmtls.backends.base import Backend
from tpmtls.config import ClientConfig
from tpmtls.session import client_connection

__all__ = ["TlsServer", "TlsTransport", "open_connection", "start_server"]


async def open_connection(
    host: str,
    port: int,
    config: ClientConfig | None = None,
    *,
    backend: Backend | None = None,
    early_data: bytes = b"",
    limit: int = LIMIT,
) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    """Connect by TCP, complete the handshake, and return (reader, writer).

    The certificate must be for `host`, unless the configuration names another `server_name`. For
    `early_data`, see `tpmtls.connect`. Raises OSError (no connection) or TlsError (no handshake);
    nothing is left open then, nor when this is cancelled.
    """
    loop = asyncio.get_running_loop()
    raw, _ = await loop.create_connection(asyncio.Protocol, host, port)
    try:  # only now: a session ticket is used up by the ClientHello that offers it
        connection = client_connection(config or ClientConfig(), backend, host, early_data)
    except BaseException:
        raw.abort()
        raise
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    handshake: asyncio.Future[None] = loop.create_future()

    def make(raw: asyncio.Transport) -> TlsTransport:
        return TlsTransport(connection, raw, protocol, ready=ready, gone=gone)

    def ready(_: TlsTransport) -> None:
        if not handshake.done():
            handshake.set_result(None)

    def gone(_: TlsTransport, error: Exception | None) -> None:
        if not handshake.done():
            handshake.set_exception(error or ConnectionError("the connection is gone"))

    below = Below(make)
    raw.set_protocol(below)
    below.connection_made(raw)
    try:
        await handshake
    except BaseException:
        below.transport.cancel()
        raise
    return reader, asyncio.StreamWriter(below.transport, protocol, reader, loop)
