"""A man in the middle of a live connection changes what a client says."""

from __future__ import annotations

import hmac
from pathlib import Path

import pytest

from tests.audit.experiments.forge import encrypted_zeros, rewrite
from tests.audit.experiments.line import Line
from tests.audit.experiments.live import CCM, GCM, OpenSsl, Ours, Server
from tests.audit.experiments.machine import Machine
from tests.audit.experiments.present import INSTEAD, WRITES, WRITTEN
from tests.audit.experiments.verdicts import FORGE, assert_agrees, verdict
from tests.pki import Pki
from tpmtls.audit.profiles import BY_KEY
from tpmtls.backends.base import hkdf_label
from tpmtls.codepoints import AlertDescription, CipherSuite
from tpmtls.violations import PeerAlert

pytestmark = pytest.mark.usefixtures("need_libtpms")


def write_key(server: Server, line: Line) -> bytes:
    """The client's, as the server tells it: to take from it what an attacker has."""
    if isinstance(server, Ours):
        told = server.tell(line.port).secrets
        return next(o for name, parent, o in told if (name, parent) == ("write_key", WRITES))
    assert isinstance(server, OpenSsl)
    secret = server.logged("CLIENT_TRAFFIC_SECRET_0", line.random)
    return hmac.digest(secret, hkdf_label(16, b"key", b"") + b"\x01", "sha256")[:16]


def in_clear(machine: Machine) -> set[str]:
    """What the ledger says to have crossed for everyone to see."""
    return {c.secret for c in machine.backend.ledger.crossings() if c.visibility == "clear"}


def live(machine: Machine, server: Server, suite: str = GCM) -> Line:
    """A connection on which the server has answered, and so has all its keys."""
    line = machine.connect(server, suites=(CipherSuite[suite],))
    assert line.ask(WRITTEN + b"\n") == server.answer(WRITTEN + b"\n")
    return line


def say(line: Line, hash_key: bytes | None) -> bytes:
    """Let the client say WRITTEN, and the man in the middle INSTEAD; the answer."""
    line.meddle = lambda record: rewrite(record, WRITTEN, INSTEAD, hash_key)
    return line.ask(WRITTEN + b"\n")


@pytest.mark.parametrize("key", ["all", "chained"])
def test_gcm_is_forged_with_its_hash_key(
    key: str, server: Server, pki: Pki, tmp_path: Path
) -> None:
    """The key itself is in the TPM; with `chained`, the host never had it."""
    with (
        Machine(BY_KEY[key], tmp_path, pki) as machine,
        live(machine, server) as line,
    ):
        hash_key = encrypted_zeros(write_key(server, line))
        assert "ghash_key" in in_clear(machine)
        assert ("write_key" in in_clear(machine)) == (key == "all")
        assert say(line, hash_key) == server.answer(INSTEAD + b"\n")


@pytest.mark.parametrize(("suite", "mends"), [(GCM, False), (CCM, False), (CCM, True)])
def test_without_a_hash_key_it_is_noticed(
    suite: str, mends: bool, server: Server, pki: Pki, tmp_path: Path
) -> None:
    """CCM has none, and what would be it in GCM does not help, if one had it."""
    with (
        Machine(BY_KEY["chained"], tmp_path, pki) as machine,
        live(machine, server, suite) as line,
    ):
        assert line.info.suite is CipherSuite[suite]
        assert ("ghash_key" in in_clear(machine)) == (suite == GCM)
        hash_key = encrypted_zeros(write_key(server, line)) if mends else None
        with pytest.raises(PeerAlert) as raised:
            say(line, hash_key)
    assert raised.value.description is AlertDescription.bad_record_mac
    if suite == CCM:
        lookers = "snapshot-between", "snapshot-during", "memory", "bus"
        no = {(looker, "chained", FORGE): verdict(away=False) for looker in lookers}
        assert_agrees(no, suite)
