"""Ours with its secrets in a TPM, against other implementations, in both roles."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from importlib.util import find_spec

import pytest

from tests.interop.cases import Case, cases, converse
from tests.interop.peers.interface import Peer, Supports
from tests.interop.peers.openssl import OpenSsl
from tests.interop.peers.ours import Ours
from tests.table import NameRow
from tests.tpm.support import at_rest, level_name
from tests.unit import support
from tpmtls.backends.tpm.backend import TpmBackend
from tpmtls.backends.tpm.opening import Tpm

ALL = frozenset({"ecdhe", "hkdf", "aead"})  # where the key that signs is, the peer cannot tell
LEVELS = (*(frozenset({level}) for level in ("ecdhe", "hkdf", "aead")), ALL)
ON = tuple((kind, levels) for kind in ("libtpms", "swtpm") for levels in LEVELS)
"""Which levels on which TPM."""
SHOWN = {
    "groups": "",
    "HelloRetryRequest": "",
    "client certificates": "p256 post-handshake",
    "resumption": "",
    "0-RTT": "",
    "external PSK": "sha256 sha384",
    "KeyUpdate": "",
}
"""The rows that differ with a TPM, and their cases where not all of them do."""


def _on_tpm(supports: Supports) -> Supports:
    return replace(
        supports,
        suites=tuple(suite for suite in supports.suites if "AES" in suite),
        groups=("secp256r1", "secp384r1", "secp521r1"),
    )


class OursOnTpm(Ours):
    """Ours, which then offers what a TPM can do."""

    name = "tpmtls on a TPM"
    as_client = _on_tpm(Ours.as_client)
    as_server = _on_tpm(Ours.as_server)


def _peers() -> Iterator[Peer]:
    yield OpenSsl()
    if find_spec("tlslite"):
        from tests.interop.peers.tlslite import TlsLite

        yield TlsLite()


def _pair(role: str, ours: Peer, peer: Peer) -> tuple[Peer, Peer]:
    return (ours, peer) if role == "client" else (peer, ours)


def _matrix() -> Iterator[pytest.ParameterSet]:
    for peer in _peers():
        if reason := peer.missing():
            yield pytest.param("any", peer, None, marks=pytest.mark.skip(reason), id=peer.name)
            continue
        for role in ("client", "server"):
            for case in cases(*_pair(role, OursOnTpm(), peer)):
                only = SHOWN.get(case.row)
                if only is not None and (not only or case.name in only.split()):
                    yield pytest.param(role, peer, case, id=f"{role}-{peer.name}-{case.id}")


@pytest.mark.parametrize(
    ("tpm", "levels"),
    ON,
    indirect=["tpm"],
    ids=[f"{kind}-{level_name(levels)}" for kind, levels in ON],
)
@pytest.mark.parametrize(("role", "peer", "case"), list(_matrix()))
def test_interop(
    tpm: Tpm, levels: frozenset[str], role: str, peer: Peer, case: Case, row: NameRow
) -> None:
    kind = tpm.name.partition(":")[0]
    row(
        what=f"{role}, {level_name(levels)} on {kind}: {case.row}",
        against=peer.name,
        version=peer.version(),
    )
    plan = case.plan(support.pki())
    if case.row == "0-RTT":  # its data does not survive the retry that another group calls for
        plan = replace(plan, client=replace(plan.client, groups=("secp256r1",)))
    backend = TpmBackend(tpm, levels)
    before = at_rest(backend)
    converse(*_pair(role, OursOnTpm(backend), peer), plan)
    assert tpm.live == before
