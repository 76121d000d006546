"""Messages to send where they are not expected: well-formed, and wrong only in when they come."""

from __future__ import annotations

from typing import Final

from tlsconform.peer.base import Peer
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


def say_unexpected(peer: Peer, name: str, hello: HandshakeMessage) -> None:
    """Send the message of that name; `hello` is the ClientHello to send."""
    if name in FRAMED:
        peer.say_octets(FRAMED[name], name)
    else:
        peer.say(hello if name == "client_hello" else BUILT[name])


def expect_refusal(peer: Peer, name: str) -> None:
    """unexpected_message; for types that are no message, they may count as bad values, too."""
    if name in FRAMED:
        peer.expect_alert(A.unexpected_message, A.illegal_parameter, A.decode_error)
    else:
        peer.expect_alert(A.unexpected_message)
