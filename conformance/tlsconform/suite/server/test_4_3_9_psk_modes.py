"""§4.3.9: in which modes a server uses PSKs."""

from __future__ import annotations

from typing import Final

import pytest

from tlsconform.channel import Silence
from tlsconform.features import REQUEST, ServerFeatures
from tlsconform.marks import needs, req
from tlsconform.mutate import drop
from tlsconform.peer import OfferedPsk
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import check, fetch_ticket, read_legacy_answer, server_lives
from tpmtls.codepoints import AlertDescription, ContentType, ExtensionType, PskKeyExchangeMode

A = AlertDescription
UNKNOWN: Final = (PskKeyExchangeMode(0x0B), PskKeyExchangeMode(0xFE))
MODES: Final = "client_hello.extensions[psk_key_exchange_modes]"


@req("4.3.9-3", "6.2-4")
@pytest.mark.parametrize("identity", ["known", "unknown"])
def test_psk_without_modes(connect: Connect, features: ServerFeatures, identity: str) -> None:
    """pre_shared_key without psk_key_exchange_modes is refused, known identity or not."""
    known = identity == "known" and features.resumption
    psk = fetch_ticket(connect) if known else OfferedPsk(b"nobody knows this one", bytes(32))
    client = connect()
    client.hello(drop(MODES), psks=(psk,))
    alert = client.expect_abort()
    got = A.missing_extension if alert is None else alert.description
    check(got == A.missing_extension, "alert missing_extension", f"alert {got.name}", "6.2-4")


@req("4.3.9-4")
@needs("resumption")
def test_unknown_modes_alone(connect: Connect) -> None:
    """With unknown modes alone, no PSK is used."""
    ticket = fetch_ticket(connect)
    answer = read_legacy_answer(connect().hello(psks=(ticket,), modes=UNKNOWN))
    selected = answer is not None and ExtensionType.pre_shared_key in answer.extensions
    check(not selected, "a handshake without PSK, or an alert", "the PSK selected")


@req("4.3.9-4", "4.3.9-8")
@needs("resumption")
def test_unknown_modes_too(connect: Connect, features: ServerFeatures) -> None:
    """Unknown modes beside psk_dhe_ke make no difference."""
    ticket = fetch_ticket(connect)
    client = connect()
    modes = (UNKNOWN[0], PskKeyExchangeMode.psk_dhe_ke, UNKNOWN[1])
    client.hello(psks=(ticket,), modes=modes).complete()
    check(client.selected_psk is not None, "the PSK selected", "none")
    server_lives(client, features)


@req("4.3.9-4", "4.3.9-7")
@needs("resumption")
def test_psk_ke_alone(connect: Connect) -> None:
    """With psk_ke alone, a PSK is not used with a key exchange."""
    ticket = fetch_ticket(connect)
    client = connect()
    answer = read_legacy_answer(client.hello(psks=(ticket,), modes=(PskKeyExchangeMode.psk_ke,)))
    kinds = () if answer is None else answer.extensions
    both = {ExtensionType.pre_shared_key, ExtensionType.key_share} <= set(kinds)
    check(not both, "no psk_dhe_ke", "a PSK selected, and a key_share")


@req("4.3.9-4")
@needs("resumption")
def test_psk_dhe_ke_without_share(connect: Connect) -> None:
    """With psk_dhe_ke alone and no key_share, a PSK is not used on its own."""
    ticket = fetch_ticket(connect)
    client = connect()
    edits = [drop(f"client_hello.extensions[{n}]") for n in ("key_share", "supported_groups")]
    answer = read_legacy_answer(client.hello(*edits, psks=(ticket,)))
    check(answer is None, "an alert", "a ServerHello")


@req("4.3.9-5")
@needs("tickets")
def test_no_useless_tickets(connect: Connect, features: ServerFeatures) -> None:
    """A client that can use no PSK gets no tickets."""
    modes = UNKNOWN if features.psk_ke else (PskKeyExchangeMode.psk_ke,)
    client = connect()
    client.hello(modes=modes).complete()
    client.send_data(REQUEST)
    try:
        while (record := client.next_record(0.3)) is not None:
            if record.content_type is ContentType.handshake:
                client.assembler.add(record.fragment)
                while (octets := client.assembler.next_message()) is not None:
                    client.absorb(octets)
            elif record.content_type is ContentType.alert:
                break
    except Silence:
        pass
    check(not client.tickets, "no NewSessionTicket", f"{len(client.tickets)} of them")
