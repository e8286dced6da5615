"""Augmentation of landmark sequences: time warps for generators, mixed and scaled variants for classifiers.

Generators: when the apex comes is not given by the label, so in training a sequence may have its apex at another's
time; a generator that follows controls sees it at any time and in any strength.

Classifiers: random variants of training sequences, so that a classifier of real motion also reads smooth, generated
motion. A deterministic generator answers with something near the average over all timings and subjects: slower, weaker
and between the training sequences. The variants move the training set there, without using any generator.
"""

from __future__ import annotations

import torch
from torch import Tensor

from face4d.controls import GivenControls, complete

CHANGED = 0.5  # share of sequences that are shown with other controls than their own
SCALES = (0.6, 1.6)  # of their strength


def apex_frames(displacements: Tensor) -> Tensor:
    """Frame of the largest displacement, the expression's apex.

    Args:
        displacements: (N, T + 1, L, 3), frame 0 neutral.

    Returns:
        (N,) float, in 1..T-1, so that both flanks of a warp have a length.
    """
    last = displacements.shape[1] - 1
    return displacements.flatten(2).norm(dim=2).argmax(dim=1).clamp(1, max(last - 1, 1)).float()


def at_positions(sequences: Tensor, positions: Tensor) -> Tensor:
    """Sequences (B, T, ...) at positions (B, S), frames in 0..T-1, linear between frames: (B, S, ...)."""
    before = positions.long().clamp(0, sequences.shape[1] - 2)
    rows = torch.arange(len(sequences), device=sequences.device)[:, None]
    share = (positions - before).reshape(*positions.shape, *[1] * (sequences.ndim - 2))
    return torch.lerp(sequences[rows, before], sequences[rows, before + 1], share)


def move_apex(sequences: Tensor, source: Tensor, target: Tensor) -> Tensor:
    """Sequences (B, T + 1, ...) with their apex moved from frame ``source`` to ``target``, () or (B,) in 1..T-1; first
    and last frame stay (:func:`time_warp`).
    """
    last = sequences.shape[1] - 1
    if last < 2:  # both frames are ends
        return sequences
    return time_warp(sequences, *((frame / last).expand(len(sequences)) for frame in (source, target)))


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
    donors = torch.randint(len(all_apexes), (warps, len(displacements)), generator=generator)
    return torch.stack(
        [move_apex(displacements, source_apex, all_apexes[chosen.to(all_apexes.device)]) for chosen in donors]
    )


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
    moved = at_positions(displacements, position)
    return (target[:, 4] / source[:, 4]).nan_to_num(1.0)[:, None, None, None] * moved  # 0 / 0 is a motionless face


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
    frames = sequences.shape[1]
    time = torch.linspace(0, 1, frames, dtype=source.dtype, device=sequences.device)
    source, target = source[:, None], target[:, None]
    warped = torch.where(time < target, time * source / target, source + (time - target) * (1 - source) / (1 - target))
    return at_positions(sequences, warped.clamp(0, 1) * (frames - 1))


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
