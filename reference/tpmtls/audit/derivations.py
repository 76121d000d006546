"""The key schedule of one observation: its connections, their PSKs, and arrows between secrets.

It walks the tables of `key_schedule`, for the connections that were observed.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from typing import Final

from tpmtls.algorithms import SUITES
from tpmtls.audit.facts import transcript
from tpmtls.audit.model import Observation, SecretSeen
from tpmtls.codepoints import CipherSuite
from tpmtls.key_schedule import (
    APPLICATION_TRAFFIC,
    CLIENT_EARLY_TRAFFIC_SECRET,
    DERIVED,
    EXTERNAL_BINDER_KEY,
    EXTRACTED,
    FINISHED_KEY,
    NEXT_GENERATION,
    RESUMPTION_BINDER_KEY,
    SCHEDULE,
    TICKET_PSK,
    TRAFFIC,
    WRITE_IV,
    WRITE_KEY,
    Derivation,
    Point,
    Stage,
    next_name,
)

HASH_KEY: Final = "ghash_key"
"""GCM's H (`backends.tpm.records`)."""
_SEVERAL: Final = frozenset(
    {each.value for each in (DERIVED, FINISHED_KEY, WRITE_KEY, WRITE_IV)} | {HASH_KEY}
)
"""Names of secrets that a connection has several of."""


def path(*parts: object) -> str:
    """`1/main_secret`."""
    return "/".join(str(part) for part in parts)


@dataclass(frozen=True, slots=True)
class Connection:
    """One connection, and what its PSK is, where it has one: `PSK` external, or of a ticket.

    `later` is one that was not observed, under the ticket that the last connection brought.
    """

    number: int
    psk: str | None
    later: bool = False

    @property
    def external(self) -> bool:
        """Whether the PSK came from outside. All its constants go by the number 0."""
        return self.psk == "0/PSK"

    @property
    def _constants(self) -> int:
        return 0 if self.external else self.number

    @property
    def early_secret(self) -> str:
        return path(self._constants, Stage.EARLY.value)

    @property
    def derived(self) -> str:
        """`derived` of the Early Secret."""
        return "0/derived" if self.external else path(self.early_secret, DERIVED.value)

    @property
    def binder_key(self) -> str:
        return path(self._constants, RESUMPTION_BINDER_KEY.secret)

    @property
    def binder_finished_key(self) -> str:
        return "0/finished_key" if self.external else path(self.binder_key, FINISHED_KEY.value)

    def at(self, stage: Stage) -> str:
        return self.early_secret if stage is Stage.EARLY else path(self.number, stage.value)


class Scene:
    """What of an observation the rules need: its connections, their PSKs, their traffic secrets."""

    def __init__(self, observation: Observation) -> None:
        self.observation = observation
        self.suite = SUITES[CipherSuite[observation.suite]]
        brought = {s.connection for s in observation.secrets if s.name == "PSK"} - {0}
        external = "0/PSK" if observation.psk else None
        self.connections = (
            Connection(1, external),
            Connection(2, "1/PSK" if 1 in brought else external),
        )
        self.later = Connection(3, "2/PSK" if 2 in brought else None, later=True)

    @cached_property
    def under_psk(self) -> tuple[Connection, ...]:
        """The first connection under each PSK."""
        own = {c.psk: c for c in reversed((*self.connections, self.later)) if c.psk}
        return tuple(own.values())[::-1]

    def traffic(self, connection: Connection) -> Iterator[tuple[Derivation, str]]:
        """The secrets that protect its records, all their generations; and their rows."""
        names = {s.name for s in self.observation.secrets if s.connection == connection.number}
        for row in TRAFFIC:
            if row is CLIENT_EARLY_TRAFFIC_SECRET and row.secret not in names:
                continue
            name = row.secret
            yield row, path(connection.number, name)
            while row in APPLICATION_TRAFFIC and next_name(name) in names:
                name = next_name(name)
                yield row, path(connection.number, name)

    def canonical(self, secret: SecretSeen) -> str:
        """The id that rules use: constants of the external PSK are the same everywhere."""
        connection = next((c for c in self.connections if c.number == secret.connection), None)
        if secret.name == "PSK":
            return path(secret.connection, "PSK")
        parent = secret.parent if secret.name in _SEVERAL else ""
        name = path(secret.connection, *filter(None, (parent, secret.name)))
        if connection is None or not connection.external:
            return name
        same = {
            path(connection.number, Stage.EARLY.value): connection.early_secret,
            path(connection.number, Stage.EARLY.value, DERIVED.value): connection.derived,
            path(connection.number, "binder_key"): connection.binder_key,
            path(connection.number, "binder_key", "finished_key"): connection.binder_finished_key,
        }
        return same.get(name, name)


# -- arrows ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Arrow:
    """HKDF-Expand-Label(parent, label, …) = child, where `needs` gives what the label binds."""

    parent: str
    label: bytes
    child: str
    needs: tuple[str, ...] = ()


@dataclass(frozen=True, slots=True)
class Extraction:
    """HKDF-Extract(salt, input) = result; None stands for zeros."""

    salt: str | None
    input: str | None
    result: str


def extractions(scene: Scene) -> Iterator[Extraction]:
    """The left of Figure 5, for each connection."""
    for connection in scene.under_psk:
        yield Extraction(None, connection.psk, connection.early_secret)
    for connection in scene.connections:
        salt = connection.derived
        for stage in (Stage.HANDSHAKE, Stage.MAIN):
            name, result = EXTRACTED[stage], connection.at(stage)
            yield Extraction(salt, path(connection.number, name) if name else None, result)
            salt = path(result, DERIVED.value)


def arrows(scene: Scene) -> Iterator[Arrow]:
    """The right of Figure 5, and what is made of it, for each connection, from the top down."""
    for connection in scene.under_psk:
        row = EXTERNAL_BINDER_KEY if connection.external else RESUMPTION_BINDER_KEY
        key, finished = connection.binder_key, connection.binder_finished_key
        yield Arrow(connection.early_secret, DERIVED.label, connection.derived)
        yield Arrow(connection.early_secret, row.label, key)
        yield Arrow(key, FINISHED_KEY.label, finished)
    for connection in scene.connections:
        if connection.psk is None:
            yield Arrow(connection.early_secret, DERIVED.label, connection.derived)
        handshake = connection.at(Stage.HANDSHAKE)
        yield Arrow(handshake, DERIVED.label, path(handshake, DERIVED.value))
        yield from _rows(connection)
        yield from _expansions(scene, connection)


def _rows(connection: Connection) -> Iterator[Arrow]:
    for row in SCHEDULE:
        if row.point is not Point.NOTHING and (connection.psk or row.parent is not Stage.EARLY):
            needs = (transcript(connection.number, row.point),)
            child = path(connection.number, row.secret)
            yield Arrow(connection.at(row.parent), row.label, child, needs)


def _expansions(scene: Scene, connection: Connection) -> Iterator[Arrow]:
    present = dict.fromkeys(secret for _, secret in scene.traffic(connection))
    for row, secret in scene.traffic(connection):
        for expansion in (WRITE_KEY, WRITE_IV, FINISHED_KEY):
            if row in expansion.parents:
                yield Arrow(secret, expansion.label, path(secret, expansion.value))
        later = next_name(secret) if row in NEXT_GENERATION.parents else ""
        if later in present:
            yield Arrow(secret, NEXT_GENERATION.label, later)
    for row in SCHEDULE:
        if row in TICKET_PSK.parents:
            child = path(connection.number, TICKET_PSK.value)
            yield Arrow(path(connection.number, row.secret), TICKET_PSK.label, child)
