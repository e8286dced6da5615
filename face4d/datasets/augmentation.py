"""Augmentation of landmark sequences: time warps for generators, mixed and scaled variants for classifiers.

When the apex comes is not given by the label, so in a generator's training a sequence may have its apex at another's
time; a generator that follows controls sees it at any time and in any strength.

Random variants of training sequences, so that a classifier of real motion also reads smooth, generated motion.

A deterministic generator answers with something near the average over all timings and subjects: slower, weaker and
between the training sequences. The variants move the training set there, without using any generator.
"""

from __future__ import annotations

import torch
from torch import Tensor

from face4d.controls import GivenControls, complete


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

    Time t of the result shows the sequence at t * p / q before the new apex q and at p + (t - q) * (T - p) / (T - q)
    after it, p the old apex, interpolated linearly between frames; as a matrix, so that a mean over warps costs no more
    than one.

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
    displacements: Tensor, source_apex: Tensor, all_apexes: Tensor, warps: int, generator: torch.Generator
) -> Tensor:
    """Each sequence with its apex moved to the apex times of ``warps`` training sequences drawn at random.

    Args:
        displacements: (B, T + 1, L, 3).
        source_apex: (B,) their own apexes.
        all_apexes: (N,) apexes of the training set.
        warps: M.
        generator: on the CPU.

    Returns:
        (M, B, T + 1, L, 3); frame 0 is the same in all M.
    """
    batch, frames = displacements.shape[:2]
    donors = torch.randint(len(all_apexes), (warps, batch), generator=generator)
    # (M, B, T+1, T+1)
    operators = warp_operators(source_apex.expand(warps, -1), all_apexes[donors.to(all_apexes.device)], frames)
    return (operators @ displacements.flatten(2)).unflatten(3, displacements.shape[2:])


def retimed(displacements: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Sequences with other controls: what happens at a control's time is moved to its new time, linearly in between,
    first and last frame fixed; displacements grow with the strength.

    Args:
        displacements: (B, T + 1, L, 3).
        source, target: (B, 5) controls, onset, apex, release, offset in frames, and strength; a strength of zero stays.

    Returns:
        (B, T + 1, L, 3), sampled linearly between frames.
    """
    batch, frames = displacements.shape[:2]
    ends = source.new_tensor([0, frames - 1]).expand(batch, 2)
    old, new = (torch.cat([ends[:, :1], times[:, :4], ends[:, 1:]], dim=1) for times in (source, target))  # (B, 6)
    time = torch.arange(frames, dtype=old.dtype, device=old.device).expand(batch, frames).contiguous()
    part = (torch.searchsorted(new.contiguous(), time, right=True) - 1).clamp(0, 4)  # (B, T+1), of five
    begin, length = new.gather(1, part), (new.gather(1, part + 1) - new.gather(1, part)).clamp(min=1e-6)
    share = ((time - begin) / length).clamp(0, 1)
    position = torch.lerp(old.gather(1, part), old.gather(1, part + 1), share).clamp(0, frames - 1)
    before = position.long().clamp(max=frames - 2)
    rows = torch.arange(batch, device=old.device)[:, None]
    moved = torch.lerp(
        displacements[rows, before], displacements[rows, before + 1], (position - before)[:, :, None, None]
    )
    return (target[:, 4] / source[:, 4]).nan_to_num(1.0)[:, None, None, None] * moved  # 0 / 0 is a motionless face


CHANGED = 0.5  # share of sequences that are shown with other controls than their own
SCALES = (0.6, 1.6)  # of their strength


def other_controls(controls: Tensor, known: Tensor, last: int, generator: torch.Generator) -> Tensor:
    """Controls that a sequence may be shown with.

    Half keep their own. Of the others, half take each ratio (:func:`face4d.controls.as_ratios`) from another
    training sequence, half take ratios drawn over nearly all that is possible, so that nothing is learnt that holds for
    usual times alone. Strengths are multiplied by 0.6 to 1.6, not more: how strong a motion is also says which it is.

    Args:
        controls: (B, 5) their own.
        known: (N, 5) ratios of the training sequences.
        last: T.
        generator: on the CPU.

    Returns:
        (B, 5).
    """
    batch = len(controls)
    uniform = torch.rand(batch, 7, generator=generator, dtype=torch.float64)
    donors = torch.randint(len(known), (batch, 4), generator=generator)
    recombined = known.cpu()[donors, torch.arange(4)]  # (B, 4)
    lowest, highest = uniform.new_tensor([[0.05, 0, 0, 0.3], [0.95, 0.7, 0.8, 1]])
    ratios = torch.where(uniform[:, :1] < 0.5, recombined, torch.lerp(lowest, highest, uniform[:, 1:5]))
    low, high = uniform.new_tensor(SCALES).log()
    strength = torch.lerp(low, high, uniform[:, 5]).exp() * controls[:, 4].cpu()
    drawn = complete(torch.cat([ratios, strength[:, None]], dim=1).numpy(), GivenControls(), last).array()
    changed = (uniform[:, 6] < CHANGED)[:, None].to(controls.device)
    return torch.where(changed, torch.as_tensor(drawn).to(controls), controls)


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


def vary(
    sequences: Tensor, labels: Tensor, chosen: Tensor, generator: torch.Generator, rows: slice = slice(None)
) -> Tensor:
    """Variants of the chosen sequences.

    Half of them are mixed with another sequence of the same label (any share); all are then warped in time, half of
    these averaged with a second warp of themselves (the smoothing of an average over timings), scaled by 0.5 to 1.5
    and shifted by a constant displacement, 0.3 mm per coordinate (an uncertain neutral).

    Args:
        sequences: (N, T, L, 3) displacements in metres; labels: (N,); chosen: (B,) rows.
        generator: CPU generator of all random numbers, whatever the device.
        rows: those of ``chosen`` wanted; the random numbers are drawn for all of them, so a part is the same as that
            part of the whole.

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
