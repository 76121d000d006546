"""`tpmtls serve` under load: many clients at once, and clients that say nothing."""

from __future__ import annotations

import asyncio
import json
import re
import signal
import socket
import ssl
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from tests.interop.cases import exchange
from tests.interop.peers.cpython import CPython
from tests.interop.peers.interface import HOST, PATIENCE, Settings, message
from tests.interop.peers.process import Program, run
from tests.pki import Pki
from tests.table import NameRow

CLIENTS = 200
CLIENT = CPython()


@contextmanager
def serving(pki: Pki, *options: str) -> Iterator[tuple[Program, int]]:
    """The server and its port."""
    credential = pki.server()
    command = [sys.executable, "-m", "tpmtls.cli", "serve", "--listen", f"{HOST}:0", "--json"]
    certificate = ["--cert", str(credential.chain), "--key", str(credential.key)]
    with run([*command, *certificate, *options]) as program:
        program.wait_for(lambda: b"\n" in program.stderr, "it listened")
        found = re.search(rf"{re.escape(HOST)}:(\d+)", program.stderr.decode())
        assert found, program.log()
        yield program, int(found[1])


def events(program: Program) -> list[dict[str, Any]]:
    return [json.loads(line) for line in program.stderr.decode().splitlines()]


def end(program: Program) -> list[dict[str, Any]]:
    """Ask the server to end; its events, once it has."""
    status = program.terminate()
    assert status == 0, program.log()
    return events(program)


# --- many at once -------------------------------------------------------------------------------


async def _talk(
    number: int, port: int, context: ssl.SSLContext, everybody: asyncio.Barrier
) -> None:
    reader, writer = await asyncio.open_connection(
        HOST, port, ssl=context, server_hostname="localhost", ssl_handshake_timeout=2 * PATIENCE
    )
    await everybody.wait()  # now all of them are connected
    for turn in range(3):
        sent = message(2000, f"{number}/{turn}")
        writer.write(sent)
        assert await reader.readexactly(len(sent)) == sent
    await everybody.wait()  # and nobody has left
    writer.write_eof() if writer.can_write_eof() else writer.close()
    await writer.wait_closed()


async def _talk_all_at_once(port: int, context: ssl.SSLContext) -> None:
    everybody = asyncio.Barrier(CLIENTS)
    async with asyncio.timeout(4 * PATIENCE), asyncio.TaskGroup() as clients:
        for number in range(CLIENTS):
            clients.create_task(_talk(number, port, context, everybody))


def test_many_clients_at_once(pki: Pki, row: NameRow) -> None:
    """200 connections, all open at the same time, of CPython's ssl under asyncio."""
    row(
        what=f"tpmtls serve: {CLIENTS} connections at once",
        against=CLIENT.name,
        version=CLIENT.version(),
    )
    context = ssl.create_default_context(cafile=pki.ca)
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    with serving(pki, "--timeout", "60") as (program, port):
        asyncio.run(_talk_all_at_once(port, context))
        told = end(program)
    assert [event for event in told if event["event"] == "failure"] == []
    assert sum(event["event"] == "connection" for event in told) == CLIENTS


# --- clients that say nothing, or too little ----------------------------------------------------

TIMEOUT = "0.5"
BEGINNING = bytes.fromhex("16030100c8010000c40303")
"""Of a ClientHello that never goes on."""


@pytest.mark.parametrize("said", [b"", BEGINNING], ids=["nothing", "a beginning"])
def test_silent_client_is_dropped(said: bytes, pki: Pki, row: NameRow) -> None:
    row(what="tpmtls serve: drops a silent client", against="a TCP client")
    with (
        serving(pki, "--timeout", TIMEOUT) as (program, port),
        socket.create_connection((HOST, port), PATIENCE) as silent,
    ):
        silent.sendall(said)
        received = bytearray()
        while octets := silent.recv(1000):  # ends: else the socket's own timeout is an error
            received += octets
        with CLIENT.connect(port, Settings(trust=pki.ca)) as other:
            exchange(other, 100, 100, "after")
            other.close()
        failed, connected = end(program)[1:]
    assert failed["event"] == "failure"
    assert f"no handshake within {TIMEOUT} s" in failed["error"]
    assert connected["event"] == "connection"
    assert received == bytes.fromhex("1503030002015a15030300020100")  # user_canceled, the end


def test_client_may_be_silent_after_handshake(pki: Pki, row: NameRow) -> None:
    row(what="tpmtls serve: drops a silent client", against=CLIENT.name, version=CLIENT.version())
    with serving(pki, "--timeout", TIMEOUT) as (program, port):
        with (
            CLIENT.connect(port, Settings(trust=pki.ca)) as idle,
            socket.create_connection((HOST, port), PATIENCE) as silent,
        ):
            exchange(idle, 100, 100, "before")
            while silent.recv(1000):  # so long that who came later has been dropped
                pass
            exchange(idle, 100, 100, "after")
            idle.close()
        told = end(program)
    assert [event["event"] for event in told] == ["listening", "connection", "failure"]


# --- the end of the server ----------------------------------------------------------------------


def test_server_ends_with_its_connections(pki: Pki, row: NameRow) -> None:
    row(what="tpmtls serve: ends cleanly", against=CLIENT.name, version=CLIENT.version())
    with serving(pki) as (program, port), CLIENT.connect(port, Settings(trust=pki.ca)) as client:
        exchange(client, 100, 100, "before")
        program.signal(signal.SIGTERM)
        client.await_close()
        assert program.wait() == 0, program.log()
