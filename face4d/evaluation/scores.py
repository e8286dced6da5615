"""Scoring of a folder of generated sequences against the real test set, beside the trivial predictors."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from face4d.constants import LANDMARK_GROUPS, THESIS_SEED
from face4d.datasets.landmark_set import LandmarkSequence, LandmarkSplit, load_folder, stack
from face4d.datasets.layout import landmark_paths, sample_folders
from face4d.errors import InputError
from face4d.evaluation import distribution, metrics, predictors
from face4d.evaluation.tables import Column

Predict = Callable[[np.ndarray], np.ndarray]  # displacements (N, T, L, 3) in metres -> class indices (N,)
Features = Callable[[np.ndarray], np.ndarray]  # displacements (N, T, L, 3) in metres -> feature vectors (N, D)

SCORE_COLUMNS = (
    Column("method", "method"),
    Column("accuracy", "accuracy", ".1%", best="max"),
    Column("mm_mean", "mean (mm)", ".3f", best="min"),
    Column("mm_std", "std (mm)", ".3f", best="min"),
    Column("mm_median", "median (mm)", ".3f", best="min"),
    Column("mm_p95", "95 % (mm)", ".3f", best="min"),
    Column("mse", "MSE (m²)", ".3e", best="min"),
    Column("l1", "L1 (m)", ".3e", best="min"),
)
REALISM_COLUMNS = (
    Column("method", "method"),
    Column("fid", "FID", ".3f", best="min"),
    Column("fid_std", "±", ".3f"),
    Column("diversity", "diversity", ".2f"),
    Column("multimodality", "multimodality", ".3f"),
    Column("sample_multimodality", "of one face", ".3f"),
    Column("acceleration", "acceleration (mm/frame²)", ".4f"),
    Column("acceleration_ratio", "ratio to real", ".2f"),
)


@dataclass(frozen=True)
class Scores:
    """Result of :func:`score`. Lists of rows are for the tables, their keys those of the columns.

    Attributes:
        rows: one per method, ``real`` first, with the keys of ``SCORE_COLUMNS`` and ``REALISM_COLUMNS``. The FID of
            ``real`` is ``fid_real_halves``, that of the others is to the real test sequences.
        per_label, per_subject: one row per label or subject; for each method ``<method> accuracy``,
            ``<method> mm_mean``, ``<method> mm_std``.
        per_group: one row per landmark group; for each method ``<method> mm_mean``, ``<method> mm_std``.
        methods: the methods with an error that compete, generated first.
        confusion: (C, C) counts by method, ``real`` included.
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


def match_samples(folder: str | Path, test: Sequence[LandmarkSequence]) -> np.ndarray:
    """Generated sequences of a generator that answered once, or several times.

    Args:
        folder: as in :func:`match_generated`, or with one such folder in each of ``sample_00``, ``sample_01``, ... and
            nothing beside them.
        test: as in :func:`match_generated`.

    Returns:
        (K, N, T+1, 68, 3) displacements in metres; K = 1 without ``sample_*`` folders.

    Raises:
        InputError: as in :func:`match_generated`; also for a sequence that lies beside the samples.
    """
    samples = sample_folders(folder)
    if not samples:
        return match_generated(folder, test)[None]
    for path in landmark_paths(folder):
        if not any(sample in path.parents for sample in samples):
            raise InputError(path, f"every sequence inside {samples[0].name} to {samples[-1].name}", "one beside them")
    return np.stack([match_generated(sample, test) for sample in samples])


def score(
    split: LandmarkSplit,
    labels: Sequence[str],
    generated: np.ndarray,
    predict: Predict,
    features: Features | None = None,
    *,
    generator: np.random.Generator | None = None,
) -> Scores:
    """Scores of generated sequences and of the trivial predictors.

    Errors, FID, diversity and multimodality are taken over frames 1..T and classification of anything generated too, as
    in the thesis; real sequences are classified over frames 0..T, as the classifier was trained. Accelerations see the
    real start frame before frames 1..T.

    Args:
        split: real sequences; the trivial predictors use its training half.
        labels: class names in the order of the classifier's indices.
        generated: (N, T+1, L, 3) displacements in metres, in the order of ``split.test``; (K, N, T+1, L, 3) of a
            stochastic generator, whose first answers are scored like those of any other and all of them as a best-of-K
            error and by their multimodality.
        predict: the classifier.
        features: its feature vectors; without them there is no FID, diversity and multimodality.
        generator: source of noise, resamples and halves (default: seed 27).
    """
    real, true = stack(split.test, labels)  # (N, T+1, L, 3), (N,)
    train, train_labels = stack(split.train, labels)
    neutrals, train_neutrals = (np.stack([sequence.neutral for sequence in half]) for half in (split.test, split.train))
    noise, resamples, halves = (generator or np.random.default_rng(THESIS_SEED)).spawn(3)
    samples = generated if generated.ndim == 5 else generated[None]  # (K, N, T+1, L, 3)
    answers = {
        "generated": samples[0],
        "static neutral": predictors.static_neutral(len(real), real.shape[1:]),
        "class mean": predictors.class_mean(train, train_labels, true),
        "noisy class mean": predictors.noisy_class_mean(train, train_labels, true, noise),
        "nearest sequence": predictors.nearest_sequence(train, train_labels, train_neutrals, true, neutrals),
    }
    predicted = {
        "real": np.asarray(predict(real)),
        **{method: np.asarray(predict(answer[:, 1:])) for method, answer in answers.items()},
    }
    rows: dict[str, dict[str, Any]] = {
        method: {"method": method, "accuracy": metrics.accuracy(found, true)} for method, found in predicted.items()
    }
    for method, answer in answers.items():
        rows[method] |= _errors(answer, real)
    for method, answer in {"real": real, **answers}.items():
        rows[method] |= _acceleration(answer, real)

    vectors: dict[str, np.ndarray] = {}
    real_halves = None
    if features is not None:
        vectors = {
            method: np.asarray(features(answer[:, 1:]), np.float64)
            for method, answer in {"real": real, **answers}.items()
        }
        for method, found in vectors.items():
            rows[method] |= _spread(found, true)
            if method != "real" and len(real) > 1:
                rows[method]["fid"] = distribution.fid(found, vectors["real"])
                rows[method]["fid_std"] = distribution.fid_deviation(found, vectors["real"], resamples)
        real_halves = _real_halves(split.train, np.asarray(features(train[:, 1:])), halves)
        if real_halves:
            rows["real"] |= {"fid": real_halves["mean"], "fid_std": real_halves["std"]}

    in_order = list(rows.values())  # real, generated, ...
    if len(samples) > 1:
        best = samples[metrics.best_of(samples[:, :, 1:], real[:, 1:]), np.arange(len(real))]  # (N, T+1, L, 3)
        in_order.insert(2, {"method": f"best of {len(samples)}", **_errors(best, real)})
        if features is not None:
            found = np.concatenate([np.asarray(features(sample[:, 1:]), np.float64) for sample in samples])  # (K N, D)
            rows["generated"]["sample_multimodality"] = distribution.multimodality(
                found, np.tile(np.arange(len(real)), len(samples))
            )

    # (N, T, L)
    distances = {method: metrics.distances_mm(answer[:, 1:], real[:, 1:]) for method, answer in answers.items()}
    return Scores(
        rows=in_order,
        per_label=_breakdown("label", np.array(labels)[true], predicted, true, answers, real),
        per_subject=_breakdown(
            "subject", np.array([sequence.subject for sequence in split.test]), predicted, true, answers, real
        ),
        per_group=_per_group(distances),
        methods=tuple(answers),
        confusion={method: metrics.confusion_matrix(found, true, len(labels)) for method, found in predicted.items()},
        over_time={method: found.mean(axis=(0, 2)) for method, found in distances.items()},
        per_landmark={method: found.mean(axis=(0, 1)) for method, found in distances.items()},
        features={**vectors, "labels": true} if vectors else {},
        fid_real_halves=real_halves,
        samples=_samples(samples, real, true, predict) if len(samples) > 1 else None,
    )


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


def competes(method: str) -> bool:
    """Whether a row of the scores is an answer that may be called the best: not the truth, nor what was chosen with
    it.
    """
    return method != "real" and not method.startswith("best of ")


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


def _errors(answer: np.ndarray, real: np.ndarray) -> dict[str, float]:
    """Errors over frames 1..T of (N, T+1, L, 3) displacements."""
    pair = answer[:, 1:], real[:, 1:]
    error = metrics.mm_error(*pair)
    median, p95 = metrics.mm_percentiles(*pair, (50, 95))
    values = {"mm_mean": error.mean, "mm_std": error.std, "mm_median": median, "mm_p95": p95}
    return {**values, "mse": metrics.mse(*pair), "l1": metrics.l1(*pair)}


def _acceleration(answer: np.ndarray, real: np.ndarray) -> dict[str, float | None]:
    """Acceleration of frames 1..T after the real start frame, so that a jump out of it counts; nothing of fewer than
    three frames.
    """
    if real.shape[1] < 3:
        return {}
    found, wanted = (
        metrics.acceleration(np.concatenate([real[:, :1], moved[:, 1:]], axis=1)) for moved in (answer, real)
    )
    return {"acceleration": found, "acceleration_ratio": found / wanted if wanted else None}


def _spread(vectors: np.ndarray, conditions: np.ndarray) -> dict[str, float]:
    """Diversity and multimodality, as far as there are sequences enough."""
    values = {"diversity": distribution.diversity(vectors)} if len(vectors) > 1 else {}
    if len(np.unique(conditions)) < len(conditions):
        values["multimodality"] = distribution.multimodality(vectors, conditions)
    return values


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


def _samples(samples: np.ndarray, real: np.ndarray, true: np.ndarray, predict: Predict) -> dict[str, Any]:
    """Scores of each of (K, N, T+1, L, 3) answers, and of the best of the first 1..K of them."""
    # (K, N)
    errors = np.stack([metrics.distances_mm(sample[:, 1:], real[:, 1:]).mean(axis=(1, 2)) for sample in samples])
    accuracies = [metrics.accuracy(np.asarray(predict(sample[:, 1:])), true) for sample in samples]
    best = np.minimum.accumulate(errors).mean(axis=1)
    return {
        "count": len(samples),
        "mm_mean": errors.mean(axis=1).tolist(),
        "accuracy": accuracies,
        "best_of": best.tolist(),
    }


def _breakdown(
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


def _per_group(distances: dict[str, np.ndarray]) -> list[dict[str, Any]]:
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
