"""Many connections that are open at once, in a process of its own: `python -m tlsbench.crowd`.

Prints one JSON object: the seconds of processor time that all the handshakes took, and the octets
by which the process has grown since the first few connections.
"""

from __future__ import annotations

import ctypes
import gc
import json
import os
import ssl
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Final

import tpmtls
from tlsbench.stacks.base import HOST, Files

WARM_UP: Final = 8
"""Connections that are not counted: what they load stays."""
GROUP: Final = tpmtls.NamedGroup.x25519
Pair = tuple[object, object]


def tpmtls_pairs(files: Files, number: int) -> list[Pair]:
    """So many connections of the reference; each flight of all, then the next."""
    client_config = tpmtls.ClientConfig(trust=files.ca, server_name=HOST, groups=(GROUP,))
    server_config = tpmtls.ServerConfig(
        credentials=(files.credential(),), groups=(GROUP,), tickets=0
    )
    pairs = [
        (tpmtls.ClientConnection(client_config), tpmtls.ServerConnection(server_config))
        for _ in range(number)
    ]
    for _ in range(2):
        for client, server in pairs:
            server.receive_data(client.data_to_send())
        for client, server in pairs:
            if octets := server.data_to_send():
                client.receive_data(octets)
    for client, server in pairs:
        client.events()
        server.events()
        if not (client.handshake_complete and server.handshake_complete):
            raise RuntimeError("a handshake did not complete")
    return list(pairs)


def ssl_pairs(files: Files, number: int) -> list[Pair]:
    """The same with CPython's ssl."""
    server_context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_context.load_cert_chain(files.chain, files.key)
    server_context.num_tickets = 0
    client_context = ssl.create_default_context(cafile=str(files.ca))
    for context in (server_context, client_context):
        context.minimum_version = ssl.TLSVersion.TLSv1_3
        context.set_ecdh_curve("X25519")
    pairs = []
    for _ in range(number):
        up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
        client = client_context.wrap_bio(down, up, server_hostname=HOST)
        pairs.append((client, server_context.wrap_bio(up, down, server_side=True)))
    for end in (0, 1, 0, 1):  # ClientHello; ServerHello to Finished; Finished; its verification
        for pair in pairs:
            with suppress(ssl.SSLWantReadError):
                pair[end].do_handshake()
    if not all(client.version() == server.version() == "TLSv1.3" for client, server in pairs):
        raise RuntimeError("a handshake did not complete")
    return list(pairs)


STACKS: Final[dict[str, Callable[[Files, int], list[Pair]]]] = {
    "tpmtls": tpmtls_pairs,
    "CPython ssl": ssl_pairs,
}


def resident() -> int:
    """Octets of memory that this process has, what is free inside it given back before."""
    gc.collect()
    ctypes.CDLL(None).malloc_trim(0)
    pages = int(Path("/proc/self/statm").read_text("ascii").split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def main() -> None:
    """The program: the stack, how many, and the certificates' folder."""
    name, number, folder = sys.argv[1:]
    files = Files(*(Path(folder) / f"{each}.pem" for each in ("ca", "chain", "key")))
    make = STACKS[name]
    first = make(files, WARM_UP)
    before = resident()
    start = time.process_time()
    pairs = make(files, int(number))
    spent = time.process_time() - start
    grown = resident() - before
    print(json.dumps({"seconds": spent, "octets": grown, "pairs": len(pairs) + len(first)}))


if __name__ == "__main__":
    main()
