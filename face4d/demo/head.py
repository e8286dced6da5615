"""The demo head as a mesh (skin, mouth pocket, eyeballs, teeth), the people it can become, and their colours.

`demo_head(level)` is the mean head with about 850 vertices at level 0 and four times as many at every further
level. A subject is the mean plus a weighted sum of identity modes (linear, as in FLAME); subject n of a seed
always gets the same weights.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from functools import lru_cache

import numpy as np

from face4d.demo import surface, topology
from face4d.demo.surface import bump, smoothstep
from face4d.mesh.triangles import same_topology

__all__ = [
    "EYE",
    "IDENTITY_MODES",
    "POCKET",
    "RIM",
    "SKIN",
    "TEETH",
    "DemoHead",
    "demo_head",
    "head_of",
    "identity_weights",
    "vertex_colors",
]

SKIN, POCKET, RIM, EYE, TEETH = topology.SKIN, topology.POCKET, topology.RIM, 3, 4
_MM = 1e-3

IDENTITY_MODES = (
    "face_width", "face_length", "jaw_width", "chin_forward", "nose_length", "nose_width", "nose_bridge",
    "lip_fullness", "mouth_width", "brow_ridge", "eye_distance", "cheekbones", "forehead", "fullness",
)  # fmt: skip


@dataclass(frozen=True)
class DemoHead:
    """Topology, mean shape (metres) and the chart position of every vertex."""

    level: int
    mean: np.ndarray  # (V, 3) float64, metres
    faces: np.ndarray  # (F, 3) int32; those of the half x >= 0, without eyeball, come first
    kind: np.ndarray  # (V,) SKIN, POCKET, RIM, EYE or TEETH
    side: np.ndarray  # (V,) -1 subject's right (x < 0), 0 middle, +1 left
    p: np.ndarray  # (V,) chart, >= 0 on both sides; eyeballs: middle of the eye opening
    q: np.ndarray  # (V,)
    inner: np.ndarray  # (V, 3) pocket and rim coordinates, see topology.HalfHead; teeth: (0, +1 upper / -1 lower, 0)
    mirror: np.ndarray  # (V,) index of the mirrored vertex
    modes: np.ndarray = field(repr=False)  # (K, V, 3) identity modes, metres per unit weight

    def neutral(self, weights: np.ndarray) -> np.ndarray:
        """The neutral face (V, 3) in metres of identity weights (K,)."""
        return self.mean + np.tensordot(np.asarray(weights, dtype=float), self.modes, axes=1)

    def eye_centers(self, neutral: np.ndarray) -> np.ndarray:
        """(2, 3) metres: middle of the subject's right and left eyeball."""
        # last point: the back pole
        backs = [np.flatnonzero((self.kind == EYE) & (self.side == s))[-1] for s in (-1, 1)]
        return neutral[backs] + np.array([0.0, 0.0, surface.EYE_RADIUS * _MM])


def identity_weights(seed: int, subject: int) -> np.ndarray:
    """Weights (K,) of subject number `subject` (0, 1, ...): standard normal, drawn in to at most 1.7."""
    draw = np.random.default_rng([seed, 101, subject]).standard_normal(len(IDENTITY_MODES))
    return 1.7 * np.tanh(draw / 1.7 * 1.15)


@lru_cache(maxsize=3)
def demo_head(level: int = 0) -> DemoHead:
    """The head at a level of detail: 0 has about 850 vertices, 1 about 3300, 2 about 13000."""
    half = topology.half_head(level)
    count = len(half.chart)
    twins = np.flatnonzero(~half.on_middle)
    mirror_of_half = np.arange(count)
    mirror_of_half[twins] = count + np.arange(twins.size)
    points = half.points()
    eye_points, eye_faces = _eyeball(level)
    skin = count + twins.size
    mirrored_faces = mirror_of_half[half.faces][:, [0, 2, 1]]
    flip = np.array([-1.0, 1.0, 1.0])
    left_eye = surface.EYE_CENTER + eye_points
    teeth_points, teeth_faces, teeth_mirror, is_upper = _teeth(level)
    vertices = np.concatenate([points, points[twins] * flip, left_eye, left_eye * flip, teeth_points])
    eyes, teeth, first_tooth = len(eye_points), len(teeth_points), skin + 2 * len(eye_points)
    faces = np.concatenate(
        [half.faces, mirrored_faces, skin + eye_faces, skin + eyes + eye_faces[:, [0, 2, 1]], first_tooth + teeth_faces]
    )
    both = np.concatenate([np.arange(count), twins])
    kind = np.concatenate([half.kind[both], np.full(2 * eyes, EYE), np.full(teeth, TEETH)])
    teeth_chart = np.stack([np.abs(teeth_points[:, 0]), np.full(teeth, surface.MOUTH_Q)], axis=1)
    chart = np.concatenate([half.chart[both], np.tile(surface.EYE_CHART, (2 * eyes, 1)), teeth_chart])
    teeth_inner = np.where(is_upper, 1.0, -1.0)[:, None] * np.array([0.0, 1.0, 0.0])
    inner = np.concatenate([half.inner[both], np.zeros((2 * eyes, 3)), teeth_inner])
    skin_side = [np.where(half.on_middle, 0, 1), np.full(twins.size, -1)]
    eye_side = [np.full(eyes, 1), np.full(eyes, -1)]
    side = np.concatenate([*skin_side, *eye_side, np.sign(teeth_points[:, 0].round(6)).astype(int)])
    mirror = np.concatenate(
        [mirror_of_half, twins, skin + eyes + np.arange(eyes), skin + np.arange(eyes), first_tooth + teeth_mirror]
    )
    p, q = surface.onto_lid_margin(*chart.T)
    p[kind == EYE], q[kind == EYE] = surface.EYE_CHART
    modes = _identity_modes(vertices, p, q, side, kind, inner)
    return DemoHead(
        level,
        vertices * _MM,
        faces.astype(np.int32),
        kind,
        side,
        p,
        q,
        inner,
        mirror,
        modes * _MM,
    )


_VERTICES = {871: 0, 3627: 1, 13815: 2}  # level of detail by number of vertices: other heads are known without building


def finely_shaped(head: DemoHead) -> np.ndarray:
    """(V,) bool: ears and eyelids, whose shape the triangles of level 0 can only hint at."""
    around_eye = np.hypot(*(np.stack([head.p, head.q], axis=1) - surface.EYE_CHART).T)
    return (head.kind == SKIN) & ((surface.ear_radius(head.p, head.q) < _EAR) | (around_eye < _LIDS))


def head_of(num_vertices: int, faces: np.ndarray) -> DemoHead | None:
    """The demo head whose vertices and triangles (F, 3) a mesh has; None where it is no demo head of level 0 to 2."""
    level = _VERTICES.get(num_vertices)
    if level is None:
        return None
    head = demo_head(level)
    return head if same_topology(faces, head.faces) else None


def _eyeball(level: int) -> tuple[np.ndarray, np.ndarray]:
    """A closed ball with a carved iris and pupil, as sculptors do: points (N, 3) in millimetres around its middle,
    faces.
    """
    around = 8 * 2**level
    polar = (
        np.deg2rad([11.0, 25.5, 33.0, 80.0])
        if level == 0
        else np.deg2rad(np.concatenate([[6, 10.0, 11.5], [24, 26.5, 28.0], np.linspace(38, 150, 4 * 2**level - 2)]))
    )
    rings = np.stack([_eye_ring(angle, around) for angle in polar])
    points = np.concatenate([[[0, 0, surface.EYE_RADIUS - 2.2]], rings.reshape(-1, 3), [[0, 0, -surface.EYE_RADIUS]]])
    ring = 1 + np.arange(rings.shape[0] * around).reshape(rings.shape[0], around)
    following = np.roll(ring, -1, axis=1)
    faces = [np.stack([np.zeros(around, int), ring[0], following[0]], 1)]
    for k in range(len(ring) - 1):
        faces.append(np.stack([ring[k], ring[k + 1], following[k]], 1))
        faces.append(np.stack([following[k], ring[k + 1], following[k + 1]], 1))
    faces.append(np.stack([np.full(around, len(points) - 1), following[-1], ring[-1]], 1))
    return points, np.concatenate(faces)


def _eye_ring(polar: float, around: int) -> np.ndarray:
    radius = surface.EYE_RADIUS
    if polar < np.deg2rad(26.0):  # the iris is sunk a little, the pupil more
        radius -= 2.0 if polar < np.deg2rad(10.5) else 0.45
    turn = 2 * np.pi * np.arange(around) / around
    return radius * np.stack(
        [np.sin(polar) * np.cos(turn), np.sin(polar) * np.sin(turn), np.full(around, np.cos(polar))], 1
    )


def _teeth(level: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, np.ndarray]:
    """Two arches behind the lips: points (N, 3) in millimetres, faces, mirrored point numbers, which are upper teeth.

    Plain bands at level 0, single teeth with grooves between them above.
    """
    columns, rows = (11, 2) if level == 0 else (40 * level + 1, 2 + level)
    along = np.linspace(-1, 1, columns)
    groove = np.zeros(columns) if level == 0 else np.exp(-((((np.abs(along * 5) + 0.5) % 1 - 0.5) / 0.13) ** 2))
    arches = []
    for front, gum, edge in ((44.0, -37.0, -46.2), (41.6, -55.5, -47.2)):
        across = np.linspace(0, 1, rows)[:, None]
        turn = 1.36 * along
        z = front - 25 * (1 - np.cos(turn)) - 0.9 * groove
        y = gum + (edge - gum) * across - np.sign(edge - gum) * across * (0.7 * groove + 0.9 * along**2)
        arches.append(
            np.stack(
                [np.broadcast_to(26 * np.sin(turn), y.shape), y, np.broadcast_to(z, y.shape) - 0.8 * across], axis=2
            )
        )
    points = np.stack(arches)  # (arch, row, column, 3)
    number = np.arange(points[..., 0].size).reshape(points.shape[:3])
    faces = []
    for arch in (0, 1):
        top, bottom = (number[arch, :-1], number[arch, 1:]) if arch == 0 else (number[arch, 1:], number[arch, :-1])
        a, b, c, d = (part.ravel() for part in (top[:, :-1], top[:, 1:], bottom[:, :-1], bottom[:, 1:]))
        faces += [np.stack([a, c, b], 1), np.stack([b, c, d], 1)]
    is_upper = np.repeat([True, False], number[0].size)
    return points.reshape(-1, 3), np.concatenate(faces), number[:, :, ::-1].ravel(), is_upper


def _identity_modes(
    vertices: np.ndarray, p: np.ndarray, q: np.ndarray, side: np.ndarray, kind: np.ndarray, inner: np.ndarray
) -> np.ndarray:
    """Displacements (K, V, 3) in millimetres per unit weight, one standard deviation of a plausible population.

    Everything is a function of the chart, so the eyeballs, which sit on one chart point, move as a whole,
    and the lids, whose chart positions are flattened to that point, move with them.
    """
    _, lid_distance, _ = surface.eye_distance(p, q)
    with_eye = smoothstep(lid_distance, 9.0, 2.0) * (np.hypot(p - surface.EYE_CHART[0], q - surface.EYE_CHART[1]) < 40)
    with_eye[kind == EYE] = 1
    p = p + with_eye * (surface.EYE_CHART[0] - p)
    q = q + with_eye * (surface.EYE_CHART[1] - q)
    x = np.where(
        with_eye > 0,
        side * (np.abs(vertices[:, 0]) * (1 - with_eye) + surface.EYE_CENTER[0] * with_eye),
        vertices[:, 0],
    )
    y = vertices[:, 1] * (1 - with_eye) + surface.EYE_CENTER[1] * with_eye
    u, v = surface.mouth_coordinates(p, q)
    q = np.where(np.abs(q - surface.MOUTH_Q) < 60, surface.MOUTH_Q + v, q)  # both lips have one line
    pocket = np.where(kind == TEETH, 0.6, (kind == POCKET) * inner[:, 2])
    front = smoothstep(p, 110, 60)
    sign = np.where(side == 0, 0.0, side)
    zero = np.zeros_like(p)
    fade = 1 - 0.8 * pocket
    jaw = smoothstep(y, 0, -70) * smoothstep(y, -150, -95)
    nose = bump(p, q, (0, -8), (15, 15))
    lip_height = np.where(v >= 0, surface.upper_lip_height(u), surface.lower_lip_height(u))
    lip_t = np.abs(v) / np.maximum(lip_height, 2.2)
    lips = np.exp(-((np.maximum(lip_t - 0.9, 0) / 0.9) ** 2)) * np.clip(1 - u**2, 0, 1) ** 0.5 * fade
    mouth = bump(p, q, (0, surface.MOUTH_Q), (24, 18))
    brow = bump(p, q, (30, 43), (24, 8)) + 0.6 * bump(p, q, (0, 42), (10, 9))
    cheek = bump(p, q, (52, 0), (18, 14), -15)
    pad = bump(p, q, (46, -34), (22, 22))
    forehead = bump(p, q, (0, 85), (50, 26))
    chin = bump(p, q, (0, -80), (22, 14))
    modes = {
        "face_width": (0.045 * x, zero, zero),
        "face_length": (
            zero,
            0.045 * (y - 24) * smoothstep(y, 40, 0) * smoothstep(y, -160, -90)
            + 0.02 * (y - 24) * smoothstep(y, 30, 60),
            zero,
        ),
        "jaw_width": (0.085 * x * jaw * smoothstep(p, 6, 40), zero, zero),
        "chin_forward": (zero, -1.6 * chin, 3.6 * chin * fade),
        "nose_length": (zero, -3.0 * bump(p, q, (0, -16), (15, 11)), 1.2 * nose),
        "nose_width": (
            sign * 2.3 * bump(p, q, (14, -14), (7, 10)) + sign * 0.7 * bump(p, q, (8, 8), (5, 16)),
            zero,
            zero,
        ),
        "nose_bridge": (zero, zero, 2.4 * bump(p, q, (0, 12), (9, 13)) + 1.2 * bump(p, q, (0, -8), (11, 10))),
        "lip_fullness": (
            zero,
            0.17 * np.where(v >= 0, 1, -1) * np.minimum(np.abs(v), lip_height) * lips,
            1.3 * lips * np.minimum(lip_t / 0.4, 1),
        ),
        "mouth_width": (0.085 * x * mouth * 1.35 * fade, zero, -0.8 * bump(p, q, (25, -44), (8, 8)) * fade),
        "brow_ridge": (zero, -1.2 * brow * (1 - with_eye), 2.2 * brow * (1 - with_eye)),
        "eye_distance": (sign * 1.9 * bump(p, q, (31.5, 24), (17, 16)), zero, zero),
        "cheekbones": (sign * 2.2 * cheek, zero, 2.0 * cheek),
        "forehead": (zero, 1.0 * forehead, 3.0 * forehead),
        "fullness": (sign * 3.4 * pad * front, zero, 1.7 * pad * front),
    }
    return np.stack([np.stack(modes[name], axis=1) for name in IDENTITY_MODES])


_EAR, _LIDS = 1.1, 15.0  # how far ears (in their size) and eyelids (on the chart) reach
_SKIN, _IRIS = (0.62, 0.40, 0.30), (0.10, 0.17, 0.20)  # linear RGB


def vertex_colors(head: DemoHead) -> np.ndarray:
    """Linear RGB (V, 3) in 0..1 for `face4d.render.clay.render_mesh(colors=...)`."""
    p, q = head.p, head.q
    flesh = np.asarray(_SKIN, dtype=float)
    color = np.tile(flesh, (len(p), 1))
    flush = (
        bump(p, q, (44, -8), (16, 12))
        + 0.7 * bump(p, q, (0, -12), (13, 8))
        + 0.6 * smoothstep(surface.ear_radius(p, q), 1.0, 0.7)
    )
    color = _mix(color, flesh * [1.02, 0.80, 0.78], 0.55 * np.clip(flush, 0, 1))
    u, v = surface.mouth_coordinates(p, q)
    height = np.where(v >= 0, surface.upper_lip_height(u), surface.lower_lip_height(u))
    lip = smoothstep(np.abs(v) / np.maximum(height, 1.5), 1.12, 0.88) * (u <= 1.0)
    color = _mix(color, flesh * [0.80, 0.46, 0.46], lip)
    brow_q = 43.5 + 3.5 * np.sin(np.clip((p - 6) / 46, 0, 1) * 2.4)
    brow = np.exp(-0.5 * ((q - brow_q) / 2.6) ** 2) * smoothstep(p, 6, 11) * smoothstep(p, 58, 46) * (head.kind == SKIN)
    color = _mix(color, np.array([0.10, 0.06, 0.045]), 0.85 * brow)
    _, distance, above = surface.eye_distance(p, q)
    near = np.hypot(p - surface.EYE_CHART[0], q - surface.EYE_CHART[1]) < 25
    lash = near * smoothstep(distance, 1.6, 0.0) * np.where(above > 0, 0.8, 0.35)
    color = _mix(color, np.array([0.12, 0.07, 0.055]), lash)
    color[head.kind == RIM] = flesh * [0.75, 0.55, 0.52]
    pocket = head.kind == POCKET
    color[pocket] = np.array([0.16, 0.035, 0.035]) * (1 - 0.85 * head.inner[pocket, 2:3])
    color[head.kind == TEETH] = [0.78, 0.74, 0.64]
    eye = head.kind == EYE
    ball = head.mean[eye] * 1e3 - surface.EYE_CENTER * np.stack(
        [head.side[eye], np.ones(eye.sum()), np.ones(eye.sum())], axis=1
    )
    polar = np.rad2deg(np.arctan2(np.hypot(ball[:, 0], ball[:, 1]), ball[:, 2]))
    white = np.tile([0.74, 0.72, 0.70], (eye.sum(), 1))
    white = np.where((polar < 27)[:, None], np.asarray(_IRIS, dtype=float), white)
    color[eye] = np.where((polar < (10.5 if head.level else 5))[:, None], 0.008, white)
    return color


def _mix(base: np.ndarray, other: np.ndarray, share: np.ndarray) -> np.ndarray:
    return base + share[:, None] * (other - base)
