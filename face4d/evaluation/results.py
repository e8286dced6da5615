"""What a scoring leaves on disk: tables, evaluate.json and the feature vectors."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from face4d.evaluation.scores import (
    REALISM_COLUMNS,
    SCORE_COLUMNS,
    Scores,
    competes,
    error_keys,
    per_group_columns,
    per_label_columns,
    per_subject_columns,
)
from face4d.evaluation.tables import Column, csv_table, filled, write_table
from face4d.runtime.atomic import replacing, write_bytes, write_json, write_text

log = logging.getLogger(__name__)

RECORD = "evaluate.json"
FEATURES = "features.npz"


def write_results(output: str | Path, scores: Scores, labels: Sequence[str], record: Mapping[str, Any]) -> list[Path]:
    """Write the tables of a scoring, its record and its feature vectors.

    In ``output``: ``scores``, ``realism``, ``per_label``, ``per_subject`` and ``per_group`` as CSV, Markdown and LaTeX, ``confusion_real.csv``,
    ``confusion_generated.csv``, features.npz with an array (N, D) per method (spaces as underscores) and ``labels`` (N,), and evaluate.json with
    everything else at full precision, from which tables and figures are made without scoring again.

    Args:
        labels: class names in the order of the classifier's indices.
        record: what was scored: ``generated, classifier, landmarks, sequences, frames, ...``.

    Returns:
        The paths written.
    """
    output = Path(output)
    contest = [competes(row["method"]) for row in scores.rows]
    across = error_keys(scores.methods)
    paths = write_table(output / "scores", SCORE_COLUMNS, scores.rows, contest=contest)
    paths += write_table(output / "realism", filled(REALISM_COLUMNS, scores.rows), scores.rows, contest=contest)
    paths += write_table(output / "per_label", per_label_columns(scores.methods), scores.per_label, across=across)
    paths += write_table(output / "per_subject", per_subject_columns(scores.methods), scores.per_subject, across=across)
    paths += write_table(output / "per_group", per_group_columns(scores.methods), scores.per_group, across=across)
    for method in ("real", "generated"):
        columns = [Column("label", "true label"), *[Column(label, label) for label in labels]]
        rows = [{"label": label, **dict(zip(labels, counts))} for label, counts in zip(labels, scores.confusion[method].tolist())]
        paths.append(output / f"confusion_{method}.csv")
        write_text(paths[-1], csv_table(columns, rows))
    if scores.features:
        paths.append(output / FEATURES)
        with replacing(paths[-1]) as temporary:
            arrays: dict[str, Any] = {method.replace(" ", "_"): array for method, array in scores.features.items()}
            np.savez(temporary, **arrays)
    content = {**record, "labels": list(labels), **as_record(scores)}
    paths.append(output / RECORD)
    write_json(paths[-1], content)
    return paths


def write_beside(generated: str | Path, results: str | Path, *, overwrite: bool) -> list[Path]:
    """Copy the evaluate.json of a scoring into the generated folder; that of another scoring stays there, unless ``overwrite``, and a note says so.

    Returns:
        The path written, if any.
    """
    path, content = Path(generated) / RECORD, (Path(results) / RECORD).read_bytes()
    if path.exists() and path.read_bytes() == content:
        return []
    if path.exists() and not overwrite:
        log.warning("note: %s is of another scoring and stays (--overwrite replaces it)", path)
        return []
    write_bytes(path, content)
    return [path]


def as_record(scores: Scores) -> dict[str, Any]:
    """Scores as plain data for JSON; the feature vectors are left to :data:`FEATURES`."""

    def plain(arrays: Mapping[str, np.ndarray]) -> dict[str, list]:
        return {method: array.tolist() for method, array in arrays.items()}

    return {
        "scores": scores.rows,
        "fid_real_halves": scores.fid_real_halves,
        "samples": scores.samples,
        "per_label": scores.per_label,
        "per_subject": scores.per_subject,
        "per_group": scores.per_group,
        "over_time": plain(scores.over_time),
        "per_landmark": plain(scores.per_landmark),
        "confusion": plain(scores.confusion),
    }
