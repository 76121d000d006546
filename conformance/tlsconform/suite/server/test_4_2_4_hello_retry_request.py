"""§4.2.4: a server's HelloRetryRequest, and what it makes of the second ClientHello."""

from __future__ import annotations

from typing import Final

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import drop, flip, set_field
from tlsconform.outcome import NotApplicable
from tlsconform.peer import ScriptedClient
from tlsconform.suite.helpers import check, server_lives
from tpmtls.codepoints import AlertDescription, CipherSuite, ExtensionType, ProtocolVersion
from tpmtls.wire.extensions import Cookie, SelectedVersion
from tpmtls.wire.messages import HelloRetryRequest

pytestmark = needs("retry")

SHARES: Final = "client_hello.extensions[key_share].client_shares"
MINIMAL: Final = {ExtensionType.supported_versions, ExtensionType.key_share, ExtensionType.cookie}


def retry_of(client: ScriptedClient) -> HelloRetryRequest:
    """The HelloRetryRequest to a ClientHello without shares."""
    return client.hello(shares=(), groups=client.share_groups).read_retry()


def kinds_of(retry: HelloRetryRequest) -> set[ExtensionType]:
    """The types of its extensions."""
    return {each.extension_type for each in retry.extensions}


@req("4.2.4-1", "9.2-3")
def test_supported_versions(client: ScriptedClient) -> None:
    """It has supported_versions with 0x0304."""
    version = retry_of(client).extensions.get(SelectedVersion)
    got = None if version is None else version.selected_version
    check(got == ProtocolVersion.TLS_1_3, "supported_versions with 0x0304", got)


@req("4.2.4-2")
def test_minimal_extensions(client: ScriptedClient) -> None:
    """It has no extension that the second ClientHello does not need."""
    kinds = kinds_of(retry_of(client))
    check(kinds <= MINIMAL, "supported_versions, key_share, cookie", sorted(kinds - MINIMAL))


@req("4.2.4-3", "4.3-5")
def test_solicited_extensions(client: ScriptedClient) -> None:
    """It has no extension that the ClientHello did not have, but for cookie."""
    kinds = kinds_of(retry_of(client)) - {ExtensionType.cookie}
    offered = {each.extension_type for each in client.first.extensions}
    check(kinds <= offered, "extensions of the ClientHello", sorted(kinds - offered))


@req("4.2.3-1", "4.2.3-8", "4.2.3-6")
def test_legacy_fields(client: ScriptedClient) -> None:
    """Its legacy fields have the values of a ServerHello's."""
    retry = retry_of(client)
    got = (retry.legacy_version, retry.legacy_session_id_echo, retry.legacy_compression_method)
    check(got == (0x0303, client.first.legacy_session_id, 0), "as in a ServerHello", got)


@req("4.2.4-9")
def test_suite_stays(client: ScriptedClient, features: ServerFeatures) -> None:
    """The ServerHello has the HelloRetryRequest's cipher suite."""
    suites = tuple(CipherSuite[name] for name in features.suites[::-1])
    client.hello(shares=(), groups=client.share_groups, suites=suites)
    retry = client.read_retry()
    answer = client.hello_again().read_server_hello()
    check(answer.cipher_suite == retry.cipher_suite, retry.cipher_suite.name, answer.cipher_suite)


@req("4.2.4-12")
def test_version_stays(client: ScriptedClient, features: ServerFeatures) -> None:
    """The ServerHello has the HelloRetryRequest's version; the handshake ends well."""
    retry_of(client)
    answer = client.hello_again().read_server_hello()
    version = answer.extensions.get(SelectedVersion)
    got = None if version is None else version.selected_version
    check(got == ProtocolVersion.TLS_1_3, "supported_versions with 0x0304", got)
    client.read_encrypted_extensions()
    client.read_authentication()
    client.read_finished()
    client.authenticate().finish()
    server_lives(client, features)


# -- second ClientHellos that are not what was asked for -------------------------------------------


@req("4.2.4-12")
@pytest.mark.parametrize("how", ["older", "none"])
def test_second_hello_without_the_version(client: ScriptedClient, how: str) -> None:
    """A second ClientHello without the version of the HelloRetryRequest cannot be answered."""
    retry_of(client)
    extension = "client_hello.extensions[supported_versions]"
    edit = drop(extension) if how == "none" else set_field(f"{extension}.versions", b"\x03\x03")
    client.hello_again(edit)
    client.expect_abort()


@req("4.2.1-3", "6-10")
def test_second_hello_with_another_group(client: ScriptedClient) -> None:
    """A share for another group than was asked for is refused, though it would do."""
    if len(client.share_groups) < 2:
        raise NotApplicable("the server has one group")
    asked = client.second_hello(retry_of(client))
    group = next(iter(client.shares))
    other = next(g for g in client.share_groups if g != group)
    share = client.backend.key_share(other).public
    entry = other.to_bytes(2, "big") + len(share).to_bytes(2, "big") + share
    client.forget_edits("client_hello")
    client.edit(set_field(SHARES, entry))
    client.send_hello(asked)
    client.expect_alert(AlertDescription.illegal_parameter, AlertDescription.handshake_failure)


@req("4.2.1-3")
@pytest.mark.parametrize("what", ["an empty list", "no key_share"])
def test_second_hello_without_the_share(client: ScriptedClient, what: str) -> None:
    """A second ClientHello that still has no share is refused: there is no second request."""
    retry_of(client)
    client.hello_again(
        set_field(SHARES, b"") if what == "an empty list" else drop(SHARES.rpartition(".")[0])
    )
    client.expect_abort()


@req("4.3.2-2", "4.2.4-9")
@pytest.mark.parametrize("how", ["changed", "missing"])
def test_cookie(client: ScriptedClient, how: str) -> None:
    """A cookie that is not the server's, or missing, is refused where it gave one."""
    if retry_of(client).extensions.get(Cookie) is None:
        raise NotApplicable("the server gives no cookies")
    extension = "client_hello.extensions[cookie]"
    client.hello_again(drop(extension) if how == "missing" else flip(f"{extension}.cookie", -1))
    client.expect_abort()


@req("4.3.2-4")
def test_change_cipher_spec_between(client: ScriptedClient, features: ServerFeatures) -> None:
    """A change_cipher_spec between the two ClientHellos is passed over."""
    retry_of(client)
    client.send_change_cipher_spec()
    client.hello_again().complete()
    server_lives(client, features)
