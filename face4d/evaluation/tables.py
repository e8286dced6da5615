"""Tables: the same rows as CSV (full precision), Markdown and LaTeX (rounded, best values bold) and aligned text."""

from __future__ import annotations

import csv
import html
import io
import re
from collections.abc import Hashable, Iterable, Mapping, Sequence
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
        best: ``min`` or ``max``: which value is set bold in Markdown, LaTeX and HTML; None = no value is.
        long: too long for paper and a terminal: left out of LaTeX and text.
    """

    key: str
    title: str
    form: str = ""
    best: str | None = None
    long: bool = False


Row = Mapping[str, Any]


def filled(columns: Sequence[Column], rows: Sequence[Row]) -> list[Column]:
    """Those columns that have a value in some row."""
    return [column for column in columns if any(row.get(column.key) is not None for row in rows)]


def write_table(
    base: str | Path,
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    contest: Sequence[Hashable] | None = None,
    across: Sequence[str] = (),
) -> list[Path]:
    """Write ``<base>.csv``, ``<base>.md`` and ``<base>.tex``.

    Args:
        contest: what each row competes in for the best value of a column: rows of equal values with each other, those
            of None or False not at all (default: all with all). The best of a contest is bold, unless it was alone in
            it.
        across: keys of columns that compete within each row instead; the smallest is best, unless they say otherwise.

    Returns:
        The three paths.
    """
    base = Path(base)
    texts = {
        "csv": csv_table(columns, rows),
        "md": markdown_table(columns, rows, contest=contest, across=across),
        "tex": latex_table(columns, rows, contest=contest, across=across),
    }
    paths = [base.with_name(f"{base.name}.{suffix}") for suffix in texts]
    for path, text in zip(paths, texts.values()):
        write_text(path, text)
    return paths


def csv_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """CSV with the keys as header and numbers at full precision."""
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow([column.key for column in columns])
    for row in rows:
        writer.writerow(["" if row.get(column.key) is None else row[column.key] for column in columns])
    return text.getvalue()


def markdown_table(
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    contest: Sequence[Hashable] | None = None,
    across: Sequence[str] = (),
) -> str:
    """Markdown, numbers right-aligned; values equal to the best one as printed are bold."""
    best = _best(columns, rows, contest, across)
    cells = [
        [_markdown_cell(_cell(column, row), best[i][j]) for j, column in enumerate(columns)]
        for i, row in enumerate(rows)
    ]
    numeric = [_numeric(column, rows) for column in columns]
    lines = [[column.title for column in columns], ["---:" if right else "---" for right in numeric], *cells]
    return "".join("| " + " | ".join(line) + " |\n" for line in lines)


def latex_table(
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    contest: Sequence[Hashable] | None = None,
    across: Sequence[str] = (),
) -> str:
    r"""A LaTeX ``tabular`` with the rules of the booktabs package, to ``\\input`` into a table; best values as in
    :func:`markdown_table`.
    """
    columns = [column for column in columns if not column.long]
    best = _best(columns, rows, contest, across)
    cells = [
        [_latex_cell(_cell(column, row), best[i][j]) for j, column in enumerate(columns)] for i, row in enumerate(rows)
    ]
    form = "".join("r" if _numeric(column, rows) else "l" for column in columns)
    heading = " & ".join(_latex_escape(column.title) for column in columns)
    body = "".join(" & ".join(line) + " \\\\\n" for line in cells)
    begin = f"% needs \\usepackage{{booktabs}}\n\\begin{{tabular}}{{{form}}}\n\\toprule\n{heading} \\\\\n\\midrule\n"
    return begin + body + "\\bottomrule\n\\end{tabular}\n"


def html_table(
    columns: Sequence[Column],
    rows: Sequence[Row],
    *,
    contest: Sequence[Hashable] | None = None,
    across: Sequence[str] = (),
) -> str:
    """An HTML ``<table>``, numbers in cells of class ``number``; best values as in :func:`markdown_table`."""
    best = _best(columns, rows, contest, across)
    kinds = [' class="number"' if _numeric(column, rows) else "" for column in columns]
    heading = "".join(f"<th{kind}>{html.escape(column.title)}</th>" for column, kind in zip(columns, kinds))
    lines = []
    for i, row in enumerate(rows):
        cells = [html.escape(_cell(column, row)) for column in columns]
        cells = [f"<strong>{cell}</strong>" if best[i][j] else cell for j, cell in enumerate(cells)]
        lines.append("<tr>" + "".join(f"<td{kind}>{cell}</td>" for cell, kind in zip(cells, kinds)) + "</tr>\n")
    return f"<table>\n<thead><tr>{heading}</tr></thead>\n<tbody>\n{''.join(lines)}</tbody>\n</table>\n"


def text_table(columns: Sequence[Column], rows: Sequence[Row]) -> str:
    """Aligned text for the terminal."""
    columns = [column for column in columns if not column.long]
    lines = [[column.title for column in columns], *[[_cell(column, row) for column in columns] for row in rows]]
    widths = [max(len(line[place]) for line in lines) for place in range(len(columns))]
    numeric = [_numeric(column, rows) for column in columns]
    lines.insert(1, ["-" * width for width in widths])
    aligned = [
        [cell.rjust(w) if right else cell.ljust(w) for cell, w, right in zip(line, widths, numeric)] for line in lines
    ]
    return "\n".join("  ".join(line).rstrip() for line in aligned) + "\n"


def _best(
    columns: Sequence[Column], rows: Sequence[Row], contest: Sequence[Hashable] | None, across: Sequence[str]
) -> list[list[bool]]:
    """Which cells (rows x columns) are as good as the best one of their contest, as printed; see
    :func:`write_table`.
    """
    contest = [True] * len(rows) if contest is None else contest
    marks = [[False] * len(columns) for _ in rows]

    def mark(places: Iterable[tuple[int, int]], best: str) -> None:
        values = {(i, j): rows[i][columns[j].key] for i, j in places if rows[i].get(columns[j].key) is not None}
        if len(values) < 2:
            return
        i, j = (max if best == "max" else min)(values, key=values.__getitem__)
        won = _cell(columns[j], rows[i])
        for i, j in values:
            marks[i][j] = _cell(columns[j], rows[i]) == won

    for j, column in enumerate(columns):
        if column.best and column.key not in across:
            for name in set(contest) - {None, False}:
                mark([(i, j) for i, own in enumerate(contest) if own == name], column.best)
    inside = [j for j, column in enumerate(columns) if column.key in across]
    for i in range(len(rows)):
        mark([(i, j) for j in inside], next((best for j in inside if (best := columns[j].best)), "min"))
    return marks


def _markdown_cell(text: str, best: bool) -> str:
    text = text.replace("|", "\\|")
    return f"**{text}**" if best else text


_LATEX_SPECIAL = {
    **{character: f"\\{character}" for character in "&%$#_{}"},
    "\\": r"\textbackslash{}",
    "~": r"\textasciitilde{}",
    "^": r"\textasciicircum{}",
    "|": r"\textbar{}",
    "<": r"\textless{}",
    ">": r"\textgreater{}",
    "²": r"\textsuperscript{2}",
    "±": r"$\pm$",
}


def _latex_escape(text: str) -> str:
    return "".join(_LATEX_SPECIAL.get(character, character) for character in text)


def _latex_cell(text: str, best: bool) -> str:
    """``8.2e-07`` becomes a power of ten; bold in the font of its kind."""
    power = re.fullmatch(r"(-?\d+(?:\.\d+)?)e([+-]\d+)", text)
    if power:
        number = rf"{power[1]} \times 10^{{{int(power[2])}}}"
        return rf"$\mathbf{{{number}}}$" if best else f"${number}$"
    return rf"\textbf{{{_latex_escape(text)}}}" if best else _latex_escape(text)


def _cell(column: Column, row: Row) -> str:
    value = row.get(column.key)
    return "" if value is None else _format(column, value)


def _format(column: Column, value: Any) -> str:
    return format(value, column.form) if column.form and not isinstance(value, str) else str(value)


def _numeric(column: Column, rows: Sequence[Row]) -> bool:
    values = [row.get(column.key) for row in rows]
    return all(value is None or isinstance(value, (int, float)) for value in values) and any(
        v is not None for v in values
    )


DECODER_COLUMNS = (
    Column("decoder", "decoder"),
    Column("fold", "test fold"),
    Column("mm", "error, mm", ".4f", "min"),
    Column("mm_std", "std, mm", ".4f"),
    Column("mm_noisy", "error to noisy vertices, mm", ".4f"),
    Column("frames", "test frames"),
    Column("train_frames", "training frames"),
    Column("strength", "strength, mm2", ".2g"),
    Column("seconds", "training, s", ".1f"),
    Column("ms_per_frame", "decoding, ms per frame", ".2f"),
)
_AVERAGED = ("mm", "mm_std", "mm_noisy", "seconds", "ms_per_frame")


def table_row(decoder: str, fold: str, metrics: Mapping[str, Any]) -> dict[str, Any]:
    """A row from what metrics.json holds."""
    names = {"train/frames": "train_frames"}
    return {
        "decoder": decoder,
        "fold": fold,
        **{names.get(key, key.removeprefix("test/")): value for key, value in metrics.items()},
    }


def average(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """One row per decoder: means over its folds (of the standard deviations too [S]), for decoders with several
    folds.
    """
    found: list[dict[str, Any]] = []
    for decoder in dict.fromkeys(row["decoder"] for row in rows):
        own = [row for row in rows if row["decoder"] == decoder]
        if len(own) > 1:
            means = {
                key: sum(row[key] for row in own) / len(own) for key in _AVERAGED if all(key in row for row in own)
            }
            found.append(
                {
                    "decoder": decoder,
                    "fold": f"mean of {len(own)}",
                    **means,
                    "frames": sum(row["frames"] for row in own),
                }
            )
    return found


def write_decoder_tables(folder: str | Path, rows: Sequence[Row]) -> list[Path]:
    """Write ``decoders.csv``, ``.md`` and ``.tex`` into ``folder``; decoders compete on the same test fold, and
    averages over as many folds.
    """
    return write_table(Path(folder) / "decoders", DECODER_COLUMNS, rows, contest=[row["fold"] for row in rows])
