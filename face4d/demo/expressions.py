"""What muscles do to the demo head: action units, and the labels of CoMA and Florence 4D composed of them.

An action unit is a smooth displacement in millimetres, written on the chart of the head, per side of the
face; the jaw and the eyelids turn about axes instead. Everything is scaled to the subject's own mouth and
placed on the subject's own eyes and jaw hinge. After all units are added, lips that would pass through each
other are pushed apart, so a closed mouth stays closed and nothing interpenetrates.

Names follow the muscles of the Facial Action Coding System (Ekman and Friesen) where there is one.
"""

from __future__ import annotations

from functools import lru_cache

import numpy as np

from face4d.demo import surface
from face4d.demo.head import EYE, POCKET, TEETH, DemoHead, demo_head
from face4d.demo.surface import bump, smoothstep

__all__ = [
    "ACTION_UNITS",
    "COMA_EXPRESSIONS",
    "FLORENCE_EXPRESSIONS",
    "JAW_DEGREES",
    "deform",
    "jaw_hinge",
    "jaw_weights",
    "weights_of",
]

JAW_DEGREES = 25.0  # jaw_open = 1
# Metres, mean head: below the ear canal. A wide opening jaw also glides forward in its joint; the axis of the whole
# movement lies lower than the joint itself.
_HINGE = np.array([0.0, -16.0, -24.0]) * 1e-3

ACTION_UNITS = (
    "brow_inner_up", "brow_outer_up", "brow_lower", "lid_close", "lid_widen", "squint", "cheek_raise", "nose_wrinkle",
    "upper_lip_raise", "smile", "frown", "lower_lip_down", "stretch", "pucker", "funnel", "press", "chin_raise",
    "mouth_shift", "cheek_suck", "cheek_puff", "jaw_open", "jaw_shift",
)  # fmt: skip

# Weights at the apex; a pair is (subject's right, subject's left).
COMA_EXPRESSIONS: dict[str, dict[str, float | tuple[float, float]]] = {
    "bareteeth": {
        "upper_lip_raise": 0.8,
        "lower_lip_down": 0.95,
        "stretch": 0.9,
        "smile": 0.25,
        "nose_wrinkle": 0.45,
        "squint": 0.3,
        "cheek_raise": 0.3,
    },
    "cheeks_in": {"cheek_suck": 1.15, "pucker": 0.55, "jaw_open": 0.06},
    "eyebrow": {"brow_inner_up": 1.1, "brow_outer_up": 1.1, "lid_widen": 0.75},
    "high_smile": {
        "smile": 1.15,
        "cheek_raise": 1.0,
        "squint": 0.65,
        "upper_lip_raise": 0.35,
        "lower_lip_down": 0.1,
        "jaw_open": 0.06,
    },
    "lips_back": {"stretch": 1.3, "press": 0.9, "smile": 0.2},
    "lips_up": {"chin_raise": 1.15, "pucker": 0.3, "upper_lip_raise": 0.55, "frown": 0.25},
    "mouth_down": {"frown": 1.15, "chin_raise": 0.35, "lower_lip_down": 0.35, "brow_inner_up": 0.25},
    "mouth_extreme": {
        "jaw_open": 1.0,
        "upper_lip_raise": 0.45,
        "lower_lip_down": 0.45,
        "stretch": 0.35,
        "brow_outer_up": 0.4,
        "brow_inner_up": 0.3,
        "lid_widen": 0.5,
    },
    "mouth_middle": {"pucker": 1.15, "press": 0.25, "squint": 0.1},
    "mouth_open": {"jaw_open": 0.55, "funnel": 0.30},
    "mouth_side": {"mouth_shift": 1.35, "smile": (0.0, 0.45), "jaw_shift": 0.35, "pucker": 0.25},
    "mouth_up": {"upper_lip_raise": 1.0, "nose_wrinkle": 1.0, "funnel": 0.35, "brow_lower": 0.3, "squint": 0.25},
}
FLORENCE_EXPRESSIONS: dict[str, dict[str, float | tuple[float, float]]] = {
    "Cheeky": {
        "smile": (0.95, 0.45),
        "lid_close": (0.9, 0.0),
        "cheek_raise": (0.9, 0.2),
        "jaw_open": 0.22,
        "brow_outer_up": (0.0, 0.6),
        "lower_lip_down": 0.3,
    },
    "Confused": {
        "brow_lower": (0.9, 0.0),
        "brow_outer_up": (0.0, 1.1),
        "brow_inner_up": (0.0, 0.5),
        "mouth_shift": 0.55,
        "press": 0.5,
        "squint": (0.5, 0.1),
        "frown": (0.35, 0.0),
    },
    "Cool": {"smile": (0.75, 0.05), "squint": 0.75, "brow_outer_up": (0.75, 0.0), "chin_raise": 0.2, "lid_close": 0.2},
    "Displeased": {"frown": 0.75, "chin_raise": 0.9, "brow_lower": 0.55, "press": 0.45, "nose_wrinkle": 0.25},
    "Happy": {
        "smile": 1.0,
        "cheek_raise": 0.8,
        "jaw_open": 0.3,
        "upper_lip_raise": 0.4,
        "squint": 0.4,
        "brow_outer_up": 0.35,
        "brow_inner_up": 0.25,
    },
    "Kissy": {"pucker": 1.25, "lid_close": 0.45, "brow_inner_up": 0.45, "brow_outer_up": 0.3},
    "Moody": {"brow_lower": 0.85, "cheek_puff": 0.85, "pucker": 0.25, "frown": 0.2, "lid_close": 0.25},
    "Rage": {
        "brow_lower": 1.25,
        "nose_wrinkle": 0.9,
        "upper_lip_raise": 0.9,
        "lower_lip_down": 0.8,
        "stretch": 0.8,
        "jaw_open": 0.35,
        "lid_widen": 0.4,
        "squint": 0.3,
    },
    "Sad2": {
        "brow_inner_up": 1.25,
        "brow_lower": 0.35,
        "frown": 0.95,
        "lid_close": 0.35,
        "chin_raise": 0.45,
        "lower_lip_down": 0.1,
    },
    "Scream": {
        "jaw_open": 0.95,
        "funnel": 0.9,
        "brow_inner_up": 1.0,
        "brow_outer_up": 0.7,
        "lid_widen": 1.0,
        "cheek_suck": 0.35,
    },
}


def weights_of(label: str) -> np.ndarray:
    """Apex weights (2, A) of a label in either spelling (`mouth-open`, `mouth_open`): row 0 subject's right, row 1
    left.

    Raises KeyError naming the known labels.
    """
    known = {**COMA_EXPRESSIONS, **FLORENCE_EXPRESSIONS}
    name = label.replace("-", "_")
    if name not in known:
        raise KeyError(f"{label}: expected one of {', '.join(sorted(known))}")
    weights = np.zeros((2, len(ACTION_UNITS)))
    for unit, value in known[name].items():
        weights[:, ACTION_UNITS.index(unit)] = value
    return weights


def jaw_hinge(neutral: np.ndarray, head: DemoHead) -> np.ndarray:
    """A point (3,) on the axis the subject's jaw turns about (parallel to x), metres: the mean head's, moved with the
    ears.
    """
    ear = (
        (np.abs(head.p - surface.EAR_CHART[0]) < 20) & (np.abs(head.q - surface.EAR_CHART[1]) < 32) & (head.kind != EYE)
    )
    moved = (neutral - head.mean)[ear].mean(axis=0)
    return _HINGE + np.array([0.0, moved[1], moved[2]])


def jaw_weights(head: DemoHead) -> np.ndarray:
    """Share (V,) of the jaw's turn that a vertex follows: 1 on chin and lower lip, 0 on the skull."""
    return _fields(head.level)["jaw"]


def deform(head: DemoHead, neutral: np.ndarray, weights: np.ndarray) -> np.ndarray:
    """The face (V, 3) in metres of a neutral face (V, 3) under action unit weights (2, A) or (A,)."""
    weights = np.asarray(weights, dtype=float)
    weights = np.broadcast_to(weights, (2, len(ACTION_UNITS)))
    if not weights.any():
        return neutral.copy()
    fields = _fields(head.level)
    scale = (neutral[fields["corner"], 0] / head.mean[fields["corner"], 0]) * 1e-3
    share = np.stack([1 - fields["left"], fields["left"]])  # (2, V)
    value = dict(zip(ACTION_UNITS, weights.T @ share))  # each (V,)
    face = neutral.copy()
    # jaw: every vertex turns about the hinge by its own share of the angle, so distances to the axis are kept
    angle = np.deg2rad(JAW_DEGREES) * value["jaw_open"] * fields["jaw"]
    face = _turn_about_x(face, jaw_hinge(neutral, head), angle)
    for unit, field in fields["units"].items():
        if weights[:, ACTION_UNITS.index(unit)].any():
            face = face + (value[unit] * scale)[:, None] * field
    closing = (
        value["lid_close"][:, None] * fields["close"]
        + value["squint"][:, None] * fields["squint"]
        - value["lid_widen"][:, None] * fields["widen"]
    )
    closing = _lids_meet(closing, fields)
    for row, center in enumerate(head.eye_centers(neutral)):
        of_eye = fields["lid"] & (head.side == (-1, 1)[row])
        face[of_eye] = _turn_about_x(face[of_eye], center, closing[of_eye, 0])
    return _separate_lips(face, fields)


def _turn_about_x(points: np.ndarray, center: np.ndarray, angle: np.ndarray) -> np.ndarray:
    """Rotate points (N, 3) about the x-parallel axis through center; positive angles move the front down."""
    y, z = points[:, 1] - center[1], points[:, 2] - center[2]
    cos, sin = np.cos(angle), np.sin(angle)
    turned = np.stack([points[:, 0], center[1] + y * cos - z * sin, center[2] + z * cos + y * sin], axis=1)
    return np.where((angle == 0)[:, None], points, turned)  # what does not turn stays to the last bit


def _lids_meet(closing: np.ndarray, fields: dict) -> np.ndarray:
    """Keep the sum of several lid movements from carrying the upper lid below the closed position."""
    limit = fields["close"][:, 0]
    upper = limit > 0
    closing = closing.copy()
    closing[upper, 0] = np.minimum(closing[upper, 0], limit[upper])
    closing[~upper, 0] = np.maximum(closing[~upper, 0], limit[~upper])
    return closing


def _separate_lips(face: np.ndarray, fields: dict) -> np.ndarray:
    """Where the upper lip line sinks below the lower one, move both to the middle, and their lips along."""
    upper, lower, order = fields["upper"], fields["lower"], fields["lip_x"]
    overlap = np.maximum(face[lower, 1] - face[upper, 1], 0)
    if not overlap.any():
        return face
    amount = np.interp(fields["signed_x"], order, overlap) / 2
    face = face.copy()
    face[:, 1] += amount * fields["lip_share"]
    touching = overlap > 0
    middle = (face[upper[touching]] + face[lower[touching]]) / 2
    face[upper[touching]] = face[lower[touching]] = middle
    return face


@lru_cache(maxsize=3)
def _fields(level: int) -> dict:
    """All that depends on the topology only."""
    head = demo_head(level)
    p, q, side = head.p, head.q, head.side.astype(float)
    pocket = head.kind == POCKET
    u, v = surface.mouth_coordinates(p, q)
    depth = np.where(pocket, head.inner[:, 2], 0)
    roof = np.where(pocket | (head.kind == TEETH), head.inner[:, 1], np.where(q >= surface.MOUTH_Q, 1.0, -1.0))
    corner_like = np.where((u >= 1 - 1e-9), 0.0, roof)  # beside the mouth there is no upper and lower
    teeth = head.kind == TEETH
    lip_line = (np.abs(v) < 1e-6) & (u <= 1 + 1e-9) & ~pocket & (head.kind != EYE) & ~teeth
    top = np.flatnonzero(lip_line & (q > surface.MOUTH_Q + 1e-9))
    bottom = np.flatnonzero(lip_line & (q < surface.MOUTH_Q - 1e-9))
    top = top[np.argsort(side[top] * p[top])]
    bottom = bottom[np.argsort(side[bottom] * p[bottom])]
    corner = int(np.flatnonzero(lip_line & (np.abs(q - surface.MOUTH_Q) < 1e-9) & (side > 0))[0])
    vv = np.where(pocket, 0.0, v)
    upper = smoothstep(vv, -4, 4) * (u > 1) + (u <= 1) * (corner_like > 0)
    lower = 1 - upper
    _, lid_distance, lid_height = surface.eye_distance(p, q)
    near_eye = (np.hypot(p - surface.EYE_CHART[0], (q - surface.EYE_CHART[1]) * 1.3) < 36) & (head.kind != EYE)
    skin = np.where(near_eye, smoothstep(lid_distance, 2.0, 10.0), 1.0) * (head.kind != EYE)
    units = _units(p, q, u, vv, side, upper, lower, depth, skin)
    for unit, field in units.items():
        field[teeth] = 0
        if unit == "jaw_shift":
            field[teeth & (head.inner[:, 1] < 0), 0] = 7.0
    lips_reach = np.exp(-((vv / 11) ** 2)) * np.exp(-((np.maximum(u - 1, 0) / 0.25) ** 2)) * (1 - depth)
    lip_share = np.where(corner_like > 0, 1, np.where(corner_like < 0, -1, 0)) * lips_reach * ~teeth
    close, squint, widen = _lid_angles(p, lid_distance, lid_height)
    lid = near_eye & (lid_distance < 11)
    return {
        "units": units, "jaw": _jaw(p, q, u, vv, roof, pocket, depth, head), "corner": corner,
        "left": smoothstep(side * p, -9, 9), "upper": top, "lower": bottom, "lip_x": side[top] * p[top],
        "signed_x": side * p, "lip_share": lip_share, "lid": lid,
        "close": close[:, None], "squint": squint[:, None], "widen": widen[:, None],
    }  # fmt: skip


def _jaw(
    p: np.ndarray,
    q: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    roof: np.ndarray,
    pocket: np.ndarray,
    depth: np.ndarray,
    head: DemoHead,
) -> np.ndarray:
    """Skinning weight of the jaw. At the corner of the mouth both lips follow half; the throat fades out."""
    arch = np.sqrt(np.clip(1 - np.clip(u, 0, 1) ** 2, 0, 1)) ** 0.9
    beside = smoothstep(v, 34, -34)
    line = 0.46 - 0.54 * np.sign(roof) * arch  # at the lips: 0 above, 1 below
    line = np.clip(line, 0, 1)
    within = np.where(roof > 0, line * np.exp(-((v / 9) ** 2)), 1 - (1 - line) * np.exp(-((v / 16) ** 2)))
    blend = smoothstep(u, 0.85, 1.75)
    weight = within * (1 - blend) + beside * blend
    weight = np.where(
        pocket, line * (1 - depth) + depth * np.where(roof > 0, 0.0, np.where(roof < 0, 0.85, 0.45)), weight
    )
    toward_ear = smoothstep(p, 106, 46)
    throat = smoothstep(q, -152, -84)
    weight = np.where(pocket, weight, weight * toward_ear * throat)
    weight = np.where(head.kind == TEETH, roof < 0, weight)
    weight = np.where(weight < 1e-3, 0, np.minimum(weight, 1))
    return np.where(head.kind == EYE, 0, weight)


def _lid_angles(p: np.ndarray, distance: np.ndarray, height: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Radians about the eye's axis, positive downwards, for closing, squinting and widening."""
    du = np.clip(p - surface.EYE_CHART[0], -surface.EYE_HALF_WIDTH, surface.EYE_HALF_WIDTH)
    opening = 1 - (du / surface.EYE_HALF_WIDTH) ** 2
    upper, lower = (surface.lid_margin_angle(du, lid * opening) for lid in (surface.LID_UP, -surface.LID_DOWN))
    whole = upper - lower
    above = height >= 0
    fade = np.where(above, smoothstep(distance, 9.5, 0.0), smoothstep(distance, 8.0, 0.0))
    close = np.where(above, 0.80 * whole, -0.195 * whole) * fade
    squint = np.where(above, 0.14 * whole, -0.34 * whole) * fade
    widen = np.where(above, 0.30 * whole, -0.10 * whole) * fade
    return close, squint, widen


def _units(
    p: np.ndarray,
    q: np.ndarray,
    u: np.ndarray,
    v: np.ndarray,
    side: np.ndarray,
    upper: np.ndarray,
    lower: np.ndarray,
    depth: np.ndarray,
    skin: np.ndarray,
) -> dict[str, np.ndarray]:
    """Displacements (V, 3) in millimetres per unit weight of all units that are not rotations."""
    q = np.where(np.abs(q - surface.MOUTH_Q) < 60, surface.MOUTH_Q + v, q)  # both lips have one line
    sign = side * smoothstep(p, 0, 6)
    fade = 1 - 0.75 * depth
    zero = np.zeros_like(p)

    def field(x: np.ndarray | float, up: np.ndarray | float, out: np.ndarray | float) -> np.ndarray:
        return np.stack([zero + x, zero + up, zero + out], axis=1)

    around_corner = bump(p, q, (p, -43), (1, 13.5)) * fade
    outside = bump(p, q, (26, 0), (12, 1e6))
    corner = np.where(p < 26, 0.03 + 0.97 * (np.minimum(p, 26) / 26) ** 1.5, outside) * around_corner  # sideways
    # up and down: the lips bend
    lift = np.where(p < 26, 0.08 + 0.92 * (np.minimum(p, 26) / 26) ** 2.6, outside) * around_corner
    lip_height = np.where(upper > 0.5, surface.upper_lip_height(u), surface.lower_lip_height(u))
    t = np.abs(v) / np.maximum(lip_height, 2.2)
    lips = np.exp(-((np.maximum(t - 0.8, 0) / 1.1) ** 2)) * np.exp(-((np.maximum(u - 0.9, 0) / 0.35) ** 2)) * fade
    across = np.exp(-0.5 * (p / 15.5) ** 2)
    wide = np.exp(-((p / 27) ** 4))
    upper_band = upper * np.exp(-((np.maximum(v - 3, 0) / 10) ** 2)) * wide * fade
    lower_band = lower * np.exp(-((np.maximum(-v - 5, 0) / 11) ** 2)) * wide * fade
    mouth = bump(p, q, (0, -44), (27, 17)) * fade
    apple = bump(p, q, (40, -8), (13, 12), -20) * skin
    fold = bump(p, q, (27, -24), (3.4, 13), 24)
    wing = bump(p, q, (14, -14), (6, 7))
    inner_brow, outer_brow = bump(p, q, (11, 45), (10, 12)), bump(p, q, (41, 46), (14, 12))
    whole_brow = bump(p, q, (18, 42), (18, 9))
    glabella = bump(p, q, (0, 40), (8, 10))
    pad = bump(p, q, (43, -40), (15, 15))
    chin = bump(p, q, (0, -74), (18, 11))
    return {
        "brow_inner_up": field(-sign * 0.8 * inner_brow, 8.5 * inner_brow, 0.6 * inner_brow) * skin[:, None],
        "brow_outer_up": field(0, 8.5 * outer_brow, 0.3 * outer_brow) * skin[:, None],
        "brow_lower": field(-sign * 3.4 * whole_brow, -6.5 * whole_brow - 2.0 * glabella,
        2.2 * whole_brow - 0.6 * glabella) * skin[:, None],
        "cheek_raise": field(sign * 0.8 * apple, 4.0 * apple, 3.4 * apple),
        "nose_wrinkle": field(sign * 1.2 * wing, 4.0 * wing + 2.2 * bump(p, q, (7, 2), (7, 12)),
        0.8 * wing + 0.8 * bump(p, q, (5, 14), (4, 5))) + field(0, 2.2 * bump(p, q, (22, -12), (7, 12)) * skin,
        1.8 * bump(p, q, (23, -8), (6, 9)) * skin - 1.4 * fold),
        "upper_lip_raise": field(0, 7.0 * upper_band, 1.8 * upper_band - 0.9 * fold) + field(0, 1.6 * wing, 0),
        "smile": field(sign * 8.2 * corner, 8.6 * lift, -4.2 * corner) + field(0, 1.6 * apple, 2.0 * apple - 1.3 * fold)
        + field(0, 1.4 * upper_band * np.exp(-((u / 0.8) ** 2)) - 1.2 * lower_band * np.exp(-((u / 0.6) ** 2)), 0),
        "frown": field(sign * 1.4 * corner, -10.0 * lift, -1.6 * corner) + field(0, -0.8 * lower_band, 0)
        - field(0, 0, 1.3 * bump(p, q, (29, -58), (4, 9), -18)),
        "lower_lip_down": field(sign * 1.0 * lower_band, -7.0 * lower_band, 1.0 * lower_band),
        "stretch": field(sign * 8.5 * corner, -1.2 * corner, -4.6 * corner) + field(0, 0, -1.2 * lips),
        "pucker": field(-side * 0.44 * np.minimum(p, 34) * mouth * 1.05, -0.20 * v * mouth,
        9.0 * lips * (0.35 + 0.65 * across) + 3.0 * mouth),
        "funnel": field(-side * 0.26 * np.minimum(p, 34) * mouth, 4.6 * (upper_band - lower_band) * across,
        7.0 * lips * (0.35 + 0.65 * across) + 2.0 * mouth),
        "press": field(0, -0.45 * np.sign(v) * np.minimum(np.abs(v), lip_height) * lips,
        -3.6 * lips * np.exp(-(((t - 0.55) / 0.5) ** 2))),
        "chin_raise": field(0, 5.0 * chin + 4.2 * lower_band * across ** 0.5 + 4.2 * upper_band * across,
        2.0 * chin + 3.4 * lower_band * across),
        "mouth_shift": field(10.5 * mouth + 3.0 * bump(p, q, (0, -72), (22, 14)), 0, 0) + field(0, 0, -1.4 * fold),
        "cheek_suck": field(-sign * 7.0 * pad, 0, -8.5 * pad) + field(-sign * 1.5 * corner, 0, 0),
        "cheek_puff": field(sign * 8.0 * pad, 0, 9.0 * pad) + field(0, 0, 3.5 * bump(p, q, (16, -44), (22, 15)) * fade),
        "jaw_shift": field(
            7.0 * (1 - upper) * smoothstep(q, -30, -60) * smoothstep(q, -120, -92) * smoothstep(p, 105, 55) * fade, 0, 0
        ),
    }  # fmt: skip
