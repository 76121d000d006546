"""What a resumed session may carry over, what fits into a ClientHello, and what an end leaves."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from tests.unit.support import (
    Clock,
    Pair,
    client_config,
    client_credential,
    credential,
    pki,
    server_config,
    trust,
)
from tpmtls.certificates import TrustStore
from tpmtls.config import ExternalPsk
from tpmtls.tickets import SessionCache, SessionTicket, TicketKeys
from tpmtls.violations import CertificateError, PeerViolation
from tpmtls.violations import Violation as V


def _taken(cache: SessionCache, name: str = "localhost") -> SessionTicket:
    ticket = cache.take(name, client_config().clock())
    assert ticket is not None
    return ticket


# -- a ticket does not outlive the trust that it rests on ------------------------------------------


@pytest.mark.parametrize("anchors", ["none", "others"])
def test_client_authentication_ends_where_other_authorities_are_trusted(anchors: str) -> None:
    """Two configurations share their ticket keys: what one lets in, the other judges afresh."""
    keys, cache = TicketKeys(), SessionCache()
    lax: dict[str, Any] = {"request_client_certificate": True}
    if anchors == "others":
        lax = {"client_trust": trust(), "require_client_certificate": True}
    stranger = TrustStore.load(pki().other_ca)
    strict = {"client_trust": stranger, "require_client_certificate": True}
    client = client_config(session_cache=cache, credentials=(client_credential(),))
    Pair(client, server_config(ticket_keys=keys, **lax)).complete()
    assert len(cache) == 2
    with pytest.raises(CertificateError):
        Pair(client, server_config(ticket_keys=keys, **strict)).exchange()
    assert Pair(client, server_config(ticket_keys=keys, **lax)).complete().info.psk == "resumption"


@pytest.mark.req("4.7.1-21")
def test_client_authentication_ends_with_the_certificate() -> None:
    clock, cache = Clock(), SessionCache()
    client = client_config(
        clock=clock, session_cache=cache, credentials=(client_credential(),), verify=False
    )
    server = server_config(
        clock=clock, client_trust=trust(), require_client_certificate=True, tickets=1
    )
    clock.now = client_credential().leaf.not_valid_after_utc.timestamp() - 60
    Pair(client, server).complete()
    assert Pair(client, server).complete().info.psk == "resumption"
    clock.advance(120)
    with pytest.raises(CertificateError, match="expired"):
        Pair(client, server).exchange()


@pytest.mark.req("4.7.1-7")
@pytest.mark.parametrize("change", ["trust", "name"])
def test_a_client_resumes_only_what_it_would_accept(change: str) -> None:
    cache = SessionCache()
    client, server = client_config(session_cache=cache), server_config()
    Pair(client, server).complete()
    if change == "trust":
        other = client.replace(trust=TrustStore.load(pki().other_ca))
    else:
        other = client.replace(server_name="other.example")
        cache.put(replace(_taken(cache), server_name="other.example"))
    with pytest.raises(CertificateError):
        Pair(other, server).exchange()
    assert Pair(client, server).complete().info.psk == "resumption"


@pytest.mark.req("4.7.1-21")
def test_a_client_resumes_no_longer_than_the_certificate_is_valid() -> None:
    clock, cache = Clock(), SessionCache()
    client, server = client_config(clock=clock, session_cache=cache), server_config(clock=clock)
    clock.now = credential().leaf.not_valid_after_utc.timestamp() - 60
    Pair(client, server).complete()
    assert Pair(client, server).complete().info.psk == "resumption"
    clock.advance(120)
    with pytest.raises(CertificateError, match="expired"):
        Pair(client, server).exchange()


def test_a_session_that_rests_on_a_psk_is_not_for_who_has_none() -> None:
    cache, psk = SessionCache(), ExternalPsk(b"an identity", bytes(32))
    client = client_config(session_cache=cache, psks=(psk,))
    server = server_config(psks=(psk,))
    assert Pair(client, server).complete().info.psk == "external"
    assert Pair(client, server).complete().info.psk == "resumption"
    assert Pair(client.replace(psks=()), server).complete().info.psk is None


@pytest.mark.req("9.2-15")
def test_the_name_asked_for_counts_in_a_resumed_session_too() -> None:
    cache = SessionCache()
    client = client_config(session_cache=cache, verify=False)
    server = server_config(strict_server_name=True, require_server_name=True)
    Pair(client, server).complete()
    for name, violation in (
        ("elsewhere.example", V.UNRECOGNIZED_NAME),
        (None, V.MISSING_SERVER_NAME),
    ):
        cache.put(replace(_taken(cache), server_name=name or ""))
        with pytest.raises(PeerViolation) as error:
            Pair(client.replace(server_name=name), server).exchange()
        assert error.value.violation is violation
