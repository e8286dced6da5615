"""Motion3DGAN as a generator of landmark sequences: networks, the sphere they speak of, and what makes its curves millimetres again."""

from __future__ import annotations

import copy

import torch
from torch import Tensor, nn
from torch.nn import functional

from face4d.generation.motion3dgan.config import MotionGANConfig
from face4d.generation.motion3dgan.networks import (
    ConvolutionalCritic,
    ConvolutionalGenerator,
    DenseCritic,
    DenseGenerator,
    condition_code,
)
from face4d.srvf import exp_map, log_map, mean_on_sphere, resample_by_arc_length, srvf_to_curve, to_sphere

RETURNS = 0.1  # motions of a label that end, on average, within this share of their largest displacement are closed
LONGEST_DRAW = 2.0  # standard deviations


class Motion3DGAN(nn.Module):
    """A label and random numbers to a motion.

    The generator makes a point q of the sphere of square-root velocities (:mod:`face4d.srvf`). Its length in metres is drawn from the
    lengths of the label's training sequences, log-normal with their mean and deviation, not beyond two deviations. Labels whose training
    sequences return to where they began are closed: what is missing at the end is taken back along the way, in proportion to
    the distance travelled. The critic is shown q as a tangent vector at ``reference``, the mean of all training motions, or as
    the tangent's principal coefficients in units of their common root mean square.

    Args:
        num_labels: C.
        num_landmarks: L.
    """

    stochastic = True

    reference: Tensor
    basis: Tensor
    scale: Tensor
    log_length: Tensor
    returns: Tensor

    def __init__(self, config: MotionGANConfig, num_labels: int, num_landmarks: int = 68) -> None:
        super().__init__()
        self.num_labels, self.points = num_labels, config.points
        self.noise_size, self.clip = config.noise_size, config.clip or None
        self.convolutional = config.network == "convolution"
        size = 3 * num_landmarks
        self.generator: ConvolutionalGenerator | DenseGenerator
        self.critic: ConvolutionalCritic | DenseCritic
        if self.convolutional:
            self.generator = ConvolutionalGenerator(num_labels, num_landmarks, config.points, config.noise_size, config.width)
            self.critic = ConvolutionalCritic(num_labels, num_landmarks, config.points, config.width, config.critic_norm)
        else:
            self.generator = DenseGenerator(num_labels, config.components, config.noise_size, config.hidden_size)
            self.critic = DenseCritic(num_labels, config.components, config.hidden_size, config.critic_norm)
            self.register_buffer("basis", torch.zeros(config.points * size, config.components))
            self.register_buffer("scale", torch.ones(()))
        self.averaged = copy.deepcopy(self.generator).requires_grad_(False) if config.averaging else self.generator
        self.register_buffer("reference", torch.zeros(config.points, size))
        self.register_buffer("log_length", torch.zeros(num_labels, 2))  # mean and deviation
        self.register_buffer("returns", torch.zeros(num_labels, dtype=torch.bool))

    @torch.no_grad()
    def fit(self, q: Tensor, lengths: Tensor, ends: Tensor, labels: Tensor) -> None:
        """Set all that is known about the training motions before training: reference, basis, lengths, which labels return.

        Args:
            q: (M, N, 3L) square-root velocities on the sphere.
            lengths: (M,) metres.
            ends: (M,) displacement of the last frame over the largest one.
            labels: (M,) class indices, each of the C at least once.
        """
        q = q.double()
        reference = mean_on_sphere(q)
        self.reference.copy_(reference)
        if not self.convolutional:
            tangents = log_map(reference, q).flatten(1)  # (M, N * 3L)
            _, singular, rows = torch.linalg.svd(tangents, full_matrices=False)
            count = min(self.basis.shape[1], len(singular))
            self.basis[:, :count] = rows[:count].T
            self.scale.copy_(singular[:count].square().sum().div(len(q) * count).sqrt())
        for label in range(self.num_labels):
            chosen = labels == label
            logarithm = lengths[chosen].double().log()
            self.log_length[label] = torch.stack([logarithm.mean(), logarithm.std(correction=0)])
            self.returns[label] = ends[chosen].mean() < RETURNS

    def encode(self, q: Tensor) -> Tensor:
        """What the critic sees of q (B, N, 3L) on the sphere: the tangent vector or its coefficients (B, K)."""
        tangent = log_map(self.reference, q, self.clip)
        return tangent if self.convolutional else tangent.flatten(1) @ self.basis / self.scale

    def seen(self, made: Tensor) -> Tensor:
        """What the critic sees of the generator's result."""
        return self.encode(to_sphere(made)) if self.convolutional else made

    def point(self, made: Tensor) -> Tensor:
        """The point of the sphere (B, N, 3L) that the generator's result means."""
        if self.convolutional:
            return to_sphere(made)
        return exp_map(self.reference, (made * self.scale @ self.basis.T).unflatten(1, self.reference.shape))

    def forward(self, start: Tensor, labels: Tensor, frames: int, random: torch.Generator | None = None) -> Tensor:
        """Draw one motion per row.

        Args:
            start: (B, L, 3) displacement the motion begins from, metres.
            labels: (B,) class indices.
            frames: number T of frames after ``start``.
            random: on the CPU, so that a seed means the same on all devices; None = torch's global one.

        Returns:
            (B, T, L, 3) displacements, metres; the start frame is not among them.
        """
        noise = torch.randn(len(labels), self.noise_size, generator=random).to(start)
        code = condition_code(labels, self.num_labels, random)
        deviation = torch.randn(len(labels), generator=random).clamp(-LONGEST_DRAW, LONGEST_DRAW).to(start)
        q = self.point(self.averaged(noise, code))  # (B, N, 3L)
        mean, spread = self.log_length[labels].unbind(1)
        curve = srvf_to_curve(q, (mean + spread * deviation).exp())  # (B, N + 1, 3L)
        curve = torch.where(self.returns[labels][:, None, None], closed(curve), curve)
        return start[:, None] + in_time(curve, frames + 1)[:, 1:].unflatten(2, start.shape[1:])


def closed(curves: Tensor) -> Tensor:
    """Curves (B, T, D) that end where they begin: the gap at the end is taken back in proportion to the distance travelled."""
    travelled = functional.pad(curves.diff(dim=1).norm(dim=2).cumsum(1), (1, 0))  # (B, T)
    share = travelled / travelled[:, -1:].clamp(min=torch.finfo(curves.dtype).tiny)
    return curves - share[:, :, None] * (curves[:, -1:] - curves[:, :1])


def in_time(curves: Tensor, frames: int) -> Tensor:
    """Curves (B, T, D) at ``frames`` equally spaced times, linear in between."""
    if frames == curves.shape[1]:
        return curves
    return functional.interpolate(curves.transpose(1, 2), size=frames, mode="linear", align_corners=True).transpose(1, 2)


def along(curves: Tensor, points: int, parameter: str) -> Tensor:
    """Curves (B, T, D) at ``points`` values of the parameter, ``time`` or ``arc-length``."""
    if parameter == "time":
        return in_time(curves, points)
    return torch.stack([resample_by_arc_length(curve, points) for curve in curves])
