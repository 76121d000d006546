"""Scripted peers: a client and a server that know how to say everything, and no rules.

They are made of the wire codec, the record layer and the key schedule, and of nothing in
`tpmtls.handshake`. A step builds a correct message; `edits` have the last word on it before it is
sent and enters the transcript, so that keys and MACs are right for what was in fact said.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, ClassVar, Final, Literal, TypeVar

from tpmtls.algorithms import SUITES
from tpmtls.backends.base import Secret
from tpmtls.backends.software import SoftwareBackend
from tpmtls.certificates import signature_content
from tpmtls.codepoints import (
    CipherSuite,
    ContentType,
    ExtensionType,
    KeyUpdateRequest,
)
from tpmtls.config import Credential
from tpmtls.connection import Connection
from tpmtls.key_schedule import (
    CLIENT_HANDSHAKE_TRAFFIC_SECRET,
    SERVER_HANDSHAKE_TRAFFIC_SECRET,
    KeySchedule,
    next_generation,
    traffic_aead,
    verify_data,
)
from tpmtls.record import Epoch, MessageAssembler, Protection, Record, RecordReader, RecordWriter
from tpmtls.transcript import Transcript
from tpmtls.wire.extensions import (
    ExtensionBody,
    Extensions,
)
from tpmtls.wire.messages import (
    Alert,
    Certificate,
    CertificateEntry,
    CertificateVerify,
    Finished,
    HandshakeMessage,
    KeyUpdate,
    decode_message,
    frame,
)

SUITE: Final = CipherSuite.TLS_AES_128_GCM_SHA256
M = TypeVar("M", bound=HandshakeMessage)

# -- edits -----------------------------------------------------------------------------------------

Edit = Callable[[Any], Any]
"""From the message that the script would send to what is sent: a message, octets, or None."""
Edits = Mapping[type, Edit]
"""By the class of the message; OfferedPsks stands for a ClientHello's binders, once computed."""


def changing(**fields: Any) -> Edit:
    """Other values in some fields."""
    return lambda message: replace(message, **fields)


def adding(*bodies: ExtensionBody) -> Edit:
    """These extensions, in place of those of their types or in front of all."""

    def edit(message: Any) -> Any:
        kept = message.extensions
        for body in reversed(bodies):
            known = body.extension_type in kept.types
            kept = kept.replacing(body) if known else Extensions((body, *kept))
        return replace(message, extensions=kept)

    return edit


def dropping(*types: ExtensionType) -> Edit:
    """Without the extensions of these types."""
    return lambda message: replace(message, extensions=message.extensions.without(*types))


def encoded(change: Callable[[bytes], bytes]) -> Edit:
    """The message's body as octets, changed; its header fits."""
    return lambda message: frame(message.msg_type, change(message.encode()))


def both(first: Edit, second: Edit) -> Edit:
    return lambda message: second(first(message))


# -- what both roles do ----------------------------------------------------------------------------


class ScriptedPeer:
    """Speaks to a connection, one message at a time."""

    writes: ClassVar[str]
    reads: ClassVar[str]
    """Which of the two traffic secrets protects what."""

    def __init__(self, target: Connection, edits: Edits, suite: CipherSuite) -> None:
        self.target = target
        self.edits = dict(edits)
        self.suite, self.hash = suite, SUITES.get(suite, SUITES[SUITE]).hash
        self.backend = SoftwareBackend()
        self.reader, self.writer = RecordReader(), RecordWriter()
        self.reader.accepts_change_cipher_spec = True
        self.assembler = MessageAssembler()
        self.transcript = Transcript()
        self.final: Transcript
        """As it was when the handshake was complete."""
        self.credential: Credential | None = None
        self.schedule: KeySchedule
        self.client_secret: Secret
        self.server_secret: Secret
        """The traffic secrets of the present epoch."""

    # out

    def say(self, message: HandshakeMessage) -> None:
        """Send a message of the script, as its edit leaves it."""
        edit = self.edits.get(type(message))
        edited = message if edit is None else edit(message)
        if edited is not None:
            self.send(edited)

    def send(self, *messages: HandshakeMessage | bytes) -> None:
        """Send these in one record, and add them to the transcript."""
        octets = b"".join(m if isinstance(m, bytes) else m.to_octets() for m in messages)
        self.transcript.add(octets)
        self.send_record(ContentType.handshake, octets)

    def send_record(self, content_type: ContentType, content: bytes) -> None:
        self.target.receive_data(self.writer.write(content_type, content))

    def send_inner(self, inner: bytes) -> None:
        """A protected record that holds exactly this, content type and padding included."""
        protection = self.writer._protection
        assert protection is not None
        header = b"\x17\x03\x03" + (len(inner) + protection.suite.tag_length).to_bytes(2, "big")
        sealed = protection.aead.seal(self.writer._sequence, header, inner)
        self.writer._sequence += 1
        self.target.receive_data(header + sealed)

    # in

    def next_record(self) -> Record | None:
        self.reader.feed(self.target.data_to_send())
        return self.reader.next_record()

    def next_message(self) -> tuple[HandshakeMessage, bytes]:
        while (octets := self.assembler.next_message()) is None:
            record = self.next_record()
            assert record is not None, "the target has nothing more to say"
            assert record.content_type is ContentType.handshake, record
            self.assembler.add(record.fragment)
        return decode_message(octets), octets

    def receive(self, kind: type[M]) -> M:
        """The target's next message, which is a `kind`; it goes into the transcript."""
        message, octets = self.next_message()
        assert isinstance(message, kind), message
        self.transcript.add(octets)
        return message

    def receive_data(self) -> bytes:
        """Application data, until the target has no more."""
        data = b""
        while (record := self.next_record()) is not None:
            assert record.content_type is ContentType.application_data, record
            data += record.fragment
        return data

    def receive_alert(self) -> Alert:
        """The target's last word: one alert in one record."""
        record = self.next_record()
        assert record is not None
        assert record.content_type is ContentType.alert, record
        assert self.next_record() is None
        return Alert.decode(record.fragment)

    # keys

    def rekey_read(self, epoch: Epoch, secret: Secret, suite: CipherSuite | None = None) -> None:
        self.reader.rekey(self._protection(epoch, secret, suite), self.assembler.aligned())

    def rekey_write(self, epoch: Epoch, secret: Secret, suite: CipherSuite | None = None) -> None:
        self.writer.rekey(self._protection(epoch, secret, suite))

    def _protection(self, epoch: Epoch, secret: Secret, suite: CipherSuite | None) -> Protection:
        parameters = SUITES[suite or self.suite]
        return Protection(epoch, parameters, traffic_aead(self.backend, parameters, secret))

    def update_keys(self, request: int = KeyUpdateRequest.update_not_requested) -> None:
        """KeyUpdate, then the next generation of our keys."""
        self.send_record(ContentType.handshake, KeyUpdate(KeyUpdateRequest(request)).to_octets())
        setattr(self, self.writes, next_generation(self.backend, getattr(self, self.writes)))
        self.rekey_write(Epoch.APPLICATION, getattr(self, self.writes))

    def follow_key_update(self) -> KeyUpdateRequest:
        """Read a KeyUpdate, and expect the next generation of the target's keys."""
        message, _ = self.next_message()
        assert isinstance(message, KeyUpdate), message
        setattr(self, self.reads, next_generation(self.backend, getattr(self, self.reads)))
        self.rekey_read(Epoch.APPLICATION, getattr(self, self.reads))
        return message.request_update

    def begin_authentication(self) -> None:
        """After the handshake: each request and its answer start from the transcript's end."""
        self.transcript = self.final.fork()

    def derive_handshake_secrets(self, shared: Secret | None) -> None:
        self.schedule.add_shared_secret(shared)
        digest = self.transcript.digest()
        self.client_secret = self.schedule.derive(CLIENT_HANDSHAKE_TRAFFIC_SECRET, digest)
        self.server_secret = self.schedule.derive(SERVER_HANDSHAKE_TRAFFIC_SECRET, digest)

    # authentication

    def say_certificate(self, role: Literal["client", "server"], context: bytes = b"") -> None:
        """Certificate, and CertificateVerify where there is one."""
        chain = () if self.credential is None else self.credential.chain
        entries = tuple(CertificateEntry(der, Extensions()) for der in chain)
        self.say(Certificate(context, entries))
        if self.credential is not None:
            scheme = self.credential.schemes[0]
            content = signature_content(role, self.transcript.digest())
            self.say(CertificateVerify(scheme, self.credential.signer.sign(scheme, content)))

    def say_finished(self, base_key: Secret) -> None:
        self.say(Finished(verify_data(self.backend, base_key, self.transcript.digest())))

    def receive_finished(self, base_key: Secret) -> None:
        expected = verify_data(self.backend, base_key, self.transcript.digest())
        assert self.receive(Finished).verify_data == expected
