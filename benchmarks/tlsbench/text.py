"""A report for people: as text for a terminal, and as Markdown for a page."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from tlsbench.measure import Spread
from tlsbench.results import Ratio, Row, Table, Target

_VERDICTS = {True: "met", False: "not met", None: "not measured"}


def as_text(table: Table) -> Iterator[str]:
    """Lines for a terminal."""
    yield table.title
    for header, rows in sections(table):
        yield ""
        yield from _aligned([header, *rows])
    for target in table.targets:
        yield ""
        yield "  " + " | ".join(target_cells(target))
    yield ""


def as_markdown(table: Table) -> Iterator[str]:
    """Paragraphs of a page: each case's figures, with the ratios beside them."""
    for header, rows in sections(table):
        lines = ["| " + " | ".join(row) + " |" for row in [header, *rows]]
        lines.insert(1, "|" + "---|" + "---:|" * (len(header) - 1))
        yield "\n".join(lines)


def sections(table: Table) -> Iterator[tuple[list[str], list[list[str]]]]:
    """A header and its rows for each case; who is not here comes last, with the reason."""
    for case in table.cases():
        rows = [row for row in table.rows if row.case == case]
        columns = [name for name in table.columns if any(name in row.figures for row in rows)]
        ratios = [ratio for ratio in table.ratios if ratio.case == case]
        header = [case]
        for column in columns:
            unit = table.columns[column]
            header.append(f"{column}, {unit}" if unit else column)
            if any(ratio.column == column for ratio in ratios):
                header.append("ratio")
        header += [""] * (len(header) == 1)  # nobody is here: there is room for the reason
        body = [_cells(row, columns, ratios, len(header)) for row in rows]
        yield header, body


def _cells(row: Row, columns: Sequence[str], ratios: Sequence[Ratio], width: int) -> list[str]:
    if row.absent is not None:
        return [row.subject, f"not here: {row.absent}", *[""] * (width - 2)]
    cells = [row.subject]
    for column in columns:
        figure = row.figures.get(column)
        cells.append(spread(figure) if figure else "")
        if any(ratio.column == column for ratio in ratios):
            cells.append(_ratio(row, [ratio for ratio in ratios if ratio.column == column]))
    return cells


def _ratio(row: Row, ratios: Sequence[Ratio]) -> str:
    """What stands beside a row: how many times as much the one subject of all ratios has.

    Where there are several subjects, each has its own ratio in its row.
    """
    several = len({ratio.subject for ratio in ratios}) > 1
    for ratio in ratios:
        if row.subject == (ratio.subject if several else ratio.beside):
            return f"{spread(ratio.value)} ×"
    return ""


def target_cells(target: Target) -> list[str]:
    """What was aimed for, what came out, and whether that is it."""
    value = "" if target.value is None else f"{number(target.value)} ({target.case})"
    return [f"{target.text}: {target.sense} {target.bound:g}", value, _VERDICTS[target.met]]


def spread(figure: Spread) -> str:
    """The median, and where the rest lies."""
    if figure.low == figure.high:
        return number(figure.median)
    return f"{number(figure.median)} ({number(figure.low)}–{number(figure.high)})"


def number(value: float) -> str:
    """Three significant digits, and no exponent."""
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:#.3g}".rstrip(".")


def _aligned(rows: Sequence[Sequence[str]]) -> Iterator[str]:
    """Columns under one another; a reason for absence may run over."""
    width = len(rows[0])
    widths = [
        max(len(row[i]) for row in rows if i == 0 or not row[1].startswith("not here"))
        for i in range(width)
    ]
    for row in rows:
        if row[1].startswith("not here"):
            yield f"  {row[0]:<{widths[0]}}  {row[1]}"
            continue
        cells = [f"{row[0]:<{widths[0]}}"]
        cells += [f"{cell:>{size}}" for cell, size in zip(row[1:], widths[1:], strict=True)]
        yield "  " + "  ".join(cells).rstrip()
