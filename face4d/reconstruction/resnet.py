"""Networks that see a picture and give a feature vector: ResNet-50 as in DECA, and smaller ones that train on a CPU.

He et al., "Deep residual learning for image recognition", CVPR 2016; the stride of a bottleneck is on its 3x3 convolution. Names in the
state dict are those of the published ResNet weights without the last layer.
"""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional
from torch.nn.utils.fusion import fuse_conv_bn_eval

from face4d.errors import InputError


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
        _initialise(self)

    def forward(self, images: Tensor) -> Tensor:
        x = functional.relu(self.bn1(self.conv1(images)))  # (B, width, H/2, W/2)
        x = functional.max_pool2d(x, 3, 2, 1)  # (B, width, H/4, W/4)
        x = self.layer4(self.layer3(self.layer2(self.layer1(x))))  # (B, num_features, H/32, W/32)
        return x.mean(dim=(2, 3))


def _initialise(network: nn.Module) -> None:
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, mode="fan_out", nonlinearity="relu")


class PointBackbone(nn.Module):
    """Picture (B, 3, H, W) to features (B, hidden): where learned points lie in it and how clearly, then one layer.

    A small residual network that keeps its maps at an eighth of the picture and takes the centre of each of them ("spatial softmax", Finn et
    al., "Deep spatial autoencoders for visuomotor learning", ICRA 2016). Shape, pose and camera are little more than where things are, so it
    learns them from far fewer pictures than a network that averages over its maps; the more so when the first points are told where the
    landmarks are.
    """

    def __init__(self, widths: tuple[int, int, int, int] = (32, 64, 64, 96), points: int = 128, hidden: int = 384) -> None:
        super().__init__()
        self.conv1 = nn.Conv2d(3, widths[0], 7, 4, 3, bias=False)
        self.bn1 = nn.BatchNorm2d(widths[0])
        inputs = (widths[0], *widths)
        self.blocks = nn.Sequential(*(BasicBlock(inputs[k], inputs[k + 1], 2 if k == 1 else 1) for k in range(4)))
        self.maps = nn.Conv2d(widths[-1], points, 1)
        self.norm = nn.BatchNorm1d(3 * points)
        self.after = nn.Linear(3 * points, hidden)
        self.num_features = hidden
        _initialise(self)

    def points(self, images: Tensor) -> tuple[Tensor, Tensor]:
        """Centres (B, P, 2) of the maps, x right and y down in -1..1 over the picture, and the maps' means (B, P)."""
        x = functional.relu(self.bn1(self.conv1(images)))  # (B, w0, H/4, W/4)
        maps = self.maps(self.blocks(x)).float()  # (B, P, H/8, W/8)
        height, width = maps.shape[2:]
        share = maps.flatten(2).softmax(2).unflatten(2, (height, width))  # (B, P, H/8, W/8)
        across, down = ((2 * torch.arange(size, device=maps.device) + 1) / size - 1 for size in (width, height))
        return torch.stack([share.sum(2) @ across, share.sum(3) @ down], dim=2), maps.mean(dim=(2, 3))

    def features(self, points: Tensor, strength: Tensor) -> Tensor:
        """Features (B, hidden) of what :meth:`points` gives."""
        return functional.relu(self.after(self.norm(torch.cat([points.flatten(1), strength], dim=1))))

    def forward(self, images: Tensor) -> Tensor:
        return self.features(*self.points(images))


_BACKBONES = {
    "resnet50": lambda: ResNet(Bottleneck, (3, 4, 6, 3)),
    "resnet18": lambda: ResNet(BasicBlock, (2, 2, 2, 2)),
    "small": PointBackbone,
}
BACKBONES = tuple(_BACKBONES)


def build_backbone(name: str) -> ResNet | PointBackbone:
    """``resnet50`` (23.5 million weights, DECA's), ``resnet18`` (11.2 million) or ``small`` (0.5 million, :class:`PointBackbone`).

    Raises:
        InputError: another name.
    """
    if name not in _BACKBONES:
        raise InputError("backbone", f"one of {', '.join(BACKBONES)}", str(name))
    return _BACKBONES[name]()


def for_inference(network: nn.Module) -> nn.Module:
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
    return network.requires_grad_(False).to(memory_format=torch.channels_last)
