"""The state machine's frame: states, actions, and tables that say what may follow what.

Appendix A of RFC 9846 is data here: a table maps (state, message) to a handler and to the states
that it may lead to. A handler takes a frozen state and a message and returns the next state and the
actions to carry out; it does no IO, and nothing outside the table moves a connection on.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields, is_dataclass
from typing import Any, ClassVar, Generic, Literal, Self, TypeVar

from tpmtls.algorithms import SuiteParameters
from tpmtls.backends.base import Aead, Backend, KeyShare, Secret
from tpmtls.certificates import Acceptance
from tpmtls.codepoints import HandshakeType
from tpmtls.config import Config
from tpmtls.events import Event
from tpmtls.key_schedule import Derivation, KeySchedule, SecretObserver, traffic_aead
from tpmtls.record import Epoch, Protection
from tpmtls.transcript import Transcript
from tpmtls.violations import ConfigurationError, PeerViolation, Violation
from tpmtls.wire.messages import HandshakeMessage

M = TypeVar("M", bound=HandshakeMessage)
ConfigT_co = TypeVar("ConfigT_co", bound=Config, covariant=True)
Owned = TypeVar("Owned", Secret, KeySchedule)


@dataclass(frozen=True, slots=True)
class Context(Generic[ConfigT_co]):
    """What stays the same for a whole connection."""

    config: ConfigT_co
    backend: Backend

    def arrange(self, message: M) -> M:
        """What to send for `message`: `Config.arrange` has the last word on it."""
        if self.config.arrange is None:
            return message
        arranged = self.config.arrange(message)
        if not isinstance(arranged, type(message)):
            raise ConfigurationError("arrange must return a message of the same type")
        return arranged

    def observer(self, client_random: bytes) -> SecretObserver | None:
        """Writes the key log, where one is configured, in the NSS format."""
        log = self.config.key_log
        if log is None:
            return None

        def observe(row: Derivation, secret: Secret) -> None:
            if row.key_log is not None:
                octets = self.backend.reveal(secret, "key log")
                log(f"{row.key_log} {client_random.hex()} {octets.hex()}")

        return observe


# -- actions ---------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Send:
    """Send a handshake message, given as octets; neighbours share records until keys change."""

    octets: bytes


@dataclass(frozen=True, slots=True)
class SendChangeCipherSpec:
    """Send the record that middleboxes want to see (RFC 9846 Appendix E.4)."""


@dataclass(frozen=True, slots=True)
class RekeyWrite:
    """Protect what follows with these keys; None goes back to none, for a second ClientHello."""

    protection: Protection | None


@dataclass(frozen=True, slots=True)
class RekeyRead:
    """Expect what follows under these keys; fails where a message spans the change."""

    protection: Protection


@dataclass(frozen=True, slots=True)
class LimitRecords:
    """record_size_limit is negotiated: octets of TLSInnerPlaintext that go out and come in."""

    write: int
    read: int


@dataclass(frozen=True, slots=True)
class AcceptChangeCipherSpec:
    """From here on the peer's change_cipher_spec is dropped, or not any more."""

    accept: bool


@dataclass(frozen=True, slots=True)
class SkipEarlyData:
    """Pass over up to so many octets of early data that was rejected."""

    limit: int


@dataclass(frozen=True, slots=True)
class Emit:
    """Tell the user."""

    event: Event


@dataclass(frozen=True, slots=True)
class ProvideExporter:
    """Exporters can be computed from now on (RFC 9846 §7.5); the connection keeps the secret."""

    secret: Secret
    early: bool


Action = (
    Send
    | SendChangeCipherSpec
    | RekeyWrite
    | RekeyRead
    | LimitRecords
    | AcceptChangeCipherSpec
    | SkipEarlyData
    | ProvideExporter
    | Emit
)


# -- states, steps, tables -------------------------------------------------------------------------


class State:
    """Base of the states: frozen dataclasses, each consumed by the next step."""

    __slots__ = ()
    name: ClassVar[str]
    """The name in RFC 9846 Appendix A, or ours where it has none."""
    reads: ClassVar[Literal["nothing", "early data", "application data"]] = "nothing"
    """What records of type application_data are in this state."""


@dataclass(frozen=True, slots=True)
class Step:
    """What a handler decides: the next state, and what to do on the way there."""

    state: State
    actions: tuple[Action, ...] = ()


Handler = Callable[[Any, Any, bytes], Step]
"""(state, message, the message's octets) → step."""


@dataclass(frozen=True, slots=True)
class Transition:
    """One row of a table: the handler, and the states that it may lead to."""

    handler: Handler
    to: tuple[type[State], ...]


Table = Mapping[tuple[type[State], HandshakeType], Transition]


def advance(table: Table, state: State, message: HandshakeMessage, octets: bytes) -> Step:
    """Take one step; raises PeerViolation where the table has no row for this message."""
    # req: 4-1 4-2 4.2.2-3 4.6-4 4.7.3-1
    transition = table.get((type(state), message.msg_type))
    if transition is None:
        raise PeerViolation(Violation.UNEXPECTED_MESSAGE, f"{message.msg_type} in {state.name}")
    step = transition.handler(state, message, octets)
    if not isinstance(step.state, transition.to):
        raise RuntimeError(f"{message.msg_type} in {state.name} led to {step.state.name}")
    return step


@dataclass(slots=True)
class Flight:
    """Collects the actions of one step, and keeps the transcript in step with what is sent.

    Messages after the handshake belong to no transcript.
    """

    context: Context[Config]
    transcript: Transcript | None = None
    actions: list[Action] = field(default_factory=list)
    _owned: list[Secret | KeySchedule] = field(default_factory=list)

    def own(self, made: Owned) -> Owned:
        """Note what no state holds yet, for the case that the step fails inside of `with`."""
        self._owned.append(made)
        return made

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failure: type[BaseException] | None, *_: object) -> None:
        """Where the step fails inside, forget what is owned, and what the actions hold."""
        # req: 6-4
        if failure is not None:
            destroy_in(self.context.backend, (*self._owned, *self.actions))

    def send(self, message: M) -> M:
        """Send a message and add it to the transcript; returns it as it was arranged."""
        arranged = self.context.arrange(message)
        self.send_octets(arranged.to_octets())
        return arranged

    def send_octets(self, octets: bytes) -> None:
        """The same for a message that is arranged and encoded already."""
        if self.transcript is not None:
            self.transcript.add(octets)
        self.actions.append(Send(octets))

    def add(self, *actions: Action) -> None:
        """Append other actions."""
        self.actions.extend(actions)

    def rekey_write(self, epoch: Epoch, suite: SuiteParameters, secret: Secret) -> None:
        """Send what follows under keys from `secret`."""
        self.actions.append(RekeyWrite(protect(self.context.backend, epoch, suite, secret)))

    def rekey_read(self, epoch: Epoch, suite: SuiteParameters, secret: Secret) -> None:
        """Expect what follows under keys from `secret`."""
        self.actions.append(RekeyRead(protect(self.context.backend, epoch, suite, secret)))

    def step(self, state: State) -> Step:
        """The step that ends here."""
        return Step(state, tuple(self.actions))


def destroy_in(backend: Backend, value: Any) -> None:
    """Destroy the secrets in a state or an action, wherever they stand in it."""
    if isinstance(value, Secret):
        backend.destroy(value)
    elif isinstance(value, KeySchedule | KeyShare | Aead):
        value.close()
    elif isinstance(value, tuple):
        for item in value:
            destroy_in(backend, item)
    elif isinstance(value, dict):
        destroy_in(backend, tuple(value.values()))
    elif is_dataclass(value) and not isinstance(value, type | Config | Context | Acceptance):
        for entry in fields(value):
            destroy_in(backend, getattr(value, entry.name))


def protect(backend: Backend, epoch: Epoch, suite: SuiteParameters, secret: Secret) -> Protection:
    """Record keys from a traffic secret, which stays the caller's."""
    return Protection(epoch, suite, traffic_aead(backend, suite, secret))
