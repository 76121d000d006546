"""The handshake messages (RFC 9846 §4), and the Handshake header that frames them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Annotated, ClassVar, Final

from tpmtls.codepoints import (
    AlertDescription,
    AlertLevel,
    CipherSuite,
    HandshakeType,
    KeyUpdateRequest,
    ProtocolVersion,
    SignatureScheme,
)
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.codec import (
    Code,
    Fixed,
    Nested,
    Opaque,
    Opaque8,
    Opaque16,
    Reader,
    Rest,
    Struct,
    Uint8,
    Uint32,
    Vector,
)
from tpmtls.wire.extensions import ExtensionBlock, Extensions, HelloExtensionBlock, Place

MSG_TYPE: Final = Code(HandshakeType, 1)
HEADER_SIZE: Final = 4
"""Octets of msg_type and length."""

HELLO_RETRY_REQUEST_RANDOM: Final = bytes.fromhex(
    "cf21ad74e59a6111be1d8c021e65b891c2a211167abb8c5e079e09e2c8a8339c"
)
"""What ServerHello.random holds in a HelloRetryRequest (RFC 9846 §4.2.3)."""

RANDOM_OFFSET: Final = 2
"""Where random starts in a ServerHello."""

Random = Annotated[bytes, Fixed(32)]
SessionId = Annotated[bytes, Opaque(0, 32)]
Version = Annotated[ProtocolVersion, Code(ProtocolVersion, 2)]
Suite = Annotated[CipherSuite, Code(CipherSuite, 2)]
Suites = Annotated[tuple[CipherSuite, ...], Vector(Code(CipherSuite, 2), 2, 2**16 - 2)]


def frame(msg_type: HandshakeType, body: bytes) -> bytes:
    """The Handshake structure: type, length in three octets, body."""
    return bytes((msg_type,)) + len(body).to_bytes(3, "big") + body


class HandshakeMessage(Struct):
    """Base of the messages; each knows its `msg_type`."""

    __slots__ = ()
    msg_type: ClassVar[HandshakeType]

    def to_octets(self) -> bytes:
        """The message with its Handshake header, as it stands in records and in the transcript."""
        return frame(self.msg_type, self.encode())


@dataclass(frozen=True, slots=True)
class ClientHello(HandshakeMessage):
    """RFC 9846 §4.2.2."""

    msg_type = HandshakeType.client_hello
    legacy_version: Version
    random: Random
    legacy_session_id: SessionId
    cipher_suites: Suites
    legacy_compression_methods: Annotated[bytes, Opaque(1, 2**8 - 1)]
    extensions: Annotated[Extensions, HelloExtensionBlock(Place.CH)]


@dataclass(frozen=True, slots=True)
class ServerHello(HandshakeMessage):
    """RFC 9846 §4.2.3."""

    msg_type = HandshakeType.server_hello
    legacy_version: Version
    random: Random
    legacy_session_id_echo: SessionId
    cipher_suite: Suite
    legacy_compression_method: Uint8
    extensions: Annotated[Extensions, HelloExtensionBlock(Place.SH)]


@dataclass(frozen=True, slots=True)
class HelloRetryRequest(HandshakeMessage):
    """A ServerHello by its type and form, told apart by its random (RFC 9846 §4.2.4)."""

    msg_type = HandshakeType.hello_retry_request
    legacy_version: Version
    random: Random
    legacy_session_id_echo: SessionId
    cipher_suite: Suite
    legacy_compression_method: Uint8
    extensions: Annotated[Extensions, HelloExtensionBlock(Place.HRR)]

    def to_octets(self) -> bytes:
        return frame(HandshakeType.server_hello, self.encode())


@dataclass(frozen=True, slots=True)
class EncryptedExtensions(HandshakeMessage):
    """RFC 9846 §4.4.1."""

    msg_type = HandshakeType.encrypted_extensions
    extensions: Annotated[Extensions, ExtensionBlock(Place.EE)]


@dataclass(frozen=True, slots=True)
class CertificateRequest(HandshakeMessage):
    """RFC 9846 §4.4.2."""

    msg_type = HandshakeType.certificate_request
    certificate_request_context: Opaque8
    extensions: Annotated[Extensions, ExtensionBlock(Place.CR)]


@dataclass(frozen=True, slots=True)
class CertificateEntry(Struct):
    """One X.509 certificate, DER-encoded, with its extensions."""

    cert_data: Annotated[bytes, Opaque(1, 2**24 - 1)]
    extensions: Annotated[Extensions, ExtensionBlock(Place.CT)]


@dataclass(frozen=True, slots=True)
class Certificate(HandshakeMessage):
    """RFC 9846 §4.5.1."""

    msg_type = HandshakeType.certificate
    certificate_request_context: Opaque8
    certificate_list: Annotated[
        tuple[CertificateEntry, ...], Vector(Nested(CertificateEntry), 0, 2**24 - 1)
    ]


@dataclass(frozen=True, slots=True)
class CertificateVerify(HandshakeMessage):
    """RFC 9846 §4.5.2."""

    msg_type = HandshakeType.certificate_verify
    algorithm: Annotated[SignatureScheme, Code(SignatureScheme, 2)]
    signature: Opaque16


@dataclass(frozen=True, slots=True)
class Finished(HandshakeMessage):
    """RFC 9846 §4.5.3; verify_data is as long as the hash, which the receiver checks."""

    msg_type = HandshakeType.finished
    verify_data: Annotated[bytes, Rest()]


@dataclass(frozen=True, slots=True)
class EndOfEarlyData(HandshakeMessage):
    """RFC 9846 §4.6."""

    msg_type = HandshakeType.end_of_early_data


@dataclass(frozen=True, slots=True)
class NewSessionTicket(HandshakeMessage):
    """RFC 9846 §4.7.1; the lifetime is in seconds."""

    msg_type = HandshakeType.new_session_ticket
    ticket_lifetime: Uint32
    ticket_age_add: Uint32
    ticket_nonce: Opaque8
    ticket: Annotated[bytes, Opaque(1, 2**16 - 1)]
    extensions: Annotated[Extensions, ExtensionBlock(Place.NST)]


@dataclass(frozen=True, slots=True)
class KeyUpdate(HandshakeMessage):
    """RFC 9846 §4.7.3."""

    msg_type = HandshakeType.key_update
    request_update: Annotated[KeyUpdateRequest, Code(KeyUpdateRequest, 1)]


@dataclass(frozen=True, slots=True)
class Alert(Struct):
    """RFC 9846 §6."""

    level: Annotated[AlertLevel, Code(AlertLevel, 1)]
    description: Annotated[AlertDescription, Code(AlertDescription, 1)]


MESSAGES: Final[dict[HandshakeType, type[HandshakeMessage]]] = {
    message.msg_type: message
    for message in (
        ClientHello,
        ServerHello,
        EncryptedExtensions,
        CertificateRequest,
        Certificate,
        CertificateVerify,
        Finished,
        EndOfEarlyData,
        NewSessionTicket,
        KeyUpdate,
    )
}


def decode_message(octets: bytes) -> HandshakeMessage:
    """Parse one whole message, header included; raises PeerViolation."""
    # req: 4.2.3-12
    reader = Reader(octets)
    msg_type = MSG_TYPE.read(reader)
    body = reader.take(reader.uint(3))
    reader.finish()
    structure = MESSAGES.get(msg_type)
    if structure is None:
        raise PeerViolation(Violation.UNEXPECTED_MESSAGE, f"handshake type {msg_type}")
    if structure is ServerHello and body.startswith(HELLO_RETRY_REQUEST_RANDOM, RANDOM_OFFSET):
        structure = HelloRetryRequest
    return structure.decode(body)
