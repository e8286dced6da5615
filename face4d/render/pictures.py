"""Pictures of a mesh in a photo: mesh and landmarks drawn over it, depth, mask; and writing pictures."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from face4d.mesh.geometry import vertex_normals
from face4d.render.zbuffer import rasterize
from face4d.runtime.atomic import replacing

_CLAY = np.array([0.78, 0.78, 0.80])
# from the viewer's upper right, in photo axes
_LIGHT = np.array([0.25, -0.35, -0.9]) / np.linalg.norm([0.25, -0.35, -0.9])
_POINT = np.array([0.10, 0.95, 0.35])


class Drawn(NamedTuple):
    """A mesh in a photo: which triangle each pixel shows (H, W), -1 for none, the place in it (H, W, 3), depth (H, W)
    in pixels.
    """

    triangle: np.ndarray
    barycentric: np.ndarray
    depth: np.ndarray

    @property
    def mask(self) -> np.ndarray:
        """(H, W) bool."""
        return self.triangle >= 0

    def spread(self, values: np.ndarray, faces: np.ndarray) -> np.ndarray:
        """Values (V, C) of the vertices, or of other corners with their own faces (F, C), at the covered pixels (N,
        C).
        """
        corners = faces[self.triangle[self.mask]]
        return np.einsum("nk,nkc->nc", self.barycentric[self.mask], values[corners])


def draw(placed: np.ndarray, faces: np.ndarray, height: int, width: int) -> Drawn:
    """Rasterise vertices (V, 3) in photo pixels, z away from the viewer."""
    triangle, barycentric, depth = rasterize(placed, faces, height, width, backfaces=False)
    return Drawn(triangle.astype(np.int64), barycentric, depth)


def clay(photo: np.ndarray, placed: np.ndarray, faces: np.ndarray, drawn: Drawn, opacity: float = 0.9) -> np.ndarray:
    """The photo (H, W, 3) with the mesh over it in grey."""
    normal = drawn.spread(vertex_normals(placed, faces), faces)
    normal /= np.maximum(np.linalg.norm(normal, axis=1, keepdims=True), 1e-12)
    shade = 0.25 + 0.75 * np.clip(normal @ _LIGHT, 0, 1)
    picture = np.array(photo, dtype=np.float64)
    picture[drawn.mask] = (1 - opacity) * picture[drawn.mask] + opacity * shade[:, None] * _CLAY
    return picture


def textured(photo: np.ndarray, colours: np.ndarray, faces: np.ndarray, drawn: Drawn) -> np.ndarray:
    """The photo with the mesh over it in colours (V, 3) of its vertices."""
    picture = np.array(photo, dtype=np.float64)
    picture[drawn.mask] = drawn.spread(colours, faces)
    return picture


def dots(photo: np.ndarray, points: np.ndarray, radius: float | None = None, colour: np.ndarray = _POINT) -> np.ndarray:
    """The photo with round dots at x, y (N, 2 or 3) in pixels, smooth at their edges."""
    picture = np.array(photo, dtype=np.float64)
    height, width = picture.shape[:2]
    radius = radius or max(1.5, 0.006 * float(np.ptp(points[:, :2], axis=0).max()) * 1.3)
    reach = int(np.ceil(radius + 1))
    for x, y in points[:, :2]:
        if not (-reach < x < width + reach and -reach < y < height + reach):
            continue
        rows, columns = (
            slice(max(int(c) - reach, 0), min(int(c) + reach + 2, size)) for c, size in ((y, height), (x, width))
        )
        row, column = np.mgrid[rows, columns]
        share = np.clip(radius + 0.5 - np.hypot(column - x, row - y), 0, 1)[..., None]
        picture[rows, columns] = (1 - share) * picture[rows, columns] + share * colour
    return picture


def depth_picture(drawn: Drawn) -> np.ndarray:
    """(H, W) in 0..1: 1 at the nearest point of the face, just above 0 at the farthest, 0 where there is none."""
    picture = np.zeros(drawn.depth.shape)
    if drawn.mask.any():
        depth = drawn.depth[drawn.mask]
        picture[drawn.mask] = 1 - 0.95 * (depth - depth.min()) / max(float(np.ptp(depth)), 1e-9)
    return picture


def save_picture(path: str | Path, picture: np.ndarray, *, quality: int = 95) -> None:
    """Write (H, W) or (H, W, 3) in 0..1 as PNG or JPEG, by the suffix, whole or not at all."""
    is_jpeg = Path(path).suffix.lower() in (".jpg", ".jpeg")
    # 5 % larger than by default, twice as fast
    options: dict[str, Any] = {"quality": quality} if is_jpeg else {"compress_level": 4}
    with replacing(path) as temporary:
        Image.fromarray(as_bytes(picture)).save(temporary, **options)


def as_bytes(picture: np.ndarray) -> np.ndarray:
    """A picture in 0..1 as uint8."""
    return (np.clip(picture, 0, 1) * 255).round().astype(np.uint8)
