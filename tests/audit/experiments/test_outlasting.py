"""What code on the host keeps from every profile: the sessions that it opened while it was there.

It cannot take along a key that stays in a TPM. But it can connect with it, from a machine of its
own, and the secrets of that connection are its own: the ticket, too, that the server gives it. With
that it is the client until the ticket expires, be the TPM out of reach.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from tests.audit.experiments.attacks import QUESTION
from tests.audit.experiments.line import Line
from tests.audit.experiments.live import Server
from tests.audit.experiments.machine import PROVISIONED, Machine, credential, public
from tests.pki import Pki
from tpmtls.algorithms import HashAlgorithm
from tpmtls.audit.model import Goal
from tpmtls.audit.profiles import BY_KEY
from tpmtls.audit.scenario import observe
from tpmtls.audit.verdicts import cells
from tpmtls.backends.base import Backend, PskReference, Secret
from tpmtls.backends.software import SoftwareBackend, SoftwareSecret
from tpmtls.backends.tpm import commands
from tpmtls.backends.tpm.constants import Alg
from tpmtls.backends.tpm.hkdf import TpmSecret, host_octets
from tpmtls.config import ClientConfig, ExternalPsk
from tpmtls.tickets import SessionCache

pytestmark = pytest.mark.usefixtures("need_libtpms")

NOBODYS = ExternalPsk(b"nobody's", bytes(32))
"""A client without one would not resume what rests on a PSK."""


class Borrowing(SoftwareBackend):
    """Has two HMACs made by the TPM of the client, and all else to itself."""

    def __init__(self, theirs: Machine) -> None:
        super().__init__()
        self._theirs = theirs.backend
        self._tpm = theirs.tpm

    def check_psk(self, key: bytes | PskReference) -> None:
        self._theirs.check_psk(key)

    def import_psk(self, key: bytes | PskReference, algorithm: HashAlgorithm) -> Secret:
        return self._theirs.import_psk(key, algorithm)

    def extract(
        self, algorithm: HashAlgorithm, salt: Secret | None, ikm: Secret | None, name: str
    ) -> Secret:
        if isinstance(salt, TpmSecret) and isinstance(ikm, SoftwareSecret):
            assert self._tpm is not None
            made = self._tpm.run(commands.hmac(salt.key, host_octets(ikm), Alg.SHA256))
            return SoftwareSecret(name, made, algorithm)
        if self._is_theirs(ikm):
            return self._theirs.extract(algorithm, salt, ikm, name)
        return super().extract(algorithm, salt, ikm, name)

    def expand_label(self, secret: Secret, *arguments: Any) -> Secret:
        if self._is_theirs(secret):
            return self._theirs.expand_label(secret, *arguments)
        return super().expand_label(secret, *arguments)

    def mac(self, key: Secret, data: bytes) -> bytes:
        return self._theirs.mac(key, data) if self._is_theirs(key) else super().mac(key, data)

    def destroy(self, *secrets: Secret | None) -> None:
        super().destroy(*secrets)
        self._theirs.destroy(*filter(self._is_theirs, secrets))

    def _is_theirs(self, secret: Secret | None) -> bool:
        return secret is not None and not isinstance(secret, SoftwareSecret)


@contextmanager
def opened(machine: Machine, server: Server, pki: Pki, cache: SessionCache) -> Iterator[Line]:
    """A connection in the client's name, whose secrets nobody has but the attacker."""
    config = public(pki) | {"session_cache": cache}
    if machine.profile.psk:
        config["psks"] = (ExternalPsk.load(machine.disk / PROVISIONED),)
        backend: Backend = Borrowing(machine)
    else:
        config["credentials"] = (credential(machine.disk, machine.tpm),)
        backend = SoftwareBackend()
    with Line(server, ClientConfig(**config), backend) as line:
        yield line


@pytest.mark.parametrize("key", ["sign", "handle-only", "psk"])
def test_a_session_opened_while_there_is_resumed_after_it(
    key: str, server: Server, pki: Pki, tmp_path: Path
) -> None:
    cache = SessionCache()
    with (
        Machine(BY_KEY[key], tmp_path, pki) as machine,
        opened(machine, server, pki, cache) as line,
    ):
        assert line.info.psk == ("external" if key == "psk" else None)
        assert line.ask(QUESTION) == server.answer(QUESTION)
        line.close()
    assert len(cache) > 0
    config = ClientConfig(**public(pki) | {"session_cache": cache, "psks": (NOBODYS,)})
    with Line(server, config, SoftwareBackend()) as line:
        assert line.info.psk == "resumption"
        assert line.ask(QUESTION) == server.answer(QUESTION)
        assert key == "psk" or server.took_for_the_client(line.port)
    assert "sessions that it opened while there" in note_of(key)


def note_of(key: str) -> str:
    """What the audit says beside its verdict that the attacker who left cannot do it anew."""
    goal: Goal = "impersonate by PSK" if key == "psk" else "impersonate the client"
    found = cells(observe(BY_KEY[key], tcti="libtpms:"))
    cell = next(each for each in found if (each.attacker, each.goal) == ("host-left", goal))
    assert cell.verdict == "no"
    return cell.note
