"""Dense decoders in closed form: ridge, regional ridge, principal components, radial basis functions.

All take displacements in millimetres, P = 3 L landmark coordinates and Q = 3 V vertex coordinates, and give W (P, Q)
with vertices = landmarks @ W. The strength of regularisation is in square millimetres: ridge regression with strength s
on clean landmarks is least squares on landmarks with white noise of variance s.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy.linalg import cho_factor, cho_solve
from threadpoolctl import threadpool_limits

Decode = Callable[[np.ndarray], np.ndarray]
"""Landmark coordinates (n, P) to vertex coordinates (n, Q)."""

Fit = Callable[[np.ndarray, np.ndarray], Callable[[float], Decode]]
"""``fit(inputs (N, P), targets (N, Q))(strength)`` decodes."""


class Choice(NamedTuple):
    """A strength, and the mean distance it leaves on held-out frames (in the unit of the targets)."""

    strength: float
    error: float


@dataclass
class NormalEquations:
    """X^T X and X^T Y of N frames, gathered piece by piece.

    Attributes:
        gram: (P, P) float64, square millimetres.
        cross: (P, Q) float64, square millimetres.
        count: N.
    """

    gram: np.ndarray
    cross: np.ndarray
    count: int = 0

    @classmethod
    def empty(cls, inputs: int, outputs: int) -> NormalEquations:
        """Of no frames yet."""
        return cls(np.zeros((inputs, inputs)), np.zeros((inputs, outputs)))

    @classmethod
    def of(cls, inputs: np.ndarray, targets: np.ndarray) -> NormalEquations:
        """Of arrays (N, P) and (N, Q)."""
        return cls.empty(inputs.shape[1], targets.shape[1]).add(inputs, targets)

    def add(self, inputs: np.ndarray, targets: np.ndarray) -> NormalEquations:
        """Add frames (n, P) and (n, Q)."""
        inputs = np.asarray(inputs, np.float64)
        self.gram += inputs.T @ inputs
        self.cross += inputs.T @ np.asarray(targets, np.float64)
        self.count += len(inputs)
        return self


def ridge(equations: NormalEquations, strength: float) -> np.ndarray:
    """W = (X^T X + N s I)^-1 X^T Y, (P, Q)."""
    gram = equations.gram + equations.count * strength * np.eye(len(equations.gram))
    return cho_solve(cho_factor(gram), equations.cross)


def regional_ridge(equations: NormalEquations, strength: float, penalty: np.ndarray) -> np.ndarray:
    """Ridge regression in which every vertex trusts its landmarks by distance.

    For vertex v: W_v = (X^T X + N s diag(penalty_v))^-1 X^T Y_v. In Bayes' words the influence of landmark l on vertex
    v is Gaussian with a variance that falls with 1 / penalty_vl, so that a far landmark needs more evidence than a near
    one.

    Args:
        penalty: (V, L), see :func:`distance_penalty`.

    Returns:
        (3 L, 3 V).
    """
    inputs, vertices = len(equations.gram), len(penalty)
    cross = equations.cross.reshape(inputs, vertices, 3)
    result = np.empty((inputs, vertices, 3))
    diagonal = np.arange(inputs)
    weights = np.repeat(penalty, 3, axis=1) * (equations.count * strength)  # (V, P)
    with threadpool_limits(1, user_api="blas"):  # small systems: waiting for a second thread takes longer
        for vertex in range(vertices):
            gram = equations.gram.copy()
            gram[diagonal, diagonal] += weights[vertex]
            factor = cho_factor(gram, overwrite_a=True, check_finite=False)
            result[:, vertex] = cho_solve(factor, cross[:, vertex], check_finite=False)
    return result.reshape(inputs, 3 * vertices)


def distance_penalty(vertices: np.ndarray, landmarks: np.ndarray, reach: float) -> np.ndarray:
    """(V, L) penalty 1 + (d / reach)^2 for the distance d of vertex and landmark on the neutral face; all in one
    unit.
    """
    distance = np.linalg.norm(vertices[:, None] - landmarks[None], axis=2)
    return 1 + np.square(distance / reach)


def principal_map(inputs: np.ndarray, targets: np.ndarray, components: int) -> Callable[[float], np.ndarray]:
    """Principal components of the targets, their coefficients by regularised least squares from the landmarks.

    With Y ~ U S V^T the components are V, their landmarks L = X^T U S^-1 (the landmarks of each component, as landmarks
    are linear in vertices) and coefficients c minimise |L c - x|^2 + s c^T D^-1 c with the variances D = S^2 / N: least
    squares for s = 0, the most probable coefficients of a Gaussian model for landmarks with noise of variance s.

    Args:
        inputs, targets: (N, P) and (N, Q), N frames in memory.
        components: at most this many.

    Returns:
        strength -> W (P, Q).
    """
    count = len(inputs)
    targets = np.asarray(targets, np.float64)
    # both have the variances as eigenvalues
    small = targets @ targets.T if count <= targets.shape[1] else targets.T @ targets
    variance, vectors = np.linalg.eigh(small / count)
    kept = np.flatnonzero(variance > 1e-9 * variance[-1])[::-1][:components]
    variance, vectors = variance[kept], vectors[:, kept]
    if count <= targets.shape[1]:
        inverse = vectors / np.sqrt(variance * count)  # (N, K) U S^-1
        basis = inverse.T @ targets  # (K, Q), orthonormal rows
    else:
        basis = vectors.T
        inverse = targets @ vectors / (variance * count)
    seen = inputs.T.astype(np.float64) @ inverse  # (P, K) landmarks of the components

    def solve(strength: float) -> np.ndarray:
        prior = np.diag(strength / variance)
        coefficients = np.linalg.solve(seen.T @ seen + prior, seen.T) if strength else np.linalg.pinv(seen)  # (K, P)
        return coefficients.T @ basis

    return solve


def choose_strength(
    fit: Fit, inputs: np.ndarray, targets: np.ndarray, groups: np.ndarray, decades: Sequence[int]
) -> Choice:
    """The strength with the least mean distance on groups of frames that were held out in turn: powers of ten, then
    half a power around the best.

    Args:
        inputs, targets: (N, P) and (N, Q); Q of some vertices is enough.
        groups: (N,) group of each frame.
        decades: exponents of ten to try.
    """
    parts = []
    for group in np.unique(groups):
        held = groups == group
        parts.append((fit(inputs[~held], targets[~held]), inputs[held], targets[held]))

    def error(exponent: float) -> float:
        total = 0.0
        for solve, seen, wanted in parts:
            difference = (solve(10.0**exponent)(seen) - wanted).reshape(len(seen), -1, 3)
            total += float(np.linalg.norm(difference, axis=2).mean(axis=1).sum())
        return total / len(inputs)

    errors = {float(exponent): error(exponent) for exponent in decades}
    best = min(errors, key=errors.__getitem__)
    errors |= {exponent: error(exponent) for exponent in (best - 0.5, best + 0.5)}
    best = min(errors, key=errors.__getitem__)
    return Choice(10.0**best, errors[best])


def interpolation_matrix(landmarks: np.ndarray, vertices: np.ndarray, smoothing: float) -> np.ndarray:
    """Weights that carry displacements of landmarks to vertices: the biharmonic spline of three dimensions.

    f(x) = sum_l a_l |x - x_l| + c with sum_l a_l = 0, least bent among all f with f(x_l) = d_l; with smoothing, closest
    to d_l in balance.

    Args:
        landmarks: (L, 3) positions on the neutral face.
        vertices: (V, 3) positions, same unit.
        smoothing: 0 = through the landmarks exactly; same unit.

    Returns:
        (L, V) weights: displacement of vertices = weights^T @ displacement of landmarks.
    """
    count = len(landmarks)
    landmarks, vertices = np.asarray(landmarks, np.float64), np.asarray(vertices, np.float64)
    system = np.zeros((count + 1, count + 1))
    system[:count, :count] = np.linalg.norm(landmarks[:, None] - landmarks[None], axis=2) - smoothing * np.eye(count)
    system[:count, count] = system[count, :count] = 1
    kernel = np.ones((count + 1, len(vertices)))
    kernel[:count] = np.linalg.norm(landmarks[:, None] - vertices[None], axis=2)
    # landmarks may coincide, and then share a displacement
    return (np.linalg.pinv(system, rcond=1e-10, hermitian=True) @ kernel)[:count]
