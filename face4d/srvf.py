"""Square-root velocity representation of curves, and the sphere on which curves of length 1 lie.

A curve p (T, D) with velocity v has q = v / sqrt(|v|). Scaled to length 1 it has the norm <q, q> = 1: a point on a
sphere, where mean and distance of motions mean something (Srivastava et al., Shape Analysis of Elastic Curves in
Euclidean Spaces, PAMI 2011; for landmarks Otberdout et al., Sparse to Dense Dynamic 3D Facial Expression Generation,
CVPR 2022). D = 3L for L landmarks.

There are two ways to discretise. The one used for training here (:func:`curve_to_srvf`, :func:`srvf_to_curve`) keeps
one velocity per interval between two frames: the length is that of the polygon and the way back is exact. The published
one keeps one velocity per frame, from central differences with spacing 1/N, and integrates with spacing 1/(N - 1): the
way back is 2 to 6 % off. It is here as :func:`published_curve_to_srvf` and :func:`published_srvf_to_curve`, to read and
compare what others have computed.

All functions take tensors of any floating type on any device, time before coordinates, and leading dimensions where
shapes say ``...``.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

SLOW = 1e-4  # published: below this square root of a speed the velocity is multiplied by it instead of divided


def normalise_landmarks(landmarks: Tensor) -> Tensor:
    """Each frame (..., L, 3) without its centroid and with Frobenius norm 1."""
    centred = landmarks - landmarks.mean(-2, keepdim=True)
    return centred / centred.flatten(-2).norm(dim=-1)[..., None, None]


def separate_repeats(curve: Tensor, step: float = 1e-4) -> Tensor:
    """The published guard against frames that stand still: from frame 1 on, a number equal to that of the frame before
    gets ``step`` more.

    Done one after the other, so a constant becomes 1, 1.0001, 1, 1.0001, ... :func:`resample_by_arc_length` needs no
    such guard.

    Args:
        curve: (..., T, D).
    """
    frames = list(curve.unbind(-2))
    for t in range(1, len(frames)):
        frames[t] = torch.where(frames[t] == frames[t - 1], frames[t] + step, frames[t])
    return torch.stack(frames, dim=-2)


def arc_length(curve: Tensor) -> Tensor:
    """(T,) share of the whole length travelled when each frame of the curve (T, D) is reached, 0 to 1; zeros for a
    curve that stands still.
    """
    travelled = torch.cat([curve.new_zeros(1), curve.diff(dim=0).norm(dim=1).cumsum(0)])
    return travelled / travelled[-1].clamp(min=torch.finfo(curve.dtype).tiny)


def resample_by_arc_length(curve: Tensor, points: int) -> Tensor:
    """The curve (T, D) at ``points`` equal distances along itself, linear in between; what it says about time is lost.
    (points, D).
    """
    travelled = arc_length(curve)
    wanted = torch.linspace(0, 1, points, dtype=curve.dtype, device=curve.device)
    right = torch.searchsorted(travelled, wanted, right=True).clamp(1, len(curve) - 1)  # first frame beyond
    left = right - 1
    gap = travelled[right] - travelled[left]
    fraction = torch.where(gap > 0, (wanted - travelled[left]) / gap.clamp(min=torch.finfo(curve.dtype).tiny), 0).clamp(
        0, 1
    )[:, None]
    return curve[left] + fraction * (curve[right] - curve[left])


def curve_to_srvf(curve: Tensor) -> tuple[Tensor, Tensor]:
    """Square-root velocities of the N = T - 1 intervals of a curve, and its length.

    With d_k = p_{k+1} - p_k and length = sum |d_k|: q_k = d_k / |d_k| * sqrt(N |d_k| / length), so <q, q> = 1 exactly.
    An interval without motion has q = 0, and so has a curve without motion.

    Args:
        curve: (..., T, D).

    Returns:
        q (..., N, D) and the length (...), in the curve's unit.
    """
    steps = curve.diff(dim=-2)  # (..., N, D)
    distance = steps.norm(dim=-1, keepdim=True)  # (..., N, 1)
    length = distance.sum(-2, keepdim=True)  # (..., 1, 1)
    product = distance * length / steps.shape[-2]
    moving = product > 0
    return steps * torch.where(moving, torch.where(moving, product, 1).rsqrt(), 0), length[..., 0, 0]


def srvf_to_curve(q: Tensor, length: Tensor | float = 1.0) -> Tensor:
    """The curve that begins at zero: p_{k+1} = p_k + length q_k |q_k| / N; the inverse of :func:`curve_to_srvf` up to
    the first frame.

    Args:
        q: (..., N, D).
        length: (...) or a number, used where <q, q> = 1.

    Returns:
        (..., N + 1, D) in the unit of ``length``.
    """
    steps = q * q.norm(dim=-1, keepdim=True) / q.shape[-2]
    if isinstance(length, Tensor):
        length = length[..., None, None]
    curve = torch.cat([torch.zeros_like(steps[..., :1, :]), steps.cumsum(-2)], dim=-2)
    return curve * length


def published_curve_to_srvf(curve: Tensor) -> tuple[Tensor, Tensor]:
    """Square-root velocities as published: central differences (one-sided at the ends) with spacing 1/N, N the number
    of frames.

    length = sum |v_t| / N; v = v / length; q = v / sqrt(|v|), or 1e-4 v where sqrt(|v|) is not above 1e-4.

    Args:
        curve: (..., N, D), N at least 2.

    Returns:
        q (..., N, D) and the length (...).
    """
    count = curve.shape[-2]
    ends = curve[..., 1:2, :] - curve[..., :1, :], curve[..., -1:, :] - curve[..., -2:-1, :]
    # (..., N, D)
    velocity = count * torch.cat([ends[0], (curve[..., 2:, :] - curve[..., :-2, :]) / 2, ends[1]], dim=-2)
    length = velocity.norm(dim=-1, keepdim=True).sum(-2, keepdim=True) / count  # (..., 1, 1)
    velocity = velocity / length
    root = velocity.norm(dim=-1, keepdim=True).sqrt()  # (..., N, 1)
    return torch.where(root > SLOW, velocity / root, SLOW * velocity), length[..., 0, 0]


def published_srvf_to_curve(q: Tensor) -> Tensor:
    """The integral of q |q| by trapezoids over times k / (N - 1), as published; (..., N, D) to a curve (..., N, D) that
    begins at zero.
    """
    velocity = q * q.norm(dim=-1, keepdim=True)
    steps = (velocity[..., 1:, :] + velocity[..., :-1, :]) / (2 * (q.shape[-2] - 1))
    return torch.cat([torch.zeros_like(steps[..., :1, :]), steps.cumsum(-2)], dim=-2)


def inner(a: Tensor, b: Tensor) -> Tensor:
    """<a, b> = sum(a * b) / N over the last two dimensions (..., N, D); (...)."""
    return (a * b).sum((-2, -1)) / a.shape[-2]


def norm(a: Tensor) -> Tensor:
    """sqrt(<a, a>), (...); with a tiny number under the root, so that its gradient at zero is zero and not
    undefined.
    """
    return (inner(a, a) + torch.finfo(a.dtype).tiny).sqrt()


def to_sphere(a: Tensor) -> Tensor:
    """a / |a|, (..., N, D)."""
    return a / norm(a)[..., None, None]


def log_map(base: Tensor, q: Tensor, clip: float | None = None) -> Tensor:
    """The tangent vector at ``base`` that points to ``q`` and is as long as the way: u theta / |u|, u = q - <base, q>
    base.

    Args:
        base: (..., N, D) on the sphere.
        q: (..., N, D) on the sphere.
        clip: theta = acos(min(max(<base, q>, -clip), clip)), as published for training with 0.98 (no distance is then
            below 0.2003); None = theta = atan2(|u|, <base, q>), the same angle without the clipping and exact where
            acos loses its digits.
    """
    cosine = inner(base, q)[..., None, None]  # (..., 1, 1)
    across = q - cosine * base
    size = norm(across)[..., None, None]
    angle = torch.atan2(size, cosine) if clip is None else cosine.clamp(-clip, clip).acos()
    return across * (angle / size)


def exp_map(base: Tensor, tangent: Tensor, step: float = 1.0) -> Tensor:
    """The point reached from ``base`` along step * tangent: base cos|w| + w sin|w| / |w|; all (..., N, D)."""
    tangent = step * tangent
    size = norm(tangent)[..., None, None]
    return base * size.cos() + tangent * (size.sin() / size)


def geodesic_distance(a: Tensor, b: Tensor, clip: float | None = None) -> Tensor:
    """Angle between points of the sphere, (...); ``clip`` as in :func:`log_map`.

    Without clipping 2 asin(|a - b| / 2), whose gradient stays finite where the points meet or are opposite.
    """
    if clip is not None:
        return inner(a, b).clamp(-clip, clip).acos()
    return 2 * (norm(a - b) / 2).clamp(max=1 - torch.finfo(a.dtype).eps).asin()


def mean_on_sphere(points: Tensor, iterations: int = 50) -> Tensor:
    """Frechet mean of points (M, N, D) on the sphere: the point where their mean tangent vector vanishes. (N, D).

    Raises:
        ValueError: the points lie around the sphere so evenly that they have no mean direction.
    """
    mean = points.mean(0)
    if not norm(mean) > 1e-6:
        raise ValueError("expected points with a mean direction, found points whose mean is zero")
    mean = to_sphere(mean)
    for _ in range(iterations):
        direction = log_map(mean, points).mean(0)
        mean = to_sphere(exp_map(mean, direction))
        if norm(direction) < math.sqrt(torch.finfo(points.dtype).eps):
            break
    return mean
