"""The peers' drivers work: each peer as client and as server of another, without ours."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace

import pytest

from tests.interop.cases import Case, cases, converse
from tests.interop.peers import PEERS
from tests.interop.peers.interface import ALPHABET, START, Peer, Sieve, message
from tests.pki import Pki
from tests.table import NameRow


def _pairs() -> Iterator[pytest.ParameterSet]:
    """A ring: each peer is once a client and once a server."""
    present = [peer for peer in PEERS if peer.missing() is None]
    for client, server in zip(present, [*present[1:], present[0]], strict=True):
        seen = set()
        for case in cases(client, server):
            if case.row in seen:  # one of a kind will do here
                continue
            seen.add(case.row)
            yield pytest.param(
                client, server, case, id=f"{client.name}-{server.name}-{case.id}".replace(" ", "_")
            )


@pytest.mark.parametrize(("client", "server", "case"), list(_pairs()))
def test_peers_among_themselves(
    client: Peer, server: Peer, case: Case, pki: Pki, row: NameRow
) -> None:
    row(what=f"driver: {client.name} as client", against=server.name, version=server.version())
    plan = case.plan(pki)
    converse(client, server, replace(plan, octets=min(plan.octets, 1 << 16)))


@pytest.mark.row(what="driver: data among output", against="itself")
@pytest.mark.parametrize("piece", [1, 7, 64, 10_000])
def test_sieve_finds_data_in_any_pieces(piece: int) -> None:
    data = message(1000, "one") + message(300, "two")
    printed = b"- Status: ok 123\n<012" + data + b"DONE\n 0000 - 12 34\n" + message(50)
    sieve = Sieve()
    found = b"".join(sieve.feed(printed[at : at + piece]) for at in range(0, len(printed), piece))
    assert found == data + message(50)


@pytest.mark.row(what="driver: data among output", against="itself")
@pytest.mark.parametrize("octets", [63, 64, 65, 1000, 1 << 14])
def test_message_is_plain(octets: int) -> None:
    data = message(octets)
    assert len(data) == octets
    assert data.startswith(START)
    assert not data.strip(ALPHABET)
    assert data.endswith(b"\n")
    assert max(map(len, data.split(b"\n"))) <= 64
    assert data != message(octets, "another")
