"""Scoring of generated sequences against the real test set, beside the trivial predictors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from face4d.constants import THESIS_SEED
from face4d.datasets.landmark_set import LandmarkSequence, LandmarkSplit
from face4d.evaluation import distribution, metrics, predictors
from face4d.evaluation.breakdowns import per_group, per_name
from face4d.evaluation.measures import Features, Measures, Surface
from face4d.evaluation.tables import Column

Predict = Callable[[np.ndarray], np.ndarray]  # displacements (N, T, L, 3) in metres -> class indices (N,)

SCORE_COLUMNS = (
    Column("method", "method"),
    Column("accuracy", "accuracy", ".1%", best="max"),
    Column("mm_mean", "mean (mm)", ".3f", best="min"),
    Column("mm_std", "std (mm)", ".3f", best="min"),
    Column("mm_median", "median (mm)", ".3f", best="min"),
    Column("mm_p95", "95 % (mm)", ".3f", best="min"),
    Column("mse", "MSE (m²)", ".3e", best="min"),
    Column("l1", "L1 (m)", ".3e", best="min"),
    Column("mesh_mm", "mesh mean (mm)", ".3f", best="min"),
    Column("mesh_std", "mesh std (mm)", ".3f", best="min"),
)
REALISM_COLUMNS = (
    Column("method", "method"),
    Column("fid", "FID", ".3f", best="min"),
    Column("fid_std", "FID ±", ".3f"),
    Column("diversity", "diversity", ".2f"),
    Column("multimodality", "multimodality", ".3f"),
    Column("sample_multimodality", "of one face", ".3f"),
    Column("precision", "precision", ".2f"),
    Column("recall", "recall", ".2f"),
    Column("motion_precision", "motion precision", ".2f"),
    Column("motion_recall", "motion recall", ".2f"),
    Column("new_mm", "to training (mm)", ".3f"),
    Column("acceleration", "acceleration (mm/frame²)", ".4f"),
    Column("acceleration_ratio", "ratio to real", ".2f"),
    Column("jerk", "jerk (mm/frame³)", ".4f", long=True),
    Column("jerk_ratio", "jerk to real", ".2f"),
)
TIMING_COLUMNS = (
    Column("method", "method"),
    Column("aligned_mm", "time-aligned (mm)", ".3f", best="min"),
    Column("apex_error", "apex error (frames)", ".1f", best="min"),
    Column("strength_error", "strength error", ".3f", best="min"),
    Column("apex_q05", "apex 5 %", ".1f"),
    Column("apex_q50", "50 %", ".1f"),
    Column("apex_q95", "95 %", ".1f"),
    Column("apex_distance", "to training (frames)", ".1f"),
    Column("strength", "strength", ".2f"),
    Column("strength_std", "strength ±", ".2f"),
)
TRAINING = "real training"
SCORES_VERSION = 2
"""Changes with what is measured or how, so that older scores count as others; 1 was before the timing."""


@dataclass(frozen=True)
class Scores:
    """Result of :func:`score`. Lists of rows are for the tables, their keys those of the columns.

    Attributes:
        rows: one per method, ``real`` first, with the keys of ``SCORE_COLUMNS``, ``REALISM_COLUMNS`` and
            ``TIMING_COLUMNS``. The FID of ``real`` is ``fid_real_halves``, that of the others is to the real test
            sequences.
        training: the row of the real training sequences: what is known of reality from more sequences than ``real``.
        per_label, per_subject: one row per label or subject; for each method ``<method> accuracy``,
            ``<method> mm_mean``, ``<method> mm_std``.
        per_group: one row per landmark group; for each method ``<method> mm_mean``, ``<method> mm_std``.
        methods: the methods with an error that compete, generated first.
        confusion: (C, C) counts by method, ``real`` included; empty without a classifier.
        over_time: by method the mean error of frames 1..T, (T,) millimetres.
        per_landmark: by method the mean error of every landmark, (L,) millimetres.
        features: by method, ``real`` included, (N, D) feature vectors over frames 1..T; ``labels`` holds the (N,) class
            indices. Empty without features.
        fid_real_halves: ``mean`` and ``std`` of the FID of two halves of the training subjects; None without features
            or with one subject.
        samples: of a stochastic generator: ``count``, ``mm_mean`` and ``accuracy`` of each sample, ``best_of`` the
            error of the best of the first 1..K; else None.
    """

    rows: list[dict[str, Any]]
    training: dict[str, Any]
    per_label: list[dict[str, Any]]
    per_subject: list[dict[str, Any]]
    per_group: list[dict[str, Any]]
    methods: tuple[str, ...]
    confusion: dict[str, np.ndarray]
    over_time: dict[str, np.ndarray]
    per_landmark: dict[str, np.ndarray]
    features: dict[str, np.ndarray]
    fid_real_halves: dict[str, float] | None
    samples: dict[str, Any] | None


def competes(method: str) -> bool:
    """Whether a row of the scores is an answer that may be called the best: not the truth, nor what was chosen with
    it.
    """
    return method not in ("real", TRAINING) and not method.startswith("best of ")


def score(
    split: LandmarkSplit,
    labels: Sequence[str],
    generated: np.ndarray,
    predict: Predict | None = None,
    features: Features | None = None,
    *,
    surface: Surface | None = None,
    generator: np.random.Generator | None = None,
) -> Scores:
    """Scores of generated sequences and of the trivial predictors.

    Errors, FID, diversity and multimodality are taken over frames 1..T and classification of anything generated too, as
    in the thesis; real sequences are classified over frames 0..T, as the classifier was trained. Smoothness and timing
    see the real start frame before frames 1..T. Precision and recall are to the training sequences of the label, of
    which there are more than of test sequences.

    Where the training half lacks a label of the test half (splits by expression) there are neither timing nor trivial
    predictors, but for the static neutral.

    Args:
        split: real sequences; the trivial predictors use its training half.
        labels: class names in the order of the classifier's indices.
        generated: (N, T+1, L, 3) displacements in metres, in the order of ``split.test``; (K, N, T+1, L, 3) of a
            stochastic generator, whose first answers are scored like those of any other and all of them as a best-of-K
            error and by their spread. Precision and recall are means over the answers.
        predict: the classifier; without it there is no accuracy.
        features: its feature vectors; without them there is no FID, diversity and multimodality, and of precision and
            recall those of motion alone.
        surface: error of the dense surface; without it there is none.
        generator: source of noise, resamples, halves and draws (default: seed 27).
    """
    measures = Measures(split, labels, features, surface)
    real, true, train, train_labels = measures.real, measures.true, measures.train, measures.train_labels
    noise, resamples, halves, draws = (generator or np.random.default_rng(THESIS_SEED)).spawn(4)
    samples = generated if generated.ndim == 5 else generated[None]  # (K, N, T+1, L, 3)
    several = {"generated": samples, "static neutral": predictors.static_neutral(len(real), real.shape[1:])[None]}
    if measures.knows_labels:
        neutrals, known = (np.stack([sequence.neutral for sequence in half]) for half in (split.test, split.train))
        drawn = [predictors.random_sequence(train, train_labels, true, draws) for _ in samples]
        several |= {
            "class mean": predictors.class_mean(train, train_labels, true)[None],
            "noisy class mean": predictors.noisy_class_mean(train, train_labels, true, noise)[None],
            "nearest sequence": predictors.nearest_sequence(train, train_labels, known, true, neutrals)[None],
            "random sequence": np.stack(drawn),
        }
    answers = {method: found[0] for method, found in several.items()}
    predicted: dict[str, np.ndarray] = {}
    if predict is not None:
        predicted = {"real": np.asarray(predict(real))}
        predicted |= {method: np.asarray(predict(answer[:, 1:])) for method, answer in answers.items()}

    rows: dict[str, dict[str, Any]] = {}
    vectors: dict[str, np.ndarray] = {}
    for method, found in {"real": real[None], **several}.items():
        row: dict[str, Any] = {"method": method}
        if method in predicted:
            row["accuracy"] = metrics.accuracy(predicted[method], true)
        if method != "real":
            row |= measures.errors(found[0])
        each = measures.vectors(found)  # (K, N, D)
        rows[method] = {**row, **measures.surface_error(found[0]), **measures.spread(found, each)}
        rows[method] |= measures.regions(found, each)
        if each is not None:
            vectors[method] = each[0]
    real_halves = None
    if measures.known_vectors is not None:
        for method, own in vectors.items():
            if method != "real" and len(real) > 1:
                rows[method]["fid"] = distribution.fid(own, vectors["real"])
                rows[method]["fid_std"] = distribution.fid_deviation(own, vectors["real"], resamples)
        real_halves = _real_halves(split.train, measures.known_vectors, halves)
        if real_halves:
            rows["real"] |= {"fid": real_halves["mean"], "fid_std": real_halves["std"]}
    in_order: list[dict[str, Any]] = []
    for method, row in rows.items():
        in_order.append(row)
        if method in several and len(several[method]) > 1:
            best = f"best of {len(samples)}" + ("" if method == "generated" else f" {method}s")
            in_order.append({"method": best, **measures.best(several[method])})

    # (N, T, L)
    distances = {method: metrics.distances_mm(answer[:, 1:], real[:, 1:]) for method, answer in answers.items()}
    subjects = np.array([sequence.subject for sequence in split.test])
    return Scores(
        rows=in_order,
        training={"method": TRAINING, **measures.training()},
        per_label=per_name("label", np.array(labels)[true], predicted, true, answers, real),
        per_subject=per_name("subject", subjects, predicted, true, answers, real),
        per_group=per_group(distances),
        methods=tuple(answers),
        confusion={method: metrics.confusion_matrix(found, true, len(labels)) for method, found in predicted.items()},
        over_time={method: found.mean(axis=(0, 2)) for method, found in distances.items()},
        per_landmark={method: found.mean(axis=(0, 1)) for method, found in distances.items()},
        features={**vectors, "labels": true} if vectors else {},
        fid_real_halves=real_halves,
        samples=_samples(samples, real, true, predict) if len(samples) > 1 else None,
    )


def _real_halves(
    train: Sequence[LandmarkSequence], vectors: np.ndarray, generator: np.random.Generator
) -> dict[str, float] | None:
    """FID of two halves of the training subjects; None where a half would have fewer than two sequences."""
    subjects = np.array([sequence.subject for sequence in train])
    counts = np.sort(np.unique(subjects, return_counts=True)[1])
    if counts[: len(counts) // 2].sum() < 2:  # the smallest half that could be drawn
        return None
    mean, std = distribution.fid_of_halves(vectors, subjects, generator)
    return {"mean": mean, "std": std}


def _samples(samples: np.ndarray, real: np.ndarray, true: np.ndarray, predict: Predict | None) -> dict[str, Any]:
    """Scores of each of (K, N, T+1, L, 3) answers, and of the best of the first 1..K of them."""
    # (K, N)
    errors = np.stack([metrics.distances_mm(sample[:, 1:], real[:, 1:]).mean(axis=(1, 2)) for sample in samples])
    values: dict[str, Any] = {"count": len(samples), "mm_mean": errors.mean(axis=1).tolist()}
    if predict is not None:
        values["accuracy"] = [metrics.accuracy(np.asarray(predict(sample[:, 1:])), true) for sample in samples]
    return {**values, "best_of": np.minimum.accumulate(errors).mean(axis=1).tolist()}
