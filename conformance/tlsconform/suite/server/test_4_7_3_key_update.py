"""§4.7.3 and §7.2: what a server does with KeyUpdate, and its own."""

from __future__ import annotations

import pytest

from tlsconform.features import REQUEST, ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import append, truncate
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import check, server_lives
from tlsconform.suite.server.helpers import be_patient, resume, take_ticket
from tpmtls.codepoints import AlertDescription, ContentType, KeyUpdateRequest
from tpmtls.wire.messages import KeyUpdate

A = AlertDescription
REQUESTED, NOT_REQUESTED = KeyUpdateRequest.update_requested, KeyUpdateRequest.update_not_requested


def skip_tickets(client: ScriptedClient) -> None:
    """Read what the server sends by itself after the handshake; wait longer from now on."""
    client.expect_quiet()
    be_patient(client)


@req("4.7.3-3", "7.2-1", "5.3-1")
@pytest.mark.parametrize("count", [1, 2, 4])
def test_taken(client: ScriptedClient, features: ServerFeatures, count: int) -> None:
    """After each KeyUpdate, the server reads under the next keys."""
    client.handshake()
    for _ in range(count):
        client.update_keys()
    server_lives(client, features)


@req("4.7.3-5", "4.7.3-2", "4.7.3-7")
@needs("responds")
def test_answered(client: ScriptedClient) -> None:
    """update_requested is answered by a KeyUpdate before more data, under the next keys."""
    client.handshake()
    skip_tickets(client)
    client.update_keys(REQUESTED)
    client.send_data(REQUEST)
    answer = client.follow_key_update()
    check(answer == NOT_REQUESTED, "update_not_requested", answer.name)
    client.receive_data()


@req("4.7.3-5", "4.7.3-2", "4.7.3-7")
@needs("responds")
def test_answered_again(client: ScriptedClient) -> None:
    """Each round of update_requested and data has an answer of its own."""
    client.handshake()
    skip_tickets(client)
    for _ in range(2):
        client.update_keys(REQUESTED)
        client.send_data(REQUEST)
        client.follow_key_update()
        client.receive_data()
        client.expect_quiet()


@req("4.7.3-5", "4.7.3-3")
@needs("responds")
def test_answered_at_least_once(client: ScriptedClient) -> None:
    """Several KeyUpdates with update_requested, one after the other, are answered once or more."""
    client.handshake()
    skip_tickets(client)
    for _ in range(2):
        client.update_keys(REQUESTED)
    client.send_data(REQUEST)
    client.follow_key_update()
    client.receive_data()


@req("4.7.3-5")
@needs("responds")
def test_unasked(client: ScriptedClient) -> None:
    """update_not_requested is not answered with update_requested, over and over."""
    client.handshake()
    skip_tickets(client)
    client.update_keys()
    client.send_data(REQUEST)
    client.receive_data()


@req("4.7.3-4")
@pytest.mark.parametrize("value", [2, 3, 128, 255])
def test_bad_value(client: ScriptedClient, value: int) -> None:
    """A request_update that is neither 0 nor 1 is refused."""
    client.handshake()
    client.update_keys(value)
    client.expect_alert(A.illegal_parameter)


@req("6-9")
def test_empty(client: ScriptedClient) -> None:
    """A KeyUpdate without its octet is refused."""
    client.handshake()
    client.update_keys(NOT_REQUESTED, truncate("key_update"))
    client.expect_alert(A.decode_error)


@req("6-9")
@pytest.mark.parametrize("rest", [b"\0", b"\1", bytes(100)], ids=["00", "01", "100"])
def test_long(client: ScriptedClient, rest: bytes) -> None:
    """A KeyUpdate with octets behind its one is refused."""
    client.handshake()
    client.update_keys(NOT_REQUESTED, append("key_update", rest))
    client.expect_alert(A.decode_error)


@req("4.7.3-1")
@pytest.mark.parametrize("value", [NOT_REQUESTED, REQUESTED], ids=lambda v: v.name)
def test_before_finished(client: ScriptedClient, value: KeyUpdateRequest) -> None:
    """A KeyUpdate before the client's Finished is refused."""
    client.hello().read_flight()
    client.say(KeyUpdate(value))
    client.expect_alert(A.unexpected_message)


@req("4.7.3-1")
@needs("resumption")
def test_before_finished_in_a_resumption(connect: Connect) -> None:
    """A KeyUpdate before the client's Finished is refused in a resumption, too."""
    client = resume(connect).read_flight()
    client.say(KeyUpdate(NOT_REQUESTED))
    client.expect_alert(A.unexpected_message)


@req("4.7.3-1")
def test_unprotected(client: ScriptedClient) -> None:
    """A KeyUpdate before any keys is refused."""
    client.say(KeyUpdate(NOT_REQUESTED))
    client.expect_alert(A.unexpected_message)


@req("4.7.3-8", "5.2-3")
def test_next_keys_without_key_update(client: ScriptedClient) -> None:
    """Data under the next keys is refused where no KeyUpdate came before."""
    client.handshake()
    client.next_write_keys()
    client.send_data(REQUEST)
    client.expect_alert(A.bad_record_mac)


@req("4.7.3-8", "4.7.3-7", "5.2-3")
def test_key_update_under_next_keys(client: ScriptedClient) -> None:
    """A KeyUpdate under the keys that it announces is refused."""
    client.handshake()
    client.next_write_keys()
    client.say(KeyUpdate(NOT_REQUESTED))
    client.expect_alert(A.bad_record_mac)


@req("4.7.3-3", "4.7.3-2", "5.2-3")
def test_old_keys_after_key_update(client: ScriptedClient) -> None:
    """Data under the old keys is refused after a KeyUpdate."""
    client.handshake()
    client.say(KeyUpdate(NOT_REQUESTED))
    client.send_data(REQUEST)
    client.expect_alert(A.bad_record_mac)


@req("4.7.3-3", "5.3-1", "5.2-3")
def test_number_goes_on(client: ScriptedClient) -> None:
    """Sequence numbers start again at 0 after a KeyUpdate: one that goes on is refused."""
    client.handshake()
    client.send_data(b"\r\n")
    client.update_keys()
    client.wire.sequence = 2
    client.send_data(REQUEST)
    client.expect_alert(A.bad_record_mac)


@req("4.7.3-3", "5.2-3", "7.2-1")
def test_replay_over_key_update(client: ScriptedClient) -> None:
    """A record under the keys before a KeyUpdate cannot be sent again after it."""
    client.handshake()
    record = client.wire.record(ContentType.application_data, b"\r\n")
    client.wire.send_raw(record, "data")
    client.update_keys()
    client.wire.send_raw(record, "the same record once more")
    client.expect_alert(A.bad_record_mac)


@req("4.7.3-3", "4.7.3-5")
@needs("tickets", "responds")
def test_after_tickets(client: ScriptedClient) -> None:
    """Tickets and KeyUpdates in both directions do not disturb each other."""
    client.handshake()
    take_ticket(client)
    be_patient(client)
    client.update_keys(REQUESTED)
    client.send_data(REQUEST)
    client.receive_data()


@req("4.7.3-3")
@needs("responds")
def test_padded(client: ScriptedClient) -> None:
    """A padded KeyUpdate is taken."""
    client.handshake()
    be_patient(client)
    octets = KeyUpdate(NOT_REQUESTED).to_octets()
    record = client.wire.record(ContentType.handshake, octets, 100)
    client.wire.send_raw(record, "KeyUpdate, padded with 100 octets")
    client.next_write_keys()
    client.send_data(REQUEST)
    client.receive_data()
