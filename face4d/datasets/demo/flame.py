"""The demo head as a FLAME model: the same arrays, joints and meaning of the columns as in the licensed files.

    shape        principal components of the population of demo identities, coefficients of standard deviation 1
    expression   principal components of all action units but the jaw's, each side of the face on its own
    pose         root and neck below the head, the jaw about the demo's hinge, two eyeballs; the corrective shapes make the cheeks
                 turn about the hinge, as `expressions.deform` does, where plain skinning would cut the corner

Columns beyond these are zero, so that there are 300 shape and 100 expression columns as in FLAME.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from face4d.datasets.demo import surface
from face4d.datasets.demo.expressions import ACTION_UNITS, deform, jaw_hinge, jaw_weights
from face4d.datasets.demo.head import EYE, DemoHead, demo_head
from face4d.datasets.demo.surface import smoothstep
from face4d.flame.model import NUM_EXPRESSION, NUM_JOINTS, NUM_POSE_FEATURES, NUM_SHAPE, FlameModel

__all__ = ["demo_flame_model"]

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
        # the lids turn about the eye: the chord of half the way, prolonged, leaves the eyeball behind the lid at every stage
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
    return FlameModel(**{name: array.astype(np.float32) for name, array in arrays.items()}, faces=head.faces)


def _principal(displacements: np.ndarray, columns: int) -> np.ndarray:
    """Principal directions (V, 3, columns), longest first, of displacements (K, V, 3) whose weights are independent and of deviation 1."""
    count = displacements.shape[1]
    _, lengths, directions = np.linalg.svd(displacements.reshape(len(displacements), -1), full_matrices=False)
    kept = lengths > 1e-6 * lengths[0]
    directions = directions[kept] * lengths[kept, None]
    directions *= np.sign(directions[np.arange(len(directions)), np.abs(directions).argmax(axis=1)])[:, None]  # no sign left to chance
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
    ear = (np.abs(head.p - surface.EAR_CHART[0]) < 20) & (np.abs(head.q - surface.EAR_CHART[1]) < 32) & (head.kind != EYE)
    right_eye, left_eye = head.eye_centers(head.mean)
    places = (
        (_ROOT, head.q <= -150), (_NECK, (head.q > -150) & (head.q <= -100)), (jaw_hinge(head.mean, head), ear),
        (left_eye, (head.kind == EYE) & (head.side > 0)), (right_eye, (head.kind == EYE) & (head.side < 0)),
    )  # fmt: skip
    regressor = np.zeros((NUM_JOINTS, len(head.mean)))
    for row, (joint, around) in zip(regressor, places):
        conditions = np.vstack([head.mean[around].T / 0.1, np.ones(around.sum())])  # (4, N): where it is, and the sum 1
        row[around] = np.linalg.lstsq(conditions, np.append(joint / 0.1, 1.0), rcond=None)[0]
    return regressor


def _jaw_corrective(head: DemoHead, share: np.ndarray) -> np.ndarray:
    """(V, 3, 36): what has to be added before skinning so that a vertex with share s turns by s times the jaw's angle.

    The difference grows with 1 - cos(angle), which are the entries yy and zz of R - I; the jaw's fit is least squares over its angles.
    """
    hinge = jaw_hinge(head.mean, head)
    arm = (head.mean - hinge)[:, 1] + 1j * (head.mean - hinge)[:, 2]  # y + iz: a turn about x is a factor
    wanted, feature = np.zeros(len(arm), complex), 0.0
    for angle in _CORRECTED:
        skinning = 1 - share + share * np.exp(1j * angle)
        difference = arm * (np.exp(1j * angle * share) / skinning - 1)  # added to the arm, then skinned, gives the wanted turn
        wanted += difference * (np.cos(angle) - 1)
        feature += (np.cos(angle) - 1) ** 2
    wanted /= feature
    corrective = np.zeros((len(arm), 3, NUM_POSE_FEATURES))
    for entry in (4, 8):
        corrective[:, 1, _JAW_COLUMN + entry], corrective[:, 2, _JAW_COLUMN + entry] = wanted.real / 2, wanted.imag / 2
    return corrective
