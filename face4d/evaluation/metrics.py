"""Scores: errors in millimetres, mean squared and absolute errors, accuracy."""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from face4d.constants import MM_PER_METRE

Sequences = Sequence[np.ndarray] | np.ndarray


class MillimetreError(NamedTuple):
    """Mean over sequences of the mean distance, and standard deviation over all single distances; millimetres."""

    mean: float
    std: float


def distances_mm(generated: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Euclidean distances (..., L) in millimetres of points (..., L, 3) in metres.

    Raises:
        ValueError: different shapes.
    """
    generated, real = np.asarray(generated, np.float64), np.asarray(real, np.float64)
    if generated.shape != real.shape or generated.shape[-1] != 3:
        raise ValueError(f"expected two arrays (..., L, 3) of one shape, found {generated.shape} and {real.shape}")
    return np.linalg.norm(generated - real, axis=-1) * MM_PER_METRE


def mm_error(generated: Sequences, real: Sequences) -> MillimetreError:
    """The thesis' error in millimetres [T].

    mean = (1/N) sum_n mean_{t,l} |generated - real|, so that each of N sequences counts the same whatever its length;
    std = population standard deviation over the distances of all sequences, frames and landmarks.

    Args:
        generated, real: N sequences (T, L, 3) in metres, frames 1..T (frame 0 is given to the generator).

    Raises:
        ValueError: no sequences, or different numbers or shapes.
    """
    distances = [distances_mm(a, b) for a, b in _pairs(generated, real)]
    mean = float(np.mean([d.mean() for d in distances]))
    return MillimetreError(mean, float(np.concatenate([d.ravel() for d in distances]).std()))


def mse(generated: Sequences, real: Sequences) -> float:
    """Mean over sequences of the mean squared coordinate difference, square metres (the thesis' L2 validation loss [T]).

    Args:
        generated, real: N sequences (T, L, 3) in metres.
    """
    return float(np.mean([np.square(a - b).mean() for a, b in _pairs(generated, real)]))


def l1(generated: Sequences, real: Sequences) -> float:
    """Mean over sequences of the mean absolute coordinate difference, metres (the thesis' L1 validation loss [T]).

    Args:
        generated, real: N sequences (T, L, 3) in metres.
    """
    return float(np.mean([np.abs(a - b).mean() for a, b in _pairs(generated, real)]))


def accuracy(predicted: np.ndarray, true: np.ndarray) -> float:
    """Share of equal class indices, 0..1, of two (N,) arrays.

    Raises:
        ValueError: empty, or different shapes.
    """
    predicted, true = np.asarray(predicted), np.asarray(true)
    if predicted.shape != true.shape or predicted.ndim != 1 or not len(true):
        raise ValueError(f"expected two (N,) arrays, N >= 1, found {predicted.shape} and {true.shape}")
    return float((predicted == true).mean())


def confusion_matrix(predicted: np.ndarray, true: np.ndarray, num_labels: int) -> np.ndarray:
    """(C, C) int64 counts: row = true class, column = predicted class.

    Raises:
        ValueError: different shapes, or an index outside 0..C-1.
    """
    predicted, true = np.asarray(predicted), np.asarray(true)
    if predicted.shape != true.shape or predicted.ndim != 1:
        raise ValueError(f"expected two (N,) arrays, found {predicted.shape} and {true.shape}")
    for indices in (predicted, true):
        if len(indices) and not (0 <= indices.min() and indices.max() < num_labels):
            raise ValueError(f"expected class indices 0..{num_labels - 1}, found {indices.min()}..{indices.max()}")
    matrix = np.zeros((num_labels, num_labels), np.int64)
    np.add.at(matrix, (true, predicted), 1)
    return matrix


def _pairs(generated: Sequences, real: Sequences) -> list[tuple[np.ndarray, np.ndarray]]:
    if len(generated) != len(real) or not len(real):
        raise ValueError(f"expected equally many sequences, at least one, found {len(generated)} and {len(real)}")
    pairs = [(np.asarray(a, np.float64), np.asarray(b, np.float64)) for a, b in zip(generated, real)]
    for number, (a, b) in enumerate(pairs):
        if a.shape != b.shape:
            raise ValueError(f"sequence {number}: expected {b.shape}, found {a.shape}")
    return pairs
