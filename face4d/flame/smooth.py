"""Smooth displacements as more directions of a face model: what a model with few identities cannot say, a fit may still
answer.

Luethi et al., "Gaussian Process Morphable Models", TPAMI 2018: displacements are a Gaussian process over the mean
surface, of which the leading components (Nystrom's method) are kept.
"""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from face4d.constants import NUM_CONTOUR
from face4d.flame.model import FlameModel

LENGTH = 0.030  # metres over which displacements are alike
DEVIATION = 0.0005  # metres: standard deviation of each coordinate
_COMPONENTS = 24  # of each coordinate
_REACH = 0.11  # metres from the middle of the face
_PLACES = 300  # where the kernel is sampled
_LEAST = 1e-4  # eigenvalue beside the largest: below it a component is rounding


def smooth_directions(
    vertices: np.ndarray, landmarks: np.ndarray, *, length: float = LENGTH, deviation: float = DEVIATION
) -> np.ndarray:
    """Mirror-symmetric smooth displacements of the face of a head, which fade out beyond it.

    Args:
        vertices: (V, 3) metres, symmetric about x = 0 as heads are.
        landmarks: (68, 3).
        length, deviation: metres, see :func:`smooth_fields`; of every coordinate.

    Returns:
        (V, 3, K) metres per standard deviation.
    """
    found = []
    for axis in range(3):
        fields = smooth_fields(vertices, landmarks, length=length, count=_COMPONENTS, odd=axis == 0)
        directions = np.zeros((len(vertices), 3, fields.shape[1]))
        directions[:, axis] = deviation * fields
        found.append(directions)
    return np.concatenate(found, axis=2)


def smooth_fields(
    vertices: np.ndarray, landmarks: np.ndarray, *, length: float, count: int, odd: bool = False
) -> np.ndarray:
    """The leading components of a Gaussian process over a face that takes the same values on both sides.

    The kernel is k(a, b) + s k(Ma, b), k(a, b) = exp(-|a - b|^2 / (2 length^2)), M the mirror at x = 0, s =
    1, or -1 for values that change their sign (``odd``).

    Args:
        vertices: (V, 3) metres, symmetric about x = 0 as heads are.
        landmarks: (68, 3), which say where the face is.
        length: metres.
        count: of components at most.

    Returns:
        (V, K) per standard deviation; zero beyond the face.
    """
    middle = landmarks[NUM_CONTOUR:].mean(axis=0)
    places = vertices[_spread_out(vertices, np.linalg.norm(vertices - middle, axis=1) < _REACH, _PLACES)]
    mirror, sign = np.array([-1.0, 1.0, 1.0]), -1.0 if odd else 1.0
    kernel, across = (
        _gaussian(points, places, length) + sign * _gaussian(points * mirror, places, length)
        for points in (places, vertices)
    )
    values, modes = np.linalg.eigh(kernel)
    values, modes = values[::-1][:count], modes[:, ::-1][:, :count]
    kept = values > _LEAST * values[0]
    return across @ modes[:, kept] / np.sqrt(values[kept])


def with_directions(model: FlameModel, directions: np.ndarray, count: int) -> FlameModel:
    """A model whose first ``count`` shape directions are followed by others (V, 3, K)."""
    own = model.shape_directions[:, :, :count]
    return replace(model, shape_directions=np.concatenate([own, directions.astype(own.dtype)], axis=2))


def _gaussian(a: np.ndarray, b: np.ndarray, length: float) -> np.ndarray:
    square = (a**2).sum(1)[:, None] + (b**2).sum(1) - 2 * a @ b.T
    return np.exp(-np.maximum(square, 0) / (2 * length**2))


def _spread_out(points: np.ndarray, allowed: np.ndarray, count: int) -> np.ndarray:
    """Up to ``count`` numbers of allowed points, each the farthest from those before."""
    among = np.flatnonzero(allowed)
    chosen = [among[0]]
    away = np.linalg.norm(points[among] - points[chosen[0]], axis=1)
    while len(chosen) < min(count, len(among)):
        farthest = int(away.argmax())
        chosen.append(among[farthest])
        away = np.minimum(away, np.linalg.norm(points[among] - points[among[farthest]], axis=1))
    return np.array(chosen)
