"""Ours against every peer, in both roles: all that both can do."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.interop.cases import Case, cases, converse
from tests.interop.peers import PEERS
from tests.interop.peers.interface import Peer
from tests.interop.peers.ours import Ours
from tests.pki import Pki
from tests.table import NameRow

OURS = Ours()


def _pair(role: str, peer: Peer) -> tuple[Peer, Peer]:
    return (OURS, peer) if role == "client" else (peer, OURS)


def _matrix() -> Iterator[pytest.ParameterSet]:
    for peer in PEERS:
        if reason := peer.missing():
            yield pytest.param("any", peer, None, marks=pytest.mark.skip(reason), id=peer.name)
            continue
        for role in ("client", "server"):
            for case in cases(*_pair(role, peer)):
                yield pytest.param(role, peer, case, id=f"{role}-{peer.name}-{case.id}")


@pytest.mark.parametrize(("role", "peer", "case"), list(_matrix()))
def test_interop(role: str, peer: Peer, case: Case, pki: Pki, row: NameRow) -> None:
    row(what=f"{role}: {case.row}", against=peer.name, version=peer.version())
    client, server = _pair(role, peer)
    converse(client, server, case.plan(pki))
