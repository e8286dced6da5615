"""The volumetric regression network: a picture of a face in, the volume of the head out.

Jackson et al., "Large Pose 3D Face Reconstruction from a Single Image via Direct Volumetric CNN Regression", ICCV 2017,
the unguided network of two stacked hourglasses. Modules are numbered as in the published weights, so that those load as
they are.
"""

from __future__ import annotations

import copy
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from face4d.runtime.device import channels_last

DEPTH, IMAGE_SIZE = 200, 192  # layers of the volume, pixels of the picture
COARSE_SIZE, UPSAMPLING = 48, 4  # pixels of the last features, and how far they are enlarged
_BLOCKS = {"upper": 3, "lower": 6, "innermost": 9}


class Parallel(nn.Sequential):
    """The sum of what its branches make of the same input."""

    def forward(self, x: Tensor) -> Tensor:
        first, second = self
        return first(x) + second(x)


def residual(inside: int, middle: int, outside: int) -> nn.Sequential:
    """Pre-activation bottleneck (He et al. 2016), (B, inside, H, W) to (B, outside, H, W); the skip is a 1x1
    convolution where they differ.
    """
    straight = nn.Sequential(
        nn.BatchNorm2d(inside), nn.ReLU(inplace=True), nn.Conv2d(inside, middle, 1),
        nn.BatchNorm2d(middle), nn.ReLU(inplace=True), nn.Conv2d(middle, middle, 3, padding=1),
        nn.BatchNorm2d(middle), nn.ReLU(inplace=True), nn.Conv2d(middle, outside, 1),
    )  # fmt: skip
    skip = nn.Sequential() if inside == outside else nn.Sequential(nn.Conv2d(inside, outside, 1))
    return nn.Sequential(Parallel(straight, skip))


def hourglass(depth: int, wide: int, narrow: int) -> list[nn.Module]:
    """An hourglass of (B, wide, H, W) as a list of modules; the next inner one sits in the branch of full resolution,
    at its end.

    So no level goes below half the resolution, unlike the hourglass of Newell et al. 2016; the published weights ask
    for it.
    """

    def residuals(name: str) -> list[nn.Module]:
        return [residual(wide, narrow, wide) for _ in range(_BLOCKS[name])]

    upper = residuals("upper")
    if depth > 1:
        upper.append(nn.Sequential(*hourglass(depth - 1, wide, narrow)))
    lower = [
        nn.MaxPool2d(2),
        *residuals("lower" if depth > 1 else "innermost"),
        nn.Upsample(scale_factor=2, mode="nearest"),
    ]
    return [Parallel(nn.Sequential(*upper), nn.Sequential(*lower)), nn.Identity(), residual(wide, narrow, wide)]


def _pointwise(inside: int, outside: int) -> nn.Sequential:
    return nn.Sequential(nn.Conv2d(inside, outside, 1), nn.BatchNorm2d(outside), nn.ReLU(inplace=True))


class VolumeNetwork(nn.Sequential):
    """Pictures (B, 3, 192, 192) to probabilities (B, 200, 192, 192) that a voxel lies inside the head.

    Args:
        width: of all channels but the 200 layers, as a share of the published network's; 1 has its 1917 state-dict
            entries in its shapes, other widths the same entries, smaller.

    Example:
        >>> network = VolumeNetwork(width=0.125)
        >>> network(torch.rand(1, 3, 192, 192)).shape
        torch.Size([1, 200, 192, 192])
    """

    def __init__(self, width: float = 1.0) -> None:
        few, some, many = (max(round(channels * width), 4) for channels in (64, 128, 256))

        def stack() -> Parallel:
            return Parallel(
                nn.Sequential(),
                nn.Sequential(*hourglass(4, many, some), _pointwise(many, many), _pointwise(many, many)),
            )

        upsample = nn.Upsample(scale_factor=UPSAMPLING, mode="bilinear", align_corners=False)
        super().__init__(
            nn.Conv2d(3, few, 7, stride=2, padding=3), nn.BatchNorm2d(few), nn.ReLU(inplace=True),
            residual(few, few, some), nn.MaxPool2d(2), residual(some, few, some), residual(some, some, many),
            stack(), nn.Identity(), stack(), nn.Identity(),
            nn.Sequential(nn.Sequential(_pointwise(many, many), nn.Conv2d(many, DEPTH, 1), upsample, nn.Sigmoid())),
        )  # fmt: skip

    def coarse_logits(self, pictures: Tensor) -> Tensor:
        """Logits (B, 200, 48, 48) before they are enlarged four times, of pictures (B, 3, 192, 192)."""
        for module in list(self)[:-1]:
            pictures = module(pictures)
        return self._output()[:2](pictures)

    def set_prior(self, occupancy: Tensor) -> None:
        """Start from the probability (200,) that voxels of a layer are filled, instead of from one half everywhere."""
        with torch.no_grad():
            self._output()[1].bias.copy_(torch.logit(occupancy.clamp(1e-4, 1 - 1e-4)))

    def _output(self) -> Any:
        """The last layers: two 1x1 convolutions to logits, the enlargement, the sigmoid."""
        outer: Any = self[-1]
        return outer[0]


def enlarged_phase(coarse: Tensor, row: int, column: int) -> Tensor:
    """Every fourth row and column of the enlarged logits, from ``row`` and ``column`` (0 to 3) on, without making the
    others.

    Equal to ``interpolate(coarse, scale_factor=4, mode="bilinear")[..., row::4, column::4]``: all places of a phase
    have the same weights.

    Args:
        coarse: (B, C, H, W).

    Returns:
        (B, C, H, W).
    """
    for axis, phase in ((-2, row), (-1, column)):
        place = (phase + 0.5) / UPSAMPLING - 0.5  # of the sample, in coarse pixels from its own
        size = coarse.shape[axis]
        if place < 0:
            neighbour = torch.cat([coarse.narrow(axis, 0, 1), coarse.narrow(axis, 0, size - 1)], dim=axis)
        else:
            neighbour = torch.cat([coarse.narrow(axis, 1, size - 1), coarse.narrow(axis, size - 1, 1)], dim=axis)
        coarse = torch.lerp(coarse, neighbour, abs(place))
    return coarse


def volume_loss(coarse: Tensor, volumes: Tensor, row: int, column: int) -> Tensor:
    """Binary cross-entropy per voxel, mean, over one of the 16 phases of the enlargement.

    Its mean over the phases is the loss over all voxels; one of them costs a sixteenth, and as neighbouring voxels
    nearly agree it tells nearly as much.

    Args:
        coarse: logits (B, 200, 48, 48).
        volumes: (B, 200, 48, 48) in 0..1, the phase of the true volumes: ``volume[:, row::4, column::4]``.
        row, column: 0 to 3.
    """
    return functional.binary_cross_entropy_with_logits(enlarged_phase(coarse, row, column), volumes)


def for_inference(network: VolumeNetwork) -> VolumeNetwork:
    """A copy for use: in evaluation mode, every normalisation that follows a convolution folded into it, channels last
    in memory.
    """
    network = copy.deepcopy(network).eval()
    for module in network.modules():
        if isinstance(module, nn.Sequential):
            for number in range(len(module) - 1):
                convolution, norm = module[number], module[number + 1]
                if isinstance(convolution, nn.Conv2d) and isinstance(norm, nn.BatchNorm2d):
                    module[number] = fuse_conv_bn_eval(convolution, norm)
                    module[number + 1] = nn.Identity()
    return channels_last(network.requires_grad_(False))
