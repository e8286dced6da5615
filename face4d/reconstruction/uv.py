"""Where the points of a face lie in a texture: the layout of a template OBJ, or one made by unwrapping."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.sparse import coo_array
from scipy.sparse.csgraph import connected_components

from face4d.errors import InputError
from face4d.mesh.obj import coordinates, corner_indices, read_obj, read_text, statements
from face4d.mesh.rasterizer import rasterize

LAYOUT_FILES = ("head_template.obj", "head_template_mesh.obj", "template.obj")  # of DECA, of the FLAME site, of CoMA
_STRIP = 0.15  # height of the strip below the skin that holds loose and hidden parts
_GAP = 0.01
_RESOLUTION = 768  # of the map on which is seen what lies under what


@dataclass(frozen=True)
class UvLayout:
    """A mesh's triangles in the unit square.

    Attributes:
        points: (U, 2) u to the right and v upwards, 0..1.
        faces: (F, 3) int64 rows of ``points``, in the order and orientation of ``mesh_faces``.
        mesh_faces: (F, 3) int64 rows of the mesh's vertices.
        is_published: read from a file, so that published networks that draw maps in it can be used.
    """

    points: np.ndarray
    faces: np.ndarray
    mesh_faces: np.ndarray
    is_published: bool

    def vertex_of_point(self) -> np.ndarray:
        """(U,) the mesh vertex of each point; where a seam cuts, several points have one vertex."""
        vertex = np.zeros(len(self.points), np.int64)
        vertex[self.faces] = self.mesh_faces
        return vertex


def find_layout(folder: str | Path | None, template: np.ndarray, faces: np.ndarray) -> UvLayout:
    """The layout of the first of ``LAYOUT_FILES`` in ``folder`` that has one for this mesh, else :func:`unwrap`.

    Args:
        folder: of the face model, or None.
        template: (V, 3) metres.
        faces: (F, 3).
    """
    for path in (Path(folder) / name for name in LAYOUT_FILES) if folder is not None else ():
        if path.is_file():
            layout = read_layout(path)
            if layout is not None and len(layout.mesh_faces) == len(faces) and layout.mesh_faces.max() < len(template):
                return layout
    return unwrap(template, faces)


def read_layout(path: str | Path) -> UvLayout | None:
    """Texture coordinates (``vt`` and ``f v/vt`` lines) of an OBJ file of triangles; None when it has none.

    Raises:
        InputError: not an OBJ file, texture coordinates that are cut short or not finite, a texture index of none.
    """
    _, mesh_faces = read_obj(path)
    points, corners, lines = [], [], []
    for number, words in statements(path, read_text(path)):
        if words[0] == b"vt":
            points.append(coordinates(path, number, words, 2))
        elif words[0] == b"f" and len(words) == 4 and all(word.partition(b"/")[2].partition(b"/")[0] for word in words[1:]):
            corners.append(corner_indices(path, number, words, 1, len(points)))
            lines.append(number)
    if not points or len(corners) != len(mesh_faces):
        return None
    for number, corner in zip(lines, corners):
        if max(corner) >= len(points):
            raise InputError(f"{path}:{number}", f"texture indices 1 to {len(points)}", f"{max(corner) + 1}")
    return UvLayout(np.array(points), np.array(corners, np.int64), mesh_faces.astype(np.int64), is_published=True)


def unwrap(template: np.ndarray, faces: np.ndarray) -> UvLayout:
    """Unwrap a head about its vertical axis, the seam at the back.

    What that would lay over the skin in front of it (the mouth's inside) and loose parts (eyeballs, teeth) lie in a strip below, as seen from
    the front.

    Args:
        template: (V, 3) metres, y upwards, the face towards +z.
        faces: (F, 3).

    Returns:
        A layout with ``is_published`` False.
    """
    template, faces = np.asarray(template, np.float64), np.asarray(faces, np.int64)
    part = connected_parts(len(template), faces)[faces[:, 0]]  # (F,) 0 = the skin
    skin = np.flatnonzero(part == 0)
    points, corners, radius = _cylinder(template, faces[skin])
    hidden = _hidden(points, corners, radius)
    part[skin[hidden]] = part.max() + 1
    strip = _STRIP + _GAP
    all_points, uv_faces = [points * [1.0, 1 - strip] + [0.0, strip]], np.empty_like(faces)
    uv_faces[skin] = corners
    count, used = part.max(), len(points)
    for number in range(1, count + 1):
        chosen = part == number
        vertices, corners = np.unique(faces[chosen], return_inverse=True)
        size = np.array([1 / count, _STRIP]) - _GAP
        all_points.append(_stretched(template[vertices, :2]) * size + [(number - 1) / count, 0.0])
        uv_faces[chosen] = corners.reshape(-1, 3) + used
        used += len(vertices)
    return UvLayout(np.concatenate(all_points), uv_faces, faces, is_published=False)


def _cylinder(template: np.ndarray, faces: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Points (U, 2) in 0..1 of triangles (F, 3) around the vertical axis, their rows (F, 3), and each point's distance from the axis (U,)."""
    vertices, corners = np.unique(faces, return_inverse=True)
    corners, place = corners.reshape(-1, 3), template[vertices]
    x, z = (place[:, axis] - (place[:, axis].max() + place[:, axis].min()) / 2 for axis in (0, 2))
    points = np.stack([np.arctan2(x, z) / (2 * np.pi) + 0.5, _stretched(place[:, 1])], axis=1)  # u = 0.5 in front
    radius = np.hypot(x, z)
    left = (np.ptp(points[corners, 0], axis=1) > 0.5)[:, None] & (points[corners, 0] < 0.5)  # over the seam: again, one turn further
    doubled, numbers = np.unique(corners[left], return_inverse=True)
    corners[left] = len(points) + numbers.ravel()
    points = np.concatenate([points, points[doubled] + [1.0, 0.0]])
    points[:, 0] = _stretched(points[:, 0])
    return points, corners, np.concatenate([radius, radius[doubled]])


def _hidden(points: np.ndarray, faces: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(F,) bool: triangles that lie under others on the map for the most part, the outermost being on top."""
    triangle, _, _ = rasterize(np.column_stack([points * _RESOLUTION, -radius]), faces, _RESOLUTION, _RESOLUTION)
    shown = np.bincount(triangle[triangle >= 0], minlength=len(faces))
    a, b, c = (points[faces] * _RESOLUTION).transpose(1, 0, 2)
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    return (area > 1) & (shown < 0.5 * area)


def connected_parts(num_vertices: int, faces: np.ndarray) -> np.ndarray:
    """(V,) the connected part of each vertex, the largest first; vertices without a face belong to the largest."""
    edges = np.concatenate([faces[:, :2], faces[:, 1:]])
    graph = coo_array((np.ones(len(edges)), edges.T), shape=(num_vertices, num_vertices))
    _, part = connected_components(graph, directed=False)
    used = np.unique(part[faces[:, 0]])
    ranks = used[np.argsort(-np.bincount(part)[used], kind="stable")]
    order = np.zeros(part.max() + 1, np.int64)
    order[ranks] = np.arange(len(ranks))
    return order[part]


def _stretched(values: np.ndarray) -> np.ndarray:
    """Values (N, ...) over 0..1, each column on its own."""
    low, high = values.min(axis=0), values.max(axis=0)
    return (values - low) / np.maximum(high - low, 1e-12)
