"""Session tickets: the client's cache, the server's ticket keys, and 0-RTT anti-replay."""

from __future__ import annotations

import base64
import hashlib
import os
import threading
from collections import OrderedDict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import Field, dataclass, field, fields
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, Final

from cryptography.exceptions import InvalidTag
from cryptography.hazmat.primitives.ciphers.aead import AESGCM

from tpmtls.codepoints import CipherSuite
from tpmtls.violations import ConfigurationError, PeerViolation
from tpmtls.wire.codec import Code, Fixed, Opaque, Opaque8, Struct, Uint, Uint32, Vector

if TYPE_CHECKING:
    from tpmtls.certificates import Acceptance

MAX_LIFETIME: Final = 604_800
"""Seconds: a week, the most that RFC 9846 §4.7.1 allows."""
MAX_TICKET: Final = 2**15
"""Octets of a ticket that a client keeps; a bound of ours, which a ClientHello has room for."""

Clock = Callable[[], float]
Entropy = Callable[[int], bytes]


# -- client ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class SessionTicket:
    """What a client keeps of a NewSessionTicket, and of the connection that it came over.

    Times are in seconds since the epoch, `lifetime` in seconds, `max_early_data` in octets. `psk`
    is the PSK as the backend wrapped it: with the software backend that is the PSK itself.
    """

    server_name: str
    ticket: bytes
    psk: bytes = field(repr=False)
    suite: CipherSuite
    lifetime: int
    age_add: int
    received_at: float
    max_early_data: int = 0
    alpn: str | None = None
    peer_chain: tuple[bytes, ...] = ()
    verified: bool = False
    """Whether the server's certificate was verified when the session was made."""
    acceptance: Acceptance | None = field(default=None, repr=False, compare=False)
    """What says so in this process; it is not stored."""

    def is_usable(self, now: float) -> bool:
        """Whether the ticket is neither expired nor from the future."""
        # req: 4.3.11.1-1 4.7.1-13
        age = now - self.received_at
        return 0 <= age < min(self.lifetime, MAX_LIFETIME)

    def obfuscated_age(self, now: float) -> int:
        """The age in milliseconds, plus ticket_age_add, modulo 2^32 (RFC 9846 §4.3.11.1)."""
        return (int((now - self.received_at) * 1000) + self.age_add) % 2**32

    def to_json(self) -> dict[str, Any]:
        """A form for `json`; octets become base64."""
        values = {f.name: getattr(self, f.name) for f in _stored_fields()}
        values["suite"] = self.suite.name
        values["ticket"] = _to_text(self.ticket)
        values["psk"] = _to_text(self.psk)
        values["peer_chain"] = [_to_text(entry) for entry in self.peer_chain]
        return values

    @classmethod
    def from_json(cls, values: Any) -> SessionTicket:
        """The inverse of `to_json`; raises ConfigurationError on anything else."""
        try:
            known = {f.name: values[f.name] for f in _stored_fields()}
            known["ticket"] = base64.b64decode(known["ticket"], validate=True)
            known["psk"] = base64.b64decode(known["psk"], validate=True)
            known["peer_chain"] = tuple(
                base64.b64decode(entry, validate=True) for entry in known["peer_chain"]
            )
            known["suite"] = CipherSuite[known["suite"]]
            for name in ("lifetime", "age_add", "max_early_data"):
                known[name] = int(known[name])
            known["received_at"] = float(known["received_at"])
            if not _is_sound(known):
                raise ValueError
            return cls(**known)
        except (KeyError, TypeError, ValueError, OverflowError):
            raise ConfigurationError("not a stored session of this version") from None


def _stored_fields() -> Iterator[Field[Any]]:
    return (f for f in fields(SessionTicket) if f.name != "acceptance")


def _is_sound(values: dict[str, Any]) -> bool:
    """Whether the fields that `from_json` has read hold what they held when they were written."""
    return (
        isinstance(values["server_name"], str)
        and isinstance(values["alpn"], str | None)
        and isinstance(values["verified"], bool)
        and 0 < len(values["ticket"]) < 2**16
        and len(values["psk"]) > 0
        and 0 <= values["max_early_data"] < 2**32
    )


def _to_text(octets: bytes) -> str:
    return base64.b64encode(octets).decode("ascii")


class SessionCache:
    """Tickets by server name; each is handed out once (RFC 9846 Appendix C.4).

    Bounded: `per_name` tickets for a name and `names` names, the oldest go first. Safe to share
    between threads.
    """

    def __init__(self, per_name: int = 8, names: int = 256) -> None:
        self._per_name = per_name
        self._names = names
        self._tickets: OrderedDict[str, list[SessionTicket]] = OrderedDict()
        self._lock = threading.Lock()

    def put(self, ticket: SessionTicket) -> None:
        """Keep a ticket."""
        # req: 4.7.1-14
        with self._lock:
            tickets = self._tickets.setdefault(ticket.server_name, [])
            tickets.append(ticket)
            del tickets[: -self._per_name]
            self._tickets.move_to_end(ticket.server_name)
            while len(self._tickets) > self._names:
                self._tickets.popitem(last=False)

    def take(
        self,
        server_name: str,
        now: float,
        fits: Callable[[SessionTicket], bool] = lambda _: True,
    ) -> SessionTicket | None:
        """The newest ticket for that name that is usable and `fits`, removed from the cache."""
        # req: 4.7.1-7 4.7.1-8 C.4-1
        with self._lock:
            tickets = [t for t in self._tickets.get(server_name, ()) if t.is_usable(now)]
            chosen = next((ticket for ticket in reversed(tickets) if fits(ticket)), None)
            if chosen is not None:
                tickets.remove(chosen)
            if tickets:
                self._tickets[server_name] = tickets
            else:
                self._tickets.pop(server_name, None)
            return chosen

    def discard(self, unwanted: Iterable[SessionTicket]) -> None:
        """Forget these tickets, if they are still there."""
        with self._lock:
            for ticket in unwanted:
                tickets = self._tickets.get(ticket.server_name, [])
                if ticket in tickets:
                    tickets.remove(ticket)
                if not tickets:
                    self._tickets.pop(ticket.server_name, None)

    def __len__(self) -> int:
        with self._lock:
            return sum(len(tickets) for tickets in self._tickets.values())

    def save(self, path: str | os.PathLike[str]) -> None:
        """Write the tickets to a file that only its owner may read, replacing it at once."""
        import json
        import tempfile

        with self._lock:
            stored = [t.to_json() for tickets in self._tickets.values() for t in tickets]
        descriptor, temporary = tempfile.mkstemp(dir=Path(path).parent, prefix=".sessions-")
        try:
            with os.fdopen(descriptor, "w", encoding="ascii") as file:
                json.dump({"version": 1, "tickets": stored}, file, indent=1)
            Path(temporary).replace(path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    @classmethod
    def load(cls, path: str | os.PathLike[str]) -> SessionCache:
        """Read what `save` wrote; a file that is not there is an empty cache."""
        import json

        cache = cls()
        try:
            stored = json.loads(Path(path).read_text(encoding="ascii"))
            tickets = [SessionTicket.from_json(values) for values in stored["tickets"]]
        except FileNotFoundError:
            return cache
        except (ValueError, KeyError, TypeError, RecursionError) as error:
            raise ConfigurationError(f"{os.fspath(path)} holds no sessions: {error}") from None
        for ticket in tickets:
            cache.put(ticket)
        return cache


# -- server ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class TicketState(Struct):
    """What a ticket tells the server that issued it; times are in milliseconds since the epoch."""

    version: Annotated[int, Uint(1)]
    ticket_id: Annotated[bytes, Fixed(16)]
    suite: Annotated[CipherSuite, Code(CipherSuite, 2)]
    psk: Annotated[bytes, Opaque(1, 2**16 - 1)] = field(repr=False)
    issued_at: Annotated[int, Uint(8)]
    authenticated_at: Annotated[int, Uint(8)]
    lifetime: Uint32
    age_add: Uint32
    max_early_data: Uint32
    alpn: Opaque8
    client_chain: Annotated[tuple[bytes, ...], Vector(Opaque(1, 2**16 - 1), 0, 2**16 - 1)]


TICKET_VERSION: Final = 1
_NAME_SIZE: Final = 16
_NONCE_SIZE: Final = 12


class TicketKeys:
    """Keys that encrypt ticket states (AES-256-GCM), renewed as they age.

    A ticket can be opened for at least `rotation` seconds after it was sealed, and for at most
    twice that. Safe to share between threads.
    """

    def __init__(self, *, rotation: float = MAX_LIFETIME, entropy: Entropy = os.urandom) -> None:
        if rotation <= 0:
            raise ConfigurationError("ticket key rotation must be a positive number of seconds")
        self._rotation = rotation
        self._entropy = entropy
        self._keys: list[tuple[float, bytes, AESGCM]] = []
        self._lock = threading.Lock()

    def seal(self, state: TicketState, now: float) -> bytes:
        """The ticket for `state`."""
        # req: 4.7.1-17
        name, key = self._current(now)
        nonce = self._entropy(_NONCE_SIZE)
        return name + nonce + key.encrypt(nonce, state.encode(), name)

    def open(self, ticket: bytes, now: float) -> TicketState | None:
        """The state in a ticket, or None where it is not one of ours or too old."""
        # req: 4.3.11-6 4.7.1-15
        name, nonce = ticket[:_NAME_SIZE], ticket[_NAME_SIZE : _NAME_SIZE + _NONCE_SIZE]
        with self._lock:
            self._expire(now)
            key = next((key for _, known, key in self._keys if known == name), None)
        if key is None or len(nonce) != _NONCE_SIZE:
            return None
        try:
            octets = key.decrypt(nonce, ticket[_NAME_SIZE + _NONCE_SIZE :], name)
            state = TicketState.decode(octets)
        except (InvalidTag, ValueError, PeerViolation):
            return None
        return state if state.version == TICKET_VERSION else None

    def _current(self, now: float) -> tuple[bytes, AESGCM]:
        with self._lock:
            self._expire(now)
            if not self._keys or now - self._keys[-1][0] >= self._rotation:
                self._keys.append((now, self._entropy(_NAME_SIZE), AESGCM(self._entropy(32))))
            return self._keys[-1][1:]

    def _expire(self, now: float) -> None:
        self._keys = [entry for entry in self._keys if now - entry[0] < 2 * self._rotation]


class ReplayGuard:
    """Decides whether early data is let in, at most once for a ClientHello (RFC 9846 §8).

    All three defences of the RFC at once: a ticket is good for early data a single time (§8.1),
    validated binders are recorded for as long as they could be fresh (§8.2), and a ClientHello that
    did not arrive when its ticket age says is refused (§8.3). Only tickets that this object issued
    are let in, so a restart forgets every permission; but it forgets, too, what came under external
    PSKs. When a store is full, early data is refused.
    """

    def __init__(self, window: float = 10.0, capacity: int = 100_000) -> None:
        """`window`: seconds that a ClientHello may be early or late."""
        if window <= 0 or capacity <= 0:
            raise ConfigurationError("the replay window and its capacity must be positive")
        self._window = window
        self._capacity = capacity
        self._outstanding: OrderedDict[bytes, float] = OrderedDict()
        self._seen: OrderedDict[bytes, float] = OrderedDict()
        self._forever: set[bytes] = set()
        self._lock = threading.Lock()

    def issued(self, ticket_id: bytes, expires_at: float) -> None:
        """Note a ticket that permits early data; past `capacity` the oldest lose theirs."""
        with self._lock:
            self._outstanding[ticket_id] = expires_at
            while len(self._outstanding) > self._capacity:
                self._outstanding.popitem(last=False)

    def admit_ticket(
        self, ticket_id: bytes, binder: bytes, expected_arrival: float, now: float
    ) -> bool:
        """Whether early data under that ticket is let in. The binder must have been validated."""
        # req: 4.3.10-3 8-3 8.2-4 8.2-5 8-1
        with self._lock:
            expires_at = self._outstanding.pop(ticket_id, None)
            if expires_at is None or now >= expires_at:
                return False
            if abs(now - expected_arrival) > self._window:
                return False
            return self._record(binder, now, now + 2 * self._window)

    def admit_external(self, binder: bytes) -> bool:
        """The same for an external PSK, whose ClientHello does not tell its age.

        Its binders are kept for as long as this object lives, and no longer: a ClientHello that
        another one let in, before a restart or in another process, is let in once more. When the
        store is full, early data is refused.
        """
        key = hashlib.sha256(binder).digest()
        with self._lock:
            if key in self._forever or len(self._forever) >= self._capacity:
                return False
            self._forever.add(key)
            return True

    def _record(self, binder: bytes, now: float, until: float) -> bool:
        # req: 8.2-1
        key = hashlib.sha256(binder).digest()
        while self._seen and next(iter(self._seen.values())) < now:
            self._seen.popitem(last=False)
        if key in self._seen or len(self._seen) >= self._capacity:
            return False
        self._seen[key] = until
        return True
