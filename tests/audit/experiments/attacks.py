"""What attackers do with what they took: each attack is a function of that, and of a live server.

An attack tries all ways there are, and is successful when the server has taken part in it to the
end: completed the handshake, and answered.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Set
from contextlib import suppress
from dataclasses import dataclass, replace
from itertools import product
from pathlib import Path
from typing import Any

from tests.audit.experiments.constants import TwoConstants
from tests.audit.experiments.line import Line
from tests.audit.experiments.live import IDENTITY, Server
from tests.audit.experiments.machine import PROVISIONED, SESSIONS, credential, public
from tests.audit.experiments.verdicts import BY_PSK, IMPERSONATE, RESUME
from tests.pki import Pki
from tpmtls.audit.model import Goal
from tpmtls.audit.profiles import Profile
from tpmtls.backends.base import Backend
from tpmtls.backends.software import SoftwareBackend
from tpmtls.backends.tpm.opening import Tpm
from tpmtls.config import ClientConfig, Credential, ExternalPsk
from tpmtls.events import PskKind
from tpmtls.tickets import SessionCache, SessionTicket
from tpmtls.violations import TlsError

Attack = Callable[["Loot", Server, Pki], bool]
QUESTION = b"what has it in its pockets?\n"


@dataclass(frozen=True)
class Loot:
    """What an attacker took along, and works with from now on."""

    disk: Path | None = None
    """The files of the machine."""
    secrets: Set[tuple[str, bytes]] = frozenset()
    """Octets, and the RFC's name of what they are."""
    tickets: tuple[SessionTicket, ...] = ()
    """What is known of sessions without the files: what goes by in clear."""
    certificate: Path | None = None
    """The client's, which need not be in the files: it is no secret."""
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
    known = loot.tickets if loot.disk is None else stored_sessions(loot.disk)
    return any(
        _is_answered(server, backend, pki, "resumption", session_cache=_cache(ticket))
        for stored in known
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
    stolen = list(_credentials(loot))
    return any(
        _is_answered(server, SoftwareBackend(), pki, None, credentials=(each,)) for each in stolen
    )


def _credentials(loot: Loot) -> Iterator[Credential]:
    """The client's certificate with whatever may be its key."""
    if loot.disk is not None:
        with suppress(TlsError, OSError):
            yield credential(loot.disk, loot.tpm)
    for key in loot.named("signing_key"):
        assert loot.certificate is not None
        yield Credential.load(loot.certificate, key)


def impersonate_by_psk(loot: Loot, server: Server, pki: Pki) -> bool:
    """Connect as the one who has the external PSK."""
    identity = IDENTITY.encode()
    offers = [(ExternalPsk(identity, psk), backend) for psk, backend in loot.psks()]
    if loot.backend is not None and loot.disk is not None:
        offers.append((ExternalPsk.load(loot.disk / PROVISIONED), loot.backend))
    return any(
        _is_answered(server, backend, pki, "external", psks=(psk,)) for psk, backend in offers
    )


def new_connections(profile: Profile) -> dict[Goal, Attack]:
    """The attacks that make one, as far as the profile has what they are about."""
    if profile.psk:
        return {BY_PSK: impersonate_by_psk}
    return {RESUME: resume, IMPERSONATE: impersonate}


def _is_answered(
    server: Server, backend: Backend, pki: Pki, psk: PskKind | None, **config: Any
) -> bool:
    """Whether the server answers, on a connection that rests on this kind of PSK, or on none.

    And, but for an external PSK, takes us for the one whom the client's certificate names.
    """
    try:
        with Line(server, ClientConfig(**public(pki) | config, verify=False), backend) as line:
            return (
                line.info.psk == psk
                and line.ask(QUESTION) == server.answer(QUESTION)
                and (psk == "external" or server.took_for_the_client(line.port))
            )
    except (TlsError, OSError):
        return False
