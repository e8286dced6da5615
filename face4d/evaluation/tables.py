"""Tables: the same rows as CSV (full precision), Markdown (rounded, best values bold) and aligned text."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from face4d.runtime.atomic import write_text


@dataclass(frozen=True)
class Column:
    """One column.

    Attributes:
        key: key in a row; a missing key or None is an empty cell.
        title: heading, with the unit.
        form: format specification of numbers, e.g. ``.2f``; empty = as they are.
        best: ``min`` or ``max``: which value is set bold in Markdown; None = no value is.
    """

    key: str
    title: str
    form: str = ""
    best: str | None = None


Row = Mapping[str, Any]


def write_table(base: str | Path, columns: Sequence[Column], rows: Sequence[Row], *, contest: Sequence[bool] | None = None) -> list[Path]:
    """Write ``<base>.csv`` and ``<base>.md``.

    Args:
        contest: which rows compete for the best value (default: all).

    Returns:
        The two paths.
    """
    base = Path(base)
    paths = [base.with_name(base.name + ".csv"), base.with_name(base.name + ".md")]
    write_text(paths[0], csv_table(columns, rows))
    write_text(paths[1], markdown_table(columns, rows, contest=contest))
    return paths


def csv_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """CSV with the keys as header and numbers at full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    for row in rows:
        writer.writerow(["" if row.get(column.key) is None else row[column.key] for column in columns])
    return text.getvalue()


def markdown_table(columns: Sequence[Column], rows: Sequence[Row], *, contest: Sequence[bool] | None = None) -> str:
    """Markdown, numbers right-aligned; values equal to the best one as printed are bold."""
    cells = [[_cell(column, row).replace("|", "\\|") for column in columns] for row in rows]
    contest = [True] * len(rows) if contest is None else contest
    for place, column in enumerate(columns):
        values = [row.get(column.key) for row, competes in zip(rows, contest) if competes]
        values = [value for value in values if value is not None]
        if column.best is None or not values:
            continue
        best = _format(column, min(values) if column.best == "min" else max(values))
        for row, competes in enumerate(contest):
            if competes and cells[row][place] == best:
                cells[row][place] = f"**{best}**"
    numeric = [_numeric(column, rows) for column in columns]
    lines = [[column.title for column in columns], ["---:" if right else "---" for right in numeric], *cells]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def text_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Aligned text for the terminal."""
    lines = [[column.title for column in columns], *[[_cell(column, row) for column in columns] for row in rows]]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    numeric = [_numeric(column, rows) for column in columns]
    lines.insert(1, ["-" * width for width in widths])
    aligned = [[cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(line, widths, numeric)] for line in lines]
    return "\n".join("  ".join(line).rstrip() for line in aligned) + "\n"


def _cell(column: Column, row: Row) -> str:
    value = row.get(column.key)
    return "" if value is None else _format(column, value)


def _format(column: Column, value: Any) -> str:
    return format(value, column.form) if column.form and not isinstance(value, str) else str(value)


def _numeric(column: Column, rows: Sequence[Row]) -> bool:
    values = [row.get(column.key) for row in rows]
    return all(value is None or isinstance(value, (int, float)) for value in values) and any(v is not None for v in values)
