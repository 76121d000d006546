"""§6: alerts that a server gets and sends, and how it closes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tlsconform.channel import Silence
from tlsconform.features import REQUEST
from tlsconform.marks import needs, req
from tlsconform.mutate import append, flip, set_field
from tlsconform.outcome import Deviation, NonConformance
from tlsconform.peer import ScriptedClient
from tlsconform.peer.wire import parse_alert
from tlsconform.suite.codes import RESERVED_ALERTS
from tlsconform.suite.helpers import check, expect_close_notify, expect_closed, goes_on_reading
from tpmtls.codepoints import AlertDescription, AlertLevel, ContentType, KeyUpdateRequest
from tpmtls.wire.extensions import Extensions
from tpmtls.wire.messages import EncryptedExtensions, KeyUpdate

A = AlertDescription
ERRORS = [alert for alert in A if alert not in (A.close_notify, A.user_canceled)]
SOME_ERRORS = (A.unexpected_message, A.handshake_failure, A.internal_error, A.certificate_required)
LEVELS = [AlertLevel.warning, AlertLevel.fatal, AlertLevel(0), AlertLevel(3), AlertLevel(255)]
UNKNOWN = (1, 41, 60, 99, 111, 200, 255)
"""41 is of SSL 3.0, 60 was of TLS 1.0: neither is an alert of TLS 1.3."""
levels = pytest.mark.parametrize("level", LEVELS[:2], ids=["warning", "fatal"])


def expect_end_of_service(client: ScriptedClient) -> None:
    """The server takes no more data, sends none, and closes."""
    client.send_data(REQUEST)
    expect_closed(client)


# -- alerts received -------------------------------------------------------------------------------


@req("6-3", "6.2-1", "6-2", "6-4")
@pytest.mark.parametrize("alert", ERRORS, ids=lambda a: a.name)
def test_error_alert(client: ScriptedClient, alert: AlertDescription) -> None:
    """Each error alert ends the connection: nothing is sent or taken after it."""
    client.handshake()
    client.send_alert(alert)
    expect_end_of_service(client)


@req("6-7", "6-3")
@pytest.mark.parametrize("alert", SOME_ERRORS, ids=lambda a: a.name)
@pytest.mark.parametrize("level", LEVELS, ids=int)
def test_error_alert_of_any_level(
    client: ScriptedClient, alert: AlertDescription, level: AlertLevel
) -> None:
    """An error alert ends the connection whatever its level: warning, fatal, or unknown."""
    client.handshake()
    client.send_alert(alert, level)
    expect_end_of_service(client)


@req("6-8", "6-3")
@levels
@pytest.mark.parametrize("description", UNKNOWN)
def test_unknown_alert(client: ScriptedClient, description: int, level: AlertLevel) -> None:
    """An alert that is unknown ends the connection, whatever its level."""
    client.handshake()
    client.send_alert(description, level)
    expect_end_of_service(client)


@req("6-7", "6-3", "6.2-1")
@levels
@pytest.mark.parametrize("alert", SOME_ERRORS, ids=lambda a: a.name)
def test_error_alert_in_the_handshake(
    client: ScriptedClient, alert: AlertDescription, level: AlertLevel
) -> None:
    """An error alert instead of the client's Finished ends the handshake."""
    client.hello().read_flight()
    client.send_alert(alert, level)
    client.authenticate().finish()
    expect_closed(client)


@req("6-7", "A.1-1", "6.2-1")
@levels
def test_unprotected_error_alert(client: ScriptedClient, level: AlertLevel) -> None:
    """An unprotected alert in answer to the server's flight ends the handshake: A.1 allows it."""
    client.hello().read_flight()
    client.wire.rekey(None)
    client.send_alert(A.handshake_failure, level)
    expect_closed(client)


@req("6-8", "6-7")
@levels
def test_unknown_alert_in_the_handshake(client: ScriptedClient, level: AlertLevel) -> None:
    """An alert that is unknown ends the handshake, whatever its level."""
    client.hello().read_flight()
    client.send_alert(200, level)
    client.authenticate().finish()
    expect_closed(client)


@req("6-7", "6.2-1")
@levels
def test_alert_first(client: ScriptedClient, level: AlertLevel) -> None:
    """An error alert instead of a ClientHello ends the connection."""
    client.send_alert(A.internal_error, level)
    client.hello()
    expect_closed(client)


@req("5.1-12", "6-9")
@pytest.mark.parametrize(
    "content",
    [b"\1", b"\2", b"\1\x5a\1", b"\1\x5a\1\x5a", b"\1\x5a" * 50],
    ids=["half", "half-fatal", "one-and-a-half", "two", "fifty"],
)
def test_not_one_alert(client: ScriptedClient, content: bytes) -> None:
    """An alert record that does not hold exactly one alert is refused."""
    client.handshake()
    client.wire.send_records(ContentType.alert, content, f"{len(content)} octets of alerts")
    client.expect_abort()


@req("5.1-12", "6-9")
@pytest.mark.parametrize("content", [b"\1", b"\1\x5a\1\x5a"], ids=["half", "two"])
def test_not_one_alert_in_the_handshake(client: ScriptedClient, content: bytes) -> None:
    """An alert record that does not hold exactly one alert is refused before Finished."""
    client.hello().read_flight()
    client.wire.send_records(ContentType.alert, content, f"{len(content)} octets of alerts")
    client.expect_abort()


# -- closure ---------------------------------------------------------------------------------------


@req("6.1-7", "6.1-2", "5.1-10", "5.1-11")
def test_close_notify(client: ScriptedClient) -> None:
    """If the server closes after the client's close_notify, it says close_notify first, as a
    warning."""
    client.handshake()
    client.send_alert(A.close_notify)
    expect_close_notify(client)


@req("6.1-7", "6.1-2")
@needs("responds")
def test_close_notify_after_data(client: ScriptedClient) -> None:
    """The same, after data went both ways."""
    client.handshake()
    client.send_data(REQUEST)
    client.receive_data()
    client.send_alert(A.close_notify)
    expect_close_notify(client)


AFTERWARDS: dict[str, Callable[[ScriptedClient], object]] = {
    "data": lambda client: client.send_data(REQUEST),
    "nonsense": lambda client: client.wire.send_raw(b"\x17\3\3\0\x20" + bytes(32), "nonsense"),
    "an unknown type": lambda client: client.wire.send_raw(b"\x63\3\3\0\1\0", "type 99"),
    "a handshake message": lambda client: client.say_octets(b"\x0f\0\0\0"),
    "a bad KeyUpdate": lambda client: client.update_keys(7),
    "an alert": lambda client: client.send_alert(A.internal_error),
}


@req("6.1-1")
@pytest.mark.parametrize("what", AFTERWARDS.values(), ids=[n.replace(" ", "-") for n in AFTERWARDS])
def test_after_close_notify(client: ScriptedClient, what: Callable[[ScriptedClient], None]) -> None:
    """Whatever comes after the client's close_notify is passed over, and not answered."""
    client.handshake()
    client.expect_quiet()
    client.send_alert(A.close_notify)
    what(client)
    while True:
        try:
            record = client.next_record(0.3)
        except Silence:
            return
        if record is None:
            return
        if record.content_type is ContentType.alert:
            alert = parse_alert(record).description
            check(alert == A.close_notify, "no error alert", f"alert {alert.name}")
        elif record.content_type is ContentType.application_data and record.fragment:
            raise NonConformance("no answer", f"{len(record.fragment)} octets of data")


@req("6.1-4", "6.1-5")
@levels
def test_user_canceled(client: ScriptedClient, level: AlertLevel) -> None:
    """After user_canceled, the server goes on reading until close_notify."""
    client.handshake()
    client.send_alert(A.user_canceled, level)
    goes_on_reading(client, REQUEST)


@req("6.1-4", "6.1-3", "6.1-7")
def test_user_canceled_in_the_handshake(client: ScriptedClient) -> None:
    """user_canceled and close_notify instead of the client's Finished: no error alert answers."""
    client.hello().read_flight()
    client.send_alert(A.user_canceled)
    client.send_alert(A.close_notify)
    while True:
        try:
            record = client.next_record()
        except Silence:
            return
        if record is None:
            return
        if record.content_type is ContentType.alert and parse_alert(record).level == 2:
            raise Deviation("no error alert", parse_alert(record).description.name, "6.1-4")


# -- alerts sent -----------------------------------------------------------------------------------


def bad_finished(client: ScriptedClient) -> None:
    client.hello().read_flight().authenticate()
    client.finish(flip("finished.verify_data"))


def bad_order(client: ScriptedClient) -> None:
    client.hello().read_flight()
    client.say(EncryptedExtensions(Extensions()))


def bad_hello(client: ScriptedClient) -> None:
    client.hello(set_field("client_hello.legacy_compression_methods", b"\1"))


def bad_syntax(client: ScriptedClient) -> None:
    client.hello(append("client_hello", b"\0"))


def bad_key_update(client: ScriptedClient) -> None:
    client.handshake()
    client.say(KeyUpdate(KeyUpdateRequest(9)))


def bad_record(client: ScriptedClient) -> None:
    client.handshake()
    client.wire.send_raw(b"\x17\3\3\0\x20" + bytes(32), "a record under no key")


MISTAKES = {
    "decrypt_error": bad_finished,
    "unexpected_message": bad_order,
    "illegal_parameter": bad_hello,
    "decode_error": bad_syntax,
    "illegal_parameter_later": bad_key_update,
    "bad_record_mac": bad_record,
}
mistakes = pytest.mark.parametrize("mistake", MISTAKES.values(), ids=list(MISTAKES))


@req("6-6", "6.2-5", "6.2-2", "6.2-9", "5.1-10", "5.1-11", "B-1")
@mistakes
def test_errors_are_fatal(
    client: ScriptedClient, mistake: Callable[[ScriptedClient], None]
) -> None:
    """The server tells the client of an error by one fatal alert, which is not general_error."""
    mistake(client)
    alert = client.expect_abort()
    if alert is None:
        raise Deviation("an alert", "the end of the connection", "6.2-2")
    check(alert.level == AlertLevel.fatal, "fatal", alert.level.name, "6-6")
    check(alert.description not in RESERVED_ALERTS, "no alert of old", alert.description, "B-1")
    if alert.description == A.general_error:
        raise Deviation("a more specific alert", "general_error", "6.2-9")


@req("6.2-3", "6.2-1", "6-5")
@mistakes
def test_nothing_after_an_error(
    client: ScriptedClient, mistake: Callable[[ScriptedClient], None]
) -> None:
    """After the alert the server closes, and neither sends nor takes anything more."""
    mistake(client)
    client.expect_abort()
    if client.wire.epoch:
        client.send_data(REQUEST)
    try:
        record = client.next_record()
    except Silence:
        raise NonConformance("the connection closed", "a connection still open") from None
    if record is not None:
        raise NonConformance("nothing more", record.content_type.name)
