"""From tests to verdicts on requirements, and the forms of the report."""

from __future__ import annotations

import json
import subprocess
from dataclasses import replace
from html.parser import HTMLParser
from pathlib import Path

import jsonschema
import pytest

from tests.conformance.reports import REPORT, RESULTS
from tlsconform.journal import Journal
from tlsconform.pcap import write_capture
from tlsconform.report import Report
from tlsconform.report import html as html_report
from tlsconform.report.html import BRIEF, page
from tlsconform.verdicts import Verdict, worst

SCHEMA = Path(html_report.__file__).with_name("report.schema.json")


def verdict_on(identifier: str) -> tuple[Verdict, str]:
    row = next(row for row in REPORT.rows() if row.requirement.id == identifier)
    return row.verdict, row.reason


@pytest.mark.parametrize(
    ("identifier", "verdict"),
    [
        ("4.2.2-16", Verdict.CONFORMS),
        ("4.2.2-7", Verdict.VIOLATES),
        ("4.2.1-3", Verdict.NOT_APPLICABLE),
        ("6.2-2", Verdict.DEVIATES),
        ("4.2.2-3", Verdict.CONFORMS),  # it did abort, if without a word
        ("5.1-12", Verdict.VIOLATES),
        ("4.2.1-1", Verdict.UNTESTED),  # another rule was broken first
        ("4.2.1-4", Verdict.UNTESTED),  # no test
    ],
)
def test_a_requirement_has_the_verdict_of_its_tests(identifier: str, verdict: Verdict) -> None:
    assert verdict_on(identifier)[0] is verdict


def test_what_is_untested_says_why() -> None:
    assert verdict_on("4.2.1-1")[1] == "another rule was broken before it could be seen"
    assert all(row.reason for row in REPORT.rows() if row.verdict is Verdict.UNTESTED)


def test_the_worst_verdict_counts() -> None:
    assert worst([Verdict.CONFORMS, Verdict.DEVIATES, Verdict.VIOLATES]) is Verdict.VIOLATES
    assert worst([Verdict.NOT_APPLICABLE, Verdict.CONFORMS]) is Verdict.CONFORMS
    assert worst([]) is Verdict.UNTESTED


def test_expected_failures_do_not_fail_the_run() -> None:
    assert {r.test for r in REPORT.unexpected()} == {
        RESULTS[1].test,
        RESULTS[3].test,
    }


def test_json_is_under_its_schema_and_comes_back() -> None:
    data = json.loads(json.dumps(REPORT.to_json()))
    jsonschema.validate(data, json.loads(SCHEMA.read_text()))
    assert Report.from_json(data).rows() == REPORT.rows()


@pytest.mark.parametrize("damage", [{"format": 99}, {"targets": None}, {"tool": {}}])
def test_another_file_is_no_report(damage: dict[str, object]) -> None:
    with pytest.raises(ValueError, match="report"):
        Report.from_json(REPORT.to_json() | damage)


class _Links(HTMLParser):
    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag, attrs) -> None:
        self.loaded += [v for k, v in attrs if k in ("src", "href", "srcset") and v]


def test_the_page_loads_nothing_and_escapes_what_targets_said() -> None:
    text = page(REPORT)
    parser = _Links()
    parser.feed(text)
    assert parser.loaded == []
    assert "&lt;silence&gt;" in text
    assert "<silence>" not in text


def test_a_brief_page_keeps_of_what_was_said_the_headlines_and_the_edits() -> None:
    said = ("-> client_hello, 9 octets", "     legacy_version 0303", "   > random 00   <- set to 0")
    results = (replace(RESULTS[1], evidence=said), *RESULTS[2:])
    text = page(replace(REPORT, results=results), BRIEF)
    assert "client_hello, 9 octets" in text
    assert "random 00" in text
    assert "legacy_version 0303" not in text


def test_a_capture_can_be_read(tmp_path: Path) -> None:
    journal = Journal()
    journal.connections = 1
    journal.key_log.append("CLIENT_RANDOM 00 00")
    journal.add("sent", "alert", octets=bytes.fromhex("15030300020228"))
    journal.add("received", "alert", octets=bytes.fromhex("1503030002022f"))
    path = write_capture(tmp_path / "captures", "test_x[a/b]", "server", journal)
    shown = subprocess.run(
        ["tshark", "-r", path, "-Y", "tls.alert_message", "-T", "fields", "-e", "tcp.dstport"],
        capture_output=True,
        text=True,
        check=True,
    ).stdout.split()
    assert shown == ["443", "40001"]
    assert path.with_suffix(".keylog").read_text() == "CLIENT_RANDOM 00 00\n"
