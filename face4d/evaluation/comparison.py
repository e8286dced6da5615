"""Tables of runs, one's own beside other people's."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from face4d.evaluation.run_records import OURS, RunRecord
from face4d.evaluation.tables import Column

SCORE_FORM = {"generator": ".3e", "classifier": ".1%"}
BEST = {"generator": "min", "classifier": "max"}


def score_title(kind: str, loss: str) -> str:
    """Name and unit of the score that runs of a kind are judged by."""
    return "test accuracy" if kind == "classifier" else {"l1": "test L1 (m)", "l2": "test MSE (m²)"}[loss]


def groups(records: Sequence[RunRecord]) -> list[tuple[str, str, str]]:
    """What has one table: (kind, data set, loss) of the records, generators first."""
    found = {(record.kind, record.dataset, record.loss) for record in records}
    return sorted(found, key=lambda group: (group[0] != "generator", group))


def runs_table(records: Sequence[RunRecord], group: tuple[str, str, str]) -> tuple[list[Column], list[dict[str, Any]]]:
    """All runs of a group, the best first.

    ``kept`` is the score of the weights kept, ``best`` the best of all validations on the test set, which is what the
    thesis reports. ``test_set`` of a row, no column, tells which rows may be compared; others' runs, of which it is not
    known, may be where one's own have a single one.
    """
    kind, _, loss = group
    chosen = [record for record in records if (record.kind, record.dataset, record.loss) == group]
    rows = [
        {
            "run": record.name,
            "origin": record.origin,
            "preset": record.preset,
            "layers": record.layers or None,
            "lr": record.lr,
            "hidden_size": record.hidden_size,
            "kept": record.kept_score() if record.origin == OURS else None,
            "best": record.best_score(),
            "mm": record.metrics.get("test/mm"),
            "mm_std": record.metrics.get("test/mm_std"),
            "epochs": max((epochs[-1] for epochs, _ in record.curves.values() if epochs), default=None),
            "seconds": record.metrics.get("seconds"),
            "test_set": record.test_set,
        }
        for record in chosen
    ]
    sign = -1 if kind == "classifier" else 1

    def order(row: dict[str, Any]) -> tuple[bool, float]:
        value = row["kept"] if row["kept"] is not None else row["best"]
        return value is None, sign * (value or 0.0)

    columns = [
        Column("run", "run"),
        Column("origin", "by"),
        Column("preset", "preset"),
        Column("layers", "layers"),
        Column("lr", "lr", "g"),
        Column("hidden_size", "H"),
        Column("kept", f"{score_title(kind, loss)}, weights kept", SCORE_FORM[kind], best=BEST[kind]),
        Column("best", f"{score_title(kind, loss)}, best validation", SCORE_FORM[kind], best=BEST[kind]),
        Column("mm", "mean (mm)", ".3f", best="min"),
        Column("mm_std", "std (mm)", ".3f", best="min"),
        Column("epochs", "epochs"),
        Column("seconds", "time (s)", ".0f"),
    ]
    rows.sort(key=order)
    own = {record.test_set for record in chosen if record.origin == OURS}
    if len(own) <= 1:
        for row in rows:
            row["test_set"] = next(iter(own), None) or "one"
    return [column for column in columns if any(row[column.key] is not None for row in rows)], rows


def comparison_table(
    records: Sequence[RunRecord], group: tuple[str, str, str]
) -> tuple[list[Column], list[dict[str, Any]]]:
    """Cell by cell: one's own runs beside those of others.

    A run of the thesis preset meets the same learning rate, one of the default preset (which has its own) the better of
    the others'. One's own score is that of the weights kept, the others' the best of all their validations on the test
    set: whatever favour there is, is theirs.

    Returns:
        Columns and rows; no rows where no cell was run by both.
    """
    kind, _, loss = group
    here = [record for record in records if (record.kind, record.dataset, record.loss) == group]
    better = max if kind == "classifier" else min
    rows = []
    for own in (record for record in here if record.origin == OURS):
        same = [
            other
            for other in here
            if other.origin != OURS and other.cell() == own.cell() and other.best_score() is not None
        ]
        if own.preset == "thesis":
            same = [other for other in same if other.lr == own.lr]
        mine = own.kept_score()
        if not same or mine is None:
            continue
        other = better(same, key=lambda record: record.best_score() or 0.0)
        theirs = other.best_score() or 0.0
        rows.append(
            {
                "hidden_size": own.hidden_size,
                "layers": own.layers or None,
                "run": own.name,
                "ours": mine,
                "other": other.origin,
                "other_lr": other.lr,
                "theirs": theirs,
                "ratio": mine / theirs if theirs and kind == "generator" else None,
                "better": "yes" if (mine >= theirs if kind == "classifier" else mine <= theirs) else "no",
            }
        )
    rows.sort(key=lambda row: (row["layers"] or 0, row["hidden_size"], row["run"]))
    title = score_title(kind, loss)
    columns = [
        Column("layers", "layers"),
        Column("hidden_size", "H"),
        Column("run", "run"),
        Column("ours", f"ours, {title}", SCORE_FORM[kind], best=BEST[kind]),
        Column("other", "by"),
        Column("other_lr", "their lr", "g"),
        Column("theirs", f"theirs, {title}", SCORE_FORM[kind], best=BEST[kind]),
        Column("ratio", "ours / theirs", ".2f"),
        Column("better", "ours as good or better"),
    ]
    return [column for column in columns if any(row[column.key] is not None for row in rows)], rows
