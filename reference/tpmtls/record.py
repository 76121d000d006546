"""The record protocol (RFC 9846 §5): framing, protection, padding, limits; and message assembly."""

from __future__ import annotations

from dataclasses import dataclass
from enum import IntEnum
from struct import Struct
from typing import Final

from tpmtls.algorithms import SuiteParameters
from tpmtls.backends.base import Aead
from tpmtls.codepoints import ContentType, ProtocolVersion
from tpmtls.violations import PeerViolation, Violation
from tpmtls.wire.messages import HEADER_SIZE as MESSAGE_HEADER_SIZE

RECORD_HEADER: Final = Struct(">BHH")
"""type, legacy_record_version, length: how every record begins (RFC 9846 §5.1)."""
RECORD_HEADER_SIZE: Final = RECORD_HEADER.size
MAX_PLAINTEXT: Final = 2**14
"""Octets of TLSPlaintext.fragment."""
MAX_CIPHERTEXT: Final = 2**14 + 256
"""Octets of TLSCiphertext.encrypted_record."""
MAX_SEQUENCE: Final = 2**64 - 1
MAX_HANDSHAKE_MESSAGE: Final = 2**17
"""Octets of a handshake message that we are ready to assemble; a bound of ours, not of the RFC."""

# For what is done with every record: Python 3.11 takes longer to look a member of an enumeration up
# than to call a function.
APPLICATION_DATA: Final = ContentType.application_data
HANDSHAKE: Final = ContentType.handshake

CHANGE_CIPHER_SPEC_RECORD: Final = bytes.fromhex("140303000101")


class Epoch(IntEnum):
    """Which family of keys protects a record (RFC 9846 §7.3)."""

    INITIAL = 0
    EARLY = 1
    HANDSHAKE = 2
    APPLICATION = 3


@dataclass(slots=True)
class Record:
    """A record's content after deprotection, and the epoch that it came under."""

    content_type: ContentType
    fragment: bytes
    epoch: Epoch


@dataclass(frozen=True, slots=True)
class Protection:
    """Keys for one direction: the epoch that they belong to, and what they are used with."""

    epoch: Epoch
    suite: SuiteParameters
    aead: Aead


class _GivenUp(Aead):
    """In place of keys that were given up: nobody holds on to what their AEAD has in memory."""

    def seal(self, sequence: int, additional_data: bytes, plaintext: bytes) -> bytes:
        raise RuntimeError("the keys were given up")

    def open(self, sequence: int, additional_data: bytes, ciphertext: bytes) -> bytes | None:
        raise RuntimeError("the keys were given up")


def _give_up(protection: Protection | None) -> Protection | None:
    """Close the keys, and let go of them."""
    if protection is None:
        return None
    protection.aead.close()
    return Protection(protection.epoch, protection.suite, _GivenUp())


class Aligned:
    """Proof that no part of a handshake message is waiting: only MessageAssembler makes it.

    Keys change only where a record ends with a message (RFC 9846 §5.1).
    """

    __slots__ = ()


class MessageAssembler:
    """Joins handshake fragments into messages."""

    __slots__ = ("_buffer",)

    def __init__(self) -> None:
        self._buffer = bytearray()

    def add(self, fragment: bytes) -> None:
        """Append the content of one handshake record."""
        self._buffer += fragment

    def next_message(self) -> bytes | None:
        """The next whole message with its header, or None."""
        # req: 5.1-2
        if len(self._buffer) < MESSAGE_HEADER_SIZE:
            return None
        size = MESSAGE_HEADER_SIZE + int.from_bytes(self._buffer[1:MESSAGE_HEADER_SIZE], "big")
        if size > MAX_HANDSHAKE_MESSAGE:
            raise PeerViolation(Violation.MESSAGE_TOO_LONG, f"{size} octets")
        if len(self._buffer) < size:
            return None
        message = bytes(self._buffer[:size])
        del self._buffer[:size]
        return message

    @property
    def is_empty(self) -> bool:
        """Whether nothing is waiting."""
        return not self._buffer

    def aligned(self) -> Aligned:
        """The proof, or PeerViolation(NOT_ALIGNED)."""
        # req: 5.1-6 5.1-7
        if self._buffer:
            raise PeerViolation(Violation.NOT_ALIGNED)
        return Aligned()


class RecordReader:
    """Turns octets from the transport into records."""

    def __init__(self) -> None:
        self._buffer = b""
        self._position = 0
        self.epoch = Epoch.INITIAL
        """The epoch whose keys are in use."""
        self._protection: Protection | None = None
        self._sequence = 0
        self.accepts_change_cipher_spec = False
        """Whether the compatibility record is dropped now, or an error (RFC 9846 §5)."""
        self.accepts_early_alerts = False
        """Whether the first record under keys may be an alert without protection: a client's."""
        self.plaintext_limit = MAX_PLAINTEXT + 1
        """Octets of TLSInnerPlaintext that we take: record_size_limit (RFC 8449)."""
        self.early_data_to_skip = 0
        """Octets of rejected early data that may still be passed over (RFC 9846 §4.3.10)."""

    def feed(self, octets: bytes) -> None:
        """Take what the transport delivered."""
        self._buffer = self._buffer[self._position :] + octets
        self._position = 0

    def rekey(self, protection: Protection, _proof: Aligned) -> None:
        """From the next record on, use these keys, from sequence number 0."""
        # req: 5.3-1
        self.forget()
        self.epoch, self._protection = protection.epoch, protection
        self._sequence = 0
        self.early_data_to_skip = 0

    def forget(self) -> None:
        """Give up the current keys: what comes next cannot be read."""
        self._protection = _give_up(self._protection)

    def next_record(self) -> Record | None:
        """The next record to act on, or None until more octets come; raises PeerViolation."""
        record: Record | None = None
        while record is None and (raw := self._next_raw()) is not None:
            outer, header, body = raw
            if outer is APPLICATION_DATA:
                record = self._deprotect(header, body)
            elif outer is ContentType.change_cipher_spec:
                self._check_change_cipher_spec(body)
            else:
                record = self._unprotected(outer, body)
        return record

    def _next_raw(self) -> tuple[ContentType, bytes, bytes] | None:
        """One record as framed: type, header and body. Lengths are checked at once."""
        # req: 5.1-19 5.2-5 5.1-17 E-1 E.2-4 E.5-6 E.5-7 5.1-16 5.2-2
        buffer, start = self._buffer, self._position
        body = start + RECORD_HEADER_SIZE
        if len(buffer) < body:
            return None
        kind, _legacy_record_version, length = RECORD_HEADER.unpack_from(buffer, start)
        outer = _OUTER_TYPES.get(kind)
        if outer is None:
            raise PeerViolation(Violation.UNEXPECTED_RECORD, f"content type {ContentType(kind)}")
        if length > MAX_PLAINTEXT:
            if outer is not APPLICATION_DATA:
                raise PeerViolation(Violation.RECORD_OVERFLOW, f"{length} octets")
            if length > MAX_CIPHERTEXT:
                raise PeerViolation(Violation.CIPHERTEXT_OVERFLOW, f"{length} octets")
        end = body + length
        if len(buffer) < end:
            return None
        self._position = end
        return outer, buffer[start:body], buffer[body:end]

    def _unprotected(self, outer: ContentType, body: bytes) -> Record:
        if self._protection is not None and not self._is_early_alert(outer):
            raise PeerViolation(Violation.UNEXPECTED_RECORD, f"{outer} without protection")
        return _record(outer, body, Epoch.INITIAL)

    def _is_early_alert(self, outer: ContentType) -> bool:
        """A client may have to answer our first flight before it has keys (RFC 9846 A.1)."""
        return (
            self.accepts_early_alerts
            and outer == ContentType.alert
            and self.epoch in (Epoch.EARLY, Epoch.HANDSHAKE)
            and self._sequence == 0
        )

    def _check_change_cipher_spec(self, body: bytes) -> None:
        # req: 5-1 5-2 5-3
        if not self.accepts_change_cipher_spec:
            raise PeerViolation(Violation.LATE_CHANGE_CIPHER_SPEC)
        if body != b"\x01":
            raise PeerViolation(Violation.BAD_CHANGE_CIPHER_SPEC)

    def _deprotect(self, header: bytes, body: bytes) -> Record | None:
        # req: E-2 E-3 5.2-3 5.5-3
        if self._protection is None:
            if self._skips(body):
                return None
            raise PeerViolation(Violation.PREMATURE_APPLICATION_DATA, "no keys yet")
        if self._sequence > MAX_SEQUENCE:
            raise PeerViolation(Violation.SEQUENCE_EXHAUSTED)
        inner = self._protection.aead.open(self._sequence, header, body)
        if inner is None:
            if self._skips(body):
                return None
            raise PeerViolation(Violation.BAD_RECORD_MAC)
        self._sequence += 1
        self.early_data_to_skip = 0
        return self._unpad(inner)

    def _skips(self, body: bytes) -> bool:
        """Whether the record can be early data that was rejected; counts it if so."""
        # req: 4.3.10-6
        if not self.early_data_to_skip:
            return False
        overhead = 1 + 16
        self.early_data_to_skip = max(0, self.early_data_to_skip - max(1, len(body) - overhead))
        return True

    def _unpad(self, inner: bytes) -> Record:
        # req: 5.4-5 5.4-6
        if len(inner) > self.plaintext_limit and (
            self.epoch is not Epoch.EARLY or len(inner) > MAX_PLAINTEXT + 1
        ):
            raise PeerViolation(Violation.RECORD_OVERFLOW, f"{len(inner)} octets inside")
        content = inner.rstrip(b"\0")
        if not content:
            raise PeerViolation(Violation.PADDING_ONLY)
        content_type = _INNER_TYPES.get(content[-1])
        if content_type is None:
            raise _misplaced(ContentType(content[-1]))
        return _record(content_type, content[:-1], self.epoch)


_OUTER_TYPES: Final = {int(kind): kind for kind in ContentType if kind is not ContentType.invalid}
"""What TLSPlaintext.type may be; looked up, since a lookup is cheaper than making a member."""
_INNER_TYPES: Final = {
    int(kind): kind
    for kind in (ContentType.handshake, ContentType.alert, ContentType.application_data)
}
"""What TLSInnerPlaintext.type may be."""


def _misplaced(content_type: ContentType) -> PeerViolation:
    """What is wrong with a protected record of that type."""
    if content_type is ContentType.change_cipher_spec:
        return PeerViolation(Violation.BAD_CHANGE_CIPHER_SPEC, "protected")
    return PeerViolation(Violation.UNEXPECTED_RECORD, f"content type {content_type}")


def _record(content_type: ContentType, fragment: bytes, epoch: Epoch) -> Record:
    """Only application data may be empty."""
    # req: 5.1-9 5.4-4
    if not fragment and content_type is not APPLICATION_DATA:
        raise PeerViolation(Violation.EMPTY_FRAGMENT, str(content_type))
    return Record(content_type, fragment, epoch)


_OPAQUE_TYPE: Final = int(ContentType.application_data)
_PROTECTED_VERSION: Final = int(ProtocolVersion.TLS_1_2)
"""opaque_type and legacy_record_version of TLSCiphertext."""


class RecordWriter:
    """Turns content into records."""

    def __init__(self, padding: int = 0) -> None:
        """`padding`: protected records are filled up to a multiple of so many octets."""
        self.epoch = Epoch.INITIAL
        """The epoch whose keys are in use."""
        self._protection: Protection | None = None
        self._sequence = 0
        self._padding = padding
        self._plaintext_limit = MAX_PLAINTEXT + 1
        self.fragment_size = self._fragment_size()
        """Octets of content that go into one record."""
        # req: 5.1-20
        self.unprotected_version = ProtocolVersion.TLS_1_0
        """legacy_record_version of unprotected records: 0x0301 for a first ClientHello."""

    def records_left(self, limit: int | None) -> int:
        """Records that the current keys may still protect (RFC 9846 §5.5), or a lower `limit`."""
        if self._protection is None:
            return MAX_SEQUENCE
        most = self._protection.suite.record_limit
        return (most if limit is None else min(limit, most)) - self._sequence

    @property
    def plaintext_limit(self) -> int:
        """Octets of TLSInnerPlaintext that the peer takes."""
        return self._plaintext_limit

    @plaintext_limit.setter
    def plaintext_limit(self, octets: int) -> None:
        self._plaintext_limit = octets
        self.fragment_size = self._fragment_size()

    def _fragment_size(self) -> int:
        # req: 5.1-18 5.2-1
        if self._protection is None:
            return MAX_PLAINTEXT
        return min(MAX_PLAINTEXT, self._plaintext_limit - 1)

    def rekey(self, protection: Protection | None) -> None:
        """From the next record on, use these keys, from sequence number 0; None uses none."""
        self.forget()
        self.epoch = Epoch.INITIAL if protection is None else protection.epoch
        self._protection = protection
        self._sequence = 0
        self.fragment_size = self._fragment_size()

    def forget(self) -> None:
        """Give up the current keys: nothing more can be written under them."""
        self._protection = _give_up(self._protection)

    def write(self, content_type: ContentType, content: bytes) -> bytes:
        """The records that carry `content`; empty content makes one empty record."""
        size = self.fragment_size
        if len(content) <= size:
            return self.record(content_type, content)
        return b"".join(
            self.record(content_type, content[start : start + size])
            for start in range(0, len(content), size)
        )

    def record(self, content_type: ContentType, fragment: bytes | memoryview) -> bytes:
        """One record, of at most `fragment_size` octets of content."""
        # req: E.5-5 E.5-10 5-4 5.1-15
        protection = self._protection
        if protection is None:
            version = self.unprotected_version
            return RECORD_HEADER.pack(content_type, version, len(fragment)) + fragment
        if self._sequence > MAX_SEQUENCE:
            raise RuntimeError("record sequence numbers are used up")
        # req: 5.4-2
        padding = b"\0" * self._pad(len(fragment) + 1)
        inner = b"".join((fragment, content_type.to_bytes(), padding))
        length = len(inner) + protection.suite.tag_length
        header = RECORD_HEADER.pack(_OPAQUE_TYPE, _PROTECTED_VERSION, length)
        sealed = protection.aead.seal(self._sequence, header, inner)
        self._sequence += 1
        return header + sealed

    def _pad(self, length: int) -> int:
        """Octets of padding for an inner plaintext of `length` octets."""
        # req: 5.4-7 5.4-1
        if not self._padding:
            return 0
        limit = min(MAX_PLAINTEXT + 1, self._plaintext_limit)
        return min(-length % self._padding, limit - length)
