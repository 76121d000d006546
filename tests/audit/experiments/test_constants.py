"""Who has learnt {finished_key of the binder, derived} of a PSK has no need of the PSK."""

from __future__ import annotations

import hmac
from dataclasses import replace
from pathlib import Path

import pytest

from tests.audit.experiments.attacks import Loot, impersonate_by_psk, resume, stored_sessions
from tests.audit.experiments.constants import TwoConstants
from tests.audit.experiments.live import PSK, Ours, Server
from tests.audit.experiments.machine import (
    PROVISIONED,
    Machine,
    public,
    used,
)
from tests.audit.experiments.oracles import Secrets, ask_about, two_constants
from tests.audit.experiments.verdicts import RESUME, assert_agrees, verdict
from tests.pki import Pki
from tests.tpm.test_ledger import found
from tpmtls.audit.profiles import BY_KEY
from tpmtls.backends.tpm.psk import ProvisionedPsk
from tpmtls.config import ClientConfig
from tpmtls.connection import ClientConnection
from tpmtls.tickets import SessionCache
from tpmtls.violations import BackendError

pytestmark = pytest.mark.usefixtures("need_libtpms")


def the_constants() -> Secrets:
    """Of the external PSK, as the RFC says that they are made."""
    early_secret = hmac.digest(b"", PSK, "sha256")
    return two_constants(lambda data: hmac.digest(early_secret, data, "sha256"), b"ext binder")


@pytest.mark.parametrize(("key", "in_clear"), [("all", True), ("psk", False)])
def test_what_crosses_to_the_tpm_is_worth_the_psk(
    key: str, in_clear: bool, server: Server, pki: Pki, tmp_path: Path
) -> None:
    """One who reads the bus during a connection; the PSK itself does not cross as a key."""
    with Machine(BY_KEY[key], tmp_path, pki, psk_in_clear=in_clear) as machine:
        assert machine.tpm is not None
        with machine.tpm.device.recording() as bus, machine.connect(server) as line:
            assert line.info.psk == "external"
            line.close()
        seen = {name for name, _, _ in found(bus.exchanges, the_constants())}
    assert seen == ({"finished_key", "derived"} if in_clear else set())
    read = {(name, octets) for name, octets in the_constants() if name in seen}
    assert impersonate_by_psk(Loot(tmp_path, read), server, pki) == in_clear


def test_who_has_the_use_of_the_tpm_is_the_client_while_there(
    server: Server, pki: Pki, tmp_path: Path
) -> None:
    """The two keys of a provisioned PSK can be used, and make nothing that replaces them."""
    with Machine(BY_KEY["psk"], tmp_path, pki) as machine:
        there = Loot(tmp_path, tpm=machine.tpm, backend=machine.backend)
        assert impersonate_by_psk(there, server, pki)
        psk = ProvisionedPsk.parse((tmp_path / PROVISIONED).read_bytes())
        told = {
            secret
            for blob in (psk.finished_key, psk.derived)
            for secret in ask_about(machine, blob, b"ext binder")
        }
    assert len(told) == 4
    assert not impersonate_by_psk(Loot(tmp_path, told), server, pki)


@pytest.mark.parametrize("key", sorted(BY_KEY.keys() - {"psk"}))
def test_what_the_tpm_answered_once_is_kept(
    key: str, server: Server, pki: Pki, tmp_path: Path
) -> None:
    """Code on the machine asks, leaves, and resumes the session from elsewhere."""
    with used(Machine(BY_KEY[key], tmp_path, pki), server) as machine:
        there = resume(Loot(tmp_path, tpm=machine.tpm, backend=machine.backend), server, pki)
        told = set().union(*(ask_about(machine, t.psk) for t in stored_sessions(tmp_path)))
    away = resume(Loot(tmp_path, told), server, pki)
    assert_agrees(
        {
            ("host", key, RESUME): verdict(away=away, there=there),
            ("host-left", key, RESUME): verdict(away=away),
        }
    )


def test_two_constants_make_no_early_data(ours: Ours, pki: Pki, tmp_path: Path) -> None:
    with used(Machine(BY_KEY["all"], tmp_path, pki), ours) as machine:
        stored = stored_sessions(tmp_path)[0]
        told = dict(ask_about(machine, stored.psk))
    assert stored.max_early_data
    cache = SessionCache()
    cache.put(replace(stored, psk=told["finished_key"] + told["derived"]))
    config = ClientConfig(**public(pki), session_cache=cache)
    with pytest.raises(BackendError, match="nobody can make client_early_traffic_secret"):
        ClientConnection(config, TwoConstants(), early_data=True)
