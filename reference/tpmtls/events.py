"""What a connection tells its user: one frozen value per thing that happened."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

from tpmtls.codepoints import CipherSuite, NamedGroup, ProtocolVersion

if TYPE_CHECKING:
    from tpmtls.tickets import SessionTicket

PskKind = Literal["resumption", "external"]


@dataclass(frozen=True, slots=True)
class Event:
    """Base of the events."""


@dataclass(frozen=True, slots=True)
class HandshakeCompleted(Event):
    """Both Finished messages are verified; what was negotiated.

    `group` is None in psk_ke, `psk` None after a handshake with certificates. The chain is DER,
    leaf first; after resumption it is the one of the session resumed. `early_data_accepted` is
    None where none was offered. `authenticated` says whether a client that was asked for a
    certificate had one that suits, and sent it; None where it was not asked, and at a server.
    """

    suite: CipherSuite
    group: NamedGroup | None
    psk: PskKind | None
    server_name: str | None
    alpn: str | None
    peer_chain: tuple[bytes, ...] = field(repr=False)
    early_data_accepted: bool | None
    version: ProtocolVersion = ProtocolVersion.TLS_1_3
    authenticated: bool | None = None


@dataclass(frozen=True, slots=True)
class ApplicationData(Event):
    """Octets from the peer, protected under application keys."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EarlyData(Event):
    """Octets of 0-RTT data: they may be a replay (RFC 9846 §8)."""

    data: bytes = field(repr=False)


@dataclass(frozen=True, slots=True)
class EarlyDataEnded(Event):
    """The client has sent all of its early data."""


@dataclass(frozen=True, slots=True)
class TicketReceived(Event):
    """The server sent a ticket, which went into the session cache if there is one."""

    ticket: SessionTicket


@dataclass(frozen=True, slots=True)
class CertificateRequested(Event):
    """The server asked for post-handshake authentication; `authenticated` says what we answered."""

    authenticated: bool


@dataclass(frozen=True, slots=True)
class ClientAuthenticated(Event):
    """The client answered a post-handshake request; an empty chain means that it declined."""

    peer_chain: tuple[bytes, ...]


@dataclass(frozen=True, slots=True)
class KeyUpdated(Event):
    """The keys of one direction are a generation further."""

    direction: Literal["read", "write"]


@dataclass(frozen=True, slots=True)
class HandshakeCanceled(Event):
    """The peer sent user_canceled; close_notify is to follow (RFC 9846 §6.1)."""


@dataclass(frozen=True, slots=True)
class ConnectionClosed(Event):
    """The peer sent close_notify: no more data will come, and none is missing."""
