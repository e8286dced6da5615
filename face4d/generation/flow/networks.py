"""The flow-matching generator: a label, what is given of the controls and random numbers in, one of many motions out.

Lipman, Chen, Ben-Hamu, Nickel and Le, "Flow Matching for Generative Modeling", ICLR 2023. A network v(x, s, c) is
learnt whose flow dx/ds = v carries noise at s = 0 to motions at s = 1; on the optimal-transport path
x_s = (1 - s) x_0 + s x_1 between noise and motion it is the mean of x_1 - x_0 (their equation 23 with sigma_min = 0).
"""

from __future__ import annotations

import copy
from dataclasses import astuple

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from face4d.constants import NUM_LANDMARKS
from face4d.controls import (
    NOT_GIVEN,
    Controls,
    GivenControls,
    as_ratios,
    complete,
    find_controls,
    label_directions,
    note_sudden,
)
from face4d.generation.flow.config import FlowConfig
from face4d.generation.flow.registration import CANONICAL_FRAMES, time_operators, to_canonical

CONTROLS = 5  # coordinates of a motion that are controls: onset, apex, hold, offset, strength
TIMES = CONTROLS - 1  # those of them that are times
FARTHEST_GIVEN = 3.0  # standard deviations: what is given beyond them, enters the network as this much
OCTAVES = 4
LEAST_SPREAD = 0.05  # of a standardised coordinate


class VelocityNetwork(nn.Module):
    """The velocity at a point of the flow: what residual blocks add to the velocity that independent normal coordinates
    would have.

    For x_0 normal with deviation 1 and x_1 with deviation d, the mean of x_1 - x_0 given x_s = x is
    (s d^2 - (1 - s)) / (s^2 d^2 + (1 - s)^2) x. The last row of the label's embedding stands for a label that is not
    given.

    Args:
        size: D, coordinates of a motion.
        num_labels: C.
    """

    spread: Tensor

    def __init__(self, size: int, num_labels: int, hidden_size: int, blocks: int) -> None:
        super().__init__()
        self.of_label = nn.Embedding(num_labels + 1, hidden_size)
        self.of_given = nn.Linear(2 * CONTROLS, hidden_size)
        self.of_time = nn.Linear(2 * OCTAVES, hidden_size)
        self.first = nn.Linear(size, hidden_size)
        self.inner = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(blocks))
        self.outer = nn.ModuleList(nn.Linear(hidden_size, hidden_size) for _ in range(blocks))
        self.last = nn.Linear(hidden_size, size)
        self.register_buffer("spread", torch.ones(size))
        nn.init.zeros_(self.last.weight)
        nn.init.zeros_(self.last.bias)

    def condition(self, labels: Tensor, given: Tensor) -> Tensor:
        """(B, H) from labels (B,) and given controls (B, 5), NaN where not given, both standardised coordinates."""
        known = ~given.isnan()
        values = given.nan_to_num().clamp(-FARTHEST_GIVEN, FARTHEST_GIVEN)
        return self.of_label(labels) + self.of_given(torch.cat([values, known.to(values.dtype)], dim=1))

    def forward(self, x: Tensor, time: Tensor, condition: Tensor) -> Tensor:
        """(B, D) velocity at points x (B, D) and times (B, 1) of the flow, condition (B, H)."""
        angle = torch.pi * time * 2.0 ** torch.arange(OCTAVES, device=time.device)  # (B, OCTAVES)
        condition = condition + self.of_time(torch.cat([angle.sin(), angle.cos()], dim=1))
        hidden = self.first(x)
        for inner, outer in zip(self.inner, self.outer):
            hidden = hidden + outer(functional.silu(inner(functional.silu(hidden + condition))))
        variance = self.spread.square()
        gaussian = (time * variance - (1 - time)) / (time.square() * variance + (1 - time).square())  # (B, D)
        return gaussian * x + self.last(functional.silu(hidden))


class MotionFlow(nn.Module):
    """A label and random numbers to a motion.

    A motion has D = 5 + K coordinates: onset, apex, length of the hold and offset (:mod:`face4d.controls`) as shares of
    the duration; strength; and K principal coefficients of what its shape (:mod:`.registration`) differs in from the
    shape of its label times its strength. The flow makes them standardised, by mean and deviation of the training set.
    Times and strength that are given are inputs of the network, so that the rest fits them, and then set to what was
    given.

    Args:
        num_labels: C.
        num_landmarks: L.
    """

    stochastic = True

    shapes: Tensor
    basis: Tensor
    location: Tensor
    scale: Tensor

    def __init__(self, config: FlowConfig, num_labels: int, num_landmarks: int = NUM_LANDMARKS) -> None:
        super().__init__()
        self.num_labels = num_labels
        self.steps = config.sampling_steps
        size = CONTROLS + config.components
        self.velocity = VelocityNetwork(size, num_labels, config.hidden_size, config.blocks)
        self.averaged = copy.deepcopy(self.velocity).requires_grad_(False) if config.averaging else self.velocity
        points = CANONICAL_FRAMES * 3 * num_landmarks
        self.register_buffer("shapes", torch.zeros(num_labels, points))
        self.register_buffer("basis", torch.zeros(config.components, points))
        self.register_buffer("location", torch.zeros(size))
        self.register_buffer("scale", torch.ones(size))

    @torch.no_grad()
    def fit(self, displacements: Tensor, labels: Tensor) -> Tensor:
        """Set all that is known about the training motions before training.

        Args:
            displacements: (N, T + 1, L, 3) metres; what a motion begins from is no part of it.
            labels: (N,) class indices, each of the C at least once.

        Returns:
            (N, D) coordinates of the motions.
        """
        moved = displacements - displacements[:, :1]
        last = moved.shape[1] - 1
        directions = label_directions(moved.numpy(), labels.numpy(), self.num_labels)
        controls = find_controls(moved.numpy(), directions[labels.numpy()])
        first = torch.from_numpy(as_coordinates(controls, last)).float()  # (N, 5)
        shapes = to_canonical(moved.flatten(2), times_of(controls, last)).flatten(1)  # (N, R * 3L)
        strength = first[:, 4:]
        for label in range(self.num_labels):  # least squares
            own = strength[labels == label]
            self.shapes[label] = (own * shapes[labels == label]).sum(0) / own.square().sum().clamp(min=1e-6)
        rest = shapes - strength * self.shapes[labels]
        _, _, rows = torch.linalg.svd(rest, full_matrices=False)
        count = min(len(self.basis), len(rows))
        self.basis[:count] = rows[:count]
        motions = torch.cat([first, rest @ self.basis.T], dim=1)
        # the least deviations: a quarter of a frame, a hundredth of the strength, a micrometre
        least = torch.tensor([0.25 / last] * 4 + [0.01] + [1e-6] * len(self.basis))
        self.location.copy_(motions.mean(0))
        self.scale.copy_(motions.std(0, correction=0).maximum(least))
        coordinates = (motions - self.location) / self.scale
        for network in (self.velocity, self.averaged):
            network.spread.copy_(coordinates.std(0, correction=0).clamp(min=LEAST_SPREAD))
        return coordinates

    @torch.no_grad()
    def average(self, decay: float) -> None:
        """Move the averaged weights towards the trained ones; with ``decay`` 0 they are the same."""
        if decay:
            torch._foreach_lerp_(list(self.averaged.parameters()), list(self.velocity.parameters()), 1 - decay)

    def draw(
        self, labels: Tensor, given: Tensor, random: torch.Generator | None = None, guidance: float = 1.0
    ) -> Tensor:
        """Coordinates (B, D) of one motion per row, by midpoint steps.

        Args:
            labels: (B,) class indices.
            given: (B, 5) their first coordinates, NaN where they are to be drawn.
            random: on the CPU; None begins in the middle of the noise, which leads to a typical motion.
            guidance: how much more than learnt a draw follows label and controls; 1 = as learnt.
        """
        network = self.averaged
        condition = network.condition(labels, given)
        free = network.condition(torch.full_like(labels, self.num_labels), torch.full_like(given, torch.nan))

        def velocity(x: Tensor, time: float) -> Tensor:
            at_time = x.new_full((len(x), 1), time)
            found = network(x, at_time, condition)
            if guidance == 1:
                return found
            # classifier-free guidance (Ho and Salimans, 2022), of velocities
            return torch.lerp(network(x, at_time, free), found, guidance)

        shape = len(labels), len(self.location)
        noise = torch.zeros(shape) if random is None else torch.randn(shape, generator=random)
        x = noise.to(self.location)
        for step in range(self.steps):
            middle = x + velocity(x, step / self.steps) / (2 * self.steps)
            x = x + velocity(middle, (step + 0.5) / self.steps) / self.steps
        return x

    def controls_of(self, coordinates: Tensor, last: int, given: Controls | GivenControls = NOT_GIVEN) -> Controls:
        """The controls (B,) that coordinates (B, D) mean in a motion of frames 0 to ``last``: those given, and the
        others in the room that is left, see :func:`face4d.controls.complete`.
        """
        if isinstance(given, Controls):
            return given
        given.require_possible(last)
        shares = self.location[:CONTROLS] + self.scale[:CONTROLS] * coordinates[:, :CONTROLS]
        onset, apex, hold, offset, strength = shares.double().cpu().numpy().T
        apex = apex.clip(0, 1)
        release = (apex + hold.clip(0)).clip(0, 1)
        drawn = Controls(onset.clip(0, apex), apex, release, offset.clip(release, 1), strength)
        return complete(as_ratios(drawn.stretched(last), last), given, last)

    def given(self, controls: Controls | GivenControls, count: int, last: int) -> Tensor:
        """Controls as the first coordinates (``count``, 5) of motions of frames 0 to ``last``, NaN where they are left
        open.
        """
        if isinstance(controls, Controls):
            shares = torch.as_tensor(as_coordinates(controls, last)).to(self.location)
        else:
            values = [torch.nan if value is None else value for value in astuple(controls)]
            shares = self.location.new_tensor(values) / self.location.new_tensor([last] * 4 + [1])
        return ((shares - self.location[:CONTROLS]) / self.scale[:CONTROLS]).expand(count, -1)

    def motion(self, coordinates: Tensor, labels: Tensor, controls: Controls, last: int) -> Tensor:
        """Displacements (B, last + 1, L, 3) from frame 0, metres, of coordinates (B, D) with these controls (B,) in
        place of their own.
        """
        coefficients = self.location[CONTROLS:] + self.scale[CONTROLS:] * coordinates[:, CONTROLS:]
        strength = torch.as_tensor(controls.strength).to(coefficients)[:, None]
        shapes = strength * self.shapes[labels] + coefficients @ self.basis
        operators = time_operators(times_of(controls, last).to(coefficients), last + 1)  # (B, last + 1, R)
        return (operators @ shapes.unflatten(1, (CANONICAL_FRAMES, -1))).unflatten(2, (-1, 3))

    def forward(
        self,
        start: Tensor,
        labels: Tensor,
        frames: int,
        random: torch.Generator | None = None,
        controls: Controls | GivenControls = NOT_GIVEN,
        guidance: float = 1.0,
    ) -> Tensor:
        """Draw one motion per row.

        Args:
            start: (B, L, 3) displacement the motion begins from, metres.
            labels: (B,) class indices.
            frames: number T of frames after ``start``.
            random: on the CPU, so that a seed means the same on all devices; None = a typical motion, see :meth:`draw`.
            controls: (B,) of each, in frames; or those that are given.
            guidance: see :meth:`draw`.

        Returns:
            (B, T, L, 3) displacements, metres; the start frame is not among them.
        """
        coordinates = self.draw(labels, self.given(controls, len(labels), frames), random, guidance)
        found = self.controls_of(coordinates, frames, controls)
        if isinstance(controls, GivenControls) and controls.times:
            note_sudden(found, frames)
        return start[:, None] + self.motion(coordinates, labels, found, frames)[:, 1:]


def as_coordinates(controls: Controls, last: int) -> np.ndarray:
    """(N, 5) onset, apex, hold, offset as shares of the duration, strength."""
    onset, apex, release, offset, strength = controls.array().T
    return np.stack([onset / last, apex / last, (release - apex) / last, offset / last, strength], axis=1)


def times_of(controls: Controls, last: int) -> Tensor:
    """(N, 4) float32 onset, apex, release, offset as shares of the duration."""
    return torch.from_numpy(controls.array()[:, :4] / last).float()
