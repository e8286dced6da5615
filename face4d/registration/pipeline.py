"""A scan of a head registered: unit and place from points known on scan and template, then the template's surface."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from scipy.spatial import cKDTree

from face4d.constants import LANDMARK_GROUPS, MM_PER_METRE, NUM_CONTOUR, NUM_LANDMARKS
from face4d.errors import InputError
from face4d.mesh.geometry import Similarity, fit_similarity, vertex_normals
from face4d.mesh.plausibility import as_float32, face_size, shape_of
from face4d.registration.nonrigid import STAGES, Anchors, match, register
from face4d.registration.scan import Scan
from face4d.registration.template import Template
from face4d.runtime.arrays import load_numbers

UNITS = {"metres": 1.0, "decimetres": 0.1, "centimetres": 0.01, "millimetres": 0.001, "inches": 0.0254}
_OTHER_SIZE = 1.35  # a head so much larger or smaller than the template is in no usual unit
_NO_HEAD = 0.35  # misfit of the points to the template's, in sizes of the face
_ON_SCAN = 0.020  # metres: landmarks farther from the surface are not on it
_AROUND = 0.015  # metres about a landmark that belong to its region
_FACE = 0.095  # metres about the middle of the face
_REACH = 0.020  # metres: what has no scan within is not covered


@dataclass(frozen=True)
class Residual:
    """How near a region of the result is to the scan.

    Attributes:
        median, worst: millimetres, the median and the 95th percentile over covered vertices; None where none is.
        covered: share of its vertices that the scan covers.
    """

    median: float | None
    worst: float | None
    covered: float


@dataclass(frozen=True)
class Registration:
    """A registered scan.

    Attributes:
        vertices: (V, 3) float32 metres in the template's order and place: upright, looking along +z.
        scan: the scan there, in metres.
        unit: of the scan's file, in words.
        placed: from the file's coordinates to these.
        size: of the head beside the template's.
        residuals: by region.
    """

    vertices: np.ndarray
    scan: Scan
    unit: str
    placed: Similarity
    size: float
    residuals: dict[str, Residual]

    @property
    def turned(self) -> str:
        """How the scan lay, in words."""
        names = [f"{sign}{axis}" for axis in "xyz" for sign in "+-"]
        up, ahead = (self.placed.rotation[row] for row in (1, 2))
        nearest = [names[2 * (k := int(np.abs(row).argmax())) + int(row[k] < 0)] for row in (up, ahead)]
        return f"{nearest[0]} up, looking along {nearest[1]}"


def landmark_anchors(path: str | Path, template: Template) -> Anchors:
    """Anchors of a file of 68 landmarks on the scan, in its unit and place.

    Raises:
        InputError: another content, or points that are no face.
    """
    expected = f"the scan's landmarks, a ({NUM_LANDMARKS}, 3) array in its unit and place (.npy)"
    points = load_numbers(path, expected)
    if points.shape != (NUM_LANDMARKS, 3):
        raise InputError(path, expected, f"shape {points.shape} of {points.dtype}")
    points = as_float32(path, points).astype(np.float64)
    _, misfit, mirrored = shape_of(points)
    if not misfit < _NO_HEAD + 0.2:
        what = "their mirror image" if mirrored < misfit / 2 else "points in another order or of no face"
        raise InputError(path, "68 landmarks of a face in the order jaw, brows, nose, eyes, mouth", what)
    embedding = template.embedding
    return Anchors(embedding.corners, embedding.bary, points, np.ones(NUM_LANDMARKS))


def align(template: Template, anchors: Anchors) -> tuple[Similarity, float]:
    """The similarity from template to scan by points on both, of which some may be wrong, and what it leaves: the root
    mean square distance in sizes of the set of points, weighted.
    """
    points = anchors.on(template.vertices)
    weights = anchors.weights
    for _ in range(5):
        keep = weights > 0.3 * anchors.weights
        moved = fit_similarity(points[keep], anchors.targets[keep])
        away = np.linalg.norm(moved.apply(points) - anchors.targets, axis=1)
        spread = max(float(np.median(away)), 1e-12)
        weights = anchors.weights / (1 + (away / (2.5 * spread)) ** 4)
    misfit = np.sqrt((weights * away**2).sum() / weights.sum()) / (moved.scale * face_size(points))
    return moved, float(misfit)


def named_unit(scale: float) -> tuple[str, float, float]:
    """Name and metres of the unit of a scan that is ``scale`` times the template in metres, and the size of its head
    beside the template's: 1 where no usual unit makes a head of it.
    """
    name, metres = min(UNITS.items(), key=lambda unit: abs(np.log(scale * unit[1])))
    size = scale * metres
    if abs(np.log(size)) <= np.log(_OTHER_SIZE):
        return name, metres, size
    return f"no usual unit ({scale:.4g} to the metre, by the template's size)", 1 / scale, 1.0


def register_scan(path: str | Path, scan: Scan, template: Template, anchors: Anchors) -> Registration:
    """Bring the template to a scan.

    Args:
        path: of the scan, for errors.
        scan: as in its file.
        anchors: points known on both, the targets as in the file.

    Raises:
        InputError: points that do not lie as the template's do, or not on the scan.
    """
    onto, misfit = align(template, anchors)
    if not misfit < _NO_HEAD:
        raise InputError(
            path,
            "a head whose landmarks lie as those of a face (or --landmarks FILE with the 68 in its unit)",
            f"points {100 * misfit:.0f} % of the face's size off",
        )
    unit, metres, size = named_unit(onto.scale)
    rotation = onto.rotation.T
    placed = Similarity(metres, rotation, -metres * rotation @ onto.translation)
    there = scan.moved(placed.scale, placed.rotation, placed.translation)
    known = Anchors(anchors.corners, anchors.bary, placed.apply(anchors.targets), anchors.weights)
    _check_on_scan(path, there, known)
    start = size * template.vertices
    if len(template.directions):
        follows = np.flatnonzero(~template.held)
        start = fit_directions(start, size * template.directions, template.faces, there, known, follows)
    vertices = register(start, template.faces, there, known, STAGES, held=template.held)
    return Registration(vertices.astype(np.float32), there, unit, placed, size, residuals_of(vertices, template, there))


def fit_directions(
    mean: np.ndarray,
    directions: np.ndarray,
    faces: np.ndarray,
    scan: Scan,
    anchors: Anchors,
    follows: np.ndarray,
    rounds: int = 6,
) -> np.ndarray:
    """The face of a linear model (mean (V, 3), directions (K, V, 3)) nearest to a scan: ridge regression on anchors
    and closest points of the vertices ``follows`` in turn, each with the rigid motion that fits best.
    """
    vertices = mean
    steps = follows[np.linspace(0, len(follows) - 1, min(len(follows), 1500)).astype(int)]
    moved_directions = directions
    motion = Similarity(1.0, np.eye(3), np.zeros(3))
    for turn in range(rounds):
        reach = max(0.03 / (turn + 1), 0.008)
        found = match(vertices[steps], vertex_normals(vertices, faces)[steps], scan, reach)
        rows = [np.einsum("nk,cnkd->ndc", anchors.bary, moved_directions[:, anchors.corners])]
        base = motion.apply(mean)
        errors = [anchors.targets - anchors.on(base)]
        weights = [np.repeat(anchors.weights * (3.0 if turn == 0 else 0.5), 3)]
        across = np.einsum("cvd,vd->vc", moved_directions[:, steps], found.normals)[found.valid]
        plane = np.einsum("vd,vd->v", found.points - base[steps], found.normals)[found.valid]
        design = np.concatenate([rows[0].reshape(-1, len(directions)), across if turn else across[:0]])
        target = np.concatenate([errors[0].ravel(), plane if turn else plane[:0]])
        weight = np.concatenate([weights[0], np.ones(len(design) - len(weights[0]))])
        noise = 0.003 if turn == 0 else 0.0015
        normal = (design.T * weight) @ design / noise**2 + np.eye(len(directions))
        coefficients = np.linalg.solve(normal, (design.T * weight) @ target / noise**2)
        still = mean + np.tensordot(np.clip(coefficients, -4, 4), directions, axes=1)
        pairs = (
            (anchors.on(still), anchors.targets)
            if turn == 0
            else (still[steps][found.valid], found.points[found.valid])
        )
        if len(pairs[0]) >= 30:
            motion = fit_similarity(*pairs, scaled=False)
        moved_directions = directions @ motion.rotation.T
        vertices = motion.apply(still)
    return vertices


def _check_on_scan(path: str | Path, scan: Scan, anchors: Anchors) -> None:
    edge = np.linalg.norm(scan.vertices[scan.faces[:, 0]] - scan.vertices[scan.faces[:, 1]], axis=1)
    away = np.median(cKDTree(scan.vertices).query(anchors.targets)[0])
    if away > _ON_SCAN + np.median(edge):
        raise InputError(path, "landmarks that lie on the scan, in its unit and place", f"{1e3 * away:.0f} mm off")


def regions(template: Template) -> dict[str, np.ndarray]:
    """(V,) bool by name: near each group of landmarks, the face as a whole, and the rest."""
    landmarks, vertices = template.landmarks, template.vertices
    found = {}
    for name, group in LANDMARK_GROUPS.items():
        away = np.linalg.norm(vertices[:, None] - landmarks[None, group], axis=2).min(axis=1)
        found[name] = away < _AROUND
    middle = landmarks[NUM_CONTOUR:].mean(axis=0)
    found["face"] = np.linalg.norm(vertices - middle, axis=1) < _FACE
    found["rest"] = ~found["face"]
    return found


def residuals_of(vertices: np.ndarray, template: Template, scan: Scan) -> dict[str, Residual]:
    """How near vertices (V, 3) in the template's order are to a scan, by region."""
    found = match(vertices, vertex_normals(vertices, template.faces), scan, _REACH)
    distance = MM_PER_METRE * found.distance
    residuals = {}
    for name, inside in regions(template).items():
        there = distance[inside & found.valid]
        median, worst = np.percentile(there, (50, 95)).tolist() if there.size else (None, None)
        residuals[name] = Residual(median, worst, float(found.valid[inside].mean()) if inside.any() else 0.0)
    return residuals
