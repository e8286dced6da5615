"""Contact sheets of moving meshes: one row per sequence and view, frames from left to right, one framing for all."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
from PIL import Image, ImageDraw

from face4d.render.clay import frame_view, render_sequence
from face4d.runtime.atomic import replacing

__all__ = ["chosen_frames", "contact_sheet", "face_framing_points", "head_points", "mesh_sheet", "write_mesh_sheet"]

# a head with its neck ends within so many times the distance of its farthest landmark from their middle
_HEAD_REACH = 2.5
_MARGIN = 0.16  # around all that is shown; the captions stand in it


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


def chosen_frames(vertices: np.ndarray, columns: int) -> np.ndarray:
    """Numbers of ``columns`` frames of a moving mesh (T, V, 3): the first, the last, the apex, and others at equal
    times.

    The apex is the frame farthest (mean over vertices) from the first; it replaces the frame of the equal times next to
    it.
    """
    count = len(vertices)
    chosen = np.round(np.linspace(0, count - 1, min(columns, count))).astype(int)
    apex = int(np.linalg.norm(vertices - vertices[0], axis=2).mean(axis=1).argmax())
    if len(chosen) > 2 and apex not in chosen:
        chosen[1 + np.abs(chosen[1:-1] - apex).argmin()] = apex
    return chosen


def face_framing_points(landmarks: np.ndarray) -> np.ndarray:
    """Points (N, 3) that a picture of the face holds: landmarks (..., 68, 3) and, above the brows, half their height
    again for the forehead.
    """
    points = np.asarray(landmarks, np.float64).reshape(-1, 3)
    low, high = points.min(axis=0), points.max(axis=0)
    top = high.copy()
    top[1] += 0.5 * (high[1] - low[1])
    return np.concatenate([points, [top]])


def head_points(vertices: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Those of the points (..., 3) that belong to the head that landmarks (..., 68, 3) lie on, with its neck: of a
    whole body not the rest.
    """
    points, marks = np.asarray(vertices).reshape(-1, 3), np.asarray(landmarks, np.float64).reshape(-1, 3)
    middle = marks.mean(axis=0)
    reach = _HEAD_REACH * np.linalg.norm(marks - middle, axis=1).max()
    return points[np.linalg.norm(points - middle, axis=1) <= reach]


def mesh_sheet(
    sequences: Mapping[str, np.ndarray],
    faces: np.ndarray,
    *,
    columns: int = 6,
    size: int = 256,
    yaws: Sequence[float] = (0.0,),
    landmarks: np.ndarray | None = None,
    colors: np.ndarray | None = None,
) -> np.ndarray:
    """One picture (H, W, 3) uint8 of several moving meshes of one topology, all in one scale.

    Args:
        sequences: (T, V, 3) metres by caption.
        faces: (F, 3).
        columns: frames per row, see :func:`chosen_frames`.
        size: side of each picture, pixels.
        yaws: views, degrees; each has a row per sequence.
        landmarks: (..., 68, 3) metres; the pictures show the head they lie on, in all frames shown, else the whole
            mesh.
        colors: (V, 3) linear RGB in 0..1; default: clay.

    Raises:
        ValueError: no sequences, or wrong shapes.
    """
    if not sequences:
        raise ValueError("sequences: expected at least one, found none")
    frames = {caption: chosen_frames(vertices, columns) for caption, vertices in sequences.items()}
    shown = np.concatenate([vertices[frames[caption]] for caption, vertices in sequences.items()])
    held = shown if landmarks is None else head_points(shown, landmarks)
    framings = {yaw: frame_view(held, yaw=yaw, margin=_MARGIN) for yaw in yaws}
    half_side = max(framing.half_side for framing in framings.values())
    pictures, captions = [], []
    for caption, vertices in sequences.items():
        chosen = frames[caption]
        for yaw in yaws:
            row = render_sequence(
                vertices[chosen],
                faces,
                size=size,
                yaw=yaw,
                framing=replace(framings[yaw], half_side=half_side),
                colors=colors,
            )
            missing = columns - len(row)
            pictures += [*row, *[np.full_like(row[0], 255)] * missing]
            captions += [f"{caption}  {chosen[0]}", *map(str, chosen[1:]), *[""] * missing]
    return contact_sheet(pictures, columns, captions)


def write_mesh_sheet(path: str | Path, sequences: Mapping[str, np.ndarray], faces: np.ndarray, **options: Any) -> None:
    """Write :func:`mesh_sheet` as PNG, whole or not at all."""
    sheet = mesh_sheet(sequences, faces, **options)
    with replacing(path) as temporary:
        Image.fromarray(sheet).save(temporary, "PNG", optimize=True)
