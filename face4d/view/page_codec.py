"""Numbers of the page of moving heads: quantised, deflated, as text, and moving surfaces as principal components."""

from __future__ import annotations

import base64
import logging
import zlib
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from face4d.constants import MM_PER_METRE

__all__ = ["Encoded", "Surface", "encode_surfaces", "pack", "packed_bytes", "unpack"]

log = logging.getLogger(__name__)

TOLERANCES_MM = (0.02, 0.05, 0.1, 0.2, 0.5, 1.0)  # the first whose file is small enough is taken
STEP_SHARE = 0.06  # of the tolerance: what components are rounded to
LADDER = (1, 2, 4, 8, 16, 24, 32, 48, 64, 80, 96, 128, 160, 192, 256, 320, 384)  # numbers of components that are tried
_ROWS = 1536  # of the sketch, before it is brought back to its principal components
_CACHE = 512 << 20  # bytes of surfaces that are kept in memory rather than made again

Surface = Callable[[], np.ndarray]
"""Gives the displacements (T, V, 3) of a moving surface from its head, metres."""


def pack(array: np.ndarray, step: float = 0.0, *, delta: bool = False) -> dict[str, Any]:
    """An array as a JSON object with deflated, base64 text; ``unpack`` and web/data.js read it.

    Args:
        array: numbers, any shape.
        step: what they are rounded to multiples of; 0 keeps float32, rounded to 16 bits (1.5e-5 of each).
        delta: store differences along the first axis; for values that change little along it.

    Returns:
        ``shape``; ``step``; ``delta``; ``width`` bytes per number; ``data``. Integers are stored as zigzag codes
        (0, -1, 1, -2 ... as 0, 1, 2, 3 ...), all first bytes, then all second bytes, and so on.
    """
    array = np.asarray(array)
    if step:
        codes = np.rint(array.astype(np.float64) / step).astype(np.int64)
        if delta and len(codes):
            codes = np.concatenate([codes[:1], np.diff(codes, axis=0)])
        zigzag = np.where(codes < 0, -2 * codes - 1, 2 * codes).ravel()
        top = int(zigzag.max(initial=0))
        width = next(width for width in (1, 2, 4, 8) if top < 256**width)
        if width > 4:
            raise ValueError(f"array: expected numbers below {2**31} steps of {step:g}, found {top / 2:g}")
        data = zigzag.astype(f"<u{width}").view(np.uint8).reshape(-1, width).T.tobytes()
    else:
        bits = np.ascontiguousarray(array, "<f4").view("<u4").ravel().astype(np.uint64) + 0x80  # to nearest
        width, data = 4, (bits & 0xFFFFFF00).astype("<u4").view(np.uint8).reshape(-1, 4).T.tobytes()
    text = base64.b64encode(zlib.compress(data, 9)).decode("ascii")
    return {"shape": list(array.shape), "step": step, "delta": bool(step and delta), "width": width, "data": text}


def unpack(packed: dict[str, Any]) -> np.ndarray:
    """The array of :func:`pack` as the page reads it, float32 (integers for step 1)."""
    planes = np.frombuffer(zlib.decompress(base64.b64decode(packed["data"])), np.uint8)
    raw = np.ascontiguousarray(planes.reshape(packed["width"], -1).T)
    if not packed["step"]:
        return raw.view("<f4").ravel().reshape(packed["shape"])
    zigzag = raw.view(f"<u{packed['width']}").ravel().astype(np.int64)
    codes = np.where(zigzag % 2, -(zigzag + 1) // 2, zigzag // 2).reshape(packed["shape"])
    if packed["delta"]:
        codes = codes.cumsum(axis=0)
    return codes if packed["step"] == 1 else (codes * packed["step"]).astype(np.float32)


def packed_bytes(packed: Any) -> int:
    """Length of the text of all arrays in nested lists and objects."""
    if isinstance(packed, dict):
        return len(packed["data"]) if "data" in packed else sum(map(packed_bytes, packed.values()))
    return sum(map(packed_bytes, packed)) if isinstance(packed, list) else 0


@dataclass(frozen=True)
class Encoded:
    """Moving surfaces as ``head + weights @ components``; no weight is beyond -1..1.

    Attributes:
        components: (K, V, 3) float32 millimetres, as they are read from the page.
        packed: :func:`pack` of them.
        steps: (K,) what weights are rounded to multiples of.
        codes: (T, K) whole numbers of steps of every surface.
        max_error_mm: largest distance of a vertex of a frame of a surface from where it should be.
        mean_error_mm: mean over all.
    """

    components: np.ndarray
    packed: dict[str, Any]
    steps: np.ndarray
    codes: list[np.ndarray]
    max_error_mm: float
    mean_error_mm: float

    def project(self, displacement: np.ndarray) -> np.ndarray:
        """Weights (T, K), float64, whose surfaces are nearest (least squares) to displacements (T, V, 3), metres."""
        basis = self.components.reshape(len(self.components), -1).astype(np.float64)
        flat = displacement.reshape(len(displacement), -1) * MM_PER_METRE
        return (np.linalg.pinv(basis @ basis.T, rcond=1e-12, hermitian=True) @ (basis @ flat.T)).T


def encode_surfaces(surfaces: Sequence[Surface], budget: int) -> Encoded:
    """The fewest principal components of all surfaces together that bring every vertex of every frame closer than a
    tolerance, the smallest of :data:`TOLERANCES_MM` with which they take no more than ``budget`` bytes of text.

    Every surface is asked for three times where they do not all fit into memory.

    Args:
        surfaces: of one topology, at least one; (T, V, 3) metres each, T may differ.
        budget: bytes; where even the largest tolerance needs more, that one is taken and the error says it.
    """
    flat = _Flat(surfaces)
    directions = _directions(flat)  # (K, 3V), unit length
    found = [own @ directions.T for own in flat]  # (T, K) millimetres
    errors = _errors_by_count(flat, directions, found)
    largest = np.max([np.abs(own).max(axis=0, initial=0) for own in found], axis=0)  # (K,)
    for tolerance in TOLERANCES_MM:
        share = 0.6 * tolerance  # the rest is for rounding
        count = next((count for count, error in errors if error < share), errors[-1][0])
        scale = np.maximum(largest[:count], 1e-6)
        packed = pack((directions[:count] * scale[:, None]).reshape(count, -1, 3), STEP_SHARE * tolerance)
        if len(packed["data"]) <= budget:
            break
    components = unpack(packed)
    steps = STEP_SHARE * tolerance / np.maximum(np.linalg.norm(components, axis=2).max(axis=1), STEP_SHARE * tolerance)
    codes = [np.rint(own[:, :count] / scale / steps).astype(np.int64) for own in found]
    worst, total, points = 0.0, 0.0, 0
    for own, code in zip(flat, codes):
        rest = own - (code * steps).astype(np.float32) @ components.reshape(count, -1)
        distance = np.sqrt(_squares(rest))
        worst, total, points = max(worst, float(distance.max())), total + float(distance.sum()), points + distance.size
    log.debug("%d components, off by %.3f mm at most, %.4f mm on average", count, worst, total / points)
    return Encoded(components, packed, steps, codes, worst, total / points)


class _Flat:
    """Surfaces one after another as (T, 3V) float32, millimetres."""

    def __init__(self, surfaces: Sequence[Surface]) -> None:
        self._surfaces, self._room = surfaces, _CACHE
        self._kept: dict[int, np.ndarray] = {}

    def __iter__(self) -> Iterator[np.ndarray]:
        for number, surface in enumerate(self._surfaces):
            flat = self._kept.get(number)
            if flat is None:
                displacement = surface()
                flat = (displacement.reshape(len(displacement), -1) * MM_PER_METRE).astype(np.float32)
                if flat.nbytes <= self._room:
                    self._kept[number], self._room = flat, self._room - flat.nbytes
            yield flat


def _squares(flat: np.ndarray) -> np.ndarray:
    """(T, V) squared lengths of (T, 3V)."""
    points = flat.reshape(len(flat), -1, 3)
    return np.einsum("tvc,tvc->tv", points, points)


def _directions(surfaces: _Flat) -> np.ndarray:
    """Orthonormal rows (K, 3V), K at most the last of :data:`LADDER`, that span the surfaces, the strongest first.

    The surfaces pass by one after another. What is kept of those so far is a sketch: rows whose principal components
    are theirs (Liberty, "Simple and deterministic matrix sketching", 2013, without his shrinking).
    """
    parts: list[np.ndarray] = []
    for flat in surfaces:
        parts += [_principal_rows(flat[start : start + _ROWS // 4]) for start in range(0, len(flat), _ROWS // 4)]
        if sum(map(len, parts)) > _ROWS:
            parts = [_principal_rows(np.concatenate(parts))]
    rows = _principal_rows(np.concatenate(parts))
    return rows / np.maximum(np.linalg.norm(rows, axis=1, keepdims=True), 1e-9)


def _principal_rows(rows: np.ndarray) -> np.ndarray:
    """As few rows (K, Q) with nearly the same Gram matrix ``rows.T @ rows``: singular values times right vectors, those
    left out that are shorter than a twentieth of the finest tolerance.
    """
    exact = rows.astype(np.float64)  # weak rows are differences of strong ones: float32 loses them
    squares, left = np.linalg.eigh(exact @ exact.T)
    strongest = np.argsort(squares)[::-1][: LADDER[-1]]
    kept = strongest[squares[strongest] > (0.05 * TOLERANCES_MM[0]) ** 2]
    return (left[:, kept].T @ exact).astype(np.float32) if len(kept) else rows[:1]


def _errors_by_count(surfaces: _Flat, directions: np.ndarray, weights: Sequence[np.ndarray]) -> list[tuple[int, float]]:
    """Numbers of components and the largest distance that each leaves, millimetres, the smallest number first."""
    counts = [count for count in LADDER if count < len(directions)] + [len(directions)]
    errors = np.zeros(len(counts))
    for surface, own in zip(surfaces, weights):
        rest, before = surface.copy(), 0
        for number, count in enumerate(counts):
            rest -= own[:, before:count] @ directions[before:count]
            errors[number], before = max(errors[number], float(_squares(rest).max()) ** 0.5), count
    return list(zip(counts, errors.tolist()))
