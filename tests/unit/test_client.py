"""A client and what a server may answer: ServerHello, HelloRetryRequest, EncryptedExtensions."""

from __future__ import annotations

from typing import Any

import pytest

from tests.unit.misbehaviour import Case
from tests.unit.scripted import Edit, adding, changing, dropping, encoded
from tests.unit.scripted_server import ScriptedServer
from tpmtls.codepoints import CipherSuite, ExtensionType, NamedGroup, ProtocolVersion
from tpmtls.violations import Violation as V
from tpmtls.wire.extensions import (
    Cookie,
    EarlyDataIndication,
    Extensions,
    KeyShareEntry,
    KeyShareHelloRetryRequest,
    KeyShareServerHello,
    ProtocolNameList,
    RecordSizeLimit,
    SelectedVersion,
    ServerNameAcknowledgement,
    UnknownExtension,
)
from tpmtls.wire.extensions import SelectedPsk as PskChoice
from tpmtls.wire.messages import (
    ClientHello,
    HelloRetryRequest,
    ServerHello,
)

G, P, Suite, TYPE = NamedGroup, ProtocolVersion, CipherSuite, ExtensionType
GREASE = 0x1A1A
UNKNOWN = UnknownExtension(TYPE(GREASE), b"\x00")
TWO_GROUPS = {"groups": (G.x25519, G.secp256r1), "key_shares": (G.x25519,)}


def _share(group: NamedGroup, octets: bytes) -> Edit:
    return adding(KeyShareServerHello(KeyShareEntry(group, octets)))


def _twice(message: Any) -> Any:
    return changing(extensions=Extensions((*message.extensions, message.extensions[-1])))(message)


def _offering_grease(message: Any) -> Any:
    if isinstance(message, ClientHello):
        suites = (Suite(GREASE), *message.cipher_suites)
        return changing(cipher_suites=suites)(message)
    return message


# -- ServerHello -----------------------------------------------------------------------------------

SERVER_HELLO = {
    "legacy_version": Case(
        V.SERVER_LEGACY_VERSION, {ServerHello: changing(legacy_version=P.TLS_1_1)}
    ),
    "legacy_version-1.3": Case(
        V.SERVER_LEGACY_VERSION, {ServerHello: changing(legacy_version=P.TLS_1_3)}
    ),
    "tls-1.2": Case(V.TLS_1_3_NOT_SELECTED, {ServerHello: dropping(TYPE.supported_versions)}),
    "no-extensions": Case(V.TLS_1_3_NOT_SELECTED, {ServerHello: changing(extensions=Extensions())}),
    "downgrade-to-1.2": Case(
        V.DOWNGRADE_SENTINEL,
        {ServerHello: changing(random=bytes(24) + b"DOWNGRD\x01", extensions=Extensions())},
    ),
    "downgrade-to-1.1": Case(
        V.DOWNGRADE_SENTINEL,
        {ServerHello: changing(random=bytes(24) + b"DOWNGRD\x00", extensions=Extensions())},
    ),
    "selected-1.2": Case(
        V.WRONG_SELECTED_VERSION, {ServerHello: adding(SelectedVersion(P.TLS_1_2))}
    ),
    "selected-grease": Case(
        V.WRONG_SELECTED_VERSION, {ServerHello: adding(SelectedVersion(P(GREASE)))}
    ),
    "session-id": Case(V.SESSION_ID_ECHO, {ServerHello: changing(legacy_session_id_echo=b"else")}),
    "session-id-empty": Case(
        V.SESSION_ID_ECHO, {ServerHello: changing(legacy_session_id_echo=b"")}
    ),
    "suite-not-offered": Case(
        V.SUITE_NOT_OFFERED,
        {ServerHello: changing(cipher_suite=Suite.TLS_AES_128_CCM_8_SHA256)},
    ),
    "suite-of-tls-1.2": Case(
        V.SUITE_NOT_OFFERED, {ServerHello: changing(cipher_suite=Suite(0xC02F))}
    ),
    "suite-offered-but-grease": Case(
        V.SUITE_NOT_OFFERED,
        {ServerHello: changing(cipher_suite=Suite(GREASE))},
        config={"arrange": _offering_grease},
    ),
    "compression": Case(V.COMPRESSION_METHOD, {ServerHello: changing(legacy_compression_method=1)}),
    "unknown-extension": Case(V.UNSOLICITED_EXTENSION, {ServerHello: adding(UNKNOWN)}),
    "psk-not-offered": Case(V.UNSOLICITED_EXTENSION, {ServerHello: adding(PskChoice(0))}),
    "misplaced-extension": Case(
        V.EXTENSION_NOT_ALLOWED,
        {ServerHello: adding(UnknownExtension(TYPE.supported_groups, b"\x00\x02\x00\x1d"))},
    ),
    "duplicate-extension": Case(V.DUPLICATE_EXTENSION, {ServerHello: _twice}),
    "overlong-extension": Case(
        V.EXTENSION_TRAILING_DATA,
        {ServerHello: adding(UnknownExtension(TYPE.supported_versions, b"\x03\x04\x00"))},
    ),
    "no-key-exchange": Case(V.MISSING_PSK_AND_KEY_SHARE, {ServerHello: dropping(TYPE.key_share)}),
    "share-for-another-group": Case(
        V.SHARE_NOT_OFFERED,
        {ServerHello: _share(G.secp256r1, b"\x04" + bytes(64))},
        config=TWO_GROUPS,
    ),
    "share-for-no-group-of-ours": Case(
        V.SHARE_NOT_OFFERED, {ServerHello: _share(G.secp521r1, bytes(133))}
    ),
    "short-share": Case(V.SHARE_LENGTH, {ServerHello: _share(G.x25519, bytes(31))}),
    "long-share": Case(V.SHARE_LENGTH, {ServerHello: _share(G.x25519, bytes(33))}),
    "x25519-zero": Case(V.ZERO_SHARED_SECRET, {ServerHello: _share(G.x25519, bytes(32))}),
    "x448-zero": Case(
        V.ZERO_SHARED_SECRET,
        {ServerHello: _share(G.x448, bytes(56))},
        config={"groups": (G.x448,)},
    ),
    "off-the-curve": Case(
        V.INVALID_POINT,
        {ServerHello: _share(G.secp256r1, b"\x04" + b"\x01" * 64)},
        config={"groups": (G.secp256r1,)},
    ),
    "compressed-point": Case(
        V.INVALID_POINT,
        {ServerHello: _share(G.secp384r1, b"\x02" + bytes(96))},
        config={"groups": (G.secp384r1,)},
    ),
    "truncated": Case(V.TRUNCATED, {ServerHello: encoded(lambda body: body[:-1])}),
    "trailing": Case(V.TRAILING_DATA, {ServerHello: encoded(lambda body: body + b"\0")}),
}

# -- HelloRetryRequest -----------------------------------------------------------------------------


def _retried(*bodies: Any) -> Any:
    return lambda peer: peer.accept().retry(*bodies).hello()


def _retried_twice(peer: ScriptedServer) -> None:
    peer.accept().retry(Cookie(b"one"))
    peer.retry(Cookie(b"two"))


P256 = KeyShareHelloRetryRequest(G.secp256r1)
HELLO_RETRY_REQUEST = {
    name: Case(case[0], {case[1]: case[2]}, _retried(P256), config=TWO_GROUPS)
    for name, case in {
        "retry-legacy_version": (
            V.SERVER_LEGACY_VERSION,
            HelloRetryRequest,
            changing(legacy_version=P.TLS_1_0),
        ),
        "retry-version-missing": (
            V.MISSING_SUPPORTED_VERSIONS,
            HelloRetryRequest,
            dropping(TYPE.supported_versions),
        ),
        "retry-version": (
            V.WRONG_SELECTED_VERSION,
            HelloRetryRequest,
            adding(SelectedVersion(P.TLS_1_2)),
        ),
        "retry-session-id": (
            V.SESSION_ID_ECHO,
            HelloRetryRequest,
            changing(legacy_session_id_echo=b"else"),
        ),
        "retry-suite": (
            V.SUITE_NOT_OFFERED,
            HelloRetryRequest,
            changing(cipher_suite=Suite.TLS_AES_128_CCM_8_SHA256),
        ),
        "retry-compression": (
            V.COMPRESSION_METHOD,
            HelloRetryRequest,
            changing(legacy_compression_method=1),
        ),
        "retry-unknown-extension": (V.UNSOLICITED_EXTENSION, HelloRetryRequest, adding(UNKNOWN)),
        "retry-misplaced-extension": (
            V.EXTENSION_NOT_ALLOWED,
            HelloRetryRequest,
            adding(UnknownExtension(TYPE.supported_groups, b"\x00\x02\x00\x1d")),
        ),
        "retry-changes-nothing": (
            V.RETRY_WITHOUT_CHANGE,
            HelloRetryRequest,
            dropping(TYPE.key_share),
        ),
        "retry-group-not-offered": (
            V.RETRY_GROUP_NOT_OFFERED,
            HelloRetryRequest,
            adding(KeyShareHelloRetryRequest(G.secp384r1)),
        ),
        "retry-group-shared": (
            V.RETRY_GROUP_ALREADY_SHARED,
            HelloRetryRequest,
            adding(KeyShareHelloRetryRequest(G.x25519)),
        ),
        "suite-changed": (
            V.SUITE_CHANGED,
            ServerHello,
            changing(cipher_suite=Suite.TLS_CHACHA20_POLY1305_SHA256),
        ),
        "share-not-the-retried": (
            V.SHARE_NOT_THE_RETRIED,
            ServerHello,
            _share(G.x25519, bytes(range(32))),
        ),
    }.items()
} | {"second-retry": Case(V.SECOND_RETRY, script=_retried_twice)}

# -- EncryptedExtensions ---------------------------------------------------------------------------

ALPN = {"alpn": ("h2", "http/1.1")}


def _parameters(violation: V, *bodies: Any, **config: Any) -> Case:
    return Case(violation, config=config, peer={"parameters": bodies})


ENCRYPTED_EXTENSIONS = {
    "unknown": _parameters(V.UNSOLICITED_EXTENSION, UNKNOWN),
    "alpn-unasked": _parameters(V.UNSOLICITED_EXTENSION, ProtocolNameList((b"h2",))),
    "early-data-unasked": _parameters(V.UNSOLICITED_EXTENSION, EarlyDataIndication()),
    "limit-unasked": _parameters(V.UNSOLICITED_EXTENSION, RecordSizeLimit(100)),
    "name-unasked": _parameters(
        V.UNSOLICITED_EXTENSION, ServerNameAcknowledgement(), server_name="127.0.0.1"
    ),
    "misplaced": _parameters(
        V.EXTENSION_NOT_ALLOWED, UnknownExtension(TYPE.supported_versions, b"\x03\x04")
    ),
    "share-misplaced": _parameters(
        V.EXTENSION_NOT_ALLOWED, UnknownExtension(TYPE.key_share, b"\x00\x1d\x00\x01\x00")
    ),
    "alpn-other": _parameters(V.PROTOCOL_NOT_OFFERED, ProtocolNameList((b"smtp",)), **ALPN),
    "alpn-two": _parameters(V.PROTOCOL_NOT_OFFERED, ProtocolNameList((b"h2", b"http/1.1")), **ALPN),
    "limit-too-low": _parameters(V.RECORD_SIZE_LIMIT, RecordSizeLimit(63), record_size_limit=1000),
    "name-not-empty": _parameters(
        V.EXTENSION_TRAILING_DATA, UnknownExtension(TYPE.server_name, b"\x00")
    ),
    "too-many": _parameters(
        V.TOO_MANY_EXTENSIONS, *(UnknownExtension(TYPE(1000 + n), b"") for n in range(513))
    ),
}

CASES = SERVER_HELLO | HELLO_RETRY_REQUEST | ENCRYPTED_EXTENSIONS


@pytest.mark.req("4.2.3-2", "4.2.3-6", "4.2.3-7", "4.2.3-9", "4.2.3-12", "4.2.3-16", "4.2.3-18")
@pytest.mark.req("4.3.1-15", "4.3.1-18", "4.3.8-18", "7.4.2-3", "4.3.8.2-1")
@pytest.mark.parametrize("name", SERVER_HELLO)
def test_a_wrong_server_hello_is_refused(name: str) -> None:
    SERVER_HELLO[name].against_client()


@pytest.mark.req("4.2.4-4", "4.2.4-5", "4.2.4-6", "4.2.4-8", "4.2.4-10", "4.3.8-14", "4.3.8-15")
@pytest.mark.req("4.3.8-20", "4.3.8-21", "4.2.4-12", "4.2.4-13")
@pytest.mark.parametrize("name", HELLO_RETRY_REQUEST)
def test_a_wrong_hello_retry_request_is_refused(name: str) -> None:
    HELLO_RETRY_REQUEST[name].against_client()


@pytest.mark.req("4.4.1-2", "4.4.1-3", "4.3-6", "4.3-7", "A.1-1")
@pytest.mark.parametrize("name", ENCRYPTED_EXTENSIONS)
def test_wrong_encrypted_extensions_are_refused(name: str) -> None:
    ENCRYPTED_EXTENSIONS[name].against_client()
