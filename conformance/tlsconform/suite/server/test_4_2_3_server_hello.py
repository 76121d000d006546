"""§4.2.3: what a server's ServerHello looks like."""

from __future__ import annotations

from typing import Final

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import drop, set_field
from tlsconform.outcome import NonConformance, NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.probe import TLS12_SUITES
from tlsconform.suite.helpers import check, fetch_ticket, read_legacy_answer
from tpmtls.codepoints import CipherSuite, ExtensionType, ProtocolVersion
from tpmtls.wire.extensions import SelectedVersion
from tpmtls.wire.messages import ServerHello

ALLOWED: Final = {
    ExtensionType.supported_versions,
    ExtensionType.key_share,
    ExtensionType.pre_shared_key,
}
TLS12_SENTINEL: Final = b"DOWNGRD\x01"
TLS11_SENTINEL: Final = b"DOWNGRD\x00"
CBC_SUITES: Final = tuple(CipherSuite(c) for c in (0xC009, 0xC00A, 0xC013, 0xC014, 0x002F, 0x0035))
"""Those that TLS 1.0 and 1.1 have."""


def answer_of(client: ScriptedClient, *, size: int = 32) -> ServerHello:
    """The ServerHello to a plain ClientHello with a legacy_session_id of that size."""
    return client.hello(session_id=bytes(range(size))).read_server_hello()


@req("4.2.3-1", "4.3.1-14")
def test_legacy_version(client: ScriptedClient) -> None:
    """legacy_version is 0x0303."""
    answer = answer_of(client)
    check(answer.legacy_version == ProtocolVersion.TLS_1_2, "0x0303", hex(answer.legacy_version))


@req("4.2.3-6")
@pytest.mark.parametrize("size", [0, 1, 31, 32])
def test_session_id_echo(client: ScriptedClient, size: int) -> None:
    """legacy_session_id_echo is what the client sent, empty or not: clients have to insist."""
    answer = answer_of(client, size=size)
    echo = answer.legacy_session_id_echo
    check(echo == client.first.legacy_session_id, "the client's legacy_session_id", echo.hex())


@req("4.2.3-8")
def test_compression_method(client: ScriptedClient) -> None:
    """legacy_compression_method is 0."""
    method = answer_of(client).legacy_compression_method
    check(method == 0, "0", method)


@req("4.2.3-7", "4.2.2-13")
def test_suite_of_the_offer(connect: Connect, features: ServerFeatures) -> None:
    """The cipher suite is one of those offered, whichever these are."""
    for name in features.suites:
        client = connect()
        suite = client.hello(suites=(CipherSuite[name],)).read_server_hello().cipher_suite
        check(suite.name == name, name, suite.name)
        client.close()


@req("4.2.3-10", "4.2.3-11", "4.3.1-13", "9.2-3")
def test_extensions(client: ScriptedClient) -> None:
    """It has supported_versions with 0x0304, and none that belongs in EncryptedExtensions."""
    answer = answer_of(client)
    version = answer.extensions.get(SelectedVersion)
    got = None if version is None else version.selected_version
    check(got == ProtocolVersion.TLS_1_3, "supported_versions with 0x0304", got)
    kinds = {each.extension_type for each in answer.extensions}
    check(kinds <= ALLOWED, "no other extensions", sorted(kinds - ALLOWED))


@req("4.2.3-10", "4.2.3-11", "9.2-7")
@needs("resumption")
def test_extensions_with_psk(connect: Connect) -> None:
    """With a PSK, it has pre_shared_key beside supported_versions and key_share."""
    ticket = fetch_ticket(connect)
    answer = connect().hello(psks=(ticket,)).read_server_hello()
    kinds = {each.extension_type for each in answer.extensions}
    check(kinds == ALLOWED, "these three extensions", sorted(kinds))


@req("4.2.3-4")
def test_random_is_random(connect: Connect) -> None:
    """No octet of random stays the same from connection to connection."""
    randoms = []
    for _ in range(6):
        client = connect()
        randoms.append(client.hello().read_server_hello().random)
        client.close()
    fixed = [i for i, octets in enumerate(zip(*randoms, strict=True)) if len(set(octets)) == 1]
    check(not fixed, "32 octets that change", f"octets {fixed} that do not")


@req("4.2.3-5")
def test_random_is_the_servers(connect: Connect) -> None:
    """random does not depend on the ClientHello: the same one gets two that differ."""
    first = connect()
    random = first.hello().read_server_hello().random
    first.close()
    second = connect()
    second.say_octets(first.hello_octets, "the same ClientHello")
    message, _ = second.next_message()
    if not isinstance(message, ServerHello):
        raise NonConformance("ServerHello", type(message).__name__)
    check(message.random not in (random, first.client_random), "another random", "the same")


# -- versions before TLS 1.3 -----------------------------------------------------------------------


@req("4.2.3-14", "4.2.3-3", "4.2.3-13")
@needs("tls12")
@pytest.mark.parametrize("how", ["supported_versions", "legacy_version"])
def test_sentinel_of_tls12(client: ScriptedClient, how: str) -> None:
    """A server of TLS 1.3 that answers with TLS 1.2 says so at the end of its random."""
    without = how == "legacy_version"
    edits = (drop("client_hello.extensions[supported_versions]"),) if without else ()
    client.hello(*edits, versions=(ProtocolVersion.TLS_1_2,), suites=TLS12_SUITES)
    answer = read_legacy_answer(client)
    if answer is None:
        raise NonConformance("a ServerHello of TLS 1.2", "an alert", "4.3.1-3")
    check(answer.random.endswith(TLS12_SENTINEL), TLS12_SENTINEL.hex(), answer.random[-8:].hex())


@req("4.2.3-15", "4.2.3-3", "4.2.3-13")
@pytest.mark.parametrize("version", [0x0301, 0x0302])
def test_sentinel_of_older_versions(client: ScriptedClient, version: int) -> None:
    """A server of TLS 1.3 that answers with TLS 1.1 or 1.0 says so at the end of its random."""
    client.hello(
        drop("client_hello.extensions[supported_versions]"),
        set_field("client_hello.legacy_version", version),
        suites=CBC_SUITES,
    )
    answer = read_legacy_answer(client)
    if answer is None:
        raise NotApplicable("the server does nothing older than TLS 1.2")
    check(answer.version <= version, "a version that was offered", hex(answer.version))
    check(answer.random.endswith(TLS11_SENTINEL), TLS11_SENTINEL.hex(), answer.random[-8:].hex())
