"""What of one observation was within whose reach, and when."""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from typing import Literal

from tpmtls.audit import facts
from tpmtls.audit.derivations import Connection, Scene, path
from tpmtls.audit.model import Observation, SecretSeen, Stay
from tpmtls.audit.rules import command_for, is_chained
from tpmtls.key_schedule import (
    CLIENT_EARLY_TRAFFIC_SECRET,
    SCHEDULE,
    WRITE_IV,
    WRITE_KEY,
    Derivation,
    Point,
    Stage,
)

Way = Literal["memory", "bus", "file", "use", "memory data", "bus data"]
"""Where it takes looking, or what it takes using, to have a fact. What is only data is apart: it
is seen when it passes, and leaves nothing to go on with."""


@dataclass(frozen=True, slots=True)
class Evidence:
    """A fact that was to be had in any of these ways, from `first` to `last` instant."""

    fact: str
    ways: frozenset[Way]
    first: int
    last: int
    stored: bool = False
    """Whether it is a key that a TPM without its host can be asked to use."""


@dataclass(frozen=True, slots=True)
class Unit:
    """What is sent under one traffic secret, which is there from `first` to `last` instant."""

    secret: str
    connection: Connection
    row: Derivation
    first: int
    last: int
    sent: int
    """From when on there is anything sent under it: it may be long after its key was made."""

    @property
    def is_early(self) -> bool:
        return self.row is CLIENT_EARLY_TRAFFIC_SECRET


class Timeline:
    """The evidence of an observation in time."""

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.scene = Scene(observation)
        self.last = max(moment.last for moment in observation.moments)
        self.units = tuple(self._units())
        self.evidence = tuple(dict.fromkeys(self._evidence()))

    def span(self, connection: int) -> tuple[int, int]:
        """The first and the last instant of a connection; both after the end where it never was."""
        found = [m for m in self.observation.moments if m.connection == connection]
        if not found:
            return self.last + 1, self.last + 1
        return min(m.first for m in found), max(m.last for m in found)

    # -- parts -------------------------------------------------------------------------------------

    def _units(self) -> Iterator[Unit]:
        """Application data alone: keys of the handshake protect nothing else."""
        for connection in self.scene.connections:
            for row, secret in self.scene.traffic(connection):
                if row.parent is not Stage.HANDSHAKE:
                    seen = [s for s in self.observation.secrets if self._belongs(s, secret)]
                    instants = [i for each in seen for i in _instants(each)]
                    if instants:
                        first, last = min(instants), max(instants)
                        sent = self._sent(connection.number, first, last)
                        yield Unit(secret, connection, row, first, last, sent)

    def _sent(self, connection: int, first: int, last: int) -> int:
        """When data is first sent that keys of these instants protect; after the end if never."""
        data = [m for m in self.observation.moments if m.connection == connection and m.has_data]
        return min(
            (max(m.first, first) for m in data if m.first <= last and first <= m.last),
            default=self.last + 1,
        )

    def _belongs(self, secret: SecretSeen, traffic_secret: str) -> bool:
        return f"{self.scene.canonical(secret)}/".startswith(f"{traffic_secret}/")

    def _evidence(self) -> Iterator[Evidence]:
        for secret in self.observation.secrets:
            name = self.scene.canonical(secret)
            for stay in secret.stays:
                yield from _stay(name, secret, stay)
            yield from self._crossings(name, secret)
        for connection in self.scene.connections:
            yield from self._transcripts(connection)
            yield from self._tickets(connection.number)
        for unit in self.units:
            passing = frozenset[Way]({"memory data"})
            yield Evidence(facts.data(unit.secret), passing, unit.first, unit.last)

    def _crossings(self, name: str, secret: SecretSeen) -> Iterator[Evidence]:
        chained = is_chained(self.observation)
        for crossed in secret.crossings:
            ways = frozenset[Way]({"memory", "bus"} if crossed.boundary == "tpm" else {"memory"})
            at = crossed.instant
            if crossed.visibility == "clear":
                fact = facts.carried(crossed.via, crossed.direction, name)
                yield Evidence(fact, ways, at, at)
                if secret.name == WRITE_IV.value and crossed.via == "TPM2_EncryptDecrypt2":
                    fact = facts.keystream(name.removesuffix(f"/{WRITE_IV.value}"))
                    yield Evidence(fact, frozenset({"bus data"}), at, self.last)
            elif chained and crossed.via != "TPM2_Load":
                yield Evidence(facts.recorded_encrypted(name), ways, at, at)

    def _transcripts(self, connection: Connection) -> Iterator[Evidence]:
        """The host has the messages so far, in clear, for as long as the connection is open."""
        end = self.span(connection.number)[1]
        for point in (Point.SERVER_FINISHED, Point.CLIENT_FINISHED):
            names = {row.secret for row in SCHEDULE if row.point is point}
            if point is Point.SERVER_FINISHED:
                names.add(Stage.MAIN.value)  # the first thing that is made then
            seen = [
                instant
                for secret in self.observation.secrets
                if secret.connection == connection.number and secret.name in names
                for instant in _instants(secret)
            ]
            if seen:
                fact = facts.transcript(connection.number, point).removeprefix("has ")
                memory = frozenset[Way]({"memory"})
                yield Evidence(facts.in_memory(fact), memory, min(seen), end)

    def _tickets(self, connection: int) -> Iterator[Evidence]:
        """A ticket is where its PSK is stored, or what stands for that: in the session cache."""
        fact = f"ticket {connection}"
        for secret in self.observation.secrets:
            name = self.scene.canonical(secret)
            if name in (path(connection, "PSK"), path(connection + 1, Stage.EARLY.value)):
                for stay in secret.stays:
                    if stay.stored:
                        first, last = stay.first, stay.last
                        yield Evidence(facts.in_memory(fact), frozenset({"memory"}), first, last)
                        yield Evidence(facts.in_file(fact), frozenset({"file"}), first, last)


def _stay(name: str, secret: SecretSeen, stay: Stay) -> Iterator[Evidence]:
    first, last = stay.first, stay.last
    if stay.place == "host":
        yield Evidence(facts.in_memory(name), frozenset({"memory"}), first, last)
        if stay.stored:
            yield Evidence(facts.in_file(name), frozenset({"file"}), first, last)
        return
    use = frozenset[Way]({"use"})
    if stay.place == "tpm":
        asked = facts.asks(command_for(secret.name), name)
        yield Evidence(asked, use, first, last, stay.stored)
    else:
        yield Evidence(facts.asks_model(name), use, first, last, stay.stored)
        if secret.name == WRITE_KEY.value:
            passing = facts.data(name.removesuffix(f"/{WRITE_KEY.value}"))
            yield Evidence(passing, frozenset({"bus data"}), first, last)


def _instants(secret: SecretSeen) -> Iterable[int]:
    for stay in secret.stays:
        yield from (stay.first, stay.last)
    for crossed in secret.crossings:
        yield crossed.instant
