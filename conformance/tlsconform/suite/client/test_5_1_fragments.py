"""§5.1: how a client takes messages that are cut, joined, or mixed with others; its own records."""

from __future__ import annotations

import pytest

from tlsconform.features import ClientFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NonConformance
from tlsconform.peer import ScriptedServer
from tlsconform.suite.helpers import MESSAGE, check, client_lives
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import AlertDescription as A
from tpmtls.codepoints import ContentType, KeyUpdateRequest
from tpmtls.record import MAX_PLAINTEXT
from tpmtls.wire.extensions import KeyShareHelloRetryRequest
from tpmtls.wire.messages import KeyUpdate

PARTS = {
    "a header's first octet": b"\x08",
    "a header": b"\x08\0\0\2",
    "a whole message": b"\x18\0\0\1\0",
}
parts = pytest.mark.parametrize("rest", PARTS.values(), ids=[n.replace(" ", "-") for n in PARTS])
versions = pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302, 0x0304, 0xFFFF], ids=hex)


def join(server: ScriptedServer, octets: bytes) -> None:
    """Put octets behind what is held back, and send both in one record."""
    server.wire.send_records(ContentType.handshake, octets, f"then {octets.hex()}")
    server.wire.release()


@req("5.1-2")
@pytest.mark.parametrize("size", [1, 3, 40])
def test_server_hello_in_pieces(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures, size: int
) -> None:
    """A ServerHello that is cut into records of any size is taken."""
    server.accept().hello(size=size).encrypted_extensions().authenticate().finish().complete()
    client_lives(server, target, features.sends_data)


@req("5.1-2")
@pytest.mark.parametrize("size", [1, 3, 50, MAX_PLAINTEXT])
def test_flight_in_pieces(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures, size: int
) -> None:
    """EncryptedExtensions to Finished are taken in one record, or cut anywhere."""
    server.accept().hello()
    server.wire.hold()
    server.encrypted_extensions().authenticate()
    server.say_finished_under(server.server_secret)
    server.wire.release(size)
    server.start_application().complete()
    client_lives(server, target, features.sends_data)


@req("5.1-2", "4.7.3-3")
def test_key_update_in_pieces(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures
) -> None:
    """A KeyUpdate in two records is taken; the keys change after the second."""
    server.handshake()
    server.say_in_pieces(KeyUpdate(KeyUpdateRequest.update_not_requested), 3)
    server.next_write_keys()
    server.send_data(MESSAGE)
    client_lives(server, target, features.sends_data)


@req("5.1-13")
@pytest.mark.parametrize("padding", [0, 100])
def test_empty_data(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures, padding: int
) -> None:
    """Empty application data does no harm, padded or not.

    More follows: a client that reads until there is something does not look at its input before.
    """
    server.handshake()
    for content in (b"", b"", MESSAGE):
        record = server.wire.record(ContentType.application_data, content, padding)
        server.wire.send_raw(record, f"{len(content)} octets of data, padding {padding}")
    client_lives(server, target, features.sends_data)


@req("5.1-14")
def test_data_in_pieces(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures
) -> None:
    """Application data is taken however it is cut into records."""
    server.handshake()
    server.wire.send_records(ContentType.application_data, MESSAGE, "a line", size=1)
    client_lives(server, target, features.sends_data)


# -- where keys change -----------------------------------------------------------------------------


@req("5.1-7", "5.1-6")
@parts
def test_after_server_hello(server: ScriptedServer, rest: bytes) -> None:
    """What follows a ServerHello in its record would span a change of keys: it is refused."""
    server.accept().hello(rest=rest)
    server.expect_alert(A.unexpected_message)


@req("5.1-7", "5.1-6", "5.1-5")
def test_encrypted_extensions_unprotected(server: ScriptedServer) -> None:
    """EncryptedExtensions in the record of the ServerHello are refused."""
    server.accept().hello(rest=bytes.fromhex("080000020000"))
    server.expect_alert(A.unexpected_message)


@req("5.1-7", "5.1-6")
@parts
def test_after_finished(server: ScriptedServer, rest: bytes) -> None:
    """What follows a Finished in its record would span a change of keys: it is refused."""
    server.accept().hello().encrypted_extensions().authenticate()
    server.wire.hold()
    server.say_finished_under(server.server_secret)
    join(server, rest)
    server.expect_alert(A.unexpected_message)


@req("5.1-7", "5.1-6")
@parts
def test_after_key_update(server: ScriptedServer, rest: bytes) -> None:
    """What follows a KeyUpdate in its record would span a change of keys: it is refused."""
    server.handshake()
    server.wire.hold()
    server.say(KeyUpdate(KeyUpdateRequest.update_not_requested))
    join(server, rest)
    server.expect_alert(A.unexpected_message)


@req("5.1-7", "5.1-5", "5.1-6")
def test_message_over_a_key_change(server: ScriptedServer) -> None:
    """A message that starts before a change of keys and ends after it is refused."""
    server.handshake()
    server.wire.hold()
    server.say(KeyUpdate(KeyUpdateRequest.update_not_requested))
    join(server, b"\x18\0")
    server.next_write_keys()
    server.wire.send_records(ContentType.handshake, b"\0\1\0", "the rest of a KeyUpdate")
    server.expect_alert(A.unexpected_message)


# -- interleaving ----------------------------------------------------------------------------------


@req("5-5", "5.1-3", "5.1-4")
def test_data_within_a_message(server: ScriptedServer) -> None:
    """Application data within a handshake message is refused."""
    server.handshake()
    server.wire.send_records(ContentType.handshake, b"\x18\0\0", "half a KeyUpdate")
    server.send_data(MESSAGE)
    server.wire.send_records(ContentType.handshake, b"\1\0", "the other half")
    server.expect_alert(A.unexpected_message)


# -- sizes -----------------------------------------------------------------------------------------


@req("5.1-19", "5.1-18")
@pytest.mark.parametrize("length", [MAX_PLAINTEXT + 1, 2**16 - 1])
def test_long_plaintext(server: ScriptedServer, length: int) -> None:
    """An unprotected record of more than 2^14 octets is refused."""
    content = b"\2\0\xff\xfc" + bytes(length - 4)
    record = server.accept().wire.plaintext_record(ContentType.handshake, content)
    server.wire.send_raw(record, f"unprotected record of {length} octets")
    server.expect_alert(A.record_overflow)


# -- as sent ---------------------------------------------------------------------------------------


@req("5.1-15", "E.5-10", "5-4", "5.1-18", "5.2-1", "5.1-22", "4.5.3-4", "5.3-1", "5.4-2", "5.4-7")
def test_records_sent(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures
) -> None:
    """The client's records have a version and type that are defined, and no more than they may;
    each is under the keys of its epoch, from number 0."""
    server.handshake()
    client_lives(server, target, features.sends_data)
    first = True
    for raw in server.wire.received:
        allowed = (0x0301, 0x0303) if first else (0x0303,)
        check(raw.version in allowed, "version 0x0303", f"{raw.version:#06x}", "5.1-15")
        first = first and raw.content_type is ContentType.handshake
        check(20 <= raw.header[0] <= 23, "a type from 20 to 23", raw.header[0], "5-4")
        protected = raw.content_type is ContentType.application_data
        most, rule = (MAX_PLAINTEXT + 256, "5.2-1") if protected else (MAX_PLAINTEXT, "5.1-18")
        check(len(raw.body) <= most, f"at most {most} octets", len(raw.body), rule)


@req("5.1-20")
def test_version_of_the_first_record(server: ScriptedServer) -> None:
    """The record of a first ClientHello says 0x0301."""
    version = server.accept().wire.received[0].version
    check(version == 0x0301, "version 0x0301", f"{version:#06x}")


@req("5.1-21", "5.1-15")
@needs("retry")
def test_version_of_the_second_hello(server: ScriptedServer) -> None:
    """The records of a second ClientHello say 0x0303."""
    group = server.accept().retry_group()
    assert group is not None
    before = len(server.wire.received)
    server.retry(KeyShareHelloRetryRequest(group))
    found = {raw.version for raw in server.wire.received[before:]}
    check(found == {0x0303}, "version 0x0303 alone", ", ".join(map(hex, found)))


@req("5.1-8", "5.1-9", "5.1-3", "5.1-4", "5.1-5", "5.4-3")
@needs("client_certificate")
def test_flight_sent(server: ScriptedServer) -> None:
    """The client's messages end where its keys change, are not empty, nor mixed with others."""
    server.accept().hello().encrypted_extensions().certificate_request().authenticate().finish()
    server.complete().expect_quiet()
    if not server.assembler.is_empty:
        raise NonConformance("whole messages", "a part of one", "5.1-4")


# -- legacy_record_version -------------------------------------------------------------------------


@req("5.1-17", "E-1")
@versions
def test_record_version(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures, version: int
) -> None:
    """The record version of a ServerHello is passed over."""
    server.wire.version = version  # type: ignore[assignment]
    server.handshake()
    client_lives(server, target, features.sends_data)
