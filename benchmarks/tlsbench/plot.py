"""A table as a picture: horizontal bars in SVG, one group for each case."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final
from xml.sax.saxutils import escape

from tlsbench.results import Row, Table
from tlsbench.text import number

WIDTH: Final = 860
LABELS: Final = 330
BAR: Final = 15
GAP: Final = 5
TOP: Final = 34
ROOM: Final = 110
"""Beside the longest bar, for its figure."""
COLOURS: Final = ("#1f6f8b", "#d98c3f", "#7a9e5f", "#9a6fb0", "#8a8a8a", "#b5554e", "#4d5d8c")
STYLE: Final = (
    "text{font:12px system-ui,sans-serif;fill:#222}.title{font-size:15px;font-weight:600}"
    ".case{font-weight:600}.none{fill:#777;font-style:italic}.whisker{stroke:#222;stroke-width:1}"
    "@media (prefers-color-scheme:dark){text{fill:#ddd}.none{fill:#999}.whisker{stroke:#eee}}"
)


def draw(table: Table) -> str:
    """The SVG: bars are medians of the first column, whiskers go from the least to the most."""
    column, unit = next(iter(table.columns.items()))
    rows = [row for row in table.rows if column in row.figures or row.absent]
    subjects = list(dict.fromkeys(row.subject for row in rows))
    colours = {name: COLOURS[n % len(COLOURS)] for n, name in enumerate(subjects)}
    body: list[str] = []
    y = TOP
    for case in dict.fromkeys(row.case for row in rows):
        of_case = [row for row in rows if row.case == case]
        body.append(f'<text class="case" x="8" y="{y + BAR - 3}">{escape(case)}</text>')
        y += BAR + GAP
        body += _bars(of_case, column, colours, y)
        y += len(of_case) * (BAR + GAP) + 2 * GAP
    title = f"{table.title}: {column}, {unit}"
    head = (
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{WIDTH}" height="{y}" '
        f'viewBox="0 0 {WIDTH} {y}" role="img" aria-label="{escape(title)}">'
    )
    caption = f'<text class="title" x="8" y="20">{escape(title)}</text>'
    return "\n".join([head, f"<style>{STYLE}</style>", caption, *body, "</svg>"]) + "\n"


def _bars(rows: Sequence[Row], column: str, colours: dict[str, str], top: int) -> Iterator[str]:
    """The bars of one case, to a scale of their own: cases differ by orders of magnitude."""
    longest = max((row.figures[column].high for row in rows if column in row.figures), default=1.0)
    scale = (WIDTH - LABELS - ROOM) / longest
    for index, row in enumerate(rows):
        y = top + index * (BAR + GAP)
        middle, base = y + BAR / 2, y + BAR - 3
        yield f'<text x="{LABELS - 8}" y="{base}" text-anchor="end">{escape(row.subject)}</text>'
        figure = row.figures.get(column)
        if figure is None:
            reason = escape(row.absent or "")
            yield f'<text class="none" x="{LABELS}" y="{base}">not here: {reason}</text>'
            continue
        low, bar, high = (scale * value for value in (figure.low, figure.median, figure.high))
        yield (
            f'<rect x="{LABELS}" y="{y}" width="{max(bar, 1):.1f}" height="{BAR}" '
            f'fill="{colours[row.subject]}"/>'
        )
        if high > low:
            yield (
                f'<line class="whisker" x1="{LABELS + low:.1f}" x2="{LABELS + high:.1f}" '
                f'y1="{middle}" y2="{middle}"/>'
            )
        yield f'<text x="{LABELS + high + 6:.1f}" y="{base}">{number(figure.median)}</text>'
