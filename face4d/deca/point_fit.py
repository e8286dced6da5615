"""A face model fitted to the 468 points of the landmark network in one photo or in several of one person.

The maximum a posteriori estimate of identity (shared), expression, jaw, head pose and a weak perspective camera (each
photo's own) by Gauss-Newton steps: points are reprojected, their errors have a Student t distribution whose scale the
point embedding has measured, coefficients are normal with deviation 1.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from face4d.flame.layer import FlameLayer, SkinnedPoints
from face4d.mesh.geometry import fit_similarity
from face4d.synthetic.point_embedding import PointEmbedding

JAW_DEVIATION = (0.2, 0.02, 0.02)  # radians, about x, y, z
DEPTH_DEVIATION = 0.050  # metres: the network's depths are guesses
_SEEN = 0.0007  # metres: what pictures add to the embedding's spread
_FREEDOM = 4.0  # of the t distribution
_ALIKE = 8.0  # neighbouring points err alike: so many count as one
_STEPS, _CONVERGED = 15, 0.01  # of Gauss-Newton, largest change of a coefficient
_SMALL = 1e-4  # radians
_RIGID = 6  # rotation, log of the scale, shift in x and y; the depth's shift follows

Z_FLIPPED = np.array([1.0, -1.0, -1.0])  # between pixels (y down, z away) and the model's axes


@dataclass(frozen=True)
class FittedPoints:
    """One photo's face.

    Attributes:
        identity: (S,) coefficients, the same in all photos of a fit.
        expression: (E,).
        head, jaw: (3,) axis-angle.
        scale: pixels per metre.
        shift: (2,) pixels: a point (x, y) of the posed model is at (scale x + shift[0], shift[1] - scale y).
        errors: (468,) pixels between where points are seen and where the fit puts them.
    """

    identity: np.ndarray
    expression: np.ndarray
    head: np.ndarray
    jaw: np.ndarray
    scale: float
    shift: np.ndarray
    errors: np.ndarray

    def in_photo(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) metres of the posed model: x right, y down and z away in pixels of the photo."""
        return self.scale * points * Z_FLIPPED + np.array([*self.shift, 0.0])


@dataclass
class _Photo:
    """What is estimated of one photo. ``turn`` (3, 3) is the head's; ``free`` expression and jaw."""

    seen: np.ndarray  # (468, 3) in the model's axes, pixels
    turn: np.ndarray
    scale: float
    shift: np.ndarray
    free: np.ndarray
    errors: np.ndarray


def fit_points(
    layer: FlameLayer,
    embedding: PointEmbedding,
    photos: Sequence[np.ndarray],
    *,
    identity: np.ndarray | None = None,
    start: FittedPoints | None = None,
) -> list[FittedPoints]:
    """Fit all photos of one person.

    Args:
        layer: float64.
        embedding: of the 468 points on its topology.
        photos: (468, 3) points each: x right, y down and z away, pixels.
        identity: (S,) coefficients that are known; else they are estimated from all photos.
        start: of a similar face, whose expression the search begins with (the frame before of a video).
    """
    faces = layer.faces.cpu().numpy()
    shape = np.zeros(layer.num_shape) if identity is None else np.asarray(identity, float)
    states = [_start(layer, embedding, faces, seen, shape, start) for seen in photos]
    free_shape = layer.num_shape if identity is None else 0
    own = layer.num_expression + 3
    deviation = np.concatenate([np.ones(layer.num_expression), JAW_DEVIATION])
    for _ in range(_STEPS):
        size = free_shape + len(states) * (own + _RIGID)
        normal, gradient = np.zeros((size, size)), np.zeros(size)
        normal[:free_shape, :free_shape] = np.eye(free_shape)
        gradient[:free_shape] = -shape[:free_shape]
        for number, state in enumerate(states):
            first = free_shape + number * (own + _RIGID)
            prior = np.arange(first, first + own)
            normal[prior, prior] += 1 / deviation**2
            gradient[prior] -= state.free / deviation**2
            columns = np.r_[:free_shape, first : first + own + _RIGID]
            jacobian, error, weight = _linearised(layer, embedding, faces, state, shape, free_shape)
            normal[np.ix_(columns, columns)] += jacobian.T @ (jacobian * weight[:, None])
            gradient[columns] += jacobian.T @ (weight * error)
        step = np.linalg.solve(normal + 1e-9 * np.eye(size) * np.trace(normal) / size, gradient)
        shape = shape + step[:free_shape] if free_shape else shape
        for number, state in enumerate(states):
            first = free_shape + number * (own + _RIGID)
            _move(state, step[first : first + own + _RIGID])
        if np.abs(step).max() < _CONVERGED:
            break
    return [_fitted(layer, embedding, faces, state, shape) for state in states]


def view_of(turn: np.ndarray) -> float:
    """Yaw in degrees, to the head's own left, from which the camera sees a head turned by (3, 3), whatever its roll."""
    return float(np.degrees(np.arctan2(-turn[2, 0], turn[2, 2])))


def _start(
    layer: FlameLayer,
    embedding: PointEmbedding,
    faces: np.ndarray,
    seen: np.ndarray,
    shape: np.ndarray,
    start: FittedPoints | None,
) -> _Photo:
    """The head placed by the similarity onto the points with the depths that the network guesses."""
    seen = np.asarray(seen, float) * Z_FLIPPED
    free = np.zeros(layer.num_expression + 3)
    if start is not None:
        free = np.concatenate([start.expression, start.jaw])
    known = {"shape": shape, "expression": free[:-3], "jaw_pose": free[-3:]}
    row = {name: torch.as_tensor(value, dtype=layer.joint_template.dtype)[None] for name, value in known.items()}
    with torch.no_grad():
        head = layer(**row).vertices[0].numpy()
    yaw = 0.0 if start is None else view_of(Rotation.from_rotvec(start.head).as_matrix())
    onto = fit_similarity(embedding.points(head, faces, yaw), seen)
    root = layer.joint_template[0].numpy()
    shift = onto.scale * (onto.rotation @ root - root) + onto.translation  # the layer turns the head about its root
    return _Photo(seen, onto.rotation, onto.scale, shift, free, np.zeros(len(seen)))


def _linearised(
    layer: FlameLayer, embedding: PointEmbedding, faces: np.ndarray, state: _Photo, shape: np.ndarray, free_shape: int
) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(3 N, columns) derivatives of the points in metres by identity, expression, jaw, rotation, log of the scale and
    shift; (3 N,) errors in metres and (3 N,) weights.
    """
    corners, weights, spread = embedding.at(view_of(state.turn), faces)
    still, inner = _posed(layer, layer.skinned_points(corners, weights), shape, state.free)
    inner = inner[len(shape) - free_shape :]  # all of the identity, or none of it
    root = layer.joint_template[0].numpy()
    turned = (still - root) @ state.turn.T + root
    count = len(turned)
    jacobian = np.zeros((count, 3, len(inner) + _RIGID))
    jacobian[:, :, : len(inner)] = np.einsum("knd,rd->nrk", inner, state.turn, optimize=True)
    for axis in range(3):
        jacobian[:, :, len(inner) + axis] = np.cross(np.eye(3)[axis], turned - root)
    jacobian[:, :, len(inner) + 3] = turned
    jacobian[:, 0, len(inner) + 4] = jacobian[:, 1, len(inner) + 5] = 1
    error = (state.seen - state.shift) / state.scale - turned
    across = (error[:, :2] ** 2).sum(axis=1)
    variance = spread**2 + _SEEN**2
    weight = (_FREEDOM + 2) / (_FREEDOM + across / variance) / _ALIKE
    depth = weight / DEPTH_DEVIATION**2
    error[:, 2] -= (depth * error[:, 2]).sum() / depth.sum()
    jacobian[:, 2] -= (depth[:, None] * jacobian[:, 2]).sum(axis=0) / depth.sum()
    state.errors = np.sqrt(across) * state.scale
    precision = np.stack([weight / variance, weight / variance, depth], axis=1)
    return jacobian.reshape(3 * count, -1), error.ravel(), precision.ravel()


def _posed(
    layer: FlameLayer, points: SkinnedPoints, shape: np.ndarray, free: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """(N, 3) points of a head that looks ahead, and (S + E + 3, N, 3) their derivatives by identity, expression and
    jaw.

    With the jaw held, points are affine in the coefficients, so that one unit of each gives exact derivatives; those by
    the jaw are central differences.
    """
    coefficients, jaw = np.concatenate([shape, free[:-3]]), free[-3:]
    count = len(coefficients)
    units = np.concatenate([np.eye(count), np.zeros((1, count)), np.tile(coefficients, (6, 1))])
    jaws = np.concatenate([np.tile(jaw, (count + 1, 1)), jaw + _SMALL * np.eye(3), jaw - _SMALL * np.eye(3)])
    rows, turns = (torch.as_tensor(part, dtype=layer.joint_template.dtype) for part in (units, jaws))
    with torch.no_grad():
        placed = layer.points(
            points, shape=rows[:, : layer.num_shape], expression=rows[:, layer.num_shape :], jaw_pose=turns
        ).numpy()
    origin = placed[count]
    by_coefficient, by_jaw = (
        placed[:count] - origin,
        (placed[count + 1 : count + 4] - placed[count + 4 :]) / (2 * _SMALL),
    )
    return origin + np.tensordot(coefficients, by_coefficient, axes=1), np.concatenate([by_coefficient, by_jaw])


def _move(state: _Photo, step: np.ndarray) -> None:
    own = len(state.free)
    state.free = state.free + step[:own]
    state.shift = state.shift + state.scale * np.append(step[own + 4 :], 0.0)
    state.turn = Rotation.from_rotvec(step[own : own + 3]).as_matrix() @ state.turn
    state.scale *= float(np.exp(np.clip(step[own + 3], -0.5, 0.5)))


def _fitted(
    layer: FlameLayer, embedding: PointEmbedding, faces: np.ndarray, state: _Photo, shape: np.ndarray
) -> FittedPoints:
    _linearised(layer, embedding, faces, state, shape, 0)
    expression, jaw = np.split(state.free, [layer.num_expression])
    head = Rotation.from_matrix(state.turn).as_rotvec()
    return FittedPoints(shape, expression, head, jaw, state.scale, state.shift[:2] * [1, -1], state.errors)
