"""Of several certificates, ours presents the one that fits; of several names, it knows its own."""

from __future__ import annotations

import pytest

from tests.interop.cases import Plan, converse
from tests.interop.peers import PEERS
from tests.interop.peers.interface import Facts, Peer, Settings
from tests.interop.peers.ours import Ours
from tests.pki import SCHEMES, Pki
from tests.table import NameRow

OURS = Ours()
KINDS = ("p256", "rsa", "ed25519")


PRESENT = [peer for peer in PEERS if peer.missing() is None]
EXACT = [peer for peer in PRESENT if peer.name in {"OpenSSL", "tlslite-ng"}]
"""Clients that offer the signature schemes that they are told to, and no others."""


@pytest.mark.parametrize("peer", EXACT, ids=lambda peer: peer.name)
@pytest.mark.parametrize("kind", KINDS)
def test_server_chooses_by_signature_scheme(peer: Peer, kind: str, pki: Pki, row: NameRow) -> None:
    row(what="server: chooses a certificate", against=peer.name, version=peer.version())
    credentials = [pki.server(each) for each in KINDS]
    scheme = SCHEMES[kind][0]
    plan = Plan(
        client=Settings(trust=pki.ca, signature_schemes=(scheme,)),
        server=Settings(credential=credentials[0], more_credentials=tuple(credentials[1:])),
        sees=Facts(scheme=scheme),
    )
    converse(peer, OURS, plan)


@pytest.mark.parametrize("peer", PRESENT, ids=lambda peer: peer.name)
@pytest.mark.parametrize("name", ["localhost", "one.example", "two.example"])
def test_server_chooses_by_name(peer: Peer, name: str, pki: Pki, row: NameRow) -> None:
    row(what="server: chooses a certificate", against=peer.name, version=peer.version())
    plan = Plan(
        client=Settings(trust=pki.ca, server_name=name),
        server=Settings(
            credential=pki.server(),
            more_credentials=(pki.named("one.example"), pki.named("two.example")),
        ),
        client_sees=Facts(peer=name),
    )
    converse(peer, OURS, plan)


@pytest.mark.parametrize("peer", PRESENT, ids=lambda peer: peer.name)
@pytest.mark.parametrize("name", ["127.0.0.1", "::1"])
def test_client_knows_an_address(peer: Peer, name: str, pki: Pki, row: NameRow) -> None:
    row(what="client: server known by address", against=peer.name, version=peer.version())
    plan = Plan(
        client=Settings(trust=pki.ca, server_name=name),
        server=Settings(credential=pki.server()),
        client_sees=Facts(peer="localhost"),
    )
    converse(OURS, peer, plan)
