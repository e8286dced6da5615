"""FLAME parameters of every frame of a long sequence: one identity, then frames in chunks, each from the one before.

The energy is that of :mod:`face4d.flame.fit`, minimised by Gauss-Newton (Levenberg-Marquardt). Its gradient is exact.
Its matrix is summed over some of the vertices: that changes how many steps it takes, not where they lead.
"""

from __future__ import annotations

import copy
from collections.abc import Iterator
from dataclasses import dataclass, replace

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor
from torch.func import jvp, vjp, vmap

from face4d.flame.fit import FIRST_NOISE, LEAST_NOISE, POSE_DEVIATION
from face4d.flame.layer import FlameLayer
from face4d.flame.model import FlameModel
from face4d.mesh.frames import Frames

KEYFRAMES = 16  # of which the identity is fitted
CHUNK = 16  # frames at once; with smoothness, so many more are looked ahead:
LOOK_AHEAD = 8
_CONVERGED = 1e-4  # relative gain of a step below which frames are done
_PROBES = 800  # vertices that the matrix is summed over
_COLUMNS = 64  # of derivatives at once
_POSES = {"global_pose": 3, "neck_pose": 3, "jaw_pose": 3, "eye_pose": 6, "translation": 3}
_NUM_POSES = sum(_POSES.values())
_JAW = slice(6, 9)


@dataclass(frozen=True)
class Person:
    """Who moves.

    Attributes:
        layer: the person's layer: shape as its template, no shape coefficients left.
        shape: (1, S) coefficients.
        noise: millimetres per coordinate, given or estimated.
        first: (1, E + 18) variables of the first frame, see :func:`named`.
        steps: of Gauss-Newton.
    """

    layer: FlameLayer
    shape: np.ndarray
    noise: float
    first: Tensor
    steps: int


@dataclass(frozen=True)
class FittedFrames:
    """Some frames.

    Attributes:
        parameters: of each but the shape, under the names of
            :meth:`FlameLayer.forward <face4d.flame.layer.FlameLayer.forward>`.
        vertices: (T, V, 3) float32 metres.
        residuals: (T, V) millimetres.
        steps: of Gauss-Newton.
    """

    parameters: dict[str, np.ndarray]
    vertices: np.ndarray
    residuals: np.ndarray
    steps: int


def fit_person(
    model: FlameModel,
    frames: Frames,
    *,
    num_shape: int = 100,
    num_expression: int = 50,
    noise: float | None = None,
    steps: int = 100,
    device: torch.device | str = "cpu",
) -> Person:
    """The identity, from up to 16 frames that lie evenly in the sequence: shape and these frames' expressions and poses
    together.

    Args:
        noise: see :func:`face4d.flame.fit.fit_flame`.
        steps: of Gauss-Newton at most.
    """
    layer = FlameLayer(model, num_shape=num_shape, num_expression=num_expression).to(device)
    keys = np.unique(np.linspace(0, len(frames) - 1, KEYFRAMES).round().astype(int))
    target = torch.as_tensor(np.concatenate([frames.read(key, key + 1) for key in keys]), device=device)
    variables = _rigid(layer, target, target.new_zeros(len(keys), layer.num_expression + _NUM_POSES))
    problem = _Problem(layer, target, noise or FIRST_NOISE)
    shape, done = target.new_zeros(layer.num_shape), 0
    while True:
        shape, variables, taken = problem.solve(shape, variables, steps - done)
        done += taken
        square = problem.errors(shape, variables).square().sum(-1).mean()
        found = max(LEAST_NOISE["vertices"], float(square / 3) ** 0.5)
        if noise is not None or done >= steps or 0.8 < found / problem.noise < 1.25:
            break
        problem.noise = found
    own = _person_layer(model, shape, num_expression).to(device)
    return Person(own, shape[None].cpu().numpy(), problem.noise, variables[:1], done)


def fit_frames(person: Person, frames: Frames, *, smoothness: float = 0.0, steps: int = 100) -> Iterator[FittedFrames]:
    """The frames of a sequence, chunk by chunk, with the identity held.

    The frames of a chunk start from the last frame of the chunk before, moved rigidly onto each (Kabsch 1976). With
    smoothness they are solved together with that frame, which stays as it is, and with the next ones, which are solved
    again.

    Args:
        smoothness: weight of the squared changes of expression and jaw between frames.
        steps: of Gauss-Newton at most, per chunk.
    """
    like = person.layer.joint_template
    empty = like.new_zeros(0)
    last, before = person.first, None
    for start in range(0, len(frames), CHUNK):
        stop = min(start + CHUNK, len(frames))
        ahead = min(stop + LOOK_AHEAD, len(frames)) if smoothness else stop
        target = torch.as_tensor(frames.read(start, ahead), device=like.device)
        problem = _Problem(person.layer, target, person.noise, smoothness, before)
        variables = _rigid(person.layer, target, last.expand(len(target), -1))
        _, variables, taken = problem.solve(empty, variables, steps)
        variables = variables[: stop - start]
        last = variables[-1:]
        before = last if smoothness else None
        with torch.no_grad():
            vertices = _vertices(person.layer, empty, variables)
            residuals = 1e3 * torch.linalg.vector_norm(vertices - target[: stop - start], dim=-1)
        parameters = {name: value.cpu().numpy() for name, value in named(person.layer, variables).items()}
        yield FittedFrames(parameters, vertices.cpu().numpy(), residuals.cpu().numpy(), taken)


def named(layer: FlameLayer, variables: Tensor) -> dict[str, Tensor]:
    """Variables (T, E + 18) as the parameters of the layer but the shape."""
    sizes = {"expression": layer.num_expression, **_POSES}
    return dict(zip(sizes, variables.split(list(sizes.values()), dim=1)))


def _person_layer(model: FlameModel, shape: Tensor, num_expression: int) -> FlameLayer:
    """The layer of a person: the shape is its template, and joints follow."""
    coefficients = shape.double().cpu().numpy()
    template = model.template + model.shape_directions[:, :, : len(coefficients)].astype(np.float64) @ coefficients
    own = replace(model, template=template, shape_directions=model.shape_directions[:, :, :0])
    return FlameLayer(own, num_shape=0, num_expression=num_expression)


def _vertices(layer: FlameLayer, shape: Tensor, variables: Tensor) -> Tensor:
    """(T, V, 3) metres."""
    return layer(shape=shape[None], **named(layer, variables)).vertices


def _rigid(layer: FlameLayer, target: Tensor, variables: Tensor) -> Tensor:
    """The variables (T, E + 18) after the rigid motion that brings each face nearest to its target (T, V, 3)."""
    with torch.no_grad():
        vertices = _vertices(layer, target.new_zeros(0), variables).double().cpu().numpy()
        parameters = named(layer, variables)
        origin = (layer.joint_template[0] + parameters["translation"]).double().cpu().numpy()  # of global_pose
    turns, moves = [], []
    for points, goal, turn, root in zip(
        vertices, target.double().cpu().numpy(), parameters["global_pose"].double().cpu().numpy(), origin
    ):
        middle, aim = points.mean(axis=0), goal.mean(axis=0)
        rotation, _ = Rotation.align_vectors(goal - aim, points - middle)
        turns.append(_nearest((rotation * Rotation.from_rotvec(turn)).as_rotvec(), turn))
        moves.append(aim + rotation.apply(root - middle) - root)
    moved = variables.clone()
    shift = layer.num_expression
    moved[:, shift : shift + 3] = torch.as_tensor(np.stack(turns), dtype=moved.dtype, device=moved.device)
    moved[:, -3:] += torch.as_tensor(np.stack(moves), dtype=moved.dtype, device=moved.device)
    return moved


def _nearest(turn: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The axis-angle of the same rotation that is nearest to another: half a turn has two."""
    angle = float(np.linalg.norm(turn))
    if angle < np.pi / 2:
        return turn
    return min((turn, turn * (1 - 2 * np.pi / angle)), key=lambda one: float(np.linalg.norm(one - before)))


class _Problem:
    """Frames to be fitted together.

    Args:
        target: (T, V, 3) metres.
        noise: millimetres.
        smoothness: weight of changes between frames.
        before: (1, E + 18) the frame before the first, held.
    """

    def __init__(
        self,
        layer: FlameLayer,
        target: Tensor,
        noise: float,
        smoothness: float = 0.0,
        before: Tensor | None = None,
    ) -> None:
        self.layer, self.target, self.noise, self.smoothness, self.before = layer, target, noise, smoothness, before
        self.num_shape, self.num_expression = layer.num_shape, layer.num_expression
        self.probe, self.share = _thinned(layer)
        deviations = torch.ones(self.num_expression + _NUM_POSES, dtype=target.dtype, device=target.device)
        poses = deviations[self.num_expression :]
        poses[:3], poses[-3:] = torch.inf, torch.inf  # head pose and place are free
        poses[3:6], poses[6:9], poses[9:15] = (POSE_DEVIATION[name] for name in ("neck_pose", "jaw_pose", "eye_pose"))
        self.prior = deviations**-2  # (E + 18,)
        changes = torch.zeros_like(self.prior)
        changes[: self.num_expression] = 1
        changes[self.num_expression :][_JAW] = POSE_DEVIATION["jaw_pose"] ** -2
        self.changes = smoothness * changes

    def errors(self, shape: Tensor, variables: Tensor) -> Tensor:
        """(T, V, 3) millimetres."""
        with torch.no_grad():
            return 1e3 * (_vertices(self.layer, shape, variables) - self.target)

    def energy(self, shape: Tensor, variables: Tensor) -> float:
        """Squared millimetres."""
        prior = shape.square().sum() + (self.prior * variables.square()).sum()
        change = (self.changes * self._steps(variables).square()).sum()
        return float(self.errors(shape, variables).square().sum() + self.noise**2 * (prior + change))

    def _steps(self, variables: Tensor) -> Tensor:
        """Changes from frame to frame."""
        return torch.cat([variables if self.before is None else self.before, variables][self.before is None :]).diff(
            dim=0
        )

    def solve(self, shape: Tensor, variables: Tensor, steps: int) -> tuple[Tensor, Tensor, int]:
        """Minimise from here; returns shape (S,), variables (T, E + 18) and the steps taken."""
        value, damping = self.energy(shape, variables), 1e-4
        for step in range(1, steps + 1):
            system = self._system(shape, variables)
            while True:
                try:
                    shape_step, variable_step = system.step(damping)
                    trial = shape + shape_step.to(shape), variables + variable_step.to(variables)
                    found = self.energy(*trial)
                except torch.linalg.LinAlgError:  # type: ignore[attr-defined]  # not positive definite, as it is approximate
                    found = torch.inf
                if found <= value:
                    break
                damping *= 10
                if damping > 1e4:
                    return shape, variables, step
            gain, value = value - found, found
            shape, variables = trial
            damping = max(damping / 10, 1e-6)
            if gain <= _CONVERGED * value:
                return shape, variables, step
        return shape, variables, steps

    def _system(self, shape: Tensor, variables: Tensor) -> _NormalEquations:
        """The normal equations around here."""
        frames, own = len(variables), self.num_shape
        at = torch.cat([shape.expand(frames, -1), variables], dim=1)  # (T, S + E + 18)

        def posed(layer: FlameLayer, at: Tensor) -> Tensor:
            return 1e3 * layer(shape=at[:, :own], **named(layer, at[:, own:])).vertices

        vertices, back = vjp(lambda at: posed(self.layer, at), at)[:2]
        pull = back(vertices - 1e3 * self.target)[0].double()  # (T, S + E + 18)
        unit = torch.eye(at.shape[1], dtype=at.dtype, device=at.device)[:, None].expand(-1, frames, -1)
        along = vmap(lambda way: jvp(lambda at: posed(self.probe, at), (at,), (way,))[1], chunk_size=_COLUMNS)
        columns = along(unit).flatten(2).transpose(0, 1)  # (T, S + E + 18, 3 P)
        normal = self.share * (columns @ columns.transpose(1, 2)).double()

        weight = self.noise**2
        frame = normal[:, own:, own:] + weight * torch.diag(self.prior.double())
        right = pull[:, own:] + weight * (self.prior * variables).double()
        changes = weight * self.changes.double()
        if self.smoothness:
            steps = changes * self._steps(variables).double()
            first = self.before is not None
            both = torch.full((frames, 1), 2.0, dtype=torch.float64, device=frame.device)
            both[-1] -= 1
            both[0] -= float(not first)
            frame += torch.diag_embed(both * changes)
            right[0 if first else 1 :] += steps
            right[: len(steps) - first] -= steps[first:]
        return _NormalEquations(
            frame,
            -right,
            changes if self.smoothness else None,
            normal[:, :own, :own].sum(0) + weight * torch.eye(own, dtype=torch.float64, device=frame.device),
            -(pull[:, :own].sum(0) + weight * shape.double()),
            normal[:, :own, own:],
        )


@dataclass(frozen=True)
class _NormalEquations:
    """Linear equations of a step.

    Attributes:
        frame: (T, N, N) of each frame's variables.
        right: (T, N).
        changes: (N,) that neighbouring frames share, None without smoothness.
        shape: (S, S).
        shape_right: (S,).
        shared: (T, S, N) of shape and frames.
    """

    frame: Tensor
    right: Tensor
    changes: Tensor | None
    shape: Tensor
    shape_right: Tensor
    shared: Tensor

    def step(self, damping: float) -> tuple[Tensor, Tensor]:
        """(S,) and (T, N), with the diagonal enlarged by the factor 1 + damping."""
        frame = self.frame + damping * torch.diag_embed(self.frame.diagonal(dim1=1, dim2=2))
        if self.changes is not None:
            return self.right.new_zeros(0), _block_tridiagonal(frame, self.changes, self.right)
        factor = torch.linalg.cholesky(frame)
        alone = torch.cholesky_solve(self.right[..., None], factor)[..., 0]
        if not len(self.shape):
            return self.right.new_zeros(0), alone
        reach = torch.cholesky_solve(self.shared.transpose(1, 2), factor)  # (T, N, S)
        left = self.shape + damping * torch.diag(self.shape.diagonal()) - (self.shared @ reach).sum(0)
        right = self.shape_right - (self.shared @ alone[..., None])[..., 0].sum(0)
        shape = torch.linalg.solve(left, right)
        return shape, alone - reach @ shape


def _block_tridiagonal(frame: Tensor, changes: Tensor, right: Tensor) -> Tensor:
    """Solve with blocks (T, N, N) on the diagonal and -diag(changes) beside it, by elimination from frame to frame."""
    factors, rows = [torch.linalg.cholesky(frame[0])], [right[0]]
    beside = torch.diag(changes)
    for block, row in zip(frame[1:], right[1:]):
        reach = torch.cholesky_solve(beside, factors[-1])  # (N, N)
        rows.append(row + reach.T @ rows[-1])
        factors.append(torch.linalg.cholesky(block - changes[:, None] * reach))
    found = [torch.cholesky_solve(rows[-1][:, None], factors[-1])[:, 0]]
    for row, factor in zip(rows[-2::-1], factors[-2::-1]):
        found.append(torch.cholesky_solve((row + changes * found[-1])[:, None], factor)[:, 0])
    return torch.stack(found[::-1])


def _thinned(layer: FlameLayer) -> tuple[FlameLayer, float]:
    """The layer of some of the vertices, evenly taken, and how many each stands for."""
    step = max(1, layer.num_vertices // _PROBES)
    thin = copy.deepcopy(layer)
    thin.surface.directions = layer.surface.directions.unflatten(1, (3, -1))[:, :, ::step].flatten(1).contiguous()
    thin.surface.weights = layer.surface.weights[:, ::step].contiguous()
    return thin, layer.num_vertices / thin.num_vertices
