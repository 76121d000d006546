"""The table of violations against the text of the RFC, and what the exceptions say."""

from __future__ import annotations

import re

import pytest

from tests import rfc
from tpmtls import violations
from tpmtls.codepoints import AlertDescription
from tpmtls.violations import (
    BackendError,
    CertificateError,
    ConfigurationError,
    HandshakeTimeoutError,
    PeerAlert,
    PeerViolation,
    TlsError,
    TpmError,
    Violation,
)

ID = re.compile(r"(?:\d+|[A-Z])(?:\.\d+)*-\d+")
OTHER_ALERT = {
    # the sentence names the alternative; the one before it, ours
    Violation.NO_PSK_NOR_CERTIFICATE,
}


def test_no_violation_is_an_alias_of_another() -> None:
    assert {name: member.name for name, member in Violation.__members__.items()} == {
        name: name for name in Violation.__members__
    }
    assert len({violation.summary for violation in Violation}) == len(Violation)


def test_every_violation_is_complete() -> None:
    for violation in Violation:
        assert isinstance(violation.alert, AlertDescription), violation
        assert ID.fullmatch(violation.requirement), violation
        assert violation.value == violation.summary
        assert violation.summary, violation


@pytest.mark.req("6-6")
def test_every_alert_is_an_error_alert() -> None:
    closures = {AlertDescription.close_notify, AlertDescription.user_canceled}
    ours = {AlertDescription.internal_error}
    assert not {violation.alert for violation in Violation} & (closures | ours)


@pytest.mark.parametrize("violation", Violation, ids=lambda violation: violation.name)
def test_a_violation_answers_with_the_alert_of_its_requirement(violation: Violation) -> None:
    statement = rfc.statements()[violation.requirement]
    quoted = re.findall(r'"([a-z_ ]+)"', statement.sentence)  # a space where a line was broken
    named = {word.replace(" ", "") for word in quoted} & set(AlertDescription.__members__)
    if named and violation not in OTHER_ALERT:
        assert violation.alert.name in named, statement


def test_a_peer_violation_says_what_where_and_which_rule() -> None:
    error = PeerViolation(Violation.DUPLICATE_EXTENSION, "key_share")
    assert isinstance(error, TlsError)
    assert error.alert is AlertDescription.illegal_parameter
    assert error.requirement == Violation.DUPLICATE_EXTENSION.requirement == "4.3-10"
    assert error.violation is Violation.DUPLICATE_EXTENSION
    assert str(error) == (
        "an extension type appears twice (key_share): illegal_parameter, RFC 9846 4.3-10"
    )
    assert str(PeerViolation(Violation.TRUNCATED)) == (
        "a field ends before its length is reached: decode_error, RFC 9846 6-9"
    )


@pytest.mark.req("6-8")
def test_a_peer_alert_names_the_alert_even_if_it_is_unknown() -> None:
    assert "handshake_failure" in str(PeerAlert(AlertDescription.handshake_failure))
    unknown = PeerAlert(AlertDescription(200))
    assert unknown.description == 200
    assert unknown.alert is None, "an alert is not answered by an alert"
    assert "unknown_0x00c8" in str(unknown)


@pytest.mark.req("6.2-9")
def test_a_certificate_error_says_which_check_failed() -> None:
    error = CertificateError("validity", "expired yesterday", AlertDescription.certificate_expired)
    assert (error.check, error.alert) == ("validity", AlertDescription.certificate_expired)
    assert str(error) == "certificate not accepted, validity: expired yesterday"


def test_the_family_of_errors() -> None:
    errors = {
        found
        for found in vars(violations).values()
        if isinstance(found, type) and issubclass(found, Exception)
    }
    assert all(issubclass(found, TlsError) for found in errors)
    assert issubclass(ConfigurationError, ValueError)
    assert issubclass(HandshakeTimeoutError, TimeoutError)
    assert {found for found in errors if found.__name__.startswith("Tpm")} == {
        TpmError,
        *(each for each in TpmError.__subclasses__() if each.__module__ == violations.__name__),
    }
    assert TlsError.alert is None
    assert BackendError.alert is TpmError.alert is AlertDescription.internal_error
