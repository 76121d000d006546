"""What attackers do with what they took: each attack is a function of that, and of a live server.

An attack tries all ways there are, and is successful when the server has taken part in it to the
end: completed the handshake, and answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator, Set
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from tests.audit.experiments.constants import TwoConstants
from tests.audit.experiments.line import Line
from tests.audit.experiments.live import IDENTITY, Server
from tests.audit.experiments.machine import CHAIN, PROVISIONED, SESSIONS, credential, public
from tests.pki import Pki
from tpmtls.backends.base import Backend
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.config import ClientConfig, ExternalPsk
from tpmtls.tickets import SessionCache, SessionTicket
from tpmtls.violations import TlsError

QUESTION = b"what has it in its pockets?\n"


@dataclass(frozen=True)
class Loot:
    """What an attacker took along, and works with from now on."""

    disk: Path
    """The files of the machine."""
    secrets: Set[tuple[str, bytes]] = frozenset()
    """Octets, and the RFC's name of what they are."""
    tpm: Tpm | None = None
    """The TPM at hand: that of the machine, or another."""
    backend: Backend | None = None
    """A backend like that of the machine, over the TPM at hand."""

    def named(self, name: str) -> list[bytes]:
        """The octets of all secrets of that name."""
        return [octets for known, octets in self.secrets if known == name]

    def psks(self) -> Iterator[tuple[bytes, Backend]]:
        """Whatever may serve as a PSK, with who can use it."""
        for octets in self.named("PSK"):
            yield octets, SoftwareBackend()
        for finished_key, derived in product(self.named("finished_key"), self.named("derived")):
            yield finished_key + derived, TwoConstants()


def stored_sessions(disk: Path) -> list[SessionTicket]:
    """What is in a session file, for who has it."""
    stored = json.loads((disk / SESSIONS).read_text(encoding="ascii"))
    return [SessionTicket.from_json(values) for values in stored["tickets"]]


def resume(loot: Loot, server: Server, pki: Pki) -> bool:
    """Resume a session elsewhere, as the client that it was made with."""
    named = (loot.disk / CHAIN).exists()
    return any(
        _is_answered(server, backend, pki, "resumption", named=named, session_cache=_cache(ticket))
        for stored in stored_sessions(loot.disk)
        for ticket, backend in _usable(stored, loot)
    )


def _usable(stored: SessionTicket, loot: Loot) -> Iterator[tuple[SessionTicket, Backend]]:
    """The ticket with whatever may serve as its PSK, and with who can use that."""
    yield stored, SoftwareBackend()
    if loot.backend is not None:
        yield stored, loot.backend
    for psk, backend in loot.psks():
        yield replace(stored, psk=psk), backend


def _cache(ticket: SessionTicket) -> SessionCache:
    cache = SessionCache()
    cache.put(ticket)
    return cache


def impersonate(loot: Loot, server: Server, pki: Pki) -> bool:
    """Sign a handshake as the client."""
    try:
        stolen = credential(loot.disk, loot.tpm)
    except (TlsError, OSError):
        return False
    return _is_answered(server, SoftwareBackend(), pki, None, named=True, credentials=(stolen,))


def impersonate_by_psk(loot: Loot, server: Server, pki: Pki) -> bool:
    """Connect as the one who has the external PSK."""
    identity = IDENTITY.encode()
    offers = [(ExternalPsk(identity, psk), backend) for psk, backend in loot.psks()]
    if loot.backend is not None and (loot.disk / PROVISIONED).exists():
        offers.append((ExternalPsk.load(loot.disk / PROVISIONED), loot.backend))
    return any(
        _is_answered(server, backend, pki, "external", named=False, psks=(psk,))
        for psk, backend in offers
    )


def _is_answered(
    server: Server, backend: Backend, pki: Pki, psk: str | None, *, named: bool, **config: Any
) -> bool:
    """Whether the server answers, on a connection that rests on this kind of PSK, or on none.

    `named`: and takes us for the one whom the client's certificate names.
    """
    try:
        with Line(server, ClientConfig(**public(pki) | config, verify=False), backend) as line:
            return (
                line.info.psk == psk
                and line.ask(QUESTION) == server.answer(QUESTION)
                and (not named or server.took_for_the_client(line.port))
            )
    except (TlsError, OSError):
        return False
