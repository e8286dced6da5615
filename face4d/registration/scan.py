"""Scans of heads as surfaces: what a file holds, cleaned for registration and not changed otherwise."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.geometry import connected_components, vertex_normals
from face4d.mesh.sequence import read_mesh

_LEAST_PIECE = 0.002  # of the largest piece's area: smaller ones float about the scan
_LEAST_FACES = 200  # a head of fewer triangles has no features
_MOST_FACES = 150_000  # more are joined to about so many: 0.7 mm on a head


@dataclass(frozen=True)
class Scan:
    """A surface.

    Attributes:
        vertices: (V, 3) float64, any unit.
        faces: (F, 3), counter-clockwise as seen from outside.
        normals: (V, 3) unit.
        border: (V,) bool, where the surface ends.
    """

    vertices: np.ndarray
    faces: np.ndarray
    normals: np.ndarray
    border: np.ndarray

    @classmethod
    def of(cls, vertices: np.ndarray, faces: np.ndarray) -> Scan:
        return cls(vertices, faces, vertex_normals(vertices, faces), _border(len(vertices), faces))

    def moved(self, scale: float, rotation: np.ndarray, translation: np.ndarray) -> Scan:
        """The scan under x -> scale * rotation x + translation."""
        moved = scale * self.vertices @ rotation.T + translation
        return Scan(moved, self.faces, self.normals @ rotation.T, self.border)


def read_scan(path: str | Path) -> Scan:
    """Read and clean a scan: PLY, OBJ, OFF or STL.

    Raises:
        InputError: unreadable, points without a surface, or too little of one.
    """
    vertices, faces = read_mesh(path)
    if not len(faces):
        raise InputError(path, "a surface: triangles, not points alone (mesh them first)", f"{len(vertices)} points")
    return clean_scan(path, vertices.astype(np.float64), faces.astype(np.int64))


def clean_scan(path: str | Path, vertices: np.ndarray, faces: np.ndarray) -> Scan:
    """A surface for registration: vertices in one place are one, triangles without area and pieces that float about
    are gone, what lies inside out is turned over, and very fine meshes are coarser.

    Args:
        path: named in errors.
        vertices, faces: (V, 3) and (F, 3).

    Raises:
        InputError: too little of a surface.
    """
    extent = float(np.ptp(vertices, axis=0).max()) if len(vertices) else 0.0
    if not extent > 0:
        raise InputError(path, "the surface of a head", "all points in one place")
    vertices, faces = _joined(vertices, faces, extent * 1e-6)
    area = np.linalg.norm(_across(vertices, faces), axis=1)
    faces, area = faces[area > 0], area[area > 0]
    if len(faces):
        piece = connected_components(len(vertices), faces)[faces[:, 0]]
        sizes = np.bincount(piece, weights=area)
        faces = faces[sizes[piece] >= _LEAST_PIECE * sizes.max()]
    if len(faces) < _LEAST_FACES:
        raise InputError(path, f"the surface of a head ({_LEAST_FACES} triangles or more)", f"{len(faces)}")
    if len(faces) > _MOST_FACES:
        area = float(np.linalg.norm(_across(vertices, faces), axis=1).sum()) / 2
        vertices, faces = _joined(vertices, faces, 1.4 * np.sqrt(area / _MOST_FACES))
    vertices, faces = _used(vertices, faces)
    outward = np.einsum("fk,fk->", _across(vertices, faces), vertices[faces].mean(axis=1) - vertices.mean(axis=0))
    return Scan.of(vertices, faces[:, ::-1] if outward < 0 else faces)


def _across(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(F, 3) normals as long as twice the area."""
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    return np.cross(b - a, c - a)


def _joined(vertices: np.ndarray, faces: np.ndarray, cell: float) -> tuple[np.ndarray, np.ndarray]:
    """Vertices of one cell of a grid become their mean; triangles that this flattens go."""
    low = vertices.min(axis=0)
    cells = np.floor((vertices - low) / cell + 0.5).astype(np.int64)
    span = cells.max(axis=0) + 1
    key = (cells[:, 0] * span[1] + cells[:, 1]) * span[2] + cells[:, 2]
    _, number = np.unique(key, return_inverse=True)
    count = np.bincount(number)
    joined = np.stack([np.bincount(number, weights=vertices[:, k]) / count for k in range(3)], axis=1)
    faces = number[faces]
    whole = (faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 2] != faces[:, 0])
    faces = faces[whole]
    _, first = np.unique(np.sort(faces, axis=1), axis=0, return_index=True)  # each triangle once
    return joined, faces[np.sort(first)]


def _used(vertices: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    used, number = np.unique(faces, return_inverse=True)
    return vertices[used], number.reshape(faces.shape)


def _border(count: int, faces: np.ndarray) -> np.ndarray:
    """(V,) whether a vertex lies on an edge of one triangle alone."""
    edges = np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1)
    alone, times = np.unique(edges, axis=0, return_counts=True)
    border = np.zeros(count, dtype=bool)
    border[alone[times == 1].ravel()] = True
    return border
