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
DEVIATION = 0.001  # metres: standard deviation of each coordinate
_COMPONENTS = 24  # of each coordinate
_REACH = 0.11  # metres from the middle of the face
_PLACES = 300  # where the kernel is sampled
_LEAST = 1e-4  # eigenvalue beside the largest: below it a component is rounding


def smooth_directions(
    vertices: np.ndarray, landmarks: np.ndarray, *, length: float = LENGTH, deviation: float = DEVIATION
) -> np.ndarray:
    """Mirror-symmetric smooth displacements of the face of a head, which fade out beyond it.

    The kernel is that of the mean of a field and its mirror image: deviation^2 (k(a, b) + s k(Ma, b)), k(a, b) =
    exp(-|a - b|^2 / (2 length^2)), M the mirror at x = 0, s = -1 for x and 1 for y and z.

    Args:
        vertices: (V, 3) metres, symmetric about x = 0 as heads are.
        landmarks: (68, 3).
        length, deviation: metres.

    Returns:
        (V, 3, K) metres per standard deviation.
    """
    middle = landmarks[NUM_CONTOUR:].mean(axis=0)
    places = vertices[_spread_out(vertices, np.linalg.norm(vertices - middle, axis=1) < _REACH, _PLACES)]
    mirror = np.array([-1.0, 1.0, 1.0])
    found = []
    for axis in range(3):
        sign = -1.0 if axis == 0 else 1.0
        kernel = _gaussian(places, places, length) + sign * _gaussian(places * mirror, places, length)
        values, modes = np.linalg.eigh(deviation**2 * kernel)
        values, modes = values[::-1][:_COMPONENTS], modes[:, ::-1][:, :_COMPONENTS]
        modes, values = modes[:, values > _LEAST * values[0]], values[values > _LEAST * values[0]]
        across = _gaussian(vertices, places, length) + sign * _gaussian(vertices * mirror, places, length)
        directions = np.zeros((len(vertices), 3, len(values)))
        directions[:, axis] = deviation**2 * across @ modes / np.sqrt(values)
        found.append(directions)
    return np.concatenate(found, axis=2)


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
