"""What both scripted roles do: say messages, read them, derive keys, expect ends."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress
from random import Random
from typing import ClassVar, Final, TypeVar

from tlsconform.authentication import (
    Credential,
    Role,
    signature_is_valid,
    signed_content,
)
from tlsconform.channel import Channel, Silence
from tlsconform.journal import Journal
from tlsconform.mutate import Edit, Node, describe, tree
from tlsconform.outcome import Deviation, NonConformance
from tlsconform.peer.wire import Wire, parse_alert
from tpmtls.algorithms import SHA256, SUITES, HashAlgorithm
from tpmtls.backends.base import Secret
from tpmtls.backends.software import SoftwareBackend
from tpmtls.codepoints import (
    AlertDescription,
    AlertLevel,
    CipherSuite,
    ContentType,
    KeyUpdateRequest,
    SignatureScheme,
)
from tpmtls.key_schedule import (
    CLIENT_HANDSHAKE_TRAFFIC_SECRET,
    SERVER_HANDSHAKE_TRAFFIC_SECRET,
    Derivation,
    KeySchedule,
    next_generation,
    traffic_aead,
    verify_data,
)
from tpmtls.record import Epoch, MessageAssembler, Protection, Record
from tpmtls.transcript import Transcript
from tpmtls.violations import PeerViolation
from tpmtls.wire.extensions import Extensions
from tpmtls.wire.messages import (
    Alert,
    Certificate,
    CertificateEntry,
    CertificateVerify,
    Finished,
    HandshakeMessage,
    KeyUpdate,
    decode_message,
)

M = TypeVar("M", bound=HandshakeMessage)

SENDERS_RULE: Final = {"4-2": "4-1"}
"""What the sender breaks, where our codec names what the receiver has to do about it."""

CLOSURE = (AlertDescription.close_notify, AlertDescription.user_canceled)


class Peer:
    """One connection to the implementation under test."""

    role: ClassVar[Role]
    writes: ClassVar[str]
    reads: ClassVar[str]
    """Which of the two traffic secrets protects what."""

    def __init__(
        self, channel: Channel, journal: Journal, *, seed: int | str = 0, timeout: float = 2.0
    ) -> None:
        """`seed` makes randoms and key shares repeat; `timeout` is how long to wait, in seconds."""
        journal.connections += 1
        self.journal, self.timeout = journal, timeout
        self.random = Random(seed)  # noqa: S311 - tests repeat; nothing here is to be kept secret
        self.backend = SoftwareBackend(self.random.randbytes)
        self.wire = Wire(channel, journal, timeout)
        self.assembler = MessageAssembler()
        self.transcript = Transcript()
        self.final: Transcript
        """As it was when the handshake was complete."""
        self.suite: CipherSuite
        self.hash: HashAlgorithm = SHA256
        self.schedule: KeySchedule
        self.client_random = b""
        self.client_secret: Secret
        self.server_secret: Secret
        """The traffic secrets of the present epoch."""
        self.application_secret: Secret
        self.said_last = ""
        """The name of our last message."""
        self._edits: list[Edit] = []
        self._unused: list[Edit] = []
        self._pending: list[Record] = []

    # -- edits -------------------------------------------------------------------------------------

    def edit(self, *edits: Edit) -> None:
        """Edits for messages that are said later on."""
        self._edits += edits
        self._unused += edits

    def forget_edits(self, message: str) -> None:
        """Say later messages of that name without the edits given so far."""
        self._edits = [edit for edit in self._edits if edit.message != message]

    @property
    def unused_edits(self) -> list[Edit]:
        """Edits that no message was sent with: such a test has not tested anything."""
        return list(self._unused)

    def _edited(self, root: Node, edits: Iterable[Edit]) -> Node:
        for edit in edits:
            if edit.message == root.name:
                edit.apply(root)
                self._unused = [other for other in self._unused if other is not edit]
        return root

    # -- out ---------------------------------------------------------------------------------------

    def say(self, message: HandshakeMessage, *edits: Edit) -> bytes:
        """Send a message as its edits leave it, and add that to the transcript."""
        self.edit(*edits)
        return self.say_tree(self._edited(tree(message), self._edits))

    def say_tree(self, root: Node) -> bytes:
        """Send a message that is a tree already."""
        octets = root.encode()
        self.transcript.add(octets)
        self.said_last = root.name
        title = f"{root.name}, {len(octets)} octets"
        self.wire.send_records(ContentType.handshake, octets, title, tuple(describe(root)))
        return octets

    def say_octets(self, octets: bytes, what: str = "handshake octets") -> None:
        """Send handshake octets as they are, and add them to the transcript."""
        self.transcript.add(octets)
        self.wire.send_records(ContentType.handshake, octets, f"{what}, {len(octets)} octets")

    def say_in_pieces(self, message: HandshakeMessage, size: int) -> bytes:
        """Send a message in records of `size` octets of content each."""
        octets = self._edited(tree(message), self._edits).encode()
        self.transcript.add(octets)
        name = f"{type(message).__name__} in records of {size} octets"
        self.wire.send_records(ContentType.handshake, octets, name, size=size)
        return octets

    def send_data(self, data: bytes) -> None:
        """Send application data."""
        what = f"application_data, {len(data)} octets"
        self.wire.send_records(ContentType.application_data, data, what)

    def send_alert(self, description: int, level: int | None = None) -> None:
        """Send an alert; the level is the one that the RFC wants, unless it is given."""
        description = AlertDescription(description)
        if level is None:
            level = AlertLevel.warning if description in CLOSURE else AlertLevel.fatal
        alert = Alert(AlertLevel(level), description).encode()
        self.wire.send_records(ContentType.alert, alert, f"alert {description.name}")

    def send_change_cipher_spec(self, content: bytes = b"\x01") -> None:
        """Send the compatibility record, without protection."""
        octets = bytes.fromhex("140303") + len(content).to_bytes(2, "big") + content
        self.wire.send_raw(octets, f"change_cipher_spec {content.hex()}")

    # -- in ----------------------------------------------------------------------------------------

    def next_record(self, timeout: float | None = None) -> Record | None:
        """The next record; None at the end. Raises Silence, or NonConformance."""
        return self._pending.pop(0) if self._pending else self.wire.next_record(timeout)

    def return_record(self, record: Record) -> None:
        """Let a record that was looked at be the next."""
        self._pending.insert(0, record)

    def next_octets(self) -> bytes:
        """The implementation's next handshake message, header included, as octets.

        Raises NonConformance where something else comes, or nothing.
        """
        while True:
            octets = self._assembled()
            if octets is not None:
                return octets
            record = self._record_or_finding("a handshake message")
            if record.content_type is ContentType.handshake:
                self.assembler.add(record.fragment)
            else:
                broken = None if self.assembler.is_empty else "5.1-4"
                raise NonConformance("a handshake message", self._name(record), broken)

    def _assembled(self) -> bytes | None:
        try:
            return self.assembler.next_message()
        except PeerViolation as error:
            raise NonConformance("a handshake message", str(error), error.requirement) from None

    def _record_or_finding(self, expected: str) -> Record:
        try:
            record = self.next_record()
        except Silence:
            raise NonConformance(expected, f"silence for {self.timeout:g} s") from None
        if record is None:
            raise NonConformance(expected, "the end of the connection")
        return record

    def next_message(self) -> tuple[HandshakeMessage, bytes]:
        """The next handshake message, decoded, and its octets."""
        octets = self.next_octets()
        return self.decode(octets), octets

    def decode(self, octets: bytes) -> HandshakeMessage:
        """A message from its octets, noted in the journal; raises NonConformance."""
        try:
            message = decode_message(octets)
        except PeerViolation as error:
            rule = SENDERS_RULE.get(error.requirement or "", error.requirement)
            raise NonConformance("a well-formed message", str(error), rule) from None
        self.journal.add("received", f"  {type(message).__name__}", describe(tree(message)))
        return message

    def receive(self, kind: type[M]) -> M:
        """The next message, which has to be a `kind`; it goes into the transcript."""
        message, octets = self.next_message()
        if not isinstance(message, kind):
            raise NonConformance(kind.__name__, type(message).__name__)
        self.transcript.add(octets)
        return message

    def receive_data(self, timeout: float | None = None) -> bytes:
        """The next application data; messages after the handshake are passed over.

        Empty records are skipped. Raises NonConformance for an alert, the end, or silence.
        """
        while True:
            try:
                record = self.next_record(timeout)
            except Silence:
                raise NonConformance(
                    "application data", f"silence for {self.timeout:g} s"
                ) from None
            if record is None:
                raise NonConformance("application data", "the end of the connection")
            if record.content_type is ContentType.alert:
                raise NonConformance("application data", self._name(record))
            if record.content_type is ContentType.handshake:
                self.assembler.add(record.fragment)
                while (octets := self._assembled()) is not None:
                    self.absorb(octets)
            elif record.fragment:
                return record.fragment

    def absorb(self, octets: bytes) -> None:
        """Act on a message that comes while something else is waited for."""
        self.go_along(self.decode(octets), octets)

    def go_along(self, message: HandshakeMessage, octets: bytes) -> None:
        """What `absorb` does with it: follow key changes."""
        if isinstance(message, KeyUpdate):
            self._follow(message)

    @staticmethod
    def _name(record: Record) -> str:
        if record.content_type is ContentType.alert:
            return f"alert {parse_alert(record).description.name}"
        return f"{record.content_type.name} ({len(record.fragment)} octets)"

    # -- ends --------------------------------------------------------------------------------------

    def expect_alert(self, *allowed: AlertDescription, rule: str | None = None) -> Alert:
        """The implementation aborts with one of these alerts (RFC 9846 §6.2).

        Raises NonConformance for another alert or none while it goes on, Deviation where it closes
        without one: it MUST send that alert only if it sends any. `rule` is what another alert
        breaks, where the test's own requirements ask for an abort of any kind.
        """
        expected = "alert " + " or ".join(alert.name for alert in allowed)
        alert = self._next_alert(expected)
        if alert is None:
            raise Deviation(expected, "the connection closed without an alert", "6.2-2")
        if alert.description not in allowed:
            raise NonConformance(expected, f"alert {alert.description.name}", rule)
        return alert

    def expect_abort(self) -> Alert | None:
        """The implementation gives up, with any error alert or by closing."""
        alert = self._next_alert("an error alert, or the connection closed")
        if alert is not None and alert.description in CLOSURE:
            raise NonConformance("an error alert", f"alert {alert.description.name}")
        return alert

    def _next_alert(self, expected: str) -> Alert | None:
        """The next alert; None at the end. What else comes is followed as far as it goes."""
        seen: list[str] = []
        while True:
            try:
                record = self.next_record()
            except Silence:
                if self.carry_on():
                    continue
                after = f" after {', '.join(seen)}" if seen else ""
                got = f"silence for {self.timeout:g} s{after}, and the connection still open"
                raise NonConformance(expected, got) from None
            if record is None:
                return None
            if record.content_type is ContentType.alert:
                return parse_alert(record)
            if record.content_type is ContentType.handshake:
                seen += self._absorb_all(record)
            else:
                seen.append(self._name(record))

    def carry_on(self) -> bool:
        """Say the next of what is left of our flight, if any: whoever waits may judge later."""
        return False

    def _absorb_all(self, record: Record) -> list[str]:
        self.assembler.add(record.fragment)
        seen = []
        while (octets := self._assembled()) is not None:
            self.absorb(octets)
            seen.append(f"handshake type {octets[0]}")
        return seen

    def expect_quiet(self, seconds: float = 0.2) -> None:
        """The implementation neither complains nor closes for a while; messages may come."""
        while True:
            try:
                record = self.next_record(seconds)
            except Silence:
                return
            if record is None:
                raise NonConformance("no complaint", "the end of the connection")
            if record.content_type is ContentType.alert:
                raise NonConformance("no complaint", self._name(record))
            if record.content_type is ContentType.handshake:
                self._absorb_all(record)

    def expect_quiet_or_end(self, seconds: float = 0.2) -> None:
        """Read whatever comes for a while: nothing of it matters."""
        with suppress(NonConformance):
            self.expect_quiet(seconds)

    def close(self) -> None:
        """Give the connection up."""
        self.wire.channel.close()

    # -- keys --------------------------------------------------------------------------------------

    def protection(
        self, epoch: Epoch, secret: Secret, suite: CipherSuite | None = None
    ) -> Protection:
        """The keys of a traffic secret."""
        parameters = SUITES[suite or self.suite]
        return Protection(epoch, parameters, traffic_aead(self.backend, parameters, secret))

    def rekey_read(self, epoch: Epoch, secret: Secret, suite: CipherSuite | None = None) -> None:
        """Read under the keys of that secret."""
        try:
            proof = self.assembler.aligned()
        except PeerViolation as error:
            raise NonConformance(
                "a record that ends where the keys change", str(error), "5.1-8"
            ) from None
        self.wire.rekey_reading(self.protection(epoch, secret, suite), proof)

    def rekey_write(self, epoch: Epoch, secret: Secret, suite: CipherSuite | None = None) -> None:
        """Write under the keys of that secret."""
        self.wire.rekey(self.protection(epoch, secret, suite))

    def update_keys(
        self, request: int = KeyUpdateRequest.update_not_requested, *edits: Edit
    ) -> None:
        """KeyUpdate, then the next generation of our keys."""
        self.edit(*edits)
        root = self._edited(tree(KeyUpdate(KeyUpdateRequest(request))), self._edits)
        octets = root.encode()
        self.wire.send_records(ContentType.handshake, octets, "key_update", tuple(describe(root)))
        self.next_write_keys()

    def next_write_keys(self) -> None:
        """The next generation of our keys, without a word about it."""
        setattr(self, self.writes, next_generation(self.backend, getattr(self, self.writes)))
        self.rekey_write(Epoch.APPLICATION, getattr(self, self.writes))

    def follow_key_update(self) -> KeyUpdateRequest:
        """Read a KeyUpdate, and expect the next generation of the implementation's keys."""
        while True:
            message, _ = self.next_message()
            if isinstance(message, KeyUpdate):
                self._follow(message)
                return message.request_update
            if self.role == "server" or not self._is_ticket(message):
                raise NonConformance("KeyUpdate", type(message).__name__)

    @staticmethod
    def _is_ticket(message: HandshakeMessage) -> bool:
        return type(message).__name__ == "NewSessionTicket"

    def _follow(self, message: KeyUpdate) -> None:
        setattr(self, self.reads, next_generation(self.backend, getattr(self, self.reads)))
        self.rekey_read(Epoch.APPLICATION, getattr(self, self.reads))

    def observe(self, row: Derivation, secret: Secret) -> None:
        """Keep what a key log wants: the captures of failed tests are read with it."""
        if row.key_log is not None:
            octets = self.backend.reveal(secret, "key log")
            self.journal.key_log.append(f"{row.key_log} {self.client_random.hex()} {octets.hex()}")

    def start_schedule(self, psk: bytes | None, algorithm: HashAlgorithm) -> KeySchedule:
        """The Early Secret of a PSK, or of none."""
        secret = None if psk is None else self.backend.import_psk(psk, algorithm)
        return KeySchedule(self.backend, algorithm, secret, self.observe)

    def derive_handshake_secrets(self, shared: Secret | None) -> None:
        """From the shared secret, or none, to the handshake traffic secrets."""
        self.schedule.add_shared_secret(shared)
        digest = self.transcript.digest()
        self.client_secret = self.schedule.derive(CLIENT_HANDSHAKE_TRAFFIC_SECRET, digest)
        self.server_secret = self.schedule.derive(SERVER_HANDSHAKE_TRAFFIC_SECRET, digest)

    # -- authentication ----------------------------------------------------------------------------

    def say_certificate(self, credential: Credential | None, context: bytes = b"") -> None:
        """Certificate; an empty one without a credential."""
        chain = () if credential is None else credential.chain
        entries = tuple(CertificateEntry(der, Extensions()) for der in chain)
        self.say(Certificate(context, entries))

    def say_certificate_verify(
        self, credential: Credential, scheme: SignatureScheme, role: Role | None = None
    ) -> None:
        """CertificateVerify under `scheme`, for our role or as if for the other."""
        content = signed_content(role or self.role, self.transcript.digest())
        self.say(CertificateVerify(scheme, credential.signer.sign(scheme, content)))

    def say_finished_under(self, base_key: Secret) -> None:
        """Finished, computed with that base key."""
        self.say(Finished(verify_data(self.backend, base_key, self.transcript.digest())))

    def receive_finished_under(self, base_key: Secret) -> Finished:
        """The implementation's Finished, verified."""
        expected = verify_data(self.backend, base_key, self.transcript.digest())
        finished = self.receive(Finished)
        if finished.verify_data != expected:
            raise NonConformance("a Finished that verifies", "another verify_data", "4.5.3-2")
        return finished

    def receive_certificate_verify(self, certificate: Certificate) -> CertificateVerify:
        """The implementation's CertificateVerify, verified with the leaf's key."""
        other: Role = "server" if self.role == "client" else "client"
        content = signed_content(other, self.transcript.digest())
        verify = self.receive(CertificateVerify)
        leaf = certificate.certificate_list[0].cert_data
        if not signature_is_valid(leaf, verify.algorithm, verify.signature, content):
            raise NonConformance(
                "a CertificateVerify that verifies", verify.algorithm.name, "4.5.2-9"
            )
        return verify
