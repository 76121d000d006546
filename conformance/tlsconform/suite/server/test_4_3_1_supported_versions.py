"""§4.3.1: how a server chooses the version."""

from __future__ import annotations

from typing import Final

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import drop, set_field
from tlsconform.outcome import NonConformance
from tlsconform.peer import ScriptedClient
from tlsconform.peer.client import SUITES_OFFERED
from tlsconform.plugin import Connect
from tlsconform.probe import TLS12_SUITES
from tlsconform.suite.helpers import LegacyAnswer, check, read_legacy_answer, server_lives
from tpmtls.codepoints import AlertDescription, CipherSuite, ExtensionType, ProtocolVersion
from tpmtls.wire.extensions import SelectedVersion

BOTH: Final = (*SUITES_OFFERED, *TLS12_SUITES)
CBC_SUITES: Final = tuple(CipherSuite(c) for c in (0xC009, 0xC00A, 0xC013, 0xC014, 0x002F, 0x0035))
EXTENSION: Final = "client_hello.extensions[supported_versions]"
TLS12: Final = ProtocolVersion.TLS_1_2
TLS13: Final = ProtocolVersion.TLS_1_3


def tls12_answer(client: ScriptedClient) -> LegacyAnswer:
    """The server's ServerHello, which has to be one of TLS 1.2."""
    answer = read_legacy_answer(client)
    if answer is None:
        raise NonConformance("a ServerHello of TLS 1.2", "an alert")
    check(not answer.is_tls13, "TLS 1.2", "supported_versions", "4.3.1-12")
    check(answer.version == TLS12, "version 0x0303", hex(answer.version), "4.3.1-11")
    return answer


@req("4.3.1-3", "4.3.1-11", "4.3.1-12")
@needs("tls12")
def test_tls12_without_the_extension(client: ScriptedClient) -> None:
    """Without supported_versions the server answers with TLS 1.2, whatever suites are offered."""
    client.hello(drop(EXTENSION), suites=BOTH)
    tls12_answer(client)


@req("4.3.1-3")
@pytest.mark.parametrize("version", [0x0303, 0x0304, 0x0305])
def test_no_tls13_without_the_extension(client: ScriptedClient, version: int) -> None:
    """Without supported_versions it is never TLS 1.3, whatever legacy_version says."""
    client.hello(drop(EXTENSION), set_field("client_hello.legacy_version", version), suites=BOTH)
    answer = read_legacy_answer(client)
    if answer is not None:
        check(not answer.is_tls13, "TLS 1.2, or an alert", "TLS 1.3")
        check(answer.version <= TLS12, "TLS 1.2, or an alert", hex(answer.version))


@req("4.3.1-5", "4.3.1-7", "4.3.1-10")
@pytest.mark.parametrize("versions", ["0305", "7f1c", "0a0a", "fafa0305"])
def test_unknown_versions_alone(client: ScriptedClient, versions: str) -> None:
    """Unknown versions alone are refused, though legacy_version says TLS 1.2."""
    client.hello(set_field(f"{EXTENSION}.versions", bytes.fromhex(versions)), suites=BOTH)
    client.expect_alert(AlertDescription.protocol_version)


@req("4.3.1-6", "4.3.1-7")
def test_tls13_by_the_extension(client: ScriptedClient, features: ServerFeatures) -> None:
    """TLS 1.3 is chosen where the extension lists it, alone."""
    client.hello(versions=(TLS13,), suites=BOTH).complete()
    server_lives(client, features)


@req("4.3.1-7", "4.3.1-5")
@needs("tls12")
def test_version_of_the_list(client: ScriptedClient) -> None:
    """Where the extension lists TLS 1.2 alone, TLS 1.3 is not chosen for its suites and shares."""
    client.hello(versions=(TLS12,), suites=BOTH)
    tls12_answer(client)


@req("4.3.1-8")
@pytest.mark.parametrize(
    "versions", ["0a0a0304", "03040a0a", "0305037f0304", "7f1c03040305"], ids=str
)
def test_unknown_versions(client: ScriptedClient, features: ServerFeatures, versions: str) -> None:
    """Unknown versions before or after TLS 1.3 make no difference."""
    client.hello(set_field(f"{EXTENSION}.versions", bytes.fromhex(versions)))
    answer = client.read_server_hello()
    selected = answer.extensions.get(SelectedVersion)
    got = None if selected is None else selected.selected_version
    check(got == TLS13, "selected_version 0x0304", got, "4.3.1-13")
    client.read_encrypted_extensions()
    client.read_authentication()
    client.read_finished()
    client.authenticate().finish()
    server_lives(client, features)


@req("4.3.1-8")
def test_many_versions(client: ScriptedClient, features: ServerFeatures) -> None:
    """TLS 1.3 is found at the end of the longest list that there can be."""
    versions = tuple(ProtocolVersion(0x7F00 + i) for i in range(126))
    client.hello(versions=(*versions, TLS13)).complete()
    server_lives(client, features)


@req("4.3.1-9")
def test_tls12_where_older(connect: Connect, features: ServerFeatures) -> None:
    """A server that does TLS 1.1 or 1.0 does TLS 1.2 too."""
    for version in (0x0301, 0x0302):
        client = connect()
        client.hello(
            drop(EXTENSION), set_field("client_hello.legacy_version", version), suites=CBC_SUITES
        )
        answer = read_legacy_answer(client)
        client.close()
        older = answer is not None and answer.version < TLS12
        check(features.tls12 or not older, "TLS 1.2 as well", hex(version))


@req("4.3.1-10")
def test_list_without_tls13(client: ScriptedClient, features: ServerFeatures) -> None:
    """A list of TLS 1.2 alone gets TLS 1.2, or protocol_version from a server without it."""
    client.hello(versions=(TLS12,), suites=TLS12_SUITES)
    if features.tls12:
        tls12_answer(client)
    else:
        client.expect_alert(AlertDescription.protocol_version)


@req("4.3.1-10")
def test_list_of_ssl3(client: ScriptedClient) -> None:
    """A list of SSL 3.0 alone is refused with protocol_version."""
    client.hello(versions=(ProtocolVersion.SSL_3_0,), suites=(*BOTH, *CBC_SUITES))
    client.expect_alert(AlertDescription.protocol_version)


@req("4.3.1-13", "4.3.1-14")
def test_selected_version(client: ScriptedClient) -> None:
    """A ServerHello of TLS 1.3 has legacy_version 0x0303 and selected_version 0x0304."""
    answer = read_legacy_answer(client.hello())
    if answer is None:
        raise NonConformance("ServerHello", "an alert")
    check(answer.version == TLS12, "0x0303", hex(answer.version))
    check(ExtensionType.supported_versions in answer.extensions, "supported_versions", "none")
