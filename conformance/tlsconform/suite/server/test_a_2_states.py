"""Appendix A.2: in every state of a server, every handshake message that is not expected there."""

from __future__ import annotations

from typing import Final

import pytest

from tlsconform.marks import needs, req
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.server.helpers import accepted_certificate, get_ticket, send_early
from tpmtls.codepoints import (
    AlertDescription,
    CipherSuite,
    HandshakeType,
    KeyUpdateRequest,
    NamedGroup,
    ProtocolVersion,
    SignatureScheme,
)
from tpmtls.wire.extensions import (
    Extensions,
    KeyShareEntry,
    KeyShareServerHello,
    PostHandshakeAuth,
    SelectedVersion,
    SignatureAlgorithms,
)
from tpmtls.wire.messages import (
    Certificate,
    CertificateRequest,
    CertificateVerify,
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
    HandshakeMessage,
    KeyUpdate,
    NewSessionTicket,
    ServerHello,
    frame,
)

A = AlertDescription

_SCHEMES: Final = SignatureAlgorithms((SignatureScheme.ecdsa_secp256r1_sha256,))

BUILT: Final[dict[str, HandshakeMessage]] = {
    "server_hello": ServerHello(
        ProtocolVersion.TLS_1_2,
        bytes(range(32)),
        b"",
        CipherSuite.TLS_AES_128_GCM_SHA256,
        0,
        Extensions(
            (
                SelectedVersion(ProtocolVersion.TLS_1_3),
                KeyShareServerHello(KeyShareEntry(NamedGroup.x25519, bytes(range(1, 33)))),
            )
        ),
    ),
    "new_session_ticket": NewSessionTicket(7200, 1, b"\0", b"ticket", Extensions()),
    "end_of_early_data": EndOfEarlyData(),
    "encrypted_extensions": EncryptedExtensions(Extensions()),
    "certificate": Certificate(b"", ()),
    "certificate_request": CertificateRequest(b"", Extensions((_SCHEMES,))),
    "certificate_verify": CertificateVerify(
        SignatureScheme.ecdsa_secp256r1_sha256, bytes.fromhex("3006020101020101")
    ),
    "finished": Finished(bytes(32)),
    "key_update": KeyUpdate(KeyUpdateRequest.update_not_requested),
}
"""Messages that are well-formed, and say nothing that could be wrong but that they come now."""

FRAMED: Final = {
    "hello_request": frame(HandshakeType(0), b""),
    "hello_retry_request_type": frame(HandshakeType(6), b""),
    "server_key_exchange": frame(HandshakeType(12), b"\3\0\x1d\0"),
    "server_hello_done": frame(HandshakeType(14), b""),
    "client_key_exchange": frame(HandshakeType(16), b"\0"),
    "message_hash": frame(HandshakeType.message_hash, bytes(32)),
    "type_99": frame(HandshakeType(99), b""),
}
"""Types that TLS 1.3 has no such message of."""

NAMES: Final = ("client_hello", *BUILT, *FRAMED)


def say(client: ScriptedClient, name: str) -> None:
    """Send the message of that name, which the server does not expect."""
    if name == "client_hello":
        client.say(client.build_hello())
    elif name in BUILT:
        client.say(BUILT[name])
    else:
        client.say_octets(FRAMED[name], name)


def expect_refusal(client: ScriptedClient, name: str) -> None:
    """unexpected_message; for types that are no message, they may count as bad values, too."""
    if name in FRAMED:
        client.expect_alert(A.unexpected_message, A.illegal_parameter, A.decode_error)
    else:
        client.expect_alert(A.unexpected_message)


def others(*expected: str) -> pytest.MarkDecorator:
    """One run for each message but those."""
    return pytest.mark.parametrize("name", [name for name in NAMES if name not in expected])


@req("4-2", "4-1")
@others("client_hello")
def test_start(client: ScriptedClient, name: str) -> None:
    """START: only a ClientHello can be the first message."""
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4-1")
@needs("retry")
@others("client_hello")
def test_after_hello_retry_request(client: ScriptedClient, name: str) -> None:
    """START after a HelloRetryRequest: only a ClientHello can be next."""
    client.hello(shares=()).read_retry()
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4-1")
@others("finished")
def test_wait_finished(client: ScriptedClient, name: str) -> None:
    """WAIT_FINISHED without client authentication: nothing but Finished is taken."""
    client.hello().read_flight()
    if client.request is not None:
        raise NotApplicable("the server asks for a certificate")
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4-1")
@needs("resumption")
@others("finished")
def test_wait_finished_of_a_resumption(connect: Connect, name: str) -> None:
    """WAIT_FINISHED with a PSK: nothing but Finished is taken."""
    ticket = get_ticket(connect)
    client = connect().hello(psks=(ticket,)).read_flight()
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4-1", "4.5.1-2")
@needs("client_certificate")
@others("certificate")
def test_wait_certificate(client: ScriptedClient, name: str) -> None:
    """WAIT_CERT: once a certificate was requested, nothing but Certificate is taken."""
    client.hello().read_flight()
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4-1", "4.5.2-2")
@needs("client_certificate")
@others("certificate_verify")
def test_wait_certificate_verify(connect: Connect, name: str) -> None:
    """WAIT_CV: after a certificate, nothing but CertificateVerify is taken."""
    accepted_certificate(connect)
    client = connect().hello().read_flight()
    client.say_certificate(client.credential)
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4-1", "4.5.2-3")
@needs("client_certificate")
@others("finished")
def test_wait_finished_after_certificate_verify(connect: Connect, name: str) -> None:
    """WAIT_FINISHED after CertificateVerify: nothing but Finished is taken."""
    accepted_certificate(connect)
    client = connect().hello().read_flight().authenticate()
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4-1", "4.5.2-2")
@needs("client_certificate")
@others("finished")
def test_wait_finished_after_empty_certificate(connect: Connect, name: str) -> None:
    """WAIT_FINISHED after an empty Certificate: nothing but Finished is taken."""
    client = connect(credential=None).hello().read_flight().authenticate()
    say(client, name)
    if name in FRAMED:
        client.expect_alert(
            A.unexpected_message, A.illegal_parameter, A.decode_error, A.certificate_required
        )
    else:
        client.expect_alert(A.unexpected_message, A.certificate_required)


@req("4-2", "4-1")
@needs("early_data")
@others("end_of_early_data")
def test_wait_end_of_early_data(connect: Connect, name: str) -> None:
    """WAIT_EOED: among early data, nothing but EndOfEarlyData is taken."""
    client = send_early(connect)
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4-1")
@needs("early_data")
@others("finished")
def test_wait_finished_after_end_of_early_data(connect: Connect, name: str) -> None:
    """WAIT_FINISHED after EndOfEarlyData: nothing but Finished is taken."""
    client = send_early(connect).end_early_data()
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4-1", "4.2.2-3")
@others("key_update")
def test_connected(client: ScriptedClient, name: str) -> None:
    """CONNECTED: nothing but KeyUpdate is taken, where no certificate was requested."""
    client.handshake()
    say(client, name)
    expect_refusal(client, name)


@req("4-2", "4-1")
@others("key_update")
def test_connected_with_post_handshake_auth(connect: Connect, name: str) -> None:
    """CONNECTED: having offered post_handshake_auth opens no door while nothing is requested."""
    client = connect().hello(extensions=(PostHandshakeAuth(),)).complete()
    say(client, name)
    expect_refusal(client, name)
