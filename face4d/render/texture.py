"""Textures of meshes: where surface points lie in the picture, and maps over the surface sampled from photos.

The layout is that of a template OBJ, or one made by unwrapping.

Maps over a face's surface: the texture that a photo shows, and a mesh of the surface with its fine displacement.

A map is a picture in the layout's unit square, row 0 at v = 1; texel (row, column) lies at its centre, as viewers
sample it.
"""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import NamedTuple

import numpy as np
from scipy.ndimage import binary_erosion
from scipy.spatial import cKDTree

from face4d.errors import InputError
from face4d.mesh.geometry import connected_components, vertex_normals
from face4d.mesh.obj import coordinates, corner_indices, read_obj, read_text, statements
from face4d.render.zbuffer import rasterize

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
        elif (
            words[0] == b"f"
            and len(words) == 4
            and all(word.partition(b"/")[2].partition(b"/")[0] for word in words[1:])
        ):
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

    What that would lay over the skin in front of it (the mouth's inside) and loose parts (eyeballs, teeth) lie in a
    strip below, as seen from the front.

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
    """Points (U, 2) in 0..1 of triangles (F, 3) around the vertical axis, their rows (F, 3), and each point's distance
    from the axis (U,).
    """
    vertices, corners = np.unique(faces, return_inverse=True)
    corners, place = corners.reshape(-1, 3), template[vertices]
    x, z = (place[:, axis] - (place[:, axis].max() + place[:, axis].min()) / 2 for axis in (0, 2))
    points = np.stack([np.arctan2(x, z) / (2 * np.pi) + 0.5, _stretched(place[:, 1])], axis=1)  # u = 0.5 in front
    radius = np.hypot(x, z)
    # over the seam: again, one turn further
    left = (np.ptp(points[corners, 0], axis=1) > 0.5)[:, None] & (points[corners, 0] < 0.5)
    doubled, numbers = np.unique(corners[left], return_inverse=True)
    corners[left] = len(points) + numbers.ravel()
    points = np.concatenate([points, points[doubled] + [1.0, 0.0]])
    points[:, 0] = _stretched(points[:, 0])
    return points, corners, np.concatenate([radius, radius[doubled]])


def _hidden(points: np.ndarray, faces: np.ndarray, radius: np.ndarray) -> np.ndarray:
    """(F,) bool: triangles that lie under others on the map for the most part, the outermost being on top."""
    triangle, _, _ = rasterize(np.column_stack([points * _RESOLUTION - 0.5, -radius]), faces, _RESOLUTION, _RESOLUTION)
    shown = np.bincount(triangle[triangle >= 0], minlength=len(faces))
    a, b, c = (points[faces] * _RESOLUTION).transpose(1, 0, 2)
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    return (area > 1) & (shown < 0.5 * area)


def connected_parts(num_vertices: int, faces: np.ndarray) -> np.ndarray:
    """(V,) the connected part of each vertex, the largest first; vertices without a face belong to the largest."""
    part = connected_components(num_vertices, faces)
    used = np.unique(part[faces[:, 0]])
    ranks = used[np.argsort(-np.bincount(part)[used], kind="stable")]
    order = np.zeros(part.max() + 1, np.int64)
    order[ranks] = np.arange(len(ranks))
    return order[part]


def _stretched(values: np.ndarray) -> np.ndarray:
    """Values (N, ...) over 0..1, each column on its own."""
    low, high = values.min(axis=0), values.max(axis=0)
    return (values - low) / np.maximum(high - low, 1e-12)


_FACING = 0.18  # cosine to the viewer below which the photo shows a surface too slanted to take its colours from
# metres more between places on different parts of the mesh: the mouth's inside takes its colours from the lips, not
# from teeth
_APART = 0.05
_SOURCES, _NEIGHBOURS, _SPREAD, _MIRROR_PENALTY = 20_000, 12, 0.003, 0.004  # of hidden places: texels asked, and metres
_SEAM = 0.01  # metres over which a photo's colours go over into the expected ones
_OUTLINE = 0.025  # of the face's size: how far a fitted outline may be off; beyond it the photo shows what lies behind
_DEPTH_SLACK = 0.004  # of the face's size: how far behind the z-buffer a point still counts as the visible one


@dataclass(frozen=True)
class UvMap:
    """What each texel of a size x size map shows: the triangle (size, size), -1 for none, and the place in it (size,
    size, 3).
    """

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


def texel_places(points: np.ndarray, size: int) -> np.ndarray:
    """Texture coordinates (N, 2), u right and v up in 0..1, as x, y (N, 2) in the pixels of a square texture."""
    return np.stack([points[:, 0], 1 - points[:, 1]], axis=1) * size - 0.5


def uv_map(layout: UvLayout, size: int) -> UvMap:
    """Draw the layout's triangles into a map; where two share a place, the first one in the layout's order of parts
    wins.
    """
    points = np.zeros((len(layout.points), 3))
    points[:, :2] = texel_places(layout.points, size)
    triangle, barycentric, _ = rasterize(points, layout.faces, size, size)
    return UvMap(triangle.astype(np.int64), barycentric)


def texture_of_photo(
    photo: np.ndarray,
    placed: np.ndarray,
    faces: np.ndarray,
    texels: UvMap,
    rest: np.ndarray,
    expected: np.ndarray | None = None,
) -> tuple[np.ndarray, np.ndarray]:
    """The colours a photo shows of a surface; what it hides is as expected, or else taken from near what it shows, on
    this side of the face or on the other.

    Args:
        photo: (H, W, 3) 0..1.
        placed: (V, 3) vertices in the photo: x right and y down in pixels, integers at pixel centres; z away from the
            viewer in pixels.
        faces: (F, 3).
        texels: of the layout, :func:`uv_map`.
        rest: (V, 3) metres, the same face looking ahead, its left side at +x.
        expected: (S, S, 3) 0..1, what a texture model expects; each colour is scaled so that the medians of what the
            photo shows agree.

    Returns:
        texture (S, S, 3) 0..1, seen (S, S) bool.
    """
    placed = np.asarray(placed, np.float64)
    height, width = photo.shape[:2]
    extent = float(np.ptp(placed[:, :2], axis=0).max())
    scale = min(1.0, 512 / max(extent, 1.0))  # the z-buffer needs no more pixels than that
    low = np.array([placed[:, 0].min(), placed[:, 1].min(), 0.0])
    in_buffer = (placed - low) * scale + [0.5, 0.5, 0.0]
    rows, columns = (int(np.ceil(in_buffer[:, axis].max() + 0.5)) + 2 for axis in (1, 0))
    _, _, depth = rasterize(in_buffer, faces, rows, columns)
    margin = max(round(_OUTLINE * extent * scale), 1)
    inside = binary_erosion(np.isfinite(depth), np.ones((3, 3)), iterations=margin)
    # (V, 4); parts of the mesh: skin, eyeballs, teeth
    places = np.column_stack([rest, connected_parts(len(placed), faces) * _APART])
    point, normal, spot = np.split(
        texels.spread(np.column_stack([in_buffer, vertex_normals(placed, faces), places]), faces), [3, 6], axis=1
    )
    facing = -normal[:, 2] / np.maximum(np.linalg.norm(normal, axis=1), 1e-12)
    row, column = (np.clip((point[:, axis] + 0.5).astype(int), 0, most - 1) for axis, most in ((1, rows), (0, columns)))
    slack = _DEPTH_SLACK * extent * scale + 1 / np.maximum(np.abs(facing), 0.2)  # a pixel's slope, and the mesh's own
    visible = (facing > _FACING) & inside[row, column] & (point[:, 2] <= depth[row, column] + slack)
    place = (point - [0.5, 0.5, 0.0]) / scale + low
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


def _near_values(
    sources: np.ndarray, values: np.ndarray, places: np.ndarray, *, mirrored: bool
) -> tuple[np.ndarray, np.ndarray]:
    """Values (N, C) of places (N, 4) from those (K, C) near by of the sources (K, 4), with ``mirrored`` of their mirror
    images, too; and how far away (N,) the nearest of these is, metres.
    """
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
    """Fill the unknown pixels of (S, S, C) smoothly: means of ever larger blocks of known pixels, the finest there is
    for each pixel.
    """
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
    place = texel_places(layout.points, size)
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
    normal = texels.spread(vertex_normals(vertices, faces), faces)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    base = texels.spread(np.asarray(vertices, np.float64), faces)
    points = base + displacement[texels.covered][:, None] * normal
    number = np.full(texels.triangle.shape, -1)
    number[texels.covered] = np.arange(len(points))
    # clockwise on the map, which is seen from outside
    a, b, c, d = number[:-1, :-1], number[:-1, 1:], number[1:, 1:], number[1:, :-1]
    triangles = np.concatenate([np.stack(corners, axis=-1).reshape(-1, 3) for corners in ((a, d, c), (a, c, b))])
    triangles = triangles[(triangles >= 0).all(axis=1)]
    longest = np.linalg.norm(base[triangles] - base[np.roll(triangles, 1, axis=1)], axis=2).max(axis=1)
    # two sheets that meet on the map only
    triangles = triangles[longest < 12 * np.median(longest)] if len(triangles) else triangles
    size = len(number)
    row, column = np.nonzero(texels.covered)
    uv = np.stack([(column + 0.5) / size, 1 - (row + 0.5) / size], axis=1)
    return DetailedMesh(points.astype(np.float32), triangles, uv)
