"""Trivial predictors that every table shows beside a generator: what one gets without learning to generate.

All work on displacements from the neutral landmarks, in metres, and see of a test sequence only its label and neutral
face.
"""

from __future__ import annotations

import numpy as np


def static_neutral(count: int, shape: tuple[int, ...]) -> np.ndarray:
    """``count`` sequences of ``shape`` (T, L, 3) that never move: (count, T, L, 3) zeros."""
    return np.zeros((count, *shape), np.float32)


def class_mean(train: np.ndarray, train_labels: np.ndarray, labels: np.ndarray) -> np.ndarray:
    """For each wanted label the mean trajectory of the training sequences of that label.

    Args:
        train: (N, T, L, 3) displacements, metres; train_labels: (N,) class indices.
        labels: (M,) wanted class indices.

    Returns:
        (M, T, L, 3).

    Raises:
        ValueError: a label without training sequence.
    """
    _require_labels(train_labels, labels)
    means = {label: train[train_labels == label].mean(axis=0) for label in np.unique(labels)}
    return np.stack([means[label] for label in labels])


def noisy_class_mean(
    train: np.ndarray, train_labels: np.ndarray, labels: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """The class mean trajectory plus white noise: as much variation as there is in reality, but none of its shape.

    Every coordinate of every frame gets its own draw from N(0, s^2), s^2 = mean over sequences, frames and coordinates
    of the squared difference of the label's training sequences from their mean. A score that does not see this
    trembling cannot judge motion.

    Args:
        train, train_labels, labels: as in :func:`class_mean`.
        generator: source of the noise.

    Returns:
        (M, T, L, 3).

    Raises:
        ValueError: a label without training sequence.
    """
    means = class_mean(train, train_labels, labels)
    scales = {label: train[train_labels == label].std(axis=0) for label in np.unique(labels)}  # (T, L, 3)
    spread = np.array([np.sqrt(np.square(scales[label]).mean()) for label in labels])
    return means + spread[:, None, None, None].astype(means.dtype) * generator.standard_normal(
        means.shape, dtype=np.float32
    )


def random_sequence(
    train: np.ndarray, train_labels: np.ndarray, labels: np.ndarray, generator: np.random.Generator
) -> np.ndarray:
    """For each test sequence one of the label's training sequences, drawn at random: the trivial sampler.

    It has the training set's own spread of timing and strength and invents nothing; a generator of many answers that
    is no better than it has learnt no more than to repeat.

    Args:
        train, train_labels, labels: as in :func:`class_mean`.
        generator: source of the draws, which are independent.

    Returns:
        (M, T, L, 3).

    Raises:
        ValueError: a label without training sequence.
    """
    _require_labels(train_labels, labels)
    return train[[generator.choice(np.flatnonzero(train_labels == label)) for label in labels]]


def nearest_sequence(
    train: np.ndarray, train_labels: np.ndarray, train_neutrals: np.ndarray, labels: np.ndarray, neutrals: np.ndarray
) -> np.ndarray:
    """For each test sequence the motion of the training subject that looks most like its subject, same label.

    "Looks like" is the Euclidean distance between neutral landmarks, each face centred on the mean of its points; the
    first of equals wins. Only subjects who have a training sequence of the label are candidates.

    Args:
        train: (N, T, L, 3) displacements, metres; train_labels: (N,); train_neutrals: (N, L, 3) metres.
        labels: (M,) wanted class indices; neutrals: (M, L, 3) neutral landmarks of the test subjects, metres.

    Returns:
        (M, T, L, 3) displacements of the chosen training sequences.

    Raises:
        ValueError: a label without training sequence.
    """
    _require_labels(train_labels, labels)
    known, wanted = (faces - faces.mean(axis=1, keepdims=True) for faces in (train_neutrals, neutrals))
    distance = np.linalg.norm((wanted[:, None] - known[None]).reshape(len(wanted), len(known), -1), axis=2)  # (M, N)
    distance[labels[:, None] != train_labels[None]] = np.inf
    return train[distance.argmin(axis=1)]


def _require_labels(train_labels: np.ndarray, labels: np.ndarray) -> None:
    missing = set(np.unique(labels).tolist()) - set(np.unique(train_labels).tolist())
    if missing:
        raise ValueError(f"no training sequence of class {sorted(missing)}")
