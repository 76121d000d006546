"""Plays one role of a trace: the peer's records in, ours out, in the recorded order."""

from collections.abc import Callable
from typing import Final

from tpmtls.codepoints import NamedGroup
from tpmtls.connection import ClientConnection, Connection, ServerConnection
from tpmtls.events import ApplicationData, ConnectionClosed, EarlyData, Event, HandshakeCompleted
from tpmtls.record import RECORD_HEADER_SIZE

from ..names import PEER
from ..trace import Record, Trace
from .configuration import client_config, server_config
from .difference import Difference
from .observation import Observation, Observed, ObservedBackend
from .session import Session

MakeBackend = Callable[[list[bytes]], Observed]
"""Makes a backend whose ephemeral private keys are these, in this order."""


def play(
    trace: Trace, role: str, session: Session, make_backend: MakeBackend = ObservedBackend
) -> Observation:
    """Everything that the reference computed and sent; raises Difference at a wrong record."""
    session.prepare(trace, role)
    pairs = trace.key_pairs(role)
    backend = make_backend([pair.private_key for pair in pairs])
    connection: Connection
    if role == "client":
        early = "early_data" in trace.data["negotiated"]["features"]
        connection = ClientConnection(client_config(trace, session), backend, early_data=early)
    else:
        # A server that agrees in no other group must ask for a retry where the trace's did.
        backend.groups = tuple(NamedGroup[pair.group] for pair in pairs)
        connection = ServerConnection(server_config(trace, session), backend)
    player = _Player(connection, backend.observed)
    for record in trace.records():
        if record.sender == role:
            player.send(record)
        else:
            player.receive(record)
    player.end(trace, role)
    return backend.observed


class _Player:
    """A connection, and what it has to say to the peer and to its user."""

    def __init__(self, connection: Connection, observed: Observation) -> None:
        self._connection = connection
        self._observed = observed
        self._outgoing = b""
        self._events: list[Event] = []

    def receive(self, record: Record) -> None:
        """A record of the peer's arrives."""
        self._connection.receive_data(record.octets)
        self._collect()

    def send(self, record: Record) -> None:
        """This record must go out now: by itself, or as the user wants it to."""
        connection = self._connection
        if record.content_type == "alert":
            connection.close()
        elif record.content_type == "application_data":
            if record.epoch == "early" and isinstance(connection, ClientConnection):
                connection.send_early_data(record.payload)
            else:
                connection.send_data(record.payload)
        self._collect()
        if self._outgoing.startswith(record.octets):
            self._outgoing = self._outgoing[len(record.octets) :]
            self._observed.sent.append(record.octets)
            return
        length = RECORD_HEADER_SIZE + int.from_bytes(self._outgoing[3:5], "big")
        sent = self._outgoing[:length]
        raise Difference(f"{record.id}.record", f"sends {_brief(sent) or 'nothing'} instead")

    def end(self, trace: Trace, role: str) -> None:
        """Nothing must be left, and the user must have been told everything."""
        if self._outgoing:
            raise Difference(f"{role} records", f"sends {_brief(self._outgoing)} at the end")
        told = [event for event in self._events if isinstance(event, _RECORDED)]
        events = _expected_events(trace, role)
        if told != events:
            raise Difference("steps", f"tells its user {told}")
        completed = [event for event in self._events if isinstance(event, HandshakeCompleted)]
        if [_summary(event) for event in completed] != [_negotiated(trace, role)]:
            raise Difference("negotiated", f"completes {len(completed)} handshakes: {completed}")

    def _collect(self) -> None:
        self._outgoing += self._connection.data_to_send()
        self._events += self._connection.events()


_RECORDED: Final = (ApplicationData, EarlyData, ConnectionClosed)


def _expected_events(trace: Trace, role: str) -> list[Event]:
    """What the user learns from the peer's records, handshake aside."""
    events: list[Event] = []
    for record in trace.records(PEER[role]):
        if record.content_type == "alert":
            events.append(ConnectionClosed())
        elif record.content_type == "application_data":
            kind = EarlyData if record.epoch == "early" else ApplicationData
            events.append(kind(record.payload))
    return events


def _summary(event: HandshakeCompleted) -> dict[str, object]:
    return {
        "cipher_suite": event.suite.name,
        "group": event.group.name if event.group is not None else None,
        "psk_resumption": event.psk == "resumption",
        "early_data": bool(event.early_data_accepted),
        "peer_chain": event.peer_chain if event.psk is None else (),
    }


def _negotiated(trace: Trace, role: str) -> dict[str, object]:
    stated = trace.data["negotiated"]
    chain = [
        bytes.fromhex(entry["cert_data"])
        for message in trace.messages(PEER[role])
        for entry in message.fields.get("certificate_list", [])
    ]
    return {
        "cipher_suite": stated["cipher_suite"],
        "group": stated["group"],
        "psk_resumption": "psk_resumption" in stated["features"],
        "early_data": "early_data" in stated["features"],
        "peer_chain": tuple(chain),
    }


def _brief(octets: bytes) -> str:
    return octets[:16].hex() + ("…" if len(octets) > 16 else "")
