"""A z-buffer in torch for reconstruction: batches, CPU and CUDA, weights that carry gradients to the vertices.

Faces of a head at 224 x 224 cover a dozen pixels each. So all triangles whose bounding boxes have about the same size
are evaluated at once, at every pixel of the box, with the triangles as the innermost dimension; what is inside goes
into a z-buffer of packed (depth, triangle) keys by one minimum per pixel.

Pixel convention as in :mod:`face4d.render.zbuffer`: whole (x, y) are the middles of pixels.

Which triangle a pixel shows is decided in float64. A triangle covers the pixels inside and on its outline, two
triangles compute the line they share to the last bit alike, so there are no cracks; of several triangles the nearest
wins, and of those whose depths agree to about 4e-9 of the scene's depth (pixels exactly on shared edges) the one listed
first.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 23, 32)  # of the boxes evaluated together; larger ones by powers of two
_PAIRS = 1 << 18  # of triangles and pixels at a time on a CPU: what fits its cache; 64 times as many on CUDA
_NUMBER_BITS = 24  # of a key, for the triangle; the rest of it are the upper bits of a depth above zero, float64
_NUMBERS = (1 << _NUMBER_BITS) - 1
_LEAST_DEPTH = 1e-300  # above zero: there the bits of numbers are in their order
_EMPTY = torch.iinfo(torch.int64).max


class Raster(NamedTuple):
    """What :func:`rasterize` finds."""

    triangle: Tensor  # (B, H, W) int64, the visible triangle, -1 where there is none
    barycentric: Tensor  # (B, H, W, 3) weights of its corners, 0 where there is none
    depth: Tensor  # (B, H, W) interpolated z, infinity where there is none


def rasterize(vertices: Tensor, faces: Tensor, height: int, width: int, *, backfaces: bool = True) -> Raster:
    """Which triangle every pixel shows, where inside it, and how far away; differentiable in the vertices.

    Args:
        vertices: (B, V, 3) floating, pixels; z in any unit, smaller is nearer.
        faces: (F, 3) int64, counter-clockwise as seen from outside.
        height, width: of the picture, pixels.
        backfaces: False leaves out triangles that turn their back to the viewer.

    Returns:
        :class:`Raster`; barycentric weights and depth in the type of the vertices, differentiable.

    Raises:
        ValueError: other shapes, an empty picture, or coordinates that are not finite.

    Example:
        >>> corners = torch.tensor([[[0.0, 0, 0], [0, 4, 0], [4, 0, 0]]])
        >>> rasterize(corners, torch.tensor([[0, 1, 2]]), 3, 3).triangle[0]
        tensor([[0, 0, 0],
                [0, 0, 0],
                [0, 0, 0]])
    """
    if vertices.ndim != 3 or vertices.shape[2] != 3 or not vertices.is_floating_point():
        raise ValueError(f"vertices: expected floating (B, V, 3), found {vertices.dtype} {tuple(vertices.shape)}")
    if faces.ndim != 2 or faces.shape[1] != 3 or faces.dtype != torch.int64:
        raise ValueError(f"faces: expected int64 (F, 3), found {faces.dtype} {tuple(faces.shape)}")
    if len(faces) > _NUMBERS:
        raise ValueError(f"faces: expected at most {_NUMBERS}, found {len(faces)}")
    if height < 1 or width < 1:
        raise ValueError(f"picture: expected at least one pixel, found {height} x {width}")
    corners = vertices.index_select(1, faces.T.flatten()).unflatten(1, (3, -1))  # (B, 3, F, 3)
    with torch.no_grad():
        nearest = _nearest(corners.detach(), height, width, backfaces)  # (B * H * W,)
        pixel = _places(nearest != _EMPTY)  # (P,) covered
        shown = nearest.index_select(0, pixel) & _NUMBERS
        triangle = torch.full_like(nearest, -1).index_copy_(0, pixel, shown)
    weights, depth = _weights(corners, shown, pixel, height, width)
    barycentric = vertices.new_zeros(len(nearest), 3).index_copy(0, pixel, weights)
    distance = vertices.new_full((len(nearest),), torch.inf).index_copy(0, pixel, depth)
    shape = (len(vertices), height, width)
    return Raster(triangle.view(shape), barycentric.view(*shape, 3), distance.view(shape))


def interpolate(attributes: Tensor, faces: Tensor, raster: Raster) -> Tensor:
    """Attributes of corners as pictures, zero where there is no triangle; differentiable in the attributes and the
    barycentric weights.

    Args:
        attributes: (B or 1, N, C) of vertices, or of any other corners, such as texture coordinates.
        faces: (F, 3) int64, rows of ``attributes`` for the corners of every triangle of the raster.

    Returns:
        (B, H, W, C).
    """
    batch, height, width = raster.triangle.shape
    flat = raster.triangle.flatten()
    pixel = _places(flat >= 0)
    corners = faces.index_select(0, flat.index_select(0, pixel))  # (P, 3)
    if len(attributes) > 1:
        corners = corners + (pixel // (height * width) * attributes.shape[1])[:, None]
    rows = attributes.flatten(0, 1)
    weights = raster.barycentric.view(-1, 3).index_select(0, pixel)
    # (P, C)
    values = torch.bmm(weights[:, None], rows.index_select(0, corners.flatten()).unflatten(0, (-1, 3))).squeeze(1)
    return values.new_zeros(len(flat), rows.shape[1]).index_copy(0, pixel, values).view(batch, height, width, -1)


def _weights(corners: Tensor, shown: Tensor, pixel: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Barycentric weights (P, 3) and depths (P,) of pixels (P,) in the triangles shown (P,), of corners (B, 3, F,
    3).
    """
    row = _quotient(pixel, width)
    column = pixel - row * width
    if len(corners) > 1:
        batch = row // height
        row, shown = row - batch * height, shown + batch * corners.shape[2]
    a, b, c = corners.unbind(1)  # (B, F, 3) each
    b, c = b - a, c - a
    area = b[..., 0] * c[..., 1] - b[..., 1] * c[..., 0]
    area = torch.where(area == 0, torch.ones_like(area), area)[..., None]  # of triangles that cover nothing
    # the weights of b and c are planes over the picture, zero at a
    planes = torch.cat(
        [a, c[..., 1:2] / area, -c[..., :1] / area, -b[..., 1:2] / area, b[..., :1] / area, b[..., 2:], c[..., 2:]],
        dim=-1,
    )
    chosen = planes.flatten(0, 1).index_select(0, shown)  # (P, 9)
    a_x, a_y, a_z, b_by_x, b_by_y, c_by_x, c_by_y, b_z, c_z = chosen.unbind(1)
    x, y = column - a_x, row - a_y
    share_b, share_c = b_by_x * x + b_by_y * y, c_by_x * x + c_by_y * y
    return torch.stack([1 - share_b - share_c, share_b, share_c], dim=1), a_z + share_b * b_z + share_c * c_z


def _nearest(corners: Tensor, height: int, width: int, backfaces: bool) -> Tensor:
    """Keys (B * H * W,): depth above, triangle in the lowest ``_NUMBER_BITS``, ``_EMPTY`` where there is none; corners
    (B, 3, F, 3).
    """
    batch, _, count, _ = corners.shape
    nearest = torch.full((batch * height * width,), _EMPTY, dtype=torch.int64, device=corners.device)
    # x of the three corners, then y, then z, of N = B * F triangles
    corners = corners.permute(3, 1, 0, 2).double().reshape(9, -1)
    if not torch.isfinite(corners.sum()):
        raise ValueError("vertices: expected finite coordinates, found NaN or infinity")
    order, counts, sides = _by_size(corners, height, width, backfaces)
    corners = _columns(corners, order)  # (9, K)
    planes = _planes(corners)
    left, top, _, _ = _box(corners, height, width)
    sample, number = order // count, order % count
    numbers = torch.arange(max(height, width), device=corners.device)
    pairs = _PAIRS if corners.device.type == "cpu" else 64 * _PAIRS
    begin = 0
    for members, side in zip(counts, sides):
        rows, columns = min(side, height), min(side, width)
        # of a box, as pixels from its first one
        cells = (numbers[:rows, None] * width + numbers[:columns]).flatten()[:, None]
        step = max(pairs // (rows * columns), 1)
        for first in range(begin, begin + members, step):
            part = slice(first, min(first + step, begin + members))
            x, y = left[part].clamp(max=width - columns), top[part].clamp(max=height - rows)  # boxes lie in the picture
            place, depth = _covered(planes[:, part], x + numbers[:columns, None], y + numbers[:rows, None])
            pixel = (y * width + x).long() + sample[part] * (height * width)  # (n,) the first of each box
            labels = (pixel << _NUMBER_BITS | number[part]) + (cells << _NUMBER_BITS)  # (h * w, n)
            label = labels.flatten().index_select(0, place)
            key = (depth.view(torch.int64) & ~_NUMBERS) | (label & _NUMBERS)
            nearest.scatter_reduce_(0, label >> _NUMBER_BITS, key, "amin")
        begin += members
    return nearest


def _covered(planes: Tensor, columns: Tensor, rows: Tensor) -> tuple[Tensor, Tensor]:
    """Which pixels of their boxes triangles cover.

    Args:
        planes: (12, n), see :func:`_planes`.
        columns: (w, n) of the boxes; rows: (h, n).

    Returns:
        Places (M,) int64 in an array (row of the box, column of the box, triangle), and depths (M,).
    """
    slopes_x, slopes_y, offsets = planes.view(3, 4, -1).unbind(0)  # (4, n) each
    across = slopes_x[:, None] * columns  # (4, w, n)
    down = torch.addcmul(offsets[:, None], slopes_y[:, None], rows)[:, :, None]  # (4, h, 1, n)
    inside = down[0] + across[0]  # (h, w, n)
    other = down[1] + across[1]
    torch.minimum(inside, other, out=inside)
    torch.minimum(inside, torch.add(down[2], across[2], out=other), out=inside)
    place = _not_negative(inside.flatten())
    depth = torch.add(down[3], across[3], out=other).flatten().index_select(0, place)
    return place, depth.clamp_(min=_LEAST_DEPTH)


def _by_size(corners: Tensor, height: int, width: int, backfaces: bool) -> tuple[Tensor, list[int], list[int]]:
    """Triangles (9, N) in groups whose boxes of pixels fit a common side.

    Returns:
        The triangles (K,) that have any pixels, group by group; how many each group has; its side.
    """
    (ax, bx, cx), (ay, by, cy) = corners[:3], corners[3:6]
    left, top, right, bottom = _box(corners, height, width)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)  # y down: negative = front
    drawn = (area != 0 if backfaces else area < 0) & (right >= left) & (bottom >= top)
    side = torch.maximum(right - left, bottom - top).add_(1).mul_(drawn).long()
    sides = [0, *_SIDES]
    while sides[-1] < max(height, width):
        sides.append(2 * sides[-1])
    table = np.searchsorted(sides, np.arange(max(height, width) + 1)).astype(np.uint8)
    if side.device.type == "cpu":  # numpy sorts small numbers by their digits
        groups = table[side.numpy()]
        order, counts = (
            torch.from_numpy(groups.argsort(kind="stable")),
            np.bincount(groups, minlength=len(sides)).tolist(),
        )
    else:
        groups = torch.from_numpy(table).to(side.device)[side]
        order, counts = groups.argsort(stable=True), torch.bincount(groups, minlength=len(sides)).tolist()
    return order[counts[0] :], counts[1:], sides[1:]


def _box(corners: Tensor, height: int, width: int) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """First and last columns and rows (N,) that triangles (9, N) may cover, whole numbers: left, top, right, bottom."""
    (ax, bx, cx), (ay, by, cy) = corners[:3], corners[3:6]
    left, right = torch.minimum(torch.minimum(ax, bx), cx), torch.maximum(torch.maximum(ax, bx), cx)
    top, bottom = torch.minimum(torch.minimum(ay, by), cy), torch.maximum(torch.maximum(ay, by), cy)
    return (
        left.ceil_().clamp_(min=0),
        top.ceil_().clamp_(min=0),
        right.floor_().clamp_(max=width - 1),
        bottom.floor_().clamp_(max=height - 1),
    )


def _planes(corners: Tensor) -> Tensor:
    """What is linear over the picture, A x + B y + C, of triangles with corners (9, K).

    Returns:
        (12, K): A of the three edges, which are not negative inside, and of the depth; the same for B and for C. Depths
        are counted from the nearest corner of all.

    An edge from i to j has C = x_i y_j - x_j y_i. The other side of the edge, from j to i, gets the same numbers with
    the other sign.
    """
    x, y, z = corners.view(3, 3, -1)  # (3 corners, K) each
    z = z - z.amin() if z.numel() else z
    next_x, next_y = torch.cat([x[1:], x[:1]]), torch.cat([y[1:], y[:1]])
    edge_x, edge_y = next_x - x, next_y - y
    (ab_x, _, ca_x), (ab_y, _, ca_y), ab_z, ca_z = edge_x, edge_y, z[1] - z[0], z[0] - z[2]
    area = ab_y * ca_x - ab_x * ca_y  # twice
    turn = area.sign()
    depth_x, depth_y = (ca_z * ab_y - ab_z * ca_y) / area, (ab_z * ca_x - ca_z * ab_x) / area
    depth = z[0] - x[0] * depth_x - y[0] * depth_y
    offset = (x * next_y - next_x * y) * turn
    return torch.cat([edge_y * -turn, depth_x[None], edge_x * turn, depth_y[None], offset, depth[None]])


def _columns(rows: Tensor, chosen: Tensor) -> Tensor:
    """rows[:, chosen] of (R, N) and (K,), contiguous."""
    if rows.device.type == "cpu":  # much faster in numpy
        return torch.from_numpy(rows.numpy().take(chosen.numpy(), axis=1))
    return rows.index_select(1, chosen)


def _places(mask: Tensor) -> Tensor:
    """Where a mask (N,) is True, int64; on a CPU numpy finds that several times faster."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def _not_negative(values: Tensor) -> Tensor:
    """Where values (N,) are at least zero, int64."""
    if values.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(values.numpy() >= 0))
    return (values >= 0).nonzero().squeeze(1)


def _quotient(places: Tensor, divisor: int) -> Tensor:
    """places (N,) // divisor, int64; on a CPU numpy divides by multiplying."""
    if places.device.type == "cpu":
        return torch.from_numpy(places.numpy() // divisor)
    return places // divisor
