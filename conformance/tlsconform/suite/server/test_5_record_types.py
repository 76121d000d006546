"""§5: record types that a server does not know or expect, and change_cipher_spec."""

from __future__ import annotations

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import server_lives
from tlsconform.suite.server.helpers import send_early
from tpmtls.codepoints import AlertDescription, ContentType, ProtocolVersion

A = AlertDescription

UNKNOWN_TYPES = (0, 19, 24, 25, 99)
"""None of 128 and above: a header of SSL 2.0 begins so."""
ONCE_PROTECTED = (1, 19, 24, 25, 99, 255)
"""Not 0: that would be padding."""
BAD_CONTENTS = (b"", b"\x00", b"\x02", b"\xff", b"\x01\x01", bytes(100))
unknown = pytest.mark.parametrize("content_type", UNKNOWN_TYPES)
once_protected = pytest.mark.parametrize("content_type", ONCE_PROTECTED)
bad_contents = pytest.mark.parametrize("content", BAD_CONTENTS, ids=lambda c: c[:4].hex() or "none")


def send_plaintext(client: ScriptedClient, content_type: int, content: bytes) -> None:
    """One record without protection, whatever keys there are; none that looks like SSL 2.0."""
    client.wire.version = ProtocolVersion.TLS_1_2
    octets = client.wire.plaintext_record(content_type, content)
    client.wire.send_raw(octets, f"unprotected record of type {content_type}")


@req("5-5")
@unknown
def test_unknown_type_first(client: ScriptedClient, content_type: int) -> None:
    """A record of an unknown type in the place of a ClientHello is refused."""
    send_plaintext(client, content_type, b"\x01\x00")
    client.expect_alert(A.unexpected_message)


@req("5-5")
@once_protected
def test_unknown_type_before_finished(client: ScriptedClient, content_type: int) -> None:
    """A protected record of an unknown type in the handshake is refused."""
    client.hello().read_flight()
    client.wire.send_records(content_type, b"\x01\x00", f"type {content_type}")
    client.expect_alert(A.unexpected_message)


@req("5-5")
@once_protected
def test_unknown_type_afterwards(client: ScriptedClient, content_type: int) -> None:
    """A protected record of an unknown type after the handshake is refused."""
    client.handshake()
    client.wire.send_records(content_type, b"\x01\x00", f"type {content_type}")
    client.expect_alert(A.unexpected_message)


@req("5-5")
@unknown
def test_unknown_outer_type(client: ScriptedClient, content_type: int) -> None:
    """An unprotected record of an unknown type is refused where records are protected."""
    client.handshake()
    send_plaintext(client, content_type, b"\x01\x00")
    # nor can it be deprotected: both rules apply
    client.expect_alert(A.unexpected_message, A.bad_record_mac)


@req("5-5", "4.5.3-4")
def test_unprotected_finished(client: ScriptedClient) -> None:
    """A handshake message without protection is refused once there are keys."""
    client.hello().read_flight()
    client.wire.rekey(None)
    client.say_finished_under(client.client_secret)
    client.expect_alert(A.unexpected_message, A.bad_record_mac)


@req("5-5", "5.1-22")
def test_unprotected_data(client: ScriptedClient) -> None:
    """An unprotected record that claims to be application data cannot be deprotected."""
    client.handshake()
    send_plaintext(client, ContentType.application_data, b"GET / HTTP/1.0\r\n\r\n" + bytes(40))
    client.expect_alert(A.bad_record_mac, A.unexpected_message)


@req("5-5")
def test_unprotected_handshake_afterwards(client: ScriptedClient) -> None:
    """A KeyUpdate without protection is refused."""
    client.handshake()
    send_plaintext(client, ContentType.handshake, b"\x18\0\0\1\0")
    client.expect_alert(A.unexpected_message, A.bad_record_mac)


@req("5-5")
def test_unprotected_alert_afterwards(client: ScriptedClient) -> None:
    """An unprotected close_notify does not close a protected connection: it is refused."""
    client.handshake()
    send_plaintext(client, ContentType.alert, b"\1\0")
    client.expect_alert(A.unexpected_message, A.bad_record_mac)


@req("5-5", "5.1-22")
def test_data_first(client: ScriptedClient) -> None:
    """Application data before any ClientHello is refused."""
    send_plaintext(client, ContentType.application_data, b"GET / HTTP/1.0\r\n\r\n")
    client.expect_alert(A.unexpected_message)


@req("5-5")
def test_data_before_finished(client: ScriptedClient) -> None:
    """Application data under the handshake keys is refused."""
    client.hello().read_flight()
    client.send_data(b"GET / HTTP/1.0\r\n\r\n")
    client.expect_alert(A.unexpected_message)


@req("5.2-3", "4.5.3-1")
def test_data_instead_of_finished(client: ScriptedClient) -> None:
    """Application data under the application keys, without a Finished before, is not taken."""
    client.hello().read_flight()
    client.start_application()
    client.send_data(b"GET / HTTP/1.0\r\n\r\n")
    client.expect_alert(A.bad_record_mac)


@req("5-5")
@needs("retry")
def test_data_after_retry(client: ScriptedClient) -> None:
    """Application data after a HelloRetryRequest, no early data offered, is refused."""
    client.hello(shares=()).read_retry()
    send_plaintext(client, ContentType.application_data, b"GET / HTTP/1.0\r\n\r\n")
    client.expect_alert(A.unexpected_message, A.bad_record_mac)


# -- change_cipher_spec ----------------------------------------------------------------------------


@req("5-1")
@pytest.mark.parametrize("count", [1, 3])
def test_change_cipher_spec(client: ScriptedClient, features: ServerFeatures, count: int) -> None:
    """change_cipher_spec after the ClientHello is dropped, and so is another."""
    client.hello()
    for _ in range(count):
        client.send_change_cipher_spec()
    client.complete()
    server_lives(client, features)


@req("5-1")
def test_change_cipher_spec_before_finished(
    client: ScriptedClient, features: ServerFeatures
) -> None:
    """change_cipher_spec between the server's flight and the client's is dropped."""
    client.hello().read_flight()
    client.send_change_cipher_spec()
    client.authenticate()
    client.send_change_cipher_spec()
    client.finish()
    server_lives(client, features)


@req("5-1")
@needs("retry")
def test_change_cipher_spec_after_retry(client: ScriptedClient, features: ServerFeatures) -> None:
    """change_cipher_spec before the second ClientHello is dropped."""
    client.hello(shares=()).read_retry()
    client.send_change_cipher_spec()
    client.hello_again().complete()
    server_lives(client, features)


@req("5-1")
def test_change_cipher_spec_without_session_id(
    client: ScriptedClient, features: ServerFeatures
) -> None:
    """change_cipher_spec is dropped without middlebox compatibility mode, too."""
    client.hello(session_id=b"")
    client.send_change_cipher_spec()
    client.complete()
    server_lives(client, features)


@req("5-1")
@needs("early_data")
def test_change_cipher_spec_before_early_data_ends(
    connect: Connect, features: ServerFeatures
) -> None:
    """change_cipher_spec among early data is dropped."""
    client = send_early(connect, data=b"early")
    client.send_change_cipher_spec()
    client.end_early_data().finish()
    server_lives(client, features)


@req("5-2")
@bad_contents
def test_bad_change_cipher_spec(client: ScriptedClient, content: bytes) -> None:
    """change_cipher_spec of another content than one octet 1 is refused."""
    client.hello().read_flight()
    client.send_change_cipher_spec(content)
    # §6.2's decode_error has its point where the length is wrong
    client.expect_alert(A.unexpected_message, *([A.decode_error] if len(content) != 1 else []))


@req("5-2")
@needs("retry")
@pytest.mark.parametrize("content", [b"\x00", b"\x01\x01"], ids=["00", "0101"])
def test_bad_change_cipher_spec_after_retry(client: ScriptedClient, content: bytes) -> None:
    """change_cipher_spec of another content is refused before the second ClientHello."""
    client.hello(shares=()).read_retry()
    client.send_change_cipher_spec(content)
    # §6.2's decode_error has its point where the length is wrong
    client.expect_alert(A.unexpected_message, *([A.decode_error] if len(content) != 1 else []))


@req("5-2")
def test_protected_change_cipher_spec(client: ScriptedClient) -> None:
    """A protected change_cipher_spec is refused before Finished."""
    client.hello().read_flight()
    client.wire.send_records(ContentType.change_cipher_spec, b"\x01", "change_cipher_spec")
    client.expect_alert(A.unexpected_message)


@req("5-2", "5-5")
def test_protected_change_cipher_spec_afterwards(client: ScriptedClient) -> None:
    """A protected change_cipher_spec is refused after the handshake."""
    client.handshake()
    client.wire.send_records(ContentType.change_cipher_spec, b"\x01", "change_cipher_spec")
    client.expect_alert(A.unexpected_message)


@req("5-3", "5-5")
def test_late_change_cipher_spec(client: ScriptedClient) -> None:
    """change_cipher_spec after the client's Finished is refused."""
    client.handshake()
    client.send_change_cipher_spec()
    client.expect_alert(A.unexpected_message)


@req("5-3")
def test_early_change_cipher_spec(client: ScriptedClient) -> None:
    """change_cipher_spec before the ClientHello, if it is refused, is so with unexpected_message.

    A stateless server may be unable to tell it from one after a HelloRetryRequest.
    """
    client.send_change_cipher_spec()
    client.hello()
    record = client.next_record()
    if record is None or record.content_type is not ContentType.alert:
        raise NotApplicable("the server drops it, as stateless servers may")
    description = AlertDescription(record.fragment[1])
    if description is not A.unexpected_message:
        raise NonConformance("alert unexpected_message", f"alert {description.name}")
