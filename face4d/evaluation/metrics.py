"""Scores of sequences: errors in millimetres, mean squared and absolute errors, smoothness, accuracy."""

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


def mm_percentiles(generated: Sequences, real: Sequences, percentages: Sequence[float] = (50, 95)) -> tuple[float, ...]:
    """Percentiles of all single distances, of all sequences, frames and landmarks, in millimetres; by default median
    and 95th percentile.

    Between two distances the value is interpolated linearly (Hyndman and Fan, Sample quantiles in statistical packages,
    1996, definition 7).

    Args:
        generated, real: N sequences (T, L, 3) in metres.
    """
    distances = np.concatenate([distances_mm(a, b).ravel() for a, b in _pairs(generated, real)])
    return tuple(np.percentile(distances, percentages).tolist())


def best_of(samples: np.ndarray, real: np.ndarray) -> np.ndarray:
    """Which of K answers to each sequence comes nearest, in mean distance over frames and landmarks.

    The error of these answers is the best-of-K error of stochastic generators (Gupta et al., Social GAN, CVPR 2018:
    minimum over K samples of the average displacement error). It is chosen with the truth in hand: compare it only with
    another best-of-K of the same K.

    Args:
        samples: (K, N, T, L, 3) metres; real: (N, T, L, 3) metres.

    Returns:
        (N,) indices 0..K-1, the first of equals.

    Raises:
        ValueError: other shapes.
    """
    samples = np.asarray(samples)
    if samples.ndim != 5 or not len(samples):
        raise ValueError(f"expected (K, N, T, L, 3) samples, found {samples.shape}")
    return np.stack([distances_mm(sample, real).mean(axis=(1, 2)) for sample in samples]).argmin(axis=0)


def acceleration(sequences: Sequences) -> float:
    """Mean magnitude of the second difference |x_{t+1} - 2 x_t + x_{t-1}|, millimetres per squared frame: how much
    motion trembles or jumps.

    The magnitude whose difference from the real one's is the acceleration error of Kanazawa et al., Learning 3D human
    dynamics from video, CVPR 2019. Mean over inner frames and landmarks, then over sequences. Real motion is the
    measure: below it is sluggish, above it restless.

    Args:
        sequences: N sequences (T, L, 3) in metres, T >= 3.

    Raises:
        ValueError: no sequence, or one of fewer than three frames.
    """
    return _difference(sequences, 2, "three")


def jerk(sequences: Sequences) -> float:
    """Mean magnitude of the third difference |x_{t+2} - 3 x_{t+1} + 3 x_t - x_{t-1}|, millimetres per cubed frame.

    What Flash and Hogan, The coordination of arm movements, Journal of Neuroscience 1985, find smooth motion to
    minimise. It sees trembling more sharply than :func:`acceleration`.

    Args:
        sequences: N sequences (T, L, 3) in metres, T >= 4.

    Raises:
        ValueError: no sequence, or one of fewer than four frames.
    """
    return _difference(sequences, 3, "four")


def mse(generated: Sequences, real: Sequences) -> float:
    """Mean over sequences of the mean squared coordinate difference, square metres (the thesis' L2 validation loss
    [T]).

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


def _difference(sequences: Sequences, order: int, least: str) -> float:
    """Mean over sequences of the mean magnitude, over frames and landmarks, of the ``order``-th difference in time,
    millimetres.
    """
    if not len(sequences) or min(len(sequence) for sequence in sequences) <= order:
        raise ValueError(f"expected sequences of {least} frames or more, at least one")
    differences = [np.diff(np.asarray(sequence, np.float64), n=order, axis=0) for sequence in sequences]
    return float(np.mean([np.linalg.norm(difference, axis=-1).mean() for difference in differences])) * MM_PER_METRE
