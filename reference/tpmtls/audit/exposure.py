"""How far a secret was exposed in a run, in one word, and where and when, in a few."""

from __future__ import annotations

from collections import Counter
from enum import Enum
from typing import Final

from tpmtls.audit.derivations import HASH_KEY
from tpmtls.audit.model import Crossed, Observation, SecretSeen, Stay

PASSING: Final = 8
"""Operations within which a secret on its way from or to a TPM is taken not to live on the host:
those that come between the one that gets it and the one that hands it on. GCM's hash key is handed
on to nobody: it comes out to be used."""


class Exposure(Enum):
    """From the most exposed to the least, and what is no secret, or is in no place."""

    HOST = "lives in host memory"
    PASSES = "passes in clear"
    ENCRYPTED = "crosses encrypted only"
    INSIDE = "never outside"
    PUBLIC = "public constant"
    ABSENT = "not there"

    @property
    def meaning(self) -> str:
        """The same in a sentence."""
        return _MEANINGS[self]


_MEANINGS = {
    Exposure.HOST: "in clear in this process’s memory, and not just passing",
    Exposure.PASSES: "in clear on the bus and, for a few operations, in host memory",
    Exposure.ENCRYPTED: "outside the TPM only under a key that this process does not have",
    Exposure.INSIDE: "made in the TPM or the model, and never out of it",
    Exposure.PUBLIC: "made of zeros and empty strings: the same for everyone",
    Exposure.ABSENT: "this run did without it",
}


def exposure(secret: SecretSeen) -> Exposure:
    """The worst of what was seen of it."""
    clear = [crossed for crossed in secret.crossings if crossed.visibility == "clear"]
    stays = [stay for stay in secret.stays if stay.place == "host"]
    to_or_fro = len(stays) < len(secret.stays) or any(each.boundary == "tpm" for each in clear)
    passes = to_or_fro and secret.name != HASH_KEY
    if stays and not (passes and all(stay.last - stay.first < PASSING for stay in stays)):
        return Exposure.HOST
    if stays or clear:
        return Exposure.PASSES
    if secret.crossings:
        return Exposure.ENCRYPTED
    return Exposure.INSIDE if secret.stays else Exposure.ABSENT


def _span(observation: Observation, stay: Stay) -> str:
    """`1 ServerHello – 2 close`."""
    during = [m.name for m in observation.moments if m.first <= stay.last and stay.first <= m.last]
    return " – ".join(dict.fromkeys((during[0], during[-1]))) if during else ""


def places(observation: Observation, secret: SecretSeen) -> tuple[str, ...]:
    """Where it stayed, from which moment to which: `tpm: 1 ServerHello – 1 Finished`."""
    said: dict[str, list[str]] = {}
    for stay in secret.stays:
        stored = "in clear" if stay.place == "host" else "wrapped"
        place = f"disk, {stored}" if stay.stored else stay.place
        said.setdefault(place, []).append(_span(observation, stay))
    return tuple(f"{place}: {', '.join(dict.fromkeys(when))}" for place, when in said.items())


def carried(observation: Observation, secret: SecretSeen) -> tuple[str, ...]:
    """What carried it, and when: `1 ServerHello: TPM2_HMAC out, TPM2_LoadExternal in, clear`."""
    said: dict[str, list[str]] = {}
    for moment in observation.moments:
        crossed = [c for c in secret.crossings if moment.first <= c.instant <= moment.last]
        if crossed:
            said.setdefault(_crossings(crossed), []).append(moment.name)
    return tuple(f"{', '.join(moments)}: {what}" for what, moments in said.items())


def _crossings(crossed: list[Crossed]) -> str:
    """Each kind once, in the order of their first, with how often; what can be read apart."""
    said = []
    for visibility in ("clear", "encrypted"):
        kinds: Counter[str] = Counter()
        for each in crossed:
            if each.visibility == visibility:
                kinds[f"{each.via} {each.direction}"] += each.times
        if kinds:
            listed = (f"{kind} ×{times}" if times > 1 else kind for kind, times in kinds.items())
            said.append(f"{', '.join(listed)}, {visibility}")
    return "; ".join(said)


def host_memory(observation: Observation, secret: SecretSeen) -> tuple[str, ...]:
    """For each moment: `always`, `at times` or nothing, as it was in clear in host memory."""
    found = []
    for moment in observation.moments:
        instants = range(moment.first, moment.last + 1)
        times = sum(map(secret.in_clear_on_host, instants))
        found.append("always" if times == len(instants) else "at times" if times else "")
    return tuple(found)
