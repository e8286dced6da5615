"""The demo head in the files of FLAME: its 68 landmarks as embeddings, and its model arrays.

51 static points (brows, nose, eyes, mouth in the iBUG order, subject's right side first) are places on the chart.
17 contour points run from the subject's right ear over the chin to the left ear. They depend on the head's yaw: on
the side that turns away they slide forward to the silhouette, on the other side they stay on the jaw line. Positive
yaw turns the face toward +x, so the points of the +x side slide.

The demo head as a FLAME model: the same arrays, joints and meaning of the columns as in the licensed files.

    shape        principal components of the population of demo identities, coefficients of standard deviation 1
    expression   principal components of all action units but the jaw's, each side of the face on its own
    pose         root and neck below the head, the jaw about the demo's hinge, two eyeballs; the corrective shapes
                 make the cheeks turn about the hinge, as `expressions.deform` does, where plain skinning would cut the
                 corner

Columns beyond these are zero, so that there are 300 shape and 100 expression columns as in FLAME.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import lru_cache
from typing import Any

import numpy as np

from face4d.demo import surface
from face4d.demo.expressions import ACTION_UNITS, deform, jaw_hinge, jaw_weights
from face4d.demo.head import EYE, SKIN, DemoHead, demo_head
from face4d.demo.surface import smoothstep
from face4d.demo.topology import half_head, mouth_chart
from face4d.flame.model import NUM_EXPRESSION, NUM_JOINTS, NUM_POSE_FEATURES, NUM_SHAPE, FlameModel, affine_row
from face4d.landmarks import LandmarkEmbedding

__all__ = ["YAW_DEGREES", "demo_embedding", "demo_flame_model", "dynamic_embedding", "static_embedding"]

# row of the dynamic table -> yaw in degrees: 0..39, then -1..-39
YAW_DEGREES = np.concatenate([np.arange(40), -np.arange(1, 40)])

# the half x >= 0, inside out; contour from the ear to the chin
_BROW = [(9.5, 44.0), (20, 47.0), (31.5, 48.3), (43, 47.0), (53, 42.5)]
_NOSE_MIDDLE = [(0, 28), (0, 17), (0, 5), (0, -10.0)]
_NOSE_BASE = [(0, -22.8), (6.8, -22.0), (13.5, -20.5)]
_CONTOUR = [(88, 19), (86, 0), (84, -20), (81, -39), (74, -56), (63, -70), (45, -80), (23, -87), (0, -90)]
_NEAR = 3.0  # around a chart point: triangles that are looked at first
_SLIDE_TO = 26.0  # silhouette points stay at p >= this, beside nose and mouth


def static_embedding(head: DemoHead) -> tuple[np.ndarray, np.ndarray]:
    """(51,) face indices and (51, 3) barycentric weights."""
    points: list[tuple[int, Sequence[float]]] = [(-1, c) for c in _BROW[::-1]]
    points += [(1, c) for c in _BROW]
    points += [(1, c) for c in _NOSE_MIDDLE]
    points += [(-1, c) for c in _NOSE_BASE[:0:-1]] + [(1, c) for c in _NOSE_BASE]
    lids = surface.lid_curve(np.deg2rad([0, 62, 118, 180, 242, 298]))
    outer, upper_outer, upper_inner, inner, lower_inner, lower_outer = map(tuple, lids)
    points += [(-1, c) for c in (outer, upper_outer, upper_inner, inner, lower_inner, lower_outer)]
    points += [(1, c) for c in (inner, upper_inner, upper_outer, outer, lower_outer, lower_inner)]
    above = np.array([0.62, 0.22, 0.0])
    below = np.array([0.0, 0.26, 0.64])
    upper = [tuple(c) for c in mouth_chart(above, surface.upper_lip_height(above))]
    lower = [tuple(c) for c in mouth_chart(below, -surface.lower_lip_height(below))]
    corner = (surface.MOUTH_CORNER, surface.MOUTH_Q)
    points += [(-1, corner), (-1, upper[0]), (-1, upper[1]), (1, upper[2]), (1, upper[1]), (1, upper[0]), (1, corner)]
    points += [(1, lower[2]), (1, lower[1]), (1, lower[0]), (-1, lower[1]), (-1, lower[2])]
    inside = np.array([0.94, 0.32, 0.0])
    upper = [tuple(c) for c in mouth_chart(inside, np.zeros(3))]
    lower = [tuple(c) for c in mouth_chart(inside, -np.zeros(3))]
    points += [(-1, upper[0]), (-1, upper[1]), (1, upper[2]), (1, upper[1]), (1, upper[0])]
    points += [(1, lower[1]), (1, lower[2]), (-1, lower[1])]
    sides, chart = np.array([s for s, _ in points]), np.array([c for _, c in points], dtype=float)
    return locate(head, sides, chart)


def dynamic_embedding(head: DemoHead) -> tuple[np.ndarray, np.ndarray]:
    """(79, 17) face indices and (79, 17, 3) weights, rows as in `YAW_DEGREES`."""
    contour = np.array(_CONTOUR, dtype=float)
    steps = np.linspace(0, 1, 81)
    start, forward = contour[:8], np.maximum(contour[:8, 0] - _SLIDE_TO, 0)
    p = start[:, :1] - forward[:, None] * steps  # (8, 81): along each level from the jaw line to the front
    q = np.repeat(start[:, 1:], steps.size, axis=1)
    for _ in range(4):  # bend the levels so that they stay at one height in space
        along = surface.skin_surface(p.ravel(), q.ravel()).reshape(8, steps.size, 3)
        q = q + (along[:, :1, 1] - along[:, :, 1])
    along = surface.skin_surface(p.ravel(), q.ravel()).reshape(8, steps.size, 3)
    face_index, weights = np.zeros((79, 17), dtype=np.int64), np.zeros((79, 17, 3))
    for row, degrees in enumerate(YAW_DEGREES):
        yaw = np.deg2rad(abs(degrees))
        across = along[:, :, 0] * np.cos(yaw) + along[:, :, 2] * np.sin(yaw)  # to the right of the picture
        chosen = np.argmax(across, axis=1) if degrees else np.zeros(8, dtype=int)
        away = contour.copy()
        away[:8, 0], away[:8, 1] = p[np.arange(8), chosen], q[np.arange(8), chosen]
        away_side = 1 if degrees >= 0 else -1
        right, left = (contour, away) if away_side > 0 else (away, contour)
        chart = np.concatenate([right, left[7::-1]])
        sides = np.concatenate([-np.ones(8), [1], np.ones(8)])
        face_index[row], weights[row] = locate(head, sides, chart)
    return face_index, weights


@lru_cache(maxsize=3)
def demo_embedding(level: int = 0) -> LandmarkEmbedding:
    """The 68 landmarks of ``demo_head(level)``, the contour for all yaws."""
    head = demo_head(level)
    (inner, shares), (contour, weights) = static_embedding(head), dynamic_embedding(head)
    return LandmarkEmbedding(
        np.concatenate([contour[0], inner]),  # row 0: a face that looks ahead
        np.concatenate([weights[0], shares]),
        head.faces,
        len(head.mean),
        contour,
        weights,
    )


def locate(head: DemoHead, sides: np.ndarray, chart: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Faces (N,) and barycentric weights (N, 3) of chart points (N, 2), p >= 0 on both sides; side -1 takes the
    mirrored face of the half x < 0.
    """
    half = half_head(head.level)
    skin = np.flatnonzero((half.kind[half.faces] == SKIN).all(axis=1))
    corners = half.chart[half.faces[skin]]  # (F, 3, 2)
    low, high = corners.min(axis=1) - _NEAR, corners.max(axis=1) + _NEAR
    face_index, weights = np.zeros(len(chart), dtype=np.int64), np.zeros((len(chart), 3))
    for number, (side, point) in enumerate(zip(sides, chart)):
        near = np.flatnonzero(((low <= point) & (point <= high)).all(axis=1))
        found, bary, distance = _nearest_triangle(corners[near], point)
        if distance > _NEAR:
            near = np.arange(len(skin))
            found, bary, _ = _nearest_triangle(corners, point)
        face_index[number] = skin[near[found]] + (len(half.faces) if side < 0 else 0)
        weights[number] = bary[[0, 2, 1]] if side < 0 else bary
    return face_index, weights


def _nearest_triangle(corners: np.ndarray, point: np.ndarray) -> tuple[int, np.ndarray, float]:
    """The triangle of (F, 3, 2) in which a point (2,) lies, or the nearest; its weights (3,), and how far off it is."""
    if not len(corners):
        return 0, np.zeros(3), np.inf
    a, b, c = corners[:, 0], corners[:, 1], corners[:, 2]
    inside = (
        np.stack([_cross(c - b, point - b), _cross(a - c, point - c), _cross(b - a, point - a)], axis=1)
        / _cross(b - a, c - a)[:, None]
    )
    clipped = np.clip(inside, 0, None)  # points on a curved border lie just outside their triangle
    clipped /= clipped.sum(axis=1, keepdims=True)
    away = np.sum((np.einsum("fk,fkd->fd", clipped, corners) - point) ** 2, axis=1).round(9)
    found = int(np.argmin(away))
    return found, clipped[found], float(np.sqrt(away[found]))


def _cross(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return a[..., 0] * b[..., 1] - a[..., 1] * b[..., 0]


_ROOT, _NECK = np.array([0.0, -0.150, -0.046]), np.array([0.0, -0.108, -0.052])  # metres, mean head
_IDENTITY_DEVIATION = 1.0  # of `identity_weights`, nearly
_UNIT_DEVIATION = 0.5  # action units run from 0 to about 1
_JAW_COLUMN = 9  # pose features: neck, jaw, left eye, right eye
_CORRECTED = np.deg2rad(np.arange(5.0, 31.0, 5.0))  # jaw angles at which the corrective shape is fitted


@lru_cache(maxsize=3)
def demo_flame_model(level: int = 0) -> FlameModel:
    """The head of `demo_head(level)` as a FLAME model, float32, metres."""
    head = demo_head(level)
    weights = _skin_weights(head)
    units = []
    for number, unit in enumerate(ACTION_UNITS):
        if unit == "jaw_open":
            continue
        # the lids turn about the eye: the chord of half the way, prolonged, leaves the eyeball behind the lid at every
        # stage
        strength = 0.5 if unit.startswith("lid") or unit == "squint" else 1.0
        for side in (0, 1):
            weight = np.zeros((2, len(ACTION_UNITS)))
            weight[side, number] = strength
            units.append((deform(head, head.mean, weight) - head.mean) / strength)
    arrays = {
        "template": head.mean,
        "shape_directions": _principal(head.modes * _IDENTITY_DEVIATION, NUM_SHAPE),
        "expression_directions": _principal(np.stack(units) * _UNIT_DEVIATION, NUM_EXPRESSION),
        "pose_directions": _jaw_corrective(head, weights[:, 2]),
        "joint_regressor": _joint_regressor(head),
        "skin_weights": weights,
    }
    floats: dict[str, Any] = {name: array.astype(np.float32) for name, array in arrays.items()}
    return FlameModel(**floats, faces=head.faces)


def _principal(displacements: np.ndarray, columns: int) -> np.ndarray:
    """Principal directions (V, 3, columns), longest first, of displacements (K, V, 3) whose weights are independent and
    of deviation 1.
    """
    count = displacements.shape[1]
    _, lengths, directions = np.linalg.svd(displacements.reshape(len(displacements), -1), full_matrices=False)
    kept = lengths > 1e-6 * lengths[0]
    directions = directions[kept] * lengths[kept, None]
    # no sign left to chance
    directions *= np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])[:, None]
    padded = np.zeros((columns, 3 * count))
    padded[: len(directions)] = directions
    return padded.reshape(columns, count, 3).transpose(1, 2, 0)


def _skin_weights(head: DemoHead) -> np.ndarray:
    """(V, 5): root below, neck from the middle of the neck upwards, jaw as in the expressions, each eyeball its own."""
    jaw = jaw_weights(head)
    above = smoothstep(head.q, -168, -96)
    eye = head.kind == EYE
    weights = np.zeros((len(head.mean), NUM_JOINTS))
    weights[:, 2] = np.minimum(jaw, above)
    weights[:, 1] = above - weights[:, 2]
    weights[:, 0] = 1 - above
    for joint, side in ((3, 1), (4, -1)):
        weights[eye & (head.side == side)] = np.eye(NUM_JOINTS)[joint]
    return weights


def _joint_regressor(head: DemoHead) -> np.ndarray:
    """(5, V): each joint an affine combination of the vertices around it, as even as can be."""
    ear = (
        (np.abs(head.p - surface.EAR_CHART[0]) < 20) & (np.abs(head.q - surface.EAR_CHART[1]) < 32) & (head.kind != EYE)
    )
    right_eye, left_eye = head.eye_centers(head.mean)
    places = (
        (_ROOT, head.q <= -150), (_NECK, (head.q > -150) & (head.q <= -100)), (jaw_hinge(head.mean, head), ear),
        (left_eye, (head.kind == EYE) & (head.side > 0)), (right_eye, (head.kind == EYE) & (head.side < 0)),
    )  # fmt: skip
    regressor = np.zeros((NUM_JOINTS, len(head.mean)))
    for row, (joint, around) in zip(regressor, places):
        row[around] = affine_row(head.mean[around], joint)
    return regressor


def _jaw_corrective(head: DemoHead, share: np.ndarray) -> np.ndarray:
    """(V, 3, 36): what has to be added before skinning so that a vertex with share s turns by s times the jaw's angle.

    The difference grows with 1 - cos(angle), which are the entries yy and zz of R - I; the jaw's fit is least squares
    over its angles.
    """
    hinge = jaw_hinge(head.mean, head)
    arm = (head.mean - hinge)[:, 1] + 1j * (head.mean - hinge)[:, 2]  # y + iz: a turn about x is a factor
    wanted, feature = np.zeros(len(arm), complex), 0.0
    for angle in _CORRECTED:
        skinning = 1 - share + share * np.exp(1j * angle)
        # added to the arm, then skinned, gives the wanted turn
        difference = arm * (np.exp(1j * angle * share) / skinning - 1)
        wanted += difference * (np.cos(angle) - 1)
        feature += (np.cos(angle) - 1) ** 2
    wanted /= feature
    corrective = np.zeros((len(arm), 3, NUM_POSE_FEATURES))
    for entry in (4, 8):
        corrective[:, 1, _JAW_COLUMN + entry], corrective[:, 2, _JAW_COLUMN + entry] = wanted.real / 2, wanted.imag / 2
    return corrective
