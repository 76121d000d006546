"""§4.2.2, §6: every length of a ClientHello, off by one either way, and at its extremes."""

from __future__ import annotations

from typing import Final

import pytest

from tlsconform.marks import needs, req
from tlsconform.mutate import append, wrong_length
from tlsconform.peer import OfferedPsk, ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import fetch_ticket
from tpmtls.codepoints import AlertDescription

HELLO: Final = "client_hello"
FIELDS: Final = (
    "legacy_session_id",
    "cipher_suites",
    "legacy_compression_methods",
    "extensions",
    "extensions[supported_versions]",
    "extensions[supported_versions].versions",
    "extensions[supported_groups]",
    "extensions[supported_groups].named_group_list",
    "extensions[signature_algorithms]",
    "extensions[signature_algorithms].supported_signature_algorithms",
    "extensions[psk_key_exchange_modes]",
    "extensions[psk_key_exchange_modes].ke_modes",
    "extensions[key_share]",
    "extensions[key_share].client_shares",
    "extensions[key_share].client_shares[0].key_exchange",
)
"""All but the message's own, and those of server_name, which a server may be told to ignore."""
PSK_FIELDS: Final = (
    "extensions[pre_shared_key]",
    "extensions[pre_shared_key].identities",
    "extensions[pre_shared_key].identities[0].identity",
    "extensions[pre_shared_key].binders",
    "extensions[pre_shared_key].binders[0]",
)
"""Those of a ticket that the server knows: it may pass over binders of others."""
OFF: Final = {"-1": -1, "+1": 1}
EXTREME: Final = {"0": 0, "max": (1 << 24) - 1}
SEMANTIC: Final = (
    "legacy_session_id",
    "legacy_compression_methods",
    "client_shares[0].key_exchange",
    "extensions[pre_shared_key]",
)
"""Where what is left may be of right syntax, so that its meaning is complained of as well."""


def ask(
    client: ScriptedClient,
    field: str,
    by: int = 0,
    to: int | None = None,
    psks: tuple[OfferedPsk, ...] = (),
) -> None:
    """A ClientHello in which that length lies, and the alert that it gets."""
    edit = wrong_length(f"{HELLO}.{field}", by, to)
    client.hello(edit, psks=psks, shares=client.share_groups[:1])
    allowed = [AlertDescription.decode_error]
    if field.endswith(SEMANTIC):
        allowed.append(AlertDescription.illegal_parameter)
    client.expect_alert(*allowed)


@req("6-9", "4.3-2")
@pytest.mark.parametrize("by", OFF)
@pytest.mark.parametrize("field", FIELDS)
def test_off_by_one(client: ScriptedClient, field: str, by: str) -> None:
    """A length that is one more or less than what it counts is refused with decode_error."""
    ask(client, field, by=OFF[by])


@req("6-9")
@pytest.mark.parametrize("to", EXTREME)
@pytest.mark.parametrize("field", FIELDS)
def test_extreme(client: ScriptedClient, field: str, to: str) -> None:
    """A length of nothing, or of all that the field can say, is refused with decode_error."""
    ask(client, field, to=EXTREME[to])


@req("6-9", "4.3-2")
@needs("resumption")
@pytest.mark.parametrize("by", OFF)
@pytest.mark.parametrize("field", PSK_FIELDS)
def test_psk_off_by_one(connect: Connect, field: str, by: str) -> None:
    """A length of pre_shared_key that is one more or less than what it counts is refused."""
    ticket = fetch_ticket(connect)
    ask(connect(), field, by=OFF[by], psks=(ticket,))


@req("6-9")
@needs("resumption")
@pytest.mark.parametrize("to", EXTREME)
@pytest.mark.parametrize("field", PSK_FIELDS)
def test_psk_extreme(connect: Connect, field: str, to: str) -> None:
    """A length of pre_shared_key of nothing, or of all that it can say, is refused."""
    ticket = fetch_ticket(connect)
    ask(connect(), field, to=EXTREME[to], psks=(ticket,))


@req("6-9")
def test_message_too_short(client: ScriptedClient) -> None:
    """A message that ends within its last extension is refused with decode_error."""
    client.hello(wrong_length(HELLO, -1))
    client.expect_alert(AlertDescription.decode_error)


@req("6-9")
def test_message_too_long(client: ScriptedClient) -> None:
    """An octet after the extensions is refused with decode_error."""
    client.hello(append(HELLO, b"\0"))
    client.expect_alert(AlertDescription.decode_error)


@req("6-9")
@pytest.mark.parametrize("size", [0, 1, 2, 34, 35])
def test_message_cut_short(client: ScriptedClient, size: int) -> None:
    """A message that ends within its first fields is refused with decode_error."""
    client.say_octets(
        bytes((1,)) + size.to_bytes(3, "big") + (b"\x03\x03" + bytes(33))[:size], HELLO
    )
    client.expect_alert(AlertDescription.decode_error)
