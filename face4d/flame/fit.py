"""FLAME parameters of faces, from their vertices or their landmarks: one identity, then frames in chunks, each from the
one before.

The energy and its minimisation are in :mod:`face4d.flame.least_squares`.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from scipy.spatial.transform import Rotation
from torch import Tensor

from face4d.constants import NUM_LANDMARKS
from face4d.errors import InputError
from face4d.flame.layer import FlameLayer
from face4d.flame.least_squares import DEVIATIONS, Points, Problem
from face4d.mesh.frames import Frames
from face4d.mesh.plausibility import check_face, check_head

KEYFRAMES = {"vertices": 16, "landmarks": 64}  # of which the identity is fitted
CHUNK = 16  # frames at once; with smoothness, so many more are looked ahead:
LOOK_AHEAD = 8
_FIRST_NOISE = 3.0  # millimetres, where the estimate of the noise starts


@dataclass(frozen=True)
class Person:
    """Who moves.

    Attributes:
        points: of the person's layer, which has the shape in its template and no shape coefficients left.
        shape: (1, S) coefficients.
        noise: millimetres per coordinate, given or estimated.
        first: (1, M) variables of the first frame.
        iterations: of Gauss-Newton.
    """

    points: Points
    shape: np.ndarray
    noise: float
    first: Tensor
    iterations: int


@dataclass(frozen=True)
class FlameFit:
    """Parameters under the names of :meth:`FlameLayer.forward <face4d.flame.layer.FlameLayer.forward>`, and how well
    they fit.

    Attributes:
        parameters: shape (1, S), expression (T, E), global_pose, neck_pose, jaw_pose (T, 3), eye_pose (T, 6),
            translation (T, 3).
        vertices: (T, V, 3) float32 metres, the fitted faces.
        residuals: (T, P) distances from the P given points, millimetres.
        noise: millimetres per coordinate, given or estimated.
        iterations: of Gauss-Newton.
    """

    parameters: dict[str, np.ndarray]
    vertices: np.ndarray
    residuals: np.ndarray
    noise: float
    iterations: int


def fit_flame(
    layer: FlameLayer,
    target: np.ndarray,
    *,
    name: str | Path = "target",
    noise: float | None = None,
    smoothness: float = 0.0,
    iterations: int = 100,
) -> FlameFit:
    """Fit the layer to one face or to a sequence of one person: :func:`fit_person` and :func:`fit_frames` in one.

    Args:
        layer: one with the contour that the landmarks were made with (``fixed`` for the files of step 3).
        target: metres, (T, V, 3) vertices in the layer's topology or (T, 68, 3) landmarks, contour first.
        name: of the target, for errors.
        noise, smoothness, iterations: see :func:`fit_person` and :func:`fit_frames`.

    Raises:
        InputError: a target of another shape, not finite, or no face in metres (:mod:`face4d.mesh.plausibility`).

    Example:
        >>> fit = fit_flame(load_flame_layer("models/flame", contour="fixed"), np.load("Happy_CH01.npy"))
        >>> fit.parameters["expression"].shape
        (61, 50)
    """
    target = np.asarray(target)
    count = layer.num_vertices
    if target.ndim != 3 or not len(target) or target.shape[1] not in (count, NUM_LANDMARKS) or target.shape[2] != 3:
        raise InputError(
            name, f"(T, {count}, 3) vertices of the model or (T, {NUM_LANDMARKS}, 3) landmarks", f"{target.shape}"
        )
    if not np.isfinite(target).all():
        raise InputError(name, "finite coordinates", "NaN or infinity")
    for face in target:
        check_head(name, face) if len(face) == count else check_face(name, face)
    names = [f"{name}, frame {frame}" for frame in range(len(target))]
    none = np.zeros((0, 3), np.int32)
    frames = Frames(Path(name), names, target.shape[1], none, lambda start, stop: target[start:stop])
    person = fit_person(layer, frames, noise=noise, iterations=iterations)
    parts = list(fit_frames(person, frames, smoothness=smoothness, iterations=iterations))
    return FlameFit(
        joined([part.parameters for part in parts]),
        np.concatenate([part.vertices for part in parts]),
        np.concatenate([part.residuals for part in parts]),
        person.noise,
        person.iterations + sum(part.iterations for part in parts),
    )


def fit_person(layer: FlameLayer, frames: Frames, *, noise: float | None = None, iterations: int = 100) -> Person:
    """The identity, from up to 16 frames of vertices or 64 of landmarks that lie evenly in the sequence: shape and
    these frames' expressions and poses together.

    Args:
        layer: with the landmarks' contour.
        frames: of the layer's vertices, or of 68 landmarks.
        noise: millimetres per coordinate that a point may be expected to miss the model by; larger trusts the priors
            more. Default: the root mean square residual, estimated again after each fit (at least 0.1 for vertices and
            0.5 for landmarks): a model that cannot be the face in question then stays near its mean instead of being
            bent to every point.
        iterations: of Gauss-Newton at most.
    """
    like = layer.joint_template
    points = Points(layer, frames.vertices)
    most = KEYFRAMES["vertices" if frames.vertices == layer.num_vertices else "landmarks"]
    keys = np.unique(np.linspace(0, len(frames) - 1, most).round().astype(int))
    target = torch.as_tensor(np.concatenate([frames.read(key, key + 1) for key in keys])).to(like)
    shape, done = like.new_zeros(layer.num_shape), 0
    variables = _rigid(points, shape, target, like.new_zeros(len(keys), sum(points.columns.values())))
    problem = Problem(points, target, noise or _FIRST_NOISE)
    while True:
        shape, variables, taken = problem.solve(shape, variables, iterations - done)
        done += taken
        square = problem.errors(shape, variables).square().mean()
        found = max(points.least_noise, float(square) ** 0.5)
        if noise is not None or done >= iterations or 0.8 < found / problem.noise < 1.25:
            break
        problem.noise = found
    own = Points(layer.of_person(shape), frames.vertices)
    return Person(own, shape[None].cpu().numpy(), problem.noise, variables[:1], done)


def fit_frames(person: Person, frames: Frames, *, smoothness: float = 0.0, iterations: int = 100) -> Iterator[FlameFit]:
    """The frames of a sequence, chunk by chunk, with the identity held.

    The frames of a chunk start from the last frame of the chunk before, moved rigidly onto each (Kabsch 1976). With
    smoothness they are solved together with that frame, which stays as it is, and with the next ones, which are solved
    again.

    Args:
        smoothness: weight of the squared changes of expression and jaw between frames; 0 fits every frame by itself.
        iterations: of Gauss-Newton at most, per chunk.
    """
    points, layer = person.points, person.points.layer
    like = layer.joint_template
    no_shape = like.new_zeros(0)
    last, before = person.first, None
    for start in range(0, len(frames), CHUNK):
        stop = min(start + CHUNK, len(frames))
        ahead = min(stop + LOOK_AHEAD, len(frames)) if smoothness else stop
        target = torch.as_tensor(frames.read(start, ahead)).to(like)
        problem = Problem(points, target, person.noise, smoothness, before)
        variables = _rigid(points, no_shape, target, last.expand(len(target), -1))
        _, variables, taken = problem.solve(no_shape, variables, iterations)
        count = stop - start
        residuals = torch.linalg.vector_norm(problem.errors(no_shape, variables)[:count], dim=-1)
        variables = variables[:count]
        last = variables[-1:]
        before = last if smoothness else None
        found = points.named(variables)
        found |= {name: like.new_zeros(count, 6 if name == "eye_pose" else 3) for name in DEVIATIONS.keys() - found}
        with torch.no_grad():
            vertices = layer.points(layer.surface, **found)
        parameters = {"shape": person.shape, **{name: value.cpu().numpy() for name, value in found.items()}}
        yield FlameFit(parameters, vertices.cpu().numpy(), residuals.cpu().numpy(), person.noise, taken)


def joined(parts: Sequence[dict[str, np.ndarray]]) -> dict[str, np.ndarray]:
    """Parameters of one person's frames, part after part, as one."""
    frames = {name: np.concatenate([part[name] for part in parts]) for name in parts[0] if name != "shape"}
    return {"shape": parts[0]["shape"], **frames}


def _rigid(points: Points, shape: Tensor, target: Tensor, variables: Tensor) -> Tensor:
    """The variables (T, M) after the rigid motion that brings each face nearest to its target (T, P, 3)."""
    parameters = points.named(variables)
    with torch.no_grad():
        found = points.at(shape, variables).double().cpu().numpy()
    roots = (points.layer.joint_template[0] + parameters["translation"]).double().cpu().numpy()  # of global_pose
    turns, moves = [], []
    for face, goal, turn, root in zip(
        found, target.double().cpu().numpy(), parameters["global_pose"].double().cpu().numpy(), roots
    ):
        middle, aim = face.mean(axis=0), goal.mean(axis=0)
        rotation, _ = Rotation.align_vectors(goal - aim, face - middle)
        turns.append(_nearest((rotation * Rotation.from_rotvec(turn)).as_rotvec(), turn))
        moves.append(aim + rotation.apply(root - middle) - root)
    moved = {"global_pose": torch.as_tensor(np.stack(turns)).to(target)}
    moved["translation"] = parameters["translation"] + torch.as_tensor(np.stack(moves)).to(target)
    return torch.cat(list((parameters | moved).values()), dim=1)


def _nearest(turn: np.ndarray, before: np.ndarray) -> np.ndarray:
    """The axis-angle of the same rotation that is nearest to another: half a turn has two."""
    angle = float(np.linalg.norm(turn))
    if angle < np.pi / 2:
        return turn
    return min((turn, turn * (1 - 2 * np.pi / angle)), key=lambda one: float(np.linalg.norm(one - before)))
