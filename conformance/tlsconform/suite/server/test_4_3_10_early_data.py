"""§4.3.10, §8: early data that a server accepts, and early data that it passes over."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from typing import Any, Final

import pytest

from tlsconform.features import REQUEST, ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer import OfferedPsk, ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import check, fetch_ticket, server_lives
from tpmtls.algorithms import SUITES
from tpmtls.codepoints import AlertDescription, CipherSuite, ContentType
from tpmtls.record import MAX_PLAINTEXT, Epoch
from tpmtls.wire.extensions import ProtocolNameList

pytestmark = needs("early_data")

UNKNOWN: Final = OfferedPsk(b"nobody knows this one", bytes(32))
HOUR: Final = 3_600_000
"""In milliseconds, as ages of tickets are."""


def early(
    connect: Connect, psks: Sequence[OfferedPsk], data: bytes = REQUEST, **offer: Any
) -> ScriptedClient:
    """A connection that offers these PSKs, and has sent early data under the first."""
    client: ScriptedClient = connect()
    client.hello(psks=psks, early_data=True, **offer)
    if data:
        client.send_data(data)
    return client


def ticket_for_early_data(connect: Connect, **offer: Any) -> OfferedPsk:
    """A ticket that allows early data."""
    ticket = fetch_ticket(connect, **offer)
    if not ticket.max_early_data:
        raise NotApplicable("this ticket allows no early data")
    return ticket


def accepted(connect: Connect, data: bytes = REQUEST) -> ScriptedClient:
    """A connection whose early data the server has accepted, after its flight."""
    client = early(connect, (ticket_for_early_data(connect),), data)
    client.read_flight()
    if not client.early_data_accepted:
        raise NotApplicable("the server did not accept early data this time")
    return client


def passed_over(client: ScriptedClient, features: ServerFeatures) -> None:
    """The server goes on without the early data that was sent."""
    client.complete()
    check(not client.early_data_accepted, "no early_data in EncryptedExtensions", "early_data")
    server_lives(client, features)


# -- accepted --------------------------------------------------------------------------------------


@req("4.3.11.3-1", "4.3.10-6")
def test_accepted(connect: Connect, features: ServerFeatures) -> None:
    """The server's flight comes before EndOfEarlyData, and the handshake completes after it."""
    client = accepted(connect)  # which waits for the server's Finished
    client.end_early_data().authenticate().finish()
    server_lives(client, features)


@req("4.3.10-6")
def test_accepted_without_data(connect: Connect, features: ServerFeatures) -> None:
    """The offer alone, with no octet of early data, is no reason not to go on."""
    client = early(connect, (ticket_for_early_data(connect),), b"")
    client.complete()
    server_lives(client, features)


@req("4.3.10-13", "4.3.10-12")
@pytest.mark.parametrize("what", ["tag", "ciphertext"])
def test_record_that_does_not_deprotect(connect: Connect, what: str) -> None:
    """Once early data is accepted, a record of it that does not deprotect is fatal."""
    client = accepted(connect)
    record = bytearray(client.wire.record(ContentType.application_data, REQUEST))
    record[-1 if what == "tag" else 5] ^= 1
    client.wire.send_raw(bytes(record), f"early data with its {what} changed")
    client.expect_alert(AlertDescription.bad_record_mac)


@req("4.3.10-13", "4.3.10-12")
def test_record_under_other_keys(connect: Connect) -> None:
    """Once early data is accepted, a record of the handshake's keys before its end is fatal."""
    client = accepted(connect)
    client.rekey_write(Epoch.HANDSHAKE, client.client_secret)
    client.send_data(REQUEST)
    client.expect_alert(AlertDescription.bad_record_mac)


@req("4.3.10-12")
def test_record_of_padding_alone(connect: Connect) -> None:
    """A record of early data that is padding alone is refused, as everywhere."""
    client = accepted(connect)
    client.wire.send_raw(client.wire.sealed_record(bytes(8)), "early data of zeros alone")
    client.expect_alert(AlertDescription.unexpected_message)


@req("4.3.10-12")
def test_record_that_is_too_long(connect: Connect) -> None:
    """A record of early data that is too long is refused, as everywhere."""
    client = accepted(connect)
    inner = bytes(MAX_PLAINTEXT + 1) + bytes((ContentType.application_data,))
    client.wire.send_raw(client.wire.sealed_record(inner), "early data that is too long")
    client.expect_alert(AlertDescription.record_overflow)


@req("4.3.10-12")
def test_wrong_type_of_content(connect: Connect) -> None:
    """A record of early data of a type that none is, is refused."""
    client = accepted(connect)
    client.wire.send_raw(client.wire.record(0x7F, b"\0"), "early data of type 127")
    client.expect_alert(AlertDescription.unexpected_message)


@req("4-2")
def test_no_end_of_early_data(connect: Connect) -> None:
    """Finished under the early keys, in place of EndOfEarlyData, is refused."""
    client = accepted(connect)
    client.say_finished_under(client.client_secret)
    client.expect_alert(AlertDescription.unexpected_message)


# -- not accepted ----------------------------------------------------------------------------------


@req("4.3.10-3", "4.3.10-4", "4.3.10-11")
@pytest.mark.parametrize("age", [HOUR, -HOUR, 6 * 24 * HOUR], ids=["+1h", "-1h", "+6d"])
def test_age_of_a_ticket(connect: Connect, features: ServerFeatures, age: int) -> None:
    """Where the ticket's age is far off, early data is rejected, and the handshake goes on."""
    ticket = ticket_for_early_data(connect)
    aged = replace(ticket, age=(ticket.age + age) % 2**32)
    passed_over(early(connect, (aged,)), features)


@req("4.3.10-8", "4.3.10-11", "4.3.10-6")
def test_not_the_first_psk(connect: Connect, features: ServerFeatures) -> None:
    """Early data under a PSK that is not selected is passed over."""
    ticket = ticket_for_early_data(connect)
    client = early(connect, (replace(UNKNOWN, suite=ticket.suite), ticket))
    passed_over(client, features)


@req("4.3.10-6", "4.3.10-11")
@pytest.mark.parametrize("records", [1, 3])
def test_no_psk_known(connect: Connect, features: ServerFeatures, records: int) -> None:
    """Early data under a PSK that the server does not know is passed over, record by record."""
    client = early(connect, (UNKNOWN,))
    for _ in range(records - 1):
        client.send_data(bytes(100))
    passed_over(client, features)


@req("4.3.10-9", "4.3.10-11")
def test_another_suite(connect: Connect, features: ServerFeatures) -> None:
    """Early data is not accepted where the suite is another than the ticket's."""
    ticket = ticket_for_early_data(connect)
    hashes = {name: SUITES[CipherSuite[name]].hash for name in features.suites}
    others = [n for n, h in hashes.items() if h == ticket.hash and n != ticket.suite.name]
    if not others:
        raise NotApplicable("the server has no two suites of one hash")
    passed_over(early(connect, (ticket,), suites=(CipherSuite[others[0]],)), features)


@req("4.3.10-9", "4.3.10-11")
@needs("alpn")
@pytest.mark.parametrize("now", ["none", "another"])
def test_another_protocol(connect: Connect, features: ServerFeatures, now: str) -> None:
    """Early data is not accepted where the ALPN protocol is another than the ticket's."""
    names = [name.encode() for name in features.alpn]
    if now == "another" and len(names) < 2:
        raise NotApplicable("the server has one ALPN protocol")
    ticket = ticket_for_early_data(connect, extensions=(ProtocolNameList((names[0],)),))
    offer = (ProtocolNameList((names[1],)),) if now == "another" else ()
    passed_over(early(connect, (ticket,), extensions=offer), features)


@req("4.3.10-6", "4.3.10-11")
@needs("retry")
def test_retry(connect: Connect, features: ServerFeatures) -> None:
    """After a HelloRetryRequest, early data is passed over, before and after it was seen."""
    ticket = ticket_for_early_data(connect)
    client = early(connect, (ticket,), shares=(), suites=(ticket.suite,))
    on_its_way = client.wire.record(ContentType.application_data, REQUEST)
    client.read_retry()
    client.wire.send_raw(on_its_way, "early data that was on its way")
    client.hello_again()
    passed_over(client, features)


@req("8-1", "8-3", "4.3.10-6")
def test_replay(connect: Connect) -> None:
    """The same ClientHello and early data a second time is not accepted as early data again."""
    first = early(connect, (ticket_for_early_data(connect),), b"")
    flight = first.wire.record(ContentType.application_data, REQUEST)
    first.wire.send_raw(flight, "early data")
    first.read_flight()
    if not first.early_data_accepted:
        raise NotApplicable("the server did not accept early data this time")
    first.end_early_data().authenticate().finish()
    first.close()
    second = connect()
    second.psks, second.shares = first.psks, first.shares
    second.say_octets(first.hello_octets, "the same ClientHello")
    second.wire.send_raw(flight, "the same early data")
    try:
        second.read_server_hello()
        second.read_encrypted_extensions()
    except NonConformance:
        return  # refused altogether
    check(not second.early_data_accepted, "no early_data in EncryptedExtensions", "early_data")


@req("8.2-4", "8-3")
def test_replay_with_another_binder(connect: Connect) -> None:
    """A replay is known for one though the binder of a PSK that is not selected was changed."""
    ticket, other = ticket_for_early_data(connect), fetch_ticket(connect)
    first = early(connect, (ticket, other), b"")
    flight = first.wire.record(ContentType.application_data, REQUEST)
    first.wire.send_raw(flight, "early data")
    first.read_flight()
    if not first.early_data_accepted:
        raise NotApplicable("the server did not accept early data this time")
    first.end_early_data().authenticate().finish()
    first.close()
    changed = first.hello_octets[:-1] + bytes((first.hello_octets[-1] ^ 1,))
    second = connect()
    second.psks, second.shares = first.psks, first.shares
    second.say_octets(changed, "the same ClientHello but for the last bit, of the second binder")
    try:
        second.read_server_hello()
        second.read_encrypted_extensions()
    except NonConformance:
        return  # refused altogether
    check(not second.early_data_accepted, "no early_data in EncryptedExtensions", "early_data")
