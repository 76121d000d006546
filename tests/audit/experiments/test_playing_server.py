"""In a resumption a server shows that it has the PSK, and nothing else: `derived` is enough.

So whoever has a ticket's PSK, or that one constant of it, reads what a client says when it resumes,
be there 0-RTT data or not: by answering in the server's place.
"""

from __future__ import annotations

import hmac
import os

import pytest

from tests.audit.experiments.constants import TwoConstants
from tests.audit.experiments.oracles import info
from tests.unit.support import Pair, client_config, server_config
from tpmtls.backends.base import Secret
from tpmtls.codepoints import CipherSuite
from tpmtls.config import ClientConfig, ExternalPsk, ServerConfig
from tpmtls.connection import ServerConnection
from tpmtls.tickets import SessionCache, SessionTicket
from tpmtls.violations import TlsError

SUITES = (CipherSuite.TLS_AES_128_GCM_SHA256,)


class Impostor(TwoConstants):
    """It cannot tell a right binder from a wrong one, and has no need to."""

    def verify_mac(self, key: Secret, data: bytes, tag: bytes) -> bool:
        return True


class Cache(SessionCache):
    """Shows what is put into it: the attacker has a look."""

    seen: SessionTicket

    def put(self, ticket: SessionTicket) -> None:
        self.seen = ticket
        super().put(ticket)


def derived(psk: bytes) -> bytes:
    early_secret = hmac.digest(b"", psk, "sha256")
    return hmac.digest(early_secret, info(b"derived"), "sha256")


def resumed_with_impostor(config: ClientConfig, ticket: bytes, constant: bytes) -> Pair:
    """The client resumes, and finds who has no certificate and no finished_key."""
    psk = ExternalPsk(ticket, os.urandom(32) + constant)
    pair = Pair(config, server_config())
    pair.server = ServerConnection(ServerConfig(psks=(psk,), suites=SUITES), Impostor())
    return pair


@pytest.fixture
def client() -> ClientConfig:
    """One that has a session to resume, made with the server whose certificate it trusts."""
    config = client_config(session_cache=Cache(), suites=SUITES)
    Pair(config, server_config(suites=SUITES)).complete().talk()
    return config


def stolen(config: ClientConfig) -> SessionTicket:
    assert isinstance(config.session_cache, Cache)
    return config.session_cache.seen


def test_one_constant_of_the_psk_plays_the_server(client: ClientConfig) -> None:
    ticket = stolen(client)
    pair = resumed_with_impostor(client, ticket.ticket, derived(ticket.psk)).exchange()
    assert pair.info.psk == "resumption"
    assert pair.info.peer_chain == ticket.peer_chain  # the server's, as far as the client knows
    pair.talk()


def test_the_ticket_alone_does_not(client: ClientConfig) -> None:
    pair = resumed_with_impostor(client, stolen(client).ticket, os.urandom(32))
    with pytest.raises(TlsError):
        pair.exchange()
