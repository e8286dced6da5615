"""Interpolation of landmark displacements over a neutral face by radial basis functions."""

from __future__ import annotations

import numpy as np


def interpolation_matrix(landmarks: np.ndarray, vertices: np.ndarray, smoothing: float) -> np.ndarray:
    """Weights that carry displacements of landmarks to vertices: the biharmonic spline of three dimensions.

    f(x) = sum_l a_l |x - x_l| + c with sum_l a_l = 0, least bent among all f with f(x_l) = d_l; with smoothing, closest to d_l in balance.

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
    return (np.linalg.pinv(system, rcond=1e-10, hermitian=True) @ kernel)[:count]  # landmarks may coincide, and then share a displacement
