"""Soft shadows in the hollows of a surface, from its depth buffer by unsharp masking (Luft, Colditz, Deussen, SIGGRAPH 2006)."""

from __future__ import annotations

import numpy as np

__all__ = ["hollow_shadow", "shadow_reach"]

# shadow in the hollows: radius in metres, gain, darkest factor amid surface and at its edge
_HOLLOWS = ((0.003, 0.8, 0.70, 0.70), (0.015, 1.6, 0.10, 0.50))


def _blur(radius: float, size: int) -> tuple[int, int]:
    """For averages over `radius` pixels: side of the blocks to work on (wide ones need no fine grid), width of the filter in blocks."""
    block = next(b for b in (4, 2, 1) if size % b == 0 and (b == 1 or radius > 4 * b))
    return block, 2 * max(1, round(radius / block)) + 1


def shadow_reach(pixel_size: float, size: int) -> int:
    """How many pixels around a surface its shadows are computed from; arguments as in `hollow_shadow`."""
    return max(2 * width * block for block, width in (_blur(radius / pixel_size, size) for radius, *_ in _HOLLOWS))


def hollow_shadow(
    depth: np.ndarray, cover: np.ndarray, at: np.ndarray, own_depth: np.ndarray, facing: np.ndarray, pixel_size: float, size: int
) -> np.ndarray:
    """Factor 0..1 (P,) of the covered pixels: darker where the surface lies behind the average depth around it.

    `depth` and `cover` are (H, W) with zeros where there is no surface, which takes no part in the averages; `at` are the places of the
    covered pixels in them, `own_depth` their depths in pixels, `facing` how much they face the viewer; `pixel_size` is in metres, `size`
    the side of the picture. Where the surface turns away from the viewer (`facing` near 0) it recedes by itself, so the
    shadow is held back there, otherwise every outline would be drawn in black; but not where surface is all
    around, as in a mouth; only there does it get really dark: ears, seen from the front, lie behind the head's edge and are no hollow.
    """
    factor = np.ones_like(own_depth)
    facing = 0.25 + 0.75 * np.clip((facing - 0.15) / 0.5, 0, 1)
    for radius, gain, floor, floor_at_edge in _HOLLOWS:
        block, width = _blur(radius / pixel_size, size)
        mean_cover = _blurred(_average_blocks(cover, block), width)
        mean = _blurred(_average_blocks(depth, block), width)
        mean /= np.maximum(mean_cover, 1e-6)
        enclosed = 0.9 * np.clip((mean_cover - 0.97) / 0.03, 0, 1)
        mean, enclosed = (_spread_blocks(part, block).ravel()[at] for part in (mean, enclosed))
        behind = np.maximum(own_depth - mean, 0) / (width * block)
        factor *= np.clip(1 - np.maximum(facing, enclosed) * gain * behind, floor_at_edge + (floor - floor_at_edge) * enclosed / 0.9, 1)
    return factor


def _average_blocks(image: np.ndarray, block: int) -> np.ndarray:
    if block == 1:
        return image
    return sum(image[i::block, j::block] for i in range(block) for j in range(block)) / np.float32(block * block)


def _blurred(image: np.ndarray, width: int) -> np.ndarray:
    """Two averages over width x width pixels (odd) make a triangle filter, close to a Gaussian; the border is a mirror."""
    wide = np.pad(image, width - 1, mode="symmetric")
    for _ in range(2):
        wide = _window_sums(_window_sums(wide, width), width, axis=1)
        wide *= np.float32(1 / width**2)
    return wide


def _spread_blocks(image: np.ndarray, block: int) -> np.ndarray:
    """Enlarge by linear interpolation between block centres: repeat, then average over one block."""
    if block == 1:
        return image
    wide = np.pad(image.repeat(block, axis=0).repeat(block, axis=1), (block // 2, (block - 1) // 2), mode="edge")
    return _window_sums(_window_sums(wide, block), block, axis=1) / np.float32(block * block)


def _window_sums(image: np.ndarray, width: int, axis: int = 0) -> np.ndarray:
    """Sums of `width` neighbours along an axis, without its last width - 1 places: sums of 1, 2, 4, ... are added up."""
    length = image.shape[axis] - width + 1
    part, parts = image, 1
    total, summed = None, 0
    while True:
        if width & parts:
            piece = _shifted(part, summed, length, axis)
            total = piece if total is None else total + piece
            summed += parts
        if summed == width:
            return total
        rest = part.shape[axis] - parts
        part, parts = _shifted(part, 0, rest, axis) + _shifted(part, parts, rest, axis), 2 * parts


def _shifted(image: np.ndarray, start: int, length: int, axis: int) -> np.ndarray:
    return image[start : start + length] if axis == 0 else image[:, start : start + length]
