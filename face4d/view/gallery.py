"""Contact sheets of moving faces: one GIF in which every label moves, the ground truth beside what was generated."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from face4d.constants import LANDMARK_GROUPS, LANDMARK_LINES
from face4d.view.gif import write_gif
from face4d.view.landmark_view import GHOST, PALETTE, TEXT, dots, front, inked, stroke


class Tile(NamedTuple):
    """One expression of a sheet.

    Attributes:
        title: its name.
        generated: (T, 68, 3) metres.
        real: the ground truth, of any length, or None.
    """

    title: str
    generated: np.ndarray
    real: np.ndarray | None


def contact_sheet(tiles: Sequence[Tile], *, columns: int = 4, height: int = 120) -> np.ndarray:
    """Draw all tiles, every face in the same scale; shorter sequences wait at their last frame.

    Args:
        tiles: at least one.
        height: of a face in pixels.

    Returns:
        (T, H, W) uint8 indices into :data:`face4d.view.landmark_view.PALETTE`.
    """
    views = [[front(points) for points in (tile.real, tile.generated) if points is not None] for tile in tiles]  # (T, 68, 2), y down
    pairs = max(len(faces) for faces in views)
    extent = np.max([np.ptp(face.reshape(-1, 2), axis=0) for faces in views for face in faces], axis=0)
    margin = round(0.06 * height)
    scale = (height - 2 * margin) / max(float(extent[1]), 1e-6)
    width = round(float(extent[0]) * scale) + 2 * margin
    head, gap = 20, 14
    columns = min(columns, len(tiles))
    rows = -(-len(tiles) // columns)
    cell = pairs * width + gap, head + height + gap
    legend = 18 if pairs == 2 else 0
    static = Image.new("L", (columns * cell[0] + gap, rows * cell[1] + legend + gap // 2), 0)
    pen, font, small = ImageDraw.Draw(static), ImageFont.load_default(13), ImageFont.load_default(11)
    places = []
    for number, tile in enumerate(tiles):
        left, top = gap + number % columns * cell[0], gap // 2 + number // columns * cell[1]
        pen.text((left + pairs * width / 2, top + head / 2), tile.title, fill=255, font=font, anchor="mm")
        places.append([(left + (k + 0.5) * width, top + head + height / 2) for k in range(pairs)])
    if legend:
        told = "left: ground truth, right: generated; the first frame in grey"
        pen.text((gap, static.height - legend / 2 - 3), told, fill=255, font=small, anchor="lm")

    frames = max(len(face) for faces in views for face in faces)
    canvas = np.repeat(inked(np.array(static), TEXT)[None], frames, axis=0)
    for faces, corners in zip(views, places):
        for face, corner in zip(faces, corners[-len(faces) :]):
            centre = (face.min(axis=(0, 1)) + face.max(axis=(0, 1))) / 2
            points = (face[np.minimum(np.arange(frames), len(face) - 1)] - centre) * scale + corner  # (T, 68, 2)
            stroke(canvas, np.repeat(points[:1], frames, axis=0), 0.5, GHOST, LANDMARK_LINES)
            for ink, group in enumerate(LANDMARK_GROUPS.values(), start=1):
                stroke(canvas, points, 0.6, ink, [line for line in LANDMARK_LINES if group.start <= line[0] < group.stop])
                dots(canvas, points[:, group], 1.2, ink)
    return canvas


def write_contact_sheet(path: str | Path, tiles: Sequence[Tile], *, fps: float = 25, columns: int = 4, height: int = 120) -> None:
    """Write :func:`contact_sheet` as a GIF."""
    write_gif(path, contact_sheet(tiles, columns=columns, height=height), fps=fps, palette=PALETTE)
