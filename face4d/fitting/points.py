"""A face model fitted to photos of one person: to the 468 points of the landmark network, then to the shading of the
skin too.

The maximum a posteriori estimate of identity (shared), expression, jaw, head pose and a weak perspective camera (each
photo's own) by Gauss-Newton steps: points are reprojected, their errors have a Student t distribution whose scale the
point embedding has measured, coefficients are normal with deviation 1. Shading: :mod:`face4d.fitting.shading`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch
from scipy.spatial.transform import Rotation

from face4d.fitting.shading import ShadedFace, SkinShading
from face4d.flame.layer import FlameLayer, SkinnedPoints
from face4d.mesh.geometry import fit_similarity
from face4d.photos.crops import Crop
from face4d.synthetic.point_embedding import PointEmbedding

JAW_DEVIATION = (0.2, 0.02, 0.02)  # radians, about x, y, z
DEPTH_DEVIATION = 0.050  # metres: the network's depths are guesses
_SEEN = 0.0007  # metres: what pictures add to the embedding's spread
_FREEDOM = 4.0  # of the t distribution
_ALIKE = 15.0  # neighbouring points err alike: so many count as one
_STEPS, _CONVERGED = 15, 0.01  # of Gauss-Newton, largest change of a coefficient
_SHADED_STEPS = 3
_SMALL = 1e-4  # radians
_RIDGE = 1e-9  # of the mean diagonal
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
    """

    identity: np.ndarray
    expression: np.ndarray
    head: np.ndarray
    jaw: np.ndarray
    scale: float
    shift: np.ndarray

    def in_photo(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 3) metres of the posed model: x right, y down and z away in pixels of the photo."""
        return self.scale * points * Z_FLIPPED + np.array([*self.shift, 0.0])


@dataclass(frozen=True)
class SeenFace:
    """A face in a photo.

    Attributes:
        points: (468, 3) x right, y down and z away, pixels of the photo.
        picture: (S, S, 3) 0..1, a crop of the photo about a pixel to the millimetre; None fits to points alone.
        crop: the place of ``picture`` in the photo.
    """

    points: np.ndarray
    picture: np.ndarray | None = None
    crop: Crop | None = None


@dataclass
class _Photo:
    """What is estimated of one photo. ``turn`` (3, 3) is the head's; ``free`` expression and jaw."""

    face: SeenFace
    turn: np.ndarray
    scale: float
    shift: np.ndarray
    free: np.ndarray

    @property
    def seen(self) -> np.ndarray:
        """(468, 3) points in the model's axes, pixels."""
        return self.face.points * Z_FLIPPED


class PointFitter:
    """A layer with what fits it to photos.

    Args:
        layer: float64.
        embedding: of the 468 points on its topology.
        skin: of the model, to use the shading of pictures; None fits to points alone.
    """

    def __init__(self, layer: FlameLayer, embedding: PointEmbedding, skin: SkinShading | None = None) -> None:
        self.layer, self.embedding, self.skin = layer, embedding, skin
        self._faces, self._root = layer.faces.cpu().numpy(), layer.joint_template[0].numpy()
        self._own = layer.num_expression + 3  # a photo's coefficients
        self._deviation = np.concatenate([np.ones(layer.num_expression), JAW_DEVIATION])
        self._at_yaw: tuple[int, SkinnedPoints, np.ndarray] | None = None
        if skin is not None:
            self._skin_points = layer.skinned_points(skin.vertices[:, None], np.ones((len(skin.vertices), 1)))

    def fit(
        self,
        photos: Sequence[SeenFace],
        *,
        identity: np.ndarray | None = None,
        start: FittedPoints | None = None,
    ) -> list[FittedPoints]:
        """Fit all photos of one person.

        Args:
            photos: of one person.
            identity: (S,) coefficients that are known; else they are estimated from all photos.
            start: of a similar face, with whose expression the search begins (the frame before of a video).
        """
        is_known = identity is not None
        shape = np.zeros(self.layer.num_shape) if identity is None else np.asarray(identity, float)
        states = [self._start(face, shape, start) for face in photos]
        albedo = np.zeros(0 if self.skin is None else self.skin.num_albedo)
        for _ in range(_STEPS):
            step, shape, _ = self._step(states, shape, is_known, np.zeros(0))
            if step < _CONVERGED:
                break
        if len(albedo) and not is_known:
            for _ in range(_SHADED_STEPS):
                _, shape, albedo = self._step(states, shape, is_known, albedo)
        return [self._fitted(state, shape) for state in states]

    def _step(
        self, states: list[_Photo], shape: np.ndarray, is_known: bool, albedo: np.ndarray
    ) -> tuple[float, np.ndarray, np.ndarray]:
        """One Gauss-Newton step of all that is free, with shading where there is an albedo; moves ``states``.

        Returns:
            the largest change of a coefficient, the new identity and albedo.
        """
        free = 0 if is_known else len(shape)  # columns: identity, albedo, then every photo's own
        common, each = free + len(albedo), self._own + _RIGID
        size = common + len(states) * each
        prior, value = np.zeros(size), np.zeros(size)
        prior[:common], value[:common] = 1, np.concatenate([shape[:free], albedo])
        for number, state in enumerate(states):
            place = slice(common + number * each, common + number * each + self._own)
            prior[place], value[place] = 1 / self._deviation**2, state.free
        normal, gradient = np.diag(prior), -prior * value
        for number, state in enumerate(states):
            first = common + number * each
            columns = np.r_[:free, first : first + each]
            jacobian, error, weight = self._reprojection(state, shape, free)
            normal[np.ix_(columns, columns)] += jacobian.T @ (jacobian * weight[:, None])
            gradient[columns] += jacobian.T @ (weight * error)
            if len(albedo) and state.face.picture is not None:
                left, right = self._shading(state, shape, albedo)
                normal[:common, :common] += left
                gradient[:common] += right
        step = np.linalg.solve(normal + _RIDGE * np.eye(size) * np.trace(normal) / size, gradient)
        for number, state in enumerate(states):
            _move(state, step[common + number * each : common + (number + 1) * each])
        shape = shape + step[:free] if free else shape
        return float(np.abs(step).max()), shape, albedo + step[free:common]

    def _start(self, face: SeenFace, shape: np.ndarray, start: FittedPoints | None) -> _Photo:
        """The head placed by the similarity onto the points with the depths that the network guesses."""
        free, yaw = np.zeros(self._own), 0.0
        if start is not None:
            free = np.concatenate([start.expression, start.jaw])
            yaw = view_of(Rotation.from_rotvec(start.head).as_matrix())
        still, _ = _posed(self.layer, self._points_seen_from(round(yaw))[0], shape, free)
        onto = fit_similarity(still, face.points * Z_FLIPPED)
        # the layer turns the head about its root
        shift = onto.scale * (onto.rotation @ self._root - self._root) + onto.translation
        return _Photo(face, onto.rotation, onto.scale, shift, free)

    def _points_seen_from(self, yaw: int) -> tuple[SkinnedPoints, np.ndarray]:
        """The 468 points on a head turned by whole degrees, and (468,) their spread."""
        if self._at_yaw is None or self._at_yaw[0] != yaw:
            corners, weights, spread = self.embedding.at(yaw, self._faces)
            self._at_yaw = yaw, self.layer.skinned_points(corners, weights), spread
        return self._at_yaw[1:]

    def _reprojection(
        self, state: _Photo, shape: np.ndarray, free_shape: int
    ) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """(3 N, columns) derivatives of the points in metres by identity, expression, jaw, rotation, log of the scale
        and shift; (3 N,) errors in metres and (3 N,) weights.
        """
        points, spread = self._points_seen_from(round(view_of(state.turn)))
        still, inner = _posed(self.layer, points, shape, state.free)
        inner = inner[len(shape) - free_shape :]  # all of the identity, or none of it
        turned = (still - self._root) @ state.turn.T + self._root
        count = len(turned)
        jacobian = np.zeros((count, 3, len(inner) + _RIGID))
        jacobian[:, :, : len(inner)] = np.einsum("knd,rd->nrk", inner, state.turn, optimize=True)
        for axis in range(3):
            jacobian[:, :, len(inner) + axis] = np.cross(np.eye(3)[axis], turned - self._root)
        jacobian[:, :, len(inner) + 3] = turned
        jacobian[:, 0, len(inner) + 4] = jacobian[:, 1, len(inner) + 5] = 1
        error = (state.seen - state.shift) / state.scale - turned
        across = (error[:, :2] ** 2).sum(axis=1)
        variance = spread**2 + _SEEN**2
        weight = (_FREEDOM + 2) / (_FREEDOM + across / variance) / _ALIKE
        depth = weight / DEPTH_DEVIATION**2
        error[:, 2] -= (depth * error[:, 2]).sum() / depth.sum()
        jacobian[:, 2] -= (depth[:, None] * jacobian[:, 2]).sum(axis=0) / depth.sum()
        precision = np.stack([weight / variance, weight / variance, depth], axis=1)
        return jacobian.reshape(3 * count, -1), error.ravel(), precision.ravel()

    def _shading(self, state: _Photo, shape: np.ndarray, albedo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normal equations in the columns identity and albedo: cast shadows and wrinkles shall not turn the head."""
        assert self.skin is not None and state.face.picture is not None and state.face.crop is not None
        still, inner = _posed(self.layer, self._skin_points, shape, state.free)
        found, crop = self._fitted(state, shape), state.face.crop
        pixels = crop.to_crop(found.in_photo(_vertices(self.layer, found)))
        face = ShadedFace(state.face.picture, pixels, crop.scale * state.scale, still, inner[: len(shape)], state.turn)
        return self.skin.equations(face, albedo)

    def _fitted(self, state: _Photo, shape: np.ndarray) -> FittedPoints:
        expression, jaw = np.split(state.free, [self.layer.num_expression])
        head = Rotation.from_matrix(state.turn).as_rotvec()
        return FittedPoints(shape, expression, head, jaw, state.scale, state.shift[:2] * [1, -1])


def view_of(turn: np.ndarray) -> float:
    """Yaw in degrees, to the head's own left, from which the camera sees a head turned by (3, 3), whatever its roll."""
    return float(np.degrees(np.arctan2(-turn[2, 0], turn[2, 2])))


def _vertices(layer: FlameLayer, found: FittedPoints) -> np.ndarray:
    """(V, 3) of a fit, posed."""
    rows = {
        "shape": found.identity,
        "expression": found.expression,
        "global_pose": found.head,
        "jaw_pose": found.jaw,
    }
    with torch.no_grad():
        return layer(**{name: torch.as_tensor(value)[None] for name, value in rows.items()}).vertices[0].numpy()


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
