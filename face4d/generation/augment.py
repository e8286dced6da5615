"""Time-warp augmentation: when the apex comes is not told by the label, so every sequence may have its apex at any other's time."""

from __future__ import annotations

import torch
from torch import Tensor


def apex_frames(displacements: Tensor) -> Tensor:
    """Frame of the largest displacement, the expression's apex.

    Args:
        displacements: (N, T + 1, L, 3), frame 0 neutral.

    Returns:
        (N,) float, in 1..T-1, so that both flanks of a warp have a length.
    """
    last = displacements.shape[1] - 1
    return displacements.flatten(2).norm(dim=2).argmax(dim=1).clamp(1, max(last - 1, 1)).float()


def warp_operators(source_apex: Tensor, target_apex: Tensor, frames: int) -> Tensor:
    """Linear operators that move the apex of a sequence in time, first and last frame fixed.

    Time t of the result shows the sequence at t * p / q before the new apex q and at p + (t - q) * (T - p) / (T - q) after it, p the old
    apex, interpolated linearly between frames; as a matrix, so that a mean over warps costs no more than one.

    Args:
        source_apex: (...) p, in frames, inside (0, T).
        target_apex: (...) q, in frames, inside (0, T).
        frames: T + 1.

    Returns:
        (..., T + 1, T + 1) float; ``operator @ sequence`` is the warped sequence.
    """
    last = frames - 1
    time = torch.arange(frames, dtype=source_apex.dtype, device=source_apex.device)  # (T+1,)
    p, q = source_apex[..., None], target_apex[..., None]  # (..., 1)
    source = torch.where(time <= q, time * p / q, p + (time - q) * (last - p) / (last - q)).clamp(0, last)  # (..., T+1)
    return (1 - (source[..., None] - time).abs()).clamp(min=0)  # hat functions, (..., T+1, T+1)


def warped_targets(
    displacements: Tensor,
    source_apex: Tensor,
    all_apexes: Tensor,
    warps: int,
    generator: torch.Generator,
    rows: slice = slice(None),
    *,
    average: bool = False,
) -> Tensor:
    """Each sequence with its apex moved to the apex times of ``warps`` training sequences drawn at random.

    Frame 0 is the same in all of them, so one generated sequence is compared with all.

    Args:
        displacements: (B, T + 1, L, 3).
        source_apex: (B,) their own apexes.
        all_apexes: (N,) apexes of the training set.
        warps: M.
        generator: on the CPU.
        rows: sequences wanted; the random numbers are drawn for all of them, so a part is the same as that part of the whole.
        average: return the mean of each sequence's warps in their place. The mean square error of one generated sequence against
            M targets is that against their mean plus the targets' variance, which no weight can change, at the cost of one target.

    Returns:
        (M, B, T + 1, L, 3), or (1, B, T + 1, L, 3) with ``average``; B the number of ``rows``.
    """
    batch, frames = displacements.shape[:2]
    donors = torch.randint(len(all_apexes), (warps, batch), generator=generator)[:, rows]
    operators = warp_operators(source_apex[rows].expand(warps, -1), all_apexes[donors.to(all_apexes.device)], frames)  # (M, B, T+1, T+1)
    if average:
        operators = operators.mean(0, keepdim=True)
    return (operators @ displacements[rows].flatten(2)).unflatten(3, displacements.shape[2:])
