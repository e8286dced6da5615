"""Where the 468 points of MediaPipe's landmark network lie on heads of one topology, measured on pictures of them.

The network's points are no fixed places of a head: those of the outline slide over it as it turns, as the contour of
the 68 does, and inner points follow a little. So there is a place for every yaw of a table, and between two yaws the
point between them.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.optimize import linear_sum_assignment
from scipy.sparse import csr_matrix
from scipy.spatial.distance import cdist

from face4d.constants import MM_PER_METRE
from face4d.errors import InputError
from face4d.mesh.geometry import connected_components
from face4d.mesh.triangles import checksum
from face4d.photos.face_points import NUM_POINTS
from face4d.runtime.arrays import load_npz
from face4d.runtime.atomic import save_npz

PACKAGE = Path(__file__).parent
PACKAGED = {"flame": "points_flame.npz", "anny": "points_anny.npz"}  # there
_ROUNDS = 6  # of reweighting
_FLAT = 1e-12  # square metres, added to the normal equations of triangles that no picture shows from the front
_LEAST_SHOWN = 0.2  # of the pictures: vertices shown more rarely hold no point


@dataclass(frozen=True)
class PointEmbedding:
    """Places of the points on a topology.

    Attributes:
        yaw: (A,) degrees, rising; positive where the face is turned to its own left.
        face_idx: (A, 468) the face of each point.
        bary: (A, 468, 3) weights of that face's corners.
        spread: (A, 468) metres: median distance, across the line of sight, of the point seen from the place.
        num_vertices: of the topology.
        checksum: of the topology's faces in their order.
    """

    yaw: np.ndarray
    face_idx: np.ndarray
    bary: np.ndarray
    spread: np.ndarray
    num_vertices: int
    checksum: int

    def fits(self, num_vertices: int, faces: np.ndarray) -> bool:
        """Whether a mesh has the topology."""
        return num_vertices == self.num_vertices and checksum(faces) == self.checksum

    def at(self, yaw: float, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """Places on a head turned by ``yaw`` degrees, beyond the table as at its end.

        Args:
            faces: (F, 3) of the topology.

        Returns:
            (468, 6) vertices and (468, 6) their weights, whose rows sum to 1; (468,) spread, metres.
        """
        place = float(np.interp(yaw, self.yaw, np.arange(len(self.yaw))))
        low = min(int(place), len(self.yaw) - 2) if len(self.yaw) > 1 else 0
        high = min(low + 1, len(self.yaw) - 1)
        share = place - low
        corners = np.concatenate([faces[self.face_idx[low]], faces[self.face_idx[high]]], axis=1)
        weights = np.concatenate([self.bary[low] * (1 - share), self.bary[high] * share], axis=1)
        return corners, weights, self.spread[low] * (1 - share) + self.spread[high] * share

    def points(self, vertices: np.ndarray, faces: np.ndarray, yaw: float) -> np.ndarray:
        """(468, 3) points of a head (V, 3) that is seen turned by ``yaw`` degrees."""
        corners, weights, _ = self.at(yaw, faces)
        return np.einsum("nk,nkd->nd", weights, vertices[corners])


def save_point_embedding(path: str | Path, embedding: PointEmbedding) -> None:
    """Write an embedding as the npz that :func:`load_point_embedding` reads."""
    save_npz(
        path,
        {
            "yaw": embedding.yaw.astype(np.float32),
            "face_idx": embedding.face_idx.astype(np.int32),
            "bary": embedding.bary.astype(np.float32),
            "spread": embedding.spread.astype(np.float32),
            "topology": np.array([embedding.num_vertices, embedding.checksum], np.int64),
        },
    )


def load_point_embedding(path: str | Path) -> PointEmbedding:
    """Read an embedding, one of ``PACKAGED`` by name.

    Raises:
        InputError: no such file, or another content.
    """
    path = PACKAGE / PACKAGED[str(path)] if str(path) in PACKAGED else Path(path)
    expected = f"an embedding of {NUM_POINTS} points (.npz of arrays yaw, face_idx, bary, spread, topology)"
    arrays = load_npz(path, expected, ("yaw", "face_idx", "bary", "spread", "topology"), ())
    yaw, face_idx, bary, spread, topology = (arrays[name] for name in ("yaw", "face_idx", "bary", "spread", "topology"))
    count = len(yaw) if yaw.ndim == 1 else 0
    shapes = {"face_idx": (count, NUM_POINTS), "bary": (count, NUM_POINTS, 3), "spread": (count, NUM_POINTS)}
    for name, shape in shapes.items():
        if count == 0 or arrays[name].shape != shape or arrays[name].dtype.kind not in "iuf":
            raise InputError(path, expected, f"yaw {yaw.shape} and {name} {arrays[name].dtype} {arrays[name].shape}")
    whole = face_idx.dtype.kind in "iu" and topology.dtype.kind in "iu" and topology.shape == (2,)
    if not whole or face_idx.min() < 0 or topology.min() < 0:
        raise InputError(path, expected, "numbers of faces or of the topology that are none")
    real = yaw.dtype.kind in "iuf" and all(np.isfinite(part).all() for part in (yaw, bary, spread))
    if not real or (np.diff(yaw) <= 0).any() or bary.min() < -1e-3 or np.abs(bary.sum(-1) - 1).max() > 1e-3:
        raise InputError(path, expected, "yaws that do not rise, or weights outside their triangle")
    return PointEmbedding(
        yaw.astype(float), face_idx.astype(int), bary.astype(float), spread.astype(float), *map(int, topology)
    )


class HeadView(NamedTuple):
    """A head of known geometry in a picture, and where the network sees its points.

    Attributes:
        head: number of the head.
        yaw: degrees.
        placed: (V, 2) vertices, metres across the line of sight.
        shown: (V,) bool, vertices of triangles that the picture shows.
        seen: (468, 2) points, in the same axes and unit.
    """

    head: int
    yaw: float
    placed: np.ndarray
    shown: np.ndarray
    seen: np.ndarray


def measure_embedding(
    views: Sequence[HeadView], faces: np.ndarray, folds: int = 4
) -> tuple[PointEmbedding, np.ndarray]:
    """The places that bring the points nearest to where they are seen, in the sense of the sum of distances (which few
    large errors do not move), for every yaw by itself.

    Of all vertices of the skin that pictures of this yaw show, the best is found first, then the best point of the
    triangles around it, by least squares reweighted by the inverse distance.

    Args:
        views: several heads of one topology, seen from several sides.
        faces: (F, 3).
        folds: groups of heads that are left out in turn.

    Returns:
        the embedding of all heads; and (N, 468) distances, metres, of every view from the embedding of the other
        groups' heads.
    """
    count = len(views[0].placed)
    piece = connected_components(count, faces)
    skin = piece == np.bincount(piece).argmax()
    at_vertex = _faces_at_vertices(faces, count)
    group = np.array([view.head for view in views]) % folds
    yaws = np.unique([view.yaw for view in views])
    rows, left_out = [], np.full((len(views), NUM_POINTS), np.nan)
    for yaw in yaws:
        own = np.array([number for number, view in enumerate(views) if view.yaw == yaw])
        placed, seen = (np.stack([getattr(views[number], name) for number in own]) for name in ("placed", "seen"))
        shown = np.mean([views[number].shown for number in own], axis=0)
        candidates = np.flatnonzero(skin & (shown >= _LEAST_SHOWN))
        costs = np.zeros((folds, NUM_POINTS, len(candidates)), np.float32)
        for number, vertices, points in zip(own, placed, seen):
            costs[group[number]] += cdist(points, vertices[candidates])
        for fold in range(folds):
            held = group[own] == fold
            if held.any() and not held.all():
                start = candidates[(costs.sum(0) - costs[fold]).argmin(axis=1)]
                face_idx, bary = _refined(placed[~held], seen[~held], start, faces, at_vertex)
                left_out[own[held]] = _distances(placed[held], seen[held], faces[face_idx], bary)
        face_idx, bary = _refined(placed, seen, candidates[costs.sum(0).argmin(axis=1)], faces, at_vertex)
        rows.append((face_idx, bary, np.median(_distances(placed, seen, faces[face_idx], bary), axis=0)))
    places, weights, spread = (np.stack(part) for part in zip(*rows))
    return PointEmbedding(yaws, places, weights, spread, count, checksum(faces)), left_out


def errors_by_yaw(
    embedding: PointEmbedding, views: Sequence[HeadView], left_out: np.ndarray
) -> list[tuple[float, float, float]]:
    """Yaw, median and 90th percentile, millimetres, of what :func:`measure_embedding` gives of views."""
    yaws = np.array([view.yaw for view in views])
    shares = [np.nanpercentile(MM_PER_METRE * left_out[yaws == yaw], [50, 90]) for yaw in embedding.yaw]
    return [(float(yaw), float(half), float(most)) for yaw, (half, most) in zip(embedding.yaw, shares)]


def mirror_partners(points: np.ndarray) -> np.ndarray:
    """(N,) the point of the other half that each mirrors, of points (N, 2 or 3) on a head whose middle is x = 0."""
    flipped = points * [-1, *[1] * (points.shape[1] - 1)]
    distances = cdist(flipped, points)
    return linear_sum_assignment(distances + distances.T)[1]


def _faces_at_vertices(faces: np.ndarray, count: int) -> csr_matrix:
    """(V, F): the numbers of the faces at a vertex are the columns of its row."""
    corner = np.arange(faces.size)
    return csr_matrix((np.ones(faces.size, bool), (faces.ravel(), corner // 3)), shape=(count, len(faces)))


def _refined(
    placed: np.ndarray, seen: np.ndarray, start: np.ndarray, faces: np.ndarray, at_vertex: csr_matrix
) -> tuple[np.ndarray, np.ndarray]:
    """(N,) faces and (N, 3) weights: of the places in triangles at vertices (N,) those with the least sum of distances
    from points (M, N, 2) in views of vertices (M, V, 2).

    Every point is tried on every triangle at its vertex: P pairs, of which only dot products enter.
    """
    count = np.diff(at_vertex.indptr)[start]
    point, tried = np.repeat(np.arange(len(start)), count), at_vertex[start].indices  # (P,) each
    a, b, c = (placed[:, faces[tried, corner]] for corner in range(3))  # (M, P, 2) each
    a, b, aim = a - c, b - c, seen[:, point] - c
    aa, ab, bb, at, bt, tt = (
        np.einsum("mpd,mpd->mp", one, other) for one, other in ((a, a), (a, b), (b, b), (a, aim), (b, aim), (aim, aim))
    )
    weights = np.ones(aim.shape[:2])
    for _ in range(_ROUNDS):  # the 2 x 2 normal equations of the shares u, v of corners a, b
        naa, nab, nbb, nat, nbt = (np.einsum("mp,mp->p", weights, part) for part in (aa, ab, bb, at, bt))
        naa, nbb = naa + _FLAT, nbb + _FLAT
        area = naa * nbb - nab**2
        u, v = (nat * nbb - nbt * nab) / area, (nbt * naa - nat * nab) / area
        bary = np.clip(np.stack([u, v, 1 - u - v], axis=1), 0, None)
        bary /= bary.sum(axis=1, keepdims=True)
        u, v = bary[:, 0], bary[:, 1]
        away = np.sqrt(np.maximum(tt - 2 * (u * at + v * bt) + u**2 * aa + 2 * u * v * ab + v**2 * bb, 0))
        weights = 1 / (away + 1e-4)  # metres
    order = np.lexsort((away.sum(axis=0), point))
    best = order[np.cumsum(count) - count]
    return tried[best], bary[best]


def _distances(placed: np.ndarray, seen: np.ndarray, corners: np.ndarray, bary: np.ndarray) -> np.ndarray:
    """(M, 468) distances of points seen (M, 468, 2) from places, given by corners (468, 3) and weights."""
    return np.linalg.norm(np.einsum("mnkd,nk->mnd", placed[:, corners], bary) - seen, axis=-1)
