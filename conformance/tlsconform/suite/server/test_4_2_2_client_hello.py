"""§4.2.2: what a server makes of a ClientHello."""

from __future__ import annotations

from typing import Final

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import append, drop, insert, set_field
from tlsconform.peer import ScriptedClient
from tlsconform.peer.wire import parse_alert
from tlsconform.probe import TLS12_SUITES
from tlsconform.suite.helpers import check, read_legacy_answer, server_lives
from tpmtls.codepoints import (
    AlertDescription,
    CipherSuite,
    ContentType,
    ExtensionType,
    ProtocolVersion,
)
from tpmtls.wire.extensions import UnknownExtension

TLS12: Final = ProtocolVersion.TLS_1_2


@req("4.2.2-7")
@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302, 0x0304, 0x0305, 0x7F1C])
def test_legacy_version(client: ScriptedClient, version: int) -> None:
    """A legacy_version other than 0x0303 is refused."""
    client.hello(set_field("client_hello.legacy_version", version))
    client.expect_alert(AlertDescription.protocol_version)


@req("4.2.2-16")
@pytest.mark.parametrize("methods", ["0100", "0001", "01", "0000"])
def test_compression_methods(client: ScriptedClient, methods: str) -> None:
    """Any compression method beside the null method is refused, and so is its lack."""
    client.hello(set_field("client_hello.legacy_compression_methods", bytes.fromhex(methods)))
    client.expect_alert(AlertDescription.illegal_parameter)


@req("4.2.2-16", "6-9")
def test_no_compression_method(client: ScriptedClient) -> None:
    """No compression method at all is refused: another value, and a list that is too short."""
    client.hello(set_field("client_hello.legacy_compression_methods", b""))
    client.expect_alert(AlertDescription.illegal_parameter, AlertDescription.decode_error)


@req("6-9")
@pytest.mark.parametrize(
    "path",
    [
        "cipher_suites",
        "extensions[supported_versions].versions",
        "extensions[supported_groups].named_group_list",
        "extensions[signature_algorithms].supported_signature_algorithms",
        "extensions[psk_key_exchange_modes].ke_modes",
        "extensions[key_share].client_shares[0].key_exchange",
    ],
)
def test_list_that_must_not_be_empty(client: ScriptedClient, path: str) -> None:
    """A vector that is shorter than its lower bound cannot be parsed, though its length is true."""
    client.hello(set_field(f"client_hello.{path}", b""))
    allowed = [AlertDescription.decode_error]
    if "key_exchange" in path:
        allowed.append(AlertDescription.illegal_parameter)
    client.expect_alert(*allowed)


@req("6-9")
def test_session_id_that_is_too_long(client: ScriptedClient) -> None:
    """A legacy_session_id of 33 octets is over its upper bound."""
    client.hello(set_field("client_hello.legacy_session_id", bytes(33)))
    client.expect_alert(AlertDescription.decode_error)


@req("4.2.2-13")
@pytest.mark.parametrize("first", [True, False], ids=["first", "last"])
def test_unknown_suites(client: ScriptedClient, features: ServerFeatures, first: bool) -> None:
    """Suites that no server knows make no difference, whichever end of the list they are at."""
    unknown = tuple(CipherSuite(code) for code in (0x0A0A, 0x13F0, 0xFFFE, 0xC02B, 0x00FF))
    known = tuple(CipherSuite[name] for name in features.suites)
    client.hello(suites=(*unknown, *known) if first else (*known, *unknown))
    answer = client.read_server_hello()
    check(answer.cipher_suite in known, "a suite of TLS 1.3", answer.cipher_suite.name)
    client.read_encrypted_extensions()
    client.read_authentication()
    client.read_finished()
    client.authenticate().finish()
    server_lives(client, features)


@req("4.2.2-13")
def test_each_suite(client: ScriptedClient, features: ServerFeatures) -> None:
    """A suite is found behind as many unknown ones as fit."""
    unknown = tuple(CipherSuite(0xF000 + i) for i in range(200))
    client.hello(suites=(*unknown, CipherSuite[features.suites[-1]])).complete()
    server_lives(client, features)


@req("4.2.2-18")
@pytest.mark.parametrize(
    ("kind", "data"),
    [(0x0A0A, b""), (0xDADA, b"\0"), (0xFFAA, bytes(300)), (0xFE00, b"\xff" * 4)],
    ids=["grease-empty", "grease-octet", "private-long", "private-odd"],
)
@pytest.mark.parametrize("at", [0, -1], ids=["first", "last"])
def test_unknown_extension(
    client: ScriptedClient, features: ServerFeatures, kind: int, data: bytes, at: int
) -> None:
    """An extension that no server knows makes no difference, whatever it holds."""
    unknown = UnknownExtension(ExtensionType(kind), data)
    client.handshake(insert("client_hello.extensions", unknown, at))
    server_lives(client, features)


@req("4.2.2-18")
def test_many_unknown_extensions(client: ScriptedClient, features: ServerFeatures) -> None:
    """Many extensions that no server knows make no difference."""
    unknown = [UnknownExtension(ExtensionType(0xE000 + i), bytes(3)) for i in range(50)]
    client.hello(extensions=unknown).complete()
    server_lives(client, features)


# -- ClientHello where none is due -----------------------------------------------------------------


@req("4.2.2-3", "4-2")
def test_client_hello_after_the_handshake(client: ScriptedClient) -> None:
    """A ClientHello after the handshake is refused: there is no renegotiation."""
    client.handshake()
    client.say(client.first)
    client.expect_alert(AlertDescription.unexpected_message)


@req("4.2.2-3", "4-2")
def test_client_hello_in_the_handshake(client: ScriptedClient) -> None:
    """A ClientHello in place of Finished is refused."""
    client.hello().read_flight()
    client.say(client.first)
    client.expect_alert(AlertDescription.unexpected_message)


@req("4.2.2-3", "4-2")
@needs("retry")
def test_third_client_hello(client: ScriptedClient, features: ServerFeatures) -> None:
    """A third ClientHello, in place of Finished, is refused."""
    client.hello(shares=()).read_retry()
    client.hello_again().read_flight()
    client.forget_edits("client_hello")
    client.say(client.first)
    client.expect_alert(AlertDescription.unexpected_message)


@req("4.2.2-3")
def test_second_client_hello_without_retry(client: ScriptedClient) -> None:
    """A second ClientHello that nothing asked for is refused, unprotected though it is."""
    client.hello().read_flight()
    record = client.wire.plaintext_record(ContentType.handshake, client.hello_octets)
    client.wire.send_raw(record, "the ClientHello again, unprotected")
    # It comes where protected records are due: both descriptions fit (§5).
    client.expect_alert(AlertDescription.unexpected_message, AlertDescription.bad_record_mac)


# -- older versions --------------------------------------------------------------------------------


@req("4.2.2-17")
@needs("tls12")
def test_compression_methods_of_tls12(client: ScriptedClient) -> None:
    """A ClientHello of TLS 1.2 may offer compression: the server answers as that version says."""
    client.hello(
        set_field("client_hello.legacy_compression_methods", b"\x01\x00"),
        drop("client_hello.extensions[supported_versions]"),
        suites=TLS12_SUITES,
    )
    answer = read_legacy_answer(client)
    check(answer is not None and answer.version == TLS12, "a ServerHello of TLS 1.2", answer)


@req("4.2.2-19")
@needs("tls12")
def test_no_extensions_of_tls12(client: ScriptedClient) -> None:
    """A ClientHello of TLS 1.2 without extensions is none with a malformed block of them."""
    client.hello(drop("client_hello.extensions"), suites=TLS12_SUITES)
    record = client.next_record()  # it may want more than that ClientHello says: another alert
    wrong = (
        record is not None
        and record.content_type is ContentType.alert
        and parse_alert(record).description is AlertDescription.decode_error
    )
    check(not wrong, "a ServerHello", "decode_error")


@req("4.2.2-20", "4.2.2-19")
@needs("tls12")
def test_octets_after_extensions_of_tls12(client: ScriptedClient) -> None:
    """Octets after the extensions of a ClientHello of TLS 1.2 are refused."""
    client.hello(
        drop("client_hello.extensions[supported_versions]"),
        append("client_hello", b"\0"),
        suites=TLS12_SUITES,
    )
    client.expect_alert(AlertDescription.decode_error)


@req("4.2.2-20", "4.2.2-19")
@needs("tls12")
def test_half_a_block_of_tls12(client: ScriptedClient) -> None:
    """One octet in place of a block of extensions is refused, under TLS 1.2 too."""
    client.hello(
        drop("client_hello.extensions"), append("client_hello", b"\0"), suites=TLS12_SUITES
    )
    client.expect_alert(AlertDescription.decode_error)
