"""What attackers do with what they took: each attack is a function of that, and of a live server.

An attack tries all ways there are, and is successful when the server has taken part in it to the
end: completed the handshake, and answered.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.audit.experiments.line import Line
from tests.audit.experiments.live import Server
from tests.audit.experiments.machine import CHAIN, SESSIONS, credential, public
from tests.pki import Pki
from tpmtls.backends.base import Backend
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.config import ClientConfig
from tpmtls.tickets import SessionCache, SessionTicket
from tpmtls.violations import TlsError

QUESTION = b"what has it in its pockets?\n"


@dataclass(frozen=True)
class Loot:
    """What an attacker took along, and works with from now on."""

    disk: Path
    """The files of the machine."""
    tpm: Tpm | None = None
    """The TPM at hand: that of the machine, or another."""
    backend: Backend | None = None
    """A backend like that of the machine, over the TPM at hand."""


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
    """Whatever may serve as the ticket's PSK, with who can use it."""
    yield stored, SoftwareBackend()
    if loot.backend is not None:
        yield stored, loot.backend


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
