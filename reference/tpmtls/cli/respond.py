"""What `tpmtls serve` answers: an echo, a page, or lines reversed."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Final

from tpmtls.cli import report
from tpmtls.session import Session

CHUNK: Final = 2**16
MAX_LINE: Final = 2**16
"""Octets of a line that is to be reversed."""
MAX_HEAD: Final = 2**14
"""Octets of an HTTP request's head."""


class Client:
    """A client that has completed its handshake, and what it sends."""

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        heard: Callable[[], object],
    ) -> None:
        """`heard` is called after each piece of data, and at their end."""
        self.session: Session = writer.get_extra_info("tls")
        self._reader = reader
        self._writer = writer
        self._heard = heard

    async def data(self) -> AsyncIterator[bytes]:
        """What the client sends, up to its close_notify; early data first."""
        chunk = self.session.early_data or await self._reader.read(CHUNK)
        while chunk:
            self._heard()
            yield chunk
            chunk = await self._reader.read(CHUNK)
        self._heard()

    async def send(self, data: bytes) -> None:
        """Send, and wait for a client that reads slowly."""
        self._writer.write(data)
        await self._writer.drain()


async def echo(client: Client) -> None:
    """Everything as it came."""
    async for data in client.data():
        await client.send(data)


async def reverse(client: Client) -> None:
    """Each line backwards; what comes after the last line's end is a line too."""
    rest = b""
    async for data in client.data():
        *lines, rest = (rest + data).split(b"\n")
        await client.send(b"".join(line[::-1] + b"\n" for line in lines))
        if len(rest) > MAX_LINE:
            raise ConnectionAbortedError(f"a line of more than {MAX_LINE} octets")
    if rest:
        await client.send(rest[::-1])


async def http(client: Client) -> None:
    """A page that says what was negotiated, for any request, and the connection's end."""
    head = b""
    async for data in client.data():
        head += data
        if b"\r\n\r\n" in head or b"\n\n" in head or len(head) > MAX_HEAD:
            break
    method, _, rest = head.partition(b" ")
    if not method.isalpha() or b"HTTP/" not in rest[:MAX_HEAD]:
        status, text = "400 Bad Request", "this is not HTTP\n"
    elif len(head) > MAX_HEAD:
        status, text = "431 Request Header Fields Too Large", "too much of a head\n"
    else:
        values = report.describe(client.session)
        status, text = "200 OK", "".join(f"{name}: {value}\n" for name, value in values.items())
    page = text.encode()
    await client.send(
        f"HTTP/1.1 {status}\r\nContent-Type: text/plain; charset=utf-8\r\n"
        f"Content-Length: {len(page)}\r\nConnection: close\r\n\r\n".encode()
        + (b"" if method == b"HEAD" else page)
    )


RESPONDERS: Final[dict[str, Callable[[Client], Awaitable[None]]]] = {
    "echo": echo,
    "http": http,
    "reverse": reverse,
}
