"""§6 and §5.1: alerts that a client gets and sends, and how it closes."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tlsconform.channel import Silence
from tlsconform.marks import req
from tlsconform.mutate import append, flip, set_field
from tlsconform.outcome import Deviation, NonConformance, NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.peer.wire import parse_alert
from tlsconform.suite.codes import RESERVED_ALERTS
from tlsconform.suite.helpers import (
    MESSAGE,
    STILL_OPEN,
    check,
    expect_close_notify,
    expect_closed,
    goes_on_reading,
)
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import AlertDescription, AlertLevel, ContentType
from tpmtls.wire.messages import Alert

A = AlertDescription
ERRORS = [alert for alert in A if alert not in (A.close_notify, A.user_canceled)]
levels = pytest.mark.parametrize(
    "level", [AlertLevel.warning, AlertLevel.fatal], ids=["warning", "fatal"]
)


def expect_end_of_service(server: ScriptedServer, target: ClientTarget) -> None:
    """The client closes: by itself, or once it is told to say more, which it does not say.

    It is told so only then, since what it says at once may cross the alert.
    """
    try:
        expect_closed(server)
    except NonConformance as finding:
        if finding.got != STILL_OPEN:
            raise
        target.say(MESSAGE)
        expect_closed(server)


# -- alerts received -------------------------------------------------------------------------------


@req("6-3", "6.2-1")
@levels
@pytest.mark.parametrize("alert", ERRORS, ids=lambda a: a.name)
def test_error_alert(
    server: ScriptedServer, target: ClientTarget, alert: AlertDescription, level: AlertLevel
) -> None:
    """Each error alert ends the connection, whatever its level."""
    server.handshake()
    server.send_alert(alert, level)
    expect_end_of_service(server, target)


@req("6-8", "6-3")
@levels
@pytest.mark.parametrize("description", [1, 41, 60, 99, 200, 255])
def test_unknown_alert(
    server: ScriptedServer, target: ClientTarget, description: int, level: AlertLevel
) -> None:
    """An alert that is unknown ends the connection, whatever its level."""
    server.handshake()
    server.send_alert(description, level)
    expect_end_of_service(server, target)


@req("6-3", "6.2-1")
@levels
def test_error_alert_in_the_handshake(server: ScriptedServer, level: AlertLevel) -> None:
    """An error alert instead of EncryptedExtensions ends the handshake."""
    server.accept().hello()
    server.send_alert(A.handshake_failure, level)
    expect_closed(server)


@req("5.1-12")
@pytest.mark.parametrize("content", [b"\1", b"\1\x5a\1", b"\1\x5a\1\x5a"], ids=len)
def test_not_one_alert(server: ScriptedServer, content: bytes) -> None:
    """An alert record that does not hold exactly one alert is refused."""
    server.handshake()
    server.wire.send_records(ContentType.alert, content, f"{len(content)} octets of alerts")
    server.expect_abort()


# -- closure ---------------------------------------------------------------------------------------


@req("6.1-7", "6.1-2", "5.1-10", "5.1-11")
def test_close_notify(server: ScriptedServer) -> None:
    """If the client closes after close_notify, it says close_notify first, as a warning."""
    server.handshake()
    server.send_alert(A.close_notify)
    expect_close_notify(server)


@req("6.1-7", "6.1-2")
def test_close_notify_at_the_end(server: ScriptedServer, target: ClientTarget) -> None:
    """A client that closes because it has nothing more to say sends close_notify first."""
    server.handshake()
    target.wind_up()
    expect_close_notify(server)


AFTERWARDS: dict[str, Callable[[ScriptedServer], object]] = {
    "data": lambda server: server.send_data(MESSAGE),
    "nonsense": lambda server: server.wire.send_raw(b"\x17\3\3\0\x20" + bytes(32), "nonsense"),
    "a-bad-KeyUpdate": lambda server: server.update_keys(7),
    "an-alert": lambda server: server.send_alert(A.internal_error),
}


@req("6.1-1")
@pytest.mark.parametrize("what", AFTERWARDS.values(), ids=list(AFTERWARDS))
def test_after_close_notify(server: ScriptedServer, what: Callable[[ScriptedServer], None]) -> None:
    """Whatever comes after the server's close_notify is passed over: no error alert answers it."""
    server.handshake()
    server.send_alert(A.close_notify)
    what(server)
    while True:
        try:
            record = server.next_record(0.3)
        except Silence:
            return
        if record is None:
            return
        if record.content_type is ContentType.alert:
            alert = parse_alert(record).description
            check(alert == A.close_notify, "no error alert", f"alert {alert.name}")


@req("6.1-1")
def test_data_after_close_notify(server: ScriptedServer, target: ClientTarget) -> None:
    """Data in the same segment as close_notify, but after it, is not handed on."""
    server.handshake()
    server.send_data(b"in time\n")
    server.expect_quiet_or_end()
    closure = Alert(AlertLevel.warning, A.close_notify).encode()
    close_notify = server.wire.record(ContentType.alert, closure)
    late = server.wire.record(ContentType.application_data, b"too late\n")
    server.wire.send_raw(close_notify + late, "close_notify and application_data")
    server.expect_quiet_or_end()
    target.wind_up()
    printed = target.output()
    if "in time" not in printed:
        raise NotApplicable("the client does not print what it is sent")
    check("too late" not in printed, "nothing after close_notify", "the data after it, printed")


@req("6.1-4")
@levels
def test_user_canceled(server: ScriptedServer, level: AlertLevel) -> None:
    """After user_canceled, the client goes on reading until close_notify."""
    server.handshake()
    server.send_alert(A.user_canceled, level)
    goes_on_reading(server, MESSAGE)


# -- alerts sent -----------------------------------------------------------------------------------


def bad_finished(server: ScriptedServer) -> None:
    server.accept().flight(flip("finished.verify_data"))


def bad_hello(server: ScriptedServer) -> None:
    server.accept().hello(set_field("server_hello.legacy_compression_method", 1))


def bad_syntax(server: ScriptedServer) -> None:
    server.edit(append("encrypted_extensions", b"\0"))
    server.accept().hello().encrypted_extensions()


def bad_order(server: ScriptedServer) -> None:
    server.accept().hello().encrypted_extensions().finish()


def bad_key_update(server: ScriptedServer) -> None:
    server.handshake()
    server.update_keys(9)


def bad_record(server: ScriptedServer) -> None:
    server.handshake()
    server.wire.send_raw(b"\x17\3\3\0\x20" + bytes(32), "a record under no key")


mistakes = pytest.mark.parametrize(
    "mistake",
    [bad_finished, bad_hello, bad_syntax, bad_order, bad_key_update, bad_record],
    ids=lambda mistake: mistake.__name__,
)


@req("6-6", "6.2-2", "6.2-9", "5.1-10", "5.1-11", "B-1")
@mistakes
def test_errors_are_fatal(
    server: ScriptedServer, mistake: Callable[[ScriptedServer], None]
) -> None:
    """The client tells the server of an error by one fatal alert, which is not general_error."""
    mistake(server)
    alert = server.expect_abort()
    if alert is None:
        raise Deviation("an alert", "the end of the connection", "6.2-2")
    check(alert.level == AlertLevel.fatal, "fatal", alert.level.name, "6-6")
    check(alert.description not in RESERVED_ALERTS, "no alert of old", alert.description, "B-1")
    if alert.description == A.general_error:
        raise Deviation("a more specific alert", "general_error", "6.2-9")


@req("6.2-3", "6.2-1")
@mistakes
def test_nothing_after_an_error(
    server: ScriptedServer, target: ClientTarget, mistake: Callable[[ScriptedServer], None]
) -> None:
    """After its alert the client closes, and sends nothing more."""
    mistake(server)
    server.expect_abort()
    target.say(MESSAGE)
    try:
        record = server.next_record()
    except Silence:
        raise NonConformance("the connection closed", "a connection still open") from None
    if record is not None:
        raise NonConformance("nothing more", record.content_type.name)
