"""Networks that see a picture and give a feature vector: ResNet-50 as in DECA, and smaller ones that train on a CPU.

He et al., "Deep residual learning for image recognition", CVPR 2016; the stride of a bottleneck is on its 3x3 convolution. Names in the
state dict are those of the published ResNet weights without the last layer.
"""

from __future__ import annotations

import copy
from typing import TypeVar

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from face4d.errors import InputError
from face4d.runtime.device import channels_last

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
    """Picture (B, 3, H, W) to features (B, ``num_features``): a 7x7 stem, a pooling, four stages, the mean over the last map.

    Args:
        block: :class:`BasicBlock` or :class:`Bottleneck`.
        blocks: number of blocks in each of the four stages; all stages but the first halve the map.
        width: channels of the stem and of the first stage; doubled in each stage after it.
    """

    layer1: nn.Sequential
    layer2: nn.Sequential
    layer3: nn.Sequential
    layer4: nn.Sequential

    def __init__(self, block: type[BasicBlock] | type[Bottleneck], blocks: tuple[int, int, int, int], width: int = 64) -> None:
        super().__init__()
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
    """A copy in eval mode that computes the same sooner: batch norms folded into the convolutions before them, channels last.

    Folding needs a convolution and the batch norm of the same number in one module (``conv2`` and ``bn2``), or side by side in a
    ``Sequential``, as all networks here have them.
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
