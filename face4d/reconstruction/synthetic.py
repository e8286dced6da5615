"""Rendered faces with everything known about them: training data without photos and without licences.

Any model in FLAME's format is drawn with random identity, expression, pose, camera, light, skin and background, framed as the crops of photos
are. Landmarks, parameters, camera and light come with every picture.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional

from face4d.errors import InputError
from face4d.flame.layer import FlameLayer, FlameOutput
from face4d.reconstruction.appearance import FaceRegions, random_colors
from face4d.reconstruction.camera import LIGHT_FACTORS, shade, to_screen
from face4d.reconstruction.photo import DECA_MARGIN, DECA_SIZE, LANDMARK_MARGIN, VRN_FACE, VRN_SIZE
from face4d.reconstruction.render import render
from face4d.reconstruction.rotations import euler_to_axis_angle

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
        framing: ``deca`` (224 pixels, as :func:`~face4d.reconstruction.photo.deca_crop` of the landmarks) or ``vrn`` (192 pixels, as
            :func:`~face4d.reconstruction.photo.vrn_crop`).
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

    def __init__(self, layer: FlameLayer, seed: int, *, framing: str = "deca", size: int | None = None, jitter: float = 0.1) -> None:
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
        self._used_shape, self._used_expression = used[: layer.num_shape], used[layer.num_shape : layer.num_shape + layer.num_expression]

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
        expression = _normal(count, len(self._used_expression), generator=self.generator).clamp_(-2, 2) * strength * self._used_expression
        degrees = _normal(count, 3, generator=self.generator).clamp_(-2, 2) * torch.tensor([10.0, 22.0, 8.0])  # nod, turn, tilt
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
    """Light (B, 9, 3): ambient, a lamp in front and a weaker one anywhere, of slightly different colours; a face turned to it gets 0.6 to 1.05."""
    ambient = 0.3 + 0.4 * torch.rand(count, 1, generator=generator)
    key = lamp(_directions(count, torch.tensor([0.8, 0.6, 0.5]), torch.tensor([0.0, 0.4, 0.8]), generator))  # (B, 9)
    fill = lamp(_directions(count, torch.tensor([1.0, 1.0, 1.0]), torch.zeros(3), generator))
    strengths = torch.rand(count, 2, generator=generator) * torch.tensor([0.6, 0.3]) + torch.tensor([0.3, 0.0])
    tints = 1 + 0.06 * _normal(count, 3, 3, generator=generator)  # (B, source, colour)
    total = strengths[:, :1, None] * key[..., None] * tints[:, None, 0] + strengths[:, 1:, None] * fill[..., None] * tints[:, None, 1]
    total[:, 0] += ambient / LIGHT_FACTORS[0] * tints[:, 2]
    ahead = functional.normalize(torch.tensor([[0.0, 0.0, 1.0], [0.6, 0.0, 0.8], [-0.6, 0.0, 0.8], [0.0, 0.5, 0.8], [0.0, -0.5, 0.8]]), dim=1)
    brightness = shade(ahead.expand(count, -1, -1), total).mean((1, 2))
    exposure = 0.6 + 0.45 * torch.rand(count, generator=generator)
    return total * (exposure / brightness)[:, None, None]


def lamp(direction: Tensor) -> Tensor:
    """Light (..., 9) of a white lamp in unit directions (..., 3): shading max(0, n . l) up to the second band, 1/4 + c/2 + 5/32 (3 c^2 - 1)."""
    x, y, z = direction.unbind(-1)
    first, second = 0.5, 5 / 32
    wanted = torch.stack(
        [
            torch.full_like(x, 0.25), first * x, first * y, first * z, 6 * second * x * y, 6 * second * x * z, 6 * second * y * z,
            1.5 * second * (x * x - y * y), 0.5 * second * (3 * z * z - 1),
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
