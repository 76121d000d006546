"""What both ends share: records to messages, messages to steps, steps to actions."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable
from traceback import clear_frames
from typing import Any, Final

from tpmtls.backends.base import Backend, Secret
from tpmtls.backends.software import SoftwareBackend
from tpmtls.codepoints import AlertDescription, AlertLevel, ContentType, ProtocolVersion
from tpmtls.config import Config
from tpmtls.events import (
    ApplicationData,
    ConnectionClosed,
    EarlyData,
    Event,
    HandshakeCanceled,
    HandshakeCompleted,
)
from tpmtls.handshake.machine import (
    AcceptChangeCipherSpec,
    Action,
    Emit,
    LimitRecords,
    ProvideExporter,
    RekeyRead,
    RekeyWrite,
    Send,
    SendChangeCipherSpec,
    SkipEarlyData,
    State,
    Step,
    Table,
    advance,
    destroy_in,
)
from tpmtls.handshake.post_handshake import (
    connected_in,
    embed,
    send_key_update,
)
from tpmtls.key_schedule import export
from tpmtls.record import (
    APPLICATION_DATA,
    CHANGE_CIPHER_SPEC_RECORD,
    HANDSHAKE,
    Epoch,
    MessageAssembler,
    Record,
    RecordReader,
    RecordWriter,
)
from tpmtls.violations import (
    BackendError,
    ConnectionStateError,
    PeerAlert,
    PeerViolation,
    TlsError,
    TruncationError,
    Violation,
)
from tpmtls.wire.messages import Alert, decode_message

logger = logging.getLogger("tpmtls")

_CLOSURE_ALERTS: Final = (AlertDescription.close_notify, AlertDescription.user_canceled)
KEY_UPDATE_MARGIN: Final = 4
"""Records kept back under a key for the KeyUpdate that replaces it, and for alerts."""


class Connection:
    """What client and server share. Not safe for use by several threads at once."""

    _table: Table

    def __init__(self, config: Config, backend: Backend | None) -> None:
        self.config = config
        self.backend = SoftwareBackend(config.entropy) if backend is None else backend
        for psk in config.psks:
            self.backend.check_psk(psk.source)
        self.info: HandshakeCompleted | None = None
        """What was negotiated, once the handshake is complete."""
        self.peer_closed = False
        """Whether the peer's close_notify has come."""
        self.closed = False
        """Whether we can send no more: we sent close_notify, or the connection failed."""
        self._state: State
        self._reader = RecordReader()
        self._writer = RecordWriter(config.record_padding)
        self._assembler = MessageAssembler()
        self._events: deque[Event] = deque()
        self._outgoing: list[bytes] = []
        self._handshake_octets = bytearray()
        self._early_data_received = 0
        self._exporters: dict[bool, Secret] = {}
        self._failure: TlsError | None = None

    # -- the transport's side ----------------------------------------------------------------------

    def receive_data(self, octets: bytes) -> None:
        """Take octets from the transport; b"" says that it has ended.

        Raises PeerViolation, PeerAlert, CertificateError, TruncationError or BackendError; the
        connection is dead then, its secrets forgotten, and the alert for the peer is in
        `data_to_send`. Raises the same error again when called again.
        """
        # req: 6.1-1 6.1-9 6.2-1 6.2-3
        if self._failure is not None:
            raise self._failure
        if self.peer_closed:
            return
        try:
            if not octets:
                raise TruncationError("the transport ended before close_notify")
            self._reader.feed(octets)
            self._handle_records()
        except TlsError as error:
            self._fail(error)
            raise
        except Exception as error:
            self._fail(BackendError(f"internal error: {type(error).__name__}"))
            raise

    def data_to_send(self) -> bytes:
        """The octets that the transport is to send now."""
        octets = b"".join(self._outgoing)
        self._outgoing.clear()
        return octets

    # -- the user's side ---------------------------------------------------------------------------

    def events(self) -> list[Event]:
        """What has happened since the last call."""
        events = list(self._events)
        self._events.clear()
        return events

    @property
    def handshake_complete(self) -> bool:
        """Whether both Finished messages are verified."""
        # req: F.5-5
        return self.info is not None

    @property
    def can_send(self) -> bool:
        """Whether application data can be sent now.

        A server can from its Finished on: to a peer that has not proved anything yet.
        """
        # req: 4.5.3-3
        return not self.closed and self._writer.epoch is Epoch.APPLICATION

    def send_data(self, data: bytes | bytearray | memoryview) -> None:
        """Send application data, of any length; raises ConnectionStateError where it cannot be.

        A KeyUpdate goes first where the peer asked for one, or where the key has been used enough.
        """
        # req: 2-2 4.7.3-5 5.1-22 5.5-1
        if not self.can_send:
            raise self._failure or ConnectionStateError("application data cannot be sent now")
        connected = connected_in(self._state)
        if connected is not None and connected.update_owed:
            self.update_keys()
        if not isinstance(data, bytes):
            data = memoryview(data).cast("B")
        size = self._writer.fragment_size
        for start in range(0, len(data) or 1, size):
            self._renew_keys()
            self._put(self._writer.record(APPLICATION_DATA, data[start : start + size]))

    def update_keys(self, *, request_peer: bool = False) -> None:
        """Send a KeyUpdate; `request_peer` asks the peer for one of its own."""
        self._act("update keys", lambda state: send_key_update(state, request_peer=request_peer))

    def export_keying_material(self, label: str, context: bytes, length: int) -> bytes:
        """`length` octets from the exporter_secret (RFC 9846 §7.5)."""
        # req: 7.5-1
        if not self.handshake_complete:
            raise ConnectionStateError("there is no exporter before the handshake is complete")
        return self._export(label, context, length, early=False)

    def export_early_keying_material(self, label: str, context: bytes, length: int) -> bytes:
        """`length` octets from the early_exporter_secret: they may be the same in a replay."""
        # req: 7.5-2
        return self._export(label, context, length, early=True)

    def close(self) -> None:
        """Send close_notify; the other direction stays open (RFC 9846 §6.1)."""
        # req: 6.1-7 6.1-6
        if not self.closed:
            self._alert(AlertDescription.close_notify)
            self.closed = True
            if self.peer_closed:
                self.forget()

    def cancel(self) -> None:
        """Give up the handshake: user_canceled, then close_notify."""
        # req: 6.1-3
        if not self.closed:
            self._alert(AlertDescription.user_canceled)
            self.close()

    def abort(self, description: AlertDescription = AlertDescription.general_error) -> None:
        """End the connection at once with an error alert."""
        if self._failure is None:
            error = TlsError(f"aborted by us with {description}")
            error.alert = description
            self._fail(error)

    # -- records -----------------------------------------------------------------------------------

    def _handle_records(self) -> None:
        while (record := self._reader.next_record()) is not None:
            self._handle(record)
            if self.peer_closed:
                return

    def _handle(self, record: Record) -> None:
        # req: 5.1-3 5.1-4 5-5
        if record.content_type is HANDSHAKE:
            self._assembler.add(record.fragment)
            while (octets := self._assembler.next_message()) is not None:
                self._take(advance(self._table, self._state, decode_message(octets), octets))
            return
        if not self._assembler.is_empty:
            raise PeerViolation(Violation.INTERLEAVED, str(record.content_type))
        if record.content_type is APPLICATION_DATA:
            self._handle_application_data(record.fragment)
        else:
            self._handle_alert(record.fragment)

    def _handle_application_data(self, data: bytes) -> None:
        # req: 4.7.1-19 5.1-13 5.1-14
        reads = self._state.reads
        if reads == "application data":
            if data:
                self._events.append(ApplicationData(data))
        elif reads == "early data":
            self._early_data_received += len(data)
            if self._early_data_received > self._early_data_allowed:
                raise PeerViolation(Violation.TOO_MUCH_EARLY_DATA)
            if data:
                self._events.append(EarlyData(data))
        else:
            raise PeerViolation(Violation.PREMATURE_APPLICATION_DATA, self._state.name)

    @property
    def _early_data_allowed(self) -> int:
        return 0

    def _handle_alert(self, fragment: bytes) -> None:
        # req: 5.1-10 5.1-11 5.1-12 6-2 6-3 6-7 6-8 6.1-4 6.2-6 6-1 6.1-5
        if len(fragment) != 2:
            raise PeerViolation(Violation.MALFORMED_ALERT, f"{len(fragment)} octets")
        description = Alert.decode(fragment).description
        logger.debug("alert received: %s", description)
        if description is AlertDescription.close_notify:
            self.peer_closed = True
            self._events.append(ConnectionClosed())
            if self.closed:
                self.forget()
        elif description is AlertDescription.user_canceled:
            self._events.append(HandshakeCanceled())
        else:
            raise PeerAlert(description)

    # -- steps -------------------------------------------------------------------------------------

    def _take(self, step: Step) -> None:
        self._state = step.state
        waiting = deque(step.actions)
        try:
            while waiting:
                self._perform(waiting.popleft())
        except BaseException:
            destroy_in(self.backend, tuple(waiting))
            raise
        self._flush()

    def _perform(self, action: Action) -> None:
        match action:
            case Send():
                self._handshake_octets += action.octets
            case RekeyWrite():
                self._flush()
                self._writer.rekey(action.protection)
            case RekeyRead():
                self._reader.rekey(action.protection, self._assembler.aligned())
            case SendChangeCipherSpec():
                self._flush()
                self._put(CHANGE_CIPHER_SPEC_RECORD)
            case LimitRecords():
                self._writer.plaintext_limit = action.write
                self._reader.plaintext_limit = action.read
            case AcceptChangeCipherSpec():
                self._reader.accepts_change_cipher_spec = action.accept
            case SkipEarlyData():
                self._reader.early_data_to_skip = action.limit
            case ProvideExporter():
                self._exporters[action.early] = action.secret
            case Emit():
                if isinstance(action.event, HandshakeCompleted):
                    self.info = action.event
                    if action.event.early_data_accepted is False:  # nor has the server its exporter
                        self.backend.destroy(self._exporters.pop(True, None))
                self._events.append(action.event)

    def _flush(self) -> None:
        """Write the handshake messages that wait: before keys change, and after each step."""
        # req: 5.1-8 5.1-2 5.1-5 5.1-9 5.4-3
        if self._handshake_octets:
            self._write(ContentType.handshake, bytes(self._handshake_octets))
            self._handshake_octets.clear()

    def _write(self, content_type: ContentType, content: bytes) -> None:
        self._put(self._writer.write(content_type, content))
        self._writer.unprotected_version = ProtocolVersion.TLS_1_2

    def _put(self, octets: bytes) -> None:
        """Nothing goes out after close_notify, whatever the peer asks for."""
        # req: 6.1-7
        if not self.closed:
            self._outgoing.append(octets)

    def _renew_keys(self) -> None:
        """Start a KeyUpdate where the current key is near its limit (RFC 9846 §5.5)."""
        # req: 5.3-2 5.5-1
        left = self._writer.records_left(self.config.max_records_per_key)
        if left > KEY_UPDATE_MARGIN:
            return
        if connected_in(self._state) is not None:
            self.update_keys()
        if self._writer.records_left(None) <= KEY_UPDATE_MARGIN:
            raise ConnectionStateError("the key is used up and cannot be renewed: close")

    # -- the end -----------------------------------------------------------------------------------

    def _alert(self, description: AlertDescription) -> None:
        # req: 6.1-2 6-6
        level = AlertLevel.warning if description in _CLOSURE_ALERTS else AlertLevel.fatal
        logger.debug("alert sent: %s", description)
        self._write(ContentType.alert, Alert(level, description).encode())

    def _fail(self, error: TlsError) -> None:
        """Send the error's alert if it has one, and forget everything."""
        # req: 6-4 6.2-2 6.2-5
        self._failure = error
        self._handshake_octets.clear()
        try:
            if error.alert is not None and not self.closed:
                self._alert(error.alert)
        except Exception as unsent:  # noqa: BLE001 - what failed may be what would seal the alert
            logger.debug("alert not sent: %s", unsent)
        finally:
            self.forget()
            # a step that failed half-way had secrets in hand, which the error would keep alive
            clear_frames(error.__traceback__)

    def forget(self) -> None:
        """Destroy every secret that the connection still holds; it is of no use after that.

        Happens by itself when the connection has failed, or is closed in both directions.
        """
        # req: F.1.4-1
        self.closed = True
        destroy_in(self.backend, self._state)
        self._reader.forget()
        self._writer.forget()
        self.backend.destroy(*self._exporters.values())
        self._exporters.clear()

    def _act(self, purpose: str, act: Callable[[Any], Step]) -> None:
        """Take a step of our own accord, once the handshake is complete."""
        if self._failure is not None:
            raise self._failure
        connected = connected_in(self._state)
        if self.closed or connected is None:
            raise ConnectionStateError(f"cannot {purpose} now")
        self._take(embed(self._state, act(connected)))

    def _export(self, label: str, context: bytes, length: int, *, early: bool) -> bytes:
        secret = self._exporters.get(early)
        if secret is None:
            raise self._failure or ConnectionStateError("there is no such exporter")
        valid = label.isascii() and 0 < len(label) <= 249 and 0 < length <= 255 * secret.length
        if not valid:
            raise ConnectionStateError("label or length is out of range for an exporter")
        return export(self.backend, secret, label.encode("ascii"), context, length)
