"""What the shading of the skin in a photo says of a face: which way its surface turns.

The image model is DECA's (:mod:`face4d.render.lit`): colour = albedo times the light that nine spherical harmonics give
a normal. The light is unknown; the albedo is 1 plus a smooth field over the face for each colour, whose prior is a
Gaussian process (:mod:`face4d.flame.smooth`). Shape from shading by a face model: Blanz and Vetter, "A morphable model
for the synthesis of 3D faces", SIGGRAPH 1999.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
import torch

from face4d.flame.smooth import smooth_fields
from face4d.render.lit import light_basis, vertex_normals
from face4d.render.texture import sample
from face4d.render.zbuffer import rasterize

_FACE, _BEHIND = 0.095, 0.090  # metres about the tip of the nose, and behind it
_FOREHEAD = 0.030  # metres above the brows, where hair may begin
_NOSE, _NOSTRILS, _BROWS, _EYES, _MOUTH = (
    30,
    slice(31, 36),
    slice(17, 27),
    (slice(36, 42), slice(42, 48)),
    slice(48, 68),
)
_AROUND = ((_BROWS, 0.010), (slice(36, 48), 0.010), (_NOSTRILS, 0.005), (_MOUTH, 0.006))  # metres that are no skin
_LENGTH, _DEVIATION, _FIELDS = 0.020, 0.10, 40  # of the albedo: metres, share, fields of each colour
_INDEPENDENT, _AT_MOST = 275, 0.5  # of the skin's vertices err independently: so many, and no larger a share
_LEAST_NOISE = 0.02  # of the mean colour
_FACING = 0.3  # least cosine between skin and viewer
_HIDDEN = 0.004  # metres behind the surface that the picture shows
_ROUNDS = 5  # of the robust estimate of the light
_BORDER = 2  # pixels of the picture that are not looked at
_SMALL, _MOVE = 1e-4, 0.1  # steps of differences: of normals, and of coefficients in single precision


class ShadedFace(NamedTuple):
    """A face in a picture, as the fit has it at present.

    Attributes:
        picture: (S, S, 3) 0..1.
        pixels: (V, 3) its vertices in the picture, depth in the same unit away from the viewer.
        unit: pixels per metre.
        still: (N, 3) the vertices of :attr:`SkinShading.vertices`, the head not turned, metres.
        moves: (C, N, 3) their derivatives.
        turn: (3, 3) of the head.
    """

    picture: np.ndarray
    pixels: np.ndarray
    unit: float
    still: np.ndarray
    moves: np.ndarray
    turn: np.ndarray


class SkinShading:
    """The skin of a face model.

    Args:
        template: (V, 3) metres.
        landmarks: (68, 3) of it.
        faces: (F, 3).

    Attributes:
        vertices: (N,) skin and the vertices around it.
        num_albedo: numbers that describe an albedo.
    """

    def __init__(self, template: np.ndarray, landmarks: np.ndarray, faces: np.ndarray) -> None:
        skin = skin_vertices(template, landmarks)
        ring = faces[np.isin(faces, skin).any(axis=1)]
        self.vertices, corners = np.unique(ring, return_inverse=True)
        self._faces, self._ring = faces, torch.as_tensor(corners.reshape(-1, 3))
        self._skin, self._rows = skin, np.searchsorted(self.vertices, skin)
        self._fields = _DEVIATION * smooth_fields(template, landmarks, length=_LENGTH, count=_FIELDS)[skin]
        self.num_albedo = 3 * self._fields.shape[1]

    def equations(self, face: ShadedFace, albedo: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
        """Normal equations (K, K), (K,) of a Gauss-Newton step, the light eliminated, in the columns of ``moves`` and
        the albedo (``num_albedo``). Zero where hardly any skin is seen.

        Args:
            face: its present state.
            albedo: (num_albedo,) present coefficients.
        """
        columns = len(face.moves) + self.num_albedo
        still, moves = (torch.as_tensor(part, dtype=torch.float32) for part in (face.still, face.moves))
        normals = vertex_normals(still[None], self._ring)[0, self._rows]  # (K, 3)
        seen = self._seen(face, normals.numpy() @ face.turn.T)
        if seen.sum() < len(self._skin) / 10:
            return np.zeros((columns, columns)), np.zeros(columns)
        nearby = vertex_normals(still + _MOVE * moves, self._ring)[:, self._rows[seen]]
        turning = ((nearby - normals[seen]) / _MOVE).numpy() @ face.turn.T  # (C, K, 3)
        normal = normals[seen].double().numpy() @ face.turn.T
        colour = sample(face.picture, face.pixels[self._skin[seen], :2])  # (K, 3)
        fields = self._fields[seen]
        tint = 1 + np.stack([fields @ part for part in np.split(albedo, 3)], axis=1)  # (K, 3)
        basis, slope = _basis(normal)
        light, weight = _robust_light(colour, basis, tint)
        shading = basis @ light  # (K, 3)
        error = colour - tint * shading
        by_normal = np.einsum("kbd,bc->kcd", slope, light) * tint[..., None]
        by_move = np.einsum("kcd,mkd->kcm", by_normal, turning, optimize=True)
        count = len(colour)
        by_albedo, by_light = (np.zeros((count, 3, 3, part.shape[1])) for part in (fields, basis))
        for channel in range(3):
            by_albedo[:, channel, channel] = fields * shading[:, channel, None]
            by_light[:, channel, channel] = basis * tint[:, channel, None]
        jacobian = np.concatenate([by_move, by_albedo.reshape(count, 3, -1)], axis=2).reshape(3 * count, columns)
        lamps = by_light.reshape(3 * count, -1)
        noise = max(1.48 * float(np.median(np.abs(error))), _LEAST_NOISE * float(colour.mean()), 1e-3)
        each = np.repeat(weight * min(_INDEPENDENT / len(self._skin), _AT_MOST) / noise**2, 3)
        weighted, crossed = jacobian * each[:, None], (lamps * each[:, None]).T
        held = crossed @ lamps + 1e-6 * np.eye(lamps.shape[1])
        answer = np.linalg.solve(held, np.column_stack([crossed @ jacobian, crossed @ error.ravel()]))
        across = lamps.T @ weighted
        return weighted.T @ jacobian - across.T @ answer[:, :-1], weighted.T @ error.ravel() - across.T @ answer[:, -1]

    def _seen(self, face: ShadedFace, normals: np.ndarray) -> np.ndarray:
        """(K,) bool: skin that the picture shows, turned to the viewer."""
        size = len(face.picture)
        _, _, depth = rasterize(face.pixels, self._faces, size, size)
        place = np.rint(face.pixels[self._skin, :2]).astype(int)
        inside = ((place >= _BORDER) & (place < size - _BORDER)).all(axis=1)
        column, row = np.clip(place, 0, size - 1).T
        behind = np.abs(depth[row, column] - face.pixels[self._skin, 2]) > _HIDDEN * face.unit
        return inside & ~behind & (normals[:, 2] > _FACING)


def skin_vertices(template: np.ndarray, landmarks: np.ndarray) -> np.ndarray:
    """Numbers of the vertices of the face that are skin for sure: no brows, eyes, nostrils, lips or hair.

    Args:
        template: (V, 3) metres, looking along +z.
        landmarks: (68, 3).
    """
    nose = landmarks[_NOSE]
    skin = (np.linalg.norm(template - nose, axis=1) < _FACE) & (template[:, 2] > nose[2] - _BEHIND)
    skin &= template[:, 1] < landmarks[_BROWS, 1].max() + _FOREHEAD
    for group, room in _AROUND:
        skin &= np.linalg.norm(template[:, None] - landmarks[group], axis=2).min(axis=1) > room
    for eye in _EYES:
        skin &= np.linalg.norm(template - landmarks[eye].mean(axis=0), axis=1) > 0.020
    skin &= np.linalg.norm(template - landmarks[_MOUTH].mean(axis=0), axis=1) > 0.012
    return np.flatnonzero(skin)


def _basis(normals: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The harmonics (K, 9) of normals (K, 3), and their derivatives (K, 9, 3)."""
    offset = torch.as_tensor(_SMALL * np.eye(3))[:, None]
    points = torch.as_tensor(normals)
    basis = light_basis(points)
    slope = (light_basis(points + offset) - light_basis(points - offset)) / (2 * _SMALL)  # (3, K, 9)
    return basis.numpy(), slope.permute(1, 2, 0).numpy()


def _robust_light(colour: np.ndarray, basis: np.ndarray, tint: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The light (9, 3) that explains colours (K, 3), and how far each is believed (K,), 0..1."""
    weight = np.ones(len(colour))
    for _ in range(_ROUNDS):
        root = np.sqrt(weight)
        columns = (
            np.linalg.lstsq(basis * (root * shade)[:, None], root * value, rcond=None)[0]
            for shade, value in zip(tint.T, colour.T)
        )
        light = np.stack(list(columns), axis=1)
        away = np.linalg.norm(colour - tint * (basis @ light), axis=1)
        weight = 1 / (1 + (away / (2 * np.median(away) + 1e-6)) ** 2)
    return light, weight
