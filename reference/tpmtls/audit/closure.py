"""Ground Horn clauses: what follows from what is given, and by how short a derivation.

Knuth's generalisation of Dijkstra's algorithm: facts are settled in the order of the length of
their shortest derivation, so that each rule is looked at once and the first way found is the best.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from heapq import heappop, heappush

from tpmtls.audit.model import Step


@dataclass(frozen=True, slots=True)
class Rule:
    """From all of `premises`, which may be none, follows `conclusion`; `name` says why."""

    name: str
    premises: tuple[str, ...]
    conclusion: str


class RuleBook:
    """Rules that are used more than once, and where each fact is a premise."""

    def __init__(self, rules: Iterable[Rule]) -> None:
        self.rules = tuple(dict.fromkeys(rules))
        self.uses: dict[str, list[int]] = {}
        for number, rule in enumerate(self.rules):
            for premise in set(rule.premises):
                self.uses.setdefault(premise, []).append(number)


class Closure:
    """All that follows by `book` from `given`, whose values are the lengths they count with.

    The length of a derivation is the number of its steps, one that is needed twice counted twice,
    and of what is given its value. Of derivations of one length that of the earlier rule is taken,
    so that the result depends on the arguments alone.
    """

    def __init__(self, book: RuleBook, given: Iterable[str] | Mapping[str, int]) -> None:
        self._rules = book.rules
        self._settled: dict[str, tuple[int, int]] = {}
        """Length, and the rule by which; -1 for what was given."""
        lengths = given if isinstance(given, Mapping) else dict.fromkeys(given, 0)
        queue = sorted((length, -1, fact) for fact, length in lengths.items())
        missing = [len(set(rule.premises)) for rule in self._rules]
        for number, rule in enumerate(self._rules):
            if not rule.premises:
                heappush(queue, (1, number, rule.conclusion))
        while queue:
            length, by, fact = heappop(queue)
            if fact in self._settled:
                continue
            self._settled[fact] = length, by
            for number in book.uses.get(fact, ()):
                missing[number] -= 1
                if not missing[number]:
                    rule = self._rules[number]
                    total = 1 + sum(self.length(each) for each in rule.premises)
                    heappush(queue, (total, number, rule.conclusion))

    def __contains__(self, fact: str) -> bool:
        return fact in self._settled

    def facts(self) -> tuple[str, ...]:
        """All of them, those with short derivations first."""
        return tuple(self._settled)

    def length(self, fact: str) -> int:
        """The length of its shortest derivation; KeyError where it does not follow."""
        return self._settled[fact][0]

    def derivation(self, fact: str) -> tuple[Step, ...]:
        """The steps of its shortest derivation, each after those that it needs, each once."""
        needed, pending = set[str](), [fact]
        while pending:
            each = pending.pop()
            if each not in needed:
                needed.add(each)
                by = self._settled[each][1]
                pending += self._rules[by].premises if by >= 0 else ()
        used = (by for each, (_, by) in self._settled.items() if each in needed and by >= 0)
        rules = (self._rules[by] for by in used)
        return tuple(Step(rule.name, rule.premises, rule.conclusion) for rule in rules)
