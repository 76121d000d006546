"""What of an observation each attacker of an audit has, and when.

Said once more, in other words than those of `tpmtls.audit`: from the attackers' statements, and
from nothing else.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from itertools import accumulate, groupby
from operator import or_

from tpmtls.audit.model import Observation, SecretSeen

Looks = Callable[[SecretSeen], Iterator[int]]
"""The instants at which it is to be seen."""


@dataclass(frozen=True)
class Reach:
    """The ids of the secrets that an attacker has at these instants, `first` to `last`."""

    secrets: frozenset[str]
    first: int
    last: int


def _in_file(secret: SecretSeen) -> Iterator[int]:
    for stay in secret.stays:
        if stay.place == "host" and stay.stored:
            yield from range(stay.first, stay.last + 1)


def _in_memory(secret: SecretSeen) -> Iterator[int]:
    for stay in secret.stays:
        if stay.place == "host":
            yield from range(stay.first, stay.last + 1)
    for crossed in secret.crossings:
        if crossed.visibility == "clear":
            yield crossed.instant


def _on_bus(secret: SecretSeen) -> Iterator[int]:
    for crossed in secret.crossings:
        if crossed.boundary == "tpm" and crossed.visibility == "clear":
            yield crossed.instant


_HOST = (_in_memory, _on_bus, _in_file)
_LOOKS: dict[str, tuple[Looks, ...]] = {
    "network": (),
    "disk": (_in_file,),
    "bus": (_on_bus,),
    "snapshot-between": (_in_memory,),
    "snapshot-during": (_in_memory,),
    "memory": (_in_memory,),
    "host": _HOST,
    "host-left": _HOST,
    "host-tpm": _HOST,
}
ATTACKERS = tuple(_LOOKS)
HAS_FILES = frozenset(("disk", "host", "host-left", "host-tpm"))
IS_ON_HOST = frozenset(("host", "host-left", "host-tpm"))
_LOOKS_ONCE = frozenset(("disk", "snapshot-between", "snapshot-during"))


def reaches(attacker: str, observation: Observation) -> list[Reach]:
    """All that it may choose from: who looks once, the instant; who stays, how long."""
    moments = observation.moments
    at: list[set[str]] = [set() for _ in range(moments[-1].last + 1)]
    for secret in observation.secrets:
        for look in _LOOKS[attacker]:
            for instant in look(secret):
                at[instant].add(secret.id)
    seen = list(map(frozenset, at))
    if attacker not in _LOOKS_ONCE:
        seen = list(accumulate(seen, or_))
    instants = list(range(len(seen)))
    if attacker.startswith("snapshot"):
        between = [m for m in moments if m.name == "between"]
        during = [m for m in moments if m.connection]
        chosen = between if attacker == "snapshot-between" else during
        instants = [i for m in chosen for i in range(m.first, m.last + 1)]
    found = []
    for secrets, group in groupby(instants, seen.__getitem__):
        same = list(group)
        found.append(Reach(secrets, same[0], same[-1]))
    return found
