"""Animated GIFs: one palette for all frames, only what changed is stored, endless loop."""

from __future__ import annotations

import io
import struct
from pathlib import Path

import numpy as np
from PIL import Image

from face4d.runtime.atomic import write_bytes

MAX_FPS = 50  # browsers slow faster files down
_LONGEST = 65535  # hundredths of a second that one picture of a file can be shown

_GREY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def write_gif(path: str | Path, frames: np.ndarray, *, fps: float = 25, palette: np.ndarray | None = None) -> None:
    """Write an endlessly looping GIF, whole or not at all.

    Every frame after the first stores the rectangle that changed, with unchanged pixels transparent. Up to 255 colours
    are kept exactly; more are reduced to 255 chosen over the whole sequence, so that colours do not flicker.

    Args:
        path: file to write.
        frames: (T, H, W, 3) uint8 RGB, or (T, H, W) uint8: grey levels, or indices into ``palette``.
        fps: frames per second, at most ``MAX_FPS``. GIF times are hundredths of a second; rounding does not accumulate.
        palette: (K, 3) uint8 RGB colours of ``frames`` when these are indices.

    Raises:
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
            raise ValueError(
                f"palette: expected (K, 3) colours for all indices, found {palette.shape}, largest index {indices.max()}"
            )
    write_bytes(path, _encode(indices, palette, fps))


def quantise(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Palette indices (T, H, W) uint8 and palette (K, 3) uint8, K <= 255, of RGB frames (T, H, W, 3).

    Exact for up to 255 colours. Otherwise the palette is a median cut over all frames, with colours merged to 6 bits
    per channel.
    """
    used = np.zeros(1 << 24, bool)
    for frame in frames:
        used[_packed(frame, 8)] = True
        if np.count_nonzero(used) > 255:
            break
    else:
        colours = np.flatnonzero(used)
        table = np.zeros(1 << 24, np.uint8)
        table[colours] = np.arange(len(colours))
        palette = np.stack([colours >> 16, colours >> 8 & 255, colours & 255], axis=1).astype(np.uint8)
        return np.stack([table[_packed(frame, 8)] for frame in frames]), palette

    counts = np.zeros(1 << 18, np.int64)
    for frame in frames:
        counts += np.bincount(_packed(frame, 6).ravel(), minlength=1 << 18)
    codes = np.flatnonzero(counts)
    centres = (np.stack([codes >> 12, codes >> 6 & 63, codes & 63], axis=1) * 255 / 63).round().astype(np.uint8)
    # Median cut on a picture of the distinct colours, the frequent ones repeated: cheap, and small features keep a
    # colour.
    repeats = 1 + (np.sqrt(counts[codes] / counts.sum()) * 4000).astype(int)
    swatch = np.repeat(centres, repeats, axis=0)
    reduced = Image.fromarray(swatch[None]).quantize(255, method=Image.Quantize.MEDIANCUT)
    palette = np.array(reduced.getpalette()[: 3 * 255], np.uint8).reshape(-1, 3)
    from scipy.spatial import cKDTree  # only pictures with many colours pay for the import

    table = np.zeros(1 << 18, np.uint8)
    table[codes] = cKDTree(palette.astype(np.float32)).query(centres.astype(np.float32))[1]
    return np.stack([table[_packed(frame, 6)] for frame in frames]), palette


def _packed(frame: np.ndarray, bits: int) -> np.ndarray:
    """(H, W) colour codes with ``bits`` bits per channel."""
    red, green, blue = (frame[..., channel] >> np.uint8(8 - bits) for channel in range(3))
    code = red.astype(np.int32)
    for channel in (green, blue):
        code <<= bits
        code |= channel
    return code


def _encode(indices: np.ndarray, palette: np.ndarray, fps: float) -> bytes:
    """GIF89a file of (T, H, W) palette indices."""
    height, width = indices.shape[1:]
    table = np.zeros((256, 3), np.uint8)
    table[: len(palette)] = palette
    transparent = 255 if len(palette) < 256 else _free_index(indices)
    ticks = np.round(np.arange(len(indices) + 1) * 100 / fps).astype(int)

    blocks: list[tuple[int, bytes]] = []  # duration in hundredths of a second, image block
    previous = None
    for frame, duration in zip(indices, np.diff(ticks).tolist()):
        top, left, patch = 0, 0, frame
        if previous is not None:
            changed = frame != previous
            rows, columns = np.flatnonzero(changed.any(axis=1)), np.flatnonzero(changed.any(axis=0))
            if not len(rows) and blocks[-1][0] + duration <= _LONGEST:  # the same picture again: shown longer
                blocks[-1] = (blocks[-1][0] + duration, blocks[-1][1])
                continue
            if not len(rows):
                rows = columns = np.zeros(1, int)
            top, left = int(rows[0]), int(columns[0])
            window = slice(top, rows[-1] + 1), slice(left, columns[-1] + 1)
            patch = frame[window]
            if transparent is not None:
                patch = np.where(changed[window], patch, np.uint8(transparent))
        blocks.append((duration, _image_block(patch, top, left)))
        previous = frame

    file = io.BytesIO()
    file.write(b"GIF89a" + struct.pack("<HHBBB", width, height, 0xF7, 0, 0) + table.tobytes())
    file.write(b"\x21\xff\x0bNETSCAPE2.0\x03\x01\x00\x00\x00")  # loop forever
    for number, (duration, block) in enumerate(blocks):
        see_through = number > 0 and transparent is not None
        flags = 1 << 2 | see_through  # keep the picture, draw over it
        file.write(struct.pack("<BBBBHBB", 0x21, 0xF9, 4, flags, duration, transparent if see_through else 0, 0))
        file.write(block)
    file.write(b"\x3b")
    return file.getvalue()


def _free_index(indices: np.ndarray) -> int | None:
    """A palette index no pixel uses, or None."""
    free = np.flatnonzero(np.bincount(indices.ravel(), minlength=256) == 0)
    return int(free[-1]) if len(free) else None


def _image_block(patch: np.ndarray, top: int, left: int) -> bytes:
    """Image descriptor and LZW data of (h, w) indices; Pillow compresses them as a grey picture."""
    buffer = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(patch)).save(buffer, "GIF", optimize=False, interlace=False)
    data = buffer.getvalue()
    position = 13 + 3 * 256  # header, screen descriptor, grey palette
    while data[position] == 0x21:  # extensions
        position += 2
        while data[position]:
            position += data[position] + 1
        position += 1
    height, width = patch.shape
    if data[10] & 0x87 != 0x87 or data[position : position + 10] != struct.pack(
        "<BHHHHB", 0x2C, 0, 0, width, height, 0
    ):
        raise RuntimeError("Pillow wrote another GIF layout than this module reads")
    return struct.pack("<BHHHHB", 0x2C, left, top, width, height, 0) + data[position + 10 : -1]
