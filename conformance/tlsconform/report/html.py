"""One self-contained page of HTML: every requirement with its verdict, filters, the evidence."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass
from html import escape
from importlib.resources import files
from typing import Final

from tlsconform.features import in_words
from tlsconform.report.model import Report, Row, Target
from tlsconform.verdicts import Result, Verdict

MAX_EVIDENCE: Final = 400
"""Lines of one test's evidence that the page shows; the JSON report has them all."""


@dataclass(frozen=True)
class Extent:
    """How much a page shows of each requirement; the JSON report has all."""

    tests: int = 12
    """The worst first."""
    said: int = 2
    """Those of them that come with what was said."""
    fields: bool = True
    """Whether each field of what was said is shown, or just those that were edited."""


BRIEF: Final = Extent(tests=3, said=1, fields=False)
"""For pages that are kept, or sent around."""


def page(report: Report, extent: Extent | None = None) -> str:
    """The page as a string; it loads nothing from anywhere."""
    extent = extent or Extent()
    rows = report.rows()
    tests = {result.test: result for result in report.results}
    names = ", ".join(target.name for target in report.targets)
    body = "".join(
        (
            f"<h1>TLS 1.3 conformance: {escape(names)}</h1>",
            f'<p class="about">{escape(_about(report))}</p>',
            *(_target(report, target, rows) for target in report.targets),
            "<h2>Requirements</h2>",
            _filters(report),
            *(_row(row, tests, extent) for row in rows),
        )
    )
    return (
        '<!doctype html>\n<html lang="en"><head><meta charset="utf-8">'
        '<meta name="viewport" content="width=device-width, initial-scale=1">'
        f"<title>TLS 1.3 conformance: {escape(names)}</title>"
        f"<style>{_resource('page.css')}</style></head>\n<body>{body}"
        f"<script>{_resource('page.js')}</script></body></html>\n"
    )


def _resource(name: str) -> str:
    return files("tlsconform.report").joinpath(name).read_text("utf-8")


def _about(report: Report) -> str:
    return (
        f"Judged by RFC {report.rfc} on {report.date}, tlsconform {report.version}, seed "
        f"{report.seed}, {len(report.results)} tests in {report.seconds:g} s. "
        f"Again: {report.command}"
    )


def _target(report: Report, target: Target, rows: Iterable[Row]) -> str:
    counts = Counter(row.verdict for row in rows if row.role == target.role)
    boxes = "".join(
        f'<button class="count {_css(verdict)}" data-show="{verdict.value}" '
        f'data-of="{target.role}"><b>{counts[verdict]}</b> {verdict.value}</button>'
        for verdict in Verdict
    )
    features = "".join(
        f"<dt>{escape(name.replace('_', ' '))}</dt><dd>{escape(in_words(value))}</dd>"
        for name, value in target.features.items()
    )
    return (
        f"<h2>{target.role.capitalize()} under test: {escape(target.name)}</h2>"
        f'<div class="counts">{boxes}</div>'
        f"<details><summary>What it supports, as found out before the tests</summary>"
        f'<dl class="features">{features}</dl></details>'
    )


def _filters(report: Report) -> str:
    def select(name: str, title: str, values: Iterable[str]) -> str:
        options = "".join(f'<option value="{value}">{value}</option>' for value in values)
        return (
            f'<select id="{name}" aria-label="{title}">'
            f'<option value="">{title}</option>{options}</select>'
        )

    roles = [target.role for target in report.targets]
    return (
        '<div class="filters">'
        + select("verdict", "any verdict", (v.value for v in Verdict))
        + select("role", "any role", roles)
        + select("level", "any level", ("must", "should", "may"))
        + '<input id="text" type="search" placeholder="section, word, test …" aria-label="text">'
        + '<button id="reset" type="button">all</button>'
        + ' <span id="shown" class="mute"></span></div>'
    )


def _row(row: Row, tests: dict[str, Result], extent: Extent) -> str:
    entry = row.requirement
    shown = [tests[test] for test in row.tests if test in tests]
    shown.sort(key=lambda result: result.verdict is not row.verdict)
    details = "".join(
        _test(each, _evidence(each, extent) if at < extent.said else "")
        for at, each in enumerate(shown[: extent.tests])
    )
    if len(shown) > extent.tests:
        details += f'<p class="mute">and {len(shown) - extent.tests} tests more</p>'
    reason = f"<p>{escape(row.reason)}</p>" if row.reason else ""
    origin = f"RFC 8446 §{entry.rfc8446}" if entry.rfc8446 else "not in RFC 8446"
    return (
        f'<details class="row" data-verdict="{row.verdict.value}" data-role="{row.role}" '
        f'data-level="{entry.level.strength.value}"><summary>'
        f'<span class="v {_css(row.verdict)}">{row.verdict.value}</span>'
        f'<span class="id">{entry.id}</span><span>{entry.level.value}</span>'
        f'<span class="mute">{row.role}</span>'
        f'<span class="what">{escape(entry.summary)}</span></summary>'
        f'<div class="body">{reason}<p class="mute">RFC 9846 §{entry.section}; {origin}</p>'
        f"{details}</div></details>\n"
    )


def _test(result: Result, said: str) -> str:
    title = escape(result.title or result.test)
    verdict = f'<span class="v {_css(result.verdict)}">{result.verdict.value}</span>'
    test = f'<code class="mute">{escape(result.test)}</code>'
    lines = [f'<div class="test">{verdict} {title}<br>{test}']
    if result.expected_failure:
        lines.append(f"<br>expected to fail: {escape(result.expected_failure)}")
    if result.expected:
        lines.append(f"<br>expected: {escape(result.expected)}<br>got: {escape(result.got)}")
    elif result.reason:
        lines.append(f"<br>{escape(result.reason)}")
    if result.replay:
        lines.append(f"<br>replay: <code>{escape(result.replay)}</code>")
    if said:
        lines.append(f"<details><summary>what was said</summary><pre>{said}</pre></details>")
    return "".join(lines) + "</div>"


def _evidence(result: Result, extent: Extent) -> str:
    chosen = [
        line
        for line in result.evidence
        if extent.fields or not line.startswith(" ") or line.lstrip().startswith(">")
    ]
    lines = [
        f"<mark>{escape(line)}</mark>" if line.lstrip().startswith(">") else escape(line)
        for line in chosen[:MAX_EVIDENCE]
    ]
    if len(chosen) > MAX_EVIDENCE:
        lines.append(f"… {len(chosen) - MAX_EVIDENCE} lines more in the JSON report")
    return "\n".join(lines)


def _css(verdict: Verdict) -> str:
    return verdict.value.replace(" ", "-")
