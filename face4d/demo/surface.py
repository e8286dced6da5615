"""The skin of the demo head as a formula: a point of the chart in, a point in space out.

The chart (p, q) of the half head p >= 0 is close to millimetres seen from the front: p sideways along
the skin (0 on the middle of the face, pi * `ring_scale` on the middle of the back of the head), q
upwards (190 crown, 24 eyes, -44 mouth, -92 chin, below that the neck). A smooth skull is lofted
through the rings of `_RINGS`; nose, brows, eyelids, lips, ears and so on are added as bumps whose shape
was modelled by hand. All numbers are millimetres; y points up and +z out of the face.
"""

from __future__ import annotations

import numpy as np
from scipy.interpolate import CubicSpline, PchipInterpolator

__all__ = [
    "EAR_CHART",
    "EYE_CENTER",
    "EYE_CHART",
    "EYE_RADIUS",
    "LIP_GAP",
    "MOUTH_CORNER",
    "MOUTH_Q",
    "NECK_Q",
    "POLE_Q",
    "bump",
    "eye_distance",
    "lid_curve",
    "mouth_coordinates",
    "pocket_surface",
    "ring_scale",
    "skin_surface",
    "smoothstep",
]

POLE_Q, NECK_Q = 190.0, -172.0
MOUTH_Q, MOUTH_CORNER = -44.0, 25.0  # chart height of the line between the lips, and where it ends
LIP_GAP = 3.0  # the chart is cut open by this much on each side of the line; in space the lips touch
EYE_CHART = np.array([31.5, 24.0])  # middle of the eye opening
EYE_HALF_WIDTH, LID_UP, LID_DOWN = 14.6, 6.4, 4.9
EYE_CENTER, EYE_RADIUS = np.array([31.8, 23.8, 24.6]), 13.2
EAR_CHART = np.array([104.0, 12.0])  # middle of the ear
EAR_HALF_SIZE = np.array([17.0, 31.0])

# One ring per line: chart height q | front y z | side x y z | back y z | squareness of front and back (2 = ellipse)
_RINGS = np.array([
    [190, 138, -40, 0, 138, -40, 138, -40, 2.0, 2.0],
    [155, 131, -8, 35, 132, -40, 131, -74, 2.0, 2.0],
    [125, 117, 24, 56, 117, -40, 116, -105, 2.05, 2.0],
    [103, 101, 41, 66.0, 98, -38, 95, -122, 2.1, 2.0],
    [80, 80, 50, 72.0, 77, -35, 70, -131, 2.15, 2.0],
    [58, 58, 53, 74.0, 56, -32, 45, -131, 2.2, 2.0],
    [38, 38, 51.5, 73, 37, -28, 20, -126, 2.25, 2.0],
    [20, 20, 49.5, 71.5, 19, -25, -2, -117, 2.3, 2.0],
    [0, 0, 49.5, 70.0, 1, -24, -24, -105, 2.3, 2.0],
    [-20, -20, 51.5, 67.5, -18, -24, -44, -93, 2.25, 2.0],
    [-44, -44, 53.0, 63.5, -39, -25, -62, -85, 2.2, 2.0],
    [-60, -60, 49.8, 60.0, -51, -27, -74, -82, 2.15, 2.0],
    [-76, -76, 49.0, 54.5, -62, -31, -84, -81, 2.1, 2.1],
    [-90, -89.5, 42, 49.0, -75, -37, -95, -81, 2.0, 2.1],
    [-108, -96, 22, 46.0, -90, -41, -107, -82, 2.0, 2.1],
    [-128, -103, 1, 46.0, -107, -43, -121, -84, 2.0, 2.1],
    [-150, -125, -11, 48.0, -129, -44, -138, -88, 2.0, 2.1],
    [-172, -148, -14, 53.0, -151, -45, -156, -94, 2.0, 2.1],
])  # fmt: skip


def _loft() -> tuple[CubicSpline, CubicSpline, CubicSpline]:
    """Five columns of control points (front, 45, 90, 135 degrees, back) and the splines through them."""
    q, front_y, front_z, side_x, side_y, side_z, back_y, back_z, front_square, back_square = _RINGS.T
    columns = np.zeros((len(q), 5, 3))
    near, far = 0.5 ** (1 / front_square), 0.5 ** (1 / back_square)
    columns[:, 0, 1:] = np.stack([front_y, front_z], 1)
    columns[:, 1] = np.stack(
        [near * side_x, front_y + 0.35 * (side_y - front_y), side_z + near * (front_z - side_z)], 1
    )
    columns[:, 2] = np.stack([side_x, side_y, side_z], 1)
    columns[:, 3] = np.stack([far * side_x, side_y + 0.6 * (back_y - side_y), side_z + far * (back_z - side_z)], 1)
    columns[:, 4, 1:] = np.stack([back_y, back_z], 1)
    rows = CubicSpline(q[::-1], columns[::-1], axis=0)
    angles = np.linspace(0, np.pi, 5)
    odd = CubicSpline(angles, np.eye(5), bc_type="natural")  # x is odd about both ends
    even = CubicSpline(angles, np.eye(5), bc_type="clamped")  # y and z are even
    return rows, odd, even


_ROWS, _ODD, _EVEN = _loft()
_SCALE = PchipInterpolator([-200, 80, 103, 125, 155, 190], [72, 72, 70, 59, 35, 0])


def ring_scale(q: np.ndarray | float) -> np.ndarray:
    """Millimetres of p per radian around the head; shrinks to 0 at the crown."""
    return np.maximum(_SCALE(q), 0)


def smoothstep(x: np.ndarray, low: float, high: float) -> np.ndarray:
    """0 below low, 1 above high, 3t^2 - 2t^3 between (low may be the larger number)."""
    t = np.clip((x - low) / (high - low), 0, 1)
    return t * t * (3 - 2 * t)


def bump(
    p: np.ndarray,
    q: np.ndarray,
    center: tuple[np.ndarray | float, float],
    width: tuple[float, float],
    turn: float = 0.0,
) -> np.ndarray:
    """Gaussian hill of height 1; `turn` in degrees tilts its axes."""
    u, v, a = p - center[0], q - center[1], np.deg2rad(turn)
    u, v = u * np.cos(a) + v * np.sin(a), v * np.cos(a) - u * np.sin(a)
    return np.exp(-0.5 * ((u / width[0]) ** 2 + (v / width[1]) ** 2))


def mouth_coordinates(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(u, v): u = 0 at the middle, 1 at the corner; v = millimetres above (+) or below (-) the line between the
    lips.
    """
    u = p / MOUTH_CORNER
    gap = LIP_GAP * np.sqrt(np.clip(1 - u**2, 0, 1)) * np.exp(-((np.abs(q - MOUTH_Q) / 22) ** 2))
    offset = q - MOUTH_Q
    side = np.where(offset >= 0, 1.0, -1.0)
    return u, offset - side * np.minimum(gap, np.abs(offset))


def eye_distance(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(rho, d, v): rho = 1 on the lid margin, d = millimetres outside it (first order), v = height in lid units.

    The opening is bounded by two parabolas |v| = 1 - u^2; rho is the factor by which it has to be scaled to
    reach the point: rho^2 - |v| rho - u^2 = 0.
    """
    du = p - EYE_CHART[0]
    u = du / EYE_HALF_WIDTH
    v = q - EYE_CHART[1] - 0.10 * du  # the outer corner sits higher
    half_height = np.where(v >= 0, LID_UP, LID_DOWN)
    v = v / half_height
    root = np.sqrt(v**2 + 4 * u**2) + 1e-9
    rho = (np.abs(v) + root) / 2
    slope = np.hypot((1 + np.abs(v) / root) / 2 / half_height, 2 * u / root / EYE_HALF_WIDTH)
    return rho, (rho - 1) / slope, v


def lid_curve(angle: np.ndarray) -> np.ndarray:
    """Chart points (N, 2) on the lid margin; angle 0 = outer corner, pi/2 = top, pi = inner corner."""
    u = np.cos(angle)
    height = (1 - u**2) * np.where(np.sin(angle) >= 0, LID_UP, -LID_DOWN)
    du = u * EYE_HALF_WIDTH
    return np.stack([EYE_CHART[0] + du, EYE_CHART[1] + 0.10 * du + height], axis=1)


def skin_surface(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Points (N, 3) in millimetres of the half head x >= 0 at chart points p, q (N,)."""
    p, q = np.maximum(np.asarray(p, dtype=float), 0), np.asarray(q, dtype=float)
    u, v = mouth_coordinates(p, q)
    near_mouth = np.exp(-((np.maximum(u - 1, 0) / 0.3) ** 2))
    q_closed = np.where(np.abs(q - MOUTH_Q) < 60, MOUTH_Q + v, q)
    angle = np.clip(p / np.maximum(ring_scale(q), 1e-6), 0, np.pi)
    controls = _ROWS(np.clip(q_closed, NECK_Q, POLE_Q))
    odd, even = _ODD(angle), _EVEN(angle)
    point = np.stack(
        [(controls[:, :, 0] * odd).sum(1), (controls[:, :, 1] * even).sum(1), (controls[:, :, 2] * even).sum(1)], axis=1
    )
    front = smoothstep(angle, np.deg2rad(105), np.deg2rad(72))[:, None]
    point += front * _bones(p, q_closed)
    point += front * _nose(p, q_closed)
    point += front * _lips(u, v) * near_mouth[:, None]
    point = _eyelids(point, p, q)
    return _ear(point, p, q)


def jaw_line(p: np.ndarray) -> np.ndarray:
    """Chart height q of the edge of the lower jaw."""
    return -89.0 + 24.0 * (np.minimum(p, 84) / 84) ** 2


def _bones(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Brow ridge, eye socket, cheek bone and hollow, chin, temple, folds."""
    shift = np.zeros((p.size, 3))
    brow_q = 42.5 + 3.5 * np.sin(np.clip((p - 6) / 46, 0, 1) * 2.4)
    ridge = np.exp(-0.5 * ((q - brow_q) / np.where(q > brow_q, 9.0, 5.0)) ** 2)
    shift[:, 2] += 4.0 * ridge * smoothstep(p, 60, 38) * (0.55 + 0.45 * smoothstep(p, 3, 14))
    hair = np.exp(-0.5 * ((q - brow_q - 1.0) / 3.0) ** 2) * smoothstep(p, 5, 11) * smoothstep(p, 58, 44)
    shift[:, 2] += 1.3 * hair
    shift[:, 0] += 2.0 * ridge * bump(p, q, (52, 42), (12, 30))
    shift[:, 2] -= 7.0 * bump(p, q, (31, 27), (14, 8.5))  # socket
    shift[:, 2] -= 2.4 * bump(p, q, (15, 28), (5.5, 7))  # beside the bridge
    shift[:, 2] -= 1.5 * bump(p, q, (33, 9), (11, 4), 8)  # tear trough
    cheek = bump(p, q, (45, -3), (15, 11), -20)
    shift += cheek[:, None] * np.array([1.6, 0.0, 4.2])
    zygoma = bump(p, q, (66, 8), (16, 7))
    shift += zygoma[:, None] * np.array([2.2, 0, 0.8])
    hollow = bump(p, q, (54, -34), (15, 15), -20)
    shift += hollow[:, None] * np.array([-2.8, 0, -2.0])
    shift += bump(p, q, (70, 60), (16, 18))[:, None] * np.array([-2.2, 0, -0.5])  # temple
    shift[:, 2] += 2.2 * bump(p, q, (30, 78), (18, 16))  # frontal eminence
    shift[:, 2] += 4.5 * bump(p, q, (0, -77), (15, 9)) + 1.6 * bump(p, q, (11, -78), (7, 7))  # chin
    shift[:, 2] -= 3.0 * bump(p, q, (0, -61), (17, 4.5))  # below the lower lip
    jaw = bump(p, q, (74, -54), (15, 11), -35)  # angle of the jaw
    shift += jaw[:, None] * np.array([3.0, -1.0, 1.5])
    below = jaw_line(p) - q
    edge = np.exp(-0.5 * ((below + 2.0) / 5.0) ** 2) * smoothstep(p, 100, 70)
    shift += edge[:, None] * np.stack([1.6 * smoothstep(p, 5, 50), -1.0 + 0 * p, 1.0 + 0 * p], axis=1)
    under = smoothstep(below, 0, 15) * smoothstep(below, 66, 20) * smoothstep(p, 106, 66)
    shift += under[:, None] * np.stack([-5.0 * smoothstep(p, 0, 45), 1.5 + 0 * p, -3.0 + 0 * p], axis=1)
    fold = bump(p, q, (26.5, -26), (2.6, 15), 24)  # from the wing of the nose to the corner of the mouth
    shift[:, 2] -= 1.5 * fold
    shift[:, 2] += 1.4 * bump(p, q, (35, -26), (7, 12), 24)
    return shift


_NOSE_Q = [-36, -30, -26, -23.5, -20, -16, -11, -5, 6, 16, 24, 31, 40, 50]
_NOSE_HEIGHT = PchipInterpolator(_NOSE_Q, [0, 0.4, 2.0, 6.5, 15.5, 21.8, 23.8, 22.6, 16.8, 11.0, 6.6, 3.6, 1.1, 0])
_NOSE_WIDTH = PchipInterpolator(_NOSE_Q, [8, 8, 7.8, 8.6, 10.8, 12.2, 12.0, 10.2, 9.0, 8.2, 7.6, 8.5, 11, 12])


def _nose(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    shift = np.zeros((p.size, 3))
    inside = np.clip(q, -36, 50)
    width = _NOSE_WIDTH(inside)
    section = np.exp(-((p / width) ** 2.2))
    flank = np.exp(-((p / (width + 7.0)) ** 2.0))  # the nose stands on a broader base
    shift[:, 2] += _NOSE_HEIGHT(inside) * (0.84 * section + 0.16 * flank)
    wing = bump(p, q, (13.6, -16.0), (4.4, 5.0))
    shift += wing[:, None] * np.array([1.8, -0.6, 9.0])
    shift[:, 2] += 2.2 * bump(p, q, (8.5, -11), (4.5, 5.0))  # round flank of the tip
    shift[:, 2] -= 2.0 * bump(p, q, (20.3, -13.0), (2.2, 6.0), -8)  # groove behind the wing
    shift[:, 2] -= 0.9 * bump(p, q, (11.5, -7.5), (3.0, 2.6), 20)  # between tip and wing
    nostril = bump(p, q, (7.4, -21.6), (3.0, 1.9), 18)
    shift += nostril[:, None] * np.array([0, 3.4, -6.5])
    tip = bump(p, q, (0, -14), (9, 5))
    shift[:, 1] += 0.6 * tip
    shift[:, 2] -= 1.3 * bump(p, q, (0, -31), (1.9, 5))  # philtrum
    shift[:, 2] += 0.9 * bump(p, q, (4.6, -31), (1.8, 6))
    return shift


_UPPER_LIP = PchipInterpolator([0, 0.12, 0.45, 0.75, 1.0, 1.35, 2.0, 2.8], [-3.2, -0.6, 2.9, 2.7, 1.7, 0.7, 0.2, 0])
_LOWER_LIP = PchipInterpolator([0, 0.12, 0.45, 0.75, 1.0, 1.4, 2.0, 2.8], [-3.2, 0.2, 4.2, 3.8, 1.5, -0.4, -0.2, 0])


def upper_lip_height(u: np.ndarray) -> np.ndarray:
    """Millimetres of red upper lip: a dip in the middle, the peaks of the bow beside it, nothing at the corner."""
    return 8.2 * np.clip(1 - np.abs(u) ** 1.7, 0.02, 1) - 1.5 * np.exp(-0.5 * (u / 0.10) ** 2)


def lower_lip_height(u: np.ndarray) -> np.ndarray:
    """Millimetres of red lower lip."""
    return 9.6 * np.clip(1 - np.abs(u) ** 2.0, 0.02, 1)


def _lips(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    shift = np.zeros((u.size, 3))
    upper = v >= 0
    height = np.where(upper, upper_lip_height(u), lower_lip_height(u))
    t = np.abs(v) / np.maximum(height, 2.2)
    full = np.clip(1 - u**2, 0, 1) ** 0.55
    profile = np.where(upper, _UPPER_LIP(np.clip(t, 0, 2.8)), _LOWER_LIP(np.clip(t, 0, 2.8)))
    shift[:, 2] += profile * (0.12 + 0.88 * full)
    shift[:, 2] -= 2.6 * bump(u * MOUTH_CORNER, v, (MOUTH_CORNER + 0.5, 0), (3.2, 3.0))  # tucked corner
    shift[:, 2] += 1.2 * bump(u * MOUTH_CORNER, v, (MOUTH_CORNER + 6.5, -2), (4, 6))
    line = 0.45 * np.cos(np.clip(u, 0, 1) * 7.5) * full - 0.5 * np.clip(u, 0, 1.2)  # a bow-shaped line between the lips
    shift[:, 1] -= line * np.exp(-((v / 9) ** 2))
    return shift


def _eyelids(point: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Draw the skin around the eye onto a shell around the eyeball."""
    _, d, v = eye_distance(p, q)
    du, dv = p - EYE_CHART[0], q - EYE_CHART[1]
    x = EYE_CENTER[0] + du
    y = EYE_CENTER[1] + dv
    # thickness of the lid: rises from the margin, then sinks into the crease
    shell = EYE_RADIUS + 0.9 + 1.0 * smoothstep(d, 0, 3)
    depth = np.sqrt(np.clip(shell**2 - (0.80 * du) ** 2 - dv**2, 16.0, None))
    lid = np.stack([x, y, EYE_CENTER[2] + depth - 0.17 * du], axis=1)
    weight = np.where(v >= 0, smoothstep(d, 9.5, 2.5), smoothstep(d, 8.0, 1.5))
    weight = np.where(np.abs(du) + np.abs(dv) < 50, weight, 0)[:, None]
    point = point + weight * (lid - point)
    crease = np.exp(-0.5 * ((d - 6.2) / 1.5) ** 2) * smoothstep(v, 0.2, 0.9) * (np.abs(du) < 30)
    point[:, 2] -= 1.7 * crease
    fold = np.exp(-0.5 * ((d - 10.0) / 2.4) ** 2) * smoothstep(v, 0.3, 1.1) * (np.abs(du) < 30)
    point[:, 2] += 1.3 * fold
    below = np.exp(-0.5 * ((d - 7.5) / 1.8) ** 2) * smoothstep(v, -0.3, -1.0) * (np.abs(du) < 30)
    point[:, 2] -= 0.5 * below
    return point


_EAR_HEIGHT = PchipInterpolator(
    [0, 0.20, 0.42, 0.60, 0.74, 0.90, 1.0, 1.08], [0.28, 0.30, 0.46, 0.74, 0.80, 1.04, 0.86, 0.0]
)


def _ear(point: np.ndarray, p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """A shell raised from the side of the head, leaning back, with a rolled rim and a hollow in the middle."""
    a, b = _ear_coordinates(p, q)
    r = np.hypot(a, b)
    inside = r < 1.08
    rim = (4.5 + 11.0 * smoothstep(a, -1.0, 0.55)) * (1 - 0.30 * np.clip(b, 0, 1) ** 2 - 0.35 * np.clip(-b, 0, 1) ** 2)
    height = rim * _EAR_HEIGHT(np.clip(r, 0, 1.08))
    height += 4.0 * bump(a, b, (-0.62, -0.15), (0.16, 0.2))  # tragus
    height += 2.5 * smoothstep(b, -0.45, -0.75) * smoothstep(r, 1.0, 0.7)  # lobe has no hollow
    out = np.array([0.90, 0.0, -0.44])
    spread = np.stack([np.zeros_like(a), 3.0 * b, -3.0 * np.maximum(a, 0)], axis=1) * smoothstep(r, 0.5, 0.95)[:, None]
    return point + inside[:, None] * (height[:, None] * out + spread * smoothstep(r, 1.08, 1.0)[:, None])


def _ear_coordinates(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    b = (q - EAR_CHART[1]) / EAR_HALF_SIZE[1]
    return ((p - EAR_CHART[0]) / EAR_HALF_SIZE[0] - 0.18 * b) / (1 + 0.22 * np.clip(b, -2, 2)), b


def ear_radius(p: np.ndarray, q: np.ndarray) -> np.ndarray:
    """Distance from the middle of the ear in units of its outline (about 1.08 where it meets the head)."""
    return np.hypot(*_ear_coordinates(p, q))


def ear_chart(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Chart points (N, 2) at ear coordinates: a from front (-1) to back (1), b from the lobe (-1) to the top (1)."""
    tilted = a * (1 + 0.22 * b) + 0.18 * b
    return np.stack([EAR_CHART[0] + EAR_HALF_SIZE[0] * tilted, EAR_CHART[1] + EAR_HALF_SIZE[1] * b], axis=1)


def lid_margin_angle(du: np.ndarray, height: np.ndarray) -> np.ndarray:
    """Elevation (radians) above the eye's axis of the lid margin at du millimetres from the middle, `height` above the
    line of the corners.
    """
    dv = 0.10 * du + height
    return np.arctan2(dv, np.sqrt((EYE_RADIUS + 0.9) ** 2 - (0.80 * du) ** 2 - dv**2) - 0.17 * du)


def onto_lid_margin(p: np.ndarray, q: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Chart points inside the eye opening moved out to the lid margin, all others as they are."""
    rho, _, _ = eye_distance(p, q)
    stretch = 1 / np.clip(rho, 1e-3, 1)
    return EYE_CHART[0] + (p - EYE_CHART[0]) * stretch, EYE_CHART[1] + (q - EYE_CHART[1]) * stretch


def lid_rim(margin: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Points (N, 3) between the lid margin (depth 0) and a hidden line just inside the eyeball (depth 1)."""
    ray = margin - EYE_CENTER
    radius = np.linalg.norm(ray, axis=1, keepdims=True)
    return margin + depth[:, None] * ray * ((EYE_RADIUS - 1.2) / radius - 1)


def pocket_surface(u: np.ndarray, side: np.ndarray, depth: np.ndarray) -> np.ndarray:
    """Inside of the mouth (N, 3): u = 0..1 from the middle to the corner, side from -1 floor to +1 roof, depth 0 at the
    lips to 1.
    """
    full = np.sqrt(np.clip(1 - u**2, 0, 1))
    point = skin_surface(u * MOUTH_CORNER, MOUTH_Q + LIP_GAP * full)
    point[:, 1] += side * full * (5.0 * smoothstep(depth, 0, 0.3) + 10.0 * smoothstep(depth, 0.1, 0.9))
    point[:, 2] -= 42.0 * depth * (0.45 + 0.55 * full) + 2 * smoothstep(depth, 0, 0.2)
    point[:, 0] *= 1 + 0.30 * smoothstep(depth, 0, 0.5)
    return point
