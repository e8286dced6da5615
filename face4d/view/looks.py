"""How a head is shown: its colours (its own where its file has them, the demo head's, else clay; darker where less
light comes), and the demo head finer than its data.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from face4d.demo.detail import FinerHead, finer_head
from face4d.demo.head import SKIN, head_of, vertex_colors
from face4d.errors import InputError
from face4d.mesh.geometry import connected_components
from face4d.mesh.textured import find_texture, read_vertex_colours
from face4d.photos.crops import read_photo
from face4d.render import texture
from face4d.render.clay import CLAY
from face4d.render.occlusion import light_of_motion, occlusion_tint

__all__ = ["ShownHead", "byte_colours", "drawn_finer", "own_colours", "painted_colours", "shown_head"]

_GAMMA = 2.2  # of pictures, as in render/clay
_CAVITY = (0.058, 0.033, 0.042)  # what is left of a colour where no light comes, as in a mouth
_SHADE = 0.35  # how much of a colour goes where half of the light comes: creases, ears, below the chin
_EYEBALL = (0.008, 0.020)  # metres, radii of balls that are eyes
_ROUND = 0.06  # of a radius: how far an eyeball is from a ball on average, cornea and iris included
_WHITE, _IRIS, _PUPIL = (0.72, 0.66, 0.60), (0.20, 0.15, 0.12), (0.04, 0.03, 0.03)  # linear RGB of eyes in clay
_IRIS_ANGLE, _PUPIL_ANGLE = 27.0, 11.0  # degrees from the direction of the gaze


@dataclass(frozen=True)
class ShownHead:
    """A moving head as it is shown.

    Attributes:
        motions: (T, V, 3) metres each, all of one topology.
        neutral: (V, 3) metres.
        faces: (F, 3).
        colours: (V, 3) linear RGB in 0..1, see :func:`painted_colours`.
    """

    motions: list[np.ndarray]
    neutral: np.ndarray
    faces: np.ndarray
    colours: np.ndarray


def shown_head(
    motions: Sequence[np.ndarray],
    faces: np.ndarray,
    neutral: np.ndarray | None = None,
    colours: np.ndarray | None = None,
    *,
    painted: np.ndarray | None = None,
) -> ShownHead:
    """What is drawn of a head that moves: the demo head of 871 vertices as one of 3,627 (:mod:`face4d.demo.detail`),
    every other head as it is.

    Args:
        motions: (T, V, 3) metres, one or more.
        faces: (F, 3).
        neutral: (V, 3) metres; default: the first frame.
        colours: (V, 3) sRGB in 0..1 of its own, as of :func:`own_colours`; default: see :func:`painted_colours`. Of
            the demo head those of the skin.
        painted: (V', 3) linear RGB of what is drawn, of an earlier motion of this head: finding them takes longest.
    """
    motions, neutral = list(motions), motions[0][0] if neutral is None else neutral
    if _is_coarse(len(neutral), faces):
        finer = finer_head()
        motions = [finer.move(frames, neutral).astype(np.float32) for frames in motions]
        neutral, faces = finer.neutral(neutral), finer.head.faces
        if painted is None and colours is not None:
            skin = (finer.head.kind == SKIN)[:, None]  # 871 vertices have no room for an iris
            colours = np.where(skin, _linear(finer.spread(colours)), vertex_colors(finer.head))
            return ShownHead(motions, neutral, faces, colours)
    if painted is not None:
        return ShownHead(motions, neutral, faces, painted)
    if colours is not None:
        return ShownHead(motions, neutral, faces, _linear(colours))
    apexes = [frames[np.linalg.norm(frames - neutral, axis=2).mean(axis=1).argmax()] for frames in motions]
    return ShownHead(motions, neutral, faces, painted_colours(np.stack([neutral, *apexes]), faces))


def drawn_finer(num_vertices: int, faces: np.ndarray) -> FinerHead | None:
    """What :func:`shown_head` draws a mesh finer with, None where it is drawn as it is."""
    return finer_head() if _is_coarse(num_vertices, faces) else None


def _is_coarse(num_vertices: int, faces: np.ndarray) -> bool:
    """Whether a mesh is the demo head as its data have it."""
    head = head_of(num_vertices, faces)
    return head is not None and head.level == 0


def byte_colours(colours: np.ndarray) -> np.ndarray:
    """Linear RGB in 0..1 as sRGB, uint8."""
    return (255 * colours ** (1 / _GAMMA)).round().astype(np.uint8)


def _linear(colours: np.ndarray) -> np.ndarray:
    """sRGB in 0..1 as linear RGB."""
    return np.clip(colours, 0, 1) ** _GAMMA


def painted_colours(frames: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """Colours (V, 3) float64 of a head without any of its own, linear RGB in 0..1: how much of the light its surface
    sends back, before any lamp; darker where less light comes (:mod:`face4d.render.occlusion`).

    A mesh of the demo head's triangles, whatever its shape, has skin, lips, brows, lashes, eyes, teeth. Others are
    clay. Parts of their own that are balls of the size of an eye get a white, an iris and a pupil that look along z.

    Args:
        frames: (T, V, 3) metres, one or more: what is open once is not dark.
        faces: (F, 3).
    """
    light = light_of_motion(frames, faces)
    shade = 1 - _SHADE * np.minimum(2 * (1 - light), 1)[:, None]
    head = head_of(frames.shape[1], faces)
    if head is not None:
        return np.clip(vertex_colors(head) * np.where((head.kind == SKIN)[:, None], shade, 1), 0, 1)
    clay = np.tile(np.array(CLAY), (len(light), 1)) * shade * occlusion_tint(light, _CAVITY)
    for ball, colours in _eyes(frames[0], faces):
        clay[ball] = colours * shade[ball]
    return np.clip(clay, 0, 1)


def own_colours(path: Path, num_vertices: int) -> np.ndarray | None:
    """Colours (V, 3), sRGB in 0..1, that a mesh file brings along; None where it has none (landmarks have none).

    Raises:
        InputError: colours that cannot be read, or of another number of vertices.
    """
    suffix = path.suffix.lower()
    if suffix not in (".ply", ".obj"):
        return None
    colours = read_vertex_colours(path)
    if colours is None and suffix == ".obj" and (picture := find_texture(path)):
        layout = texture.read_layout(path)
        if layout is not None and layout.mesh_faces.max() < num_vertices:
            colours = texture.vertex_colours(read_photo(picture), layout, num_vertices)
    if colours is not None and len(colours) != num_vertices:
        raise InputError(path, f"colours of {num_vertices} vertices", f"of {len(colours)}")
    return colours


def _eyes(vertices: np.ndarray, faces: np.ndarray) -> list[tuple[np.ndarray, np.ndarray]]:
    """Vertex numbers (N,) and linear colours (N, 3) of the eyeballs of a head (V, 3): its parts that are balls."""
    part = connected_components(len(vertices), faces)
    found = []
    for number in np.flatnonzero(np.bincount(part) >= 20):
        ball = np.flatnonzero(part == number)
        rows = np.column_stack([2 * vertices[ball], np.ones(len(ball))])  # |x|^2 = 2 x.c + r^2 - |c|^2
        solution = np.linalg.lstsq(rows, (vertices[ball] ** 2).sum(axis=1), rcond=None)[0]
        ray = vertices[ball] - solution[:3]
        distance = np.linalg.norm(ray, axis=1)
        radius = float(distance.mean())
        is_ball = np.abs(distance - radius).mean() < _ROUND * radius and np.ptp(ray, axis=0).min() > 1.5 * radius
        if not is_ball or not _EYEBALL[0] < radius < _EYEBALL[1]:
            continue
        angle = np.rad2deg(np.arccos(np.clip(ray[:, 2] / distance, -1, 1)))[:, None]
        found.append((ball, np.where(angle < _PUPIL_ANGLE, _PUPIL, np.where(angle < _IRIS_ANGLE, _IRIS, _WHITE))))
    return found
