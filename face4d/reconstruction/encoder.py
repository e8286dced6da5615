"""DECA's networks: encoders of pictures, and the generator of detail.

Feng et al., "Learning an animatable detailed 3D face model from in-the-wild images", SIGGRAPH 2021. Names of the state dicts are those
of the groups ``E_flame``, ``E_detail`` and ``D_detail`` of the published ``deca_model.tar``.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated

import torch
from torch import Tensor, nn

from face4d.reconstruction.resnet import build_backbone
from face4d.runtime.checkpoint import load_weights as load_weights  # of state dicts whose names are those of the networks here
from face4d.runtime.fields import integer

IMAGE_SIZE = 224  # pixels a side of what the encoders see
NUM_DETAIL = 128  # length of the detail code
DETAIL_SIZE = 256  # pixels a side of the displacement map
MAX_DISPLACEMENT = 0.01  # metres
Coefficients = Annotated[int, integer(0, 1000)]


@dataclass(frozen=True)
class FaceCode:
    """What the coarse encoder tells of each of B faces.

    Attributes:
        shape: (B, S) identity coefficients of the face model.
        texture: (B, K) coefficients of a texture model, where there is one.
        expression: (B, E).
        pose: (B, 6) axis-angle of the head and of the jaw, radians.
        camera: (B, 3) scale s and shift tx, ty of the weak perspective s * (x + tx), s * (y + ty), in half pictures.
        light: (B, 9, 3) spherical harmonics of each colour.
    """

    shape: Tensor
    texture: Tensor
    expression: Tensor
    pose: Tensor
    camera: Tensor
    light: Tensor

    def __len__(self) -> int:
        return len(self.shape)

    def __getitem__(self, rows: slice | Tensor) -> FaceCode:
        return FaceCode(**{name: value[rows] for name, value in self.as_dict().items()})

    @classmethod
    def joined(cls, codes: Sequence[FaceCode]) -> FaceCode:
        """The faces of all codes, one after the other."""
        return cls(**{field.name: torch.cat([getattr(code, field.name) for code in codes]) for field in fields(cls)})

    def as_dict(self) -> dict[str, Tensor]:
        """The six tensors by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}


@dataclass(frozen=True)
class CodeLayout:
    """How many of the encoder's numbers mean what, in their order. The defaults are DECA's, 236 in all."""

    shape: Coefficients = 100
    texture: Coefficients = 50
    expression: Coefficients = 50
    pose: Annotated[int, integer(6, 6)] = 6
    camera: Annotated[int, integer(3, 3)] = 3
    light: Annotated[int, integer(27, 27)] = 27

    @property
    def total(self) -> int:
        """Numbers in all."""
        return sum(self.as_dict().values())

    def as_dict(self) -> dict[str, int]:
        """Lengths by name."""
        return {field.name: getattr(self, field.name) for field in fields(self)}

    def split(self, code: Tensor) -> FaceCode:
        """The parts of codes (B, total)."""
        parts = dict(zip(self.as_dict(), code.split(list(self.as_dict().values()), dim=1)))
        return FaceCode(**parts | {"light": parts["light"].unflatten(1, (9, 3))})


class Encoder(nn.Module):
    """Pictures (B, 3, H, W) in 0..1, RGB, to codes (B, outputs): a residual network and two linear layers."""

    def __init__(self, outputs: int, backbone: str = "resnet50", hidden: int = 1024) -> None:
        super().__init__()
        self.encoder = build_backbone(backbone)
        self.layers = nn.Sequential(nn.Linear(self.encoder.num_features, hidden), nn.ReLU(), nn.Linear(hidden, outputs))

    def forward(self, images: Tensor) -> Tensor:
        return self.layers(self.encoder(images))


class DetailGenerator(nn.Module):
    """Codes (B, 181): jaw 3, expression 50, detail 128, to displacements (B, 1, 256, 256) along the normal, metres, at most 0.01."""

    def __init__(self, inputs: int = 3 + 50 + NUM_DETAIL) -> None:
        super().__init__()
        self.l1 = nn.Sequential(nn.Linear(inputs, 128 * 8 * 8))
        layers: list[nn.Module] = [nn.BatchNorm2d(128)]
        before = 128
        for channels in (128, 64, 64, 32, 16):
            layers += [
                nn.Upsample(scale_factor=2, mode="bilinear"),
                nn.Conv2d(before, channels, 3, 1, 1),
                nn.BatchNorm2d(channels, eps=0.8),  # sic: what the published weights were trained with
                nn.LeakyReLU(0.2),
            ]
            before = channels
        self.conv_blocks = nn.Sequential(*layers, nn.Conv2d(before, 1, 3, 1, 1), nn.Tanh())

    def forward(self, codes: Tensor) -> Tensor:
        x = self.l1(codes).unflatten(1, (128, 8, 8))
        return self.conv_blocks(x) * MAX_DISPLACEMENT
