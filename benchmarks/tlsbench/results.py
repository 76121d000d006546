"""What a run gives: tables of figures, ratios and targets, as data; to JSON and back."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from importlib import resources
from typing import Any, Final, Literal

from tlsbench.measure import Spread

SCHEMA_VERSION: Final = 1


@dataclass(frozen=True, slots=True)
class Row:
    """One contender in one case: its figures by column, or the reason why it has none."""

    case: str
    subject: str
    figures: Mapping[str, Spread] = field(default_factory=dict)
    absent: str | None = None


@dataclass(frozen=True, slots=True)
class Ratio:
    """A figure of one contender as a multiple of another's, turn by turn."""

    case: str
    column: str
    subject: str
    beside: str
    value: Spread


@dataclass(frozen=True, slots=True)
class Target:
    """What was aimed for, and what came out; None where it could not be measured."""

    text: str
    sense: Literal["at least", "at most"]
    bound: float
    value: float | None
    case: str = ""

    @property
    def met(self) -> bool | None:
        """Whether it was reached, if it was measured."""
        if self.value is None:
            return None
        return self.value >= self.bound if self.sense == "at least" else self.value <= self.bound


@dataclass(frozen=True, slots=True)
class Table:
    """One benchmark. `columns` maps each column to its unit; the first is the one to plot."""

    name: str
    title: str
    about: str
    columns: Mapping[str, str]
    rows: Sequence[Row]
    ratios: Sequence[Ratio] = ()
    targets: Sequence[Target] = ()

    def cases(self) -> list[str]:
        """Each case once, in order."""
        return list(dict.fromkeys(row.case for row in self.rows))


@dataclass(frozen=True, slots=True)
class Report:
    """A run: the machine, the versions, and the tables."""

    machine: Mapping[str, str]
    versions: Mapping[str, str]
    effort: str
    tables: Sequence[Table]

    def to_json(self) -> str:
        """As `report.schema.json` describes it."""
        values = dataclasses.asdict(self)
        for table, shown in zip(self.tables, values["tables"], strict=True):
            for target, entry in zip(table.targets, shown["targets"], strict=True):
                entry["met"] = target.met
        return json.dumps({"schema": SCHEMA_VERSION} | _rounded(values), indent=1)

    @classmethod
    def from_json(cls, text: str) -> Report:
        """The same, read again. For our own files: what is no report raises KeyError, TypeError."""
        values = json.loads(text)
        tables = [_table(each) for each in values["tables"]]
        return cls(values["machine"], values["versions"], values["effort"], tables)


def schema() -> dict[str, Any]:
    """The JSON Schema of a report."""
    text = resources.files("tlsbench").joinpath("report.schema.json").read_text("utf-8")
    loaded: dict[str, Any] = json.loads(text)
    return loaded


def _table(values: dict[str, Any]) -> Table:
    rows = [
        Row(**row | {"figures": {name: Spread(**each) for name, each in row["figures"].items()}})
        for row in values["rows"]
    ]
    ratios = [Ratio(**ratio | {"value": Spread(**ratio["value"])}) for ratio in values["ratios"]]
    targets = [
        Target(**{name: value for name, value in target.items() if name != "met"})
        for target in values["targets"]
    ]
    return Table(**values | {"rows": rows, "ratios": ratios, "targets": targets})


def _rounded(value: Any) -> Any:
    """Floats to four significant digits: more would be noise, and every run a large diff."""
    if isinstance(value, float):
        return float(f"{value:.4g}")
    if isinstance(value, dict):
        return {name: _rounded(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [_rounded(each) for each in value]
    return value


# -- from turns to figures -------------------------------------------------------------------------

Turns = Mapping[str, Sequence[Sequence[float]]]
"""Seconds of one execution, by contender, turn and figure."""


def rate(amount: float = 1.0) -> Callable[[float], float]:
    """From seconds to so much a second."""
    return lambda seconds: amount / seconds


def scaled(factor: float) -> Callable[[float], float]:
    """From seconds to milliseconds and the like."""
    return lambda seconds: factor * seconds


def figures(
    turns: Turns,
    case: str,
    columns: Sequence[str],
    unit: Callable[[float], float],
    *,
    beside: Sequence[str] = (),
    subject: str = "tpmtls",
) -> tuple[list[Row], list[Ratio]]:
    """Rows of what was measured, and the ratios of `subject` to those that it is set beside."""
    shown = {
        name: {
            column: [unit(turn[index]) for turn in of_one] for index, column in enumerate(columns)
        }
        for name, of_one in turns.items()
    }
    rows = [
        Row(case, name, {column: Spread.of(values) for column, values in each.items()})
        for name, each in shown.items()
    ]
    ratios = [
        Ratio(case, column, subject, other, Spread.of(_quotients(own, shown[other][column])))
        for other in beside
        if other in shown and subject in shown
        for column, own in shown[subject].items()
    ]
    return rows, ratios


def _quotients(ours: Sequence[float], theirs: Sequence[float]) -> list[float]:
    return [a / b for a, b in zip(ours, theirs, strict=True)]


def target(
    text: str,
    sense: Literal["at least", "at most"],
    bound: float,
    ratios: Sequence[Ratio],
    *,
    beside: str,
) -> Target:
    """Judged by the worst of the ratios to `beside`."""
    those = [ratio for ratio in ratios if ratio.beside == beside]
    if not those:
        return Target(text, sense, bound, None)
    pick = min if sense == "at least" else max
    worst = pick(those, key=lambda ratio: ratio.value.median)
    return Target(text, sense, bound, worst.value.median, f"{worst.case}, {worst.column}")
