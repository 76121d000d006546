"""Records as a scripted peer handles them: any it likes to send, only good ones to receive."""

from __future__ import annotations

import time
from contextlib import suppress
from dataclasses import dataclass
from typing import Final

from tlsconform.channel import Channel
from tlsconform.journal import Journal
from tlsconform.outcome import NonConformance
from tpmtls.codepoints import AlertDescription, ContentType, ProtocolVersion
from tpmtls.record import (
    MAX_PLAINTEXT,
    RECORD_HEADER_SIZE,
    Aligned,
    Epoch,
    MessageAssembler,
    Protection,
    Record,
    RecordReader,
)
from tpmtls.violations import PeerViolation
from tpmtls.wire.messages import Alert

TIME_LIMIT: Final = 30.0
"""Seconds that one connection may take, however much the implementation has to say."""
SEALED_VERSION: Final = ProtocolVersion.TLS_1_2


@dataclass(frozen=True, slots=True)
class RawRecord:
    """A record as it came, before deprotection."""

    header: bytes
    body: bytes

    @property
    def content_type(self) -> ContentType:
        """The outer type."""
        return ContentType(self.header[0])

    @property
    def version(self) -> int:
        """legacy_record_version."""
        return int.from_bytes(self.header[1:3], "big")


class Wire:
    """One connection's records in both directions, each noted in the journal."""

    def __init__(self, channel: Channel, journal: Journal, timeout: float) -> None:
        self.channel, self.journal, self.timeout = channel, journal, timeout
        self.version = ProtocolVersion.TLS_1_0
        """legacy_record_version of our unprotected records: 0x0301 for a first ClientHello."""
        self.received: list[RawRecord] = []
        """Every record that came, as it came."""
        self.reader = RecordReader()
        self.reader.accepts_change_cipher_spec = True
        self.other_keys: Protection | None = None
        """Keys that the implementation may have gone over to, to say that it gives up."""
        self._protection: Protection | None = None
        self._sequence = 0
        self._held: bytearray | None = None
        self._incoming = bytearray()
        self._until = time.monotonic() + TIME_LIMIT
        self.ended = False
        """Whether the implementation has closed its direction."""

    # -- out ---------------------------------------------------------------------------------------

    @property
    def epoch(self) -> Epoch:
        """The epoch of the keys that we write under."""
        return Epoch.INITIAL if self._protection is None else self._protection.epoch

    @property
    def sequence(self) -> int:
        """The number of the next record under these keys."""
        return self._sequence

    @sequence.setter
    def sequence(self, value: int) -> None:
        self._sequence = value

    def rekey(self, protection: Protection | None) -> None:
        """Write under other keys from sequence number 0; None writes without protection."""
        self._protection, self._sequence = protection, 0

    def send_raw(self, octets: bytes, what: str, details: tuple[str, ...] = ()) -> None:
        """Send octets as they are."""
        self.journal.add("sent", what, details, octets)
        self.channel.send(octets)

    def record(self, content_type: int, content: bytes, padding: int = 0) -> bytes:
        """One record, protected if we have keys; `padding` zeros follow the inner content type."""
        if self._protection is None:
            return self.plaintext_record(content_type, content)
        return self.sealed_record(content + bytes((content_type,)) + bytes(padding))

    def plaintext_record(self, content_type: int, content: bytes) -> bytes:
        """One record without protection, whatever keys there are."""
        length = len(content).to_bytes(2, "big")
        return bytes((content_type,)) + self.version.to_bytes(2, "big") + length + content

    def sealed_record(self, inner: bytes, header: bytes | None = None) -> bytes:
        """A protected record around exactly this TLSInnerPlaintext; `header` replaces its header,
        in the additional data too."""
        if self._protection is None:
            raise RuntimeError("the script seals a record before it has keys")
        size = len(inner) + self._protection.suite.tag_length
        if header is None:
            header = bytes((ContentType.application_data,)) + SEALED_VERSION.to_bytes(2, "big")
            header += size.to_bytes(2, "big")
        sealed = self._protection.aead.seal(self._sequence, header, inner)
        self._sequence += 1
        return header + sealed

    def send_records(
        self,
        content_type: int,
        content: bytes,
        what: str,
        details: tuple[str, ...] = (),
        size: int = MAX_PLAINTEXT,
    ) -> None:
        """As many records of up to `size` octets as the content needs, sent together.

        After `hold`, the content waits for `release` instead.
        """
        if self._held is not None:
            self._held += content
            self.journal.add("sent", f"{what} [held back]", details)
            return
        pieces = [content[i : i + size] for i in range(0, len(content), size)] or [b""]
        octets = b"".join(self.record(content_type, piece) for piece in pieces)
        self.send_raw(octets, f"{what} [{self.epoch.name.lower()}]", details)

    def hold(self) -> None:
        """Keep the content of what is sent from now on back, whatever type it has."""
        self._held = bytearray()

    def release(
        self,
        size: int = MAX_PLAINTEXT,
        content_type: int = ContentType.handshake,
        rest: bytes = b"",
    ) -> None:
        """Send what was held back, and `rest`, as records of up to `size` octets under the present
        keys; where nothing is, do nothing."""
        if self._held is None:
            return
        content, self._held = bytes(self._held) + rest, None
        what = f"{len(content)} octets held back, in records of up to {size}"
        self.send_records(content_type, content, what, size=size)

    # -- in ----------------------------------------------------------------------------------------

    def rekey_reading(self, protection: Protection, proof: Aligned) -> None:
        """Read under other keys from sequence number 0."""
        self.other_keys = None
        self.reader.rekey(protection, proof)

    def next_record(self, timeout: float | None = None) -> Record | None:
        """The next record but change_cipher_spec; None at the end of the stream.

        Raises Silence when nothing comes for `timeout` seconds, NonConformance where the record
        breaks a rule.
        """
        deadline = time.monotonic() + (self.timeout if timeout is None else timeout)
        while True:
            if time.monotonic() > self._until:
                raise NonConformance(
                    "an end to what is said", f"more and more of it for {TIME_LIMIT:g} s"
                )
            raw = self._next_raw(deadline)
            if raw is None:
                return None
            self.received.append(raw)
            record = self._deprotect(raw)
            if record is not None:
                return record

    def _next_raw(self, deadline: float) -> RawRecord | None:
        while True:
            size = RECORD_HEADER_SIZE + int.from_bytes(self._incoming[3:5], "big")
            if len(self._incoming) >= max(size, RECORD_HEADER_SIZE):
                octets = bytes(self._incoming[:size])
                del self._incoming[:size]
                return RawRecord(octets[:RECORD_HEADER_SIZE], octets[RECORD_HEADER_SIZE:])
            octets = b"" if self.ended else self.channel.receive(deadline - time.monotonic())
            if not octets:
                self._note_end()
                return None
            self._incoming += octets

    def _note_end(self) -> None:
        if not self.ended:
            self.ended = True
            how = "reset" if self.channel.was_reset else "closed"
            rest = f" in the middle of a record ({len(self._incoming)} octets)"
            self.journal.remark(f"connection {how}{rest if self._incoming else ''}")

    def _deprotect(self, raw: RawRecord) -> Record | None:
        octets = raw.header + raw.body
        self.reader.feed(octets)
        try:
            record = self.reader.next_record()
        except PeerViolation as error:
            record = self._under_other_keys(octets)
            if record is None:
                self.journal.add("received", f"{raw.content_type.name} record: {error}", (), octets)
                raise NonConformance(
                    "a record that can be read", str(error), error.requirement
                ) from None
        if record is None:
            self.journal.add("received", raw.content_type.name, (), octets)
        else:
            self.journal.add("received", _title(record), (), octets)
        return record

    def _under_other_keys(self, octets: bytes) -> Record | None:
        """The record under the other keys; they stay in use if it can be read so."""
        if self.other_keys is None:
            return None
        reader = RecordReader()
        reader.rekey(self.other_keys, MessageAssembler().aligned())
        reader.feed(octets)
        self.other_keys = None
        with suppress(PeerViolation):
            record = reader.next_record()
            self.reader = reader
            return record
        return None


def _title(record: Record) -> str:
    epoch = f"[{record.epoch.name.lower()}]"
    if record.content_type is ContentType.alert and len(record.fragment) == 2:
        return f"alert {AlertDescription(record.fragment[1]).name} {epoch}"
    return f"{record.content_type.name}, {len(record.fragment)} octets {epoch}"


def parse_alert(record: Record) -> Alert:
    """The one alert that an alert record holds."""
    try:
        return Alert.decode(record.fragment)
    except PeerViolation:
        size = len(record.fragment)
        broken = "5.1-10" if size == 1 else "5.1-11" if size > 2 else "5.1-12"
        raise NonConformance("exactly one alert in its record", f"{size} octets", broken) from None
