"""§5.1: how a server takes messages that are cut, joined, or mixed with others; its own records."""

from __future__ import annotations

import pytest

from tlsconform.features import REQUEST, ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NonConformance
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import check, server_lives
from tlsconform.suite.server.helpers import accepted_certificate, send_early
from tpmtls.codepoints import AlertDescription, ContentType, KeyUpdateRequest
from tpmtls.key_schedule import verify_data
from tpmtls.record import MAX_PLAINTEXT
from tpmtls.wire.messages import EndOfEarlyData, Finished, KeyUpdate

A = AlertDescription

PARTS = {
    "a header's first octet": b"\x14",
    "a header": b"\x14\0\0\x20",
    "a whole message": b"\x18\0\0\1\0",
}
parts = pytest.mark.parametrize("rest", PARTS.values(), ids=[n.replace(" ", "-") for n in PARTS])
sizes = pytest.mark.parametrize("size", [1, 3, 100])


def finished(client: ScriptedClient) -> Finished:
    """The client's Finished, to be sent in an unusual way."""
    digest = client.transcript.digest()
    return Finished(verify_data(client.backend, client.client_secret, digest))


def join(client: ScriptedClient, octets: bytes) -> None:
    """Put octets behind what is held back, and send both in one record."""
    client.wire.send_records(ContentType.handshake, octets, f"then {octets.hex()}")
    client.wire.release()


@req("5.1-2")
@sizes
def test_client_hello_in_pieces(
    client: ScriptedClient, features: ServerFeatures, size: int
) -> None:
    """A ClientHello that is cut into records of any size is taken."""
    client.wire.hold()
    client.hello()
    client.wire.release(size)
    client.complete()
    server_lives(client, features)


@req("5.1-2")
@sizes
def test_client_flight_in_pieces(
    client: ScriptedClient, features: ServerFeatures, size: int
) -> None:
    """The client's last flight is taken in records of any size."""
    client.hello().read_flight().authenticate()
    client.say_in_pieces(finished(client), size)
    client.start_application()
    server_lives(client, features)


@req("5.1-2")
@needs("client_certificate")
@pytest.mark.parametrize("size", [50, MAX_PLAINTEXT])
def test_client_flight_joined(connect: Connect, features: ServerFeatures, size: int) -> None:
    """Certificate, CertificateVerify and Finished are taken in one record, or cut anywhere."""
    accepted_certificate(connect)
    client = connect().hello().read_flight()
    client.wire.hold()
    client.authenticate()
    client.say_finished_under(client.client_secret)
    client.wire.release(size)
    client.start_application()
    server_lives(client, features)


@req("5.1-2", "4.7.3-3")
def test_key_update_in_pieces(client: ScriptedClient, features: ServerFeatures) -> None:
    """A KeyUpdate in two records is taken; the keys change after the second."""
    client.handshake()
    client.say_in_pieces(KeyUpdate(KeyUpdateRequest.update_not_requested), 3)
    client.next_write_keys()
    server_lives(client, features)


@req("5.1-13")
@pytest.mark.parametrize("padding", [0, 100])
def test_empty_data(client: ScriptedClient, features: ServerFeatures, padding: int) -> None:
    """Empty application data does no harm, padded or not, before and after more."""
    client.handshake()
    for _ in range(5):
        record = client.wire.record(ContentType.application_data, b"", padding)
        client.wire.send_raw(record, f"empty application data, padding {padding}")
    server_lives(client, features)


@req("5.1-14")
@needs("responds")
def test_data_in_pieces(connect: Connect) -> None:
    """Application data means the same however it is cut into records."""
    client = connect().handshake()
    client.send_data(REQUEST)
    whole = client.receive_data()
    client.close()
    client = connect().handshake()
    client.wire.send_records(ContentType.application_data, REQUEST, "a request", size=1)
    answer = b""
    while len(answer) < min(len(whole), 8):
        answer += client.receive_data()
    check(answer[:8] == whole[: len(answer)][:8], f"{whole[:8]!r} again", f"{answer[:8]!r}")


# -- where keys change -----------------------------------------------------------------------------


@req("5.1-7", "5.1-6")
@parts
def test_after_client_hello(client: ScriptedClient, rest: bytes) -> None:
    """What follows a ClientHello in its record would span a change of keys: it is refused."""
    client.wire.hold()
    group = client.share_groups[0]  # the one offered: after a HelloRetryRequest, no keys change
    client.hello(groups=(group,), shares=(group,))
    join(client, rest)
    client.expect_alert(A.unexpected_message)


@req("5.1-7", "5.1-6")
@parts
def test_after_finished(client: ScriptedClient, rest: bytes) -> None:
    """What follows a Finished in its record would span a change of keys: it is refused."""
    client.hello().read_flight().authenticate()
    client.wire.hold()
    client.say_finished_under(client.client_secret)
    join(client, rest)
    client.expect_alert(A.unexpected_message)


@req("5.1-7", "5.1-6")
@parts
def test_after_key_update(client: ScriptedClient, rest: bytes) -> None:
    """What follows a KeyUpdate in its record would span a change of keys: it is refused."""
    client.handshake()
    client.wire.hold()
    client.say(KeyUpdate(KeyUpdateRequest.update_not_requested))
    join(client, rest)
    client.expect_alert(A.unexpected_message)


@req("5.1-7", "5.1-6")
@needs("early_data")
@parts
def test_after_end_of_early_data(connect: Connect, rest: bytes) -> None:
    """What follows EndOfEarlyData in its record would span a change of keys: it is refused."""
    client = send_early(connect)
    client.wire.hold()
    client.say(EndOfEarlyData())
    join(client, rest)
    client.expect_alert(A.unexpected_message)


@req("5.1-7", "5.1-5", "5.1-6")
def test_finished_over_a_key_change(client: ScriptedClient) -> None:
    """A message that starts before a change of keys and ends after it is refused."""
    client.handshake()
    client.wire.hold()
    client.say(KeyUpdate(KeyUpdateRequest.update_not_requested))
    join(client, b"\x18\0")
    client.next_write_keys()
    client.wire.send_records(ContentType.handshake, b"\0\1\0", "the rest of a KeyUpdate")
    client.expect_alert(A.unexpected_message)


# -- interleaving ----------------------------------------------------------------------------------


@req("5-5", "5.1-3", "5.1-4")
def test_data_within_a_message(client: ScriptedClient) -> None:
    """Application data within a handshake message is refused."""
    client.handshake()
    client.wire.send_records(ContentType.handshake, b"\x18\0\0", "half a KeyUpdate")
    client.send_data(REQUEST)
    client.wire.send_records(ContentType.handshake, b"\1\0", "the other half")
    client.expect_alert(A.unexpected_message)


@req("5-5", "5.1-3", "5.1-4")
def test_data_within_finished(client: ScriptedClient) -> None:
    """Application data within the client's Finished is refused."""
    client.hello().read_flight().authenticate()
    octets = finished(client).to_octets()
    client.wire.send_records(ContentType.handshake, octets[:9], "the start of a Finished")
    client.send_data(REQUEST)
    client.expect_alert(A.unexpected_message)


# -- sizes -----------------------------------------------------------------------------------------


@req("5.1-19", "5.1-18")
@pytest.mark.parametrize("length", [MAX_PLAINTEXT + 1, 2**16 - 1])
def test_long_plaintext(client: ScriptedClient, length: int) -> None:
    """An unprotected record of more than 2^14 octets is refused."""
    record = client.wire.plaintext_record(
        ContentType.handshake, b"\1\0\xff\xfc" + bytes(length - 4)
    )
    client.wire.send_raw(record, f"unprotected record of {length} octets")
    client.expect_alert(A.record_overflow)


@req("5.1-19", "5.1-18")
def test_long_client_hello(client: ScriptedClient) -> None:
    """A ClientHello is refused in a record of more than 2^14 octets, whatever it says."""
    client.wire.hold()
    client.hello()
    client.wire.send_records(ContentType.handshake, bytes(MAX_PLAINTEXT), "zeros")
    client.wire.release(MAX_PLAINTEXT + 1)
    client.expect_alert(A.record_overflow)


# -- as sent ---------------------------------------------------------------------------------------


@req("5.1-15", "5.1-21", "E.5-10", "5-4", "5.1-18", "5.2-1", "5.1-22", "4.5.3-4", "5.3-1", "5.4-2")
def test_records_sent(client: ScriptedClient, features: ServerFeatures) -> None:
    """The server's records have version 0x0303, a type that is defined, and no more than they may;
    each is under the keys of its epoch, from number 0."""
    client.handshake()
    server_lives(client, features)
    for raw in client.wire.received:
        kind, length = raw.content_type, len(raw.body)
        check(raw.version == 0x0303, "version 0x0303", f"{raw.version:#06x}", "5.1-15")
        check(20 <= raw.header[0] <= 23, "a type from 20 to 23", raw.header[0], "5-4")
        protected = kind is ContentType.application_data
        most, rule = (MAX_PLAINTEXT + 256, "5.2-1") if protected else (MAX_PLAINTEXT, "5.1-18")
        check(length <= most, f"at most {most} octets", length, rule)


@req("5.1-8", "5.1-9", "5.1-3", "5.1-4", "5.1-5", "5.4-3")
def test_flight_sent(client: ScriptedClient) -> None:
    """The server's messages end where its keys change, are not empty, nor mixed with others."""
    client.hello()
    client.read_server_hello()
    client.read_encrypted_extensions()
    client.read_authentication()
    client.read_finished()
    client.authenticate().finish()
    client.expect_quiet()
    if not client.assembler.is_empty:
        raise NonConformance("whole messages", "a part of one", "5.1-4")


@req("5.1-21", "5.1-15")
@needs("retry")
def test_retry_sent(client: ScriptedClient) -> None:
    """HelloRetryRequest and ServerHello are in records of version 0x0303."""
    client.hello(shares=()).hello_again().read_server_hello()
    versions = {raw.version for raw in client.wire.received}
    check(versions == {0x0303}, "version 0x0303 alone", ", ".join(f"{v:#06x}" for v in versions))


# -- legacy_record_version -------------------------------------------------------------------------


@req("5.1-17", "E-1", "E.2-4", "5.1-16")
@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302, 0x0303, 0x0304], ids=hex)
def test_record_version(client: ScriptedClient, features: ServerFeatures, version: int) -> None:
    """The record version of a ClientHello is passed over."""
    client.wire.version = version  # type: ignore[assignment]
    client.hello().complete()
    server_lives(client, features)


@req("5.1-17", "E-1")
@pytest.mark.parametrize("version", [0x03FF, 0x0400, 0xFFFF], ids=hex)
def test_unknown_record_version(
    client: ScriptedClient, features: ServerFeatures, version: int
) -> None:
    """The record version of a ClientHello is passed over though no TLS has it."""
    client.wire.version = version  # type: ignore[assignment]
    client.hello().complete()
    server_lives(client, features)


@req("5.1-17", "E-1")
@needs("retry")
@pytest.mark.parametrize("version", [0x0301, 0x0304], ids=hex)
def test_record_version_of_the_second_hello(
    client: ScriptedClient, features: ServerFeatures, version: int
) -> None:
    """The record version of a second ClientHello is passed over."""
    client.hello(shares=()).read_retry()
    client.wire.version = version  # type: ignore[assignment]
    client.hello_again().complete()
    server_lives(client, features)
