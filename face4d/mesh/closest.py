"""Exact closest points on a triangle mesh, for many points at once."""

from __future__ import annotations

import numpy as np
from scipy.spatial import cKDTree

_FIRST_NEIGHBOURS = 4
_PAIRS = 1 << 20  # of points and triangles at a time


class ClosestPoints:
    """A mesh prepared for :meth:`of`.

    Triangles are kept by size in trees of their centres. A point's search of a tree ends when the next centre is further away than the best
    triangle found plus the largest radius in the tree; so the answer is exact.

    Args:
        vertices: (V, 3).
        faces: (F, 3), at least one.

    Raises:
        ValueError: no faces, or coordinates that are not finite.
    """

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        corners = np.asarray(vertices, dtype=np.float64)[np.asarray(faces)]  # (F, 3, 3)
        if len(corners) == 0 or not np.isfinite(corners).all():
            raise ValueError("expected a mesh with faces and finite coordinates")
        middles = (corners.min(axis=1) + corners.max(axis=1)) / 2
        radii = np.linalg.norm(corners - middles[:, None], axis=2).max(axis=1)
        self._corners = cKDTree(np.unique(corners.reshape(-1, 3), axis=0))
        sizes = np.floor(np.log2(np.maximum(radii, radii.max() * 1e-3 + 1e-300)))
        self._groups = []  # (tree of centres, corners (F', 3, 3), largest radius), those with most triangles first
        for size, _ in sorted(zip(*np.unique(sizes, return_counts=True)), key=lambda pair: -pair[1]):
            members = sizes == size
            self._groups.append((cKDTree(middles[members]), corners[members], float(radii[members].max())))

    def of(self, points: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Closest points (N, 3) on the mesh to points (N, 3), and their distances (N,)."""
        points = np.asarray(points, dtype=np.float64)
        distances, numbers = self._corners.query(points)  # a first bound
        closest = self._corners.data[numbers]
        step = _PAIRS // (16 * _FIRST_NEIGHBOURS)
        for begin in range(0, len(points), step):
            part = slice(begin, begin + step)
            for tree, corners, radius in self._groups:
                _search(points[part], closest[part], distances[part], tree, corners, radius)
        return closest, distances


def _search(points: np.ndarray, closest: np.ndarray, distances: np.ndarray, tree: cKDTree, corners: np.ndarray, radius: float) -> None:
    """Improve closest points and distances in place by the triangles of one tree."""
    open_points, seen, count = np.arange(len(points)), 0, min(_FIRST_NEIGHBOURS, tree.n)
    while len(open_points):
        reach, numbers = tree.query(points[open_points], k=np.arange(seen + 1, count + 1))  # (M, new) each
        possible = reach - radius <= distances[open_points, None]
        row, column = np.nonzero(possible)
        found, gap = closest_on_triangles(points[open_points[row]], corners[numbers[row, column]])
        order = np.lexsort((gap, row))
        row, gap, found = row[order], gap[order], found[order]
        first = np.flatnonzero(np.r_[True, row[1:] != row[:-1]]) if len(row) else np.empty(0, np.int64)
        point = open_points[row[first]]
        better = gap[first] < distances[point]
        distances[point[better]], closest[point[better]] = gap[first][better], found[first][better]
        if count == tree.n:
            return
        open_points = open_points[reach[:, -1] - radius < distances[open_points]]
        seen, count = count, min(2 * count, tree.n)


def closest_on_triangles(points: np.ndarray, corners: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Closest points (N, 3), and distances (N,), of points (N, 3) to one triangle (N, 3, 3) each; triangles may be degenerate.

    The foot of the perpendicular where it lies inside, else the closest point of the three sides.
    """
    a = corners[:, 0]
    ab, ac, ap = corners[:, 1] - a, corners[:, 2] - a, points - a
    normal = np.cross(ab, ac)
    square = (normal**2).sum(axis=1)
    safe = np.where(square > 0, square, 1)
    share_c = (np.cross(ab, ap) * normal).sum(axis=1) / safe
    share_b = (np.cross(ap, ac) * normal).sum(axis=1) / safe
    inside = (square > 0) & (share_b >= 0) & (share_c >= 0) & (share_b + share_c <= 1)
    best = a + share_b[:, None] * ab + share_c[:, None] * ac
    distances = np.where(inside, np.linalg.norm(points - best, axis=1), np.inf)
    outside = np.flatnonzero(~inside)
    for side in range(3):
        start = corners[outside, side]
        along = corners[outside, (side + 1) % 3] - start
        length = (along**2).sum(axis=1)
        share = np.clip(((points[outside] - start) * along).sum(axis=1) / np.where(length > 0, length, 1), 0, 1)
        foot = start + share[:, None] * along
        gap = np.linalg.norm(points[outside] - foot, axis=1)
        nearer = gap < distances[outside]
        best[outside[nearer]], distances[outside[nearer]] = foot[nearer], gap[nearer]
    return best, distances
