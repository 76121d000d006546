"""Appendix E: what a server does for, and to, what was before TLS 1.3."""

from __future__ import annotations

from contextlib import suppress

import pytest

from tlsconform.channel import Silence
from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import drop, set_field
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.peer.client import SUITES_OFFERED
from tlsconform.probe import TLS12_SUITES
from tlsconform.suite.helpers import LegacyAnswer, check, read_legacy_answer, server_lives
from tpmtls.codepoints import (
    AlertDescription,
    CipherSuite,
    ContentType,
    ExtensionType,
    ProtocolVersion,
)
from tpmtls.wire.extensions import UnknownExtension

A = AlertDescription
TLS12 = ProtocolVersion.TLS_1_2
EXTENSION = "client_hello.extensions[supported_versions]"
LEGACY = "client_hello.legacy_version"
BOTH = (*SUITES_OFFERED, *TLS12_SUITES)
CCS = bytes.fromhex("140303000101")

RC4 = (0x0003, 0x0004, 0x0005, 0x0018, 0x0020, 0x0066, 0x008A, 0xC002, 0xC007, 0xC00C, 0xC011)
WEAK = (
    0x0001,
    0x0002,
    0x003B,
    0x0006,
    0x0008,
    0x0009,
    0x0012,
    0x0015,
    0x001A,
    0x0062,
    0xC006,
    0xC010,
)
"""NULL, export, single DES."""
PREFERRED = frozenset(int(suite) for suite in TLS12_SUITES)
OLD = (0x002F, 0x0035, 0x009C, 0x009D, 0xC009, 0xC013)
"""Without forward secrecy, or with CBC."""


# -- compatibility mode ----------------------------------------------------------------------------


def expect_change_cipher_spec_second(client: ScriptedClient) -> None:
    """The first record that is not of the first handshake message is change_cipher_spec."""
    client.next_octets()
    with suppress(NonConformance, Silence):
        client.next_record(0.5)
    others = [raw for raw in client.wire.received if raw.content_type is not ContentType.handshake]
    follower = others[0] if others else None
    got = "nothing" if follower is None else (follower.header + follower.body)[:8].hex()
    check(got == CCS.hex(), "change_cipher_spec", got)


@req("E.4-1")
def test_change_cipher_spec(client: ScriptedClient) -> None:
    """To a ClientHello with a session ID, change_cipher_spec follows the ServerHello."""
    client.hello(session_id=bytes(range(32)))
    expect_change_cipher_spec_second(client)


@req("E.4-1")
@needs("retry")
def test_change_cipher_spec_after_retry(client: ScriptedClient) -> None:
    """To a ClientHello with a session ID, change_cipher_spec follows the HelloRetryRequest."""
    client.hello(shares=(), session_id=bytes(range(32)))
    expect_change_cipher_spec_second(client)


@req("E.4-1", "4.2.2-12")
def test_without_session_id(client: ScriptedClient, features: ServerFeatures) -> None:
    """A ClientHello without a session ID is served, with change_cipher_spec or without."""
    client.hello(session_id=b"").complete()
    server_lives(client, features)


# -- versions --------------------------------------------------------------------------------------


@req("E.2-1")
@pytest.mark.parametrize("record_version", [0x0301, 0x0303, 0x0304], ids=hex)
def test_version_of_the_extension(
    client: ScriptedClient, features: ServerFeatures, record_version: int
) -> None:
    """The version is that of supported_versions, whatever the record says."""
    client.wire.version = ProtocolVersion(record_version)
    client.hello(suites=BOTH).complete()
    server_lives(client, features)


@req("E.2-1", "E.2-2")
def test_extension_without_known_versions(client: ScriptedClient) -> None:
    """supported_versions without a version of the server's is no ground to take legacy_version."""
    client.hello(set_field(f"{EXTENSION}.versions", b"\x7f\x1c"), suites=BOTH)
    client.expect_alert(A.protocol_version)


@req("E.2-2")
@pytest.mark.parametrize("version", [0x0303, 0x0304, 0x0305, 0x03FF], ids=hex)
def test_no_extension(client: ScriptedClient, version: int) -> None:
    """Without supported_versions the most that there can be is TLS 1.2."""
    client.hello(drop(EXTENSION), set_field(LEGACY, version), suites=BOTH)
    answer = read_legacy_answer(client)
    if answer is not None:
        check(not answer.is_tls13 and answer.version <= TLS12, "TLS 1.2", hex(answer.version))


@req("E.2-3")
def test_version_too_low(client: ScriptedClient, features: ServerFeatures) -> None:
    """A server without TLS 1.2 answers a ClientHello of it with protocol_version."""
    client.hello(drop(EXTENSION), suites=BOTH)
    if features.tls12:
        answer = read_legacy_answer(client)
        check(answer is not None and answer.version == TLS12, "TLS 1.2", "another version, or none")
    else:
        client.expect_alert(A.protocol_version)


def expect_no_version(client: ScriptedClient) -> None:
    """The ClientHello is refused, with whatever alert."""
    answer = read_legacy_answer(client)
    check(answer is None, "no ServerHello", answer and f"one of version {answer.version:#06x}")


@req("E.5-4")
@pytest.mark.parametrize("version", [0x0002, 0x0300, 0x0301, 0x0302], ids=hex)
def test_old_versions(client: ScriptedClient, version: int) -> None:
    """Neither SSL nor TLS 1.0 or 1.1 is negotiated by legacy_version."""
    suites = [CipherSuite(code) for code in (*OLD, *TLS12_SUITES)]
    client.hello(drop(EXTENSION), set_field(LEGACY, version), suites=suites)
    expect_no_version(client)


@req("E.5-4")
@pytest.mark.parametrize("version", [0x0300, 0x0301, 0x0302], ids=hex)
def test_old_versions_by_extension(client: ScriptedClient, version: int) -> None:
    """Neither SSL 3.0 nor TLS 1.0 or 1.1 is negotiated by supported_versions."""
    suites = [CipherSuite(code) for code in (*OLD, *TLS12_SUITES)]
    client.hello(versions=(ProtocolVersion(version),), suites=suites)
    expect_no_version(client)


@req("E.5-9")
@pytest.mark.parametrize("version", [0x0301, 0x0302, 0x0304], ids=hex)
def test_other_legacy_version(client: ScriptedClient, version: int) -> None:
    """A legacy_version other than 0x0303, with supported_versions, is refused."""
    client.hello(set_field(LEGACY, version))
    client.expect_alert(A.protocol_version)


@req("E-4")
@needs("tls12")
def test_records_of_tls12(client: ScriptedClient) -> None:
    """Under TLS 1.2 the records from the ServerHello on say 0x0303."""
    client.hello(drop(EXTENSION), suites=TLS12_SUITES)
    answer = read_legacy_answer(client)
    if answer is None or answer.version != TLS12:
        raise NotApplicable("the server does not answer by TLS 1.2 this time")
    client.expect_quiet_or_end()
    versions = sorted({raw.version for raw in client.wire.received})
    check(versions == [0x0303], "0x0303 alone", ", ".join(hex(version) for version in versions))


# -- what is not to be chosen ----------------------------------------------------------------------


@req("E.5-1")
@needs("tls12")
def test_preferred_suites(client: ScriptedClient) -> None:
    """Under TLS 1.2, a suite with forward secrecy and an AEAD is taken though it is named last."""
    suites = [CipherSuite(code) for code in OLD]
    client.hello(drop(EXTENSION), suites=(*suites, *TLS12_SUITES))
    answer = read_legacy_answer(client)
    check(answer is not None and answer.suite in PREFERRED, "ECDHE with an AEAD", answer)


@req("E.5-2", "E.5-3")
@pytest.mark.parametrize("versions", ["tls13", "tls12"])
@pytest.mark.parametrize("codes", [RC4, WEAK], ids=["rc4", "weak"])
def test_bad_suites(client: ScriptedClient, codes: tuple[int, ...], versions: str) -> None:
    """Neither RC4 nor a cipher below 112 bits is chosen, though nothing else is offered."""
    suites = [CipherSuite(code) for code in codes]
    client.hello(*(() if versions == "tls13" else (drop(EXTENSION),)), suites=suites)
    client.expect_abort()


@req("E.5-12")
def test_truncated_hmac(client: ScriptedClient, features: ServerFeatures) -> None:
    """truncated_hmac is not answered."""
    client.hello(extensions=(UnknownExtension(ExtensionType(4), b""),)).complete()
    sent = () if client.parameters is None else client.parameters.extensions
    numbers = {int(body.extension_type) for body in sent}
    check(4 not in numbers, "no truncated_hmac", "one")
    server_lives(client, features)


@req("E.5-12")
@needs("tls12")
def test_truncated_hmac_in_tls12(client: ScriptedClient) -> None:
    """truncated_hmac is not answered under TLS 1.2 either."""
    extension = UnknownExtension(ExtensionType(4), b"")
    suites = [CipherSuite(code) for code in (*OLD, *TLS12_SUITES)]
    client.hello(drop(EXTENSION), suites=suites, extensions=(extension,))
    answer = read_legacy_answer(client)
    check(answer is None or 4 not in answer.extensions, "no truncated_hmac", "one")


ssl2_versions = pytest.mark.parametrize("version", [0x0002, 0x0301, 0x0303, 0x0304], ids=hex)


def answer_to_ssl2(client: ScriptedClient, version: int) -> LegacyAnswer | None:
    """Say a CLIENT-HELLO of SSL 2.0; the ServerHello that answers it, if one does."""
    specs = b"".join(b"\0" + int(suite).to_bytes(2, "big") for suite in (*BOTH, 0x002F))
    hello = b"\1" + version.to_bytes(2, "big") + len(specs).to_bytes(2, "big")
    hello += b"\0\0\0\x10" + specs + bytes(range(16))
    octets = (0x8000 | len(hello)).to_bytes(2, "big") + hello
    client.wire.send_raw(octets, "CLIENT-HELLO of SSL 2.0")
    try:
        record = client.next_record()
    except Silence:
        return None
    if record is None or record.content_type is not ContentType.handshake:
        return None
    client.return_record(record)
    return read_legacy_answer(client)


@req("E.5-6")
@ssl2_versions
def test_ssl2_hello_and_tls13(client: ScriptedClient, version: int) -> None:
    """A CLIENT-HELLO of SSL 2.0 does not lead to TLS 1.3, whatever version it names."""
    answer = answer_to_ssl2(client, version)
    check(answer is None or not answer.is_tls13, "not TLS 1.3", "a ServerHello of TLS 1.3")


@req("E.5-7")
@ssl2_versions
def test_ssl2_hello(client: ScriptedClient, version: int) -> None:
    """A CLIENT-HELLO of SSL 2.0 gets no ServerHello, whatever version it names."""
    answer = answer_to_ssl2(client, version)
    check(answer is None, "no ServerHello", answer and f"one of version {answer.version:#06x}")
