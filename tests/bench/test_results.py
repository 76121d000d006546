"""From seconds to figures, ratios and verdicts."""

from __future__ import annotations

import pytest

from tlsbench.measure import SMOKE, Effort, Progress, Spread, interleave
from tlsbench.results import Ratio, Target, figures, rate, target
from tlsbench.text import number, spread


def ratio(median: float, beside: str = "ssl", case: str = "a case") -> Ratio:
    return Ratio(case, "rate", "tpmtls", beside, Spread(median, median, median, 1))


def test_contenders_take_turns():
    order = []

    def probe(name):
        def run(count):
            order.append((name, count))
            return (1.0 * count,)

        return run

    effort = Effort(seconds=8.0, rounds=2)
    turns = interleave({"a": probe("a"), "b": probe("b")}, effort, Progress(silent=True), "it")
    assert turns == {"a": [(1.0,), (1.0,)], "b": [(1.0,), (1.0,)]}
    assert order[4:] == [("a", 4), ("b", 4)] * 2


def test_ratios_are_of_turns_and_not_of_medians():
    turns = {"tpmtls": [(1.0,), (2.0,), (4.0,)], "ssl": [(2.0,), (1.0,), (1.0,)]}
    rows, ratios = figures(turns, "a case", ("rate",), rate(), beside=("ssl", "not here"))
    assert rows[0].figures == {"rate": Spread(0.5, 0.25, 1.0, 3)}
    assert ratios == [Ratio("a case", "rate", "tpmtls", "ssl", Spread(0.5, 0.25, 2.0, 3))]


@pytest.mark.parametrize(
    ("sense", "bound", "met"),
    [("at least", 0.6, False), ("at least", 0.5, True), ("at most", 0.6, False)],
)
def test_target_is_judged_by_the_worst(sense, bound, met):
    found = target("it", sense, bound, [ratio(0.5), ratio(0.7), ratio(9, "b")], beside="ssl")
    assert found.met is met


def test_target_that_was_not_measured_is_neither_met_nor_missed():
    assert target("it", "at least", 1, [ratio(2)], beside="another").met is None
    assert Target("it", "at most", 1, 1.0).met is True


@pytest.mark.parametrize(
    ("value", "shown"),
    [(12345.6, "12,346"), (99.94, "99.9"), (10.0, "10.0"), (0.12345, "0.123"), (3.0, "3.00")],
)
def test_numbers(value, shown):
    assert number(value) == shown


def test_spread_of_one_measurement_is_a_number():
    assert spread(Spread.of([2.0])) == "2.00"
    assert spread(Spread.of([1.0, 2.0, 4.0])) == "2.00 (1.00–4.00)"


def test_smoke_runs_each_once():
    ran = []

    def probe(count):
        ran.append(count)
        return (1.0,)

    interleave({"a": probe}, SMOKE, Progress(silent=True), "it")
    assert ran == [1]
