"""Scores of parts of a test set, side by side for all methods: per label, per subject, per landmark group."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from face4d.constants import LANDMARK_GROUPS
from face4d.evaluation import metrics
from face4d.evaluation.tables import Column


def per_label_columns(methods: Sequence[str]) -> list[Column]:
    """Columns of the per-label table: accuracy and error of the generated sequences, mean errors of the other
    methods.
    """
    return _breakdown_columns("label", methods)


def per_subject_columns(methods: Sequence[str]) -> list[Column]:
    """Columns of the per-subject table, as of the per-label table."""
    return _breakdown_columns("subject", methods)


def per_group_columns(methods: Sequence[str]) -> list[Column]:
    """Columns of the table of landmark groups: errors of the generated sequences, mean errors of the other methods."""
    return [Column("group", "landmarks"), Column("landmarks", "points"), *_error_columns(methods)]


def error_keys(methods: Sequence[str]) -> list[str]:
    """Keys of the mean errors in the tables per label, subject and group: they compete within a row."""
    return [f"{method} mm_mean" for method in methods]


def _breakdown_columns(key: str, methods: Sequence[str]) -> list[Column]:
    accuracies = [Column(f"{method} accuracy", f"{method} accuracy", ".1%") for method in ("real", methods[0])]
    return [Column(key, key), Column("sequences", "sequences"), *accuracies, *_error_columns(methods)]


def _error_columns(methods: Sequence[str]) -> list[Column]:
    first, *others = methods
    columns = [
        Column(f"{first} mm_mean", f"{first} mean (mm)", ".3f"),
        Column(f"{first} mm_std", f"{first} std (mm)", ".3f"),
    ]
    return columns + [Column(f"{method} mm_mean", f"{method} (mm)", ".3f") for method in others]


def per_name(
    key: str,
    names: np.ndarray,
    predicted: dict[str, np.ndarray],
    true: np.ndarray,
    answers: dict[str, np.ndarray],
    real: np.ndarray,
) -> list[dict[str, Any]]:
    """Rows of accuracies and errors, one per value of ``names`` (N,)."""
    rows = []
    for name in np.unique(names):
        chosen = names == name
        row: dict[str, Any] = {key: str(name), "sequences": int(chosen.sum())}
        row |= {
            f"{method} accuracy": metrics.accuracy(found[chosen], true[chosen]) for method, found in predicted.items()
        }
        for method, answer in answers.items():
            error = metrics.mm_error(answer[chosen, 1:], real[chosen, 1:])
            row |= {f"{method} mm_mean": error.mean, f"{method} mm_std": error.std}
        rows.append(row)
    return rows


def per_group(distances: dict[str, np.ndarray]) -> list[dict[str, Any]]:
    """Rows of errors, one per landmark group, of (N, T, L) distances in millimetres."""
    rows = []
    for group, members in LANDMARK_GROUPS.items():
        row: dict[str, Any] = {"group": group, "landmarks": members.stop - members.start}
        for method, found in distances.items():
            row |= {
                f"{method} mm_mean": float(found[..., members].mean()),
                f"{method} mm_std": float(found[..., members].std()),
            }
        rows.append(row)
    return rows
