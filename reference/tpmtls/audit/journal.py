"""Notes of a run: where every secret was, at each instant, and what carried it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Final, Protocol

from tpmtls.audit.model import Crossed, Moment, SecretSeen, Stay
from tpmtls.backends.base import Kept, Place
from tpmtls.backends.ledger import Crossing, Ledger
from tpmtls.key_schedule import SCHEDULE, Stage
from tpmtls.violations import BackendError


@dataclass(frozen=True, slots=True)
class Identity:
    """Which secret: as `SecretSeen` has it."""

    connection: int
    name: str
    parent: str = ""

    def part(self, name: str) -> Identity:
        """What is expanded from this one, and is named after it."""
        return Identity(self.connection, name, self.name)


AUTH_VALUE: Final = Identity(0, "authValue")

Names = Mapping[str, Identity | None]
"""What names in a ledger, or in `kept`, mean; None for what everyone knows."""


@dataclass(slots=True)
class Operation:
    """What is known of an operation while it is under way."""

    way: str
    """How it makes a secret that is neither on the host nor comes out of a TPM."""
    names: dict[str, Identity | None]


class Holder(Protocol):
    """A handle, a key share, an AEAD or a signer."""

    @property
    def kept(self) -> tuple[Kept, ...]:
        """What it keeps now."""


@dataclass(slots=True)
class _Notes:
    """Of one secret."""

    born: str
    stays: list[Stay] = field(default_factory=list)
    crossings: Counter[tuple[Crossing, int]] = field(default_factory=Counter)
    """How often at which instant."""


class Journal:
    """Counts instants, one for each operation of a backend, and asks all holders after each."""

    def __init__(self, watch: Callable[[str], None] = lambda _: None) -> None:
        """`watch` is told the name of each moment when it begins."""
        self._watch = watch
        self.instant = -1
        self.moments: list[Moment] = []
        self._notes: dict[Identity, _Notes] = {}
        self._holders: dict[Holder, Names] = {}
        self._present: dict[tuple[Identity, Place, bool], int] = {}
        """Since when a secret is at a place; and whether that is because it is stored there."""
        self._put: set[tuple[Identity, Place, bool]] = set()

    # -- time --------------------------------------------------------------------------------------

    def begin(self, name: str, connection: int = 0) -> None:
        """A moment begins, and with it an instant in which nothing is done."""
        self._end_moment()
        self.instant += 1
        self.moments.append(Moment(name, connection, self.instant, self.instant))
        self._ask("host")
        self._watch(name)

    def _end_moment(self) -> None:
        if self.moments:
            last = self.moments[-1]
            self.moments[-1] = Moment(last.name, last.connection, last.first, self.instant)

    @contextmanager
    def operation(self, ledger: Ledger, way: str) -> Iterator[Operation]:
        """One operation; the block says which secrets the names in the ledger mean."""
        self.instant += 1
        before = dict(ledger)
        operation = Operation(way, {AUTH_VALUE.name: AUTH_VALUE})
        yield operation
        for crossing, count in ledger:
            times = count - before.get(crossing, 0)
            if times:
                self._cross(crossing, times, operation.names)
        self._ask(operation.way)

    # -- what is where -----------------------------------------------------------------------------

    def know(self, identity: Identity, born: str) -> None:
        """A secret that is there before the run."""
        self._notes.setdefault(identity, _Notes(born))

    def hold(self, holder: Holder, names: Names) -> None:
        """From now on ask it, too."""
        self._holders[holder] = names

    def release(self, holder: Holder) -> None:
        """It is given up, and not asked any more."""
        self._holders.pop(holder, None)

    def names_of(self, *holders: Holder | None) -> dict[str, Identity | None]:
        """What the names mean that belong to these."""
        names: dict[str, Identity | None] = {}
        for holder in holders:
            if holder is not None:
                names |= self._holders[holder]
        return names

    def put(self, identity: Identity, place: Place, *, stored: bool) -> None:
        """It is there without a holder: `stored` in what the client keeps between connections."""
        self._put.add((identity, place, stored))

    def take(self, identity: Identity, place: Place) -> None:
        """What was stored is not any more."""
        self._put.discard((identity, place, True))

    # -- parts -------------------------------------------------------------------------------------

    def _cross(self, crossing: Crossing, times: int, names: Names) -> None:
        if crossing.secret not in names:
            raise BackendError(f"the ledger has {crossing.secret}, which is nobody's here")
        identity = names[crossing.secret]
        if identity is None:
            return
        born = crossing.via if crossing.boundary == "tpm" else "host"
        notes = self._notes.setdefault(identity, _Notes(born))
        notes.crossings[crossing, self.instant] += times

    def _ask(self, way: str) -> None:
        """What every holder keeps now; what was there at the last instant is noted as a stay."""
        present = set(self._put)
        for holder, names in self._holders.items():
            for name, place in holder.kept:
                identity = names[name]
                if identity is not None:
                    present.add((identity, place, False))
        for gone in self._present.keys() - present:
            self._end_stay(gone, self.instant)
        for come in present - self._present.keys():
            self._present[come] = self.instant
            self._notes.setdefault(come[0], _Notes("host" if come[1] == "host" else way))

    def _end_stay(self, where: tuple[Identity, Place, bool], last: int) -> None:
        identity, place, stored = where
        first = self._present.pop(where)
        self._notes[identity].stays.append(Stay(place, first, last, stored))

    # -- the end -----------------------------------------------------------------------------------

    def close(self) -> list[SecretSeen]:
        """All there is to say, in the order of the key schedule."""
        self._end_moment()
        for where in list(self._present):
            self._end_stay(where, self.instant)
        seen = [_seen(identity, notes) for identity, notes in self._notes.items()]
        return sorted(
            seen, key=lambda each: (each.connection, place_in_schedule(each.name, each.parent))
        )


def _seen(identity: Identity, notes: _Notes) -> SecretSeen:
    return SecretSeen(
        identity.connection,
        identity.name,
        identity.parent,
        notes.born,
        tuple(sorted(notes.stays, key=lambda stay: (stay.first, stay.last, stay.place))),
        tuple(
            Crossed(each.boundary, each.direction, each.via, each.visibility, instant, times)
            for (each, instant), times in notes.crossings.items()
        ),
    )


_ORDER: Final = (
    *("signing_key", "authValue", "ephemeral_key", "shared_secret"),
    *(
        name
        for stage in Stage
        for name in (stage.value, *(row.secret for row in SCHEDULE if row.parent is stage))
    ),
    "PSK",
)
_PARTS: Final = ("", "finished_key", "write_key", "write_iv", "ghash_key", "derived")


def place_in_schedule(name: str, parent: str) -> tuple[int, int, int]:
    """Order by Figure 5 of RFC 9846 §7.1, by generation (§7.2), and what is made of a secret."""
    whole, part, generation = parent or name, name if parent else "", 0
    if whole not in _ORDER:
        stem, _, number = whole.rpartition("_")
        whole, generation = f"{stem}_0", int(number) if number.isdigit() else 0
    place = _ORDER.index(whole) if whole in _ORDER else len(_ORDER)
    return place, generation, _PARTS.index(part) if part in _PARTS else len(_PARTS)
