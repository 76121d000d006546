"""§5.2 to §5.4: what a server makes of protected records: limits, keys, numbers, padding."""

from __future__ import annotations

import pytest

from tlsconform.features import REQUEST, ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NonConformance
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import PATIENCE, expect_closed, refused_with_overflow, server_lives
from tlsconform.suite.server.helpers import send_early
from tpmtls.codepoints import AlertDescription, ContentType
from tpmtls.key_schedule import verify_data
from tpmtls.record import MAX_CIPHERTEXT, MAX_PLAINTEXT
from tpmtls.wire.messages import Finished

A = AlertDescription
DATA = ContentType.application_data


def request_of(size: int) -> bytes:
    """A request of so many octets."""
    return b"GET / HTTP/1.0\r\nX: " + b"x" * (size - 23) + b"\r\n\r\n"


def altered(octets: bytes, position: int) -> bytes:
    """With one bit inverted."""
    changed = bytearray(octets)
    changed[position] ^= 1
    return bytes(changed)


# -- limits ----------------------------------------------------------------------------------------


@req("5.2-5", "5.2-2")
@pytest.mark.parametrize("length", [MAX_CIPHERTEXT + 1, 2**16 - 1])
def test_long_ciphertext(client: ScriptedClient, length: int) -> None:
    """A protected record of more than 2^14 + 256 octets is refused."""
    client.handshake()
    client.wire.send_raw(b"\x17\3\3" + length.to_bytes(2, "big") + bytes(length), "a long record")
    client.expect_alert(A.record_overflow)


@req("5.2-5", "5.2-2")
def test_long_ciphertext_that_deprotects(client: ScriptedClient) -> None:
    """A record over the limit is refused though its protection is right."""
    client.handshake()
    inner = REQUEST + bytes((DATA,))
    tag = 16
    inner += bytes(MAX_CIPHERTEXT + 1 - tag - len(inner))
    client.wire.send_raw(client.wire.sealed_record(inner), "a long record")
    client.expect_alert(A.record_overflow)


@req("5.2-5", "5.2-2")
def test_long_ciphertext_in_the_handshake(client: ScriptedClient) -> None:
    """A protected record over the limit is refused before Finished."""
    client.hello().read_flight()
    length = MAX_CIPHERTEXT + 1
    client.wire.send_raw(b"\x17\3\3" + length.to_bytes(2, "big") + bytes(length), "a long record")
    client.expect_alert(A.record_overflow)


@req("5.1-19", "5.1-18")
def test_long_content(client: ScriptedClient) -> None:
    """A protected record with more than 2^14 octets of content is refused."""
    client.handshake()
    client.wire.send_raw(
        client.wire.record(DATA, request_of(MAX_PLAINTEXT + 1)), "2^14 + 1 octets of data"
    )
    client.expect_alert(A.record_overflow)


@req("5.4-7", "5.1-19")
def test_long_padding(client: ScriptedClient) -> None:
    """Padding beyond 2^14 + 1 octets inside, where it is refused, gets record_overflow.

    The RFC has the limit for senders, and says of receivers only what content they refuse.
    """
    client.handshake()
    padding = MAX_PLAINTEXT + 1 - len(REQUEST)
    client.wire.send_raw(client.wire.record(DATA, REQUEST, padding), "a request, padded too long")
    try:
        client.receive_data(0.3)
    except NonConformance as finding:
        if "silence" not in finding.got:
            refused_with_overflow(finding)


@req("5.1-18", "5.2-1")
def test_largest_content(client: ScriptedClient, features: ServerFeatures) -> None:
    """A record with 2^14 octets of data is taken."""
    client.handshake()
    client.wire.send_raw(client.wire.record(DATA, request_of(MAX_PLAINTEXT)), "2^14 octets")
    if features.responds:
        client.receive_data(PATIENCE * client.timeout)
    else:
        client.expect_quiet()


@req("5.4-7", "5.4-1")
def test_longest_padding(client: ScriptedClient, features: ServerFeatures) -> None:
    """A record that padding fills up to 2^14 + 1 octets inside is taken."""
    client.handshake()
    padding = MAX_PLAINTEXT - len(REQUEST)
    client.wire.send_raw(client.wire.record(DATA, REQUEST, padding), "a request, fully padded")
    if features.responds:
        client.receive_data()
    else:
        client.expect_quiet()


@req("5.4-1")
@pytest.mark.parametrize("padding", [1, 255, 4096])
def test_padded_finished(client: ScriptedClient, features: ServerFeatures, padding: int) -> None:
    """A padded handshake record is taken."""
    client.hello().read_flight().authenticate()
    base_key, digest = client.client_secret, client.transcript.digest()
    octets = Finished(verify_data(client.backend, base_key, digest)).to_octets()
    client.transcript.add(octets)
    record = client.wire.record(ContentType.handshake, octets, padding)
    client.wire.send_raw(record, f"Finished, padded with {padding} octets")
    client.start_application()
    server_lives(client, features)


@req("5.4-1", "6-7")
def test_padded_alert(client: ScriptedClient) -> None:
    """A padded alert is an alert."""
    client.handshake()
    record = client.wire.record(ContentType.alert, b"\2\x50", 100)
    client.wire.send_raw(record, "alert internal_error, padded")
    expect_closed(client)


# -- deprotection ----------------------------------------------------------------------------------


@req("5.2-3")
@pytest.mark.parametrize("position", [5, 12, -16, -1])
def test_altered_data(client: ScriptedClient, position: int) -> None:
    """A record of data of which a bit is wrong is refused, in the ciphertext or in the tag."""
    client.handshake()
    client.wire.send_raw(altered(client.wire.record(DATA, REQUEST), position), "an altered record")
    client.expect_alert(A.bad_record_mac)


@req("5.2-3")
@pytest.mark.parametrize("position", [5, -1])
def test_altered_finished(client: ScriptedClient, position: int) -> None:
    """A record of the handshake of which a bit is wrong is refused."""
    client.hello().read_flight().authenticate()
    base_key, digest = client.client_secret, client.transcript.digest()
    octets = Finished(verify_data(client.backend, base_key, digest)).to_octets()
    record = client.wire.record(ContentType.handshake, octets)
    client.wire.send_raw(altered(record, position), "an altered record with Finished")
    client.expect_alert(A.bad_record_mac)


@req("5.2-3")
@needs("early_data")
def test_altered_early_data(connect: Connect) -> None:
    """A record of early data of which a bit is wrong is refused once early data is accepted."""
    client = send_early(connect)
    client.wire.send_raw(altered(client.wire.record(DATA, b"early"), -1), "an altered record")
    client.expect_alert(A.bad_record_mac)


@req("5.2-3")
def test_header_is_authenticated(client: ScriptedClient) -> None:
    """The length in a record's header is part of what its tag protects."""
    client.handshake()
    header = b"\x17\3\3\0\x7f"
    inner = REQUEST + bytes((DATA,))
    sealed = client.wire.sealed_record(inner, header)[len(header) :]
    right = b"\x17\3\3" + len(sealed).to_bytes(2, "big")
    client.wire.send_raw(right + sealed, "a record sealed with another length in its header")
    client.expect_alert(A.bad_record_mac)


@req("5.2-3", "5.3-1")
def test_replayed_record(client: ScriptedClient) -> None:
    """A record that comes a second time cannot be deprotected."""
    client.handshake()
    record = client.wire.record(DATA, REQUEST)
    client.wire.send_raw(record, "a request")
    client.wire.send_raw(record, "the same record once more")
    client.expect_alert(A.bad_record_mac)


@req("5.2-3", "5.3-1")
@pytest.mark.parametrize("sequence", [1, 2**32, 2**63])
def test_skipped_numbers(client: ScriptedClient, sequence: int) -> None:
    """A first record under a key that is not numbered 0 cannot be deprotected."""
    client.handshake()
    client.wire.sequence = sequence
    client.send_data(REQUEST)
    client.expect_alert(A.bad_record_mac)


@req("5.2-3", "5.3-1")
def test_number_goes_on_over_keys(client: ScriptedClient) -> None:
    """Sequence numbers start again with the application keys: one that goes on is refused."""
    client.hello().read_flight().authenticate()
    client.say_finished_under(client.client_secret)
    number = client.wire.sequence
    client.start_application()
    client.wire.sequence = number
    client.send_data(REQUEST)
    client.expect_alert(A.bad_record_mac)


@req("5.2-3")
def test_handshake_keys_afterwards(client: ScriptedClient) -> None:
    """Data under the handshake keys after the Finished cannot be deprotected."""
    client.hello().read_flight().authenticate()
    client.say_finished_under(client.client_secret)
    client.send_data(REQUEST)
    client.expect_alert(A.bad_record_mac)


@req("5.2-3")
@pytest.mark.parametrize("length", [1, 15, 16])
def test_short_ciphertext(client: ScriptedClient, length: int) -> None:
    """A record too short for its tag, or with nothing but one, is refused."""
    client.handshake()
    client.wire.send_raw(b"\x17\3\3\0" + bytes((length,)) + bytes(length), f"{length} octets")
    client.expect_alert(A.bad_record_mac, A.decode_error)


# -- what is inside --------------------------------------------------------------------------------


@req("5.4-6", "5.4-5")
@pytest.mark.parametrize("zeros", [0, 1, 16, 1000, MAX_PLAINTEXT + 1])
def test_padding_only(client: ScriptedClient, zeros: int) -> None:
    """A record that deprotects to zeros alone, or to nothing, has no type: it is refused."""
    client.handshake()
    client.wire.send_raw(client.wire.sealed_record(bytes(zeros)), f"{zeros} zeros, protected")
    # a record with room for nothing but a tag may count as one that cannot be deprotected
    client.expect_alert(A.unexpected_message, *(() if zeros else (A.bad_record_mac,)))


@req("5.4-6", "5.4-5")
def test_padding_only_in_the_handshake(client: ScriptedClient) -> None:
    """A record of zeros is refused before Finished."""
    client.hello().read_flight()
    client.wire.send_raw(client.wire.sealed_record(bytes(50)), "50 zeros, protected")
    client.expect_alert(A.unexpected_message)


@req("5.4-4", "5.4-3", "5.1-9")
@pytest.mark.parametrize("padding", [0, 50])
@pytest.mark.parametrize("content_type", [ContentType.handshake, ContentType.alert])
def test_empty_content(client: ScriptedClient, content_type: ContentType, padding: int) -> None:
    """A protected handshake or alert record without content is refused after the handshake."""
    client.handshake()
    client.wire.send_raw(client.wire.record(content_type, b"", padding), f"empty {content_type}")
    client.expect_alert(A.unexpected_message)


@req("5.4-4", "5.4-3", "5.1-9")
@pytest.mark.parametrize("padding", [0, 50])
@pytest.mark.parametrize("content_type", [ContentType.handshake, ContentType.alert])
def test_empty_content_before_finished(
    client: ScriptedClient, content_type: ContentType, padding: int
) -> None:
    """A protected handshake or alert record without content is refused in the handshake."""
    client.hello().read_flight()
    client.wire.send_raw(client.wire.record(content_type, b"", padding), f"empty {content_type}")
    client.expect_alert(A.unexpected_message)


@req("5.4-4", "5.4-3", "5.1-9")
def test_empty_content_within_a_message(client: ScriptedClient) -> None:
    """An empty handshake record between the two halves of a message is refused."""
    client.handshake()
    client.wire.send_records(ContentType.handshake, b"\x18\0\0", "half a KeyUpdate")
    client.wire.send_records(ContentType.handshake, b"", "an empty handshake record")
    client.expect_alert(A.unexpected_message)
