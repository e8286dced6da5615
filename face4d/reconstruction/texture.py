"""Maps over a face's surface: the texture that a photo shows, and a mesh of the surface with its fine displacement.

A map is a picture in the layout's unit square, row 0 at v = 1; texel (row, column) lies at its centre, as viewers sample it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from face4d.mesh.rasterizer import rasterize
from face4d.reconstruction.uv import UvLayout, connected_parts

_FACING = 0.18  # cosine to the viewer below which the photo shows a surface too slanted to take its colours from
_APART = 0.05  # metres more between places on different parts of the mesh: the mouth's inside takes its colours from the lips, not from teeth
_SOURCES, _NEIGHBOURS, _SPREAD, _MIRROR_PENALTY = 20_000, 12, 0.003, 0.004  # of hidden places: texels asked, and metres
_SEAM = 0.01  # metres over which a photo's colours go over into the expected ones
_DEPTH_SLACK = 0.004  # of the face's size: how far behind the z-buffer a point still counts as the visible one


@dataclass(frozen=True)
class UvMap:
    """What each texel of a size x size map shows: the triangle (size, size), -1 for none, and the place in it (size, size, 3)."""

    triangle: np.ndarray
    barycentric: np.ndarray

    @cached_property
    def covered(self) -> np.ndarray:
        """(size, size) bool."""
        return self.triangle >= 0

    @cached_property
    def _fragments(self) -> tuple[np.ndarray, np.ndarray]:
        """Triangles (N,) and places in them (N, 3) of the covered texels, found once for all photos."""
        return self.triangle[self.covered], self.barycentric[self.covered]

    def spread(self, values: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Values (V, C) of the vertices at the covered texels (N, C), row by row."""
        triangle, weights = self._fragments
        return sum(weights[:, corner, None] * values[faces[triangle, corner]] for corner in range(3))


def uv_map(layout: UvLayout, size: int) -> UvMap:
    """Draw the layout's triangles into a map; where two share a place, the first one in the layout's order of parts wins."""
    points = np.zeros((len(layout.points), 3))
    points[:, 0] = layout.points[:, 0] * size
    points[:, 1] = (1 - layout.points[:, 1]) * size
    triangle, barycentric, _ = rasterize(points, layout.faces, size, size)
    return UvMap(triangle.astype(np.int64), barycentric)


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, area-weighted means over the triangles around each vertex; zero where there are none."""
    a, b, c = vertices[faces].transpose(1, 0, 2)
    across = np.cross(b - a, c - a)
    normals = np.zeros_like(vertices)
    for corner in range(3):
        for axis in range(3):
            normals[:, axis] += np.bincount(faces[:, corner], across[:, axis], len(vertices))
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-12)


def texture_of_photo(
    photo: np.ndarray, placed: np.ndarray, faces: np.ndarray, texels: UvMap, rest: np.ndarray, expected: np.ndarray | None = None
) -> tuple[np.ndarray, np.ndarray]:
    """The colours a photo shows of a surface; what it hides is as expected, or else taken from near what it shows, on this side of the face or
    on the other.

    Args:
        photo: (H, W, 3) 0..1.
        placed: (V, 3) vertices in the photo: x right and y down in pixels, integers at pixel centres; z away from the viewer in pixels.
        faces: (F, 3).
        texels: of the layout, :func:`uv_map`.
        rest: (V, 3) metres, the same face looking ahead, its left side at +x.
        expected: (S, S, 3) 0..1, what a texture model expects; each colour is scaled so that the medians of what the photo shows agree.

    Returns:
        texture (S, S, 3) 0..1, seen (S, S) bool.
    """
    placed = np.asarray(placed, np.float64)
    height, width = photo.shape[:2]
    extent = float(np.ptp(placed[:, :2], axis=0).max())
    scale = min(1.0, 512 / max(extent, 1.0))  # the z-buffer needs no more pixels than that
    low = np.array([placed[:, 0].min(), placed[:, 1].min(), 0.0])
    in_buffer = (placed - low) * scale + [1.0, 1.0, 0.0]
    rows, columns = (int(np.ceil(in_buffer[:, axis].max())) + 2 for axis in (1, 0))
    _, _, depth = rasterize(in_buffer, faces, rows, columns)
    inside = binary_erosion(np.isfinite(depth), np.ones((3, 3)))  # at the outline the photo shows what lies behind, too
    places = np.column_stack([rest, connected_parts(len(placed), faces) * _APART])  # (V, 4); parts of the mesh: skin, eyeballs, teeth
    point, normal, spot = np.split(texels.spread(np.column_stack([in_buffer, vertex_normals(placed, faces), places]), faces), [3, 6], axis=1)
    facing = -normal[:, 2] / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    row, column = np.clip(point[:, 1].astype(int), 0, rows - 1), np.clip(point[:, 0].astype(int), 0, columns - 1)
    slack = _DEPTH_SLACK * extent * scale + 1 / np.maximum(np.abs(facing), 0.2)  # a pixel's slope, and the mesh's own
    visible = (facing > _FACING) & inside[row, column] & (point[:, 2] <= depth[row, column] + slack)
    place = (point - [1.0, 1.0, 0.0]) / scale + low
    visible &= (place[:, 0] >= 0) & (place[:, 0] <= width - 1) & (place[:, 1] >= 0) & (place[:, 1] <= height - 1)
    seen = np.zeros(texels.triangle.shape, bool)
    seen[texels.covered] = visible
    texture = np.zeros((*seen.shape, 3))
    if visible.any():
        colours = np.zeros((len(visible), 3))
        colours[visible] = sample(photo, place[visible, :2])
        sources = spot[visible]
        if expected is None:
            hidden = texels.spread(_near_values(sources, colours[visible], places, mirrored=True)[0], faces)[~visible]
        else:
            own = expected[texels.covered]
            own = own * np.median(colours[visible], axis=0) / np.maximum(np.median(own[visible], axis=0), 0.02)
            error, distance = _near_values(sources, colours[visible] - own[visible], places, mirrored=False)
            hidden = own[~visible] + texels.spread(np.exp(-distance / _SEAM)[:, None] * error, faces)[~visible]
        colours[~visible] = np.clip(hidden, 0, 1)
        texture[texels.covered] = colours
    return fill(texture, texels.covered), seen


def _near_values(sources: np.ndarray, values: np.ndarray, places: np.ndarray, *, mirrored: bool) -> tuple[np.ndarray, np.ndarray]:
    """Values (N, C) of places (N, 4) from those (K, C) near by of the sources (K, 4), with ``mirrored`` of their mirror images, too; and how far away
    (N,) the nearest of these is, metres."""
    step = max(1, len(sources) // _SOURCES)
    sources, values = sources[::step], values[::step]
    tree = cKDTree(np.concatenate([sources, sources * [-1.0, 1.0, 1.0, 1.0]]) if mirrored else sources)
    distance, nearest = tree.query(places, k=min(_NEIGHBOURS, tree.n))
    distance, nearest = distance.reshape(len(places), -1), nearest.reshape(len(places), -1)
    distance = distance + np.where(nearest >= len(sources), _MIRROR_PENALTY, 0.0)
    closest = distance.min(axis=1)
    weight = np.exp(-(((distance - closest[:, None]) / _SPREAD) ** 2))
    return np.einsum("nk,nkc->nc", weight / weight.sum(axis=1, keepdims=True), values[nearest % len(sources)]), closest


def sample(picture: np.ndarray, points: np.ndarray) -> np.ndarray:
    """Bilinear samples (N, C) of a picture (H, W, C) at x, y (N, 2) in pixels; the border goes on beyond the edge."""
    height, width = picture.shape[:2]
    x, y = np.clip(points[:, 0], 0, width - 1), np.clip(points[:, 1], 0, height - 1)
    left, top = np.minimum(x.astype(int), max(width - 2, 0)), np.minimum(y.astype(int), max(height - 2, 0))
    right, below = np.minimum(left + 1, width - 1), np.minimum(top + 1, height - 1)
    u, v = (x - left)[:, None], (y - top)[:, None]
    upper = picture[top, left] * (1 - u) + picture[top, right] * u
    return upper * (1 - v) + (picture[below, left] * (1 - u) + picture[below, right] * u) * v


def fill(picture: np.ndarray, known: np.ndarray) -> np.ndarray:
    """Fill the unknown pixels of (S, S, C) smoothly: means of ever larger blocks of known pixels, the finest there is for each pixel."""
    if known.all() or not known.any():
        return picture
    weight = known[:, :, None].astype(float)
    height, width = known.shape
    even = ((0, height % 2), (0, width % 2), (0, 0))
    blocks = ((height + 1) // 2, 2, (width + 1) // 2, 2, -1)
    sums, counts = (np.pad(array, even).reshape(blocks).sum(axis=(1, 3)) for array in (picture * weight, weight))
    coarse_known = counts[:, :, 0] > 0
    coarse = fill(np.where(counts > 0, sums / np.maximum(counts, 1), 0), coarse_known)
    return np.where(weight > 0, picture, _doubled(_doubled(coarse).swapaxes(0, 1)).swapaxes(0, 1)[:height, :width])


def _doubled(rows: np.ndarray) -> np.ndarray:
    """(2 H, W, C): twice as many rows, linear between the middles of the given ones (H, W, C)."""
    padded = np.concatenate([rows[:1], rows, rows[-1:]])
    doubled = np.empty((2 * len(rows), *rows.shape[1:]))
    doubled[0::2] = 0.25 * padded[:-2] + 0.75 * rows
    doubled[1::2] = 0.75 * rows + 0.25 * padded[2:]
    return doubled


def vertex_colours(texture: np.ndarray, layout: UvLayout, num_vertices: int) -> np.ndarray:
    """(V, 3) the texture at each vertex (at one of its places, where a seam cuts); grey where no triangle is."""
    size = len(texture)
    place = np.stack([layout.points[:, 0], 1 - layout.points[:, 1]], axis=1) * size - 0.5
    colours = np.full((num_vertices, texture.shape[2]), 0.5)
    colours[layout.vertex_of_point()] = sample(texture, place)
    return colours


class DetailedMesh(NamedTuple):
    """A mesh with a vertex per covered texel: vertices (N, 3), faces (M, 3), uv (N, 2)."""

    vertices: np.ndarray
    faces: np.ndarray
    uv: np.ndarray


def detailed_mesh(vertices: np.ndarray, layout: UvLayout, texels: UvMap, displacement: np.ndarray) -> DetailedMesh:
    """The surface with a displacement map: each texel's point moved along its normal, neighbouring texels joined.

    Args:
        vertices: (V, 3) metres.
        layout, texels: of the mesh; the map's size is the displacement's.
        displacement: (S, S) metres along the normal.

    Returns:
        The mesh; squares across a seam of the layout are left open.
    """
    faces = layout.mesh_faces
    normal = texels.spread(vertex_normals(np.asarray(vertices, np.float64), faces), faces)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    base = texels.spread(np.asarray(vertices, np.float64), faces)
    points = base + displacement[texels.covered][:, None] * normal
    number = np.full(texels.triangle.shape, -1)
    number[texels.covered] = np.arange(len(points))
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]  # clockwise on the map, which is seen from outside
    triangles = np.concatenate([np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, d, c), (a, c, b))])
    triangles = triangles[(triangles >= 0).all(axis=1)]
    longest = np.linalg.norm(base[triangles] - base[np.roll(triangles, 1, axis=1)], axis=2).max(axis=1)
    triangles = triangles[longest < 12 * np.median(longest)] if len(triangles) else triangles  # two sheets that meet on the map only
    size = len(number)
    row, column = np.nonzero(texels.covered)
    uv = np.stack([(column + 0.5) / size, 1 - (row + 0.5) / size], axis=1)
    return DetailedMesh(points.astype(np.float32), triangles, uv)
