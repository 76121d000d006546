"""§4.7.1: a server's NewSessionTickets, and what they are good for."""

from __future__ import annotations

from dataclasses import replace

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import check, fetch_ticket, no_doubles, server_lives
from tlsconform.suite.server.helpers import complete_without_psk, resume, take_ticket
from tpmtls.algorithms import SUITES
from tpmtls.codepoints import CipherSuite, PskKeyExchangeMode
from tpmtls.wire.extensions import MaxEarlyData, UnknownExtension
from tpmtls.wire.messages import NewSessionTicket

WEEK = 604_800
"""Seconds."""

pytestmark = needs("tickets")


def tickets_of(connect: Connect, features: ServerFeatures) -> list[NewSessionTicket]:
    """The tickets of two connections."""
    found = []
    for _ in range(2):
        client = connect().handshake()
        offered = [take_ticket(client) for _ in range(features.tickets)]
        client.close()
        found += [psk.ticket for psk in offered if psk.ticket is not None]
    return found


def resumed(client: ScriptedClient) -> None:
    """A server is free not to resume: then there is nothing to be seen."""
    if client.selected_psk is None:
        raise NotApplicable("the server did not resume this time")


@req("4.7.1-12")
def test_lifetime(connect: Connect, features: ServerFeatures) -> None:
    """ticket_lifetime is seven days at most."""
    for ticket in tickets_of(connect, features):
        check(ticket.ticket_lifetime <= WEEK, f"at most {WEEK} s", ticket.ticket_lifetime)


@req("4.7.1-16")
def test_fresh_age_add(connect: Connect, features: ServerFeatures) -> None:
    """Each ticket has a ticket_age_add of its own, and is another ticket."""
    tickets = tickets_of(connect, features)
    no_doubles((ticket.ticket_age_add for ticket in tickets), "ticket_age_add")
    no_doubles((ticket.ticket for ticket in tickets), "ticket")


@req("4.7.1-16", "4.7.1-5")
def test_fresh_nonce(connect: Connect, features: ServerFeatures) -> None:
    """The tickets of one connection have nonces of their own: no two have the same PSK."""
    client = connect().handshake()
    offered = [take_ticket(client) for _ in range(features.tickets)]
    no_doubles((t.ticket.ticket_nonce for t in offered if t.ticket is not None), "ticket_nonce")


@req("4.7.1-18", "4.3-7", "4.3-6")
def test_extensions(connect: Connect, features: ServerFeatures) -> None:
    """Tickets have early_data, or extensions unknown to the suite, and no other's."""
    for ticket in tickets_of(connect, features):
        for body in ticket.extensions:
            fits = isinstance(body, MaxEarlyData | UnknownExtension)
            check(fits, "early_data or an unknown extension", body.extension_type.name, "4.3-7")


@req("4.7.1-1", "C.4-3", "7.1-1")
@needs("resumption")
def test_resumption(connect: Connect, features: ServerFeatures) -> None:
    """A ticket brings a connection that works, and further tickets, other ones."""
    first = fetch_ticket(connect)
    client = connect().hello(psks=(first,)).complete()
    resumed(client)
    server_lives(client, features)
    again = take_ticket(client)
    check(again.identity != first.identity, "another ticket", "the same", "4.7.1-16")


@req("4.7.1-1", "4.7.1-5")
@needs("resumption")
def test_every_ticket(connect: Connect, features: ServerFeatures) -> None:
    """Each of a connection's tickets is good for a resumption."""
    client = connect().handshake()
    tickets = [take_ticket(client) for _ in range(features.tickets)]
    client.close()
    for ticket in tickets:
        client = connect().hello(psks=(ticket,)).complete()
        resumed(client)
        client.close()


@req("4.7.1-4")
@needs("resumption")
def test_resumption_of_a_resumption(connect: Connect, features: ServerFeatures) -> None:
    """A ticket from a resumed connection is good for another."""
    client = resume(connect).complete()
    ticket = take_ticket(client)
    client.close()
    client = connect().hello(psks=(ticket,)).complete()
    resumed(client)
    server_lives(client, features)


@req("4.7.1-6")
@needs("resumption")
def test_other_hash(connect: Connect, features: ServerFeatures) -> None:
    """A ticket is not resumed under a suite with another hash."""
    ticket = fetch_ticket(connect)
    names = [name for name in features.suites if SUITES[CipherSuite[name]].hash != ticket.hash]
    if not names:
        raise NotApplicable("the server has suites with one hash alone")
    client = connect().hello(psks=(ticket,), suites=[CipherSuite[name] for name in names])
    complete_without_psk(client)
    check(client.selected_psk is None, "a full handshake", "the PSK of another hash")


@req("4.7.1-6")
@needs("resumption")
def test_other_suite_of_the_same_hash(connect: Connect, features: ServerFeatures) -> None:
    """Under another suite with the hash of the ticket, the handshake works, resumed or not."""
    ticket = fetch_ticket(connect)
    suites = [CipherSuite[name] for name in features.suites]
    others = [s for s in suites if SUITES[s].hash == ticket.hash and s != ticket.suite]
    if not others:
        raise NotApplicable("the server has no other suite with the hash of the ticket")
    client = connect().hello(psks=(ticket,), suites=others).complete()
    server_lives(client, features)


@req("4.7.1-1")
@needs("resumption", "psk_ke")
def test_psk_without_key_exchange(connect: Connect, features: ServerFeatures) -> None:
    """A ticket is good for a handshake without a key exchange where the client wants that."""
    ticket = fetch_ticket(connect)
    client = connect().hello(psks=(ticket,), modes=(PskKeyExchangeMode.psk_ke,)).complete()
    server_lives(client, features)


@req("4.7.1-17", "4.7.1-1")
@needs("resumption")
def test_altered_ticket(connect: Connect, features: ServerFeatures) -> None:
    """A ticket that the server did not make leads to a full handshake."""
    ticket = fetch_ticket(connect)
    changed = bytes(octet ^ 0xA5 for octet in ticket.identity)
    client = connect().hello(psks=(replace(ticket, identity=changed),)).complete()
    check(client.selected_psk is None, "a full handshake", "a PSK for a ticket that is none")
    server_lives(client, features)
