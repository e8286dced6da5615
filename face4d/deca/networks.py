"""Networks that see a picture and describe a face: ResNets, DECA's encoders and detail generator, the landmark-based
encoder.

He et al., "Deep residual learning for image recognition", CVPR 2016; the stride of a bottleneck is on its 3x3
convolution. Names in the state dict are those of the published ResNet weights without the last layer.

DECA's networks: encoders of pictures, and the generator of detail.

Feng et al., "Learning an animatable detailed 3D face model from in-the-wild images", SIGGRAPH 2021. Names of the state
dicts are those of the groups ``E_flame``, ``E_detail`` and ``D_detail`` of the published ``deca_model.tar``.

A small encoder that first finds points of the face in the picture and then tells the face from where they are.

Shape, expression, pose and camera are little more than where things are. Maps whose centres are taken ("spatial
softmax", Finn et al., "Deep spatial autoencoders for visuomotor learning", ICRA 2016) find points from few pictures,
and the second half, points to codes, can be taught with any number of faces that are never drawn.
"""

from __future__ import annotations

import copy
from collections.abc import Sequence
from dataclasses import dataclass, fields
from typing import Annotated, TypeVar

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from face4d.constants import NUM_LANDMARKS
from face4d.errors import InputError
from face4d.mesh.geometry import vertex_normals

# of state dicts whose names are those of the networks here
from face4d.runtime.checkpoint import load_weights as load_weights
from face4d.runtime.device import channels_last
from face4d.runtime.fields import integer

Network = TypeVar("Network", bound=nn.Module)


class BasicBlock(nn.Module):
    """Two 3x3 convolutions beside the identity."""

    expansion = 1

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(inputs, width, 3, stride, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, 1, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.downsample = _shortcut(inputs, width, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = self.bn2(self.conv2(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


class Bottleneck(nn.Module):
    """1x1, 3x3 and 1x1 convolutions beside the identity; the last one has four times the width."""

    expansion = 4

    def __init__(self, inputs: int, width: int, stride: int) -> None:
        super().__init__()
        outputs = width * self.expansion
        self.conv1 = nn.Conv2d(inputs, width, 1, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        self.conv2 = nn.Conv2d(width, width, 3, stride, 1, bias=False)
        self.bn2 = nn.BatchNorm2d(width)
        self.conv3 = nn.Conv2d(width, outputs, 1, bias=False)
        self.bn3 = nn.BatchNorm2d(outputs)
        self.downsample = _shortcut(inputs, outputs, stride)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.bn1(self.conv1(x)))
        y = functional.relu(self.bn2(self.conv2(y)))
        y = self.bn3(self.conv3(y))
        return functional.relu(y + (x if self.downsample is None else self.downsample(x)))


def _shortcut(inputs: int, outputs: int, stride: int) -> nn.Sequential | None:
    if stride == 1 and inputs == outputs:
        return None
    return nn.Sequential(nn.Conv2d(inputs, outputs, 1, stride, bias=False), nn.BatchNorm2d(outputs))


class ResNet(nn.Module):
    """Picture (B, 3, H, W) to features (B, ``num_features``): a 7x7 stem, a pooling, four stages, the mean over the
    last map.

    Args:
        block: :class:`BasicBlock` or :class:`Bottleneck`.
        blocks: number of blocks in each of the four stages; all stages but the first halve the map.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], blocks: tuple[int, int, int, int]) -> None:
        super().__init__()
        width = 64  # channels of the stem and of the first stage; doubled in each stage after it
        self.conv1 = nn.Conv2d(3, width, 7, 2, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(width)
        inputs = width
        for stage, count in enumerate(blocks):
            layers = []
            for number in range(count):
                layers.append(block(inputs, width << stage, 2 if stage and not number else 1))
                inputs = (width << stage) * block.expansion
            setattr(self, f"layer{stage + 1}", nn.Sequential(*layers))
        self.num_features = inputs
        initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(images)))  # (B, width, H/2, W/2)
        x = functional.max_pool2d(x, 3, 2, 1)  # (B, width, H/4, W/4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, num_features, H/32, W/32)
        return x.mean(dim=(2, 3))


def initialise(network: nn.Module) -> None:
    """Draw the weights of all convolutions as He et al., "Delving deep into rectifiers", ICCV 2015."""
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


_BACKBONES = {
    "resnet50": lambda: ResNet(Bottleneck, (3, 4, 6, 3)),
    "resnet18": lambda: ResNet(BasicBlock, (2, 2, 2, 2)),
}
BACKBONES = tuple(_BACKBONES)


def build_backbone(name: str) -> ResNet:
    """``resnet50`` (23.5 million weights, DECA's) or ``resnet18`` (11.2 million).

    Raises:
        InputError: another name.
    """
    if name not in _BACKBONES:
        raise InputError("backbone", f"one of {', '.join(BACKBONES)}", str(name))
    return _BACKBONES[name]()


def for_inference(network: Network) -> Network:
    """A copy in eval mode that computes the same sooner: batch norms folded into the convolutions before them, channels
    last.

    Folding needs a convolution and the batch norm of the same number in one module (``conv2`` and ``bn2``), or side by
    side in a ``Sequential``, as all networks here have them.
    """
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        for name, child in list(module.named_children()):
            if not isinstance(child, nn.Conv2d):
                continue
            after = str(int(name) + 1) if name.isdigit() else name.replace("conv", "bn")
            norm = getattr(module, after, None)
            if isinstance(norm, nn.BatchNorm2d):
                setattr(module, name, fuse_conv_bn_eval(child, norm))
                setattr(module, after, nn.Identity())
    return channels_last(network.requires_grad_(False))


IMAGE_SIZE = 224  # pixels a side of what the encoders see
NUM_DETAIL = 128  # length of the detail code
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
    """Codes (B, 181): jaw 3, expression 50, detail 128, to displacements (B, 1, 256, 256) along the normal, metres, at
    most 0.01.
    """

    def __init__(self) -> None:
        super().__init__()
        self.l1 = nn.Sequential(nn.Linear(3 + 50 + NUM_DETAIL, 128 * 8 * 8))
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


NUM_POINTS = 128  # the 68 landmarks, then vertices all over the front of the head


class PointEncoder(nn.Module):
    """Pictures (B, 3, S, S) in 0..1 to codes (B, total).

    Maps of a quarter, an eighth and a sixteenth of the picture's side, and back to an eighth (one step of an hourglass,
    Newell et al., "Stacked hourglass networks for human pose estimation", ECCV 2016): the coarsest maps know where the
    head is, the middle ones where its parts are.

    Args:
        layout: of the codes.
        hidden: numbers in the layers between points and codes.
    """

    vertices: Tensor
    point_mean: Tensor
    point_scale: Tensor
    code_mean: Tensor
    code_scale: Tensor

    def __init__(self, layout: CodeLayout, hidden: int = 512) -> None:
        super().__init__()
        self.num_geometry = layout.total - layout.light
        fine, middle, coarse = 32, 64, 96  # channels of the maps
        self.conv1 = nn.Conv2d(3, fine, 7, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(fine)
        self.fine = BasicBlock(fine, fine, 1)
        self.middle = nn.Sequential(BasicBlock(fine, middle, 2), BasicBlock(middle, middle, 1))
        self.coarse = nn.Sequential(BasicBlock(middle, coarse, 2), BasicBlock(coarse, coarse, 1))
        self.lateral = nn.Conv2d(coarse, middle, 1, bias=False)
        self.merged = BasicBlock(middle, middle, 1)
        self.maps = nn.Conv2d(middle, NUM_POINTS, 1)
        self.geometry = ResidualLayers(2 * NUM_POINTS, hidden, self.num_geometry)
        # normalised: means of rectified maps are all positive, and hidden numbers that are pushed below zero for all
        # pictures learn no more
        self.light = nn.Sequential(
            nn.BatchNorm1d(coarse), nn.Linear(coarse, hidden), nn.ReLU(), nn.Linear(hidden, layout.light)
        )
        initialise(self)
        # of the face model, which points find
        self.register_buffer("vertices", torch.zeros(NUM_POINTS - NUM_LANDMARKS, dtype=torch.int64))
        self.register_buffer("point_mean", torch.zeros(NUM_POINTS, 2))
        self.register_buffer("point_scale", torch.ones(NUM_POINTS, 2))
        self.register_buffer("code_mean", torch.zeros(layout.total))
        self.register_buffer("code_scale", torch.ones(layout.total))

    def fit_scale(self, codes: Tensor, points: Tensor) -> None:
        """Take mean and spread from training codes (N, total) and points (N, P, 2)."""
        self.code_mean.copy_(codes.mean(0))
        self.code_scale.copy_(codes.std(0).clamp_min(1e-6))
        self.point_mean.copy_(points.mean(0))
        # a point that is not found, far off, must not drown the others
        self.point_scale.copy_(points.std(0).clamp_min(0.1))

    def find_points(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Points (B, P, 2), x right and y down in -1..1 over the picture, and means of the coarsest maps (B, C)."""
        x = functional.relu(self.bn1(self.conv1(images)))  # (B, fine, S/4, S/4)
        middle = self.middle(self.fine(x))  # (B, middle, S/8, S/8)
        coarse = self.coarse(middle)  # (B, coarse, S/16, S/16)
        merged = self.merged(middle + functional.interpolate(self.lateral(coarse), size=middle.shape[2:]))
        maps = self.maps(merged).float()  # (B, P, S/8, S/8)
        height, width = maps.shape[2:]
        share = maps.flatten(2).softmax(2).unflatten(2, (height, width))
        across, down = ((2 * torch.arange(size, device=maps.device) + 1) / size - 1 for size in (width, height))
        return torch.stack([share.sum(2) @ across, share.sum(3) @ down], dim=2), coarse.mean(dim=(2, 3))

    def face_of_points(self, points: Tensor) -> Tensor:
        """Codes without light (B, total - 27) of points (B, P, 2)."""
        geometry = self.geometry(((points - self.point_mean) / self.point_scale).flatten(1)).float()
        return geometry * self.code_scale[: self.num_geometry] + self.code_mean[: self.num_geometry]

    def codes_and_points(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Codes (B, total), and the points (B, P, 2) they come from."""
        points, means = self.find_points(images)
        light = self.light(means).float() * self.code_scale[self.num_geometry :] + self.code_mean[self.num_geometry :]
        return torch.cat([self.face_of_points(points), light], dim=1), points

    def forward(self, images: Tensor) -> Tensor:
        return self.codes_and_points(images)[0]


class ResidualLayers(nn.Module):
    """Numbers (B, inputs) to numbers (B, outputs): a linear map, and beside it what three layers make of the bends."""

    def __init__(self, inputs: int, hidden: int, outputs: int) -> None:
        super().__init__()
        self.linear = nn.Linear(inputs, outputs)
        self.first = nn.Linear(inputs, hidden)
        self.between = nn.ModuleList(nn.Linear(hidden, hidden) for _ in range(2))
        self.last = nn.Linear(hidden, outputs)

    def forward(self, x: Tensor) -> Tensor:
        y = functional.relu(self.first(x))
        for layer in self.between:
            y = y + functional.relu(layer(y))
        return self.linear(x) + self.last(y)


def spread_vertices(template: np.ndarray, faces: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """(60,) vertices all over the face of a head (V, 3) with 68 landmarks, each as far as can be from those before
    it.

    They look ahead and lie where a crop of the landmarks shows them: a point beyond the edge of nearly all pictures
    tells nothing.
    """
    low, high = landmarks[:, :2].min(0), landmarks[:, :2].max(0)
    # (V,) 0.5: as far from the middle as the landmarks reach
    beside = np.abs(template[:, :2] - (low + high) / 2).max(1) / (high - low).mean()
    front = np.flatnonzero((vertex_normals(template, faces)[:, 2] > 0.1) & (beside < 0.62))
    chosen = [int(front[np.argmax(template[front, 2])])]
    distance = np.full(len(front), np.inf)
    while len(chosen) < NUM_POINTS - NUM_LANDMARKS:
        distance = np.minimum(distance, np.linalg.norm(template[front] - template[chosen[-1]], axis=1))
        chosen.append(int(front[np.argmax(distance)]))
    return np.array(chosen)
