"""Geometry of point sets and meshes: the similarity that aligns two point sets, normals, closest points on a mesh."""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.spatial import cKDTree


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


_CHUNK = 400_000  # pairs of a point and a triangle looked at together


def connected_components(num_vertices: int, faces: np.ndarray) -> np.ndarray:
    """(V,) number of the connected part that each vertex belongs to, by triangles (F, 3)."""
    edges = np.concatenate([faces[:, :2], faces[:, 1:]]).T
    graph = sparse.coo_matrix((np.ones(edges.shape[1]), tuple(edges)), shape=(num_vertices, num_vertices))
    return sparse.csgraph.connected_components(graph, directed=False)[1]


def corner_sum(faces: np.ndarray, num_vertices: int) -> sparse.csr_matrix:
    """Matrix (V, F) that adds up a value per face at its corners."""
    face_numbers = np.repeat(np.arange(len(faces)), 3)
    ones = np.ones(face_numbers.size)
    return sparse.csr_matrix((ones, (np.ravel(faces), face_numbers)), shape=(num_vertices, len(faces)))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray, sums: sparse.csr_matrix | None = None) -> np.ndarray:
    """Unit normals: at each vertex the area-weighted mean of the normals of its triangles; zero where there are none.

    (:func:`face4d.render.lit.vertex_normals` is the same for batches of tensors, differentiable.)

    Args:
        vertices: (V, 3).
        faces: (F, 3), counter-clockwise as seen from outside.
        sums: :func:`corner_sum` of the faces, for many meshes of one topology.

    Returns:
        (V, 3) float64.
    """
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces)
    sums = corner_sum(faces, len(vertices)) if sums is None else sums
    a, b, c = (vertices[faces[:, k]].T for k in range(3))
    (p, q, r), (u, v, w) = b - a, c - a
    normals = sums @ np.stack([q * w - r * v, r * u - p * w, p * v - q * u], axis=1)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.finfo(float).tiny)


class ClosestPoints(NamedTuple):
    """Points on a mesh closest to P given points."""

    face: np.ndarray  # (P,) int64, -1 where there is none within reach
    bary: np.ndarray  # (P, 3) float64, weights of that face's corners; 0 where there is none
    distance: np.ndarray  # (P,) float64, infinity where there is none


def closest_points(
    points: np.ndarray,
    vertices: np.ndarray,
    faces: np.ndarray,
    *,
    normals: np.ndarray | None = None,
    min_cosine: float = 0.2,
    reach: float = np.inf,
) -> ClosestPoints:
    """The closest point of a triangle mesh to each point, exactly.

    Args:
        points: (P, 3).
        vertices, faces: (V, 3) and (F, 3), the mesh.
        normals: (P, 3) unit; only triangles whose normal makes a cosine of at least ``min_cosine`` with a point's own
            are looked at, so that a point of the upper lip never lands on the lower.
        reach: farther points do not count.

    Triangles are kept by size, and those of one size are tried in the order of their centres' distances; a point is
    done with them when no further one, however large, can be nearer.
    """
    points, corners = np.asarray(points, np.float64), np.asarray(vertices, np.float64)[np.asarray(faces)]  # (F, 3, 3)
    centers = corners.mean(axis=1)
    radius = np.linalg.norm(corners - centers[:, None], axis=2).max(axis=1)
    facing = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    facing /= np.maximum(np.linalg.norm(facing, axis=1, keepdims=True), 1e-300)
    found = ClosestPoints(np.full(len(points), -1), np.zeros((len(points), 3)), np.full(len(points), np.inf))
    for members in _by_size(radius):
        tree, largest = cKDTree(centers[members]), radius[members].max()
        waiting: np.ndarray = np.arange(len(points))
        tried_before, count = 0, min(4, len(members))
        while waiting.size:
            undecided = []
            for part in np.array_split(waiting, -(-waiting.size * count // _CHUNK)):
                away, near = tree.query(points[part], k=[*range(tried_before + 1, count + 1)])  # (N, new) each
                near = members[near]
                tried = away - radius[near] <= np.minimum(found.distance[part], reach)[:, None]
                if normals is not None:
                    tried &= np.einsum("nkd,nd->nk", facing[near], normals[part]) >= min_cosine
                which = np.nonzero(tried)
                triangles, own = corners[near[which]], points[part[which[0]]]
                bary, distance = np.zeros((*near.shape, 3)), np.full(near.shape, np.inf)
                bary[which] = _on_triangles(own, triangles)
                distance[which] = np.linalg.norm((bary[which][..., None] * triangles).sum(axis=1) - own, axis=1)
                best = distance.argmin(axis=1)
                row = np.arange(len(part))
                at = distance[row, best]
                hit = np.flatnonzero((at <= reach) & (at < found.distance[part]))
                kept, chosen = part[hit], (row[hit], best[hit])
                found.face[kept], found.bary[kept], found.distance[kept] = near[chosen], bary[chosen], at[hit]
                undecided.append(part[away[:, -1] - largest < np.minimum(found.distance[part], reach)])
            waiting = np.concatenate(undecided) if count < len(members) else waiting[:0]
            tried_before, count = count, min(2 * count, len(members))
    return found


def _by_size(radius: np.ndarray) -> list[np.ndarray]:
    """Numbers of the triangles of about the same radius (F,), each at most twice another, the most frequent size
    first.
    """
    _, sizes = np.unique(
        np.floor(np.log2(np.maximum(radius, radius.max(initial=0) * 1e-3 + 1e-300))), return_inverse=True
    )
    return [np.flatnonzero(sizes == size) for size in np.bincount(sizes).argsort(kind="stable")[::-1]]


def _on_triangles(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Barycentric weights (..., 3) of the points of triangles (..., 3, 3) closest to points (..., 3).

    The foot of the perpendicular where it lies inside, else the closest of the points on the three sides.
    """
    a, b, c = corners[..., 0, :], corners[..., 1, :], corners[..., 2, :]
    ab, ac, ap = b - a, c - a, points - a
    d00, d01, d11 = (ab * ab).sum(-1), (ab * ac).sum(-1), (ac * ac).sum(-1)
    d20, d21 = (ap * ab).sum(-1), (ap * ac).sum(-1)
    size = d00 * d11 - d01 * d01
    with np.errstate(divide="ignore", invalid="ignore"):  # triangles without area have sides all the same
        v, w = (d11 * d20 - d01 * d21) / size, (d00 * d21 - d01 * d20) / size
    inside = (v >= 0) & (w >= 0) & (v + w <= 1)
    best = np.stack([1 - v - w, v, w], axis=-1)
    nearest = np.full(inside.shape, np.inf)
    for first, second in ((0, 1), (1, 2), (2, 0)):
        start, side = corners[..., first, :], corners[..., second, :] - corners[..., first, :]
        along = np.clip(((points - start) * side).sum(-1) / np.maximum((side * side).sum(-1), 1e-300), 0, 1)
        distance = ((start + along[..., None] * side - points) ** 2).sum(-1)
        closer = ~inside & (distance < nearest)
        nearest = np.where(closer, distance, nearest)
        weights = np.zeros(best.shape)
        weights[..., first], weights[..., second] = 1 - along, along
        best = np.where(closer[..., None], weights, best)
    return best


def head_rotation(yaw: float, pitch: float) -> np.ndarray:
    """(3, 3) rotation of a head by degrees: to its own left, then the forehead towards the viewer."""
    about_y, about_x = np.deg2rad([yaw, pitch])
    sideways = np.array([[np.cos(about_y), 0, np.sin(about_y)], [0, 1, 0], [-np.sin(about_y), 0, np.cos(about_y)]])
    down = np.array([[1, 0, 0], [0, np.cos(about_x), -np.sin(about_x)], [0, np.sin(about_x), np.cos(about_x)]])
    return down @ sideways
