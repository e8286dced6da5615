"""What is measured of one method's answers to a test set, as entries of its row in the tables."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from face4d.controls import label_directions
from face4d.datasets.landmark_set import LandmarkSplit, stack
from face4d.evaluation import distribution, metrics
from face4d.evaluation.alignment import aligned_error
from face4d.evaluation.timing import Timing, timing, timing_errors, timing_spread

Features = Callable[[np.ndarray], np.ndarray]  # displacements (N, T, L, 3) in metres -> feature vectors (N, D)
# displacements (N, T+1, L, 3) in metres -> error of the surface that they move, over frames 1..T
Surface = Callable[[np.ndarray], metrics.MillimetreError]


class Measures:
    """Measures against one test set. Answers are (N, T+1, L, 3) displacements in metres in the order of the test set,
    several of them (K, N, T+1, L, 3).

    Args:
        split: real sequences.
        labels: class names in the order of the class indices.
        features: feature vectors of a classifier; without them nothing is measured of them.
        surface: error of the dense surface; without it there is none.

    Attributes:
        real, true: displacements (N, T+1, L, 3) and class indices (N,) of the test sequences.
        train, train_labels: the same of the training sequences.
        knows_labels: every label of the test sequences is among those of the training sequences.
        known_vectors: (N, D) feature vectors of the training sequences over frames 1..T; None without features.
    """

    def __init__(
        self, split: LandmarkSplit, labels: Sequence[str], features: Features | None, surface: Surface | None
    ) -> None:
        self.real, self.true = stack(split.test, labels)
        self.train, self.train_labels = stack(split.train, labels)
        self.knows_labels = set(self.true.tolist()) <= set(self.train_labels.tolist())
        self._features, self._surface = features, surface
        self._directions = label_directions(self.train, self.train_labels, len(labels))  # (C, L, 3)
        self._timing = timing(self.real, self._directions[self.true])
        self._known_timing = timing(self.train, self._directions[self.train_labels])
        self._known_motion = distribution.motion_vectors(self.train[:, 1:])
        known = self.vectors(self.train[None])
        self.known_vectors = None if known is None else known[0]

    def vectors(self, answers: np.ndarray) -> np.ndarray | None:
        """(K, N, D) feature vectors over frames 1..T of K answers; None without features."""
        if self._features is None:
            return None
        return np.stack([np.asarray(self._features(answer[:, 1:]), np.float64) for answer in answers])

    def errors(self, answer: np.ndarray) -> dict[str, float | None]:
        """Errors over frames 1..T, as they are and after time alignment, and of timing."""
        pair = answer[:, 1:], self.real[:, 1:]
        error = metrics.mm_error(*pair)
        median, p95 = metrics.mm_percentiles(*pair, (50, 95))
        values = {"mm_mean": error.mean, "mm_std": error.std, "mm_median": median, "mm_p95": p95}
        values |= {"mse": metrics.mse(*pair), "l1": metrics.l1(*pair), "aligned_mm": float(aligned_error(*pair).mean())}
        if not self.knows_labels:
            return {**values}
        return {**values, **timing_errors(timing(self._started(answer), self._directions[self.true]), self._timing)}

    def surface_error(self, answer: np.ndarray) -> dict[str, float]:
        """Error of the dense surface."""
        if self._surface is None:
            return {}
        error = self._surface(answer)
        return {"mesh_mm": error.mean, "mesh_std": error.std}

    def best(self, answers: np.ndarray) -> dict[str, float | None]:
        """Errors of the nearest of K answers to each sequence."""
        chosen = metrics.best_of(answers[:, :, 1:], self.real[:, 1:]), np.arange(len(self.real))
        return self.errors(answers[chosen]) | self.surface_error(answers[chosen])

    def spread(self, answers: np.ndarray, vectors: np.ndarray | None) -> dict[str, float | None]:
        """How K answers differ from each other, when their apexes come, and how smooth they are.

        Diversity and smoothness are of the first answers, multimodality, apex times and strengths of all.

        Args:
            vectors: their :meth:`vectors`.
        """
        values: dict[str, float | None] = {**self._smoothness(self._started(answers[0]))}
        labels = np.tile(self.true, len(answers))
        if self.knows_labels:
            every = [timing(self._started(answer), self._directions[self.true]) for answer in answers]
            values |= timing_spread(Timing(*map(np.concatenate, zip(*every))), self._known_timing)
        if vectors is not None:
            values |= _differences(vectors[0], np.concatenate([*vectors]), labels)
            if len(answers) > 1:
                faces = np.tile(np.arange(len(self.real)), len(answers))
                values["sample_multimodality"] = distribution.multimodality(np.concatenate([*vectors]), faces)
        return values

    def regions(self, answers: np.ndarray, vectors: np.ndarray | None) -> dict[str, float]:
        """Precision and recall within labels, of features and of motion, against the training sequences, and how new
        the motion is beside them; means over K answers, so that they compare with those of a single one.

        Args:
            vectors: their :meth:`vectors`.
        """
        motion = [distribution.motion_vectors(answer[:, 1:]) for answer in answers]
        values: dict[str, float] = {}
        if self.knows_labels:
            known = self._known_motion, self.train_labels
            values["new_mm"] = float(np.mean([distribution.nearest_known(each, self.true, *known) for each in motion]))
        for kind, found, known_vectors in (("motion_", motion, self._known_motion), ("", vectors, self.known_vectors)):
            if found is None or known_vectors is None:
                continue
            by_label = distribution.precision_recall_by_label
            every = (by_label(each, self.true, known_vectors, self.train_labels) for each in found)
            pairs = [pair for pair in every if pair is not None]
            if pairs:
                precision, recall = np.mean(pairs, axis=0).tolist()
                values |= {f"{kind}precision": precision, f"{kind}recall": recall}
        return values

    def training(self) -> dict[str, Any]:
        """The spread of the training sequences."""
        values = {**self._smoothness(self.train), **timing_spread(self._known_timing, self._known_timing)}
        if self.known_vectors is not None:
            values |= _differences(self.known_vectors, self.known_vectors, self.train_labels)
        return values

    def _started(self, answer: np.ndarray) -> np.ndarray:
        """Frames 1..T after the real start frame, so that a jump out of it counts."""
        return np.concatenate([self.real[:, :1], answer[:, 1:]], axis=1)

    def _smoothness(self, sequences: np.ndarray) -> dict[str, float | None]:
        """Acceleration and jerk, and their ratio to those of the real test sequences; of as many frames as they
        take.
        """
        values: dict[str, float | None] = {}
        for name, of, least in (("acceleration", metrics.acceleration, 3), ("jerk", metrics.jerk, 4)):
            if self.real.shape[1] >= least:
                found, wanted = of(sequences), of(self.real)
                values |= {name: found, f"{name}_ratio": found / wanted if wanted else None}
        return values


def _differences(first: np.ndarray, vectors: np.ndarray, labels: np.ndarray) -> dict[str, float]:
    """Diversity of the ``first`` vectors and multimodality of all, as far as there are enough."""
    values = {"diversity": distribution.diversity(first)} if len(first) > 1 else {}
    if len(np.unique(labels)) < len(labels):
        values["multimodality"] = distribution.multimodality(vectors, labels)
    return values
