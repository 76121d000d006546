"""§6, §4.2.3 to §4.4.2: every length of what a server says before its certificate, made to lie."""

from __future__ import annotations

from typing import Final

import pytest

from tlsconform.features import ClientFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import Edit, wrong_length
from tlsconform.peer import ScriptedServer
from tlsconform.plugin import Serve
from tlsconform.suite.helpers import flight_with, resume
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import AlertDescription
from tpmtls.wire.extensions import KeyShareHelloRetryRequest, ProtocolNameList

_ALPN: Final = "encrypted_extensions.extensions[application_layer_protocol_negotiation]"

FIELDS: Final = (
    "server_hello.legacy_session_id_echo",
    "server_hello.extensions",
    "server_hello.extensions[supported_versions]",
    "server_hello.extensions[key_share]",
    "server_hello.extensions[key_share].server_share.key_exchange",
    "hello_retry_request.legacy_session_id_echo",
    "hello_retry_request.extensions",
    "hello_retry_request.extensions[supported_versions]",
    "hello_retry_request.extensions[cookie]",
    "hello_retry_request.extensions[cookie].cookie",
    "encrypted_extensions.extensions",
    "certificate_request.certificate_request_context",
    "certificate_request.extensions",
    "certificate_request.extensions[signature_algorithms]",
    "certificate_request.extensions[signature_algorithms].supported_signature_algorithms",
)
ALPN_FIELDS: Final = (
    _ALPN,
    f"{_ALPN}.protocol_name_list",
    f"{_ALPN}.protocol_name_list[0]",
)
EMPTY: Final = (
    "encrypted_extensions.extensions",
    "certificate_request.certificate_request_context",
)
"""Fields that are empty as they are: a length of 0 is right, one less is the largest."""
OTHERWISE: Final = ("server_hello.extensions", "[supported_versions]")
"""Where what follows may be read as something else, so that its meaning is complained of too."""

OFF: Final = {"one less": -1, "one more": 1}
EXTREME: Final = {"none": 0, "the largest": (1 << 24) - 1}


def _alerts(field: str) -> tuple[AlertDescription, ...]:
    """What the length may be answered with; decode_error is what is due where nothing else is."""
    if "key_exchange" in field:
        return (AlertDescription.decode_error, AlertDescription.illegal_parameter)
    if field.endswith("[key_share]"):  # what is left over may be taken for an extension
        return (
            AlertDescription.decode_error,
            AlertDescription.illegal_parameter,
            AlertDescription.unsupported_extension,
        )
    if field.endswith("legacy_session_id_echo"):  # what follows may be taken for a cipher suite
        return (
            AlertDescription.decode_error,
            AlertDescription.illegal_parameter,
            AlertDescription.unsupported_extension,
            AlertDescription.missing_extension,
            AlertDescription.protocol_version,
            AlertDescription.handshake_failure,
        )
    if any(part in field for part in OTHERWISE) or field == "hello_retry_request.extensions":
        return (
            AlertDescription.decode_error,
            AlertDescription.illegal_parameter,
            AlertDescription.unsupported_extension,
            AlertDescription.missing_extension,
            AlertDescription.protocol_version,
        )
    return (
        AlertDescription.decode_error,
        AlertDescription.illegal_parameter,
        AlertDescription.unsupported_extension,
        AlertDescription.missing_extension,
    )


def _params(changes: dict[str, int]) -> list[tuple[str, str]]:
    return [
        (field, change)
        for field in FIELDS
        for change in changes
        if not (field in EMPTY and change == "none")
    ]


@req("6-9")
@pytest.mark.parametrize(("field", "change"), _params(OFF))
def test_off_by_one(server: ScriptedServer, field: str, change: str) -> None:
    """A length that is one less or more than what it counts is refused."""
    edit = wrong_length(field, OFF[change])
    flight_with(server.accept(), field.partition(".")[0], edit)
    server.expect_alert(*_alerts(field))


@req("6-9")
@pytest.mark.parametrize(("field", "change"), _params(EXTREME))
def test_extreme(server: ScriptedServer, field: str, change: str) -> None:
    """A length of zero, and the largest there is, are refused where something else follows."""
    edit = wrong_length(field, to=EXTREME[change])
    flight_with(server.accept(), field.partition(".")[0], edit)
    server.expect_alert(*_alerts(field))


@needs("retry")
@req("6-9")
@pytest.mark.parametrize("change", [*OFF, *EXTREME])
def test_selected_group(server: ScriptedServer, change: str) -> None:
    """A key_share of HelloRetryRequest whose length is not that of a group is refused."""
    field = "hello_retry_request.extensions[key_share]"
    group = server.accept().retry_group()
    assert group is not None
    server.say_retry(KeyShareHelloRetryRequest(group), edits=[_edit(field, change)])
    server.expect_alert(*_alerts(field))


def _edit(field: str, change: str) -> Edit:
    if change in OFF:
        return wrong_length(field, OFF[change])
    return wrong_length(field, to=EXTREME[change])


@needs("alpn")
@req("6-9")
@pytest.mark.parametrize("change", [*OFF, *EXTREME])
@pytest.mark.parametrize("field", ALPN_FIELDS)
def test_alpn(server: ScriptedServer, features: ClientFeatures, field: str, change: str) -> None:
    """A length within the ALPN extension of EncryptedExtensions that lies is refused."""
    body = ProtocolNameList((features.alpn[0].encode(),))
    server.accept().hello().encrypted_extensions(body, edits=[_edit(field, change)])
    server.expect_alert(*_alerts(field))


@needs("resumption")
@req("6-9")
@pytest.mark.parametrize("change", [*OFF, *EXTREME])
def test_selected_identity(serve: Serve, target: ClientTarget, change: str) -> None:
    """A pre_shared_key of ServerHello whose length is not that of an index is refused."""
    field = "server_hello.extensions[pre_shared_key]"
    server, psk = resume(serve, target)
    server.hello(_edit(field, change), psk=psk)
    server.expect_alert(*_alerts(field))


_MESSAGES: Final = (
    "server_hello",
    "hello_retry_request",
    "encrypted_extensions",
    "certificate_request",
)


@req("6-9")
@pytest.mark.parametrize("change", ["one less", "none"])
@pytest.mark.parametrize("message", _MESSAGES)
def test_length_of_the_message(server: ScriptedServer, message: str, change: str) -> None:
    """A message whose header counts less than its structure takes is refused."""
    flight_with(server.accept(), message, _edit(message, change))
    # what is left over in the record may be seen before the message is
    server.expect_alert(AlertDescription.decode_error, AlertDescription.unexpected_message)
