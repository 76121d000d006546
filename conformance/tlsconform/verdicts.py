"""From how a test ended to a verdict on the requirements that it is about."""

from __future__ import annotations

from collections.abc import Generator, Iterable
from dataclasses import asdict, dataclass
from enum import StrEnum
from pathlib import Path
from typing import Any, Final

import pytest

from tlsconform.features import missing
from tlsconform.journal import Journal
from tlsconform.marks import role_of
from tlsconform.outcome import Deviation, Finding, NotApplicable, TargetUnavailable
from tlsconform.pcap import write_capture
from tlsconform.requirements import CatalogueError, Requirement, Strength, all_requirements
from tlsconform.session import Session


class Verdict(StrEnum):
    """What a test says about an implementation, or all tests together about a requirement."""

    CONFORMS = "conforms"
    VIOLATES = "violates"
    DEVIATES = "deviates"
    NOT_APPLICABLE = "not applicable"
    UNTESTED = "untested"


@dataclass(frozen=True)
class Result:
    """How one test ended; `evidence` is empty where it conforms.

    `requirements` are the test's own; `broken` is what a finding is about, where that is another.
    """

    test: str
    role: str
    requirements: tuple[str, ...]
    verdict: Verdict
    reason: str = ""
    expected: str = ""
    got: str = ""
    broken: str | None = None
    expected_failure: str | None = None
    replay: str = ""
    evidence: tuple[str, ...] = ()
    seconds: float = 0.0
    title: str = ""

    def to_json(self) -> dict[str, Any]:
        """As plain data."""
        return asdict(self) | {"verdict": self.verdict.value}

    @classmethod
    def from_json(cls, data: dict[str, Any]) -> Result:
        """What `to_json` gave."""
        known: dict[str, Any] = {k: tuple(v) if isinstance(v, list) else v for k, v in data.items()}
        known["verdict"] = Verdict(data["verdict"])
        return cls(**known)


class Judge:
    """The part of the plugin that turns the ends of tests into results."""

    def __init__(self, session: Session, pcap_dir: Path | None = None) -> None:
        self.session, self.pcap_dir = session, pcap_dir

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_setup(self, item: pytest.Item) -> None:
        """Leave out what does not apply to the target, or under the RFC that is judged by."""
        role = role_of(item)
        if role is None:
            return
        for mark in item.iter_markers("needs"):
            for need in mark.args:
                reason = missing(self.session.features[role], role, need)
                if reason is not None:
                    raise NotApplicable(reason)
        if not any(self._asks(each) for each in requirements_of(item)):
            raise NotApplicable(f"RFC {self.session.rfc} does not ask for it")

    def _asks(self, identifier: str) -> bool:
        """Whether the RFC that the run is judged by has the requirement."""
        return strength_of(identifier, self.session.rfc) is not None

    @pytest.hookimpl(wrapper=True)
    def pytest_runtest_makereport(
        self, item: pytest.Item, call: pytest.CallInfo[None]
    ) -> Generator[None, pytest.TestReport, pytest.TestReport]:
        report = yield
        role = role_of(item)
        if role is None or (call.when != "call" and call.excinfo is None):
            return report
        result = self._result(item, call, role)
        self._shape(report, result)
        journal = getattr(item, "funcargs", {}).get("journal")
        if self.pcap_dir is not None and report.failed and isinstance(journal, Journal):
            write_capture(self.pcap_dir, item.name, role, journal)
        report.tlsconform = result.to_json()  # type: ignore[attr-defined]
        return report

    def _result(self, item: pytest.Item, call: pytest.CallInfo[None], role: str) -> Result:
        requirements = requirements_of(item)
        error = None if call.excinfo is None else call.excinfo.value
        base: dict[str, Any] = {
            "test": item.nodeid,
            "role": role,
            "requirements": requirements,
            "seconds": round(call.duration, 4),
            "expected_failure": self.session.expectations.reason(item.nodeid),
            "title": _title(item),
        }
        if error is None:
            return Result(verdict=Verdict.CONFORMS, **base)
        if isinstance(error, NotApplicable):
            return Result(verdict=Verdict.NOT_APPLICABLE, reason=error.reason, **base)
        base["replay"] = f"{self.session.command} -k '{item.name}'"
        base["evidence"] = self._evidence(item)
        if isinstance(error, Finding):
            base |= {
                "expected": error.expected,
                "got": error.got,
                "broken": error.requirement,
                "verdict": self._verdict(error, requirements),
            }
            return Result(reason=str(error), **base)
        if isinstance(error, TargetUnavailable):
            return Result(verdict=Verdict.UNTESTED, reason=str(error), **base)
        reason = f"{type(error).__name__}: {error}"
        return Result(verdict=Verdict.UNTESTED, reason=reason, **base)

    def _verdict(self, error: Finding, requirements: tuple[str, ...]) -> Verdict:
        concerned = requirements if error.requirement is None else (error.requirement,)
        if isinstance(error, Deviation):
            return Verdict.DEVIATES
        strengths = {strength_of(each, self.session.rfc) for each in concerned}
        return Verdict.DEVIATES if strengths <= {Strength.SHOULD, None} else Verdict.VIOLATES

    @staticmethod
    def _evidence(item: pytest.Item) -> tuple[str, ...]:
        journal = getattr(item, "funcargs", {}).get("journal")
        return () if journal is None else tuple(journal.render())

    def _shape(self, report: pytest.TestReport, result: Result) -> None:
        """Make of the result what pytest counts and shows."""
        failed = result.verdict in (Verdict.VIOLATES, Verdict.UNTESTED)
        if self.session.level == "should":
            failed = failed or result.verdict is Verdict.DEVIATES
        if result.verdict is Verdict.NOT_APPLICABLE:
            report.outcome = "skipped"
            report.longrepr = (result.test, 0, f"not applicable: {result.reason}")
        elif result.verdict is Verdict.DEVIATES and not failed:
            report.outcome, report.longrepr = "passed", None
        elif failed and result.verdict is not Verdict.UNTESTED:
            report.longrepr = "\n".join(explain(result))
        if result.expected_failure is not None:
            self._expect(report, result, failed)

    @staticmethod
    def _expect(report: pytest.TestReport, result: Result, failed: bool) -> None:
        """An expected failure is pytest's xfailed, an unexpected pass its xpassed."""
        if failed:
            report.outcome = "skipped"
        if result.verdict is not Verdict.NOT_APPLICABLE:
            report.wasxfail = result.expected_failure or ""

    def pytest_report_teststatus(
        self, report: pytest.TestReport
    ) -> tuple[str, str, tuple[str, dict[str, bool]]] | None:
        """Show deviations as what they are."""
        data = getattr(report, "tlsconform", None)
        if data and data["verdict"] == Verdict.DEVIATES and report.outcome == "passed":
            return "deviates", "d", ("DEVIATES", {"yellow": True})
        return None


def requirements_of(item: pytest.Item) -> tuple[str, ...]:
    """The requirements that a test is marked with, those of the nearest mark first."""
    return tuple(dict.fromkeys(str(n) for mark in item.iter_markers("req") for n in mark.args))


def strength_of(identifier: str, rfc: str = "9846") -> Strength | None:
    """How strongly an RFC asks for a requirement; None where it does not.

    A permission counts as None only where RFC 8446 has it and RFC 9846 has more: tests about a
    permission ask that the other side copes with its use.
    """
    entry = catalogued(identifier)
    if entry is None:
        return Strength.MUST
    strength = entry.strength(int(rfc))
    return None if strength is Strength.MAY and strength is not entry.strength() else strength


def catalogued(identifier: str) -> Requirement | None:
    """The requirement's entry, if the catalogue has it."""
    try:
        return all_requirements().get(identifier)
    except CatalogueError:
        return None


def explain(result: Result) -> Iterable[str]:
    """What a failing test shows: the clauses, expected and got, how to repeat it, what was said."""
    yield f"{result.role} {result.verdict.value}: {result.title or result.test}"
    for identifier in dict.fromkeys((result.broken or "", *result.requirements)):
        if identifier:
            entry = catalogued(identifier)
            summary = f" {entry.level}: {entry.summary}" if entry else ""
            yield f"RFC 9846 {identifier}{summary}"
    yield f"expected: {result.expected}"
    yield f"got:      {result.got}"
    yield f"replay:   {result.replay}"
    yield "what was said (-> to the target, <- from it; > marks an edit):"
    yield from (f"  {line}" for line in result.evidence)


def _title(item: pytest.Item) -> str:
    function = getattr(item, "function", None)
    doc = (getattr(function, "__doc__", None) or "").strip().splitlines()
    return doc[0] if doc else ""


_ORDER: Final = (
    Verdict.VIOLATES,
    Verdict.UNTESTED,
    Verdict.DEVIATES,
    Verdict.CONFORMS,
    Verdict.NOT_APPLICABLE,
)


def worst(verdicts: Iterable[Verdict]) -> Verdict:
    """The verdict on a requirement from those of its tests; untested where there are none."""
    found = set(verdicts)
    return next((verdict for verdict in _ORDER if verdict in found), Verdict.UNTESTED)
