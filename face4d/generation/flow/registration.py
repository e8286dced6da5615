"""Registration in time: a motion as a shape, which every motion shows over the same canonical frames, and its timing.

Amplitude and phase of functional data (Ramsay and Li, Curve registration, Journal of the Royal Statistical Society B
60, 1998; by landmarks, Kneip and Gasser, Annals of Statistics 20, 1992), the landmarks here being the four times of
:class:`face4d.controls.Controls`. Before it, sequences that differ in when the apex comes need many principal
components, and their mean is slower and weaker than any of them; after it they differ in what the face does.
"""

from __future__ import annotations

from itertools import pairwise

import torch
from torch import Tensor

from face4d.controls import smoothstep

# Canonical frames between two of: frame 0, onset, apex, release, offset, last frame.
SEGMENTS = (3, 24, 16, 24, 3)
EDGES = (0, 3, 27, 43, 67, 70)  # canonical frame of each of these
CANONICAL_FRAMES = sum(SEGMENTS) + 1
# A segment shorter than this share of the duration is joined to its neighbours without a jump (:func:`join`).
SHORT = 0.1


def knots(times: Tensor) -> Tensor:
    """(B, 6) times 0, onset, apex, release, offset, 1 from the middle four (B, 4), shares of the duration."""
    return torch.cat([torch.zeros_like(times[:, :1]), times, torch.ones_like(times[:, :1])], dim=1)


def at(curves: Tensor, position: Tensor) -> Tensor:
    """Curves (B, T, D) at positions (B, S) in frames, by cubic convolution: (B, S, D).

    Keys, Cubic convolution interpolation for digital image processing, IEEE Transactions on Acoustics, Speech, and
    Signal Processing 29, 1981, with a = -1/2; beyond the ends stand the ends.
    """
    count = curves.shape[1]
    before = position.long().clamp(0, count - 2)
    rows = torch.arange(len(curves), device=curves.device)[:, None]
    a, b, c, d = (curves[rows, (before + shift).clamp(0, count - 1)] for shift in (-1, 0, 1, 2))
    u = (position - before)[..., None]
    return b + u / 2 * (c - a + u * (2 * a - 5 * b + 4 * c - d + u * (3 * (b - c) + d - a)))


def to_canonical(curves: Tensor, times: Tensor) -> Tensor:
    """The shapes (B, R, D) of curves: their values over the canonical frames.

    Args:
        curves: (B, T + 1, D).
        times: (B, 4) onset, apex, release, offset as shares of the duration, in order.
    """
    share = [torch.linspace(0, 1, count + 1, device=times.device)[1:] for count in SEGMENTS]
    ends = knots(times)
    parts = [start[:, None] + (end - start)[:, None] * s for (start, end), s in zip(pairwise(ends.unbind(1)), share)]
    time = torch.cat([ends[:, :1], *parts], dim=1)  # (B, R)
    return at(curves, time * (curves.shape[1] - 1))


def canonical_position(times: Tensor, frames: int) -> Tensor:
    """(B, frames) canonical frame that a motion of these times shows at each of its frames, from 0 to the last.

    A segment without duration is passed over after its time: a motion that does not come back ends at its apex.
    """
    time = torch.linspace(0, 1, frames, device=times.device)
    position = torch.zeros(len(times), frames, device=times.device)
    for (start, end), count in zip(pairwise(knots(times).unbind(1)), SEGMENTS):
        duration = (end - start)[:, None]
        share = ((time - start[:, None]) / duration.clamp(min=1e-6)).clamp(0, 1)
        position += count * torch.where(duration > 1e-6, share, (time > start[:, None]).float())
    return position


def join(shapes: Tensor, times: Tensor) -> Tensor:
    """Shapes (B, R, D) that can be shown with these times without a jump.

    A motion with a short hold may be given a shape in which the face moves on between apex and release, and one that
    begins at once a shape that moves before its onset. As far as a lead, hold or tail is shorter than ``SHORT``, the
    difference of its ends is taken back: of the hold half at each end, of lead and tail at onset and offset, and along
    the flanks between them as a smoothstep. Frame 0 and the last one stay.
    """
    zero, onset, apex, release, offset, last = (shapes[:, edge] for edge in EDGES)
    ends = knots(times)
    missing = (1 - (ends[:, 1:] - ends[:, :-1]) / SHORT).clamp(0, 1)[..., None]  # (B, 5, 1)
    lead, tail = missing[:, 0] * (zero - onset), missing[:, 4] * (last - offset)  # (B, D)
    hold = missing[:, 2] * (release - apex) / 2
    still = torch.zeros_like(lead)
    corrections = torch.stack([still, lead, hold, -hold, tail, still], dim=1)  # (B, 6, D)
    return shapes + edge_weights(shapes.device) @ corrections


def time_operators(times: Tensor, frames: int) -> Tensor:
    """Linear operators (B, frames, R) that show shapes with these times (B, 4): ``operators @ shapes`` are curves,
    joined (:func:`join`), less their frame 0.
    """
    every = torch.eye(CANONICAL_FRAMES, device=times.device).expand(len(times), -1, -1)
    operators = at(join(every, times), canonical_position(times, frames))
    return operators - operators[:, :1]


def edge_weights(device: torch.device) -> Tensor:
    """(R, 6) weights of the edges at every canonical frame: smoothsteps from 1 at an edge to 0 at its neighbours."""
    weights = torch.zeros(CANONICAL_FRAMES, len(EDGES), device=device)
    for number, (start, end) in enumerate(pairwise(EDGES)):
        share = torch.linspace(0, 1, end - start + 1, device=device)
        share = smoothstep(share)
        weights[start : end + 1, number], weights[start : end + 1, number + 1] = 1 - share, share
    return weights
