"""What a run found, requirement by requirement: what every form of report is made from."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass
from typing import Any, Final

from tlsconform.requirements import Requirement, Role, all_requirements
from tlsconform.requirements.catalogue import order
from tlsconform.verdicts import Result, Verdict, worst

FORMAT: Final = 1
"""The version of the JSON report's schema."""
ANOTHER_FIRST: Final = "another rule was broken before it could be seen"


@dataclass(frozen=True)
class Target:
    """What was under test, in one role, and what it supports."""

    role: str
    name: str
    features: dict[str, Any]


@dataclass(frozen=True)
class Row:
    """The verdict on one requirement for one role; `tests` are those that it rests on."""

    requirement: Requirement
    role: str
    verdict: Verdict
    reason: str
    tests: tuple[str, ...]


@dataclass(frozen=True)
class Report:
    """One run. `date` is in ISO 8601, `seconds` the time of the tests."""

    version: str
    date: str
    rfc: str
    level: str
    seed: int
    command: str
    seconds: float
    targets: tuple[Target, ...]
    results: tuple[Result, ...]

    def rows(self) -> list[Row]:
        """Every requirement that binds a role under test, in the order of the RFC."""
        found: list[Row] = []
        for target in self.targets:
            seen = _by_requirement(r for r in self.results if r.role == target.role)
            found += (
                self._row(entry, target.role, seen.get(entry.id, []))
                for entry in all_requirements().values()
                if Role(target.role) in entry.binds
            )
        return sorted(found, key=lambda row: (row.role, order(row.requirement.id)))

    def _row(self, entry: Requirement, role: str, seen: Sequence[tuple[Verdict, str, str]]) -> Row:
        tests = tuple(dict.fromkeys(test for _, _, test in seen))
        if entry.strength(int(self.rfc)) is None:
            return Row(entry, role, Verdict.NOT_APPLICABLE, f"not in RFC {self.rfc}", tests)
        if not seen:
            untested = entry.reason or "no test of the suite shows it"
            return Row(entry, role, Verdict.UNTESTED, untested, ())
        verdict = worst(verdict for verdict, _, _ in seen)
        reasons = dict.fromkeys(reason for found, reason, _ in seen if found is verdict and reason)
        return Row(entry, role, verdict, "; ".join(list(reasons)[:3]), tests)

    def unexpected(self) -> list[Result]:
        """What fails the run: violations, and at level `should` deviations, not expected to."""
        fails = {Verdict.VIOLATES, Verdict.UNTESTED}
        if self.level == "should":
            fails.add(Verdict.DEVIATES)
        return [r for r in self.results if r.verdict in fails and r.expected_failure is None]

    def unexpected_passes(self) -> list[Result]:
        """Tests that were expected to fail, and conform."""
        return [r for r in self.results if r.expected_failure and r.verdict is Verdict.CONFORMS]

    # -- JSON --------------------------------------------------------------------------------------

    def to_json(self) -> dict[str, Any]:
        """As plain data, under `report.schema.json`."""
        return {
            "format": FORMAT,
            "tool": {"name": "tlsconform", "version": self.version},
            "date": self.date,
            "rfc": self.rfc,
            "level": self.level,
            "seed": self.seed,
            "command": self.command,
            "seconds": self.seconds,
            "targets": [asdict(target) for target in self.targets],
            "requirements": [
                {
                    "id": row.requirement.id,
                    "level": row.requirement.level.value,
                    "summary": row.requirement.summary,
                    "role": row.role,
                    "verdict": row.verdict.value,
                    "reason": row.reason,
                    "tests": list(row.tests),
                }
                for row in self.rows()
            ],
            "tests": [result.to_json() for result in self.results],
        }

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Report:
        """What `to_json` gave; raises ValueError, in one line, for anything else."""
        try:
            if data["format"] != FORMAT:
                raise ValueError(f"a report of format {data['format']}, not {FORMAT}")
            return cls(
                version=data["tool"]["version"],
                date=data["date"],
                rfc=data["rfc"],
                level=data["level"],
                seed=data["seed"],
                command=data["command"],
                seconds=data["seconds"],
                targets=tuple(Target(**target) for target in data["targets"]),
                results=tuple(Result.from_json(test) for test in data["tests"]),
            )
        except (KeyError, TypeError) as error:
            raise ValueError(f"not a report of tlsconform: {error}") from None


def _by_requirement(results: Iterable[Result]) -> dict[str, list[tuple[Verdict, str, str]]]:
    """Requirement → what each test says of it: verdict, reason, test.

    A finding about another rule than the test's own counts against that one; the test's own are
    kept where that was a deviation, and have not been seen where it was a violation.
    """
    found: dict[str, list[tuple[Verdict, str, str]]] = defaultdict(list)
    for result in results:
        own, reason = result.verdict, result.reason
        if result.broken is not None and result.broken not in result.requirements:
            found[result.broken].append((result.verdict, reason, result.test))
            kept = result.verdict is Verdict.DEVIATES
            own, reason = (Verdict.CONFORMS, "") if kept else (Verdict.UNTESTED, ANOTHER_FIRST)
        for identifier in result.requirements:
            concerned = result.broken is None or result.broken not in result.requirements
            verdict = own if concerned or identifier == result.broken else Verdict.UNTESTED
            note = reason if verdict is not Verdict.UNTESTED or own is verdict else ANOTHER_FIRST
            found[identifier].append((verdict, note, result.test))
    return found
