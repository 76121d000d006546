"""Running a benchmark once, for tests: every contender executes once."""

from __future__ import annotations

import json

import jsonschema

from tlsbench import plot, text
from tlsbench.measure import SMOKE, Progress
from tlsbench.results import Report, schema
from tlsbench.run import run


def smoke(name: str) -> Report:
    """Its report, which is what the schema says, can be read again, shown and drawn."""
    report = run([name], SMOKE, Progress(silent=True))
    jsonschema.validate(json.loads(report.to_json()), schema())
    (table,) = report.tables
    assert table.name == name
    assert any(row.figures for row in table.rows)
    again = Report.from_json(report.to_json())
    assert again.to_json() == report.to_json()
    assert list(text.as_text(again.tables[0]))
    assert list(text.as_markdown(again.tables[0]))
    assert plot.draw(table).startswith("<svg ")
    return report
