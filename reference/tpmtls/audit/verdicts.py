"""Verdicts: who reaches which goal, by the shortest derivation from what was within reach."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, replace
from typing import Final

from tpmtls.audit import facts
from tpmtls.audit.attackers import ATTACKERS, GOALS, Attacker
from tpmtls.audit.closure import Closure, Rule, RuleBook
from tpmtls.audit.evidence import Evidence, Timeline, Unit
from tpmtls.audit.model import Cell, Goal, Observation, Step, Verdict
from tpmtls.audit.rules import rules

_KEPT: Final = ("knows ", "has ")
"""How facts begin that hold without anybody's help, once they do."""


def cells(observation: Observation) -> list[Cell]:
    """A cell for each attacker and each goal."""
    return Judge(observation).cells()


@dataclass(frozen=True, slots=True)
class Held:
    """What an attacker has and can do at one instant: what it came by `before`, and then `now`."""

    now: Closure
    before: Closure | None = None

    def derivation(self, fact: str) -> tuple[Step, ...]:
        """All steps, from what was within reach."""
        steps = self.now.derivation(fact)
        if self.before is None:
            return steps
        made = {step.conclusion for step in steps}
        taken = {p for step in steps for p in step.premises if p not in made and p in self.before}
        earlier = (step for each in sorted(taken) for step in self.before.derivation(each))
        return tuple({step.conclusion: step for step in (*earlier, *steps)}.values())


@dataclass(frozen=True, slots=True)
class Reached:
    """A goal's fact that is reached at an instant, or at `instants` of them alike."""

    fact: str
    instant: int
    held: Held
    instants: int = 1
    unit: Unit | None = None

    @property
    def narrowness(self) -> int:
        """How little of the goal it is: 0-RTT data alone, or only by playing the server."""
        return 0 if self.unit and not self.unit.is_early else 1 if self.unit else 2


class Judge:
    """One observation, with its rules and its evidence."""

    def __init__(
        self,
        observation: Observation,
        clauses: Iterable[Rule] | None = None,
        *,
        window: tuple[int, int] | None = None,
    ) -> None:
        """`clauses` in place of all that hold; `window`: when one-instant attackers have theirs,
        from the first to the last instant, in place of what their statements say.
        """
        self.timeline = Timeline(observation)
        self.book = RuleBook(rules(observation) if clauses is None else clauses)
        self._window = window
        self._closures: dict[frozenset[tuple[str, int]], Closure] = {}

    def cells(self) -> list[Cell]:
        """A cell for each attacker and each goal."""
        return [self.cell(attacker, goal) for attacker in ATTACKERS for goal in GOALS]

    def cell(self, attacker: Attacker, goal: Goal) -> Cell:
        """The verdict on one goal of one attacker."""
        profile = self.timeline.observation.profile
        if not self.applies(goal):
            return Cell(attacker.key, profile, goal, "not applicable", ())
        verdict: Verdict = "yes"
        reached = self.reached(attacker, goal, there=False)
        if not reached and attacker.passing and not attacker.leaves:
            verdict, reached = "while there", self.reached(attacker, goal, there=True)
        if not reached:
            note = self._regret(attacker, goal) or self._residue(attacker, goal)
            return Cell(attacker.key, profile, goal, "no", (), note)
        best = min(reached, key=lambda each: (each.narrowness, each.held.now.length(each.fact)))
        derivation = best.held.derivation(best.fact)
        last = best.held.now.derivation(best.fact)
        note = "; ".join(self._notes(attacker, goal, reached, last))
        return Cell(attacker.key, profile, goal, verdict, derivation, note)

    def applies(self, goal: Goal) -> bool:
        """Whether the profile has what the goal is about."""
        secrets = self.timeline.observation.secrets
        if goal == "impersonate by PSK":
            return self.timeline.observation.psk
        if goal == "impersonate the client":
            return any(secret.name == "signing_key" for secret in secrets)
        if goal == "resume the session elsewhere":
            return any(secret.name == "PSK" and secret.connection for secret in secrets)
        return True

    def reached(self, attacker: Attacker, goal: Goal, *, there: bool) -> list[Reached]:
        """Everywhere that the goal is reached, with help that lasts only while it is `there`."""
        found = []
        for instant, instants in self._instants(attacker):
            held = self._hold(attacker, goal, instant, there=there)
            found += [
                Reached(fact, instant, held, instants, unit)
                for fact, unit in self._targets(goal, instant)
                if fact in held.now
            ]
        return found

    # -- time --------------------------------------------------------------------------------------

    def _instants(self, attacker: Attacker) -> Iterator[tuple[int, int]]:
        """Instants to judge an attacker at, each with how many are like it.

        Who is there all the time knows most at the end, and can still act on what is open until
        just before it ends.
        """
        timeline = self.timeline
        if attacker.when == "always":
            ends = {unit.last - 1 for unit in timeline.units} | {timeline.last}
            starts = {timeline.span(each.number)[0] - 1 for each in timeline.scene.connections}
            yield from ((instant, 1) for instant in sorted(ends | starts))
            return
        marks = {each.first for each in timeline.evidence}
        marks |= {each.last + 1 for each in timeline.evidence}
        marks |= {mark for unit in timeline.units for mark in (unit.first, unit.sent, unit.last)}
        for first, last in self._scope(attacker):
            cuts = sorted({first, last + 1} | {mark for mark in marks if first < mark <= last})
            yield from ((cut, cuts[at + 1] - cut) for at, cut in enumerate(cuts[:-1]))

    def _scope(self, attacker: Attacker) -> tuple[tuple[int, int], ...]:
        timeline = self.timeline
        if self._window is not None:
            return (self._window,)
        first, second = timeline.span(1), timeline.span(2)
        if attacker.when == "theft":
            return ((0, timeline.last),)
        if attacker.when == "between":
            return ((first[1] + 1, second[0] - 1),)
        return tuple(span for span in (first, second) if span[0] <= timeline.last)

    # -- what it has -------------------------------------------------------------------------------

    def _hold(self, attacker: Attacker, goal: Goal, instant: int, *, there: bool) -> Held:
        seen = [e for e in self.timeline.evidence if self._reaches(attacker, e, instant)]
        given = {e.fact for e in seen if e.ways & attacker.ways}
        given |= {facts.wire(each.number) for each in self.timeline.scene.connections}
        if there:  # objects have to be there now, while what was seen to pass was seen
            passing = {
                e.fact
                for e in seen
                if e.ways & attacker.passing and ("use" not in e.ways or instant <= e.last)
            }
            return Held(self._close(dict.fromkeys(given | passing, 0)))
        if not attacker.has_code:
            return Held(self._close(dict.fromkeys(given, 0)))
        used = {e.fact for e in seen if "use" in e.ways}
        before = self._close(dict.fromkeys(given | used, 0))
        kept = {each: before.length(each) for each in before.facts() if each.startswith(_KEPT)}
        if attacker.takes_tpm and goal not in ("read future traffic", "forge records"):
            kept |= {e.fact: 0 for e in seen if e.stored}  # the client has no TPM to go on with
        return Held(self._close(kept), before)

    def _reaches(self, attacker: Attacker, evidence: Evidence, instant: int) -> bool:
        if evidence.first > instant:
            return False
        return attacker.when == "always" or attacker.residue or instant <= evidence.last

    def _close(self, given: dict[str, int]) -> Closure:
        key = frozenset(given.items())
        if key not in self._closures:
            self._closures[key] = Closure(self.book, given)
        return self._closures[key]

    # -- what it wants -----------------------------------------------------------------------------

    def _targets(self, goal: Goal, instant: int) -> Iterator[tuple[str, Unit | None]]:
        """The facts that reach a goal for an attacker of this instant."""
        timeline = self.timeline
        if goal == "read recorded traffic":
            yield from ((facts.reads(u.secret), u) for u in timeline.units if u.sent <= instant)
        elif goal == "read future traffic":
            yield from ((facts.reads(u.secret), u) for u in timeline.units if u.last > instant)
            for each in timeline.scene.connections:
                if instant < timeline.span(each.number)[0]:
                    yield facts.plays_server(each.number), None
        elif goal == "forge records":
            yield from ((facts.forges(u.secret), u) for u in timeline.units if u.last > instant)
        elif goal == "resume the session elsewhere":
            yield from ((facts.resumes(each.number), None) for each in timeline.scene.connections)
        else:
            yield facts.SIGNS if goal == "impersonate the client" else facts.CONNECTS_BY_PSK, None

    # -- what is to be said of it ------------------------------------------------------------------

    def _notes(
        self, attacker: Attacker, goal: Goal, reached: list[Reached], steps: tuple[Step, ...]
    ) -> Iterator[str]:
        units = [each.unit for each in reached if each.unit is not None]
        if units and all(unit.is_early for unit in units):
            rest = "" if len(units) == len(reached) else "; the rest by playing the server"
            yield f"0-RTT data only{rest}"
        elif not units and goal == "read future traffic":
            yield "by playing the server in the next connection"
        elif units and (attacker.when != "always" or attacker.leaves):
            yield from self._limits(goal, reached)
        if steps[-1].rule == "forges with H":
            yield "in place of a record that it holds back"
        if steps[-1].rule in ("keystream", "data passes"):
            yield "the data as it passes, no key"
        asked = any(fact.startswith("asks ") for step in steps for fact in step.premises)
        if attacker.takes_tpm and asked:
            yield "by what it took along"
        if attacker.when in ("between", "during"):
            total = sum(last - first + 1 for first, last in self._scope(attacker))
            count = sum({each.instant: each.instants for each in reached}.values())
            yield f"at {count} of {total} instants" if count < total else "at any instant"

    def _limits(self, goal: Goal, reached: list[Reached]) -> Iterator[str]:
        """How far a verdict on an attacker of one instant goes."""
        pairs = [(each.instant, each.unit) for each in reached if each.unit is not None]
        if goal == "read recorded traffic":
            if not any(unit.last < instant for instant, unit in pairs):
                yield "back to the last KeyUpdate"
        elif not any(unit.first > instant for instant, unit in pairs) and self._updates():
            yield "until the next KeyUpdate"

    def _updates(self) -> bool:
        """Whether any traffic secret had a successor."""
        return any(not unit.secret.endswith(unit.row.secret) for unit in self.timeline.units)

    def _regret(self, attacker: Attacker, goal: Goal) -> str:
        """What is left over of a power that is gone."""
        if not attacker.leaves or goal not in ("impersonate the client", "impersonate by PSK"):
            return ""
        there = next(each for each in ATTACKERS if each.key == "host")
        if not self.reached(there, goal, there=True):
            return ""
        return "but sessions that it opened while there, and their tickets, stay its own"

    def _residue(self, attacker: Attacker, goal: Goal) -> str:
        """What an image may show beyond what is kept at its instant."""
        if attacker.when not in ("between", "during"):
            return ""
        reached = self.reached(replace(attacker, residue=True), goal, there=False)
        return "yes, if memory still shows what passed through it before" if reached else ""


# -- in words --------------------------------------------------------------------------------------


def describe(step: Step) -> str:
    """A step as people read it: `2/binder_key left by TPM2_HMAC → 2/binder_key`."""
    return f"{_joined(step.premises) or 'nothing'} → {phrase(step.conclusion)}"


def summary(derivation: Sequence[Step]) -> str:
    """A derivation in one line: what was within reach, and what it is good for.

    `2/early_secret left by TPM2_HMAC + ticket 1 in host memory → resumes 1`
    """
    made = {step.conclusion for step in derivation}
    leaves = dict.fromkeys(p for step in derivation for p in step.premises if p not in made)
    taken = [each for each in leaves if not each.startswith("has wire")] or list(leaves)
    return f"{_joined(taken) or 'nothing'} → {phrase(derivation[-1].conclusion)}"


def _joined(sentences: Iterable[str]) -> str:
    return " + ".join(map(phrase, sentences))


def phrase(fact: str) -> str:
    """A fact in few words."""
    first, _, rest = fact.partition(" ")
    if first == "knows":
        return rest
    if first == "asks":
        command, _, secret = rest.rpartition(" ")
        return f"{secret} in the model" if command == "the model" else f"{command} with {secret}"
    if first == "has":
        kind, _, which = rest.partition(" ")
        number, _, point = which.partition("/")
        what = {"wire": "recording", "transcript": f"transcript up to {point}"}.get(kind, kind)
        return f"{what} of connection {number}"
    for verb, words in (("gave", "left by"), ("took", "handed to")):
        command, found, secret = fact.partition(f" {verb} ")
        if found:
            return f"{secret} {words} {command}"
    return fact
