"""Colours of random people for any head with 68 landmarks: skin, lips, brows, eyes, hair, the inside of the mouth."""

from __future__ import annotations

import numpy as np
import torch
from scipy.sparse import coo_matrix
from scipy.sparse.csgraph import connected_components
from torch import Tensor

_BROWS = (slice(17, 22), slice(22, 27))
_EYES = (slice(36, 42), slice(42, 48))
_OUTER_LIPS, _INNER_LIPS = slice(48, 60), slice(60, 68)
_NAMES = ("lips", "brows", "lashes", "hair", "beard", "flush", "mouth", "teeth", "white", "iris", "pupil")  # painted in this order
_IRIS, _PUPIL = 27.0, 10.0  # degrees from the middle of an eyeball


class FaceRegions:
    """How far every vertex belongs to the parts of a face that have colours of their own.

    Args:
        vertices: (V, 3) neutral face, metres, y up, z forward.
        faces: (F, 3).
        landmarks: (68, 3) on it.

    Attributes:
        weights: {name: (V,) float32 in 0..1}.
        vertices: (V, 3) float32.
    """

    def __init__(self, vertices: Tensor, faces: Tensor, landmarks: Tensor) -> None:
        points, marks = vertices.double().numpy(), landmarks.double().numpy()
        flat = points[:, :2]
        unit = np.linalg.norm(marks[_EYES[1]].mean(0) - marks[_EYES[0]].mean(0)) / 64  # a millimetre on a head of common size
        front = points[:, 2] > marks[:17, 2].mean() - 10 * unit
        edges = np.concatenate([faces.numpy()[:, :2], faces.numpy()[:, 1:]])
        count = len(points)
        _, piece = connected_components(coo_matrix((np.ones(len(edges)), (edges[:, 0], edges[:, 1])), (count, count)), directed=False)
        skin = piece == np.bincount(piece).argmax()

        weights = {name: np.zeros(count) for name in _NAMES}
        lip_depth = marks[_OUTER_LIPS, 2].mean() - points[:, 2]
        within = _distance_to_polygon(flat, marks[_OUTER_LIPS, :2])
        weights["lips"] = _fade(within, 1.5 * unit) * skin * (lip_depth < 12 * unit)
        lips = marks[_OUTER_LIPS, :2]
        pocket = _distance_to_polygon(flat, lips.mean(0) + (lips - lips.mean(0)) * [0.95, 2.0])  # taller than the lips in front of it
        depth = np.clip((lip_depth - 11 * unit) / (4 * unit), 0, 1) * (lip_depth < 70 * unit)
        weights["mouth"] = _fade(pocket, 4 * unit) * skin * depth
        for brow in _BROWS:
            line = marks[brow, :2].copy()
            inner, beside = (-1, -2) if brow is _BROWS[0] else (0, 1)
            line[inner] += (line[beside] - line[inner]) / 3  # between coarse vertices a colour spreads, and brows would meet
            weights["brows"] = np.maximum(weights["brows"], _fade(_distance_to_line(flat, line) - 3 * unit, 2 * unit) * front * skin)
        for eye in _EYES:
            weights["lashes"] = np.maximum(weights["lashes"], _fade(np.abs(_distance_to_polygon(flat, marks[eye, :2])), 1.5 * unit) * front * skin)
        jaw, nose, brow_height = marks[4:13], marks[33], marks[17:27, 1].mean()
        around_mouth = np.linalg.norm((flat - [nose[0], marks[_OUTER_LIPS, 1].mean()]) / [1.0, 0.9], axis=1)
        weights["beard"] = _fade(points[:, 1] - nose[1] + 4 * unit, 6 * unit) * _fade(jaw[:, 1].min() - 15 * unit - points[:, 1], 15 * unit) * skin
        weights["beard"] *= (points[:, 2] > marks[[0, 16], 2].mean() - 5 * unit) * np.clip(1.3 - around_mouth / (90 * unit), 0.3, 1)
        middles = (0.5 * (marks[eye, :2].mean(0) + marks[mouth, :2]) for eye, mouth in zip(_EYES, (48, 54)))
        cheeks = np.minimum(*(np.linalg.norm(flat - middle, axis=1) for middle in middles))
        weights["flush"] = np.exp(-0.5 * (cheeks / (15 * unit)) ** 2) * front * skin
        behind = marks[17:27, 2].mean() - points[:, 2]  # the hair line runs from the forehead over the temples to behind the ears
        weights["hair"] = _fade(brow_height + 48 * unit - points[:, 1] - 0.75 * np.maximum(behind - 10 * unit, 0), 14 * unit) * skin
        weights["hair"] *= _fade(marks[33, 1] - 40 * unit - points[:, 1], 15 * unit)
        for other in range(piece.max() + 1):
            member = np.flatnonzero((piece == other) & ~skin)
            if len(member) == 0:
                continue
            middle = (points[member].min(0) + points[member].max(0)) / 2
            near_eye = min(np.linalg.norm(middle - marks[eye].mean(0)) for eye in _EYES)
            if near_eye < 30 * unit:
                ray = points[member] - middle
                angle = np.rad2deg(np.arctan2(np.linalg.norm(ray[:, :2], axis=1), ray[:, 2]))
                weights["white"][member] = 1
                weights["iris"][member] = angle < _IRIS
                weights["pupil"][member] = angle < _PUPIL
            else:
                weights["teeth"][member] = 1
        self.weights = {name: torch.as_tensor(weight, dtype=torch.float32) for name, weight in weights.items()}
        self.vertices = vertices.float()


def random_colors(regions: FaceRegions, count: int, generator: torch.Generator) -> Tensor:
    """Albedo (B, V, 3) in 0..1 of ``count`` random people, in the range of photos (no gamma to be applied)."""

    def uniform(*shape: int) -> Tensor:
        return torch.rand(count, *shape, generator=generator)

    def between(low: tuple[float, float, float], high: tuple[float, float, float], share: Tensor) -> Tensor:
        return torch.lerp(torch.tensor(low), torch.tensor(high), share)  # (B, 3)

    tone = uniform(1)
    skin = between((0.36, 0.23, 0.17), (0.93, 0.74, 0.64), tone) * (1 + 0.04 * torch.randn(count, 3, generator=generator))
    hair = between((0.07, 0.05, 0.045), (0.55, 0.40, 0.24), uniform(1) ** 2 * (0.3 + 0.7 * tone))
    paint = {
        "lips": skin * between((0.82, 0.60, 0.58), (0.98, 0.80, 0.80), uniform(1)),
        "brows": hair * 0.9,
        "lashes": 0.45 * skin + 0.2 * hair,
        "hair": hair,
        "beard": torch.lerp(skin, hair, 0.7),
        "flush": skin * torch.tensor([1.03, 0.85, 0.83]),
        "mouth": between((0.20, 0.05, 0.05), (0.35, 0.12, 0.11), uniform(1)),
        "teeth": between((0.75, 0.70, 0.60), (0.93, 0.91, 0.87), uniform(1)),
        "white": between((0.78, 0.74, 0.71), (0.92, 0.90, 0.88), uniform(1)),
        "iris": between((0.20, 0.11, 0.06), (0.36, 0.48, 0.56), uniform(1) ** 2),
        "pupil": torch.full((count, 3), 0.03),
    }
    amounts = {
        "hair": (uniform(1) > 0.15).float(),
        "beard": torch.relu(uniform(1) - 0.6) * 2.2,
        "brows": 0.5 + 0.45 * uniform(1),
        "lashes": 0.8 * uniform(1),
        "flush": uniform(1),
    }
    # uneven skin: waves of a few centimetres over the surface
    waves = torch.randn(count, 6, 3, generator=generator) * 90
    phase = regions.vertices @ waves.transpose(1, 2) + 2 * torch.pi * uniform(1, 6)  # (B, V, 6)
    color = skin[:, None] * (1 + 0.02 * phase.sin().sum(-1, keepdim=True))  # (B, V, 3)
    for name in _NAMES:
        share = regions.weights[name][None, :, None] * amounts.get(name, torch.ones(count, 1))[:, None]  # (B, V, 1)
        color = torch.lerp(color, paint[name][:, None].expand_as(color), share)
    return color.clamp_(0, 1)


def _fade(distance: np.ndarray, width: float) -> np.ndarray:
    """1 where a distance is far below zero, 0 far above, a smooth step of about ``width`` between."""
    share = np.clip(0.5 - distance / (2 * width), 0, 1)
    return share * share * (3 - 2 * share)


def _distance_to_line(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Distance of points (N, 2) from a polyline (K, 2)."""
    start, along = corners[:-1], np.diff(corners, axis=0)
    share = ((points[:, None] - start) * along).sum(2) / np.maximum((along**2).sum(1), 1e-18)
    nearest = start + np.clip(share, 0, 1)[..., None] * along
    return np.linalg.norm(points[:, None] - nearest, axis=2).min(axis=1)


def _distance_to_polygon(points: np.ndarray, corners: np.ndarray) -> np.ndarray:
    """Distance of points (N, 2) from a closed polygon (K, 2), negative inside (by the even-odd rule)."""
    closed = np.concatenate([corners, corners[:1]])
    (x0, y0), (x1, y1) = closed[:-1].T, closed[1:].T
    above = (y0 > points[:, 1:]) != (y1 > points[:, 1:])
    with np.errstate(divide="ignore", invalid="ignore"):
        crossing = points[:, :1] < x0 + (points[:, 1:] - y0) / (y1 - y0) * (x1 - x0)
    inside = (above & crossing).sum(axis=1) % 2 == 1
    return np.where(inside, -1, 1) * _distance_to_line(points, closed)
