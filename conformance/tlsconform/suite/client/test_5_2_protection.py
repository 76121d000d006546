"""§5.2 to §5.4: what a client makes of protected records: limits, keys, numbers, padding."""

from __future__ import annotations

import pytest

from tlsconform.features import ClientFeatures
from tlsconform.marks import req
from tlsconform.outcome import NonConformance
from tlsconform.peer import ScriptedServer
from tlsconform.suite.helpers import MESSAGE, client_lives, expect_closed, refused_with_overflow
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import AlertDescription as A
from tpmtls.codepoints import ContentType
from tpmtls.record import MAX_CIPHERTEXT, MAX_PLAINTEXT
from tpmtls.wire.extensions import Extensions
from tpmtls.wire.messages import EncryptedExtensions

DATA = ContentType.application_data
TAG = 16
points = pytest.mark.parametrize("point", ["handshake", "afterwards"])


def reach(server: ScriptedServer, point: str) -> None:
    """Up to our ServerHello, or to the end of the handshake."""
    server.accept().hello()
    if point == "afterwards":
        server.encrypted_extensions().authenticate().finish().complete()


def altered(octets: bytes, position: int) -> bytes:
    """With one bit inverted."""
    changed = bytearray(octets)
    changed[position] ^= 1
    return bytes(changed)


def send_inner(server: ScriptedServer, inner: bytes, what: str) -> None:
    """A protected record around exactly that."""
    server.wire.send_raw(server.wire.sealed_record(inner), what)


# -- limits ----------------------------------------------------------------------------------------


@req("5.2-5", "5.2-2")
@points
@pytest.mark.parametrize("length", [MAX_CIPHERTEXT + 1, 2**16 - 1])
def test_long_ciphertext(server: ScriptedServer, length: int, point: str) -> None:
    """A protected record of more than 2^14 + 256 octets is refused."""
    reach(server, point)
    server.wire.send_raw(b"\x17\3\3" + length.to_bytes(2, "big") + bytes(length), "a long record")
    server.expect_alert(A.record_overflow)


@req("5.2-5", "5.2-2")
def test_long_ciphertext_that_deprotects(server: ScriptedServer) -> None:
    """A record over the limit is refused though its protection is right."""
    server.handshake()
    inner = MESSAGE + bytes((DATA,))
    send_inner(server, inner + bytes(MAX_CIPHERTEXT + 1 - TAG - len(inner)), "a long record")
    server.expect_alert(A.record_overflow)


@req("5.1-19", "5.1-18")
def test_long_content(server: ScriptedServer) -> None:
    """A protected record with more than 2^14 octets of content is refused."""
    server.handshake()
    send_inner(server, b"x" * (MAX_PLAINTEXT + 1) + bytes((DATA,)), "2^14 + 1 octets of data")
    server.expect_alert(A.record_overflow)


@req("5.4-7", "5.1-19")
def test_long_padding(server: ScriptedServer) -> None:
    """Padding beyond 2^14 + 1 octets inside, where it is refused, gets record_overflow.

    The RFC has the limit for senders, and says of receivers only what content they refuse.
    """
    server.handshake()
    record = server.wire.record(DATA, MESSAGE, MAX_PLAINTEXT + 1 - len(MESSAGE))
    server.wire.send_raw(record, "a line, padded too long")
    try:
        server.expect_quiet(0.3)
    except NonConformance as finding:
        refused_with_overflow(finding)


@req("5.1-18", "5.2-1")
def test_largest_content(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures
) -> None:
    """A record with 2^14 octets of data is taken."""
    server.handshake()
    server.send_data(b"x" * (MAX_PLAINTEXT - 1) + b"\n")
    client_lives(server, target, features.sends_data)


@req("5.4-7", "5.4-1")
@pytest.mark.parametrize("padding", [1, 255, MAX_PLAINTEXT - len(MESSAGE)])
def test_padded_data(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures, padding: int
) -> None:
    """Padded data is taken, up to 2^14 + 1 octets inside."""
    server.handshake()
    server.wire.send_raw(server.wire.record(DATA, MESSAGE, padding), "a line, padded")
    client_lives(server, target, features.sends_data)


@req("5.4-1")
@pytest.mark.parametrize("padding", [1, 255, 4096])
def test_padded_handshake(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures, padding: int
) -> None:
    """A padded handshake record is taken."""
    server.accept().hello()
    octets = EncryptedExtensions(Extensions()).to_octets()
    server.transcript.add(octets)
    record = server.wire.record(ContentType.handshake, octets, padding)
    server.wire.send_raw(record, f"EncryptedExtensions, padded with {padding} octets")
    server.authenticate().finish().complete()
    client_lives(server, target, features.sends_data)


@req("5.4-1", "6-7")
def test_padded_alert(server: ScriptedServer) -> None:
    """A padded alert is an alert."""
    server.handshake()
    record = server.wire.record(ContentType.alert, b"\2\x50", 100)
    server.wire.send_raw(record, "alert internal_error, padded")
    expect_closed(server)


# -- deprotection ----------------------------------------------------------------------------------


@req("5.2-3")
@pytest.mark.parametrize("position", [5, 12, -16, -1])
def test_altered_data(server: ScriptedServer, position: int) -> None:
    """A record of data of which a bit is wrong is refused, in the ciphertext or in the tag."""
    server.handshake()
    server.wire.send_raw(altered(server.wire.record(DATA, MESSAGE), position), "an altered record")
    server.expect_alert(A.bad_record_mac)


@req("5.2-3")
@pytest.mark.parametrize("position", [5, -1])
def test_altered_handshake(server: ScriptedServer, position: int) -> None:
    """A record of the handshake of which a bit is wrong is refused."""
    server.accept().hello()
    octets = EncryptedExtensions(Extensions()).to_octets()
    record = server.wire.record(ContentType.handshake, octets)
    server.wire.send_raw(altered(record, position), "an altered record")
    server.expect_alert(A.bad_record_mac)


@req("5.2-3")
def test_header_is_authenticated(server: ScriptedServer) -> None:
    """The length in a record's header is part of what its tag protects."""
    server.handshake()
    header = b"\x17\3\3\0\x7f"
    sealed = server.wire.sealed_record(MESSAGE + bytes((DATA,)), header)[len(header) :]
    right = b"\x17\3\3" + len(sealed).to_bytes(2, "big")
    server.wire.send_raw(right + sealed, "a record sealed with another length in its header")
    server.expect_alert(A.bad_record_mac)


@req("5.2-3", "5.3-1")
def test_replayed_record(server: ScriptedServer) -> None:
    """A record that comes a second time cannot be deprotected."""
    server.handshake()
    record = server.wire.record(DATA, MESSAGE)
    server.wire.send_raw(record, "a line")
    server.wire.send_raw(record, "the same record once more")
    server.expect_alert(A.bad_record_mac)


@req("5.2-3", "5.3-1")
@points
@pytest.mark.parametrize("sequence", [1, 2**32, 2**63])
def test_skipped_numbers(server: ScriptedServer, point: str, sequence: int) -> None:
    """A first record under a key that is not numbered 0 cannot be deprotected."""
    reach(server, point)
    server.wire.sequence = sequence
    if point == "handshake":
        server.encrypted_extensions()
    else:
        server.send_data(MESSAGE)
    server.expect_alert(A.bad_record_mac)


@req("5.2-3", "5.3-1")
def test_number_goes_on_over_keys(server: ScriptedServer) -> None:
    """Sequence numbers start again with the application keys: one that goes on is refused."""
    server.accept().hello().encrypted_extensions().authenticate()
    server.say_finished_under(server.server_secret)
    number = server.wire.sequence
    server.start_application().complete()
    server.wire.sequence = number
    server.send_data(MESSAGE)
    server.expect_alert(A.bad_record_mac)


@req("5.2-3")
def test_handshake_keys_afterwards(server: ScriptedServer) -> None:
    """Data under the handshake keys after the Finished cannot be deprotected."""
    server.accept().hello().encrypted_extensions().authenticate()
    server.say_finished_under(server.server_secret)
    record = server.wire.record(DATA, MESSAGE)
    server.start_application().complete()
    server.wire.send_raw(record, "data under the handshake keys")
    server.expect_alert(A.bad_record_mac)


@req("5.2-3")
@pytest.mark.parametrize("length", [1, 15, 16])
def test_short_ciphertext(server: ScriptedServer, length: int) -> None:
    """A record too short for its tag, or with nothing but one, is refused."""
    server.handshake()
    server.wire.send_raw(b"\x17\3\3\0" + bytes((length,)) + bytes(length), f"{length} octets")
    server.expect_alert(A.bad_record_mac, A.decode_error)


# -- what is inside --------------------------------------------------------------------------------


@req("5.4-6", "5.4-5")
@points
@pytest.mark.parametrize("zeros", [0, 1, 16, 1000, MAX_PLAINTEXT + 1])
def test_padding_only(server: ScriptedServer, point: str, zeros: int) -> None:
    """A record that deprotects to zeros alone, or to nothing, has no type: it is refused."""
    reach(server, point)
    send_inner(server, bytes(zeros), f"{zeros} zeros, protected")
    # a record with room for nothing but a tag may count as one that cannot be deprotected
    server.expect_alert(A.unexpected_message, *(() if zeros else (A.bad_record_mac,)))


@req("5.4-4", "5.4-3", "5.1-9")
@points
@pytest.mark.parametrize("padding", [0, 50])
@pytest.mark.parametrize("content_type", [ContentType.handshake, ContentType.alert])
def test_empty_content(
    server: ScriptedServer, content_type: ContentType, padding: int, point: str
) -> None:
    """A protected handshake or alert record without content is refused."""
    reach(server, point)
    server.wire.send_raw(server.wire.record(content_type, b"", padding), f"empty {content_type}")
    server.expect_alert(A.unexpected_message)


@req("5.4-4", "5.4-3", "5.1-9")
def test_empty_content_within_a_message(server: ScriptedServer) -> None:
    """An empty handshake record between the two halves of a message is refused."""
    server.handshake()
    server.wire.send_records(ContentType.handshake, b"\x18\0\0", "half a KeyUpdate")
    server.wire.send_records(ContentType.handshake, b"", "an empty handshake record")
    server.expect_alert(A.unexpected_message)
