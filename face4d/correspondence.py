"""Retargeting: landmarks and dense motion of one topology carried over to another head.

The link is a copy of the first topology (FLAME, say) registered to the head: same pose, same place, its surface on the
head's. The 68 landmarks go to the closest points of the head; every vertex of the head moves as the closest point of
the copy does. Closest points are taken among triangles that face the same way, so upper and lower lip stay apart. Where
the copy does not cover the head (the inside of a mouth, a longer neck) the displacement is continued smoothly: it
solves Laplace's equation on the head's edges. Pieces that the copy does not touch at all (hair, teeth, glasses) move as
a whole with what is near them.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import splu

from face4d.errors import InputError
from face4d.landmarks import (
    LandmarkEmbedding,
    check_mesh,
    extract,
    load_embedding,
    mesh_remarks,
    save_embedding,
)
from face4d.mesh.geometry import closest_points
from face4d.mesh.plausibility import check_face, check_head, report
from face4d.mesh.triangles import check_surface
from face4d.runtime.arrays import load_npz
from face4d.runtime.atomic import replacing

REACH = 0.006  # metres: what lies farther from the copy is not covered by it


@dataclass(frozen=True)
class Correspondence:
    """How a target head hangs on a registered copy of a source topology.

    Attributes:
        embedding: the 68 landmarks on the target; holds the target's triangles.
        registered: (V_s, 3) float32 metres, the copy.
        registered_faces: (F_s, 3) int32.
        neutral: (V, 3) float32 metres, the target as it was fitted.
        face: (V,) int64, face of the copy that each target vertex hangs on, -1 where the copy does not cover the
            target.
        bary: (V, 3) float64, weights of that face's corners.
    """

    embedding: LandmarkEmbedding
    registered: np.ndarray
    registered_faces: np.ndarray
    neutral: np.ndarray
    face: np.ndarray
    bary: np.ndarray

    @property
    def covered(self) -> float:
        """Share of the target's vertices that the copy covers."""
        return float((self.face >= 0).mean())

    def transfer(self, displacement: np.ndarray) -> np.ndarray:
        """Displacements (T, V, 3) of the target's vertices for displacements (T, V_s, 3) of the copy's, any unit,
        float32.
        """
        frames, count = len(displacement), len(self.face)
        # (V_s, 3 T)
        columns = np.moveaxis(np.asarray(displacement, np.float64), 0, 1).reshape(len(self.registered), -1)
        known, direct, inner, boundary, solver = self._operator
        moved = np.zeros((count, 3 * frames))
        moved[known] = direct @ columns
        if inner.size:
            moved[inner] = solver.solve(-(boundary @ moved[known]))
        return np.moveaxis(moved.reshape(count, frames, 3), 1, 0).astype(np.float32)

    @cached_property
    def _operator(self) -> tuple[np.ndarray, Any, np.ndarray, Any, Any]:
        """Vertices whose motion is read off the copy, the matrix that does it, the other vertices, and Laplace's
        equation for them.
        """
        count, columns = len(self.face), len(self.registered)
        faces = self.embedding.faces
        edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]).astype(np.int64)
        length = np.linalg.norm(self.neutral[edges[:, 0]].astype(np.float64) - self.neutral[edges[:, 1]], axis=1)
        weight = 1 / np.maximum(length, 1e-6)
        graph = sparse.csr_matrix((weight, edges.T), shape=(count, count))
        graph = graph + graph.T
        rows = _rows(self.face, self.bary, self.registered_faces, columns)
        covered = self.face >= 0
        pieces, piece = sparse.csgraph.connected_components(graph, directed=False)
        held = np.bincount(piece, weights=covered, minlength=pieces) > 0
        loose = ~held[piece]
        if loose.any():
            around = closest_points(self.neutral[loose], self.registered, self.registered_faces)
            near = _rows(around.face, around.bary, self.registered_faces, columns)
            mean = sparse.csr_matrix(
                (np.ones(loose.sum()), (piece[loose], np.arange(loose.sum()))), shape=(pieces, loose.sum())
            )
            size = np.maximum(np.bincount(piece, weights=loose, minlength=pieces), 1)
            together = sparse.diags(1 / size) @ mean @ near  # (pieces, V_s)
            rows = rows + sparse.diags(loose.astype(float)) @ together[piece]
        known, inner = np.flatnonzero(covered | loose), np.flatnonzero(~covered & ~loose)
        laplacian = (sparse.diags(np.asarray(graph.sum(axis=1)).ravel()) - graph).tocsr()[inner]
        solver = splu(laplacian[:, inner].tocsc()) if inner.size else None
        return known, rows.tocsr()[known], inner, laplacian[:, known], solver


def _rows(face: np.ndarray, bary: np.ndarray, faces: np.ndarray, columns: int) -> sparse.csr_matrix:
    """(P, V) matrix that reads values at points on faces; empty rows where the face is -1."""
    there = np.flatnonzero(face >= 0)
    corners = faces[face[there]]
    return sparse.csr_matrix((bary[there].ravel(), (np.repeat(there, 3), corners.ravel())), shape=(len(face), columns))


def fit_embedding(
    source: LandmarkEmbedding,
    registered: np.ndarray,
    target: np.ndarray,
    target_faces: np.ndarray,
    *,
    name: str | Path = "target",
) -> Correspondence:
    """Hang a target head on a registered copy of the source topology.

    Args:
        source: the landmarks on the copy's topology.
        registered: (V_s, 3) metres, the copy.
        target, target_faces: (V, 3) metres and (F, 3), the head.
        name: of the head, for errors.

    Raises:
        InputError: the copy has another topology or does not lie on the head; the head is no manifold surface, is
            turned inside out or not in metres.
    """
    registered, target = np.asarray(registered, np.float64), np.asarray(target, np.float64)
    points = extract(source, registered)
    check_face("registered copy", points)
    larger = np.ptp(target, axis=0).max() / np.ptp(registered, axis=0).max()
    if not 0.1 < larger < 10:  # a body may hang on a copy of its head; no other unit is nearer
        check_head(name, target)
    check_surface(name, target_faces)
    out_of_copy, out_of_target = _vertex_normals(registered, source.faces), _vertex_normals(target, target_faces)
    at = (out_of_copy[source.corners] * source.bary[..., None]).sum(axis=1)
    at /= np.maximum(np.linalg.norm(at, axis=1, keepdims=True), 1e-300)
    places = closest_points(points, target, target_faces, normals=at, reach=REACH)
    missing = np.flatnonzero(places.face < 0)
    if missing.size:
        away = closest_points(points, target, target_faces).distance
        if (away[missing] <= REACH).sum() > len(points) // 2:
            raise InputError(
                name,
                "triangles that run counter-clockwise seen from outside",
                "flipped faces: the surface is turned inside out",
            )
        worst = int(missing[away[missing].argmax()])
        found = f"landmark {worst + 1} {1e3 * away[worst]:.1f} mm off, {missing.size} of 68 without a place on it"
        raise InputError(name, f"a surface within {1e3 * REACH:.0f} mm of the registered copy's landmarks", found)
    own = LandmarkEmbedding(places.face, places.bary, np.asarray(target_faces, np.int32), len(target))
    hung = closest_points(target, registered, source.faces, normals=out_of_target, reach=REACH)
    return Correspondence(
        own,
        registered.astype(np.float32),
        source.faces.astype(np.int32),
        target.astype(np.float32),
        hung.face,
        hung.bary,
    )


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3), weighted by area; zero for vertices in no triangle, which then lie on nothing."""
    a, b, c = (vertices[faces[:, corner]] for corner in range(3))
    normals = np.zeros_like(vertices)
    across = np.cross(b - a, c - a)
    for corner in range(3):
        np.add.at(normals, faces[:, corner], across)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-300)


def check_copy(path: str | Path, vertices: np.ndarray, faces: np.ndarray, source: LandmarkEmbedding) -> None:
    """Refuse a registered copy of another topology than the source's, with triangles turned over, or that is no face in
    metres.

    Raises:
        InputError: says which.
    """
    report(path, mesh_remarks(str(path), faces, check_mesh(path, vertices, faces, source)))


def check_target(path: str | Path, vertices: np.ndarray, faces: np.ndarray, correspondence: Correspondence) -> None:
    """Refuse a target mesh of another topology than the one that was fitted, or that is no face in metres.

    Raises:
        InputError: says how it differs.
    """
    landmarks = check_mesh(path, vertices, faces, correspondence.embedding, "the mesh the embedding was fitted to")
    report(path, mesh_remarks(str(path), faces, landmarks))


_ARRAYS = ("registered", "registered_faces", "neutral", "closest_face", "closest_bary")


def save_correspondence(path: str | Path, correspondence: Correspondence) -> None:
    """Write an npz that is a landmark embedding (:func:`face4d.landmarks.load_embedding`) with the dense link beside
    it.
    """
    with replacing(path) as temporary:
        save_embedding(temporary, correspondence.embedding)
        arrays: dict[str, Any] = load_npz(temporary, "a landmark embedding")
        dense = (
            correspondence.registered,
            correspondence.registered_faces,
            correspondence.neutral,
            correspondence.face,
            correspondence.bary,
        )
        with open(temporary, "wb") as file:
            np.savez_compressed(file, **(arrays | dict(zip(_ARRAYS, dense))))


def load_correspondence(path: str | Path) -> Correspondence:
    """Read what :func:`save_correspondence` wrote.

    Raises:
        InputError: no such file, or a landmark embedding without the dense link (then made by hand, not fitted).
    """
    embedding = load_embedding(path)
    expected = "an embedding made by python -m face4d landmarks"
    arrays = load_npz(path, expected, optional=_ARRAYS)
    if missing := [name for name in _ARRAYS if name not in arrays]:
        raise InputError(path, expected, f"one without {', '.join(missing)}")
    registered, faces, neutral, face, bary = (arrays[name] for name in _ARRAYS)
    fits = (
        registered.dtype.kind == neutral.dtype.kind == bary.dtype.kind == "f"
        and faces.dtype.kind in "iu" and face.dtype.kind in "iu"
        and registered.ndim == 2 and registered.shape[1:] == (3,) and faces.ndim == 2 and faces.shape[1:] == (3,)
        and neutral.shape == bary.shape == (embedding.num_vertices, 3) and face.shape == (embedding.num_vertices,)
        and faces.min(initial=0) >= 0 and faces.max(initial=-1) < len(registered)
        and face.min(initial=0) >= -1 and face.max(initial=-1) < len(faces)
        and all(np.isfinite(array).all() for array in (registered, neutral, bary))
    )  # fmt: skip
    if not fits:
        raise InputError(path, "arrays that fit each other", "others")
    return Correspondence(embedding, registered, faces, neutral, face.astype(np.int64), bary)
