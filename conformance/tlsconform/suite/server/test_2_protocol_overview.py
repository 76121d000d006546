"""§2: what the order of messages and the parameters of a handshake are."""

from __future__ import annotations

import pytest

from tlsconform.features import ServerFeatures
from tlsconform.marks import req
from tlsconform.mutate import set_field
from tlsconform.outcome import NonConformance
from tlsconform.peer import ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import check, server_lives
from tpmtls.codepoints import AlertDescription, NamedGroup
from tpmtls.wire.extensions import Extensions, KeyShareServerHello
from tpmtls.wire.messages import (
    EncryptedExtensions,
    EndOfEarlyData,
    Finished,
    HelloRetryRequest,
    ServerHello,
)

NOTHING_IN_COMMON = (AlertDescription.handshake_failure, AlertDescription.insufficient_security)


@req("2-1", "4.3.8-17", "4.3.8-18", "4.3.8-5", "4.3.8-6")
def test_share_of_the_server(connect: Connect, features: ServerFeatures) -> None:
    """The server's share is for a group that the client sent a share for, whichever that is."""
    groups = tuple(NamedGroup[name] for name in features.groups)
    for group in groups:
        client = connect()
        client.hello(groups=groups, shares=(group,))
        message, _ = client.next_message()
        if isinstance(message, ServerHello):
            share = message.extensions.get(KeyShareServerHello)
            check(share is not None, "a key_share", "none", "4.3.9-8")
            got = None if share is None else share.server_share.group
            check(got == group, f"a share for {group.name}", got)
        elif not isinstance(message, HelloRetryRequest):
            raise NonConformance("ServerHello or HelloRetryRequest", type(message).__name__)
        client.close()


@req("2-2", "4-1")
def test_flight_of_the_server(client: ScriptedClient, features: ServerFeatures) -> None:
    """The server's flight has its messages in order, and nothing else before its Finished."""
    client.handshake()  # anything else than the handshake's next message ends it
    server_lives(client, features)


@req("2.1-1", "4.2.1-4")
@pytest.mark.parametrize("what", ["suites", "groups", "schemes"])
def test_nothing_in_common(client: ScriptedClient, what: str) -> None:
    """The server aborts where it has no suite, group or signature scheme of the client's."""
    path, values = {
        "suites": ("cipher_suites", b"\x13\xf0\x0a\x0a"),
        "groups": ("extensions[supported_groups].named_group_list", b"\xfe\x00\x0a\x0a"),
        "schemes": (
            "extensions[signature_algorithms].supported_signature_algorithms",
            b"\xfe\x00\x0a\x0a",
        ),
    }[what]
    edits = [set_field(f"client_hello.{path}", values)]
    if what == "groups":
        edits.append(set_field("client_hello.extensions[key_share].client_shares", b""))
    client.hello(*edits)
    client.expect_alert(*NOTHING_IN_COMMON)


@req("4-2")
@pytest.mark.parametrize("what", ["EncryptedExtensions", "EndOfEarlyData"])
def test_message_out_of_order(client: ScriptedClient, what: str) -> None:
    """In place of Finished, a message that is not due there gets unexpected_message."""
    client.hello().read_flight()
    client.say(EndOfEarlyData() if what == "EndOfEarlyData" else EncryptedExtensions(Extensions()))
    client.expect_alert(AlertDescription.unexpected_message)


@req("4-2")
def test_finished_first(client: ScriptedClient) -> None:
    """A Finished in place of the ClientHello gets unexpected_message."""
    client.say(Finished(bytes(32)))
    client.expect_alert(AlertDescription.unexpected_message)


@req("4-2")
def test_finished_twice(client: ScriptedClient) -> None:
    """A second Finished after the handshake gets unexpected_message."""
    client.handshake()
    client.say(Finished(bytes(client.hash.digest_size)))
    client.expect_alert(AlertDescription.unexpected_message)
