"""How the skin of the demo head is cut into triangles.

Half the head is meshed in the chart of `surface`: loops of points around the eye, the lips, the ear and down
the middle are fixed, the rest is filled with points whose spacing grows away from the features and which are
then relaxed (Persson and Strang, "A Simple Mesh Generator in MATLAB", SIAM Review 2004). The Delaunay
triangulation, minus the openings of eye and mouth, becomes the skin. From the lips a pocket leads into
the mouth, and behind the lid margin a rim closes the gap to the eyeball. The left half is the mirror image.
"""

from __future__ import annotations

import itertools
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
from scipy.spatial import Delaunay

from face4d.demo import surface

__all__ = ["HalfHead", "half_head", "mouth_chart"]

SKIN, POCKET, RIM = 0, 1, 2
_LIP_U = np.array([0.0, 0.17, 0.36, 0.55, 0.73, 0.88])
_LID_ANGLES = 14
_EAR_COUNT, _EAR_RADII = 11, (1.12, 0.98, 0.80, 0.45)
_CROWN_Q = (166.0, 141.0, 112.0)  # rows sewn by hand, each with its points evenly around


@dataclass(frozen=True)
class HalfHead:
    """The half x >= 0: where its N vertices lie in the charts, and its triangles (counter-clockwise from outside)."""

    kind: np.ndarray  # (N,) SKIN, POCKET or RIM
    chart: np.ndarray  # (N, 2) p, q; pocket: those of the lip line, rim: those of the lid margin
    inner: np.ndarray  # (N, 3): pocket (u, side -1..1, depth 0..1) ; rim (0, 0, depth)
    on_middle: np.ndarray  # (N,) bool, lies on the plane x = 0
    faces: np.ndarray  # (F, 3)

    def points(self) -> np.ndarray:
        """Where the vertices lie in space, (N, 3) millimetres."""
        p, q = surface.onto_lid_margin(*self.chart.T)
        point = surface.skin_surface(p, q)
        pocket, rim = self.kind == POCKET, self.kind == RIM
        point[pocket] = surface.pocket_surface(*self.inner[pocket].T)
        point[rim] = surface.lid_rim(point[rim], self.inner[rim, 2])
        point[self.on_middle, 0] = 0.0
        return point


@lru_cache(maxsize=4)
def half_head(level: int) -> HalfHead:
    """The half head, every triangle split into four `level` times."""
    if level > 0:
        return _split(half_head(level - 1))
    fixed, lip_count, lid_count = _fixed_points()
    chart = np.concatenate([fixed, _fill(fixed)])
    outside = _meshed_by_delaunay(chart)
    skin = outside[_triangles(chart[outside])]
    ear = _ear_start(chart) + np.arange(_EAR_COUNT)
    eye = _eye_start(chart) + np.arange(3 * _LID_ANGLES).reshape(3, -1)
    across = np.isin(skin, ear).all(axis=1) | np.isin(skin, eye[2]).all(axis=1)  # what Delaunay spans over ear and eye
    lids = [_ring_strip(outer, inner) for outer, inner in zip(eye[:0:-1], eye[1::-1])]
    faces = np.concatenate([skin[~across], *lids, _ear_faces(chart), _crown_faces(chart)])
    return _close_openings(chart, faces, lip_count, lid_count)


def mouth_chart(u: np.ndarray, v: np.ndarray) -> np.ndarray:
    """Chart points (N, 2) at lip coordinates: u along the mouth, v millimetres from the line between the lips.

    The inverse of `surface.mouth_coordinates`; the sign of v (also of 0.0 and -0.0) chooses the lip.
    """
    u, v = np.broadcast_arrays(np.asarray(u, float), np.asarray(v, float))
    side = np.where(np.signbit(v), -1.0, 1.0)
    offset = np.abs(v)
    opening = surface.LIP_GAP * np.sqrt(np.clip(1 - u**2, 0, 1))
    for _ in range(8):
        offset = np.abs(v) + opening * np.exp(-((offset / 22) ** 2))
    return np.stack([u * surface.MOUTH_CORNER, surface.MOUTH_Q + side * offset], axis=1)


def _fixed_points() -> tuple[np.ndarray, int, int]:
    """Loops and lines that carry the features; the lip line comes first, then the lid margin."""
    upper = mouth_chart(_LIP_U, np.zeros(_LIP_U.size))
    lower = mouth_chart(_LIP_U, -np.zeros(_LIP_U.size))
    corner = np.array([[surface.MOUTH_CORNER, surface.MOUTH_Q]])
    lips = [upper, corner, lower[::-1]]
    up, down = surface.upper_lip_height(_LIP_U), surface.lower_lip_height(_LIP_U)
    for part, used in ((0.42, 5), (1.0, 6)):
        lips += [mouth_chart(_LIP_U[:used], part * up[:used]), mouth_chart(_LIP_U[:used], -part * down[:used])]
    around = np.array([0.0, 0.2, 0.42, 0.64, 0.85, 1.06])
    lips += [
        mouth_chart(around, 4.4 + 0.97 * up * (around < 1)),
        mouth_chart(around, -4.4 - 0.97 * down * (around < 1)),
    ]
    lips += [
        np.array([[surface.MOUTH_CORNER + 4.5, surface.MOUTH_Q], [surface.MOUTH_CORNER + 10, surface.MOUTH_Q - 0.5]])
    ]

    angles = np.linspace(0, 2 * np.pi, _LID_ANGLES, endpoint=False)
    margin = surface.lid_curve(angles)
    tangent = np.roll(margin, -1, 0) - np.roll(margin, 1, 0)
    outward = np.stack([tangent[:, 1], -tangent[:, 0]], 1) / np.linalg.norm(tangent, axis=1, keepdims=True)
    eye = [margin] + [margin + d * outward for d in (2.8, 6.2)]
    eye += [(margin + 10.5 * outward)[np.cos(angles) > -0.8]]

    middle = [*_CROWN_Q, 95, 80, 66, 54, 44, 36, 28, 19, 10, 2, -5, -10.5, -15, -19, -22.8, -27.0]
    middle += [-66.5, -73, -80, -87, -94, -103, -116, -134, -154]
    jaw_p = np.array([13.0, 27, 41, 55, 69, 82])
    jaw = [np.stack([jaw_p, surface.jaw_line(jaw_p) + d], 1) for d in (4.0, -7.0)]
    jaw.append(np.stack([jaw_p[1::2] - 3, surface.jaw_line(jaw_p[1::2]) - 24.0], 1))
    front = np.array([[0.0, q] for q in middle])
    back_q = np.array([*_CROWN_Q, 82, 52, 22, -8, -38, -68, -98, -126, -150])
    back = np.stack([np.pi * surface.ring_scale(back_q), back_q], 1)
    bottom = np.stack([np.linspace(0, np.pi, 10) * surface.ring_scale(surface.NECK_Q), np.full(10, surface.NECK_Q)], 1)
    pole = np.array([[0.0, surface.POLE_Q]])
    crown = [[t * np.pi * surface.ring_scale(q), q] for q, n in zip(_CROWN_Q, (4, 6, 7)) for t in np.arange(1, n) / n]
    nose = np.array([
        [7.5, 28], [7.5, 19], [7.8, 10], [8, 2], [6.5, -5.5], [6.2, -11], [5.6, -15.5], [4.2, -19.5], [3.8, -23.5],
        [8.0, -19.6], [11.0, -21.6], [10.8, -16.5], [10.4, -11.5], [11.5, -6.0], [14.6, -10.6], [14.8, -15.6],
        [13.8, -20.0], [18.2, -9.5], [18.6, -15.0], [17.0, -20.5], [13.5, 4.0], [17.5, -2.5],
    ])  # fmt: skip
    turn = np.linspace(0, 2 * np.pi, _EAR_COUNT, endpoint=False)
    ear = [surface.ear_chart(radius * np.cos(turn), radius * np.sin(turn)) for radius in _EAR_RADII]
    ear.append(surface.ear_chart(np.zeros(1), np.zeros(1)))
    loops = [*lips, *ear, *eye, front, back, bottom, pole, np.array(crown), nose, *jaw]
    return np.concatenate(loops), 2 * _LIP_U.size + 1, _LID_ANGLES


def _spacing(point: np.ndarray) -> np.ndarray:
    """Wanted distance between neighbours, millimetres, at chart points (N, 2)."""
    p, q = point.T
    distance_eye = np.hypot((p - surface.EYE_CHART[0]) / 1.5, q - surface.EYE_CHART[1] - 2)
    distance_mouth = np.hypot(np.maximum(p - 18, 0), np.maximum(np.abs(q - surface.MOUTH_Q) - 6, 0))
    distance_nose = np.hypot(np.maximum(p - 8, 0), np.maximum(np.abs(q + 12) - 8, 0))
    distance_ear = np.hypot((p - surface.EAR_CHART[0]) / 0.6, q - surface.EAR_CHART[1])
    wanted = 4.2 + 0.30 * np.maximum(distance_eye - 9, 0)
    wanted = np.minimum(wanted, 4.8 + 0.30 * distance_mouth)
    wanted = np.minimum(wanted, 4.2 + 0.34 * distance_nose)
    wanted = np.minimum(wanted, 9.5 + 0.36 * np.maximum(distance_ear - 36, 0))
    jaw = np.abs(q - surface.jaw_line(p))
    wanted = np.minimum(wanted, 13.0 + 0.5 * jaw + 0.12 * np.maximum(p - 90, 0))
    face = np.hypot(p / 1.1, q + 10)
    wanted = np.minimum(wanted, 8.0 + 0.35 * np.maximum(face - 55, 0))
    return np.minimum(wanted, 34.0)


def _in_opening(point: np.ndarray, slack: float = 0.0) -> np.ndarray:
    """Whether chart points lie in the eye or mouth opening, or, with slack in mm, among the loops around them."""
    p, q = point.T
    _, distance, _ = surface.eye_distance(p, q)
    u = p / surface.MOUTH_CORNER
    opening = surface.LIP_GAP * np.sqrt(np.clip(1 - u**2, 0, 1))
    mouth = (u < 1) & (np.abs(q - surface.MOUTH_Q) < opening + slack)
    return (distance < 4 * slack) | mouth


def _fill(fixed: np.ndarray, rounds: int = 60) -> np.ndarray:
    """Free points between the fixed ones: a quasi-random start, thinned to the spacing, relaxed like springs."""
    height = surface.POLE_Q - surface.NECK_Q
    k = np.arange(1, 9001)
    start = np.stack([k * 0.7548776662466927 % 1 * np.pi * 72, surface.NECK_Q + k * 0.5698402909980532 % 1 * height], 1)
    edge = np.pi * surface.ring_scale(start[:, 1])
    start = start[(start[:, 0] < edge - 12) & (start[:, 1] < 104) & ~_in_opening(start, 2.0)]
    start = start[surface.ear_radius(*start.T) > 1.2]
    wanted = _spacing(start)
    kept = list(fixed)
    first = len(kept)
    taken = np.array(kept)
    for point, space in zip(start, wanted):
        if np.min(np.sum((taken - point) ** 2, axis=1)) > (0.82 * space) ** 2:
            taken = np.concatenate([taken, point[None]])
    points = taken
    for _ in range(rounds):
        faces = _triangles(points)
        edges = np.unique(
            np.sort(np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]]), axis=1), axis=0
        )
        along = points[edges[:, 0]] - points[edges[:, 1]]
        length = np.linalg.norm(along, axis=1)
        wanted = _spacing((points[edges[:, 0]] + points[edges[:, 1]]) / 2)
        wanted = 1.15 * wanted * np.sqrt(np.sum(length**2) / np.sum(wanted**2))
        push = np.maximum(wanted - length, 0)[:, None] * along / length[:, None]
        force = np.zeros_like(points)
        np.add.at(force, edges[:, 0], push)
        np.add.at(force, edges[:, 1], -push)
        force[:first] = 0
        moved = points + 0.2 * force
        edge = np.pi * surface.ring_scale(np.clip(moved[:, 1], surface.NECK_Q, surface.POLE_Q))
        allowed = (
            (moved[:, 0] > 2) & (moved[:, 0] < edge - 12) & (moved[:, 1] > surface.NECK_Q + 6) & (moved[:, 1] < 105)
        )
        allowed &= ~_in_opening(moved, 1.5) & (surface.ear_radius(*moved.T) > 1.15)
        points = np.where(allowed[:, None], moved, points)
    return points[first:]


def _triangles(points: np.ndarray) -> np.ndarray:
    """Delaunay triangles (F, 3), counter-clockwise, without the openings and without flat ones on the border."""
    faces = Delaunay(points).simplices
    a, b, c = (points[faces[:, k]] for k in range(3))
    area = (b[:, 0] - a[:, 0]) * (c[:, 1] - a[:, 1]) - (b[:, 1] - a[:, 1]) * (c[:, 0] - a[:, 0])
    faces = np.where((area < 0)[:, None], faces[:, [0, 2, 1]], faces)
    rounding = np.pi * surface.ring_scale(points[:, 1]) - points[:, 0] < 1e-6  # the round border of the chart
    kept = (np.abs(area) > 1e-3) & ~_in_opening((a + b + c) / 3) & ~(rounding[faces].all(axis=1) & (np.abs(area) < 60))
    return faces[kept]


def _meshed_by_delaunay(chart: np.ndarray) -> np.ndarray:
    """Indices of all points but those inside the ear, the two loops next to the eye, and above the lowest crown row."""
    first = _ear_start(chart)
    inside = np.zeros(len(chart), bool)
    inside[_eye_start(chart) : _eye_start(chart) + 2 * _LID_ANGLES] = True
    inside[first + _EAR_COUNT : first + _EAR_COUNT * len(_EAR_RADII) + 1] = True
    return np.flatnonzero(~inside & (chart[:, 1] < _CROWN_Q[-1] + 1))


def _ear_start(chart: np.ndarray) -> int:
    return _nearest(chart, surface.ear_chart(np.array([_EAR_RADII[0]]), np.zeros(1))[0])


def _eye_start(chart: np.ndarray) -> int:
    return _nearest(chart, surface.lid_curve(np.zeros(1))[0])


def _crown_faces(chart: np.ndarray) -> np.ndarray:
    """Rows around the crown sewn together by angle, where the chart is too skewed for Delaunay."""
    angle = chart[:, 0] / np.maximum(surface.ring_scale(chart[:, 1]), 1e-6)
    pole = int(np.argmax(chart[:, 1]))
    rows = []
    for q in _CROWN_Q:
        row = np.flatnonzero(np.abs(chart[:, 1] - q) < 1e-6)
        rows.append(row[np.argsort(angle[row])])
    top = rows[0]
    faces = [[top[k], top[k + 1], pole] for k in range(len(top) - 1)]
    for upper, lower in itertools.pairwise(rows):
        i = j = 0
        while i < len(upper) - 1 or j < len(lower) - 1:
            next_upper = angle[upper[i + 1]] if i < len(upper) - 1 else np.inf
            next_lower = angle[lower[j + 1]] if j < len(lower) - 1 else np.inf
            if next_lower <= next_upper + 1e-9:
                faces.append([upper[i], lower[j], lower[j + 1]])
                j += 1
            else:
                faces.append([upper[i], lower[j], upper[i + 1]])
                i += 1
    return np.array(faces)


def _ear_faces(chart: np.ndarray) -> np.ndarray:
    """The ear in regular rings; a Delaunay triangulation of the chart would cut across its steep rim."""
    first = _ear_start(chart)
    rings = first + np.arange(_EAR_COUNT * len(_EAR_RADII)).reshape(-1, _EAR_COUNT)
    strips = [_ring_strip(outer, inner) for outer, inner in itertools.pairwise(rings)]
    last, middle = rings[-1], rings[-1, -1] + 1
    fan = np.stack([last, np.roll(last, -1), np.full(_EAR_COUNT, middle)], axis=1)
    return np.concatenate([*strips, fan])


def _close_openings(chart: np.ndarray, faces: np.ndarray, lip_count: int, lid_count: int) -> HalfHead:
    """Add the mouth pocket behind the lip line and the rim behind the lid margin."""
    lip = np.arange(lip_count)
    lid = _eye_start(chart) + np.arange(lid_count)
    half = lip_count // 2
    u = chart[:lip_count, 0] / surface.MOUTH_CORNER
    side = np.concatenate([np.ones(half), [0], -np.ones(half)])
    kind = [np.zeros(len(chart), int)]
    inner: list[np.ndarray] = [np.zeros((len(chart), 3))]
    inner[0][:lip_count, 0], inner[0][:lip_count, 1] = u, side
    charts, new_faces, count = [chart], [faces], len(chart)
    previous = lip
    for depth in (0.3, 1.0):
        ring = count + np.arange(lip_count)
        charts.append(chart[:lip_count])
        kind.append(np.full(lip_count, POCKET))
        inner.append(np.stack([u, side, np.full(lip_count, depth)], 1))
        new_faces.append(_strip(previous[::-1], ring[::-1]))
        previous, count = ring, count + lip_count
    upper, lower = previous[: half + 1], previous[::-1][: half + 1]  # back wall, from the middle to the corner
    new_faces += [
        np.array([[upper[k], lower[k], lower[k + 1]], [upper[k], lower[k + 1], upper[k + 1]]]) for k in range(half)
    ]
    rim = count + np.arange(lid_count)
    charts.append(chart[lid])
    kind.append(np.full(lid_count, RIM))
    inner.append(np.tile([0.0, 0.0, 1.0], (lid_count, 1)))
    new_faces.append(_ring_strip(lid, rim))
    places = np.concatenate(charts)
    faces = np.concatenate(new_faces)
    faces = faces[(faces[:, 0] != faces[:, 1]) & (faces[:, 1] != faces[:, 2]) & (faces[:, 0] != faces[:, 2])]
    back = places[:, 0] >= np.pi * surface.ring_scale(places[:, 1]) - 1e-6
    return HalfHead(np.concatenate(kind), places, np.concatenate(inner), (places[:, 0] <= 1e-9) | back, faces)


def _nearest(chart: np.ndarray, point: np.ndarray) -> int:
    return int(np.argmin(np.sum((chart - point) ** 2, axis=1)))


def _ring_strip(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    return _strip(np.append(outer, outer[0]), np.append(inner, inner[0]))


def _strip(outer: np.ndarray, inner: np.ndarray) -> np.ndarray:
    """Triangles between two rows of points; the skin lies on the other side of `outer`, which the skin's triangles
    run along in the direction opposite to the one used here.
    """
    a, b, c, d = outer[:-1], outer[1:], inner[:-1], inner[1:]
    return np.concatenate([np.stack([a, b, c], 1), np.stack([b, d, c], 1)])


def _split(coarse: HalfHead) -> HalfHead:
    """Every triangle into four; the new vertices lie at the middle of the edges in the chart, so on the true
    surface.
    """
    faces, count = coarse.faces, len(coarse.chart)
    directed = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    edges, number = np.unique(np.sort(directed, axis=1), axis=0, return_inverse=True)
    uses = np.bincount(number.ravel(), minlength=len(edges))
    a, b = edges.T
    chart = _chart_middle(coarse.chart[a], coarse.chart[b])
    inner = (coarse.inner[a] + coarse.inner[b]) / 2
    kind = np.maximum(coarse.kind[a], coarse.kind[b])
    middle = coarse.on_middle[a] & coarse.on_middle[b] & (uses == 1)
    ab, bc, ca = (count + number.reshape(3, -1)).astype(int)
    v0, v1, v2 = faces.T
    split = np.concatenate([np.stack(t, 1) for t in ((v0, ab, ca), (v1, bc, ab), (v2, ca, bc), (ab, bc, ca))])
    return HalfHead(
        np.concatenate([coarse.kind, kind]),
        np.concatenate([coarse.chart, chart]),
        np.concatenate([coarse.inner, inner]),
        np.concatenate([coarse.on_middle, middle]),
        split,
    )


def _chart_middle(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Middle of two chart points by angle and height (the crown itself has no angle and takes the other's)."""
    q = (a[:, 1] + b[:, 1]) / 2
    scale_a, scale_b = surface.ring_scale(a[:, 1]), surface.ring_scale(b[:, 1])
    angle_a, angle_b = a[:, 0] / np.maximum(scale_a, 1e-6), b[:, 0] / np.maximum(scale_b, 1e-6)
    angle_a, angle_b = np.where(scale_a < 1e-6, angle_b, angle_a), np.where(scale_b < 1e-6, angle_a, angle_b)
    return np.stack([(angle_a + angle_b) / 2 * surface.ring_scale(q), q], axis=1)
