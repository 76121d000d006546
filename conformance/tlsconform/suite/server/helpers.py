"""What several tests of the suite do."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import Final

from tlsconform.features import REQUEST
from tlsconform.mutate import Edit, append, length_fields, truncate, wrong_length
from tlsconform.outcome import Deviation, NonConformance, NotApplicable
from tlsconform.peer import OfferedPsk, ScriptedClient
from tlsconform.plugin import Connect
from tlsconform.suite.helpers import PATIENCE, fetch_ticket
from tpmtls.codepoints import AlertDescription, ContentType
from tpmtls.wire.messages import HandshakeMessage

A = AlertDescription

CERTIFICATE_ALERTS: Final = (
    A.bad_certificate,
    A.unsupported_certificate,
    A.certificate_revoked,
    A.certificate_expired,
    A.certificate_unknown,
    A.unknown_ca,
    A.access_denied,
)
"""What a certificate may be refused with."""

# -- servers ---------------------------------------------------------------------------------------


def be_patient(client: ScriptedClient) -> None:
    """Wait longer than usual from now on."""
    client.timeout *= PATIENCE
    client.wire.timeout *= PATIENCE


def complete_without_psk(client: ScriptedClient) -> None:
    """Go on after a ClientHello with PSKs of which none will do.

    Raises Deviation where the server aborts: §4.3.11 recommends a handshake without PSK.
    """
    record = client.next_record()
    if record is None or record.content_type is ContentType.alert:
        raise Deviation("a handshake without PSK", "an abort")
    client.return_record(record)
    client.complete()


def take_ticket(client: ScriptedClient) -> OfferedPsk:
    """The next ticket after a handshake; a request brings it, if need be."""
    try:
        client.wait_for_ticket()
    except NonConformance:
        client.send_data(REQUEST)
        client.wait_for_ticket()
    return client.read_ticket()


def resume(connect: Connect, *edits: Edit) -> ScriptedClient:
    """A connection whose ClientHello offers a fresh ticket."""
    ticket = fetch_ticket(connect)
    return connect().hello(*edits, psks=(ticket,))


def send_early(connect: Connect, *edits: Edit, data: bytes = b"") -> ScriptedClient:
    """A connection whose early data the server accepts; its flight is read, `data` is sent.

    Raises NotApplicable where the server does not accept.
    """
    ticket = fetch_ticket(connect)
    client = connect().hello(*edits, psks=(ticket,), early_data=True, suites=(ticket.suite,))
    if data:
        client.send_data(data)
    client.read_flight()
    if not client.early_data_accepted:
        raise NotApplicable("the server did not accept early data with a fresh ticket")
    return client


def accepted_certificate(connect: Connect) -> None:
    """Raises NotApplicable where the server refuses the suite's client certificate as such."""
    client = connect().handshake()
    try:
        client.expect_quiet(0.3)
    except NonConformance as finding:
        raise NotApplicable(f"the server refuses the suite's certificate: {finding.got}") from None
    finally:
        client.close()


# -- lengths ---------------------------------------------------------------------------------------


def length_edits(message: HandshakeMessage, skip: Sequence[str] = ()) -> list[Edit]:
    """Every length of a message wrong in turn: the header's fits a body cut short or prolonged,
    inner ones say one more, one less, and the most that they can."""
    root, *inner = length_fields(message)
    edits = [append(root, b"\0"), truncate(root)]
    for path in inner:
        if path not in skip:
            edits += [wrong_length(path, by) for by in (1, -1)]
            edits.append(wrong_length(path, to=2**24 - 1))
    return edits


def edit_id(edit: Edit) -> str:
    """What a test about one edit is called, in characters that pytest's -k takes."""
    return re.sub(r"[^\w.\[\]+-]+", "-", str(edit))
