"""Random variants of training sequences, so that a classifier of real motion also reads smooth, generated motion.

A deterministic generator answers with something near the average over all timings and subjects: slower, weaker and
between the training sequences. The variants move the training set there, without using any generator.
"""

from __future__ import annotations

import torch
from torch import Tensor


def time_warp(sequences: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Move what happens at time ``source`` to time ``target``, linearly in between; both ends stay.

    Args:
        sequences: (B, T, ...).
        source, target: (B,) in (0, 1), fractions of the duration.

    Returns:
        (B, T, ...), sampled linearly between frames.
    """
    batch, frames = sequences.shape[:2]
    time = torch.linspace(0, 1, frames, device=sequences.device)
    source, target = source[:, None], target[:, None]
    warped = torch.where(time < target, time * source / target, source + (time - target) * (1 - source) / (1 - target))
    position = warped.clamp(0, 1) * (frames - 1)  # (B, T)
    before = position.long().clamp(max=frames - 2)
    rows = torch.arange(batch, device=sequences.device)[:, None]
    share = (position - before).reshape(batch, frames, *[1] * (sequences.ndim - 2))
    return torch.lerp(sequences[rows, before], sequences[rows, before + 1], share)


def vary(sequences: Tensor, labels: Tensor, chosen: Tensor, generator: torch.Generator, rows: slice = slice(None)) -> Tensor:
    """Variants of the chosen sequences.

    Half of them are mixed with another sequence of the same label (any share); all are then warped in time, half of
    these averaged with a second warp of themselves (the smoothing of an average over timings), scaled by 0.5 to 1.5
    and shifted by a constant displacement, 0.3 mm per coordinate (an uncertain neutral).

    Args:
        sequences: (N, T, L, 3) displacements in metres; labels: (N,); chosen: (B,) rows.
        generator: CPU generator of all random numbers, whatever the device.
        rows: those of ``chosen`` wanted; the random numbers are drawn for all of them, so a part is the same as that part of the whole.

    Returns:
        (B, T, L, 3) metres, B the number of ``rows``.
    """
    count, device = len(chosen), sequences.device
    uniform = torch.rand(count, 8, generator=generator)[rows].to(device)
    shift = 3e-4 * torch.randn(count, 1, *sequences.shape[2:], generator=generator)[rows].to(device)

    draws = torch.rand(count, len(labels), generator=generator)[rows].to(device)
    chosen = chosen[rows]
    same = labels[chosen][:, None] == labels[None]  # (B, N)
    partner = (same * draws).argmax(dim=1)
    share = (uniform[:, 0] * (uniform[:, 1] < 0.5))[:, None, None, None]
    mixed = torch.lerp(sequences[chosen], sequences[partner], share)

    pivots = 0.25 + 0.5 * uniform[:, 2:6]  # (B, 4)
    once = time_warp(mixed, pivots[:, 0], pivots[:, 1])
    twice = time_warp(mixed, pivots[:, 2], pivots[:, 3])
    smoothed = torch.where((uniform[:, 6] < 0.5)[:, None, None, None], (once + twice) / 2, once)
    return smoothed * (0.5 + uniform[:, 7])[:, None, None, None] + shift
