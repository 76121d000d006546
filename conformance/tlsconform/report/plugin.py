"""The part of the pytest plugin that gathers results, sums them up, and writes the reports."""

from __future__ import annotations

import json
import time
from collections import Counter
from datetime import UTC, datetime
from importlib.metadata import version
from pathlib import Path
from typing import Any

import pytest

from tlsconform.features import in_words
from tlsconform.report.html import page
from tlsconform.report.model import Report, Target
from tlsconform.session import Session
from tlsconform.verdicts import Result, Verdict

SHOWN = (
    Verdict.CONFORMS,
    Verdict.VIOLATES,
    Verdict.DEVIATES,
    Verdict.NOT_APPLICABLE,
    Verdict.UNTESTED,
)


class Reporter:
    """Lives in the process that the user started, never in a worker."""

    def __init__(self, session: Session, json_file: str | None, html_file: str | None) -> None:
        self.session = session
        self.json_file, self.html_file = json_file, html_file
        self.results: list[Result] = []
        self._started = time.monotonic()

    def pytest_report_header(self) -> list[str]:
        """State what the target supports."""
        lines = [f"judged by RFC {self.session.rfc}, seed {self.session.seed}"]
        for role, features in self.session.features.items():
            lines.append(f"{role} under test: {self.session.target_name(role)}")
            for name, value in features.to_json().items():
                lines.append(f"  {name.replace('_', ' ')}: {in_words(value)}")
        return lines

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        """Take the result that a worker, or this process, attached to its report."""
        data = getattr(report, "tlsconform", None)
        if data is not None:
            self.results.append(Result.from_json(data))

    def report(self) -> Report:
        """What was found so far."""
        return Report(
            version=version("tpmtls"),
            date=datetime.now(UTC).isoformat(timespec="seconds"),
            rfc=self.session.rfc,
            level=self.session.level,
            seed=self.session.seed,
            command=self.session.command,
            seconds=round(time.monotonic() - self._started, 1),
            targets=tuple(
                Target(role, self.session.target_name(role), features.to_json())
                for role, features in self.session.features.items()
            ),
            results=tuple(sorted(self.results, key=lambda result: (result.role, result.test))),
        )

    def pytest_terminal_summary(self, terminalreporter: Any) -> None:
        """Verdicts by requirement and by test, and what is not as it should be, a line each."""
        report = self.report()
        write = terminalreporter.write_line
        terminalreporter.section("RFC 9846 conformance")
        self._write_counts(report, write)
        for row in report.rows():
            if row.verdict in (Verdict.VIOLATES, Verdict.DEVIATES):
                color = {"red": True} if row.verdict is Verdict.VIOLATES else {"yellow": True}
                entry = row.requirement
                write(f"{row.role} {row.verdict.value} {entry.id} ({entry.level})", **color)
                write(f"    {entry.summary}")
                write(f"    {row.reason}")
        for result in report.unexpected_passes():
            write(f"expected to fail, but conforms: {result.test}", yellow=True)
        self._write_files(report, write)

    @staticmethod
    def _write_counts(report: Report, write: Any) -> None:
        for target in report.targets:
            rows = Counter(row.verdict for row in report.rows() if row.role == target.role)
            tests = Counter(r.verdict for r in report.results if r.role == target.role)
            write(f"{target.role}: {target.name}")
            for title, counts in (("requirements", rows), ("tests", tests)):
                parts = [f"{counts[verdict]} {verdict.value}" for verdict in SHOWN]
                write(f"  {title:<13}{', '.join(parts)}")

    def _write_files(self, report: Report, write: Any) -> None:
        outputs = {
            self.json_file: json.dumps(report.to_json(), indent=1) + "\n" if self.json_file else "",
            self.html_file: page(report) if self.html_file else "",
        }
        for file, text in outputs.items():
            if file is not None:
                try:
                    Path(file).write_text(text, "utf-8")
                except OSError as error:
                    raise pytest.UsageError(f"cannot write {file}: {error.strerror}") from None
                write(f"report: {file}")
