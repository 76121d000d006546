"""Horn closure: against a closure without cleverness, and against all derivations of small ones."""

from __future__ import annotations

from itertools import product

import pytest
from hypothesis import given
from hypothesis import strategies as st

from tpmtls.audit.closure import Closure, Rule, RuleBook
from tpmtls.audit.model import Step

FACTS = "abcdefg"

fact = st.sampled_from(FACTS)
rule = st.builds(Rule, st.sampled_from("RST"), st.lists(fact, max_size=3).map(tuple), fact)
rules = st.lists(rule, max_size=12)
lengths = st.dictionaries(fact, st.integers(0, 3), max_size=3)


def naive(system: list[Rule], known: set[str]) -> set[str]:
    """Apply rules until nothing is new."""
    while True:
        new = {r.conclusion for r in system if known.issuperset(r.premises)} - known
        if not new:
            return known
        known |= new


def shortest(system: list[Rule], start: dict[str, int]) -> dict[str, int]:
    """The lengths of the shortest derivations: what no rule can make shorter any more."""
    best = dict(start)
    for _ in range(len(FACTS) * len(system) + 1):
        for each in system:
            if all(premise in best for premise in each.premises):
                length = 1 + sum(best[premise] for premise in each.premises)
                best[each.conclusion] = min(length, best.get(each.conclusion, length))
    return best


def all_lengths(system: list[Rule], start: dict[str, int], goal: str, depth: int) -> set[int]:
    """The lengths of all derivations, as trees, up to a depth."""
    found = {start[goal]} if goal in start else set()
    if depth:
        for each in system:
            if each.conclusion == goal:
                ways = [all_lengths(system, start, p, depth - 1) for p in each.premises]
                found |= {1 + sum(chosen) for chosen in product(*ways)}
    return found


@given(rules, lengths)
def test_it_finds_what_follows_and_nothing_else(system: list[Rule], start: dict[str, int]) -> None:
    closure = Closure(RuleBook(system), start)
    assert set(closure.facts()) == naive(system, set(start))
    assert [closure.length(each) for each in closure.facts()] == sorted(
        closure.length(each) for each in closure.facts()
    )
    assert all(each in closure for each in closure.facts())


@given(rules, lengths)
def test_lengths_are_the_least(system: list[Rule], start: dict[str, int]) -> None:
    closure = Closure(RuleBook(system), start)
    assert {each: closure.length(each) for each in closure.facts()} == shortest(system, start)


@given(st.lists(rule, max_size=5), lengths)
def test_no_tree_is_shorter(system: list[Rule], start: dict[str, int]) -> None:
    closure = Closure(RuleBook(system), start)
    for goal in FACTS:
        trees = all_lengths(system, start, goal, 5)
        if trees:
            assert closure.length(goal) <= min(trees)


@given(rules, lengths)
def test_a_derivation_derives(system: list[Rule], start: dict[str, int]) -> None:
    closure = Closure(RuleBook(system), start)
    for goal in closure.facts():
        derived = set[str]()
        for step in closure.derivation(goal):
            assert Rule(step.rule, step.premises, step.conclusion) in system
            assert (derived | start.keys()).issuperset(step.premises)
            assert step.conclusion not in derived
            derived.add(step.conclusion)
        assert goal in derived | start.keys()


@given(rules, lengths)
def test_a_derivation_is_as_long_as_it_says(system: list[Rule], start: dict[str, int]) -> None:
    closure = Closure(RuleBook(system), start)
    for goal in closure.facts():
        steps = {step.conclusion: step for step in closure.derivation(goal)}

        def length(of: str, steps: dict[str, Step] = steps) -> int:
            if of not in steps:
                return start[of]
            return 1 + sum(length(premise) for premise in steps[of].premises)

        assert length(goal) == closure.length(goal)


@given(rules, lengths)
def test_the_order_of_what_is_given_does_not_matter(
    system: list[Rule], start: dict[str, int]
) -> None:
    book = RuleBook(system)
    forwards, backwards = Closure(book, start), Closure(book, dict(reversed(start.items())))
    assert forwards.facts() == backwards.facts()
    for goal in forwards.facts():
        assert forwards.derivation(goal) == backwards.derivation(goal)


def test_of_two_ways_of_one_length_the_earlier_rule_is_taken() -> None:
    one, other = Rule("one", ("a",), "c"), Rule("other", ("b",), "c")
    for first, second in ((one, other), (other, one)):
        closure = Closure(RuleBook((first, second)), ("a", "b"))
        assert [step.rule for step in closure.derivation("c")] == [first.name]


def test_a_premise_that_stands_twice_counts_twice() -> None:
    book = RuleBook((Rule("make", (), "a"), Rule("double", ("a", "a"), "b")))
    assert Closure(book, ()).length("b") == 3
    assert [step.rule for step in Closure(book, ()).derivation("b")] == ["make", "double"]


def test_what_does_not_follow_has_no_length_and_no_derivation() -> None:
    closure = Closure(RuleBook((Rule("r", ("a",), "b"),)), ())
    assert "b" not in closure
    for ask in closure.length, closure.derivation:
        with pytest.raises(KeyError):
            ask("b")


def test_circles_end() -> None:
    book = RuleBook((Rule("r", ("a",), "b"), Rule("s", ("b",), "a")))
    assert Closure(book, ()).facts() == ()
    assert set(Closure(book, ("a",)).facts()) == {"a", "b"}
