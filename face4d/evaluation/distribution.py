"""How a set of generated sequences compares with a set of real ones: FID, diversity, multimodality, precision and
recall of feature vectors.

Features are the time means of the classifier's outputs, one vector (D,) per sequence. Precision and recall are also
taken of the motion itself, which is all its coordinates as one vector.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from scipy.spatial.distance import pdist

from face4d.constants import MM_PER_METRE

NEIGHBOURS = 3  # Kynkaanniemi et al. 2019


class PrecisionRecall(NamedTuple):
    """Shares 0..1: of generated sequences that are as real ones, and of real ones that are as generated ones."""

    precision: float
    recall: float


def fid(generated: np.ndarray, real: np.ndarray) -> float:
    """Frechet distance of two Gaussians fitted to two sets of feature vectors (Heusel et al., GANs trained by a two
    time-scale update rule, 2017).

    FID = |m - w|^2 + Tr(C) + Tr(W) - 2 Tr((C W)^(1/2)), with means m, w and covariances C, W (divided by n - 1).

    With C = A A^T and W = B B^T, where the columns of A and B are the centred vectors over sqrt(n - 1), the eigenvalues
    of C W are the squared singular values of A^T B, so the last trace is their sum. No root of a matrix is taken: fewer
    vectors than dimensions, and with them singular covariances, are no special case. The value of small sets is biased
    upwards (Chong and Forsyth, Effectively unbiased FID, CVPR 2020): compare only values from equally many sequences.

    Args:
        generated: (N, D); real: (M, D); N, M >= 2.

    Raises:
        ValueError: fewer than two vectors, or different dimensions.
    """
    generated, real = np.asarray(generated, np.float64), np.asarray(real, np.float64)
    if (
        generated.ndim != 2
        or real.ndim != 2
        or generated.shape[1] != real.shape[1]
        or min(len(generated), len(real)) < 2
    ):
        raise ValueError(
            f"expected (N, D) and (M, D) features, N and M at least 2, found {generated.shape} and {real.shape}"
        )
    first, second = _factor(generated), _factor(real)  # (<= N, D), (<= M, D)
    means = np.square(generated.mean(axis=0) - real.mean(axis=0)).sum()
    cross = np.linalg.svd(first @ second.T, compute_uv=False).sum()
    return float(max(means + np.square(first).sum() + np.square(second).sum() - 2 * cross, 0.0))


def _factor(features: np.ndarray) -> np.ndarray:
    """(min(N, D), D) matrix R of (N, D) features with R^T R their covariance."""
    centred = (features - features.mean(axis=0)) / np.sqrt(len(features) - 1)
    return np.asarray(np.linalg.qr(centred, mode="r")) if len(centred) > centred.shape[1] else centred


def fid_deviation(
    generated: np.ndarray, real: np.ndarray, generator: np.random.Generator, resamples: int = 100
) -> float:
    """Bootstrap standard deviation of :func:`fid` (Efron, Bootstrap methods: another look at the jackknife, 1979).

    What is drawn with replacement are pairs of a generated sequence and its real one, the unit that a test set is made
    of.

    Args:
        generated, real: (N, D), row n of both the same label and subject; N >= 2.
        generator: source of the resamples.

    Raises:
        ValueError: different shapes.
    """
    if generated.shape != real.shape:
        raise ValueError(f"expected two (N, D) sets of pairs, found {generated.shape} and {real.shape}")
    draws = generator.integers(0, len(real), (resamples, len(real)))
    return float(np.std([fid(generated[chosen], real[chosen]) for chosen in draws], ddof=1))


def fid_of_halves(
    features: np.ndarray, subjects: np.ndarray, generator: np.random.Generator, draws: int = 20
) -> tuple[float, float]:
    """FID of real against real: of two random halves of the subjects, what a generator indistinguishable from reality
    would get.

    Args:
        features: (N, D) of real sequences; subjects: (N,) whose they are, two subjects or more.
        generator: source of the halves. With an odd number of subjects the second half has one more.

    Returns:
        Mean and standard deviation over the draws.

    Raises:
        ValueError: fewer than two subjects.
    """
    names = np.unique(subjects)
    if len(names) < 2:
        raise ValueError(f"expected two subjects or more, found {len(names)}")
    halves = [np.isin(subjects, generator.permutation(names)[: len(names) // 2]) for _ in range(draws)]
    values = [fid(features[half], features[~half]) for half in halves]
    return float(np.mean(values)), float(np.std(values))


def diversity(features: np.ndarray) -> float:
    """Mean distance of two sequences of a set, whatever their labels (Guo et al., Action2Motion, ACM MM 2020).

    There: the mean of |v_i - v'_i| over two random subsets of 200. Here: over all pairs of different sequences, N (N -
    1) / 2, which is what such draws estimate. The nearer to the real sequences' value the better.

    Args:
        features: (N, D), N >= 2.

    Raises:
        ValueError: fewer than two sequences.
    """
    if len(features) < 2:
        raise ValueError(f"expected two sequences or more, found {len(features)}")
    return float(pdist(np.asarray(features, np.float64)).mean())


def multimodality(features: np.ndarray, conditions: np.ndarray) -> float:
    """Mean distance of two sequences of one condition, averaged over conditions (Guo et al., Action2Motion, ACM MM
    2020).

    There: the condition is the label, and the mean of |v_{c,i} - v'_{c,i}| goes over two random subsets of 20 per
    label. Here: over all pairs of different sequences of a condition; conditions with one sequence do not count.

    Args:
        features: (N, D); conditions: (N,) labels, or (label, face) pairs as numbers.

    Raises:
        ValueError: no condition has two sequences.
    """
    groups = [features[conditions == condition] for condition in np.unique(conditions)]
    values = [diversity(group) for group in groups if len(group) > 1]
    if not values:
        raise ValueError("expected a condition with two sequences or more, found none")
    return float(np.mean(values))


def precision_recall(generated: np.ndarray, real: np.ndarray, neighbours: int = NEIGHBOURS) -> PrecisionRecall:
    """Precision and recall of a set of generated sequences (Kynkaanniemi et al., Improved precision and recall metric
    for assessing generative models, NeurIPS 2019).

    Around every vector of a set lies a ball that reaches to its k-th nearest neighbour in that set; the balls together
    are the set's region. Precision = share of generated vectors inside the region of the real ones, recall = share of
    real vectors inside the region of the generated ones. A generator that knows one answer has precision without
    recall, one of wild answers the reverse.

    Args:
        generated: (N, D); real: (M, D); N, M >= 2.
        neighbours: k; the number of the others in a set that has fewer.

    Raises:
        ValueError: fewer than two vectors, or different dimensions.
    """
    generated, real = np.asarray(generated, np.float64), np.asarray(real, np.float64)
    fits = generated.ndim == real.ndim == 2 and generated.shape[1] == real.shape[1]
    if not fits or min(len(generated), len(real)) < 2:
        raise ValueError(
            f"expected (N, D) and (M, D) features, N and M at least 2, found {generated.shape} and {real.shape}"
        )
    between = _distances(generated, real)  # (N, M)
    inside = between <= _radii(real, neighbours)
    covered = between <= _radii(generated, neighbours)[:, None]
    return PrecisionRecall(float(inside.any(axis=1).mean()), float(covered.any(axis=0).mean()))


def precision_recall_by_label(
    generated: np.ndarray, labels: np.ndarray, real: np.ndarray, real_labels: np.ndarray
) -> PrecisionRecall | None:
    """Mean over the labels of :func:`precision_recall` within the label: with few sequences of many labels the nearest
    neighbours of a whole set are of other labels, and its region would cover everything.

    The region of few answers is small: compare only recalls from equally many answers to a label.

    Args:
        generated: (N, D), labels: (N,) class indices; real: (M, D), real_labels: (M,).

    Returns:
        None where no label has two vectors in both sets.
    """
    found = []
    for label in np.unique(labels):
        own, other = generated[labels == label], real[real_labels == label]
        if min(len(own), len(other)) > 1:
            found.append(precision_recall(own, other))
    return PrecisionRecall(*np.mean(found, axis=0).tolist()) if found else None


def nearest_known(generated: np.ndarray, labels: np.ndarray, known: np.ndarray, known_labels: np.ndarray) -> float:
    """Mean distance of a generated sequence to the nearest training sequence of its label: what is copied has 0, and
    what is as new as a test sequence has the value of the real ones.

    The distance that tells memorised answers from new ones (as in the authenticity of Alaa et al., How faithful is your
    synthetic data?, ICML 2022).

    Args:
        generated: (N, D), labels: (N,) class indices; known: (M, D), known_labels: (M,) of the training sequences,
            which have every label.
    """
    own = (_distances(generated[labels == label], known[known_labels == label]) for label in np.unique(labels))
    return float(np.concatenate([distances.min(axis=1) for distances in own]).mean())


def motion_vectors(displacements: np.ndarray) -> np.ndarray:
    """Sequences (N, T, L, 3) in metres as vectors (N, 3TL) whose distance is the root mean square distance of their
    landmarks over all frames, in millimetres.
    """
    count, frames, landmarks, _ = displacements.shape
    return displacements.reshape(count, -1).astype(np.float64) * (MM_PER_METRE / np.sqrt(frames * landmarks))


def _radii(vectors: np.ndarray, neighbours: int) -> np.ndarray:
    """(N,) distance of each vector (N, D) to its k-th nearest neighbour among the others, or to the farthest of
    fewer.
    """
    distances, neighbours = _distances(vectors, vectors), min(neighbours, len(vectors) - 1)
    np.fill_diagonal(distances, np.inf)
    return np.partition(distances, neighbours - 1, axis=1)[:, neighbours - 1]


def _distances(first: np.ndarray, second: np.ndarray) -> np.ndarray:
    """(N, M) Euclidean distances of vectors (N, D) and (M, D), by one product of matrices: exact to about 1e-8 of
    their size.
    """
    centre = second.mean(axis=0)
    first, second = first - centre, second - centre
    squares = np.square(first).sum(axis=1)[:, None] + np.square(second).sum(axis=1) - 2 * first @ second.T
    return np.sqrt(np.maximum(squares, 0))
