"""§5: record types that a client does not know or expect, and change_cipher_spec."""

from __future__ import annotations

import pytest

from tlsconform.features import ClientFeatures
from tlsconform.marks import needs, req
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.plugin import Serve
from tlsconform.suite.helpers import MESSAGE, check, client_lives, resume
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import AlertDescription, ContentType
from tpmtls.wire.extensions import KeyShareHelloRetryRequest

A = AlertDescription

ONCE_PROTECTED = (1, 19, 24, 25, 99, 255)
"""Not 0: that would be padding."""
BAD_CONTENTS = (b"", b"\x00", b"\x02", b"\xff", b"\x01\x01", bytes(100))
UNKNOWN_TYPES = (0, 1, 19, 24, 25, 99)
"""None of 128 and above: a header of SSL 2.0 begins so."""
unknown = pytest.mark.parametrize("content_type", UNKNOWN_TYPES)
once_protected = pytest.mark.parametrize("content_type", ONCE_PROTECTED)
bad_contents = pytest.mark.parametrize("content", BAD_CONTENTS, ids=lambda c: c[:4].hex() or "none")


def send_plaintext(server: ScriptedServer, content_type: int, content: bytes) -> None:
    """One record without protection, whatever keys there are."""
    octets = server.wire.plaintext_record(content_type, content)
    server.wire.send_raw(octets, f"unprotected record of type {content_type}")


@req("5-5")
@unknown
def test_unknown_type_first(server: ScriptedServer, content_type: int) -> None:
    """A record of an unknown type in the place of a ServerHello is refused."""
    send_plaintext(server.accept(), content_type, b"\x01\x00")
    server.expect_alert(A.unexpected_message)


@req("5-5")
@once_protected
def test_unknown_type_before_finished(server: ScriptedServer, content_type: int) -> None:
    """A protected record of an unknown type in the handshake is refused."""
    server.accept().hello()
    server.wire.send_records(content_type, b"\x01\x00", f"type {content_type}")
    server.expect_alert(A.unexpected_message)


@req("5-5")
@once_protected
def test_unknown_type_afterwards(server: ScriptedServer, content_type: int) -> None:
    """A protected record of an unknown type after the handshake is refused."""
    server.handshake()
    server.wire.send_records(content_type, b"\x01\x00", f"type {content_type}")
    server.expect_alert(A.unexpected_message)


@req("5-5")
@unknown
def test_unknown_outer_type(server: ScriptedServer, content_type: int) -> None:
    """An unprotected record of an unknown type is refused where records are protected."""
    send_plaintext(server.handshake(), content_type, b"\x01\x00")
    # nor can it be deprotected: both rules apply
    server.expect_alert(A.unexpected_message, A.bad_record_mac)


@req("5-5")
def test_unprotected_encrypted_extensions(server: ScriptedServer) -> None:
    """EncryptedExtensions without protection are refused, though nothing else be wrong."""
    server.accept().hello()
    server.wire.rekey(None)
    server.encrypted_extensions()
    server.expect_alert(A.unexpected_message, A.bad_record_mac)


@req("5-5", "5.1-22")
def test_unprotected_data(server: ScriptedServer) -> None:
    """An unprotected record that claims to be application data cannot be deprotected."""
    send_plaintext(server.handshake(), ContentType.application_data, bytes(60))
    server.expect_alert(A.bad_record_mac, A.unexpected_message)


@req("5-5")
@pytest.mark.parametrize(
    ("content_type", "content"),
    [(ContentType.handshake, b"\x18\0\0\1\0"), (ContentType.alert, b"\1\0")],
    ids=["key_update", "close_notify"],
)
def test_unprotected_afterwards(
    server: ScriptedServer, content_type: ContentType, content: bytes
) -> None:
    """Neither a KeyUpdate nor close_notify is taken without protection once there are keys."""
    send_plaintext(server.handshake(), content_type, content)
    server.expect_alert(A.unexpected_message, A.bad_record_mac)


@req("5-5", "5.1-22")
def test_data_first(server: ScriptedServer) -> None:
    """Application data in the place of a ServerHello is refused."""
    send_plaintext(server.accept(), ContentType.application_data, MESSAGE)
    server.expect_alert(A.unexpected_message)


@req("5-5")
@pytest.mark.parametrize("point", ["encrypted_extensions", "certificate", "finished"])
def test_data_before_finished(server: ScriptedServer, point: str) -> None:
    """Application data under the handshake keys is refused, wherever it comes."""
    server.accept().hello()
    if point != "encrypted_extensions":
        server.encrypted_extensions()
    if point == "finished":
        server.authenticate()
    server.send_data(MESSAGE)
    server.expect_alert(A.unexpected_message)


@req("5.2-3", "4.5.3-1")
def test_data_instead_of_finished(server: ScriptedServer) -> None:
    """Data under the application keys, without a Finished before, is not taken."""
    server.accept().hello().encrypted_extensions().authenticate().start_application()
    server.send_data(MESSAGE)
    server.expect_alert(A.bad_record_mac)


@req("4.5.3-3")
def test_data_right_after_finished(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures
) -> None:
    """Data that a server sends before it has the client's Finished is taken."""
    server.accept().flight()
    server.send_data(MESSAGE)
    server.complete()
    client_lives(server, target, features.sends_data)


# -- change_cipher_spec ----------------------------------------------------------------------------


@req("5-1")
@pytest.mark.parametrize("count", [1, 3])
def test_change_cipher_spec(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures, count: int
) -> None:
    """change_cipher_spec after the ServerHello is dropped, and so is another."""
    server.accept().hello()
    for _ in range(count):
        server.send_change_cipher_spec()
    server.encrypted_extensions().authenticate().finish().complete()
    client_lives(server, target, features.sends_data)


@req("5-1")
@pytest.mark.parametrize("point", ["server_hello", "certificate", "finished"])
def test_change_cipher_spec_anywhere(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures, point: str
) -> None:
    """change_cipher_spec is dropped wherever it comes after the ClientHello and before Finished."""
    server.accept()
    if point == "server_hello":
        server.send_change_cipher_spec()
    server.hello().encrypted_extensions()
    if point == "certificate":
        server.send_change_cipher_spec()
    server.authenticate()
    if point == "finished":
        server.send_change_cipher_spec()
    server.finish().complete()
    client_lives(server, target, features.sends_data)


@req("5-1")
@needs("retry")
def test_change_cipher_spec_after_retry(
    server: ScriptedServer, target: ClientTarget, features: ClientFeatures
) -> None:
    """change_cipher_spec between HelloRetryRequest and ServerHello is dropped."""
    group = server.accept().retry_group()
    assert group is not None
    server.say_retry(KeyShareHelloRetryRequest(group))
    server.send_change_cipher_spec()
    server.accept_again().flight().complete()
    client_lives(server, target, features.sends_data)


@req("5-1")
@needs("resumption")
def test_change_cipher_spec_in_a_resumption(
    serve: Serve, target: ClientTarget, features: ClientFeatures
) -> None:
    """change_cipher_spec is dropped where a PSK is used, too."""
    server, psk = resume(serve, target)
    server.hello(psk=psk)
    server.send_change_cipher_spec()
    server.encrypted_extensions().authenticate().finish().complete()
    client_lives(server, target, features.sends_data)


@req("5-2")
@bad_contents
def test_bad_change_cipher_spec(server: ScriptedServer, content: bytes) -> None:
    """change_cipher_spec of another content than one octet 1 is refused."""
    server.accept().hello().send_change_cipher_spec(content)
    server.expect_alert(A.unexpected_message)


@req("5-2")
@pytest.mark.parametrize("content", [b"\x00", b"\x01\x01"], ids=["00", "0101"])
def test_bad_change_cipher_spec_first(
    server: ScriptedServer, features: ClientFeatures, content: bytes
) -> None:
    """change_cipher_spec of another content is refused before the ServerHello."""
    server.accept().send_change_cipher_spec(content)
    if features.tls12:  # TLS 1.2, of which it could be, does not say which alert
        server.expect_abort()
    else:
        server.expect_alert(A.unexpected_message)


@req("5-2", "5-5")
@pytest.mark.parametrize("point", ["encrypted_extensions", "afterwards"])
def test_protected_change_cipher_spec(server: ScriptedServer, point: str) -> None:
    """A protected change_cipher_spec is refused, in the handshake and after it."""
    server.accept().hello()
    if point == "afterwards":
        server.encrypted_extensions().authenticate().finish().complete()
    server.wire.send_records(ContentType.change_cipher_spec, b"\x01", "change_cipher_spec")
    server.expect_alert(A.unexpected_message)


@req("5-3", "5-5")
def test_late_change_cipher_spec(server: ScriptedServer) -> None:
    """change_cipher_spec after the server's Finished is refused."""
    server.handshake().send_change_cipher_spec()
    server.expect_alert(A.unexpected_message)


# -- as sent ---------------------------------------------------------------------------------------


@req("5-1", "5-2", "5-3")
def test_change_cipher_spec_sent(server: ScriptedServer) -> None:
    """A client's change_cipher_spec is one octet 1, unprotected, and comes before its Finished."""
    server.handshake().expect_quiet()
    kinds = [raw.content_type for raw in server.wire.received]
    bodies = [r.body for r in server.wire.received if r.content_type == 20]
    if not bodies:
        raise NotApplicable("the client sends none")
    check(set(bodies) == {b"\1"}, "one octet 1", bodies[0].hex(), "5-2")
    late = [k for k in kinds[kinds.index(ContentType.application_data) :] if k == 20]
    check(not late, "none after protected records", f"{len(late)}", "5-3")


@req("5-1")
@needs("compatibility")
def test_compatibility_mode(server: ScriptedServer) -> None:
    """A client with a legacy_session_id sends change_cipher_spec before its second flight."""
    server.handshake()
    kinds = [raw.content_type for raw in server.wire.received]
    first = kinds.index(ContentType.application_data)
    check(ContentType.change_cipher_spec in kinds[:first], "change_cipher_spec", "none")
