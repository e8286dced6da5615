"""Augmentation of pictures: other colours, cast shadows, things in front of the face, as in photos.

Domain randomisation (Tobin et al., "Domain randomization for transferring deep neural networks from simulation to the
real world", IROS 2017): what varies more in training than in photos cannot mislead.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

GREY = (0.299, 0.587, 0.114)  # luma of ITU-R BT.601


def augment(pictures: Tensor, share: float, generator: torch.Generator) -> Tensor:
    """Change a share of the pictures, the last ones, each in its own way.

    Saturation (a fifth of them grey), colour cast, brightness, contrast; in two of five a shadow with a straight edge,
    in two of five an ellipse of one colour in front.

    Args:
        pictures: (B, 3, S, S) RGB in 0..1; not changed itself.
        share: 0..1.
        generator: on the CPU; the same numbers give the same changes on every device.

    Returns:
        (B, 3, S, S) in 0..1.
    """
    count, size = round(len(pictures) * share), pictures.shape[-1]
    plain, pictures = pictures.split([len(pictures) - count, count])

    def uniform(low: float, high: float, channels: int = 1) -> Tensor:
        return (low + (high - low) * torch.rand(count, channels, 1, 1, generator=generator)).to(pictures)

    def some(share: float) -> Tensor:
        return (uniform(0, 1) < share).to(pictures)

    grey = (pictures * pictures.new_tensor(GREY).view(1, 3, 1, 1)).sum(1, keepdim=True)  # (B, 1, S, S)
    changed = torch.lerp(grey.expand_as(pictures), pictures, uniform(0.5, 1.4) * (1 - some(0.2)))
    gain = uniform(0.75, 1.25, 3) * uniform(0.5, 1.5)
    changed = torch.addcmul(uniform(-0.2, 0.2).expand_as(gain), changed, gain).clamp_(0, 1)

    across = torch.linspace(-1, 1, size, device=pictures.device).view(1, 1, 1, size)
    down = across.transpose(2, 3)
    angle = uniform(0, 2 * math.pi)
    # hard and soft edges
    beyond = torch.sigmoid((angle.cos() * across + angle.sin() * down - uniform(-0.3, 1)) * uniform(2, 40))
    changed = changed * (1 - beyond * (uniform(0, 0.85) * some(0.4)))
    distance = ((across - uniform(-1, 1)) / uniform(0.1, 0.45)).square() + (
        (down - uniform(-1, 1)) / uniform(0.1, 0.45)
    ).square()
    changed = torch.lerp(changed, uniform(0, 1, 3).expand_as(changed), torch.sigmoid(10 * (1 - distance)) * some(0.4))
    return torch.cat([plain, changed])
