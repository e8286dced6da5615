"""Faces of one person as one least-squares problem, solved by Gauss-Newton (Levenberg-Marquardt).

With shape s, variables x_t of frame t (head pose, place, expression, other poses), e_t the differences between the
points of the face and the given ones, all millimetres:

    E = sum_t |e_t|^2 + noise^2 (|s|^2 + sum_t p . x_t^2 + smoothness sum_t c . (x_t - x_(t-1))^2)

p is 1 / deviation^2, 0 for head pose and place; c is p for expression and jaw, else 0. A step d solves
(H + damping diag(H)) d = -g, g half of the gradient and H = J^T J + the same of the rest (Marquardt, "An Algorithm for
Least-Squares Estimation of Nonlinear Parameters", SIAM J. Appl. Math. 11, 1963). g is exact. J of vertices is summed
over some of them: that changes how many steps are taken, not where they lead.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

import torch
from torch import Tensor
from torch.func import jvp, vjp, vmap

from face4d.constants import MM_PER_METRE
from face4d.flame.layer import FlameLayer, SkinnedPoints

# Variables of a frame in their order, and the standard deviations of their priors: radians; coefficients have 1 by
# their meaning. Head pose and place are free.
DEVIATIONS = {
    "global_pose": torch.inf,
    "translation": torch.inf,
    "expression": 1.0,
    "jaw_pose": 0.2,
    "neck_pose": 0.3,
    "eye_pose": 0.2,
}
_SMOOTH = ("expression", "jaw_pose")  # what smoothness holds together
_UNSEEN = ("neck_pose", "eye_pose")  # by landmarks: a turn of the neck is one of the head to them
_CONVERGED = 1e-4  # relative gain of a step below which frames are done
_PROBES = 800  # vertices that J is summed over
_COLUMNS = 64  # of J at once


class Points:
    """The points by which faces are fitted, and the variables that these can tell.

    Args:
        layer: of N expression coefficients.
        count: V, for all vertices, or 68, for the landmarks.

    Attributes:
        columns: of each variable of a frame; all of them are M.
        least_noise: millimetres.
    """

    def __init__(self, layer: FlameLayer, count: int) -> None:
        self.layer = layer
        self.evaluate: Callable[..., Tensor]
        self.probe: Callable[..., Tensor]
        sizes = {"expression": layer.num_expression, "eye_pose": 6}
        self.columns = {name: sizes.get(name, 3) for name in DEVIATIONS}
        if count == layer.num_vertices:
            surface, every = layer.surface, max(1, count // _PROBES)
            thin = SkinnedPoints(
                surface.directions.unflatten(1, (3, -1))[:, :, ::every].flatten(1), surface.weights[:, ::every]
            )
            self.evaluate, self.probe = partial(layer.points, surface), partial(layer.points, thin)
            self.share = count / thin.weights.shape[1]  # vertices that each probe stands for
            self.least_noise = 0.1
        else:
            self.evaluate = self.probe = layer.landmarks
            self.share, self.least_noise = 1.0, 0.5
            self.columns = {name: columns for name, columns in self.columns.items() if name not in _UNSEEN}

    def named(self, variables: Tensor) -> dict[str, Tensor]:
        """Variables (T, M) as parameters of the layer; those without an effect on these points are left out."""
        return dict(zip(self.columns, variables.split(list(self.columns.values()), dim=1)))

    def at(self, shape: Tensor, variables: Tensor) -> Tensor:
        """The points (T, P, 3), metres, of shape (S,) and variables (T, M)."""
        return self.evaluate(shape=shape[None], **self.named(variables))


class Problem:
    """Frames to be fitted together.

    Args:
        points: P of them.
        target: (T, P, 3) metres.
        noise: millimetres.
        smoothness: weight of changes between frames.
        before: (1, M) the variables of the frame before the first, held.
    """

    def __init__(
        self, points: Points, target: Tensor, noise: float, smoothness: float = 0.0, before: Tensor | None = None
    ) -> None:
        self.points, self.target, self.noise, self.before = points, target, noise, before
        weights = {name: DEVIATIONS[name] ** -2 for name in points.columns}
        self.prior = self._row(weights)  # (M,)
        self.changes = smoothness * self._row({name: weights[name] if name in _SMOOTH else 0.0 for name in weights})

    def _row(self, values: dict[str, float]) -> Tensor:
        like = self.target
        return torch.cat([like.new_full((count,), values[name]) for name, count in self.points.columns.items()])

    def errors(self, shape: Tensor, variables: Tensor) -> Tensor:
        """(T, P, 3) millimetres."""
        with torch.no_grad():
            return MM_PER_METRE * (self.points.at(shape, variables) - self.target)

    def energy(self, shape: Tensor, variables: Tensor) -> float:
        """E, squared millimetres."""
        prior = shape.square().sum() + (self.prior * variables.square()).sum()
        change = (self.changes * self._steps(variables).square()).sum()
        return float(self.errors(shape, variables).square().sum() + self.noise**2 * (prior + change))

    def _steps(self, variables: Tensor) -> Tensor:
        """(T, M) changes since the frame before; of the first frame 0 if none is before it."""
        before = variables[:1] if self.before is None else self.before
        return torch.cat([before, variables]).diff(dim=0)

    def solve(self, shape: Tensor, variables: Tensor, iterations: int) -> tuple[Tensor, Tensor, int]:
        """Minimise from here; returns shape (S,), variables (T, M) and the iterations taken."""
        value, damping = self.energy(shape, variables), 1e-4
        for iteration in range(1, iterations + 1):
            equations = self._equations(shape, variables)
            while True:
                try:
                    shape_step, variable_step = equations.step(damping)
                    trial = shape + shape_step.to(shape), variables + variable_step.to(variables)
                    found = self.energy(*trial)
                except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # not positive definite, as it is approximate
                    found = torch.inf
                if found <= value:
                    break
                damping *= 10
                if damping > 1e4:
                    return shape, variables, iteration
            gain, value = value - found, found
            shape, variables = trial
            damping = max(damping / 10, 1e-6)
            if gain <= _CONVERGED * value:
                return shape, variables, iteration
        return shape, variables, iterations

    def _equations(self, shape: Tensor, variables: Tensor) -> _NormalEquations:
        """The normal equations around here."""
        frames, own = len(variables), len(shape)
        at = torch.cat([shape.expand(frames, -1), variables], dim=1)  # (T, S + M)

        def seen(evaluate: Callable[..., Tensor], at: Tensor) -> Tensor:
            return MM_PER_METRE * evaluate(shape=at[:, :own], **self.points.named(at[:, own:]))

        found, back = vjp(partial(seen, self.points.evaluate), at)[:2]
        pull = back(found - MM_PER_METRE * self.target)[0].double()  # J^T e, (T, S + M)
        unit = torch.eye(at.shape[1], dtype=at.dtype, device=at.device)[:, None].expand(-1, frames, -1)
        along = vmap(lambda way: jvp(partial(seen, self.points.probe), (at,), (way,))[1], chunk_size=_COLUMNS)
        columns = along(unit).flatten(2).transpose(0, 1)  # J^T of every frame, (T, S + M, 3 P)
        normal = self.points.share * (columns @ columns.transpose(1, 2)).double()

        weight = self.noise**2
        changes = weight * self.changes.double()
        steps = changes * self._steps(variables).double()
        beside = torch.full((frames, 1), 2.0, dtype=torch.float64, device=at.device)  # neighbours of every frame
        beside[-1] -= 1
        beside[0] -= float(self.before is None)
        right = pull[:, own:] + weight * (self.prior * variables).double() + steps
        right[:-1] -= steps[1:]
        return _NormalEquations(
            normal[:, own:, own:] + torch.diag_embed(weight * self.prior.double() + beside * changes),
            -right,
            changes,
            normal[:, :own, :own].sum(0) + weight * torch.eye(own, dtype=torch.float64, device=at.device),
            -(pull[:, :own].sum(0) + weight * shape.double()),
            normal[:, :own, own:],
        )


@dataclass(frozen=True)
class _NormalEquations:
    """H d = -g: a frame has to do with its neighbours and with the shape.

    Attributes:
        frames: (T, M, M) of each frame's variables.
        right: (T, M).
        changes: (M,): minus the diagonal between neighbours.
        shape: (S, S).
        shape_right: (S,).
        shared: (T, S, M) between shape and frames.
    """

    frames: Tensor
    right: Tensor
    changes: Tensor
    shape: Tensor
    shape_right: Tensor
    shared: Tensor

    def step(self, damping: float) -> tuple[Tensor, Tensor]:
        """(S,) and (T, M): the frames are eliminated, then the shape's Schur complement is solved."""
        frames = self.frames + damping * torch.diag_embed(self.frames.diagonal(dim1=1, dim2=2))
        sides = torch.cat([self.right[..., None], self.shared.transpose(1, 2)], dim=2)  # (T, M, 1 + S)
        alone, reach = _block_tridiagonal(frames, self.changes, sides).split([1, len(self.shape)], dim=2)
        left = self.shape + damping * torch.diag(self.shape.diagonal()) - (self.shared @ reach).sum(0)
        shape = torch.linalg.solve(left, self.shape_right - (self.shared @ alone).sum(0)[:, 0])
        return shape, alone[..., 0] - reach @ shape


def _block_tridiagonal(frames: Tensor, changes: Tensor, right: Tensor) -> Tensor:
    """Solve for right sides (T, M, K) with blocks (T, M, M) on the diagonal and -diag(changes) beside them, by
    elimination from frame to frame (without changes, each frame by itself).
    """
    if not changes.any():
        return torch.cholesky_solve(right, torch.linalg.cholesky(frames))
    factors, rows = [torch.linalg.cholesky(frames[0])], [right[0]]
    beside = torch.diag(changes)
    for block, row in zip(frames[1:], right[1:]):
        reach = torch.cholesky_solve(beside, factors[-1])  # (M, M)
        rows.append(row + reach.T @ rows[-1])
        factors.append(torch.linalg.cholesky(block - changes[:, None] * reach))
    found = [torch.cholesky_solve(rows[-1], factors[-1])]
    for row, factor in zip(rows[-2::-1], factors[-2::-1]):
        found.append(torch.cholesky_solve(row + changes[:, None] * found[-1], factor))
    return torch.stack(found[::-1])
