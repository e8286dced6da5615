"""Animated GIFs: one palette for all frames, only what changed is stored, endless loop. Pillow writes them."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from face4d.errors import InputError
from face4d.runtime.atomic import write_bytes

MAX_FPS = 50  # browsers slow faster files down
_LONGEST = 65535  # hundredths of a second that one picture of a file can be shown

_GREY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def write_gif(path: str | Path, frames: np.ndarray, *, fps: float = 25, palette: np.ndarray | None = None) -> None:
    """Write an endlessly looping GIF, whole or not at all.

    Every frame after the first stores the rectangle that changed, with unchanged pixels transparent; a frame like the
    one before it makes that one stay longer. Up to 255 colours are kept exactly; more are reduced, see
    :func:`quantise`.

    Args:
        path: file to write.
        frames: (T, H, W, 3) uint8 RGB, or (T, H, W) uint8: grey levels, or indices into ``palette``.
        fps: frames per second, at most ``MAX_FPS``. GIF times are hundredths of a second; rounding does not accumulate.
        palette: (K, 3) uint8 RGB colours of ``frames`` when these are indices.

    Raises:
        InputError: a picture that stays for longer than a GIF can say, 655 seconds.
        ValueError: another shape or type, no frames, or ``fps`` out of range.
    """
    frames = np.asarray(frames)
    if not 100 / _LONGEST < fps <= MAX_FPS:
        raise ValueError(f"fps: expected above {100 / _LONGEST:.2g} and at most {MAX_FPS}, found {fps}")
    if (
        frames.dtype != np.uint8
        or frames.ndim not in (3, 4)
        or (frames.ndim == 4 and frames.shape[3] != 3)
        or 0 in frames.shape
    ):
        raise ValueError(f"frames: expected (T, H, W, 3) or (T, H, W) uint8, found {frames.shape} {frames.dtype}")
    if frames.ndim == 4:
        indices, palette = quantise(frames)
    else:
        indices, palette = frames, _GREY if palette is None else np.asarray(palette, np.uint8)
        if (
            palette.ndim != 2
            or palette.shape[1] != 3
            or not 0 < len(palette) <= 256
            or int(indices.max()) >= len(palette)
        ):
            found = f"{palette.shape}, largest index {indices.max()}"
            raise ValueError(f"palette: expected (K, 3) colours for all indices, found {found}")
    pictures = []
    for frame in indices:
        pictures.append(Image.fromarray(frame))
        pictures[-1].putpalette(palette.tobytes())
    ticks = np.round(np.arange(len(indices) + 1) * 100 / fps).astype(int)
    file = io.BytesIO()
    try:
        pictures[0].save(
            file,
            "GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=(10 * np.diff(ticks)).tolist(),  # milliseconds
            loop=0,
            disposal=1,  # a frame is drawn over the one before it
            optimize=True,
        )
    except (struct.error, OverflowError):  # of one release of Pillow and another
        raise InputError(
            path, f"a GIF in which no picture stays longer than {_LONGEST // 100} seconds", "one that does"
        ) from None
    write_bytes(path, file.getvalue())


def quantise(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Palette indices (T, H, W) uint8 and palette (K, 3) uint8, K <= 255, of RGB frames (T, H, W, 3).

    One palette for all frames, so that colours do not flicker; exact for up to 255 colours. More are chosen by median
    cut over every second pixel of every second row.
    """
    tall = Image.fromarray(frames.reshape(-1, *frames.shape[2:]))  # all frames, one below the other
    if tall.getcolors(255):
        reduced = tall.quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    else:
        some = frames[:, ::2, ::2]
        chosen = Image.fromarray(some.reshape(-1, *some.shape[2:])).quantize(255, method=Image.Quantize.MEDIANCUT)
        reduced = tall.quantize(palette=chosen, dither=Image.Dither.NONE)
    palette = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)[:255]
    return np.asarray(reduced).reshape(frames.shape[:3]), palette
