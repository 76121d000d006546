"""What outlives a connection, and what a role draws from the trace while it runs."""

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from tpmtls.backends.base import Signer
from tpmtls.certificates import verify_signature
from tpmtls.codepoints import SignatureScheme
from tpmtls.config import DEFAULT_SCHEMES, Credential
from tpmtls.tickets import ReplayGuard, SessionCache, TicketKeys, TicketState
from tpmtls.wire.extensions import MaxEarlyData

from ..trace import Message, Trace
from ..wire import extension, psk_offer
from .difference import Difference

HALF_A_MILLISECOND: Final = 0.0005
"""Keeps an age in milliseconds what it is when seconds are converted to it."""


def injected(message: Message, name: str) -> bytes:
    """A field that the trace may give; raises where it does not say so."""
    if name not in message.injected:
        raise Difference(f"{message.id}.injected", f"lacks {name}")
    return bytes.fromhex(message.fields[name])


class Tickets(TicketKeys):
    """Gives out the recorded tickets, and remembers what each stands for."""

    def __init__(self) -> None:
        super().__init__()
        self._next: Iterator[bytes] = iter(())
        self._states: dict[bytes, TicketState] = {}

    def expect(self, messages: list[Message]) -> None:
        """The tickets to give out next."""
        self._next = iter([injected(message, "ticket") for message in messages])

    def seal(self, state: TicketState, now: float) -> bytes:
        """The next recorded ticket; it stands for `state` from now on."""
        ticket = next(self._next, None)
        if ticket is None:
            raise Difference("server messages", "there are more tickets than recorded")
        self._states[ticket] = state
        return ticket

    def open(self, ticket: bytes, now: float) -> TicketState | None:
        """What a ticket stands for."""
        return self._states.get(ticket)


@dataclass
class Session:
    """The time, and what either role keeps for the next connection."""

    now: float = 0.0
    cache: SessionCache = field(default_factory=SessionCache)
    tickets: Tickets = field(default_factory=Tickets)
    guard: ReplayGuard = field(default_factory=ReplayGuard)
    credentials: tuple[Credential, ...] = ()
    age_add: int = 0
    max_early_data: int = 0

    def prepare(self, trace: Trace, role: str) -> None:
        """Get ready for a connection: let time pass, and look at what tickets it will have."""
        hello = trace.message("client.client_hello")
        for _, age in psk_offer(hello.fields)[0]:
            if "extensions.pre_shared_key.identities" not in hello.injected:
                raise Difference(f"{hello.id}.injected", "lacks the identities")
            milliseconds = (int.from_bytes(age, "big") - self.age_add) % 2**32
            self.now += milliseconds / 1000 + HALF_A_MILLISECOND
        tickets = new_session_tickets(trace)
        self.tickets.expect(tickets)
        for message in tickets:
            self.age_add = int.from_bytes(injected(message, "ticket_age_add"), "big")
            early_data = extension(message.fields, "early_data")
            if early_data is not None:
                self.max_early_data = MaxEarlyData.decode(early_data).max_early_data_size
        self.credentials = _credentials(trace, role) or self.credentials


def new_session_tickets(trace: Trace) -> list[Message]:
    """The tickets of a trace."""
    return [message for message in trace.messages() if message.type == "new_session_ticket"]


class RecordedSigner(Signer):
    """Injects a recorded signature, once it is seen to be one over what is to be signed."""

    schemes = DEFAULT_SCHEMES

    def __init__(self, message: Message, chain: tuple[bytes, ...]) -> None:
        if message.reproduce != "injected-and-verified":
            raise Difference(f"{message.id}.reproduce", "should be injected-and-verified")
        self._message = message
        self._chain = chain

    def sign(self, scheme: SignatureScheme, data: bytes) -> bytes:
        """The recorded signature; raises where it is another scheme's, or over other octets."""
        fields, path = self._message.fields, f"{self._message.id}.fields"
        if scheme != int(fields["algorithm"], 16):
            raise Difference(f"{path}.algorithm", f"{scheme} is chosen")
        signature = injected(self._message, "signature")
        if not verify_signature(Credential(self._chain, self).leaf, scheme, signature, data):
            raise Difference(f"{path}.signature", "is not over what is to be signed")
        return signature


def _credentials(trace: Trace, role: str) -> tuple[Credential, ...]:
    """The chain that a role shows, with a signer that has one signature to give."""
    messages = {message.id: message for message in trace.messages(role)}
    certificate = messages.get(f"{role}.certificate")
    if certificate is None:
        return ()
    entries = certificate.fields["certificate_list"]
    chain = tuple(bytes.fromhex(entry["cert_data"]) for entry in entries)
    return (Credential(chain, RecordedSigner(messages[f"{role}.certificate_verify"], chain)),)
