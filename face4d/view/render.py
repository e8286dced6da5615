"""Shaded pictures of a mesh, for people: clay under three lights, smooth normals, soft shadows in the hollows.

Orthographic camera in front of the face (+z toward the viewer, y up). Nothing here knows what the mesh
is: heads of any topology, with open mouths, are drawn the same way. Back faces are dark, so through an
open mouth or from below the neck one looks into darkness. The hollows (eye corners, nostrils, under
the chin, between the lips) are darkened by unsharp masking of the depth buffer (Luft, Colditz, Deussen,
"Image Enhancement by Unsharp Masking the Depth Buffer", SIGGRAPH 2006).
"""

from __future__ import annotations

import os
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Sequence

import numpy as np
from scipy import sparse
from scipy.ndimage import maximum_filter, minimum_filter, uniform_filter
from PIL import Image, ImageDraw

from face4d.mesh.rasterizer import Fragments, visible_fragments

__all__ = ["CLAY", "SKIN", "Framing", "contact_sheet", "frame_view", "render_mesh", "render_sequence", "vertex_normals"]

CLAY = (0.60, 0.475, 0.40)  # materials: linear RGB reflectance, 0..1
SKIN = (0.86, 0.60, 0.48)
_BACK_FACE = np.array([0.050, 0.022, 0.020], dtype=np.float32)

# direction to the light in camera space (x right, y up, z to the viewer), colour x strength
_LIGHTS = (
    ((-0.55, 0.60, 0.62), (1.02, 0.97, 0.90)),  # key, from the upper left
    ((0.90, 0.05, 0.35), (0.17, 0.20, 0.26)),  # fill, cool, from the right
    ((0.30, 0.70, -0.55), (0.38, 0.38, 0.42)),  # rim, from behind
)
_AMBIENT = np.array([0.17, 0.165, 0.175], dtype=np.float32)
_GLOSS = 0.05


_TOWARD_LIGHT = np.float32([direction / np.linalg.norm(direction) for direction, _ in _LIGHTS])
_LIGHT_COLOR = np.float32([color for _, color in _LIGHTS])
_HALFWAY = _TOWARD_LIGHT + np.float32([0, 0, 1])
_HALFWAY /= np.linalg.norm(_HALFWAY, axis=1, keepdims=True)
_GAMMA = (255 * np.linspace(0, 1, 4096) ** (1 / 2.2) + 0.5).astype(np.uint8)
# shadow in the hollows: radius in metres, gain, darkest factor
_HOLLOWS = ((0.003, 0.8, 0.70), (0.015, 1.6, 0.10))


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
    material: tuple[float, float, float] = CLAY,
    background: tuple[int, int, int] = (255, 255, 255),
    supersample: int = 2,
) -> np.ndarray:
    """One picture, (size, size, 3) uint8, of one mesh.

    Parameters
    ----------
    vertices : (V, 3) float, metres, y up, face toward +z
    faces : (F, 3) int, counter-clockwise seen from outside
    yaw, pitch : degrees; positive yaw turns the face to the right of the picture, positive pitch lowers it
    framing : what the picture shows; by default everything, see `frame_view`
    colors : (V, 3) float linear RGB in 0..1, replaces `material`
    landmarks : (L, 3) points to draw as dots on top, metres
    supersample : samples per pixel and direction along outlines

    Example: ``render_mesh(vertices, faces, yaw=30)``
    """
    vertices = np.asarray(vertices)
    return render_sequence(
        vertices[None], faces, size=size, yaw=yaw, pitch=pitch, framing=framing, colors=colors,
        landmarks=None if landmarks is None else np.asarray(landmarks)[None],
        material=material, background=background, supersample=supersample,
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
    material: tuple[float, float, float] = CLAY,
    background: tuple[int, int, int] = (255, 255, 255),
    supersample: int = 2,
) -> np.ndarray:
    """Pictures (T, size, size, 3) uint8 of a moving mesh (T, V, 3), all under one framing.

    Arguments as in `render_mesh`; `landmarks` is (T, L, 3), `colors` is (V, 3) or (T, V, 3).

    Raises
    ------
    ValueError
        For vertices that are not (T, V, 3) and finite, or colours of another count.
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
    corner_sum = _corner_sum(faces, count)

    def picture(frame: int) -> np.ndarray:
        turned = vertices[frame] @ turn.T
        image = _picture(
            turned, faces, _normals(turned, faces, corner_sum), size, framing,
            None if colors is None else colors[frame], material, np.float32(background) / 255, supersample,
        )
        if landmarks is not None:
            dots = _project(np.asarray(landmarks[frame]) @ turn.T, framing, size)
            image = _dots(image, dots[:, :2], radius=max(1.5, size / 170))
        return image

    with ThreadPoolExecutor(max_workers=min(4, os.cpu_count() or 1)) as pool:
        return np.stack(list(pool.map(picture, range(frames))))


def vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Unit normals (V, 3): the sum of the cross products of the triangles around a vertex (area-weighted)."""
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces)
    return _normals(vertices, faces, _corner_sum(faces, len(vertices)))


def contact_sheet(
    images: Sequence[np.ndarray], columns: int, captions: Sequence[str] | None = None, *, gap: int = 4
) -> np.ndarray:
    """Pictures of one size, row by row, in one picture (H, W, 3) uint8, each with its caption in the corner."""
    if not len(images):
        raise ValueError("images: expected at least one, found none")
    if captions is not None and len(captions) != len(images):
        raise ValueError(f"captions: expected {len(images)}, found {len(captions)}")
    height, width, _ = images[0].shape
    rows = -(-len(images) // columns)
    sheet = Image.new("RGB", (columns * (width + gap) - gap, rows * (height + gap) - gap), (255, 255, 255))
    draw = ImageDraw.Draw(sheet)
    for number, image in enumerate(images):
        x, y = number % columns * (width + gap), number // columns * (height + gap)
        sheet.paste(Image.fromarray(np.asarray(image, dtype=np.uint8)), (x, y))
        if captions is not None:
            draw.text((x + 6, y + 4), captions[number], fill=(40, 40, 40), font_size=max(11, height // 22))
    return np.asarray(sheet)


def _turn(yaw: float, pitch: float) -> np.ndarray:
    """Rotation matrix: yaw about y first, then pitch about x (positive lowers the face)."""
    a, b = np.deg2rad(yaw), np.deg2rad(pitch)
    about_y = np.array([[np.cos(a), 0, np.sin(a)], [0, 1, 0], [-np.sin(a), 0, np.cos(a)]])
    about_x = np.array([[1, 0, 0], [0, np.cos(b), -np.sin(b)], [0, np.sin(b), np.cos(b)]])
    return about_x @ about_y


def _corner_sum(faces: np.ndarray, count: int) -> sparse.csr_matrix:
    """(V, F) matrix that adds up a value per face at its corners."""
    face_numbers = np.repeat(np.arange(len(faces)), 3)
    return sparse.csr_matrix((np.ones(face_numbers.size), (np.ravel(faces), face_numbers)), shape=(count, len(faces)))


def _normals(vertices: np.ndarray, faces: np.ndarray, corner_sum: sparse.csr_matrix) -> np.ndarray:
    a, b, c = (vertices[faces[:, k]] for k in range(3))
    normals = corner_sum @ np.cross(b - a, c - a)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), 1e-20)


def _project(turned: np.ndarray, framing: Framing, size: int) -> np.ndarray:
    """Camera space to the rasterizer's screen: pixels, y down, z away from the viewer in pixels too."""
    scale = size / (2 * framing.half_side)
    screen = np.empty_like(turned, dtype=np.float64)
    screen[:, 0] = size / 2 + (turned[:, 0] - framing.center[0]) * scale
    screen[:, 1] = size / 2 - (turned[:, 1] - framing.center[1]) * scale
    screen[:, 2] = -turned[:, 2] * scale
    return screen


def _picture(
    turned: np.ndarray,
    faces: np.ndarray,
    normals: np.ndarray,
    size: int,
    framing: Framing,
    colors: np.ndarray | None,
    material: tuple[float, float, float],
    background: np.ndarray,
    supersample: int,
) -> np.ndarray:
    """(size, size, 3) uint8: one sample per pixel inside surfaces, supersample^2 along their outlines."""
    screen = _project(turned, framing, size)
    a, b, c = (screen[faces[:, k]] for k in range(3))
    is_front = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0]) < 0
    attributes = normals if colors is None else np.hstack([normals, colors])
    corners = attributes.astype(np.float32)[faces].reshape(len(faces), -1)  # (F, 3 corners x attributes)

    hit = visible_fragments(screen, faces, size, size, dtype=np.float32)
    light, facing_hit = _shade(hit, corners, is_front, material)
    image = np.empty((size * size, 3), dtype=np.float32)
    image[:] = background**2.2
    image[hit.pixel] = light
    depth = np.zeros(size * size, dtype=np.float32)
    cover = np.zeros(size * size, dtype=np.float32)
    facing = np.zeros(size * size, dtype=np.float32)
    depth[hit.pixel], cover[hit.pixel], facing[hit.pixel] = hit.depth, 1, facing_hit
    grid = (size, size)
    shadow = _hollow_shadow(depth.reshape(grid), cover.reshape(grid), facing.reshape(grid), 2 * framing.half_side / size)
    image *= shadow.reshape(-1, 1)
    if supersample > 1 and hit.pixel.size:
        _refine_outlines(image, cover, depth, shadow, screen, faces, corners, is_front, material, background**2.2, supersample)
    return _GAMMA[(np.clip(image, 0, 1) * 4095).astype(np.int32)].reshape(size, size, 3)


def _refine_outlines(
    image: np.ndarray, cover: np.ndarray, depth: np.ndarray, shadow: np.ndarray, screen: np.ndarray, faces: np.ndarray,
    corners: np.ndarray, is_front: np.ndarray, material: tuple[float, float, float], background: np.ndarray, fine: int,
) -> None:
    """Draw again, with fine x fine samples, the pixels where a surface ends or jumps in depth."""
    size = len(shadow)
    far = np.where(cover > 0, depth, depth.max() + size).reshape(size, size)
    jump = np.zeros((size, size), dtype=bool)
    for axis in (0, 1):
        first = np.diff(far, axis=axis)
        bend = np.abs(np.diff(first, axis=axis)) > 1.8  # a jump or a crease, however the surface slopes
        jump |= np.pad(bend, [(1, 1) if k == axis else (0, 0) for k in (0, 1)])
    chosen = np.flatnonzero(_touching(jump, screen, faces))
    if chosen.size == 0:
        return
    samples = visible_fragments(screen * fine, faces[chosen], size * fine, size * fine, dtype=np.float32)
    pixel = samples.pixel // (size * fine) // fine * size + samples.pixel % (size * fine) // fine
    kept = jump.ravel()[pixel]
    samples = Fragments(samples.pixel[kept], chosen[samples.face[kept]], samples.barycentric[kept], samples.depth[kept])
    light, _ = _shade(samples, corners, is_front, material)
    # a sample behind (or before) the pixel's own surface lies in the shadow of a neighbour that shows that surface
    behind = samples.depth / fine - depth[pixel[kept]]
    own, darkest, lightest = (part.ravel()[pixel[kept]] for part in (shadow, minimum_filter(shadow, 3), maximum_filter(shadow, 3)))
    light *= np.where(behind > 1.5, darkest, np.where(behind < -1.5, lightest, own))[:, None]
    outline = np.flatnonzero(jump.ravel())
    number = np.zeros(size * size, dtype=np.int64)
    number[outline] = np.arange(outline.size)
    at = number[pixel[kept]]
    share = np.bincount(at, minlength=outline.size) / fine**2
    for channel in range(3):
        total = np.bincount(at, weights=light[:, channel], minlength=outline.size) / fine**2
        image[outline, channel] = total + (1 - share) * background[channel]


def _touching(mask: np.ndarray, screen: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Which faces (F,) have a bounding box that holds a pixel of the mask, by a summed-area table."""
    size = len(mask)
    table = np.zeros((size + 1, size + 1), dtype=np.int32)
    np.cumsum(np.cumsum(mask, axis=0, dtype=np.int32), axis=1, out=table[1:, 1:])
    corner = np.clip(screen[:, :2], -1, size + 1)[faces]
    low = np.clip(np.floor(corner.min(axis=1)), 0, size).astype(np.int64)
    high = np.clip(np.ceil(corner.max(axis=1)), 0, size).astype(np.int64)
    (x0, y0), (x1, y1) = low.T, high.T
    return table[y1, x1] - table[y0, x1] - table[y1, x0] + table[y0, x0] > 0


def _shade(
    hit: Fragments, corners: np.ndarray, is_front: np.ndarray, material: tuple[float, float, float]
) -> tuple[np.ndarray, np.ndarray]:
    """Linear light (P, 3) that fragments send to the viewer, and how much they face the viewer (P,)."""
    attributes = corners.shape[1] // 3
    own = corners[hit.face]
    sampled = hit.barycentric[:, 0:1] * own[:, :attributes]
    sampled += hit.barycentric[:, 1:2] * own[:, attributes : 2 * attributes]
    sampled += hit.barycentric[:, 2:3] * own[:, 2 * attributes :]
    normal = np.ascontiguousarray(sampled[:, :3])
    normal /= np.sqrt(np.einsum("pk,pk->p", normal, normal))[:, None] + np.float32(1e-12)
    # einsum, not @: a threaded BLAS would fight with the threads that draw the frames
    lit = np.einsum("pk,lk->pl", normal, _TOWARD_LIGHT)
    lit += np.float32(0.18)  # soft terminator, as in skin and clay
    np.maximum(lit, 0, out=lit)
    light = np.einsum("pl,lc->pc", lit, _LIGHT_COLOR / np.float32(1.18))
    light += _AMBIENT * (np.float32(0.82) + np.float32(0.18) * normal[:, 1:2])
    light *= np.float32(material) if attributes == 3 else np.clip(sampled[:, 3:], 0, 1)
    gloss = np.maximum(np.einsum("pk,lk->pl", normal, _HALFWAY), 0)
    gloss *= gloss  # to the 16th power
    gloss *= gloss
    gloss *= gloss
    gloss *= gloss
    light += np.einsum("pl,l->p", gloss, _GLOSS * _LIGHT_COLOR.mean(axis=1))[:, None]
    front = is_front[hit.face]
    light[~front] = _BACK_FACE
    return light, np.where(front, np.abs(normal[:, 2]), np.float32(1))


def _hollow_shadow(depth: np.ndarray, cover: np.ndarray, facing: np.ndarray, pixel_size: float) -> np.ndarray:
    """Factor 0..1 per pixel: darker where the surface lies behind the average depth around it.

    `depth` is in pixels, `pixel_size` in metres. Pixels without surface (`cover` 0) take no part in the
    averages. Where the surface turns away from the viewer (`facing` near 0) it recedes by itself, so the
    shadow is held back there, otherwise every outline would be drawn in black; but not where surface is all
    around, as in a mouth.
    """
    factor = np.ones_like(cover)
    facing = 0.25 + 0.75 * np.clip((facing - 0.15) / 0.5, 0, 1)
    for radius, gain, floor in _HOLLOWS:
        # wide averages need no fine grid
        block = next(b for b in (4, 2, 1) if depth.shape[0] % b == 0 and (b == 1 or radius / pixel_size > 4 * b))
        width = 2 * max(1, round(radius / pixel_size / block)) + 1
        mean_depth, mean_cover = _average_blocks(depth, block), _average_blocks(cover, block)
        for _ in range(2):  # two box filters make a triangle filter, close to a Gaussian
            mean_depth, mean_cover = uniform_filter(mean_depth, width), uniform_filter(mean_cover, width)
        mean = mean_depth / np.maximum(mean_cover, 1e-6)
        enclosed = 0.9 * np.clip((mean_cover - 0.97) / 0.03, 0, 1)
        if block > 1:
            mean, enclosed = (_spread_blocks(part, block) for part in (mean, enclosed))
        behind = np.maximum(depth - mean, 0) / (width * block)
        factor *= np.clip(1 - np.maximum(facing, enclosed) * gain * behind, floor, 1)
    return np.where(cover > 0, factor, 1)


def _average_blocks(image: np.ndarray, block: int) -> np.ndarray:
    if block == 1:
        return image
    return sum(image[i::block, j::block] for i in range(block) for j in range(block)) / np.float32(block * block)


def _spread_blocks(image: np.ndarray, block: int) -> np.ndarray:
    """Enlarge by linear interpolation between block centres: repeat, then average over one block."""
    return uniform_filter(image.repeat(block, axis=0).repeat(block, axis=1), block, origin=0, mode="nearest")


def _dots(image: np.ndarray, centers: np.ndarray, radius: float) -> np.ndarray:
    """Draw anti-aliased discs with a dark rim at pixel positions (L, 2)."""
    canvas = Image.fromarray(image)
    fine = 4
    for x, y in centers:
        left, top = int(np.floor(x - radius - 2)), int(np.floor(y - radius - 2))
        side = int(2 * radius + 5)
        stamp = Image.new("L", (side * fine, side * fine), 0)
        where = [(x - left - radius) * fine, (y - top - radius) * fine, (x - left + radius) * fine, (y - top + radius) * fine]
        ImageDraw.Draw(stamp).ellipse(where, fill=255)
        stamp = stamp.resize((side, side), Image.Resampling.BOX)
        canvas.paste(Image.new("RGB", stamp.size, (214, 40, 40)), (left, top), stamp)
    return np.asarray(canvas)
