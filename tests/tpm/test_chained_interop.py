"""Chained, against other implementations, in both roles."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import replace
from functools import partial
from importlib.util import find_spec
from itertools import groupby

import pytest

from tests.interop.cases import MEBIBYTE, Case, Plan, cases, converse
from tests.interop.peers.gnutls import GnuTls
from tests.interop.peers.interface import Facts, Peer, Settings
from tests.interop.peers.openssl import OpenSsl
from tests.interop.peers.ours import Ours
from tests.pki import Pki
from tests.table import NameRow
from tests.tpm.test_interop import OursOnTpm
from tests.unit import support
from tpmtls.backends.tpm.chained import ChainedBackend
from tpmtls.backends.tpm.opening import Tpm

ROWS = ("suites", "groups", "HelloRetryRequest", "resumption", "0-RTT", "KeyUpdate", "exporter")
GCM, CCM = "TLS_AES_128_GCM_SHA256", "TLS_AES_128_CCM_SHA256"


def _peers() -> Iterator[Peer]:
    yield from (OpenSsl(), GnuTls(), Ours())
    if find_spec("tlslite"):
        from tests.interop.peers.tlslite import TlsLite

        yield TlsLite()


def _pair(role: str, ours: Peer, peer: Peer) -> tuple[Peer, Peer]:
    return (ours, peer) if role == "client" else (peer, ours)


def _mebibyte(pki: Pki, suite: str) -> Plan:
    return Plan(
        client=Settings(trust=pki.ca, suites=(suite,)),
        server=Settings(credential=pki.server(), suites=(suite,)),
        sees=Facts(suite=suite),
        octets=MEBIBYTE,
        chunk=1 << 15,
    )


def _transfers(peer: Peer) -> Iterator[Case]:
    """With CCM only where the peer is fast: tlslite-ng takes half a minute for each."""
    for suite in (GCM,) if peer.name == "tlslite-ng" else (GCM, CCM):
        if suite in peer.as_client.suites and suite in peer.as_server.suites:
            yield Case("1 MiB each way", suite, partial(_mebibyte, suite=suite))


def _chosen(role: str, peer: Peer) -> Iterator[Case]:
    yield from (case for case in cases(*_pair(role, OursOnTpm(), peer)) if case.row in ROWS)
    yield from _transfers(peer)


def _fewer(role: str, peer: Peer) -> Iterator[Case]:
    """The last case of each row, and of transfers where the peer is fast."""
    for row, of_row in groupby(_chosen(role, peer), key=lambda case: case.row):
        if peer.name != "tlslite-ng" or row in ROWS:
            *_, last = of_row
            yield last


def _matrix(choose: Callable[[str, Peer], Iterator[Case]]) -> Iterator[pytest.ParameterSet]:
    for peer in _peers():
        if reason := peer.missing():
            yield pytest.param("any", peer, None, marks=pytest.mark.skip(reason), id=peer.name)
            continue
        for role in ("client", "server"):
            for case in choose(role, peer):
                yield pytest.param(role, peer, case, id=f"{role}-{peer.name}-{case.id}")


@pytest.mark.parametrize("tpm", ["libtpms"], indirect=True)
@pytest.mark.parametrize(("role", "peer", "case"), list(_matrix(_chosen)))
def test_interop(provisioned: Tpm, role: str, peer: Peer, case: Case, row: NameRow) -> None:
    meet(provisioned, role, peer, case, row)


@pytest.mark.parametrize("tpm", ["swtpm"], indirect=True)
@pytest.mark.parametrize(("role", "peer", "case"), list(_matrix(_fewer)))
def test_interop_on_swtpm(
    provisioned: Tpm, role: str, peer: Peer, case: Case, row: NameRow
) -> None:
    meet(provisioned, role, peer, case, row)


def meet(tpm: Tpm, role: str, peer: Peer, case: Case, row: NameRow) -> None:
    kind = tpm.name.partition(":")[0]
    row(what=f"{role}, chained on {kind}: {case.row}", against=peer.name, version=peer.version())
    plan = case.plan(support.pki())
    if case.row == "0-RTT":  # its data does not survive the retry that another group calls for
        plan = replace(plan, client=replace(plan.client, groups=("secp256r1",)))
    opened = tpm.beside()
    backend = ChainedBackend(opened)
    converse(*_pair(role, OursOnTpm(backend), peer), plan)
    backend.close()
    assert opened.live == 0
