"""Motion3DGAN: its generators and critics, and the generator of landmark sequences made of them.

Otberdout et al., "Sparse to Dense Dynamic 3D Facial Expression Generation", CVPR 2022.

The published networks are convolutions over a map of 3L coordinates by N points in time; the condition joins every
stage as channels that are constant over the map. Two identities make them cheaper and change no number beyond rounding:
a convolution of constant channels is a small product with the part of the kernel inside the map
(:func:`convolve_constant`), and a 3x3 convolution after doubling by nearest neighbours is one transposed convolution
(:func:`convolve_doubled`). The dense networks speak principal coefficients of the motions instead of maps, and cost a
thousandth.
"""

from __future__ import annotations

import copy
import itertools
from functools import lru_cache

import torch
from torch import Tensor, nn
from torch.nn import functional

from face4d.generation.motion3dgan.config import MotionGANConfig
from face4d.srvf import exp_map, log_map, mean_on_sphere, resample_by_arc_length, srvf_to_curve, to_sphere

CODE_SIZE = 3  # numbers per label in the condition
GENERATOR_CHANNELS = (1024, 512, 256, 128)
CRITIC_CHANNELS = (64, 32, 16)
CRITIC_FEATURES = 1024


def condition_code(labels: Tensor, num_labels: int, generator: torch.Generator | None) -> Tensor:
    """Random code of a label: u = |U(-1, 1)^3|, +u in the label's block and -u in all others.

    Args:
        labels: (B,) class indices.
        num_labels: C.
        generator: on the CPU; None = torch's global one.

    Returns:
        (B, 3C) float32.
    """
    u = (2 * torch.rand(len(labels), 1, CODE_SIZE, generator=generator) - 1).abs().to(labels.device)  # (B, 1, 3)
    sign = 2 * functional.one_hot(labels, num_labels).to(u.dtype) - 1  # (B, C)
    return (sign[:, :, None] * u).flatten(1)


@lru_cache(maxsize=64)
def _taps_inside(size: int, kernel: int, stride: int) -> Tensor:
    """(outputs, kernel) 1 where a tap of a convolution with padding kernel // 2 reads inside the map, 0 where it reads
    padding.
    """
    position = stride * torch.arange((size - 1) // stride + 1)[:, None] + torch.arange(kernel) - kernel // 2
    return ((position >= 0) & (position < size)).float()


def convolve_constant(code: Tensor, weight: Tensor, size: tuple[int, int], stride: int = 1) -> Tensor:
    """What a convolution (padding kernel // 2) gives for channels that are constant over a map: no map is made.

    Args:
        code: (B, C) values of the channels.
        weight: (O, C, k, k), k odd.
        size: height and width of the map.

    Returns:
        (B, O, height, width) of the convolution's result.
    """
    rows, columns = (_taps_inside(length, weight.shape[2], stride).to(code) for length in size)  # (H, k), (W, k)
    taps = torch.einsum("bc,ocij->boij", code, weight)  # (B, O, k, k)
    return (taps.flatten(2) @ torch.kron(rows, columns).T).unflatten(2, (len(rows), len(columns)))


def convolve_doubled(x: Tensor, weight: Tensor) -> Tensor:
    """``conv2d(interpolate(x, scale_factor=2, mode="nearest"), weight, padding=1)`` with 16 products per pixel of x
    instead of 36.

    Doubling spreads a pixel over 2x2 and the convolution each of these over 3x3: together one pixel over 4x4, which is
    a transposed convolution with stride 2 whose weights are sums of those of ``weight``.

    Args:
        x: (B, C, H, W).
        weight: (O, C, 3, 3).

    Returns:
        (B, O, 2H, 2W).
    """
    # weights of a row that reach each of four rows
    spread = weight.new_tensor([[0, 0, 1], [0, 1, 1], [1, 1, 0], [1, 0, 0]])
    return functional.conv_transpose2d(x, torch.einsum("ai,bj,ocij->coab", spread, spread, weight), stride=2, padding=1)


class ConditionedConvolution(nn.Conv2d):
    """A convolution of a map with a condition as further, constant channels; padding kernel // 2.

    Args:
        channels: of the map.
        code_size: of the condition.
        outputs: channels of the result.
    """

    def __init__(self, channels: int, code_size: int, outputs: int, kernel: int, stride: int = 1) -> None:
        super().__init__(channels + code_size, outputs, kernel, stride, padding=kernel // 2)
        self.channels = channels

    def forward(  # type: ignore[override] # of a map and a condition
        self, x: Tensor, code: Tensor, size: tuple[int, int] | None = None
    ) -> Tensor:
        """The convolution of [x, code] or, with ``size``, of [x resized to ``size`` by nearest neighbours, code].

        Args:
            x: (B, channels, H, W).
            code: (B, code_size).
        """
        of_x, of_code = self.weight.split([self.channels, self.weight.shape[1] - self.channels], dim=1)
        assert self.bias is not None
        size = size or (x.shape[2], x.shape[3])
        if size == (2 * x.shape[2], 2 * x.shape[3]) and self.kernel_size == (3, 3):
            result = convolve_doubled(x, of_x) + self.bias[:, None, None]
        else:
            if size != x.shape[2:]:
                x = functional.interpolate(x, size=size, mode="nearest")
            result = functional.conv2d(x, of_x, self.bias, self.stride, self.padding)
        return result + convolve_constant(code, of_code, size, self.stride[0])


class ConvolutionalGenerator(nn.Module):
    """Noise and condition to a map of square-root velocities, (3L, N) = (204, 30) as published.

    [noise, code] -> linear -> 51 x 7 with 1024 channels, ReLU; nearest-neighbour resizing to 102 x 14, 204 x 28 and 204
    x 30, each followed by a 3x3 convolution (512, 256, 128 channels, ReLU); 3x3 to one channel, tanh. The code joins
    every stage. For other 3L and N the first map has a quarter of their size, rounded down.

    Args:
        num_labels: C.
        num_landmarks: L.
        points: N.
        noise_size: of the random input.
        width: factor on all channels; 1 = as published.
    """

    def __init__(
        self, num_labels: int, num_landmarks: int = 68, points: int = 30, noise_size: int = 128, width: float = 1.0
    ) -> None:
        super().__init__()
        rows, code_size = 3 * num_landmarks, CODE_SIZE * num_labels
        self.first = (rows // 4, points // 4)
        self.sizes = ((rows // 4 * 2, points // 4 * 2), (rows, points // 4 * 4), (rows, points))
        channels = [max(1, round(width * count)) for count in GENERATOR_CHANNELS]
        self.fc = nn.Linear(noise_size + code_size, channels[0] * self.first[0] * self.first[1])
        self.stages = nn.ModuleList(ConditionedConvolution(a, code_size, b, 3) for a, b in itertools.pairwise(channels))
        self.last = ConditionedConvolution(channels[-1], code_size, 1, 3)

    def forward(self, noise: Tensor, code: Tensor) -> Tensor:
        """(B, N, 3L) from noise (B, Z) and code (B, 3C); numbers between -1 and 1, not yet on the sphere."""
        x = self.fc(torch.cat([noise, code], dim=1)).relu().unflatten(1, (-1, *self.first))  # (B, channels, 51, 7)
        for stage, size in zip(self.stages, self.sizes):
            x = stage(x, code, size).relu()
        return self.last(x, code).tanh()[:, 0].transpose(1, 2)


class ConvolutionalCritic(nn.Module):
    """How real a tangent vector looks: 5x5 stride-2 convolutions 64, 32, 16, then 1024, then one number; the code joins
    every stage.

    Args:
        normalisation: ``layer`` (each sample for itself, as a gradient penalty wants it), ``batch`` (as published; ties
            the samples of a batch together, so the penalty on one sample's gradient is only roughly that) or ``none``.
    """

    def __init__(
        self,
        num_labels: int,
        num_landmarks: int = 68,
        points: int = 30,
        width: float = 1.0,
        normalisation: str = "layer",
    ) -> None:
        super().__init__()
        code_size = CODE_SIZE * num_labels
        channels = [1, *(max(1, round(width * count)) for count in CRITIC_CHANNELS)]
        features = max(1, round(width * CRITIC_FEATURES))
        self.stages = nn.ModuleList(
            ConditionedConvolution(a, code_size, b, 5, stride=2) for a, b in itertools.pairwise(channels)
        )
        height, width_ = 3 * num_landmarks, points
        norms: list[nn.Module] = []
        for count in channels[1:]:
            height, width_ = (height + 1) // 2, (width_ + 1) // 2
            norms.append(_normalisation(normalisation, count, (height, width_)))
        self.norms = nn.ModuleList(norms)
        self.fc_1 = nn.Linear(channels[-1] * height * width_ + code_size, features)
        self.norm_1 = _normalisation(normalisation, features, ())
        self.fc_2 = nn.Linear(features + code_size, 1)

    def forward(self, tangent: Tensor, code: Tensor) -> Tensor:
        """(B,) from tangent vectors (B, N, 3L) and code (B, 3C)."""
        x = tangent.transpose(1, 2)[:, None]  # (B, 1, 3L, N)
        for stage, norm in zip(self.stages, self.norms):
            x = norm(stage(x, code)).relu()
        x = functional.leaky_relu(self.norm_1(self.fc_1(torch.cat([x.flatten(1), code], dim=1))), 0.2)
        return self.fc_2(torch.cat([x, code], dim=1))[:, 0]


def _normalisation(name: str, channels: int, size: tuple[int, ...]) -> nn.Module:
    if name == "layer":
        return nn.LayerNorm([channels, *size])
    if name == "batch":
        return nn.BatchNorm2d(channels) if size else nn.BatchNorm1d(channels)
    return nn.Identity()


class DenseGenerator(nn.Module):
    """Noise and condition to principal coefficients (B, K), by two hidden layers; the code joins each.

    Args:
        num_labels: C.
        components: K.
        hidden_size: H.
    """

    def __init__(self, num_labels: int, components: int, noise_size: int, hidden_size: int) -> None:
        super().__init__()
        code_size = CODE_SIZE * num_labels
        self.fc_1 = nn.Linear(noise_size + code_size, hidden_size)
        self.fc_2 = nn.Linear(hidden_size + code_size, hidden_size)
        self.fc_3 = nn.Linear(hidden_size + code_size, components)

    def forward(self, noise: Tensor, code: Tensor) -> Tensor:
        """(B, K) from noise (B, Z) and code (B, 3C)."""
        x = functional.leaky_relu(self.fc_1(torch.cat([noise, code], dim=1)), 0.2)  # (B, H)
        x = functional.leaky_relu(self.fc_2(torch.cat([x, code], dim=1)), 0.2)  # (B, H)
        return self.fc_3(torch.cat([x, code], dim=1))


class DenseCritic(nn.Module):
    """How real coefficients look: two hidden layers; the code joins each.

    Args:
        normalisation: as :class:`ConvolutionalCritic`.
    """

    def __init__(self, num_labels: int, components: int, hidden_size: int, normalisation: str = "layer") -> None:
        super().__init__()
        code_size = CODE_SIZE * num_labels
        self.fc_1 = nn.Linear(components + code_size, hidden_size)
        self.norm_1 = _normalisation(normalisation, hidden_size, ())
        self.fc_2 = nn.Linear(hidden_size + code_size, hidden_size)
        self.norm_2 = _normalisation(normalisation, hidden_size, ())
        self.fc_3 = nn.Linear(hidden_size + code_size, 1)

    def forward(self, coefficients: Tensor, code: Tensor) -> Tensor:
        """(B,) from coefficients (B, K) and code (B, 3C)."""
        x = functional.leaky_relu(self.norm_1(self.fc_1(torch.cat([coefficients, code], dim=1))), 0.2)  # (B, H)
        x = functional.leaky_relu(self.norm_2(self.fc_2(torch.cat([x, code], dim=1))), 0.2)  # (B, H)
        return self.fc_3(torch.cat([x, code], dim=1))[:, 0]


RETURNS = 0.1  # motions of a label that end, on average, within this share of their largest displacement are closed
LONGEST_DRAW = 2.0  # standard deviations


class Motion3DGAN(nn.Module):
    """A label and random numbers to a motion.

    The generator makes a point q of the sphere of square-root velocities (:mod:`face4d.srvf`). Its length in metres is
    drawn from the lengths of the label's training sequences, log-normal with their mean and deviation, not beyond two
    deviations. Labels whose training sequences return to where they began are closed: what is missing at the end is
    taken back along the way, in proportion to the distance travelled. The critic is shown q as a tangent vector at
    ``reference``, the mean of all training motions, or as the tangent's principal coefficients in units of their common
    root mean square.

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
            self.generator = ConvolutionalGenerator(
                num_labels, num_landmarks, config.points, config.noise_size, config.width
            )
            self.critic = ConvolutionalCritic(
                num_labels, num_landmarks, config.points, config.width, config.critic_norm
            )
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
        """Set all that is known about the training motions before training: reference, basis, lengths, which labels
        return.

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
    """Curves (B, T, D) that end where they begin: the gap at the end is taken back in proportion to the distance
    travelled.
    """
    travelled = functional.pad(curves.diff(dim=1).norm(dim=2).cumsum(1), (1, 0))  # (B, T)
    share = travelled / travelled[:, -1:].clamp(min=torch.finfo(curves.dtype).tiny)
    return curves - share[:, :, None] * (curves[:, -1:] - curves[:, :1])


def in_time(curves: Tensor, frames: int) -> Tensor:
    """Curves (B, T, D) at ``frames`` equally spaced times, linear in between."""
    if frames == curves.shape[1]:
        return curves
    return functional.interpolate(curves.transpose(1, 2), size=frames, mode="linear", align_corners=True).transpose(
        1, 2
    )


def along(curves: Tensor, points: int, parameter: str) -> Tensor:
    """Curves (B, T, D) at ``points`` values of the parameter, ``time`` or ``arc-length``."""
    if parameter == "time":
        return in_time(curves, points)
    return torch.stack([resample_by_arc_length(curve, points) for curve in curves])
