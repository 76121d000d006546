"""§4.3: extensions in what a client sends, and in what it is sent."""

from __future__ import annotations

from typing import Final

import pytest

from tlsconform.features import ClientFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import append, duplicate, insert, move
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedServer
from tlsconform.plugin import Serve
from tlsconform.suite.helpers import (
    COOKIE,
    WHERE,
    check,
    client_lives,
    flight_with,
    give_ticket,
    resume,
)
from tlsconform.targets import ClientTarget
from tpmtls.codepoints import AlertDescription, ExtensionType
from tpmtls.wire.extensions import (
    ExtensionBody,
    ProtocolNameList,
    RecordSizeLimit,
    ServerNameAcknowledgement,
    SupportedGroups,
    UnknownExtension,
)

UNKNOWN: Final = UnknownExtension(ExtensionType(0xFAF0), b"tlsconform")

BODIES: Final = {
    "server_name": "",
    "supported_groups": "0002001d",
    "signature_algorithms": "00020403",
    "signature_algorithms_cert": "00020403",
    "application_layer_protocol_negotiation": "0003026832",
    "record_size_limit": "4001",
    "supported_versions": "0304",
    "psk_key_exchange_modes": "0101",
    "post_handshake_auth": "",
    "padding": "00",
    "key_share": "001d",
}
"""Of each extension, a body that it has where it belongs."""

PLACES: Final = {
    "server_hello": (
        "server_name",
        "supported_groups",
        "signature_algorithms",
        "application_layer_protocol_negotiation",
        "psk_key_exchange_modes",
        "record_size_limit",
        "post_handshake_auth",
    ),
    "hello_retry_request": (
        "server_name",
        "supported_groups",
        "signature_algorithms",
        "application_layer_protocol_negotiation",
        "psk_key_exchange_modes",
    ),
    "encrypted_extensions": (
        "supported_versions",
        "key_share",
        "signature_algorithms",
        "signature_algorithms_cert",
        "psk_key_exchange_modes",
        "post_handshake_auth",
        "padding",
    ),
    "certificate": (
        "server_name",
        "supported_groups",
        "application_layer_protocol_negotiation",
        "key_share",
        "supported_versions",
    ),
}
"""Of each message, extensions that Table 1 does not have in it."""

_FORBIDDEN: Final = req("4.4.1-2", "4.4.1-3")
MISPLACED: Final = [
    pytest.param(message, name, marks=_FORBIDDEN if message == "encrypted_extensions" else ())
    for message, names in PLACES.items()
    for name in names
]


def body_of(name: str) -> UnknownExtension:
    """An extension as octets, whatever it is in the message that it is for."""
    return UnknownExtension(ExtensionType[name], bytes.fromhex(BODIES[name]))


# -- what the client sends -------------------------------------------------------------------------


@req("4.3-1")
def test_nothing_after_the_structures(server: ScriptedServer) -> None:
    """No extension of a ClientHello has octets after its structure."""
    server.accept()  # the codec refuses what is left over, with its requirement


@needs("resumption")
@req("4.3-9", "4.3.11-17")
@pytest.mark.parametrize("hello", ["first", "second"])
def test_pre_shared_key_is_last(serve: Serve, target: ClientTarget, hello: str) -> None:
    """pre_shared_key is the last extension of a ClientHello."""
    server, _ = resume(serve, target)
    if hello == "second":
        server.retry(COOKIE)
        if not server.identities_offered:
            raise NotApplicable("the client offers no PSK after a HelloRetryRequest")
    last = server.offer.extensions[-1].extension_type
    check(last is ExtensionType.pre_shared_key, "pre_shared_key last", last.name)


@needs("client_certificate")
@req("4.3-5")
def test_certificate_answers_nothing_unasked(serve: Serve) -> None:
    """The client's Certificate has no extension that the CertificateRequest did not ask for."""
    server = serve().accept().hello().encrypted_extensions().certificate_request()
    server.authenticate().finish().complete()
    assert server.client_certificate is not None
    for entry in server.client_certificate.certificate_list:
        kinds = [extension.extension_type.name for extension in entry.extensions]
        check(not kinds, "no extension in Certificate", ", ".join(kinds))


# -- extensions that nobody asked for --------------------------------------------------------------


@req("4.3-6")
@pytest.mark.parametrize("message", list(PLACES))
def test_unsolicited(server: ScriptedServer, message: str) -> None:
    """An extension that was not asked for is refused."""
    flight_with(server.accept(), message, insert(WHERE[message], UNKNOWN, -1))
    server.expect_alert(AlertDescription.unsupported_extension)


_ANSWERS: Final[dict[str, ExtensionBody]] = {
    "server_name": ServerNameAcknowledgement(),
    "application_layer_protocol_negotiation": ProtocolNameList((b"h2",)),
    "record_size_limit": RecordSizeLimit(2**14 + 1),
    "early_data": UnknownExtension(ExtensionType.early_data, b""),
    "heartbeat": UnknownExtension(ExtensionType(15), b"\1"),
}


@req("4.3-6")
@pytest.mark.parametrize("name", list(_ANSWERS))
def test_answer_without_question(server: ScriptedServer, name: str) -> None:
    """An extension that belongs to EncryptedExtensions is refused where it was not asked for."""
    body = _ANSWERS[name]
    server.accept()
    if body.extension_type in server.offer.extensions.types:
        raise NotApplicable(f"the client asks for {name}")
    server.hello().encrypted_extensions(body)
    server.expect_alert(AlertDescription.unsupported_extension)


@req("4.3-6")
def test_pre_shared_key_not_offered(server: ScriptedServer) -> None:
    """A ServerHello that selects a PSK of a client that offers none is refused."""
    selected = UnknownExtension(ExtensionType.pre_shared_key, b"\0\0")
    server.accept().hello(insert("server_hello.extensions", selected, -1))
    server.expect_alert(AlertDescription.unsupported_extension, AlertDescription.illegal_parameter)


# -- extensions in the wrong message ---------------------------------------------------------------


@req("4.3-7")
@pytest.mark.parametrize(("message", "name"), MISPLACED)
def test_misplaced(server: ScriptedServer, message: str, name: str) -> None:
    """An extension that was asked for is refused in a message that it is not for."""
    _check_sent(server.accept(), name)
    flight_with(server, message, insert(WHERE[message], body_of(name), -1))
    server.expect_alert(AlertDescription.illegal_parameter)


def _check_sent(server: ScriptedServer, name: str) -> None:
    if ExtensionType[name] not in server.offer.extensions.types:
        raise NotApplicable(f"the client does not send {name}")


@req("4.3-7")
@pytest.mark.parametrize("name", ["key_share", "supported_versions", "supported_groups"])
def test_misplaced_in_certificate_request(server: ScriptedServer, name: str) -> None:
    """An extension that is not for CertificateRequest is refused there."""
    flight_with(
        server.accept(),
        "certificate_request",
        insert(WHERE["certificate_request"], body_of(name), -1),
    )
    server.expect_alert(AlertDescription.illegal_parameter)


@needs("resumption")
@req("4.3-7")
def test_pre_shared_key_in_encrypted_extensions(serve: Serve, target: ClientTarget) -> None:
    """pre_shared_key is refused in EncryptedExtensions, though the client has offered a PSK."""
    server, psk = resume(serve, target)
    selected = UnknownExtension(ExtensionType.pre_shared_key, b"\0\0")
    server.hello(psk=psk).encrypted_extensions(selected)
    server.expect_alert(AlertDescription.illegal_parameter)


@req("4.3-7", "4.3-6")
@pytest.mark.parametrize("message", ["server_hello", "encrypted_extensions", "certificate"])
def test_cookie_elsewhere(server: ScriptedServer, message: str) -> None:
    """A cookie is refused in any message but HelloRetryRequest."""
    flight_with(server.accept(), message, insert(WHERE[message], COOKIE, -1))
    # neither asked for nor in its place: both rules apply
    server.expect_alert(AlertDescription.illegal_parameter, AlertDescription.unsupported_extension)


# -- doubles, octets left over, order --------------------------------------------------------------

_DOUBLES: Final = {
    "supported_versions": "server_hello.extensions[supported_versions]",
    "key_share": "server_hello.extensions[key_share]",
    "cookie": "hello_retry_request.extensions[cookie]",
    "signature_algorithms": "certificate_request.extensions[signature_algorithms]",
    "supported_groups": "encrypted_extensions.extensions[supported_groups]",
}


@req("4.3-10")
@pytest.mark.parametrize("name", list(_DOUBLES))
def test_doubles(server: ScriptedServer, name: str) -> None:
    """An extension that is in a block twice is refused."""
    path = _DOUBLES[name]
    message = path.split(".")[0]
    if message == "encrypted_extensions":
        server.accept().hello()
        groups = server.offer.extensions.get(SupportedGroups)
        assert groups is not None
        server.encrypted_extensions(groups, edits=[duplicate(path)])
    else:
        flight_with(server.accept(), message, duplicate(path))
    server.expect_abort()


@req("4.3-2")
@pytest.mark.parametrize("name", ["supported_versions", "key_share"])
def test_octets_left_over_in_server_hello(server: ScriptedServer, name: str) -> None:
    """Octets after an extension's structure in ServerHello are refused."""
    server.accept().hello(append(f"server_hello.extensions[{name}]", b"\0"))
    server.expect_alert(AlertDescription.decode_error)


@needs("resumption")
@req("4.3-2")
def test_octets_left_over_in_pre_shared_key(serve: Serve, target: ClientTarget) -> None:
    """Octets after selected_identity are refused."""
    server, psk = resume(serve, target)
    server.hello(append("server_hello.extensions[pre_shared_key]", b"\0"), psk=psk)
    server.expect_alert(AlertDescription.decode_error)


@req("4.3-2")
@pytest.mark.parametrize(
    "name", ["application_layer_protocol_negotiation", "record_size_limit", "server_name"]
)
def test_octets_left_over_in_encrypted_extensions(server: ScriptedServer, name: str) -> None:
    """Octets after an extension's structure in EncryptedExtensions are refused."""
    _check_sent(server.accept(), name)
    body = _ANSWERS[name]
    alpn = server.offer.extensions.get(ProtocolNameList)
    if alpn is not None and isinstance(body, ProtocolNameList):
        body = ProtocolNameList(alpn.protocol_name_list[:1])
    edit = append(f"encrypted_extensions.extensions[{name}]", b"\0")
    server.hello().encrypted_extensions(body, edits=[edit])
    server.expect_alert(AlertDescription.decode_error)


@req("4.3-2")
def test_octets_left_over_in_certificate_request(server: ScriptedServer) -> None:
    """Octets after the list of signature_algorithms in CertificateRequest are refused."""
    edit = append("certificate_request.extensions[signature_algorithms]", b"\0")
    flight_with(server.accept(), "certificate_request", edit)
    server.expect_alert(AlertDescription.decode_error)


@needs("resumption")
@req("4.3-8")
def test_pre_shared_key_first(serve: Serve, target: ClientTarget) -> None:
    """pre_shared_key may come first in a ServerHello."""
    server, psk = resume(serve, target)
    server.edit(move("server_hello.extensions[pre_shared_key]", 0))
    server.hello(psk=psk).encrypted_extensions().finish().complete()


@needs("resumption")
@req("4.3-4", "4.7.1-18")
def test_unknown_extension_of_a_ticket(
    serve: Serve, target: ClientTarget, features: ClientFeatures
) -> None:
    """A ticket with an extension that nobody knows is taken, and can be used."""
    name, psk = give_ticket(serve, target, insert("new_session_ticket.extensions", UNKNOWN))
    server = serve(resume=True).accept()
    check(name in server.identities_offered, "an offer of the ticket", "none")
    server.hello(psk=psk).encrypted_extensions().finish().complete()
    client_lives(server, target, features.sends_data)
