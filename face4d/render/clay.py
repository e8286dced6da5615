"""Shaded pictures of a mesh, for people: clay under three lights, smooth normals, soft shadows in concave places.

Orthographic camera in front of the face (+z toward the viewer, y up). Nothing here knows what the mesh
is: heads of any topology, with open mouths, are drawn the same way. Back faces are dark, so through an
open mouth or from below the neck one looks into darkness. Concave places (eye corners, nostrils, under
the chin, between the lips) are darkened by cavity shading, see :mod:`face4d.render.occlusion`.
"""

from __future__ import annotations

import math
import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass

import numpy as np
from PIL import Image, ImageDraw

from face4d.mesh.geometry import corner_sum, vertex_normals
from face4d.render.occlusion import cavity_shading, shading_reach
from face4d.render.zbuffer import Fragments, visible_fragments

__all__ = ["CLAY", "Framing", "frame_view", "render_mesh", "render_sequence"]

CLAY = (0.60, 0.475, 0.40)  # linear RGB reflectance, 0..1
_BACK_FACE = np.array([0.050, 0.022, 0.020], dtype=np.float32)

# direction to the light in camera space (x right, y up, z to the viewer), colour x strength
_LIGHTS = (
    ((-0.55, 0.60, 0.62), (1.02, 0.97, 0.90)),  # key, from the upper left
    ((0.90, 0.05, 0.35), (0.17, 0.20, 0.26)),  # fill, cool, from the right
    ((0.30, 0.70, -0.55), (0.38, 0.38, 0.42)),  # rim, from behind
)
_AMBIENT = np.array([0.17, 0.165, 0.175], dtype=np.float32)
_GLOSS = 0.05


_TOWARD_LIGHT = np.array([np.asarray(direction) / np.linalg.norm(direction) for direction, _ in _LIGHTS], np.float32)
_LIGHT_COLOR = np.array([color for _, color in _LIGHTS], np.float32)
_HALFWAY = _TOWARD_LIGHT + np.array([0, 0, 1], np.float32)
_HALFWAY /= np.linalg.norm(_HALFWAY, axis=1, keepdims=True)
_GAMMA = (255 * np.linspace(0, 1, 4096) ** (1 / 2.2) + 0.5).astype("<u4")


@dataclass(frozen=True)
class Framing:
    """What the square picture shows: its centre (x, y) and half its side, in metres, after turning."""

    center: tuple[float, float]
    half_side: float


def frame_view(vertices: np.ndarray, *, yaw: float = 0.0, pitch: float = 0.0, margin: float = 0.06) -> Framing:
    """The smallest square, plus a margin, that holds vertices (..., V, 3) turned by yaw and pitch in degrees."""
    turned = np.asarray(vertices, dtype=np.float64).reshape(-1, 3) @ _turn(yaw, pitch).T
    low, high = turned[:, :2].min(axis=0), turned[:, :2].max(axis=0)
    half_side = float((high - low).max() / 2 * (1 + margin))
    return Framing((float(low[0] + high[0]) / 2, float(low[1] + high[1]) / 2), half_side or 1.0)


def render_mesh(
    vertices: np.ndarray,
    faces: np.ndarray,
    *,
    size: int = 512,
    yaw: float = 0.0,
    pitch: float = 0.0,
    framing: Framing | None = None,
    colors: np.ndarray | None = None,
    landmarks: np.ndarray | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
    supersample: int = 2,
) -> np.ndarray:
    """One picture, (size, size, 3) uint8, of one mesh.

    Args:
        vertices: (V, 3) float, metres, y up, face toward +z.
        faces: (F, 3) int, counter-clockwise seen from outside.
        yaw, pitch: degrees; positive yaw turns the face to the right of the picture, positive pitch lowers it.
        framing: what the picture shows; by default everything, see :func:`frame_view`.
        colors: (V, 3) float linear RGB in 0..1; default: :data:`CLAY`.
        landmarks: (L, 3) points to draw as dots on top, metres.
        supersample: samples per pixel and direction along outlines.

    Example:
        ``render_mesh(vertices, faces, yaw=30)``
    """
    vertices = np.asarray(vertices)
    return render_sequence(
        vertices[None],
        faces,
        size=size,
        yaw=yaw,
        pitch=pitch,
        framing=framing,
        colors=colors,
        landmarks=None if landmarks is None else np.asarray(landmarks)[None],
        background=background,
        supersample=supersample,
    )[0]


def render_sequence(
    vertices: np.ndarray,
    faces: np.ndarray,
    *,
    size: int = 512,
    yaw: float = 0.0,
    pitch: float = 0.0,
    framing: Framing | None = None,
    colors: np.ndarray | None = None,
    landmarks: np.ndarray | None = None,
    background: tuple[int, int, int] = (255, 255, 255),
    supersample: int = 2,
) -> np.ndarray:
    """Pictures (T, size, size, 3) uint8 of a moving mesh (T, V, 3), all under one framing.

    Arguments as those of :func:`render_mesh`; ``landmarks`` is (T, L, 3), ``colors`` is (V, 3) or (T, V, 3).

    Raises:
        ValueError: vertices that are not (T, V, 3) and finite, or colours of another count.
    """
    vertices = np.asarray(vertices, dtype=np.float64)
    faces = np.asarray(faces)
    if vertices.ndim != 3 or vertices.shape[2] != 3 or vertices.shape[0] == 0:
        raise ValueError(f"vertices: expected shape (T, V, 3) with T > 0, found {vertices.shape}")
    frames, count, _ = vertices.shape
    if colors is not None:
        colors = np.asarray(colors, dtype=np.float32)
        if colors.shape not in ((count, 3), (frames, count, 3)):
            raise ValueError(f"colors: expected shape ({count}, 3) or ({frames}, {count}, 3), found {colors.shape}")
        if colors.ndim == 2:
            colors = np.broadcast_to(colors, (frames, count, 3))
    framing = framing or frame_view(vertices, yaw=yaw, pitch=pitch)
    turn = _turn(yaw, pitch)
    sums = corner_sum(faces, count)

    # Memory freed at the end of the heap goes back to the system, and asking for it again costs a quarter of the time
    # of a frame. The C library keeps as much as twice the largest block it has seen freed: here is one, never touched.
    np.empty(31_000_000, dtype=np.uint8)

    def picture(frame: int) -> np.ndarray:
        turned = vertices[frame] @ turn.T
        image = _picture(
            turned,
            faces,
            vertex_normals(turned, faces, sums),
            size,
            framing,
            None if colors is None else colors[frame],
            np.array(background, np.float32) / 255,
            supersample,
        )
        if landmarks is not None:
            dots = _project(np.asarray(landmarks[frame]) @ turn.T, framing, size)
            image = _dots(image, dots[:, :2], radius=max(1.5, size / 170))
        return image

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return np.stack(list(pool.map(picture, range(frames))))


def _turn(yaw: float, pitch: float) -> np.ndarray:
    """Rotation matrix: yaw about y first, then pitch about x (positive lowers the face)."""
    a, b = np.deg2rad(yaw), np.deg2rad(pitch)
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_x @ about_y


def _project(turned: np.ndarray, framing: Framing, size: int) -> np.ndarray:
    """Camera space to the screen of the z-buffer: pixels, y down, z away from the viewer in pixels too."""
    scale, middle = size / (2 * framing.half_side), (size - 1) / 2
    screen = np.empty_like(turned, dtype=np.float64)
    screen[:, 0] = middle + (turned[:, 0] - framing.center[0]) * scale
    screen[:, 1] = middle - (turned[:, 1] - framing.center[1]) * scale
    screen[:, 2] = -turned[:, 2] * scale
    return screen


def _picture(
    turned: np.ndarray,
    faces: np.ndarray,
    normals: np.ndarray,
    size: int,
    framing: Framing,
    colors: np.ndarray | None,
    background: np.ndarray,
    supersample: int,
) -> np.ndarray:
    """(size, size, 3) uint8: one sample per pixel inside surfaces, supersample^2 along their outlines."""
    screen = _project(turned, framing, size)
    a, b, c = (screen[faces[:, k]] for k in range(3))
    is_front = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]) < 0
    attributes = normals if colors is None else np.hstack([normals, colors])
    # (3 corners, attributes, F)
    corners = np.ascontiguousarray(attributes.astype(np.float32).T[:, faces.T].swapaxes(0, 1))

    background = background**2.2
    image = np.full(size * size, _encoded(background[:, None]))
    hit = visible_fragments(screen, faces, size, size, dtype=np.float32)
    if hit.pixel.size == 0:
        return _rgb(image)
    light, facing = _shade(hit, corners, is_front)
    window = _Window.around(hit.pixel, size, 2 * framing.half_side / size)
    at = window.places(hit.pixel)
    depth, cover = window.empty(), window.empty()
    depth.flat[at], cover.flat[at] = hit.depth, 1
    shadow = cavity_shading(depth, cover, at, hit.depth, facing, window.pixel_size, size)
    light *= shadow
    image[hit.pixel] = _encoded(light)
    if supersample > 1:
        shadows = np.ones_like(depth)
        shadows.flat[at] = shadow
        _refine_outlines(
            image, window, cover, depth, shadows, screen, faces, corners, is_front, background, supersample
        )
    return _rgb(image)


def _encoded(light: np.ndarray) -> np.ndarray:
    """Linear light (3, P) as pixels (P,): red, green, blue and an empty byte, moved as one number."""
    red, green, blue = (_GAMMA[(np.clip(channel, 0, 1) * 4095).astype(np.int32)] for channel in light)
    return red | green << 8 | blue << 16


def _rgb(image: np.ndarray) -> np.ndarray:
    """Pixels (size * size,) of `_encoded` as (size, size, 3) uint8."""
    size = math.isqrt(image.size)
    return image.view(np.uint8).reshape(size, size, 4)[..., :3]


@dataclass(frozen=True)
class _Window:
    """The part of a square picture in which there is something to see."""

    top: int
    left: int
    height: int
    width: int
    size: int  # of the picture, pixels
    pixel_size: float  # metres

    @classmethod
    def around(cls, pixel: np.ndarray, size: int, pixel_size: float) -> _Window:
        """The window of all pixels (P,) of the picture, and around it what their shadows reach; divisible as the
        picture is.
        """
        reach = 4 + shading_reach(pixel_size, size)
        rows, columns = pixel // size, pixel % size
        low = [max(int(part.min()) - reach, 0) // 4 * 4 for part in (rows, columns)]
        high = [min((int(part.max()) + reach + 4) // 4 * 4, size) for part in (rows, columns)]
        return cls(low[0], low[1], high[0] - low[0], high[1] - low[1], size, pixel_size)

    def empty(self) -> np.ndarray:
        return np.zeros((self.height, self.width), dtype=np.float32)

    def places(self, pixel: np.ndarray) -> np.ndarray:
        """Pixel numbers of the picture as pixel numbers of the window."""
        row, column = np.divmod(pixel, self.size)
        return (row - self.top) * self.width + (column - self.left)

    def pixels(self, place: np.ndarray) -> np.ndarray:
        """Pixel numbers of the window as pixel numbers of the picture."""
        row, column = np.divmod(place, self.width)
        return (row + self.top) * self.size + (column + self.left)


def _refine_outlines(
    image: np.ndarray,
    window: _Window,
    cover: np.ndarray,
    depth: np.ndarray,
    shadow: np.ndarray,
    screen: np.ndarray,
    faces: np.ndarray,
    corners: np.ndarray,
    is_front: np.ndarray,
    background: np.ndarray,
    fine: int,
) -> None:
    """Draw again, with fine x fine samples, the pixels where a surface ends or jumps in depth."""
    size = window.size
    far = np.where(cover > 0, depth, depth.max() + size)
    jump = np.zeros(far.shape, dtype=bool)
    for axis in (0, 1):
        first = np.diff(far, axis=axis)
        bend = np.abs(np.diff(first, axis=axis)) > 1.8  # a jump or a crease, however the surface slopes
        inner = jump[1:-1] if axis == 0 else jump[:, 1:-1]
        inner |= bend
    seen = screen - [window.left, window.top, 0]
    chosen = np.flatnonzero(_touching(jump, seen, faces))
    if chosen.size == 0:
        return
    mask = jump.repeat(fine, axis=0).repeat(fine, axis=1)
    half = (fine - 1) / 2  # fine samples lie as far to both sides of a pixel's middle
    samples = visible_fragments(seen * fine + [half, half, 0], faces[chosen], *mask.shape, mask=mask, dtype=np.float32)
    row, column = np.divmod(samples.pixel, mask.shape[1])
    samples = samples._replace(face=chosen[samples.face])
    light, _ = _shade(samples, corners, is_front)

    outline = np.flatnonzero(jump)
    number = np.zeros(jump.size, dtype=np.int64)
    number[outline] = np.arange(outline.size)
    place = row // fine * window.width + column // fine
    at = number[place]
    # a sample behind (or before) the pixel's own surface lies in the shadow of a neighbour that shows that surface
    behind = samples.depth / fine - depth.flat[place]
    around = np.pad(shadow, 1, mode="edge")
    y, x = np.divmod(outline, window.width)
    nine = np.stack([around[y + i, x + j] for i in range(3) for j in range(3)])  # (9, outline)
    darkest, lightest = nine.min(axis=0)[at], nine.max(axis=0)[at]
    light *= np.where(behind > 1.5, darkest, np.where(behind < -1.5, lightest, nine[4][at]))
    share = np.bincount(at, minlength=outline.size) / fine**2
    total = np.stack([np.bincount(at, weights=channel, minlength=outline.size) for channel in light]) / fine**2
    image[window.pixels(outline)] = _encoded((total + (1 - share) * background[:, None]).astype(np.float32))


def _touching(mask: np.ndarray, screen: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Which faces (F,) have a bounding box that meets a pixel of the mask, by a summed-area table."""
    height, width = mask.shape
    table = np.zeros((height + 1, width + 1), dtype=np.int32)
    np.cumsum(np.cumsum(mask, axis=1, dtype=np.int32), axis=0, out=table[1:, 1:])
    bounds = []
    for part, last in zip(screen[:, :2].T, (width, height)):
        a, b, c = (np.clip(part + 0.5, -1, last + 1)[corner] for corner in faces.T)  # edges of pixels are whole
        low, high = np.minimum(np.minimum(a, b), c), np.maximum(np.maximum(a, b), c)
        bounds.append(
            (np.clip(np.floor(low), 0, last).astype(np.int64), np.clip(np.ceil(high), 0, last).astype(np.int64))
        )
    (x0, x1), (y0, y1) = bounds
    return table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0] > 0


def _shade(hit: Fragments, corners: np.ndarray, is_front: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Linear light (3, P) that fragments send to the viewer, and how much they face the viewer (P,).

    `corners` is (3 corners, attributes, F). One row of numbers per quantity, for the sake of speed; products of small
    matrices are written out, since a threaded BLAS would fight with the threads that draw the frames.
    """
    weights = hit.barycentric.T
    x, y, z, *colors = (
        sum(weight * attribute[hit.face] for weight, attribute in zip(weights, per_corner))
        for per_corner in corners.swapaxes(0, 1)
    )
    length = np.sqrt(x * x + y * y + z * z) + np.float32(1e-12)
    x /= length
    y /= length
    z /= length
    ambient = np.float32(0.82) + np.float32(0.18) * y
    light = _AMBIENT[:, None] * ambient
    shine = np.zeros_like(x)
    for toward, halfway, color in zip(_TOWARD_LIGHT, _HALFWAY, _LIGHT_COLOR):
        lit = _along(x, y, z, toward)
        lit += np.float32(0.18)  # soft terminator, as in skin and clay
        np.maximum(lit, 0, out=lit)
        for channel, strength in zip(light, color / np.float32(1.18)):
            channel += strength * lit
        gloss = np.maximum(_along(x, y, z, halfway), 0)
        for _ in range(4):  # to the 16th power
            gloss *= gloss
        gloss *= np.float32(_GLOSS * color.mean())
        shine += gloss
    for channel, own in zip(light, colors or np.array(CLAY, np.float32)):
        channel *= own if not colors else np.clip(own, 0, 1)
        channel += shine
    back = np.flatnonzero(~is_front[hit.face])
    light[:, back] = _BACK_FACE[:, None]
    facing = np.abs(z)
    facing[back] = 1
    return light, facing


def _along(x: np.ndarray, y: np.ndarray, z: np.ndarray, direction: np.ndarray) -> np.ndarray:
    return x * direction[0] + y * direction[1] + z * direction[2]


def _dots(image: np.ndarray, centers: np.ndarray, radius: float) -> np.ndarray:
    """Draw anti-aliased discs with a dark rim at pixel positions (L, 2)."""
    canvas = Image.fromarray(image)
    fine = 4
    for x, y in centers:
        x, y = x + 0.5, y + 0.5  # from the corner of the picture
        left, top = int(np.floor(x - radius - 2)), int(np.floor(y - radius - 2))
        side = int(2 * radius + 5)
        stamp = Image.new("L", (side * fine, side * fine), 0)
        where = [
            (x - left - radius) * fine,
            (y - top - radius) * fine,
            (x - left + radius) * fine,
            (y - top + radius) * fine,
        ]
        ImageDraw.Draw(stamp).ellipse(where, fill=255)
        stamp = stamp.resize((side, side), Image.Resampling.BOX)
        canvas.paste(Image.new("RGB", stamp.size, (214, 40, 40)), (left, top), stamp)
    return np.asarray(canvas)
