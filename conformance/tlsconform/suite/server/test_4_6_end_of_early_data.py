"""§4.6: how early data ends for a server that accepts it, and what else may come there."""

from __future__ import annotations

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import append
from tlsconform.outcome import NotApplicable
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import expect_closed, fetch_ticket, server_lives
from tlsconform.suite.server.helpers import resume, send_early
from tpmtls.codepoints import AlertDescription, ContentType
from tpmtls.record import Epoch
from tpmtls.wire.messages import EndOfEarlyData

A = AlertDescription
MOST = 2**20
"""Octets of early data that the suite is ready to send."""


@req("4.6-1", "4.6-3")
@needs("early_data")
def test_accepted(connect: Connect, features: ServerFeatures) -> None:
    """Early data, EndOfEarlyData and Finished make a handshake; the server sends none itself."""
    client = send_early(connect, data=b"early")
    client.end_early_data().finish()
    server_lives(client, features)


@req("4.6-1")
@needs("early_data")
def test_without_data(connect: Connect, features: ServerFeatures) -> None:
    """EndOfEarlyData may follow at once."""
    client = send_early(connect).end_early_data().finish()
    server_lives(client, features)


@req("4.6-1", "5.2-3")
@needs("early_data")
def test_left_out(connect: Connect) -> None:
    """A Finished without EndOfEarlyData before it, under the handshake keys, is not taken."""
    client = send_early(connect)
    client.rekey_write(Epoch.HANDSHAKE, client.client_secret)
    client.finish()
    client.expect_alert(A.bad_record_mac, A.unexpected_message)


@req("4.6-1", "5.2-3")
@needs("early_data")
def test_under_handshake_keys(connect: Connect) -> None:
    """EndOfEarlyData under the handshake keys cannot be deprotected."""
    client = send_early(connect)
    client.rekey_write(Epoch.HANDSHAKE, client.client_secret)
    client.say(EndOfEarlyData())
    client.expect_alert(A.bad_record_mac)


@req("6-9")
@needs("early_data")
def test_not_empty(connect: Connect) -> None:
    """An EndOfEarlyData that is not empty is refused."""
    client = send_early(connect)
    client.end_early_data(append("end_of_early_data", b"\0"))
    client.expect_alert(A.decode_error)


@req("4.6-2", "4-2")
@needs("resumption")
def test_without_early_data(connect: Connect) -> None:
    """EndOfEarlyData where no early data was offered is refused."""
    client = resume(connect).read_flight()
    client.say(EndOfEarlyData())
    client.expect_alert(A.unexpected_message)


@req("5.2-3", "4.6-1")
@needs("early_data")
def test_data_after_end(connect: Connect) -> None:
    """Early data after EndOfEarlyData cannot be deprotected."""
    client = send_early(connect)
    client.say(EndOfEarlyData())
    client.send_data(b"more")
    client.expect_alert(A.bad_record_mac)


@req("4.6-1", "5-5")
@needs("early_data")
def test_data_between_end_and_finished(connect: Connect) -> None:
    """Application data between EndOfEarlyData and Finished is refused."""
    client = send_early(connect).end_early_data()
    client.send_data(b"more")
    client.expect_alert(A.unexpected_message)


@req("5.1-13", "5.4-1")
@needs("early_data")
@pytest.mark.parametrize("padding", [0, 50])
def test_empty_early_data(connect: Connect, features: ServerFeatures, padding: int) -> None:
    """Empty records of early data do no harm, padded or not."""
    client = send_early(connect)
    for _ in range(3):
        client.wire.send_raw(client.wire.record(ContentType.application_data, b"", padding), "0")
    client.end_early_data().finish()
    server_lives(client, features)


@req("4.7.1-19")
@needs("early_data")
def test_too_much(connect: Connect, features: ServerFeatures) -> None:
    """More early data than max_early_data_size is refused."""
    client = send_early(connect)
    if features.early_data >= MOST:
        raise NotApplicable(f"the server allows {features.early_data} octets of early data")
    data = bytes(features.early_data + 1)
    client.wire.send_records(ContentType.application_data, data, f"{len(data)} octets")
    client.expect_alert(A.unexpected_message)


@req("4.7.1-19")
@needs("early_data")
def test_as_much_as_allowed(connect: Connect, features: ServerFeatures) -> None:
    """As much early data as max_early_data_size is taken; padding does not count."""
    client = send_early(connect)
    size = min(features.early_data, 2**14)
    record = client.wire.record(ContentType.application_data, b"x" * size, 2**14 - size)
    client.wire.send_raw(record, f"{size} octets of early data, padded to the limit")
    client.end_early_data().finish()
    server_lives(client, features)


@req("6-7", "6.2-1")
@needs("early_data")
def test_alert_in_early_data(connect: Connect) -> None:
    """An error alert under the early keys ends the connection."""
    client = send_early(connect)
    client.send_alert(A.internal_error)
    expect_closed(client)


@req("5.4-4", "5.4-3")
@needs("early_data")
def test_empty_handshake_record(connect: Connect) -> None:
    """A handshake record without content is refused among early data, too."""
    client = send_early(connect)
    client.wire.send_records(ContentType.handshake, b"", "an empty handshake record")
    client.expect_alert(A.unexpected_message)


@req("5.4-6")
@needs("early_data")
def test_padding_only(connect: Connect) -> None:
    """A record of zeros is refused among early data, too."""
    client = send_early(connect)
    client.wire.send_raw(client.wire.sealed_record(bytes(40)), "40 zeros, protected")
    client.expect_alert(A.unexpected_message)


@req("5.4-7", "5.1-19")
@needs("early_data")
def test_long_early_data(connect: Connect) -> None:
    """A record of early data with more than 2^14 octets is refused."""
    client = send_early(connect)
    record = client.wire.record(ContentType.application_data, bytes(2**14 + 1))
    client.wire.send_raw(record, "2^14 + 1 octets of early data")
    client.expect_alert(A.record_overflow, A.unexpected_message)


@req("4.6-2", "4-2")
@needs("resumption", "retry")
def test_end_after_retry(connect: Connect) -> None:
    """EndOfEarlyData after a HelloRetryRequest, which ends early data by itself, is refused."""
    ticket = fetch_ticket(connect)
    client = connect().hello(psks=(ticket,), shares=()).hello_again().read_flight()
    client.say(EndOfEarlyData())
    client.expect_alert(A.unexpected_message)
