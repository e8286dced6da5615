"""How much of the light from all around reaches each vertex of a mesh: little in the hollow of a mouth, whichever way one looks into it.

For each of many directions the mesh is drawn into a z-buffer, and a vertex that lies behind what is drawn gets no light from there (Zhukov, Iones,
Kronin, "An ambient light illumination model", 1998). Unlike :mod:`face4d.view.hollows`, which shades pixels of one view, the answer belongs to the
mesh and can go into a file.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from face4d.mesh.rasterizer import visible_fragments

__all__ = ["ambient_light", "hollow_tint"]

DIRECTIONS = 40
PICTURE = 160  # side of a z-buffer, pixels
FRAMES = 3
_LIFT = 0.004  # vertices are looked at so far above the surface, in radii of the mesh, so that they do not hide themselves
_LAYERS = 40  # triangles that cover the picture more often than this are no surface with an outside
_DARK, _LIT = 0.12, 0.45  # ambient light below which a hollow is as dark as it gets, and above which skin is not in a hollow


def ambient_light(vertices: np.ndarray, faces: np.ndarray, normals: np.ndarray) -> np.ndarray:
    """Share 0..1 of a uniform sky's light that reaches each vertex (V,): integral of visibility times cosine over that without any obstacle.

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
    scale = PICTURE / (2 * (1 + 2 * _LIFT))
    for direction in _directions(DIRECTIONS):
        turn = _looking_along(direction)  # rows: right, up, toward the light
        cosine = normals @ direction
        screen, points = ((place @ turn.T) * [scale, -scale, -scale] + [PICTURE / 2, PICTURE / 2, 0] for place in (unit, lifted))
        hit = visible_fragments(screen, faces, PICTURE, PICTURE, dtype=np.float32)
        depth = np.full(PICTURE * PICTURE, np.inf, np.float32)
        depth[hit.pixel] = hit.depth
        column, row = (np.clip(points[:, axis].astype(int), 0, PICTURE - 1) for axis in (0, 1))
        lit = np.maximum(cosine, 0)
        steep = 0.5 * np.sqrt(np.maximum(1 - cosine**2, 0)) / np.maximum(cosine, 0.1)  # depth changes so much towards the pixel's middle
        reached += lit * (points[:, 2] <= depth[row * PICTURE + column] + steep)
        possible += lit
    return np.divide(reached, possible, out=np.ones(len(vertices)), where=possible > 0)


def hollow_tint(frames: np.ndarray, faces: np.ndarray, dark: Sequence[float]) -> np.ndarray:
    """Factors (V, 3) on the colour of a moving mesh (T, V, 3): 1 on skin, ``dark`` deep in hollows.

    A vertex counts by the frame of those looked at that gives it the most light: lips that touch are not dark when they open.
    """
    from face4d.view.render import vertex_normals

    farthest = int(np.linalg.norm(frames - frames[0], axis=2).mean(axis=1).argmax())
    chosen = {0, farthest, *np.linspace(0, len(frames) - 1, FRAMES).round().astype(int)[1:-1].tolist()}
    light = np.max([ambient_light(frames[frame], faces, vertex_normals(frames[frame], faces)) for frame in sorted(chosen)], axis=0)
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
