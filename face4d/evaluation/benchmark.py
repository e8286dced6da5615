"""A benchmark's result: the scores of every fold, their mean, and the published ones beside them, on disk."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from face4d.evaluation.protocols import Fold, Protocol
from face4d.evaluation.published import PUBLISHED_COLUMNS, published_beside
from face4d.evaluation.results import write_results, write_score_tables
from face4d.evaluation.scores import Scores
from face4d.evaluation.tables import filled, write_table
from face4d.runtime.atomic import write_json

RECORD = "benchmark.json"


def mean_rows(folds: Sequence[Sequence[Mapping[str, Any]]]) -> list[dict[str, Any]]:
    """Means over folds of the rows of methods, in the order of the first fold; an entry that some fold lacks is left
    out. Standard deviations are averaged like the rest [S].
    """
    rows = []
    for row in folds[0]:
        same = [next((other for other in fold if other["method"] == row["method"]), {}) for fold in folds]
        values: dict[str, Any] = {"method": row["method"]}
        for key in row:
            found = [value for other in same if (value := other.get(key)) is not None]
            if key != "method" and len(found) == len(folds):
                values[key] = sum(found) / len(found)
        rows.append(values)
    return rows


def write_benchmark(
    output: Path,
    protocol: Protocol,
    folds: Sequence[Fold],
    scores: Sequence[Scores],
    record: Mapping[str, Any],
) -> list[Path]:
    """Write the tables of a benchmark and its record.

    In ``output``: ``scores``, ``realism`` and ``timing`` as CSV, Markdown and LaTeX, the means over the folds;
    ``published`` as such tables, where somebody has published scores under the protocol; everything else that
    :func:`face4d.evaluation.results.write_results` writes, of several folds in ``fold_1`` and so on; and
    benchmark.json.

    Args:
        scores: of each fold.
        record: what was scored; where it is ``derived`` data, published scores are left out.

    Returns:
        The paths written.
    """
    paths: list[Path] = []
    for fold, own in zip(folds, scores):
        place = output if len(folds) == 1 else output / fold.name.replace(" ", "_")
        paths += write_results(place, own, fold.labels, record)
    rows, training = mean_rows([own.rows for own in scores]), mean_rows([[own.training] for own in scores])[0]
    if len(folds) > 1:
        paths += write_score_tables(output, rows, training)
    published = [] if record.get("derived") else published_beside(protocol.name)
    if published:
        paths += write_table(output / "published", filled(PUBLISHED_COLUMNS, published), published, contest=None)
    content = {
        **record,
        "protocol": protocol.as_dict(),
        "folds": [
            {
                "name": fold.name,
                "train": len(fold.split.train),
                "test": len(fold.split.test),
                "test_subjects": sorted({sequence.subject for sequence in fold.split.test}),
                "test_labels": sorted({sequence.label for sequence in fold.split.test}),
                "scores": own.rows,
                "samples": own.samples,
            }
            for fold, own in zip(folds, scores)
        ],
        "scores": rows,
        "training": training,
        "published": published,
    }
    paths.append(output / RECORD)
    write_json(paths[-1], content)
    return paths
