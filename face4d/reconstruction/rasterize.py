"""A z-buffer in torch for reconstruction: batches, CPU and CUDA, weights that carry gradients to the vertices.

Faces of a head at 224 x 224 cover a dozen pixels each. So all triangles whose bounding boxes have about the same size are evaluated at once, at
every pixel of the box, with the triangles as the innermost dimension; what is inside goes into a z-buffer of packed (depth, triangle) keys by
one minimum per pixel.

Pixel convention: x right, y down, z away from the viewer; the integer (x, y) is the place of the sample in column x, row y, as everywhere in
this package. (:mod:`face4d.mesh.rasterizer`, which draws pictures for people, samples half a pixel further.)

Which triangle a pixel shows is decided in float64. A triangle covers the pixels inside and on its outline, two triangles compute the line they
share to the last bit alike, so there are no cracks; of several triangles the nearest wins, and of those whose depths float32 cannot tell apart
(pixels exactly on shared edges) the one listed first.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

_SIDES = (1, 2, 3, 4, 5, 6, 8, 10, 13, 17, 23, 32)  # of the boxes evaluated together; larger ones by powers of two
_PAIRS = 1 << 18  # of triangles and pixels at a time on a CPU: what fits its cache; 64 times as many on CUDA
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
    if height < 1 or width < 1:
        raise ValueError(f"picture: expected at least one pixel, found {height} x {width}")
    with torch.no_grad():
        nearest = _nearest(vertices.detach(), faces, height, width, backfaces)  # (B * H * W,)
        pixel = _true_places(nearest != _EMPTY)  # (P,) covered
        shown = nearest[pixel] & 0xFFFFFFFF
    triangle = torch.full_like(nearest, -1).index_copy_(0, pixel, shown)
    shape = (len(vertices), height, width)
    weights, depth = _weights(vertices, faces[shown], pixel, height, width)
    barycentric = vertices.new_zeros(len(nearest), 3).index_copy(0, pixel, weights)
    distance = vertices.new_full((len(nearest),), torch.inf).index_copy(0, pixel, depth)
    return Raster(triangle.view(shape), barycentric.view(*shape, 3), distance.view(shape))


def interpolate(attributes: Tensor, faces: Tensor, raster: Raster) -> Tensor:
    """Attributes of corners as pictures, zero where there is no triangle; differentiable in the attributes and the barycentric weights.

    Args:
        attributes: (B or 1, N, C) of vertices, or of any other corners, such as texture coordinates.
        faces: (F, 3) int64, rows of ``attributes`` for the corners of every triangle of the raster.

    Returns:
        (B, H, W, C).
    """
    batch, height, width = raster.triangle.shape
    flat = raster.triangle.flatten()
    pixel = _true_places(flat >= 0)
    corners = faces[flat[pixel]]  # (P, 3)
    if len(attributes) > 1:
        corners = corners + (pixel // (height * width) * attributes.shape[1])[:, None]
    rows = attributes.flatten(0, 1)
    weights = raster.barycentric.view(-1, 3)[pixel]
    values = (rows[corners] * weights[..., None]).sum(1)  # (P, C)
    return values.new_zeros(len(flat), rows.shape[1]).index_copy(0, pixel, values).view(batch, height, width, -1)


def _weights(vertices: Tensor, corners: Tensor, pixel: Tensor, height: int, width: int) -> tuple[Tensor, Tensor]:
    """Barycentric weights (P, 3) and depths (P,) of pixels (P,) in triangles of given corners (P, 3)."""
    batch = pixel // (height * width)
    place = pixel - batch * (height * width)
    row = place // width
    x, y = (place - row * width).to(vertices.dtype), row.to(vertices.dtype)
    a, b, c = vertices.flatten(0, 1)[corners + (batch * vertices.shape[1])[:, None]].unbind(1)  # (P, 3) each
    (ab_x, ab_y), (ac_x, ac_y) = (b - a)[:, :2].unbind(1), (c - a)[:, :2].unbind(1)
    x, y = x - a[:, 0], y - a[:, 1]
    area = ab_x * ac_y - ab_y * ac_x
    share_b, share_c = (x * ac_y - y * ac_x) / area, (ab_x * y - ab_y * x) / area
    weights = torch.stack([1 - share_b - share_c, share_b, share_c], dim=1)
    return weights, a[:, 2] + share_b * (b - a)[:, 2] + share_c * (c - a)[:, 2]


def _nearest(vertices: Tensor, faces: Tensor, height: int, width: int, backfaces: bool) -> Tensor:
    """Keys (B * H * W,): depth in the upper half, triangle in the lower one, ``_EMPTY`` where there is none."""
    batch = len(vertices)
    nearest = torch.full((batch * height * width,), _EMPTY, dtype=torch.int64, device=vertices.device)
    x, y, z = vertices.double().unbind(2)  # (B, V)
    corners = faces.T.contiguous()  # (3, F)
    ax, bx, cx = x[:, corners].unbind(1)  # (B, F) each
    ay, by, cy = y[:, corners].unbind(1)
    az, bz, cz = z[:, corners].unbind(1)
    area = (bx - ax) * (cy - ay) - (by - ay) * (cx - ax)  # y down: negative = front
    if not torch.isfinite(area.sum() + z.sum()):
        raise ValueError("vertices: expected finite coordinates, found NaN or infinity")
    left = torch.minimum(torch.minimum(ax, bx), cx).ceil().clamp_(min=0)
    right = torch.maximum(torch.maximum(ax, bx), cx).floor().clamp_(max=width - 1)
    top = torch.minimum(torch.minimum(ay, by), cy).ceil().clamp_(min=0)
    bottom = torch.maximum(torch.maximum(ay, by), cy).floor().clamp_(max=height - 1)
    drawn = (area != 0 if backfaces else area < 0) & (right >= left) & (bottom >= top)
    kept = _true_places(drawn.flatten())  # (K,) of B * F
    if len(kept) == 0:
        return nearest

    def of(values: Tensor) -> Tensor:
        return values.flatten()[kept]

    ax, bx, cx, ay, by, cy, az, bz, cz = map(of, (ax, bx, cx, ay, by, cy, az, bz, cz))
    left, right, top, bottom, area = map(of, (left, right, top, bottom, area))
    number = kept % len(faces)
    start = kept // len(faces) * (height * width)
    first, second, third = faces[number].unbind(1)
    turn = area.sign()
    edges = []  # A x + B y + C >= 0 inside; C from the corner listed first, so that both sides of an edge compute the same line
    for px, py, p, qx, qy, q in ((ax, ay, first, bx, by, second), (bx, by, second, cx, cy, third), (cx, cy, third, ax, ay, first)):
        slope_x, slope_y = (py - qy) * turn, (qx - px) * turn
        lower = p < q
        edges.append((slope_x, slope_y, -(slope_x * torch.where(lower, px, qx) + slope_y * torch.where(lower, py, qy))))
    depth_x = ((bz - az) * (cy - ay) - (cz - az) * (by - ay)) / area  # depth is a plane over the picture
    depth_y = ((cz - az) * (bx - ax) - (bz - az) * (cx - ax)) / area
    edges.append((depth_x, depth_y, az - ax * depth_x - ay * depth_y))
    planes = torch.stack([torch.stack(plane) for plane in zip(*edges)])  # (3, 4, K): A, B, C of three edges and of the depth
    side = torch.maximum(right - left, bottom - top) + 1
    for chosen, extent in _buckets(side):
        steps = torch.arange(extent, dtype=torch.float64, device=vertices.device)[:, None]
        columns, rows = left[chosen] + steps, top[chosen] + steps  # (s, n)
        slope_x, slope_y, offset = planes[:, :, chosen]  # (4, n) each
        across = slope_x[:, None] * columns  # (4, s, n)
        down = slope_y[:, None] * rows + offset[:, None]
        across[0].masked_fill_(columns > right[chosen], -torch.inf)  # beyond the picture
        down[0].masked_fill_(rows > bottom[chosen], -torch.inf)
        inside = down[0][:, None] + across[0]  # (s, s, n)
        for edge in (1, 2):
            torch.minimum(inside, down[edge][:, None] + across[edge], out=inside)
        place = _true_places((inside >= 0).flatten())
        cell = place // len(chosen)
        which = place - cell * len(chosen)
        row = cell // extent
        column = cell - row * extent
        depth = down[3].flatten()[row * len(chosen) + which] + across[3].flatten()[column * len(chosen) + which]
        corner = (start + top.long() * width + left.long())[chosen]
        pixel = corner[which] + row * width + column
        nearest.scatter_reduce_(0, pixel, (_sortable(depth) << 32) | number[chosen][which], "amin")
    return nearest


def _buckets(side: Tensor) -> Iterator[tuple[Tensor, int]]:
    """Groups of triangles (n,) whose boxes fit a common side, of as many as can be evaluated at a time."""
    sides = list(_SIDES)
    while sides[-1] < float(side.max()):
        sides.append(2 * sides[-1])
    limits = torch.tensor(sides, dtype=side.dtype, device=side.device)
    group = torch.bucketize(side, limits)
    counts = torch.bincount(group, minlength=len(sides)).tolist()
    pairs = _PAIRS if side.device.type == "cpu" else 64 * _PAIRS
    for members, extent in zip(group.argsort(stable=True).split(counts), sides):
        if len(members):
            for part in members.split(max(pairs // extent**2, 1)):
                yield part, extent


def _true_places(mask: Tensor) -> Tensor:
    """Where a mask (N,) is True, int64; on a CPU numpy finds that several times faster."""
    if mask.device.type == "cpu":
        return torch.from_numpy(np.flatnonzero(mask.numpy()))
    return mask.nonzero().squeeze(1)


def _sortable(depth: Tensor) -> Tensor:
    """Integers (N,) int64 of 32 bits in the order of the depths, as float32."""
    bits = (depth.float() + 0.0).view(torch.int32).long()  # + 0.0: no negative zero
    return torch.where(bits < 0, bits ^ 0x7FFFFFFF, bits)
