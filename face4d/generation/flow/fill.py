"""Filling in: motions of which some landmarks of some frames are given, the rest generated.

Where a motion's timing is known, all its landmarks are linear in strength and coefficients, so what is given can be
conditioned on exactly. Timing is searched: the flow draws many motions; each is weighted by the likelihood of what is
given, one is drawn, and its timing refined by drawing again around it (population Monte Carlo: Cappe, Guillin, Marin
and Robert, Journal of Computational and Graphical Statistics 13, 2004). Its coordinates are then moved by the linear
map that turns a draw of a normal prior into a draw of the posterior (Matheron's rule: Hoffman and Ribak, Astrophysical
Journal 380, 1991):

    x + C A^T (A C A^T + s^2 I)^-1 (y - A x)

for y given, A from coordinates to the given landmarks, C the covariance of the label's draws.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from face4d.controls import NOT_GIVEN, GivenControls
from face4d.generation.flow.networks import TIMES, MotionFlow, times_of
from face4d.generation.flow.registration import CANONICAL_FRAMES, time_operators

CANDIDATES = 256  # motions drawn
CONSIDERED = 24  # of them, and proposals of each round
ROUNDS = (0.5, 0.2, 0.08, 0.03, 0.01)  # deviations of proposals, in those of the candidates' timing
PRIOR_WIDTH = 0.25  # of the kernel over the candidates' timing that proposals are weighted by, in deviations
NOISE = 1e-4  # s, metres: how far given landmarks are from a motion of the flow
MOST_DOUBLINGS = 30  # of it
SPREAD_OF = 64  # motions, that the spread of a label is measured by
FARTHEST = 3.0  # of a motion from the mean of its label, in deviations
LEAST_VARIANCE = 0.02  # of coordinates, added to the covariance of the draws
FADE = 1 / 6  # of the duration, over which what is written over fades beyond the first and last frame given


DRAWN_AT_ONCE = 16_384  # frames, which bounds the memory


class Filled(NamedTuple):
    """B motions.

    Attributes:
        motions: (B, T + 1, L, 3) displacements, metres, equal to what is given where it is given.
        beyond: (B,) root mean square distance of what is given from a motion of the flow, metres.
        spread: (B,) the same, of motions of the label from their mean there.
    """

    motions: Tensor
    beyond: Tensor
    spread: Tensor


class Normal(NamedTuple):
    """Normal equations of what is given, y, with a timing: A_1 = (offset, A) from (1, coordinates) to landmarks.

    Attributes:
        product: (1 + D - 4, 1 + D - 4) A_1^T A_1, square metres.
        pulled: (1 + D - 4,) A_1^T y.
        squared: () y^T y.
    """

    product: Tensor
    pulled: Tensor
    squared: Tensor


class Posterior(NamedTuple):
    """What is given, seen with each of M timings.

    Attributes:
        log_evidence: (M,) logarithm of the likelihood of what is given, but for a constant.
        product: (M, D - 4, D - 4) A^T A, A in metres per coordinate.
        pulled: (M, D - 4) A^T (y - offset), of y given and what coordinates zero have there.
        remaining: (M,) root mean square of what the most probable coordinates do not explain, metres.
    """

    log_evidence: Tensor
    product: Tensor
    pulled: Tensor
    remaining: Tensor


@torch.no_grad()
def fill(
    model: MotionFlow,
    given: Tensor,
    mask: Tensor,
    labels: Tensor,
    random: torch.Generator,
    controls: GivenControls = NOT_GIVEN,
    guidance: float = 1.0,
) -> Filled:
    """Motions that keep what is given.

    Args:
        given: (B, T + 1, L, 3) displacements, metres; read where ``mask`` is true, and in frame 0, where the motion
            begins.
        mask: (T + 1, L) bool, what is given.
        labels: (B,) class indices.
        random: on the CPU.
        controls: given too.
        guidance: see :meth:`MotionFlow.draw`.
    """
    filled = []
    for one, label in zip(given, labels):
        fitted, spread = fitting(model, one - one[0], mask, label, random, controls, guidance)
        made = one[0] + fitted
        beyond = (one - made)[mask].square().sum(-1).mean().sqrt()
        filled.append((torch.where(mask[..., None], one, made + remainder(one - made, mask)), beyond, spread))
    return Filled(*(torch.stack(column) for column in zip(*filled)))


def fitting(
    model: MotionFlow,
    given: Tensor,
    mask: Tensor,
    label: Tensor,
    random: torch.Generator,
    controls: GivenControls,
    guidance: float,
) -> tuple[Tensor, Tensor]:
    """One motion (T + 1, L, 3) of a label () that agrees with what is given as far as motions of the flow can, and the
    spread () of the label's motions there, metres.

    Args:
        given: (T + 1, L, 3) displacements from frame 0, metres.
    """
    last = len(given) - 1
    labels = label.expand(CANDIDATES)
    drawn = model.draw(labels, model.given(controls, CANDIDATES, last), random, guidance)  # (N, D)
    timing = drawn[:, :TIMES]
    earliest, latest, spread = timing.amin(0), timing.amax(0), timing.std(0)
    free = drawn[:, TIMES:].double()  # strength and coefficients
    mean, covariance = free.mean(0), free.T.cov() + LEAST_VARIANCE * torch.eye(free.shape[1], device=free.device)
    shapes = shapes_of_coordinates(model, label)

    def seen(coordinates: Tensor, noise: float) -> tuple[Tensor, Posterior]:
        times = times_of(model.controls_of(coordinates, last, controls), last).to(coordinates)
        return times, observe(shapes, times, given, mask, mean, covariance, noise)

    squared = torch.cat(
        [
            (motions - given[mask]).double().square().sum((1, 2))
            for motions in kept_of(model, drawn, label, mask, controls)
        ]
    )  # (N,)
    chosen = drawn[sample_without_return(-squared / (2 * NOISE**2), CONSIDERED, random)]
    noise = max(NOISE, seen(chosen, NOISE)[1].remaining.amin().item())
    times, posterior = seen(chosen, noise)
    weight = posterior.log_evidence
    for width in ROUNDS:
        best = sample_without_return(weight, 1, random)
        chosen = chosen[best].repeat(CONSIDERED, 1)
        step = width * spread * torch.randn(CONSIDERED, TIMES, generator=random).to(drawn)
        chosen[1:, :TIMES] = (chosen[1:, :TIMES] + step[1:]).clamp(earliest, latest)
        times, posterior = seen(chosen, noise)
        distance = torch.cdist(chosen[:, :TIMES] / spread, timing / spread)  # (M, N)
        weight = posterior.log_evidence + (-(distance / PRIOR_WIDTH).square() / 2).logsumexp(1)
    best = sample_without_return(weight, 1, random)[0]

    x, product = chosen[best, TIMES:].double(), posterior.product[best]
    x = conditioned(x, product, posterior.pulled[best] - product @ x, mean, covariance, noise)
    shape = torch.einsum("d,drc->rc", torch.cat([x.new_ones(1), x]).to(shapes), shapes)  # (R, 3L)
    made = (time_operators(times[best, None], last + 1)[0] @ shape).unflatten(1, (-1, 3))
    return made, spread_of_label(model, label, mask)


def kept_of(model: MotionFlow, drawn: Tensor, label: Tensor, mask: Tensor, controls: GivenControls) -> Iterator[Tensor]:
    """What motions of coordinates (N, D) have where ``mask`` (T + 1, L) is true: (n, P, 3) metres, some at a time."""
    last = len(mask) - 1
    for part in drawn.split(max(1, DRAWN_AT_ONCE // len(mask))):
        yield model.motion(part, label.expand(len(part)), model.controls_of(part, last, controls), last)[:, mask]


def spread_of_label(model: MotionFlow, label: Tensor, mask: Tensor) -> Tensor:
    """Root mean square distance () of the label's motions, whatever their controls, from their mean where ``mask``
    (T + 1, L) is true, metres.
    """
    random = torch.Generator().manual_seed(0)
    drawn = model.draw(label.expand(SPREAD_OF), model.given(NOT_GIVEN, SPREAD_OF, len(mask) - 1), random)
    total, squared = torch.zeros(()).to(drawn), torch.zeros(()).to(drawn)
    for motions in kept_of(model, drawn, label, mask, NOT_GIVEN):
        total, squared = total + motions.double().sum(0), squared + motions.double().square().sum()
    count = len(total)
    return ((squared - total.square().sum() / SPREAD_OF) / (SPREAD_OF * count)).clamp(min=0).sqrt()


def conditioned(x: Tensor, product: Tensor, pulled: Tensor, mean: Tensor, covariance: Tensor, noise: float) -> Tensor:
    """x moved by Matheron's rule (D - 4,): C A^T (A C A^T + s^2 I)^-1 e, computed as (A^T A + s^2 C^-1)^-1 A^T e.

    The noise s is doubled until the result is no farther from the mean than ``FARTHEST`` in root mean square of its
    deviations: what no motion of the label does, is not followed to where no motion of the label is.

    Args:
        x: (D - 4,) coordinates of a draw.
        product: (D - 4, D - 4) A^T A.
        pulled: (D - 4,) A^T e, of what is given less A x.
        mean, covariance: (D - 4,), (D - 4, D - 4) C.
        noise: s to begin with, metres.
    """
    inverse = torch.linalg.inv(covariance)
    for doubling in range(MOST_DOUBLINGS):  # with much noise x stays what it was
        moved = x + torch.linalg.solve(product + (noise * 2**doubling) ** 2 * inverse, pulled)
        if (moved - mean) @ inverse @ (moved - mean) <= FARTHEST**2 * len(x):
            return moved
    return x


def shapes_of_coordinates(model: MotionFlow, label: Tensor) -> Tensor:
    """(1 + D - 4, R, 3L) shape of coordinates zero, and what one of each coordinate but times adds to it, metres."""
    parts = torch.cat([model.shapes[label][None], model.basis])  # (D - 4, R * 3L)
    offset = model.location[TIMES:] @ parts
    return torch.cat([offset[None], model.scale[TIMES:, None] * parts]).unflatten(1, (CANONICAL_FRAMES, -1))


def observe(
    shapes: Tensor, times: Tensor, given: Tensor, mask: Tensor, mean: Tensor, covariance: Tensor, noise: float
) -> Posterior:
    """What is given, seen with each of the times (M, 4), in a linear model with normal prior and noise (Bishop, Pattern
    Recognition and Machine Learning, 2006, section 3.5.1).

    Args:
        shapes: see :func:`shapes_of_coordinates`.
        given: (T + 1, L, 3) displacements from frame 0, metres, read where ``mask`` (T + 1, L) is true.
        mean, covariance: (D - 4,), (D - 4, D - 4) of the coordinates without times.
        noise: s, metres.
    """
    every = [normal_equations(shapes, one, given, mask) for one in times]
    product, pulled, squared = (torch.stack(part) for part in zip(*every))  # (M, Q, Q), (M, Q), (M,) of y and A_1
    prior = torch.cat([mean.new_ones(1), mean])  # (Q,)
    error = squared - 2 * pulled @ prior + prior @ product @ prior  # (M,) squares of what the mean leaves
    own = product[:, 1:, 1:]
    left = (pulled - product @ prior)[:, 1:]  # (M, D - 4) A^T (y - offset - A mean)
    root = torch.linalg.cholesky(own / noise**2 + torch.linalg.inv(covariance))
    found = torch.cholesky_solve(left[..., None] / noise**2, root)[..., 0]
    volume = root.diagonal(dim1=1, dim2=2).log().sum(1)
    evidence = ((left * found).sum(1) - error) / noise**2 / 2 - volume
    rest = error - 2 * (left * found).sum(1) + torch.einsum("md,mde,me->m", found, own, found)
    remaining = (rest.clamp(min=0) / (3 * mask.sum())).sqrt()
    return Posterior(evidence, own, pulled[:, 1:] - product[:, 1:, 0], remaining)


def normal_equations(shapes: Tensor, times: Tensor, given: Tensor, mask: Tensor) -> Normal:
    """What is given with one timing (4,), however many frames that is: more frames than canonical ones are first turned
    into as many (QR decomposition of the time operator).
    """
    operator = time_operators(times[None], len(mask))[0].double()  # (T + 1, R)
    size = len(shapes)
    product, pulled = operator.new_zeros(size, size), operator.new_zeros(size)
    patterns, which = torch.unique(mask.T, dim=0, return_inverse=True)  # landmarks given in the same frames
    for number, frames in enumerate(patterns):
        if frames.any():
            alike = which == number
            rows, seen = operator[frames], given[frames][:, alike].flatten(1).double()  # (F, R), (F, 3l)
            if len(rows) > CANONICAL_FRAMES:
                orthonormal, rows = torch.linalg.qr(rows)
                seen = orthonormal.T @ seen
            parts = shapes.unflatten(2, (-1, 3))[:, :, alike].flatten(2).double()  # (Q, R, 3l)
            design = (rows @ parts).flatten(1)  # (Q, F * 3l)
            product += design @ design.T
            pulled += design @ seen.flatten()
    return Normal(product, pulled, given[mask].double().square().sum())


def sample_without_return(logarithms: Tensor, count: int, random: torch.Generator) -> Tensor:
    """(count,) numbers drawn with probabilities in proportion to the exponentials of (N,) logarithms, none twice.

    By the Gumbel-top-k trick (Kool, van Hoof and Welling, Stochastic beams and where to find them, ICML 2019).
    """
    uniform = torch.rand(len(logarithms), generator=random, dtype=torch.float64).clamp(min=1e-12).to(logarithms)
    return (logarithms - (-uniform.log()).log()).topk(min(count, len(logarithms))).indices


def remainder(error: Tensor, mask: Tensor) -> Tensor:
    """What is added to each landmark so that it arrives at what is given, and leaves it, without a jump.

    Args:
        error: (T + 1, L, 3) what is missing, read where ``mask`` (T + 1, L) is true.

    Returns:
        (T + 1, L, 3): between two frames given linear in time, before the first and after the last fading to zero.
    """
    last = len(mask) - 1
    fade = max(FADE * last, 1.0)
    time = np.arange(last + 1)
    added = np.zeros(error.shape)
    for landmark in np.flatnonzero(mask.any(0).cpu().numpy()):
        frames = np.flatnonzero(mask[:, landmark].cpu().numpy())
        known = error[frames, landmark].double().cpu().numpy()  # (F, 3)
        places = np.concatenate([[frames[0] - fade], frames, [frames[-1] + fade]])
        known = np.concatenate([np.zeros((1, 3)), known, np.zeros((1, 3))])
        added[:, landmark] = np.stack([np.interp(time, places, axis) for axis in known.T], axis=1)
    return torch.from_numpy(added).to(error)
