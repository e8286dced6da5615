"""Scoring of a folder of generated sequences against the real test set, beside the trivial predictors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from face4d.datasets.landmark_set import LandmarkSequence, LandmarkSplit, load_folder, stack
from face4d.errors import InputError
from face4d.evaluation import metrics, predictors
from face4d.evaluation.tables import Column

Predict = Callable[[np.ndarray], np.ndarray]  # displacements (N, T, L, 3) in metres -> class indices (N,)

SCORE_COLUMNS = (
    Column("method", "method"),
    Column("accuracy", "accuracy", ".1%", best="max"),
    Column("mm_mean", "mean (mm)", ".3f", best="min"),
    Column("mm_std", "std (mm)", ".3f", best="min"),
    Column("mse", "MSE (m²)", ".3e", best="min"),
    Column("l1", "L1 (m)", ".3e", best="min"),
)


@dataclass(frozen=True)
class Scores:
    """Result of :func:`score`.

    Attributes:
        rows: one per method, ``real`` first, with the keys of ``SCORE_COLUMNS``.
        per_label: one row per label, for each method ``<method> accuracy``, ``<method> mm_mean``, ``<method> mm_std``.
        methods: the methods with an error, generated first.
        confusion: (C, C) counts by method, ``real`` included.
    """

    rows: list[dict[str, Any]]
    per_label: list[dict[str, Any]]
    methods: tuple[str, ...]
    confusion: dict[str, np.ndarray]


def match_generated(folder: str | Path, test: Sequence[LandmarkSequence]) -> np.ndarray:
    """Generated sequences in the order of the test set.

    Args:
        folder: ``<label>_<subject>.npy`` files at any depth, (T+1, 68, 3) metres, frame 0 the start frame.
        test: sequences of equal length; each needs its generated file, and every file its sequence.

    Returns:
        (N, T+1, 68, 3) displacements in metres, from the neutral landmarks of the real sequence.

    Raises:
        InputError: a file of an unknown label or subject, a missing file, another number of frames.
    """
    generated = {(sequence.label, sequence.subject): sequence for sequence in load_folder(folder)}
    wanted = {(sequence.label, sequence.subject): sequence for sequence in test}
    labels, subjects = sorted({label for label, _ in wanted}), sorted({subject for _, subject in wanted})
    for (label, subject), sequence in generated.items():
        if label not in labels:
            raise InputError(sequence.path, f"a label of the test set ({', '.join(labels)})", label)
        if subject not in subjects:
            raise InputError(sequence.path, f"a subject of the test set ({', '.join(subjects)})", subject)
        if (label, subject) not in wanted:
            raise InputError(sequence.path, "a sequence of the test set", f"{label} of {subject}, which is not in it")
    missing = [f"{label}_{subject}.npy" for label, subject in wanted if (label, subject) not in generated]
    if missing:
        raise InputError(folder, f"all {len(wanted)} test sequences", f"{len(missing)} missing, first {missing[0]}")
    for key, sequence in generated.items():
        if len(sequence.landmarks) != len(wanted[key].landmarks):
            expected = f"{len(wanted[key].landmarks)} frames as in {wanted[key].path}"
            raise InputError(sequence.path, expected, f"{len(sequence.landmarks)}")
    return np.stack([generated[key].landmarks - sequence.neutral for key, sequence in wanted.items()])


def score(split: LandmarkSplit, labels: Sequence[str], generated: np.ndarray, predict: Predict) -> Scores:
    """Scores of generated sequences and of three trivial predictors.

    Errors are taken over frames 1..T and classification of anything generated too, as in the thesis; real sequences are
    classified over frames 0..T, as the classifier was trained.

    Args:
        split: real sequences; the trivial predictors use its training half.
        labels: class names in the order of the classifier's indices.
        generated: (N, T+1, L, 3) displacements in metres, in the order of ``split.test``.
        predict: the classifier.
    """
    real, true = stack(split.test, labels)  # (N, T+1, L, 3), (N,)
    train, train_labels = stack(split.train, labels)
    neutrals, train_neutrals = (np.stack([sequence.neutral for sequence in half]) for half in (split.test, split.train))
    answers = {
        "generated": generated,
        "static neutral": predictors.static_neutral(len(real), real.shape[1:]),
        "class mean": predictors.class_mean(train, train_labels, true),
        "nearest sequence": predictors.nearest_sequence(train, train_labels, train_neutrals, true, neutrals),
    }
    predicted = {"real": np.asarray(predict(real))}
    rows: list[dict[str, Any]] = [{"method": "real", "accuracy": metrics.accuracy(predicted["real"], true)}]
    for method, answer in answers.items():
        predicted[method] = np.asarray(predict(answer[:, 1:]))
        rows.append({"method": method, "accuracy": metrics.accuracy(predicted[method], true), **_errors(answer, real)})

    per_label = []
    for index in np.unique(true):
        chosen = true == index
        row: dict[str, Any] = {"label": labels[index], "sequences": int(chosen.sum())}
        row["real accuracy"] = metrics.accuracy(predicted["real"][chosen], true[chosen])
        for method, answer in answers.items():
            row[f"{method} accuracy"] = metrics.accuracy(predicted[method][chosen], true[chosen])
            errors = _errors(answer[chosen], real[chosen])
            row |= {f"{method} {key}": errors[key] for key in ("mm_mean", "mm_std")}
        per_label.append(row)
    confusion = {method: metrics.confusion_matrix(answer, true, len(labels)) for method, answer in predicted.items()}
    return Scores(rows, per_label, tuple(answers), confusion)


def per_label_columns(methods: Sequence[str]) -> list[Column]:
    """Columns of the per-label table: accuracy and error of the generated sequences, mean errors of the other methods."""
    first, *others = methods
    columns = [Column("label", "label"), Column("sequences", "sequences"), Column("real accuracy", "real accuracy", ".1%")]
    columns += [Column(f"{first} accuracy", f"{first} accuracy", ".1%")]
    columns += [Column(f"{first} mm_mean", f"{first} mean (mm)", ".3f"), Column(f"{first} mm_std", f"{first} std (mm)", ".3f")]
    return columns + [Column(f"{method} mm_mean", f"{method} mean (mm)", ".3f") for method in others]


def _errors(answer: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Errors over frames 1..T of (N, T+1, L, 3) displacements."""
    pair = answer[:, 1:], real[:, 1:]
    error = metrics.mm_error(*pair)
    return {"mm_mean": error.mean, "mm_std": error.std, "mse": metrics.mse(*pair), "l1": metrics.l1(*pair)}
