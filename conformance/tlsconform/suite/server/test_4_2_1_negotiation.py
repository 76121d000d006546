"""§4.2.1: how a server chooses among what the ClientHello offers."""

from __future__ import annotations

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import set_field
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import check, fetch_ticket, server_lives
from tpmtls.codepoints import AlertDescription, CipherSuite, NamedGroup, PskKeyExchangeMode
from tpmtls.wire.extensions import KeyShareHelloRetryRequest, KeyShareServerHello

NOTHING_IN_COMMON = (AlertDescription.handshake_failure, AlertDescription.insufficient_security)
UNKNOWN_GROUPS = (NamedGroup(0xFE00), NamedGroup(0x0A0A))


@req("4.2.1-1")
def test_no_group_in_common(client: ScriptedClient) -> None:
    """Without a group that it supports, the server aborts."""
    client.hello(groups=UNKNOWN_GROUPS, shares=())
    client.expect_alert(*NOTHING_IN_COMMON)


@req("4.2.1-1")
def test_no_group_in_common_but_shares(client: ScriptedClient) -> None:
    """A group that the server does not know does not become one for having a share."""
    share = bytes.fromhex("fe000020") + bytes(range(32))
    client.hello(
        set_field("client_hello.extensions[key_share].client_shares", share),
        groups=UNKNOWN_GROUPS,
        shares=(),
    )
    client.expect_alert(*NOTHING_IN_COMMON)


@req("4.2.1-2", "4.3.9-8")
@needs("resumption")
def test_psk_with_key_exchange(connect: Connect) -> None:
    """A PSK offered for psk_dhe_ke alone is used with a key exchange."""
    ticket = fetch_ticket(connect)
    client = connect()
    client.hello(psks=(ticket,)).read_server_hello()
    check(client.selected_psk is not None, "the PSK selected", "none")
    share = client.answer and client.answer.extensions.get(KeyShareServerHello)
    check(share is not None, "a key_share", "none")
    client.read_encrypted_extensions()
    client.read_finished()


@req("4.2.1-2", "4.3.8-19", "4.3.9-7")
@needs("psk_ke")
def test_psk_alone(connect: Connect, features: ServerFeatures) -> None:
    """A PSK offered for psk_ke alone is used without a key exchange."""
    modes = (PskKeyExchangeMode.psk_ke,)
    ticket = fetch_ticket(connect, modes=(*modes, PskKeyExchangeMode.psk_dhe_ke))
    client = connect()
    client.hello(psks=(ticket,), modes=modes).read_server_hello()
    check(client.selected_psk is not None, "the PSK selected", "none")
    share = client.answer and client.answer.extensions.get(KeyShareServerHello)
    check(share is None, "no key_share", "one")
    client.read_encrypted_extensions()
    client.read_finished()
    client.authenticate().finish()
    server_lives(client, features)


@req("4.2.1-3", "4.3.8-1", "4.3.8-2")
@needs("retry")
@pytest.mark.parametrize("shares", ["none", "of an unknown group"])
def test_retry(connect: Connect, features: ServerFeatures, shares: str) -> None:
    """Without a share for a group that the server has, it asks for one, and goes on with it."""
    client = connect()
    unknown = bytes.fromhex("0a0a0001") + b"\0"
    edits = [set_field("client_hello.extensions[key_share].client_shares", unknown)]
    groups = tuple(NamedGroup[name] for name in features.groups)
    client.hello(*(edits if shares != "none" else ()), groups=(*UNKNOWN_GROUPS, *groups), shares=())
    retry = client.read_retry()
    wanted = retry.extensions.get(KeyShareHelloRetryRequest)
    got = None if wanted is None else wanted.selected_group
    check(got in groups, "a group that was offered and is known", got)
    client.hello_again().complete()
    server_lives(client, features)


@req("4.2.1-4")
@pytest.mark.parametrize("suites", [(0x13F0, 0x1A1A), (0xC02B, 0xC02F)], ids=["unknown", "tls12"])
def test_no_suite_in_common(client: ScriptedClient, suites: tuple[int, ...]) -> None:
    """Without a suite of TLS 1.3, the server aborts."""
    client.hello(suites=tuple(CipherSuite(code) for code in suites))
    client.expect_alert(*NOTHING_IN_COMMON)
