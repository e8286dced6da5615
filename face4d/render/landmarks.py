"""Landmark sequences as small antialiased pictures, and GIFs in which many of them move side by side.

Pixels are palette indices from the start, ``8 * coverage + ink`` with coverage 0..15: where strokes meet the larger
coverage wins whatever the drawing order, and a GIF needs no colour reduction.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Sequence
from pathlib import Path
from typing import NamedTuple, TypeAlias

import numpy as np
from PIL import Image, ImageDraw, ImageFont

from face4d.constants import LANDMARK_GROUPS, LANDMARK_LINES, MM_PER_METRE, NUM_LANDMARKS
from face4d.render.media import write_gif

Font: TypeAlias = ImageFont.FreeTypeFont | ImageFont.ImageFont
THREE_QUARTER_DEGREES = 40.0

_BACKGROUND = (255, 255, 255)
TEXT, GHOST, RULE = 0, 6, 7  # inks; 1..5 are the landmark groups in order
# Okabe and Ito's colour-blind safe palette, the jaw in dark grey.
_INKS: tuple[tuple[int, int, int], ...] = (
    (34, 34, 34),
    (90, 90, 90),
    (204, 121, 167),
    (0, 158, 115),
    (0, 114, 178),
    (213, 94, 0),
    (205, 205, 205),
    (165, 165, 165),
)
_LEVELS = 15
_GHOST_LEVEL = 5  # strokes of the face lie above the ghost even where they are thin
_PIXELS_PER_CHUNK = 1 << 20


def landmark_frames(
    landmarks: np.ndarray,
    *,
    reference: np.ndarray | None = None,
    title: str = "",
    titles: tuple[str, str] = ("generated", "ground truth"),
    size: int = 240,
) -> np.ndarray:
    """Draw a landmark sequence, front and three-quarter view, every frame in the same limits with equal axes.

    The first frame stays visible in light grey behind the others. With a reference both are drawn side by side and
    the mean landmark distance of the frame is written below.

    Args:
        landmarks: (T, 68, 3) metres, y up, the face looking along +z.
        reference: (T, 68, 3) metres, ground truth.
        title: heading of the whole picture.
        titles: headings of the two halves, used with a reference.
        size: height of a view in pixels.

    Returns:
        (T, H, W, 3) uint8 RGB.

    Raises:
        ValueError: wrong shapes, different lengths or numbers that are not finite.
    """
    return PALETTE[_draw(landmarks, reference, title, titles, size)]


def landmark_gif(
    path: str | Path,
    landmarks: np.ndarray,
    *,
    reference: np.ndarray | None = None,
    title: str = "",
    titles: tuple[str, str] = ("generated", "ground truth"),
    size: int = 240,
    fps: float = 25,
) -> None:
    """Write :func:`landmark_frames` as a GIF, without ever making the RGB pictures."""
    write_gif(path, _draw(landmarks, reference, title, titles, size), fps=fps, palette=PALETTE)


def _make_palette() -> np.ndarray:
    """(128, 3) uint8; index = 8 * coverage + ink."""
    palette = np.empty((_LEVELS + 1, len(_INKS), 3))
    for ink, colour in enumerate(_INKS):
        full = _GHOST_LEVEL if ink == GHOST else _LEVELS
        coverage = np.minimum(np.arange(_LEVELS + 1) / full, 1)[:, None]
        palette[:, ink] = (1 - coverage) * np.array(_BACKGROUND) + coverage * np.array(colour)
    return palette.round().astype(np.uint8).reshape(-1, 3)


PALETTE = _make_palette()


def _draw(
    landmarks: np.ndarray, reference: np.ndarray | None, title: str, titles: Sequence[str], size: int
) -> np.ndarray:
    """(T, H, W) uint8 palette indices."""
    sequences = [_checked(landmarks, "landmarks")]
    if reference is not None:
        sequences.append(_checked(reference, "reference"))
        if len(sequences[0]) != len(sequences[1]):
            raise ValueError(f"reference: expected {len(sequences[0])} frames, found {len(sequences[1])}")
    views = [np.stack([front(points), _three_quarter(points)]) for points in sequences]  # each (2, T, 68, 2), y down
    everything = np.concatenate(views, axis=1)
    low, high = everything.min(axis=(1, 2)), everything.max(axis=(1, 2))  # (2, 2) per view: x, y
    unit = size / 240
    margin = 10 * unit
    extent = np.maximum((high - low).max(axis=0), 1e-6)
    scale = (size - 2 * margin) / extent[1]
    panel = int(np.ceil(min(extent[0] * scale + 2 * margin, 2.5 * size)))
    scale = min(scale, (panel - 2 * margin) / extent[0])

    font, small = ImageFont.load_default(round(13 * unit)), ImageFont.load_default(round(11 * unit))
    head = round((8 + 20 * (bool(title) + (reference is not None))) * unit)
    foot = round(26 * unit)
    gap = round(16 * unit)
    half = 2 * panel
    width, height = half * len(views) + gap * (len(views) - 1), head + size + foot

    base = Image.new("L", (width, height), 0)
    pen = ImageDraw.Draw(base)
    if title:
        pen.text((width / 2, round(16 * unit)), title, fill=255, font=font, anchor="mm")
    if reference is not None:
        for number, name in enumerate(titles):
            pen.text(
                (number * (half + gap) + half / 2, head - round(10 * unit)), name, fill=255, font=small, anchor="mm"
            )
    static = inked(np.array(base), TEXT)

    pixels = []  # per half and view: (T, 68, 2) x, y in the picture
    for number, view in enumerate(views):
        for column in range(2):
            centre = (low[column] + high[column]) / 2
            corner = np.array([number * (half + gap) + (column + 0.5) * panel, head + size / 2])
            pixels.append((view[column] - centre) * scale + corner)
    for points in pixels:
        stroke(static[None], points[:1], 0.8 * unit, GHOST, LANDMARK_LINES)
    _rules(static, head + size, scale, unit, small, range(len(views)), half + gap, half)

    canvas = np.repeat(static[None], len(sequences[0]), axis=0)
    for number, points in enumerate(pixels):
        for ink, (name, group) in enumerate(LANDMARK_GROUPS.items(), start=1):
            lines: list[Sequence[int]] = [line for line in LANDMARK_LINES if group.start <= line[0] < group.stop]
            if name == "jaw" and number % 2:  # the far cheek would cross the mouth
                chin = (group.start + group.stop) // 2
                stroke(canvas, points, 0.85 * unit, RULE, [range(chin, group.stop)])
                dots(canvas, points[:, chin : group.stop], 1.6 * unit, RULE)
                lines, group = [range(group.start, chin + 1)], slice(group.start, chin + 1)
            stroke(canvas, points, 0.85 * unit, ink, lines)
            dots(canvas, points[:, group], 2.0 * unit, ink)
    _captions(canvas, sequences, head + size, width, unit, small)
    return canvas


def _checked(points: np.ndarray, name: str) -> np.ndarray:
    points = np.asarray(points, np.float32)
    if points.ndim != 3 or points.shape[1:] != (NUM_LANDMARKS, 3) or not len(points):
        raise ValueError(f"{name}: expected (T, {NUM_LANDMARKS}, 3), found {points.shape}")
    if not np.isfinite(points).all():
        raise ValueError(f"{name}: expected finite numbers, found NaN or infinity")
    return points


def front(points: np.ndarray) -> np.ndarray:
    return points[..., :2] * np.array([1, -1], np.float32)


def _three_quarter(points: np.ndarray) -> np.ndarray:
    angle = np.radians(THREE_QUARTER_DEGREES)
    return np.stack([np.cos(angle) * points[..., 0] + np.sin(angle) * points[..., 2], -points[..., 1]], axis=-1)


def inked(grey: np.ndarray, ink: int) -> np.ndarray:
    """Coverage 0..255 of one ink as palette indices."""
    level = (grey.astype(np.uint16) * _LEVELS + 127) // 255
    return np.where(level > 0, level * 8 + ink, 0).astype(np.uint8)


def stroke(canvas: np.ndarray, points: np.ndarray, radius: float, ink: int, lines: Iterable[Sequence[int]]) -> None:
    """Draw polylines through ``points`` (T, P, 2) on ``canvas`` (T, H, W), round caps."""
    pairs = np.array([pair for line in lines for pair in itertools.pairwise(line)])
    _capsules(canvas, points[:, pairs[:, 0]], points[:, pairs[:, 1]], radius, ink)


def dots(canvas: np.ndarray, points: np.ndarray, radius: float, ink: int) -> None:
    _capsules(canvas, points, points, radius, ink)


def _capsules(canvas: np.ndarray, start: np.ndarray, end: np.ndarray, radius: float, ink: int) -> None:
    """Draw segments ``start`` to ``end`` (T, S, 2) thickened by ``radius`` pixels; coverage from the exact distance."""
    frames, segments = start.shape[:2]
    frame_of = np.repeat(np.arange(frames), segments)
    start, end = start.reshape(-1, 2).astype(np.float32), end.reshape(-1, 2).astype(np.float32)
    reach = radius + 1
    corner = np.floor(np.minimum(start, end) - reach)  # (N, 2)
    spans = np.ceil(np.maximum(start, end) + reach) - corner + 1
    columns, rows = spans.max(axis=0).astype(int)
    step = max(1, _PIXELS_PER_CHUNK // (rows * columns))
    height, width = canvas.shape[1:]
    flat = canvas.reshape(-1)
    full = _GHOST_LEVEL if ink == GHOST else _LEVELS
    for first in range(0, len(start), step):
        part = slice(first, first + step)
        origin = corner[part]
        x = origin[:, :1] + np.arange(columns, dtype=np.float32) - start[part, :1]  # (n, columns)
        y = origin[:, 1:] + np.arange(rows, dtype=np.float32) - start[part, 1:]
        direction = end[part] - start[part]
        along = direction / np.maximum((direction**2).sum(axis=1, keepdims=True), 1e-12)
        share = (x * along[:, :1])[:, None, :] + (y * along[:, 1:])[:, :, None]  # (n, rows, columns)
        np.clip(share, 0, 1, out=share)
        dx = x[:, None, :] - share * direction[:, 0, None, None]
        dy = y[:, :, None] - share * direction[:, 1, None, None]
        dx *= dx
        dy *= dy
        dx += dy
        number, row, column = np.nonzero(dx < (radius + 0.5) ** 2)
        coverage = np.minimum(radius + 0.5 - np.sqrt(dx[number, row, column]), 1)
        level = (coverage * full + 0.5).astype(np.uint8)
        base = frame_of[part] * height * width + (origin[:, 1] * width + origin[:, 0]).astype(np.int64)
        np.maximum.at(
            flat, base[number] + row * width + column, np.where(level > 0, level * 8 + ink, 0).astype(np.uint8)
        )


def _rules(
    static: np.ndarray, top: int, scale: float, unit: float, font: Font, halves: range, offset: int, half: int
) -> None:
    """A 20 mm scale bar at the lower right of each half."""
    layer = Image.new("L", (static.shape[1], static.shape[0]), 0)
    pen = ImageDraw.Draw(layer)
    bar = 20 / MM_PER_METRE * scale
    y = top + round(12 * unit)
    for number in halves:
        right = number * offset + half - round(10 * unit)
        pen.line((right - bar, y, right, y), fill=255, width=max(1, round(2 * unit)))
        pen.text((right - bar - 5 * unit, y), "20 mm", fill=255, font=font, anchor="rm")
    np.maximum(static, inked(np.array(layer), RULE), out=static)


def _captions(
    canvas: np.ndarray, sequences: Sequence[np.ndarray], top: int, width: int, unit: float, font: Font
) -> None:
    """Frame counter, error against the reference, and a thin bar of elapsed time, drawn into every frame."""
    frames = len(canvas)
    y, left = top + round(12 * unit), round(10 * unit)
    digits = len(str(frames - 1))
    strip = slice(top, canvas.shape[1])
    for number in range(frames):
        caption = f"frame {number:>{digits}d} / {frames - 1}"
        if len(sequences) == 2:
            error = np.linalg.norm(sequences[0][number] - sequences[1][number], axis=-1).mean() * MM_PER_METRE
            caption += f"    mean error {error:.2f} mm"
        layer = Image.new("L", (width, canvas.shape[1] - top), 0)
        ImageDraw.Draw(layer).text((left, y - top), caption, fill=255, font=font, anchor="lm")
        np.maximum(canvas[number, strip], inked(np.array(layer), TEXT), out=canvas[number, strip])
    thick = max(2, round(2 * unit))
    done = (np.arange(frames) / max(frames - 1, 1) * width).round().astype(int)
    elapsed = np.arange(width)[None] < done[:, None]  # (T, W)
    canvas[:, -thick:] = np.where(elapsed, 8 * _LEVELS + RULE, 0).astype(np.uint8)[:, None]


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
        (T, H, W) uint8 indices into :data:`face4d.render.landmarks.PALETTE`.
    """
    # (T, 68, 2), y down
    views = [[front(points) for points in (tile.real, tile.generated) if points is not None] for tile in tiles]
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
        sides = "left: ground truth, right: generated; the first frame in grey"
        pen.text((gap, static.height - legend / 2 - 3), sides, fill=255, font=small, anchor="lm")

    frames = max(len(face) for faces in views for face in faces)
    canvas = np.repeat(inked(np.array(static), TEXT)[None], frames, axis=0)
    for faces, corners in zip(views, places):
        for face, corner in zip(faces, corners[-len(faces) :]):
            centre = (face.min(axis=(0, 1)) + face.max(axis=(0, 1))) / 2
            points = (face[np.minimum(np.arange(frames), len(face) - 1)] - centre) * scale + corner  # (T, 68, 2)
            stroke(canvas, np.repeat(points[:1], frames, axis=0), 0.5, GHOST, LANDMARK_LINES)
            for ink, group in enumerate(LANDMARK_GROUPS.values(), start=1):
                stroke(
                    canvas, points, 0.6, ink, [line for line in LANDMARK_LINES if group.start <= line[0] < group.stop]
                )
                dots(canvas, points[:, group], 1.2, ink)
    return canvas


def write_contact_sheet(
    path: str | Path, tiles: Sequence[Tile], *, fps: float = 25, columns: int = 4, height: int = 120
) -> None:
    """Write :func:`contact_sheet` as a GIF."""
    write_gif(path, contact_sheet(tiles, columns=columns, height=height), fps=fps, palette=PALETTE)
