"""A z-buffer in numpy: which triangle covers which pixel, where inside it, and how far away.

Scan conversion by spans. Every triangle is cut into pixel rows, the two edges that cross a row give
its span, spans are expanded into fragments, and the nearest fragment of every pixel wins. An edge is
always evaluated from its upper to its lower end, so two triangles that share it compute the same
crossing to the last bit; spans are half open, so every sample along the edge belongs to exactly one
of them: no cracks, no double hits.

Pixel convention of the whole package: x to the right and y down in pixels, z away from the viewer, the
smallest visible; the pixel in row r and column c is sampled at (x, y) = (c, r), so whole numbers are the
middles of pixels and a picture of W columns reaches from x = -0.5 to W - 0.5. Landmarks in photos have the
same places. z is interpolated linearly in the picture, which is exact for orthographic and weak-perspective
cameras.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np

__all__ = ["Fragments", "all_fragments", "rasterize", "visible_fragments"]

_EMPTY = np.iinfo(np.int64).max
_BLOCK = 1 << 20  # fragments at a time


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

    Args:
        screen_vertices: (V, 3) float, x right and y down in pixels, z away from the viewer in any unit.
        faces: (F, 3) int, counter-clockwise as seen from outside the object.
        height, width: size of the image in pixels.
        backfaces: False drops triangles that turn their back to the viewer.

    Returns:
        face_index (H, W) int32, the visible triangle, -1 where there is none;
        barycentric (H, W, 3) float64, weights of that triangle's corners at the sample, which sum to 1, 0 where there
        is none;
        depth (H, W) float64, interpolated z, infinity where there is none.

    Raises:
        ValueError: wrong shapes, indices out of range, coordinates that are not finite, or an empty image.
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
    mask: np.ndarray | None = None,
    dtype: type = np.float64,
) -> Fragments:
    """The covered pixels only: what `rasterize` spreads over whole images.

    Arguments as in `rasterize`; `mask` (H, W) bool leaves out all pixels where it is False, which costs little more
    than the pixels that stay; `dtype` is the precision of the barycentric weights and depths returned (coverage is
    always decided in float64). Depths closer than float32 can tell apart count as equal, and then the triangle listed
    first wins, so the result does not depend on any order of evaluation.

    Raises ValueError also for a mask of another shape or type.
    """
    vertices, faces = _checked(screen_vertices, faces, height, width)
    if mask is not None and (mask.shape != (height, width) or mask.dtype != bool):
        raise ValueError(f"mask: expected ({height}, {width}) bool, found {mask.shape} {mask.dtype}")
    # room among the pixels drawn: of each pixel, or, with a mask, how many of it lie before each pixel
    before = None if mask is None else np.concatenate([[0], np.cumsum(mask, dtype=np.int32)])
    room = height * width if before is None else int(before[-1])
    spans = _spans(vertices, faces, height, width, backfaces, before)
    if len(spans.face) == 0 or room == 0:
        return Fragments(np.empty(0, np.int64), np.empty(0, np.int64), np.empty((0, 3), dtype), np.empty(0, dtype))
    (ax, bx, cx), (ay, by, cy), (az, bz, cz) = (np.take(part, faces.T) for part in vertices.T)  # (F,) each
    row_start = spans.row * width
    begin, end = row_start + spans.first, row_start + spans.end
    if before is not None:
        begin, end = before[begin].astype(np.int64), before[end].astype(np.int64)

    # rows -> fragments; depth is a plane over the image: z = z0 + dz/dx * x + dz/dy * y
    spanned = np.flatnonzero(end > begin)
    face_of_span = spans.face[spanned]
    drawn_area = _nonzero((bx - ax) * (cy - ay) - (by - ay) * (cx - ax))
    slope_x = ((bz - az) * (cy - ay) - (cz - az) * (by - ay)) / drawn_area
    slope_y = ((cz - az) * (bx - ax) - (bz - az) * (cx - ax)) / drawn_area
    offset = az - ax * slope_x - ay * slope_y
    span_slope, span_column = slope_x[face_of_span], spans.first[spanned]
    span_z = offset[face_of_span] + span_column * span_slope + spans.row[spanned] * slope_y[face_of_span]
    span, step = _expand((end - begin)[spanned])
    place = begin[spanned][span]
    place += step  # of the pixel in the room
    pixels = np.flatnonzero(mask) if mask is not None else None
    if pixels is not None:
        step = pixels[place] - (row_start[spanned] + span_column)[span]
    z = step * span_slope[span]
    z += span_z[span]

    nearest = np.full(room, _EMPTY, dtype=np.int64)
    np.minimum.at(nearest, place, (_sortable(z) << 32) | face_of_span[span])
    found = np.flatnonzero(nearest != _EMPTY)
    face = nearest[found] & 0xFFFFFFFF
    pixel = found if pixels is None else pixels[found]

    # barycentric weights of the winners, from the two edge functions opposite corners b and c
    row, column = np.divmod(pixel, width)
    x = (column - ax[face]).astype(dtype)
    y = (row - ay[face]).astype(dtype)
    b_x, b_y, c_x, c_y = ((edge / drawn_area).astype(dtype)[face] for edge in (cy - ay, ax - cx, ay - by, bx - ax))
    barycentric: np.ndarray = np.empty((3, face.size), dtype=dtype)
    barycentric[1] = x * b_x + y * b_y
    barycentric[2] = x * c_x + y * c_y
    barycentric[0] = 1 - barycentric[1] - barycentric[2]
    a_depth, b_depth, c_depth = (part.astype(dtype)[face] for part in (az, bz - az, cz - az))
    depth = a_depth + barycentric[1] * b_depth + barycentric[2] * c_depth
    return Fragments(pixel, face, barycentric.T, depth)


def all_fragments(
    screen_vertices: np.ndarray, faces: np.ndarray, height: int, width: int
) -> Iterator[tuple[np.ndarray, np.ndarray]]:
    """Every pixel of every triangle, hidden or not, in the order of the triangles, about a million at a time.

    Arguments as in `rasterize`. Of triangles that share an edge exactly one has a sample on it, so along the ray of a
    pixel a closed surface is entered as often as it is left.

    Yields:
        Pixels (N,) int64, row * width + column, and triangles (N,) int64.
    """
    vertices, faces = _checked(screen_vertices, faces, height, width)
    spans = _spans(vertices, faces, height, width)
    length = spans.end - spans.first
    block = np.cumsum(length) // _BLOCK
    for part in np.split(np.arange(len(block)), np.flatnonzero(np.diff(block)) + 1):
        span, step = _expand(length[part])
        span = part[span]
        yield (spans.row * width + spans.first)[span] + step, spans.face[span]


class _Spans(NamedTuple):
    """What triangles cover of the rows of pixels, triangle by triangle: columns first..end - 1 of a row, maybe none."""

    face: np.ndarray  # (R,) int64
    row: np.ndarray  # (R,) int64
    first: np.ndarray  # (R,) int64
    end: np.ndarray  # (R,) int64


def _spans(
    vertices: np.ndarray,
    faces: np.ndarray,
    height: int,
    width: int,
    backfaces: bool = True,
    before: np.ndarray | None = None,
) -> _Spans:
    """Scan conversion: triangles to rows of samples.

    Computed in float64 throughout: neighbours have to agree on their common edge to the last bit. With `before`, how
    many pixels of a mask lie before each pixel, rows of triangles that do not meet the mask are left out.
    """
    (ax, bx, cx), (ay, by, cy) = (np.take(part, faces.T) for part in vertices.T[:2])  # (F,) each
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)  # twice the signed area; y down: negative = front
    drawn = area < 0 if not backfaces else area != 0
    lowest, highest = np.minimum(np.minimum(ay, by), cy), np.maximum(np.maximum(ay, by), cy)
    leftmost, rightmost = np.minimum(np.minimum(ax, bx), cx), np.maximum(np.maximum(ax, bx), cx)
    first_row = np.maximum(np.ceil(lowest), 0)
    row_count = np.minimum(np.ceil(highest), height) - first_row
    drawn &= (row_count > 0) & (rightmost > 0) & (leftmost <= width - 1)
    kept = np.flatnonzero(drawn)
    owner, step = _expand(row_count[kept].astype(np.int64))
    row = first_row[kept].astype(np.int64)[owner] + step
    if before is not None:
        low = np.clip(np.floor(leftmost[kept]), 0, width).astype(np.int64)
        high = np.clip(np.ceil(rightmost[kept]), 0, width).astype(np.int64)
        start = row * width
        meets = np.flatnonzero(before[start + high[owner]] > before[start + low[owner]])
        owner, row = owner[meets], row[meets]
    left, right = _crossings(np.stack([ax, bx, cx])[:, kept], np.stack([ay, by, cy])[:, kept], owner, row)
    first = np.clip(np.ceil(left), 0, width).astype(np.int64)
    end = np.maximum(np.clip(np.ceil(right), 0, width).astype(np.int64), first)
    return _Spans(kept[owner], row, first, end)


def _crossings(x: np.ndarray, y: np.ndarray, owner: np.ndarray, row: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Where the outline of triangle ``owner`` (R,) crosses the line y = ``row`` (R,), left and right; corners (3, K).

    Every row of a triangle crosses the edge between its highest and its lowest corner, and one of the two others.
    """
    (x0, x1, x2), (y0, y1, y2) = x.copy(), y.copy()
    for (x_a, y_a), (x_b, y_b) in (((x0, y0), (x1, y1)), ((x1, y1), (x2, y2)), ((x0, y0), (x1, y1))):  # by height
        swapped = np.flatnonzero(y_a > y_b)
        for a, b in ((x_a, x_b), (y_a, y_b)):
            a[swapped], b[swapped] = b[swapped], a[swapped]
    with np.errstate(divide="ignore", invalid="ignore"):  # level edges, which no row crosses
        long, upper, lower = (x2 - x0) / (y2 - y0), (x1 - x0) / (y1 - y0), (x2 - x1) / (y2 - y1)
    edge = owner + len(x0) * (row >= y1[owner])
    first = x0[owner] + (row - y0[owner]) * long[owner]
    from_x, from_y, slope = (np.concatenate(pair)[edge] for pair in ((x0, x1), (y0, y1), (upper, lower)))
    second = from_x + (row - from_y) * slope
    return np.minimum(first, second), np.maximum(first, second)


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
    bits = (z.astype(np.float32) + np.float32(0)).view(np.int32)  # + 0: no negative zero
    return (bits ^ ((bits >> 31) & 0x7FFFFFFF)).astype(np.int64)


def _nonzero(area: np.ndarray) -> np.ndarray:
    return np.where(area == 0, 1.0, area)
