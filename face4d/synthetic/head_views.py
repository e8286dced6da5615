"""Heads of known geometry as the landmark network sees them: drawn from several sides in random colours and light."""

from __future__ import annotations

from collections.abc import Iterator, Sequence

import numpy as np
import torch

from face4d.mesh.geometry import head_rotation
from face4d.photos.face_points import points_in, refined
from face4d.photos.turned import TurnedSquare
from face4d.render.lit import render, to_pixels, to_screen
from face4d.synthetic.faces import FaceRegions, random_backgrounds, random_colors, random_light
from face4d.synthetic.point_embedding import HeadView

YAWS, PITCHES = (-60, -45, -30, -15, 0, 15, 30, 45, 60), (-15, 0, 15)  # degrees
_SIZE = 320  # pixels of a picture
_MARGIN = 1.75  # picture over the extent of the landmarks


def head_views(
    heads: Sequence[tuple[np.ndarray, np.ndarray]],
    faces: np.ndarray,
    seed: int = 27,
    neutral: Sequence[tuple[np.ndarray, np.ndarray]] | None = None,
) -> Iterator[HeadView | None]:
    """Every head from every side, None where the network sees no face.

    Args:
        heads: (vertices (V, 3), landmarks (68, 3)) of heads of one topology, metres, y up, z forward.
        faces: (F, 3).
        seed: of colours, light and backgrounds.
        neutral: the same heads without expression, where ``heads`` have one: lips, brows and eyes are coloured there.

    Raises:
        InputError: the network is not installed; says how to install it.
    """
    generator, triangles = torch.Generator().manual_seed(seed), torch.as_tensor(np.asarray(faces, np.int64))
    for number, (vertices, landmarks) in enumerate(heads):
        colored = (torch.as_tensor(part, dtype=torch.float32) for part in (neutral or heads)[number])
        regions = FaceRegions(next(colored), triangles, next(colored))
        for yaw in YAWS:
            for pitch in PITCHES:
                rotation = head_rotation(yaw, pitch)
                marks, turned = landmarks @ rotation.T, (vertices @ rotation.T).astype(np.float32)[None]
                yield _view(number, yaw, torch.as_tensor(turned), triangles, marks, regions, generator)


def _view(
    number: int,
    yaw: float,
    turned: torch.Tensor,
    triangles: torch.Tensor,
    marks: np.ndarray,
    regions: FaceRegions,
    generator: torch.Generator,
) -> HeadView | None:
    low, high = marks[:, :2].min(axis=0), marks[:, :2].max(axis=0)
    scale = 2 / ((high - low).max() * _MARGIN)
    camera = torch.tensor([[scale, *(-(low + high) / 2)]], dtype=torch.float32)
    colors, light = random_colors(regions, 1, generator), random_light(1, generator)
    background = random_backgrounds(1, _SIZE, generator)
    drawn = render(turned, triangles, camera, light, _SIZE, colors=colors)
    picture = torch.where(drawn.mask > 0, drawn.image, background).clamp(0, 1)[0].permute(1, 2, 0).numpy()
    first = points_in(picture, TurnedSquare(_SIZE / 2, _SIZE / 2, _SIZE))
    found = refined(picture, first) if first.is_face else None
    if found is None:
        return None
    pixels = scale * _SIZE / 2  # per metre
    placed = to_pixels(to_screen(turned, camera), _SIZE)[0, :, :2].double().numpy() / pixels
    shown = np.zeros(len(placed), bool)
    visible = drawn.raster.triangle[0].numpy()
    shown[triangles.numpy()[np.unique(visible[visible >= 0])]] = True
    return HeadView(number, yaw, placed, shown, found.points[:, :2] / pixels)
