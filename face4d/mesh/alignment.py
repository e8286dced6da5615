"""The similarity that lays one set of points on another."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np


@dataclass(frozen=True)
class Similarity:
    """x -> scale * rotation x + translation."""

    scale: float
    rotation: np.ndarray  # (3, 3)
    translation: np.ndarray  # (3,)

    def apply(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) moved."""
        return self.scale * points @ self.rotation.T + self.translation


def fit_similarity(source: np.ndarray, target: np.ndarray, *, scaled: bool = True) -> Similarity:
    """The similarity, without mirroring, that brings points closest to their partners in the sense of least squares.

    Umeyama, "Least-squares estimation of transformation parameters between two point patterns", PAMI 13(4), 1991.

    Args:
        source: (N, 3), N >= 3, not all in one place.
        target: (N, 3).
        scaled: False keeps the scale at 1.

    Raises:
        ValueError: other shapes, too few points, or no extent.
    """
    source, target = np.asarray(source, dtype=np.float64), np.asarray(target, dtype=np.float64)
    if source.shape != target.shape or source.ndim != 2 or source.shape[1] != 3 or len(source) < 3:
        raise ValueError(f"expected two sets of at least three points (N, 3), found {source.shape} and {target.shape}")
    source_middle, target_middle = source.mean(axis=0), target.mean(axis=0)
    centered = source - source_middle
    variance = (centered**2).sum()
    if variance <= 0 or not np.isfinite(variance):
        raise ValueError("expected points of some extent, found all in one place or not finite")
    left, stretch, right = np.linalg.svd((target - target_middle).T @ centered)
    signs = np.array([1.0, 1.0, np.sign(np.linalg.det(left) * np.linalg.det(right))])
    rotation = (left * signs) @ right
    scale = float((stretch * signs).sum() / variance) if scaled else 1.0
    return Similarity(scale, rotation, target_middle - scale * rotation @ source_middle)
