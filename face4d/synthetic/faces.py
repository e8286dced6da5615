"""Rendered faces of random people with everything known about them: training data without photos and without licences.

Colours of skin, lips, brows, eyes, hair and the inside of the mouth are drawn for any head with 68 landmarks.

Rendered faces with everything known about them: training data without photos and without licences.

Any model in FLAME's format is drawn with random identity, expression, pose, camera, light, skin and background, framed
as the crops of photos are. Landmarks, parameters, camera and light come with every picture.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.nn import functional

from face4d.errors import InputError
from face4d.flame.layer import FlameLayer, FlameOutput
from face4d.flame.skinning import euler_to_axis_angle
from face4d.mesh.geometry import connected_components
from face4d.photos.crops import DECA_MARGIN, DECA_SIZE, LANDMARK_MARGIN, VRN_FACE, VRN_SIZE
from face4d.render.lit import LIGHT_FACTORS, render, shade, to_screen

_BROWS = (slice(17, 22), slice(22, 27))
_EYES = (slice(36, 42), slice(42, 48))
_OUTER_LIPS, _INNER_LIPS = slice(48, 60), slice(60, 68)
# painted in this order
_NAMES = ("lips", "brows", "lashes", "hair", "beard", "flush", "mouth", "teeth", "white", "iris", "pupil")
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
        # a millimetre on a head of common size
        unit = np.linalg.norm(marks[_EYES[1]].mean(0) - marks[_EYES[0]].mean(0)) / 64
        front = points[:, 2] > marks[:17, 2].mean() - 10 * unit
        count = len(points)
        piece = connected_components(count, faces.numpy())
        skin = piece == np.bincount(piece).argmax()

        weights = {name: np.zeros(count) for name in _NAMES}
        lip_depth = marks[_OUTER_LIPS, 2].mean() - points[:, 2]
        within = _distance_to_polygon(flat, marks[_OUTER_LIPS, :2])
        weights["lips"] = _fade(within, 1.5 * unit) * skin * (lip_depth < 12 * unit)
        lips = marks[_OUTER_LIPS, :2]
        # taller than the lips in front of it
        pocket = _distance_to_polygon(flat, lips.mean(0) + (lips - lips.mean(0)) * [0.95, 2.0])
        depth = np.clip((lip_depth - 11 * unit) / (4 * unit), 0, 1) * (lip_depth < 70 * unit)
        weights["mouth"] = _fade(pocket, 4 * unit) * skin * depth
        for brow in _BROWS:
            line = marks[brow, :2].copy()
            inner, beside = (-1, -2) if brow is _BROWS[0] else (0, 1)
            # between coarse vertices a colour spreads, and brows would meet
            line[inner] += (line[beside] - line[inner]) / 3
            weights["brows"] = np.maximum(
                weights["brows"], _fade(_distance_to_line(flat, line) - 3 * unit, 2 * unit) * front * skin
            )
        for eye in _EYES:
            weights["lashes"] = np.maximum(
                weights["lashes"], _fade(np.abs(_distance_to_polygon(flat, marks[eye, :2])), 1.5 * unit) * front * skin
            )
        jaw, nose, brow_height = marks[4:13], marks[33], marks[17:27, 1].mean()
        around_mouth = np.linalg.norm((flat - [nose[0], marks[_OUTER_LIPS, 1].mean()]) / [1.0, 0.9], axis=1)
        weights["beard"] = (
            _fade(points[:, 1] - nose[1] + 4 * unit, 6 * unit)
            * _fade(jaw[:, 1].min() - 15 * unit - points[:, 1], 15 * unit)
            * skin
        )
        weights["beard"] *= (points[:, 2] > marks[[0, 16], 2].mean() - 5 * unit) * np.clip(
            1.3 - around_mouth / (90 * unit), 0.3, 1
        )
        middles = (0.5 * (marks[eye, :2].mean(0) + marks[mouth, :2]) for eye, mouth in zip(_EYES, (48, 54)))
        cheeks = np.minimum(*(np.linalg.norm(flat - middle, axis=1) for middle in middles))
        weights["flush"] = np.exp(-0.5 * (cheeks / (15 * unit)) ** 2) * front * skin
        # the hair line runs from the forehead over the temples to behind the ears
        behind = marks[17:27, 2].mean() - points[:, 2]
        weights["hair"] = (
            _fade(brow_height + 48 * unit - points[:, 1] - 0.75 * np.maximum(behind - 10 * unit, 0), 14 * unit) * skin
        )
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
    skin = between((0.36, 0.23, 0.17), (0.93, 0.74, 0.64), tone) * (
        1 + 0.04 * torch.randn(count, 3, generator=generator)
    )
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


def _fade(distance: np.ndarray, width: Any) -> np.ndarray:
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


FRAMINGS = {"deca": DECA_SIZE, "vrn": VRN_SIZE}


class SyntheticBatch(NamedTuple):
    """B pictures and the truth about them. Units: metres, radians; screen: x right, y down, -1..1 over the picture."""

    images: Tensor  # (B, 3, S, S) RGB in 0..1
    shape: Tensor  # (B, number of shape coefficients)
    expression: Tensor  # (B, number of expression coefficients)
    pose: Tensor  # (B, 6) axis-angle of the head, then of the jaw
    camera: Tensor  # (B, 3)
    light: Tensor  # (B, 9, 3)
    vertices: Tensor  # (B, V, 3) posed, metres
    landmarks: Tensor  # (B, 68, 3) metres
    screen_landmarks: Tensor  # (B, 68, 3) screen, the depth in the same unit
    colors: Tensor  # (B, V, 3) albedo
    mask: Tensor  # (B, 1, S, S) 1 where the head is


class SyntheticFaces:
    """Draws faces, the same ones for the same seed and the same sequence of batch sizes, on any device.

    Args:
        layer: a FLAME layer with landmarks; pictures are made on its device.
        seed: of all random numbers.
        framing: ``deca`` (224 pixels, as :func:`~face4d.photos.crops.deca_crop` of the landmarks) or ``vrn`` (192
            pixels, as :func:`~face4d.photos.crops.vrn_crop`).
        size: of the pictures in pixels, in place of the framing's.
        jitter: how far the framing strays: 0.1 is a tenth of the scale, and of a tenth of the window either way.

    Raises:
        InputError: a layer without landmarks, or an unknown framing.

    Example:
        >>> faces = SyntheticFaces(load_flame_layer("demo/models/flame"), seed=27)
        >>> batch = faces.batch(8)
        >>> batch.images.shape, batch.pose.shape
        (torch.Size([8, 3, 224, 224]), torch.Size([8, 6]))
    """

    def __init__(
        self, layer: FlameLayer, seed: int, *, framing: str = "deca", size: int | None = None, jitter: float = 0.1
    ) -> None:
        if layer.marks is None:
            raise InputError("FLAME layer", "one with landmarks", "none")
        if framing not in FRAMINGS:
            raise InputError("framing", f"one of {', '.join(FRAMINGS)}", framing)
        self.layer, self.framing, self.size, self.jitter = layer, framing, size or FRAMINGS[framing], jitter
        self.generator = torch.Generator().manual_seed(seed)
        with torch.no_grad():
            neutral = layer()
        self.regions = FaceRegions(neutral.vertices[0].cpu(), layer.faces.cpu(), neutral.landmarks[0].cpu())
        used = (layer.surface.directions.abs().amax(1) > 0).float().cpu()  # columns that move anything
        self._used_shape, self._used_expression = (
            used[: layer.num_shape],
            used[layer.num_shape : layer.num_shape + layer.num_expression],
        )

    @torch.no_grad()
    def batch(self, count: int) -> SyntheticBatch:
        """The next ``count`` faces."""
        device = self.layer.faces.device
        shape, expression, pose = (part.to(device) for part in self._parameters(count))
        posed = self.layer(shape=shape, expression=expression, global_pose=pose[:, :3], jaw_pose=pose[:, 3:])
        camera = self._camera(posed.landmarks)
        light = random_light(count, self.generator).to(device)
        colors = random_colors(self.regions, count, self.generator).to(device)
        background = random_backgrounds(count, self.size, self.generator).to(device)
        drawn = render(posed.vertices, self.layer.faces, camera, light, self.size, colors=colors)
        images = torch.where(drawn.mask > 0, drawn.image, background).clamp_(0, 1)
        screen = to_screen(posed.landmarks, camera)
        return SyntheticBatch(
            images, shape, expression, pose, camera, light, posed.vertices, posed.landmarks, screen, colors, drawn.mask
        )

    @torch.no_grad()
    def geometry(self, count: int) -> tuple[Tensor, FlameOutput, Tensor]:
        """``count`` random faces that are not drawn.

        Returns:
            codes (B, S + E + 9): shape, expression, pose, camera; the posed face, metres; and again the cameras (B, 3).
        """
        shape, expression, pose = (part.to(self.layer.faces.device) for part in self._parameters(count))
        posed = self.layer(shape=shape, expression=expression, global_pose=pose[:, :3], jaw_pose=pose[:, 3:])
        camera = self._camera(posed.landmarks)
        return torch.cat([shape, expression, pose, camera], dim=1), posed, camera

    def _parameters(self, count: int) -> tuple[Tensor, Tensor, Tensor]:
        """Shape (B, S), expression (B, E), pose (B, 6)."""
        shape = _normal(count, len(self._used_shape), generator=self.generator).clamp_(-2.5, 2.5) * self._used_shape
        strength = 0.8 * torch.rand(count, 1, generator=self.generator)  # from neutral faces to strong expressions
        expression = (
            _normal(count, len(self._used_expression), generator=self.generator).clamp_(-2, 2)
            * strength
            * self._used_expression
        )
        # nod, turn, tilt
        degrees = _normal(count, 3, generator=self.generator).clamp_(-2, 2) * torch.tensor([10.0, 22.0, 8.0])
        opening = (_normal(count, 1, generator=self.generator) * 0.18).clamp_(0, 0.45)  # half of the mouths are closed
        sideways = _normal(count, 2, generator=self.generator) * 0.02
        return shape, expression, torch.cat([euler_to_axis_angle(torch.deg2rad(degrees)), opening, sideways], dim=1)

    def _camera(self, landmarks: Tensor) -> Tensor:
        """Cameras (B, 3) that frame landmarks (B, 68, 3) as a crop would, give or take the jitter."""
        low, high = landmarks[..., :2].amin(1), landmarks[..., :2].amax(1)  # (B, 2) metres
        width, height = (high - low).unbind(1)
        if self.framing == "deca":
            scale = 2 / ((width + height) / 2 * LANDMARK_MARGIN * DECA_MARGIN)
        else:
            scale = 2 * VRN_FACE / VRN_SIZE / (width * height).sqrt()
        stray = (2 * torch.rand(len(landmarks), 3, generator=self.generator) - 1).to(landmarks) * self.jitter
        scale = scale * (1 + stray[:, 0])
        return torch.cat([scale[:, None], stray[:, 1:] / scale[:, None] - (low + high) / 2], dim=1)


def random_light(count: int, generator: torch.Generator) -> Tensor:
    """Light (B, 9, 3): ambient, a lamp in front and a weaker one anywhere, of slightly different colours; a face turned
    to it gets 0.6 to 1.05.
    """
    ambient = 0.3 + 0.4 * torch.rand(count, 1, generator=generator)
    key = lamp(_directions(count, torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.0, 0.4, 0.8]), generator))  # (B, 9)
    fill = lamp(_directions(count, torch.tensor([1.0, 1.0, 1.0]), torch.zeros(3), generator))
    strengths = torch.rand(count, 2, generator=generator) * torch.tensor([0.6, 0.3]) + torch.tensor([0.3, 0.0])
    tints = 1 + 0.06 * _normal(count, 3, 3, generator=generator)  # (B, source, colour)
    total = (
        strengths[:, :1, None] * key[..., None] * tints[:, None, 0]
        + strengths[:, 1:, None] * fill[..., None] * tints[:, None, 1]
    )
    total[:, 0] += ambient / LIGHT_FACTORS[0] * tints[:, 2]
    ahead = functional.normalize(
        torch.tensor([[0.0, 0.0, 1.0], [0.6, 0.0, 0.8], [-0.6, 0.0, 0.8], [0.0, 0.5, 0.8], [0.0, -0.5, 0.8]]), dim=1
    )
    brightness = shade(ahead.expand(count, -1, -1), total).mean((1, 2))
    exposure = 0.6 + 0.45 * torch.rand(count, generator=generator)
    return total * (exposure / brightness)[:, None, None]


def lamp(direction: Tensor) -> Tensor:
    """Light (..., 9) of a white lamp in unit directions (..., 3): shading max(0, n . l) up to the second band, 1/4 +
    c/2 + 5/32 (3 c^2 - 1).
    """
    x, y, z = direction.unbind(-1)
    first, second = 0.5, 5 / 32
    wanted = torch.stack(
        [
            torch.full_like(x, 0.25), first * x, first * y, first * z, 6 * second * x * y, 6 * second * x * z,
            6 * second * y * z, 1.5 * second * (x * x - y * y), 0.5 * second * (3 * z * z - 1),
        ],
        dim=-1,
    )  # fmt: skip
    return wanted / wanted.new_tensor(LIGHT_FACTORS)


def random_backgrounds(count: int, size: int, generator: torch.Generator) -> Tensor:
    """Backgrounds (B, 3, size, size) in 0..1: clouds of several sizes in two colours, some smooth and some rough."""
    cloud = torch.zeros(count, 1, size, size)
    for cells, strength in ((2, 1.0), (5, 0.7), (14, 0.5), (56, 0.3)):
        coarse = _normal(count, 1, cells, cells, generator=generator)
        amount = strength * torch.rand(count, 1, 1, 1, generator=generator)
        cloud += functional.interpolate(coarse * amount, size=(size, size), mode="bilinear", align_corners=True)
    colors = torch.rand(count, 2, 3, 1, 1, generator=generator)
    return torch.lerp(colors[:, 0], colors[:, 1], torch.sigmoid(2 * cloud))


def _directions(count: int, spread: Tensor, middle: Tensor, generator: torch.Generator) -> Tensor:
    return functional.normalize(_normal(count, 3, generator=generator) * spread + middle, dim=1)


def _normal(*shape: int, generator: torch.Generator) -> Tensor:
    return torch.randn(shape, generator=generator)
