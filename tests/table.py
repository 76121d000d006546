"""A pytest plugin: `--table` prints one table of what was tested, against whom, and how it went.

A test names its row with a marker, or with the `row` fixture when it knows only at run time; tests
that name the same row are merged into it, and a test that names none stands under its file's name:

    @pytest.mark.row(what="1-RTT, x25519", against="OpenSSL", version="3.0.19")
    def test_one(): ...

    def test_another(peer, row):
        row(what="resumption", against=peer.name, version=peer.version)

The row travels in the report's `user_properties`, so that it crosses from xdist's workers.
"""

from __future__ import annotations

import textwrap
import time
from collections import Counter
from collections.abc import Generator, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from enum import IntEnum
from pathlib import PurePath
from typing import Any, Protocol

import pytest

WIDTH = 100
PROPERTY = "row"


class Verdict(IntEnum):
    """What became of a test; the worst verdict of a row's tests is the row's."""

    passed = 0
    xfailed = 1
    skipped = 2
    failed = 3
    error = 4

    @classmethod
    def of(cls, report: pytest.TestReport) -> Verdict:
        if report.failed:
            return cls.failed if report.when == "call" else cls.error
        if report.skipped:
            return cls.xfailed if hasattr(report, "wasxfail") else cls.skipped
        return cls.passed


LOOKS: dict[Verdict, tuple[str, str, dict[str, bool]]] = {
    Verdict.passed: (".", "pass", {"green": True}),
    Verdict.xfailed: ("x", "xfail", {"yellow": True}),
    Verdict.skipped: ("s", "skip", {"yellow": True}),
    Verdict.failed: ("F", "FAIL", {"red": True, "bold": True}),
    Verdict.error: ("E", "ERROR", {"red": True, "bold": True}),
}


# --- naming a row -------------------------------------------------------------------------------


class NameRow(Protocol):
    """What the `row` fixture gives."""

    def __call__(self, *, what: str, against: str, version: str = "") -> None: ...


def _name_row(item: pytest.Item, *, what: str, against: str, version: str = "") -> None:
    named = {"what": what, "against": against, "version": version}
    others = [(name, value) for name, value in item.user_properties if name != PROPERTY]
    item.user_properties[:] = [*others, (PROPERTY, named)]


@pytest.fixture
def row(request: pytest.FixtureRequest) -> NameRow:
    """Name the row of `--table` that this test belongs to, once the test knows it."""

    def name_row(*, what: str, against: str, version: str = "") -> None:
        _name_row(request.node, what=what, against=against, version=version)

    return name_row


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    if marker := item.get_closest_marker("row"):
        _name_row(item, *marker.args, **marker.kwargs)


# --- gathering ----------------------------------------------------------------------------------


@dataclass
class Test:
    """One test, over its phases."""

    nodeid: str
    what: str
    against: str = ""
    version: str = ""
    verdict: Verdict = Verdict.passed
    seconds: float = 0.0
    reason: str = ""

    def add(self, report: pytest.TestReport) -> None:
        """Take in the report of one phase."""
        self.verdict = max(self.verdict, Verdict.of(report))
        if type(report) is pytest.TestReport:  # a subtest's time is its test's already
            self.seconds += report.duration
        if isinstance(report.longrepr, tuple):  # of a skip: file, line, reason
            self.reason = report.longrepr[2].removeprefix("Skipped: ")
        for name, value in report.user_properties:
            if name == PROPERTY and isinstance(value, dict):
                self.what, self.against = value["what"], value["against"]
                self.version = value["version"]


@dataclass
class Row:
    """Tests of the same thing against the same peer."""

    what: str
    against: str
    tests: list[Test] = field(default_factory=list)

    @property
    def verdict(self) -> Verdict:
        return max(test.verdict for test in self.tests)

    @property
    def peer(self) -> str:
        versions = sorted({test.version for test in self.tests if test.version})
        return " ".join([self.against, ", ".join(versions)]).strip()

    def cells(self) -> tuple[str, str, str, str, str]:
        worst = sum(test.verdict is self.verdict for test in self.tests)
        shown = LOOKS[self.verdict][1]
        if worst < len(self.tests):
            shown = f"{shown} {worst} of {len(self.tests)}"
        seconds = sum(test.seconds for test in self.tests)
        return self.what, self.peer or "-", shown, str(len(self.tests)), _duration(seconds)


def _merge(tests: Iterable[Test]) -> list[Row]:
    rows: dict[tuple[str, str], Row] = {}
    for test in tests:
        key = test.what, test.against
        rows.setdefault(key, Row(*key)).tests.append(test)
    return list(rows.values())


# --- layout -------------------------------------------------------------------------------------

HEADER = ("what", "against", "verdict", "tests", "time")
RIGHT_ALIGNED = {"tests", "time"}
GAP = "  "


def _duration(seconds: float) -> str:
    return f"{seconds * 1000:.0f} ms" if seconds < 1 else f"{seconds:.1f} s"


def _widths(cells: Sequence[Sequence[str]]) -> list[int]:
    """As wide as the content, where WIDTH allows it; else the first two columns share what is left.

    >>> _widths([("w" * 80, "a" * 50, "pass", "1", "5 ms")])
    [42, 40, 4, 1, 4]
    """
    widths = [max(len(row[column]) for row in cells) for column in range(len(HEADER))]
    left = WIDTH - sum(widths[2:]) - len(GAP) * (len(HEADER) - 1)
    if widths[0] + widths[1] > left:
        widths[1] = min(widths[1], max(left // 2 - 1, left - widths[0]))
        widths[0] = min(widths[0], left - widths[1])
    return widths


def _lines(cells: Sequence[str], widths: Sequence[int]) -> Iterator[list[str]]:
    """The padded cells of each line of a row: a cell too wide for its column is wrapped."""
    wrapped = [
        textwrap.wrap(cell, width) or [""] for cell, width in zip(cells, widths, strict=True)
    ]
    for number in range(max(map(len, wrapped))):
        parts = [lines[number] if number < len(lines) else "" for lines in wrapped]
        yield [
            part.rjust(width) if name in RIGHT_ALIGNED else part.ljust(width)
            for name, part, width in zip(HEADER, parts, widths, strict=True)
        ]


def _print_table(terminal: pytest.TerminalReporter, rows: Sequence[Row]) -> None:
    table = [HEADER, *(row.cells() for row in rows)]
    widths = _widths(table)
    rule = "-" * (sum(widths) + len(GAP) * (len(HEADER) - 1))
    for line in _lines(HEADER, widths):
        terminal.line(GAP.join(line).rstrip(), bold=True)
    terminal.line(rule)
    for row in rows:
        for what, against, verdict, *numbers in _lines(row.cells(), widths):
            named, counted = what + GAP + against + GAP, GAP + GAP.join(numbers)
            if verdict.isspace():  # the row goes on: only names are ever wrapped
                terminal.line(named.rstrip())
                continue
            terminal.write(named)
            terminal.write(verdict, **LOOKS[row.verdict][2])
            terminal.line(counted)
    terminal.line(rule)


def _print_totals(
    terminal: pytest.TerminalReporter, rows: Sequence[Row], tests: Sequence[Test], seconds: float
) -> None:
    count = Counter(test.verdict for test in tests)
    verdicts = [f"{number} {verdict.name}" for verdict, number in sorted(count.items())]
    counted = f"{_plural(len(rows), 'row')}, {_plural(len(tests), 'test')}"
    terminal.line(f"{counted}: {', '.join(verdicts) or 'nothing ran'}, in {_duration(seconds)}")
    for reason in sorted({test.reason for test in tests if test.verdict is Verdict.skipped}):
        skipped = [test for test in tests if test.reason == reason]
        where = ", ".join(f"{row.what} ({row.peer})" for row in _merge(skipped))
        terminal.line(textwrap.shorten(f"skipped: {reason}: {where}", WIDTH, placeholder=" …"))


def _plural(number: int, noun: str) -> str:
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


# --- the plugin ---------------------------------------------------------------------------------


class Table:
    """Stands in for pytest's line of progress, and prints the table before its failures."""

    def __init__(self, config: pytest.Config) -> None:
        self.config = config
        self.tests: dict[str, Test] = {}
        self.order: dict[str, int] = {}
        self.done = 0
        self.running = True  # until then pytest counts, and this plugin shows
        self.started = time.perf_counter()

    @property
    def terminal(self) -> pytest.TerminalReporter:
        terminal = self.config.pluginmanager.get_plugin("terminalreporter")
        assert isinstance(terminal, pytest.TerminalReporter)
        return terminal

    @pytest.hookimpl(optionalhook=True)
    def pytest_xdist_node_collection_finished(self, ids: Sequence[str]) -> None:
        self.order = {nodeid: place for place, nodeid in enumerate(ids)}

    def pytest_collection_finish(self, session: pytest.Session) -> None:
        self.order = {item.nodeid: place for place, item in enumerate(session.items)}

    @pytest.hookimpl(wrapper=True)
    def pytest_report_teststatus(
        self,
    ) -> Generator[None, tuple[str, str, Any], tuple[str, str, Any]]:
        category, letter, word = yield
        return (category, "", "") if self.running else (category, letter, word)

    def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
        test = self.tests.get(report.nodeid)
        if test is None:
            path = PurePath(report.nodeid.partition("::")[0])
            what = f"{path.parent.name}/{path.stem.removeprefix('test_')}".lstrip("/")
            test = self.tests[report.nodeid] = Test(report.nodeid, what)
        test.add(report)
        if report.when not in {"setup", "call"}:  # its teardown, or the crash of its worker
            self.done += 1
            self.show_progress(test.verdict)

    def show_progress(self, verdict: Verdict) -> None:
        if self.terminal.isatty:
            self.terminal.rewrite(f"{self.done} of {len(self.order)} tests", erase=True)
        else:
            letter, _name, looks = LOOKS[verdict]
            self.terminal.write(letter, flush=True, **looks)
            if self.done % 80 == 0:
                self.terminal.line("")

    @pytest.hookimpl(wrapper=True, tryfirst=True)
    def pytest_terminal_summary(self, terminalreporter: pytest.TerminalReporter) -> Iterator[None]:
        self.running = False
        tests = sorted(
            self.tests.values(), key=lambda test: self.order.get(test.nodeid, len(self.order))
        )
        rows = _merge(tests)
        if terminalreporter.isatty:
            terminalreporter.rewrite("", erase=True)
            terminalreporter.write("\r")
        else:
            terminalreporter.ensure_newline()
            terminalreporter.line("")
        if rows:
            _print_table(terminalreporter, rows)
        _print_totals(terminalreporter, rows, tests, time.perf_counter() - self.started)
        return (yield)


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.getgroup("reporting").addoption(
        "--table",
        action="store_true",
        help="print one table (what, against whom, verdict, tests, time) instead of one dot a test",
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "row(what, against, version): the row of --table that this test belongs to"
    )
    if config.getoption("table") and not hasattr(config, "workerinput"):
        # The table says what pytest's header, progress and list of skipped tests would.
        if config.option.verbose == 0:
            config.option.verbose = -1
        if config.option.reportchars == "a":
            config.option.reportchars = "fE"
        config.pluginmanager.register(Table(config), "table")
