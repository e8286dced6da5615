"""Polygons to triangles, and the check that faces name existing vertices."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from face4d.errors import InputError


def triangulate(path: str | Path, polygons: np.ndarray | Sequence[np.ndarray]) -> np.ndarray:
    """Split polygons into fans: corners (0, k, k + 1) for k = 1..n-2, polygon after polygon.

    Args:
        path: file named in errors.
        polygons: (F, n) array, or one array of vertex indices per polygon.

    Returns:
        (F', 3) int32; triangles keep their corner order.

    Raises:
        InputError: a polygon with fewer than three corners.
    """
    if isinstance(polygons, np.ndarray) and polygons.ndim == 2:
        table = polygons.astype(np.int64)
    elif len({len(polygon) for polygon in polygons}) == 1:
        table = np.asarray(polygons).astype(np.int64)
    else:
        fans = [triangulate(path, np.asarray(polygon)[None]) for polygon in polygons]
        return np.concatenate(fans) if fans else np.empty((0, 3), np.int32)
    corners = table.shape[1]
    if corners < 3:
        raise InputError(path, "faces with three corners or more", f"one with {corners}")
    fan = np.stack([np.zeros(corners - 2, int), np.arange(1, corners - 1), np.arange(2, corners)], axis=1)
    return table[:, fan].reshape(-1, 3).astype(np.int32)


def check_indices(path: str | Path, faces: np.ndarray, num_vertices: int) -> None:
    """Raise :class:`InputError` when a face (F, 3) names a vertex outside 0..num_vertices-1."""
    if len(faces) and (faces.min() < 0 or faces.max() >= num_vertices):
        bad = int(faces.min() if faces.min() < 0 else faces.max())
        raise InputError(path, f"face indices 0 to {num_vertices - 1}", f"{bad}")
