"""A z-buffer in numpy: which triangle covers which pixel, where inside it, and how far away.

Scan conversion by spans. Every triangle is cut into pixel rows, the two edges that cross a row give
its span, spans are expanded into fragments, and the nearest fragment of every pixel wins. An edge is
always evaluated from its upper to its lower end, so two triangles that share it compute the same
crossing to the last bit; spans are half open, so every pixel centre along the edge belongs to exactly
one of them: no cracks, no double hits.

Screen convention: x to the right and y down, in pixels; pixel (row, column) is sampled at its centre
(column + 0.5, row + 0.5); z is the distance from the viewer, so the smallest z is visible. z is
interpolated linearly in the image, which is exact for orthographic and weak-perspective cameras.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

__all__ = ["Fragments", "rasterize", "visible_fragments"]

_EMPTY = np.iinfo(np.int64).max


class Fragments(NamedTuple):
    """The visible fragments of an image of P covered pixels, in order of increasing pixel number."""

    pixel: np.ndarray  # (P,) int64, row * width + column
    face: np.ndarray  # (P,) int64
    barycentric: np.ndarray  # (P, 3), weights of the face's three corners
    depth: np.ndarray  # (P,)


def rasterize(
    screen_vertices: np.ndarray,
    faces: np.ndarray,
    height: int,
    width: int,
    *,
    backfaces: bool = True,
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Render triangles into a z-buffer.

    Parameters
    ----------
    screen_vertices : (V, 3) float
        x right and y down in pixels, z away from the viewer in any unit.
    faces : (F, 3) int
        Corner indices, counter-clockwise as seen from outside the object.
    height, width : int
        Size of the image in pixels.
    backfaces : bool
        False drops triangles that turn their back to the viewer.

    Returns
    -------
    face_index : (H, W) int32
        The visible triangle, -1 where there is none.
    barycentric : (H, W, 3) float64
        Weights of that triangle's corners at the pixel centre; they sum to 1, and are 0 where there is none.
    depth : (H, W) float64
        Interpolated z, infinity where there is none.

    Raises
    ------
    ValueError
        For wrong shapes, indices out of range, coordinates that are not finite, or an empty image.
    """
    found = visible_fragments(screen_vertices, faces, height, width, backfaces=backfaces)
    face_index = np.full(height * width, -1, dtype=np.int32)
    barycentric = np.zeros((height * width, 3))
    depth = np.full(height * width, np.inf)
    face_index[found.pixel] = found.face
    barycentric[found.pixel] = found.barycentric
    depth[found.pixel] = found.depth
    return (
        face_index.reshape(height, width),
        barycentric.reshape(height, width, 3),
        depth.reshape(height, width),
    )


def visible_fragments(
    screen_vertices: np.ndarray,
    faces: np.ndarray,
    height: int,
    width: int,
    *,
    backfaces: bool = True,
    dtype: type = np.float64,
) -> Fragments:
    """The covered pixels only: what `rasterize` spreads over whole images.

    Arguments as in `rasterize`; `dtype` is the precision of the barycentric weights and depths returned
    (coverage is always decided in float64). Depths closer than float32 can tell apart count as equal,
    and then the triangle listed first wins, so the result does not depend on any order of evaluation.
    """
    vertices, faces = _checked(screen_vertices, faces, height, width)
    corners = vertices[faces]  # (F, 3, 3)
    ax, ay, az = corners[:, 0].T
    bx, by, bz = corners[:, 1].T
    cx, cy, cz = corners[:, 2].T
    # float64 throughout: neighbours have to agree on their common edge to the last bit
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)  # twice the signed area; y down: negative = front
    drawn = area < 0 if not backfaces else area != 0
    lowest, highest = corners[:, :, 1].min(axis=1), corners[:, :, 1].max(axis=1)
    first_row = np.maximum(np.ceil(lowest - 0.5), 0)
    row_count = np.minimum(np.ceil(highest - 0.5), height) - first_row
    drawn &= row_count > 0
    drawn &= (corners[:, :, 0].max(axis=1) > 0) & (corners[:, :, 0].min(axis=1) < width)
    kept = np.flatnonzero(drawn)
    if kept.size == 0:
        return Fragments(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 3), dtype), np.empty(0, dtype))

    # triangles -> rows
    owner, step = _expand(row_count[kept].astype(np.int64))
    row = first_row[kept].astype(np.int64)[owner] + step
    row_centre = row + 0.5
    left = np.full(row.size, np.inf)
    right = np.full(row.size, -np.inf)
    for tail, head in ((0, 1), (1, 2), (2, 0)):
        start, end = corners[kept, tail, :2], corners[kept, head, :2]
        downward = (start[:, 1] <= end[:, 1])[:, None]
        upper, lower = np.where(downward, start, end), np.where(downward, end, start)
        with np.errstate(divide="ignore", invalid="ignore"):
            slope = (lower[:, 0] - upper[:, 0]) / (lower[:, 1] - upper[:, 1])
        upper_y = upper[owner, 1]
        crossed = np.flatnonzero((upper_y <= row_centre) & (row_centre < lower[owner, 1]))
        edge = owner[crossed]
        crossing = upper[edge, 0] + (row_centre[crossed] - upper_y[crossed]) * slope[edge]
        left[crossed] = np.minimum(left[crossed], crossing)
        right[crossed] = np.maximum(right[crossed], crossing)
    first_column = np.clip(np.ceil(left - 0.5), 0, width)
    column_count = np.clip(np.ceil(right - 0.5), 0, width) - first_column
    column_count = np.maximum(column_count, 0).astype(np.int64)

    # rows -> fragments; depth is a plane over the image: z = z0 + dz/dx * x + dz/dy * y
    spanned = np.flatnonzero(column_count)
    face_of_span = kept[owner[spanned]]
    drawn_area = _nonzero(area)
    slope_x = ((bz - az) * (cy - ay) - (cz - az) * (by - ay)) / drawn_area
    slope_y = ((cz - az) * (bx - ax) - (bz - az) * (cx - ax)) / drawn_area
    offset = az - ax * slope_x - ay * slope_y
    span_z = offset[face_of_span] + (first_column[spanned] + 0.5) * slope_x[face_of_span] + row_centre[spanned] * slope_y[face_of_span]
    span_pixel = row[spanned] * width + first_column[spanned].astype(np.int64)
    span, step = _expand(column_count[spanned])
    pixel = span_pixel[span]
    pixel += step
    z = step * slope_x[face_of_span][span]
    z += span_z[span]

    nearest = np.full(height * width, _EMPTY, dtype=np.int64)
    np.minimum.at(nearest, pixel, (_sortable(z) << 32) | face_of_span[span])
    pixel = np.flatnonzero(nearest != _EMPTY)
    face = nearest[pixel] & 0xFFFFFFFF

    # barycentric weights of the winners, from the two edge functions opposite corners b and c
    edges = np.stack([cy - ay, ax - cx, ay - by, bx - ax], axis=1) / drawn_area[:, None]
    edges = edges.astype(dtype)[face]
    row, column = np.divmod(pixel, width)
    x = (column + 0.5 - ax[face]).astype(dtype)
    y = (row + 0.5 - ay[face]).astype(dtype)
    barycentric = np.empty((face.size, 3), dtype=dtype)
    barycentric[:, 1] = x * edges[:, 0] + y * edges[:, 1]
    barycentric[:, 2] = x * edges[:, 2] + y * edges[:, 3]
    barycentric[:, 0] = 1 - barycentric[:, 1] - barycentric[:, 2]
    a_depth, b_depth, c_depth = (part.astype(dtype) for part in (az, bz - az, cz - az))
    depth = a_depth[face] + barycentric[:, 1] * b_depth[face] + barycentric[:, 2] * c_depth[face]
    return Fragments(pixel, face, barycentric, depth)


def _checked(vertices: np.ndarray, faces: np.ndarray, height: int, width: int) -> tuple[np.ndarray, np.ndarray]:
    vertices = np.asarray(vertices, dtype=np.float64)
    faces = np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3:
        raise ValueError(f"screen_vertices: expected shape (V, 3), found {vertices.shape}")
    if faces.ndim != 2 or faces.shape[1] != 3 or not np.issubdtype(faces.dtype, np.integer):
        raise ValueError(f"faces: expected integers of shape (F, 3), found {faces.dtype} {faces.shape}")
    if height < 1 or width < 1:
        raise ValueError(f"image: expected at least 1 x 1 pixels, found {height} x {width}")
    if faces.size and (faces.min() < 0 or faces.max() >= len(vertices)):
        raise ValueError(f"faces: expected indices 0..{len(vertices) - 1}, found {faces.min()}..{faces.max()}")
    if not np.isfinite(vertices).all():
        raise ValueError("screen_vertices: expected finite coordinates, found NaN or infinity")
    return vertices, faces.astype(np.int64)


def _expand(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Item i repeated counts[i] times: (item numbers, running number within each item)."""
    item = np.repeat(np.arange(counts.size), counts)
    return item, np.arange(item.size) - np.repeat(np.cumsum(counts) - counts, counts)


def _sortable(z: np.ndarray) -> np.ndarray:
    """float32 numbers as int64 that compare like them, small enough to be shifted left by 32 bits."""
    bits = z.astype(np.float32).view(np.int32).astype(np.int64)
    return np.where(bits >= 0, bits, -(bits & 0x7FFFFFFF))


def _nonzero(area: np.ndarray) -> np.ndarray:
    return np.where(area == 0, 1.0, area)
