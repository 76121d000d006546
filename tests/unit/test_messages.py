"""Handshake messages: their form, their header, and the recorded ones of RFC 8448."""

from __future__ import annotations

import hashlib

import pytest

from tests import rfc
from tpmtls.codepoints import (
    AlertDescription,
    AlertLevel,
    CipherSuite,
    HandshakeType,
    KeyUpdateRequest,
    NamedGroup,
    ProtocolVersion,
    SignatureScheme,
)
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire import messages as m
from tpmtls.wire.codec import Bounded, fields_of
from tpmtls.wire.extensions import (
    Extensions,
    KeyShareHelloRetryRequest,
    MaxEarlyData,
    SelectedVersion,
    SupportedVersions,
)
from vectors.vectorlib.library import TRACES, load_trace

RANDOM = bytes(range(32))
V = ProtocolVersion

OFFER = "0007 002b 0003 020304"
CHOICE = "0006 002b 0002 0304"
CHOICE_OF_GROUP = "000c 002b 0002 0304 0033 0002 0017"

MESSAGES: list[tuple[m.HandshakeMessage, str]] = [
    (
        m.ClientHello(
            V.TLS_1_2,
            RANDOM,
            b"id",
            (CipherSuite.TLS_AES_128_GCM_SHA256, CipherSuite(0x0A0A)),
            b"\0",
            Extensions((SupportedVersions((V.TLS_1_3,)),)),
        ),
        f"01 000036 0303 {RANDOM.hex()} 02 6964 0004 1301 0a0a 01 00 {OFFER}",
    ),
    (
        m.ServerHello(
            V.TLS_1_2,
            RANDOM,
            b"",
            CipherSuite.TLS_AES_128_GCM_SHA256,
            0,
            Extensions((SelectedVersion(V.TLS_1_3),)),
        ),
        f"02 00002e 0303 {RANDOM.hex()} 00 1301 00 {CHOICE}",
    ),
    (
        m.HelloRetryRequest(
            V.TLS_1_2,
            m.HELLO_RETRY_REQUEST_RANDOM,
            b"",
            CipherSuite.TLS_AES_128_GCM_SHA256,
            0,
            Extensions(
                (SelectedVersion(V.TLS_1_3), KeyShareHelloRetryRequest(NamedGroup.secp256r1))
            ),
        ),
        f"02 000034 0303 {m.HELLO_RETRY_REQUEST_RANDOM.hex()} 00 1301 00 {CHOICE_OF_GROUP}",
    ),
    (m.EncryptedExtensions(Extensions()), "08 000002 0000"),
    (m.CertificateRequest(b"c", Extensions()), "0d 000004 01 63 0000"),
    (
        m.Certificate(b"", (m.CertificateEntry(b"\x30\0", Extensions()),)),
        "0b 00000b 00 000007 000002 3000 0000",
    ),
    (m.Certificate(b"", ()), "0b 000004 00 000000"),
    (m.CertificateVerify(SignatureScheme.ed25519, b"s"), "0f 000005 0807 0001 73"),
    (m.Finished(bytes(32)), "14 000020" + "00" * 32),
    (m.EndOfEarlyData(), "05 000000"),
    (
        m.NewSessionTicket(1, 2, b"\0", b"t", Extensions((MaxEarlyData(3),))),
        "04 000017 00000001 00000002 01 00 0001 74 0008 002a 0004 00000003",
    ),
    (m.KeyUpdate(KeyUpdateRequest.update_requested), "18 000001 01"),
]


def label(parameter: object) -> str:
    """A test's name: the structure's, and how its octets start."""
    return parameter[:14] if isinstance(parameter, str) else type(parameter).__name__


def refusal(octets: bytes) -> PeerViolation:
    with pytest.raises(PeerViolation) as caught:
        m.decode_message(octets)
    return caught.value


@pytest.mark.parametrize(("message", "octets"), MESSAGES, ids=label)
def test_messages(message: m.HandshakeMessage, octets: str) -> None:
    assert message.to_octets() == bytes.fromhex(octets)
    decoded = m.decode_message(bytes.fromhex(octets))
    assert decoded == message
    assert type(decoded) is type(message)


@pytest.mark.parametrize("name", TRACES)
def test_recorded_messages(name: str) -> None:
    for recorded in load_trace(name).messages():
        message = m.decode_message(recorded.octets)
        assert message.to_octets() == recorded.octets
        assert message.msg_type.name == recorded.type


@pytest.mark.parametrize(
    "name",
    [
        "ClientHello",
        "ServerHello",
        "EncryptedExtensions",
        "CertificateRequest",
        "CertificateEntry",
        "Certificate",
        "CertificateVerify",
        "NewSessionTicket",
    ],
)
def test_bounds_are_those_of_appendix_b(name: str) -> None:
    theirs = dict(rfc.vectors()[name])
    theirs.pop("ASN1_subjectPublicKeyInfo", None)
    if name in ("ClientHello", "ServerHello"):
        theirs["extensions"] = (0, theirs["extensions"][1])  # older versions share these messages
    assert theirs == {
        field: (codec.minimum, codec.maximum)
        for field, codec in fields_of(getattr(m, name))
        if isinstance(codec, Bounded)
    }


@pytest.mark.req("4.2.3-12")
def test_a_hello_retry_request_is_told_by_its_random() -> None:
    assert hashlib.sha256(b"HelloRetryRequest").digest() == m.HELLO_RETRY_REQUEST_RANDOM
    hello = m.ServerHello(V.TLS_1_2, RANDOM, b"", CipherSuite(0x1301), 0, Extensions())
    for random, kind in (
        (RANDOM, m.ServerHello),
        (m.HELLO_RETRY_REQUEST_RANDOM, m.HelloRetryRequest),
        (m.HELLO_RETRY_REQUEST_RANDOM[:-1] + b"\0", m.ServerHello),
    ):
        octets = hello.to_octets().replace(RANDOM, random)
        assert type(m.decode_message(octets)) is kind
        assert m.decode_message(octets).to_octets() == octets


@pytest.mark.req("6-9")
@pytest.mark.parametrize(
    ("octets", "violation"),
    [
        ("", Violation.TRUNCATED),
        ("14", Violation.TRUNCATED),
        ("14 0000", Violation.TRUNCATED),
        ("14 000001", Violation.TRUNCATED),
        ("05 000000 00", Violation.TRAILING_DATA),
        ("05 000001 00", Violation.TRAILING_DATA),
        ("18 000000", Violation.TRUNCATED),
        ("18 000002 0000", Violation.TRAILING_DATA),
        ("0f 000004 0807 0001", Violation.TRUNCATED),
        ("0f 000006 0807 0001 73 00", Violation.TRAILING_DATA),
        ("04 00000d 00000001 00000002 00 0000 0000", Violation.VECTOR_LENGTH),  # no ticket
        ("0b 000009 00 000005 000000 0000", Violation.VECTOR_LENGTH),  # no certificate in the entry
    ],
)
def test_malformed_messages(octets: str, violation: Violation) -> None:
    assert refusal(bytes.fromhex(octets)).violation is violation


@pytest.mark.req("4-2")
@pytest.mark.parametrize("msg_type", sorted(set(range(256)) - set(m.MESSAGES)))
def test_types_that_no_peer_may_send(msg_type: int) -> None:
    error = refusal(m.frame(HandshakeType(msg_type), b""))
    assert error.violation is Violation.UNEXPECTED_MESSAGE
    assert str(HandshakeType(msg_type)) in error.detail


def test_the_synthetic_types_never_stand_on_the_wire() -> None:
    absent = {HandshakeType.message_hash, HandshakeType.hello_retry_request}
    assert set(HandshakeType) - set(m.MESSAGES) == absent


def test_an_error_says_where_it_is() -> None:
    octets = bytes.fromhex(MESSAGES[0][1])
    bent = octets.replace(bytes.fromhex("002b0003020304"), bytes.fromhex("002b0003030304"))
    assert refusal(bent).detail == "ClientHello.extensions: SupportedVersions.versions"


def test_a_message_too_long_for_its_header() -> None:
    assert m.frame(HandshakeType.finished, bytes(2**24 - 1))[:4].hex() == "14ffffff"
    with pytest.raises(OverflowError):
        m.frame(HandshakeType.finished, bytes(2**24))


def test_alerts() -> None:
    alert = m.Alert(AlertLevel.fatal, AlertDescription.decode_error)
    assert alert.encode().hex() == "0232"
    assert m.Alert.decode(b"\2\x32") == alert
    assert m.Alert.decode(b"\0\xff").description == 255
    for octets in (b"", b"\2", b"\2\x32\2\x32"):
        with pytest.raises(PeerViolation):
            m.Alert.decode(octets)
