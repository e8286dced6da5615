"""Shading by occlusion: cavity shading of one view, and ambient occlusion of a mesh.

Cavity shading darkens concave places of a picture by unsharp masking of its depth buffer (Luft, Colditz, Deussen,
"Image enhancement by unsharp masking the depth buffer", SIGGRAPH 2006).

Ambient occlusion is how little of the light from all around reaches each vertex: the inside of a mouth is dark
whichever way one looks into it. For each of many directions the mesh is drawn into a z-buffer, and a vertex that lies
behind what is drawn gets no light from there (Zhukov, Iones, Kronin, "An ambient light illumination model", 1998). It
belongs to the mesh and can go into a file.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from face4d.mesh.geometry import vertex_normals
from face4d.render.zbuffer import visible_fragments

__all__ = ["ambient_light", "cavity_shading", "light_of_motion", "occlusion_tint", "shading_reach"]

# cavity shading: radius in metres, gain, darkest factor amid surface and at its edge
_CAVITIES = ((0.003, 0.8, 0.70, 0.70), (0.015, 1.6, 0.10, 0.50))

# ambient occlusion
DIRECTIONS = 40
PICTURE = 160  # side of a z-buffer, pixels
FRAMES = 3
# vertices are looked at so far above the surface, in radii of the mesh, so that they do not hide themselves
_LIFT = 0.004
_LAYERS = 40  # triangles that cover the picture more often than this are no surface with an outside
# ambient light below which a cavity is as dark as it gets, and above which skin is not occluded
_DARK, _LIT = 0.12, 0.45


def _blur(radius: float, size: int) -> tuple[int, int]:
    """For averages over `radius` pixels: side of the blocks to work on (wide ones need no fine grid), width of the
    filter in blocks.
    """
    block = next(b for b in (4, 2, 1) if size % b == 0 and (b == 1 or radius > 4 * b))
    return block, 2 * max(1, round(radius / block)) + 1


def shading_reach(pixel_size: float, size: int) -> int:
    """How many pixels around a surface its shadows are computed from; arguments as in `cavity_shading`."""
    return max(2 * width * block for block, width in (_blur(radius / pixel_size, size) for radius, *_ in _CAVITIES))


def cavity_shading(
    depth: np.ndarray,
    cover: np.ndarray,
    at: np.ndarray,
    own_depth: np.ndarray,
    facing: np.ndarray,
    pixel_size: float,
    size: int,
) -> np.ndarray:
    """Factor 0..1 (P,) of the covered pixels: darker where the surface lies behind the average depth around it.

    `depth` and `cover` are (H, W) with zeros where there is no surface, which takes no part in the averages; `at` are
    the places of the covered pixels in them, `own_depth` their depths in pixels, `facing` how much they face the
    viewer; `pixel_size` is in metres, `size` the side of the picture. Where the surface turns away from the viewer
    (`facing` near 0) it recedes by itself, so the shadow is held back there, otherwise every outline would be drawn in
    black; but not where surface is all around, as in a mouth; only there does it get really dark: ears, seen from the
    front, lie behind the head's edge and are no cavity.
    """
    factor = np.ones_like(own_depth)
    facing = 0.25 + 0.75 * np.clip((facing - 0.15) / 0.5, 0, 1)
    for radius, gain, floor, floor_at_edge in _CAVITIES:
        block, width = _blur(radius / pixel_size, size)
        mean_cover = _blurred(_average_blocks(cover, block), width)
        mean = _blurred(_average_blocks(depth, block), width)
        mean /= np.maximum(mean_cover, 1e-6)
        enclosed = 0.9 * np.clip((mean_cover - 0.97) / 0.03, 0, 1)
        mean, enclosed = (_spread_blocks(part, block).ravel()[at] for part in (mean, enclosed))
        behind = np.maximum(own_depth - mean, 0) / (width * block)
        factor *= np.clip(
            1 - np.maximum(facing, enclosed) * gain * behind,
            floor_at_edge + (floor - floor_at_edge) * enclosed / 0.9,
            1,
        )
    return factor


def _average_blocks(image: np.ndarray, block: int) -> np.ndarray:
    if block == 1:
        return image
    summed: Any = sum(image[i::block, j::block] for i in range(block) for j in range(block))
    return summed / np.float32(block * block)


def _blurred(image: np.ndarray, width: int) -> np.ndarray:
    """Two averages over width x width pixels (odd) make a triangle filter, close to a Gaussian; the border is a
    mirror.
    """
    wide = np.pad(image, width - 1, mode="symmetric")
    for _ in range(2):
        wide = _window_sums(_window_sums(wide, width), width, axis=1)
        wide *= np.float32(1 / width**2)
    return wide


def _spread_blocks(image: np.ndarray, block: int) -> np.ndarray:
    """Enlarge by linear interpolation between block centres: repeat, then average over one block."""
    if block == 1:
        return image
    wide = np.pad(image.repeat(block, axis=0).repeat(block, axis=1), (block // 2, (block - 1) // 2), mode="edge")
    return _window_sums(_window_sums(wide, block), block, axis=1) / np.float32(block * block)


def _window_sums(image: np.ndarray, width: int, axis: int = 0) -> np.ndarray:
    """Sums of `width` neighbours along an axis, without its last width - 1 places: sums of 1, 2, 4, ... are added
    up.
    """
    length = image.shape[axis] - width + 1
    part, parts = image, 1
    total, summed = None, 0
    while True:
        if width & parts:
            piece = _shifted(part, summed, length, axis)
            total = piece if total is None else total + piece
            summed += parts
        if summed == width and total is not None:
            return total
        rest = part.shape[axis] - parts
        part, parts = _shifted(part, 0, rest, axis) + _shifted(part, parts, rest, axis), 2 * parts


def _shifted(image: np.ndarray, start: int, length: int, axis: int) -> np.ndarray:
    return image[start : start + length] if axis == 0 else image[:, start : start + length]


def ambient_light(vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Share 0..1 of a uniform sky's light that reaches each vertex (V,): integral of visibility times cosine over that
    without any obstacle.

    Args:
        vertices: (V, 3), any unit.
        faces: (F, 3).
        normals: (V, 3) unit vectors.
    """
    middle = (vertices.max(axis=0) + vertices.min(axis=0)) / 2
    radius = float(np.linalg.norm(vertices - middle, axis=1).max()) or 1.0
    unit = (vertices - middle) / radius  # inside the unit ball
    a, b, c = (unit[faces[:, corner]] for corner in range(3))
    if np.linalg.norm(np.cross(b - a, c - a), axis=1).sum() / 2 > _LAYERS * np.pi:
        return np.ones(len(vertices))
    lifted = unit + _LIFT * normals
    reached, possible = np.zeros(len(vertices)), np.zeros(len(vertices))
    scale, centre = PICTURE / (2 * (1 + 2 * _LIFT)), (PICTURE - 1) / 2
    for direction in _directions(DIRECTIONS):
        turn = _looking_along(direction)  # rows: right, up, toward the light
        cosine = normals @ direction
        screen, points = ((place @ turn.T) * [scale, -scale, -scale] + [centre, centre, 0] for place in (unit, lifted))
        hit = visible_fragments(screen, faces, PICTURE, PICTURE, dtype=np.float32)
        depth = np.full(PICTURE * PICTURE, np.inf, np.float32)
        depth[hit.pixel] = hit.depth
        column, row = (np.clip((points[:, axis] + 0.5).astype(int), 0, PICTURE - 1) for axis in (0, 1))
        lit = np.maximum(cosine, 0)
        # depth changes so much towards the pixel's middle
        steep = 0.5 * np.sqrt(np.maximum(1 - cosine**2, 0)) / np.maximum(cosine, 0.1)
        reached += lit * (points[:, 2] <= depth[row * PICTURE + column] + steep)
        possible += lit
    return np.divide(reached, possible, out=np.ones(len(vertices)), where=possible > 0)


def light_of_motion(frames: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """:func:`ambient_light` (V,) of a moving mesh (T, V, 3).

    A vertex counts by the frame of those looked at that gives it the most light: lips that touch are not dark when they
    open.
    """
    farthest = int(np.linalg.norm(frames - frames[0], axis=2).mean(axis=1).argmax())
    chosen = {0, farthest, *np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)[1:-1].tolist()}
    return np.max(
        [ambient_light(frames[frame], faces, vertex_normals(frames[frame], faces)) for frame in sorted(chosen)], axis=0
    )


def occlusion_tint(light: np.ndarray, dark: Sequence[float]) -> np.ndarray:
    """Factors (V, 3) on colours for the light (V,) of :func:`light_of_motion`: 1 on skin, ``dark`` where it is
    occluded.
    """
    share = np.clip((light - _DARK) / (_LIT - _DARK), 0, 1)
    share = share * share * (3 - 2 * share)
    return np.asarray(dark) + share[:, None] * (1 - np.asarray(dark))


def _directions(count: int) -> np.ndarray:
    """Unit vectors (count, 3), evenly over the sphere: a Fibonacci lattice."""
    number = np.arange(count) + 0.5
    height, angle = 1 - 2 * number / count, np.pi * (1 + 5**0.5) * number
    around = np.sqrt(1 - height**2)
    return np.stack([around * np.cos(angle), height, around * np.sin(angle)], axis=1)


def _looking_along(direction: np.ndarray) -> np.ndarray:
    """Rotation (3, 3) whose last row is the direction."""
    right = np.cross([0.0, 1.0, 0.0] if abs(direction[1]) < 0.9 else [1.0, 0.0, 0.0], direction)
    right /= np.linalg.norm(right)
    return np.stack([right, np.cross(direction, right), direction])
