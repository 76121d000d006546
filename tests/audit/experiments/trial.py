"""All that attackers can do to the client of one profile, tried out."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

from tests.audit.experiments.attacks import Loot
from tests.audit.experiments.follow import Followed, follow, offered
from tests.audit.experiments.machine import CHAIN, KEY
from tests.audit.experiments.reach import HAS_FILES, IS_ON_HOST, Reach, reaches
from tests.audit.experiments.run import Run
from tpmtls.audit.model import Moment, Observation
from tpmtls.audit.profiles import Profile
from tpmtls.codepoints import CipherSuite
from tpmtls.tickets import SessionTicket

Where = Literal["early", "application"]
NOT_TOLD = frozenset(("ephemeral_key", "signing_key"))
"""What the client's peer never has."""


@dataclass(frozen=True)
class Chance:
    """An attacker's instant, and all that follows from what it has then."""

    reach: Reach
    followed: Followed


class Trial:
    """What attackers have of a run: names from the observation, octets from the server."""

    def __init__(self, profile: Profile, observation: Observation, run: Run) -> None:
        self.profile = profile
        self.observation = observation
        self.run = run
        self._chances: dict[str, list[Chance]] = {}
        self._followed: dict[frozenset[tuple[str, bytes]], Followed] = {}

    def moment(self, name: str) -> Moment:
        return next(m for m in self.observation.moments if m.name == name)

    def chances(self, attacker: str) -> list[Chance]:
        """All instants that the attacker can choose from, or has."""
        if attacker not in self._chances:
            self._chances[attacker] = list(self._find_chances(attacker))
        return self._chances[attacker]

    def _find_chances(self, attacker: str) -> Iterator[Chance]:
        for reach in reaches(attacker, self.observation):
            known = restricted(self.run.told, reach.secrets)
            if attacker in IS_ON_HOST:
                known |= {
                    answer.secret: answer.octets
                    for answer in self.run.answers
                    if self.moment(answer.moment).first <= reach.last
                }
            yield Chance(reach, self._follow(known))

    def _follow(self, known: Mapping[str, bytes]) -> Followed:
        key = frozenset(known.items())
        if key not in self._followed:
            external = self.profile.psk
            self._followed[key] = follow(self.run.recordings, known, external=external)
        return self._followed[key]

    def reads(self, attacker: str) -> tuple[bool, bool]:
        """Whether the recording gives it any data from before its instant, and from after it."""
        recorded = future = False
        for chance in self.chances(attacker):
            for data in chance.followed.data:
                moment = self.moment(data.decode())
                recorded |= moment.first <= chance.reach.last
                future |= moment.last > chance.reach.first
        return recorded, future

    def forging(self, attacker: str) -> Iterator[tuple[Where, frozenset[str]]]:
        """Which secrets, of those of one instant, may do for forging, and on which connection."""
        places: tuple[tuple[Where, str, str], ...] = (
            ("early", "2 early data", "2/client_early_traffic_secret"),
            ("application", "1 data", "1/client_application_traffic_secret_0"),
        )
        for where, moment, secret in places:
            for chance in self.chances(attacker):
                known = f"{secret}/ghash_key" in chance.followed.have
                if known and chance.reach.first < self.moment(moment).last:
                    yield where, chance.reach.secrets
                    break

    def loot(self, attacker: str) -> Iterator[Loot]:
        """What it takes elsewhere: as often as there is a difference."""
        taken = {self._secrets(chance) for chance in self.chances(attacker)}
        for secrets in sorted(taken, key=len, reverse=True):
            yield self._take(attacker, secrets)

    def loot_at(self, attacker: str, instant: int) -> Loot:
        """What it takes at one instant, if it looks then."""
        chances = self.chances(attacker)
        chance = next(c for c in chances if c.reach.first <= instant <= c.reach.last)
        return self._take(attacker, self._secrets(chance))

    def _take(self, attacker: str, secrets: frozenset[tuple[str, bytes]]) -> Loot:
        disk = self.run.disk if attacker in HAS_FILES else None
        return Loot(disk, secrets, self._seen_tickets, self.run.disk / CHAIN)

    def _secrets(self, chance: Chance) -> frozenset[tuple[str, bytes]]:
        """What is of use for new connections."""
        psk, finished_key, derived = (
            ("0/PSK", "0/finished_key", "0/derived")
            if self.profile.psk
            else ("1/PSK", "2/binder_key/finished_key", "2/early_secret/derived")
        )
        have = chance.followed.have
        wanted = {"PSK": psk, "finished_key": finished_key, "derived": derived}
        found = {(name, have[which]) for name, which in wanted.items() if which in have}
        if "0/signing_key" in chance.reach.secrets:
            found.add(("signing_key", (self.run.disk / KEY).read_bytes()))
        return frozenset(found)

    @cached_property
    def _seen_tickets(self) -> tuple[SessionTicket, ...]:
        """The one that the second connection shows everyone."""
        offer = offered(self.run.recordings[2])
        if offer is None or self.profile.psk:
            return ()
        suite = CipherSuite[self.observation.suite]
        now = time.time() - 1
        return (
            SessionTicket(
                "localhost", offer.identity, b"unknown", suite, 3600, 0, now, verified=True
            ),
        )


def restricted(told: Mapping[str, bytes], secrets: frozenset[str]) -> dict[str, bytes]:
    """The octets of some secrets; raises KeyError where the server has not told one."""
    return {secret: told[secret] for secret in secrets if secret.rpartition("/")[2] not in NOT_TOLD}
