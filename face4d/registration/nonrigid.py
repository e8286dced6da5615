"""Non-rigid registration of a template to a scan by closest points.

The displacement of the template is smooth in the sense of a thin plate, less and less so from stage to stage, while it
is pulled to the tangent planes of the closest points of the scan. After Amberg, Romdhani and Vetter, "Optimal Step
Nonrigid ICP Algorithms for Surface Registration", CVPR 2007, with displacements in place of an affine map per vertex
(three unknowns in place of twelve), and point-to-plane distances (Chen and Medioni 1992), which let the surface slide.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from scipy import sparse
from scipy.sparse.linalg import LinearOperator, cg, splu

from face4d.mesh.geometry import closest_points, connected_components, fit_similarity, vertex_normals
from face4d.registration.scan import Scan

_SLIDE = 0.1  # weight of the distance along the tangent plane, beside 1 across it
_MIN_COSINE = 0.5  # between the normals of two points that belong together
_NEAR = 0.03  # share of the surface's vertices that a loose part moves with
_LEAST_COVERED = 0.1  # of the vertices, to align the template by them
_STRETCH = 0.05  # weight of stretching beside bending
_ALONE = 0.050  # metres from what the scan covers, at which the rest keeps the template's shape


@dataclass(frozen=True)
class Anchors:
    """Points of the template that are known on the scan.

    Attributes:
        corners: (N, 3) vertices of the template.
        bary: (N, 3) weights of these.
        targets: (N, 3) metres, on the scan.
        weights: (N,) 0..1.
    """

    corners: np.ndarray
    bary: np.ndarray
    targets: np.ndarray
    weights: np.ndarray

    def on(self, vertices: np.ndarray) -> np.ndarray:
        """(N, 3), the points on the template's vertices (V, 3)."""
        return np.einsum("nk,nkd->nd", self.bary, vertices[self.corners])


NO_ANCHORS = Anchors(np.zeros((0, 3), np.int64), np.zeros((0, 3)), np.zeros((0, 3)), np.zeros(0))


class Stage(NamedTuple):
    """A stage of the registration.

    Attributes:
        length: metres below which the displacement is smooth.
        reach: metres; closest points beyond do not pull, those at half of it pull a quarter as much.
        anchors: weight of all anchors together beside all vertices.
        rounds: of closest points.
    """

    length: float
    reach: float
    anchors: float
    rounds: int


STAGES = (
    Stage(0.060, 0.040, 1.0, 3),
    Stage(0.040, 0.030, 0.5, 2),
    Stage(0.025, 0.020, 0.2, 3),
    Stage(0.015, 0.015, 0.1, 3),
    Stage(0.009, 0.010, 0.03, 3),
    Stage(0.005, 0.008, 0.0, 3),
    Stage(0.003, 0.006, 0.0, 2),
    Stage(0.002, 0.005, 0.0, 2),
)


class Matches(NamedTuple):
    """Closest points of the scan to points of the template."""

    points: np.ndarray  # (P, 3)
    normals: np.ndarray  # (P, 3) unit
    distance: np.ndarray  # (P,)
    valid: np.ndarray  # (P,) bool: within reach, facing the same way, not where the scan ends


def match(vertices: np.ndarray, normals: np.ndarray, scan: Scan, reach: float) -> Matches:
    """Where points (P, 3) with unit normals belong on the scan."""
    found = closest_points(vertices, scan.vertices, scan.faces, normals=normals, min_cosine=_MIN_COSINE, reach=reach)
    corners = scan.faces[found.face]
    points = np.einsum("nk,nkd->nd", found.bary, scan.vertices[corners])
    planes = np.einsum("nk,nkd->nd", found.bary, scan.normals[corners])
    planes /= np.maximum(np.linalg.norm(planes, axis=1, keepdims=True), 1e-12)
    at_end = (found.bary * scan.border[corners]).sum(axis=1) > 0.999
    return Matches(points, planes, found.distance, (found.face >= 0) & ~at_end)


def register(
    vertices: np.ndarray,
    faces: np.ndarray,
    scan: Scan,
    anchors: Anchors,
    stages: tuple[Stage, ...] = STAGES,
    start: np.ndarray | None = None,
    held: np.ndarray | None = None,
) -> np.ndarray:
    """Bring a template to a scan.

    Args:
        vertices, faces: (V, 3) metres and (F, 3), the template; without ``start`` aligned to the scan.
        anchors: points known on both.
        start: (V, 3) vertices from which closest points are looked for first, default the template's own.
        held: (V,) bool, parts that keep the template's shape, default none.

    Returns:
        (V, 3) vertices in the template's order. Its largest connected part is registered; others (eyeballs, teeth)
        move as a whole, by the similarity of what is near them.
    """
    piece = connected_components(len(vertices), faces)
    skin = np.flatnonzero(piece == np.bincount(piece[faces[:, 0]], minlength=piece.max() + 1).argmax())
    number = np.full(len(vertices), -1)
    number[skin] = np.arange(len(skin))
    own_faces = number[faces[(number[faces] >= 0).all(axis=1)]]
    inside = (number[anchors.corners] >= 0).all(axis=1)
    own = Anchors(
        number[anchors.corners[inside]], anchors.bary[inside], anchors.targets[inside], anchors.weights[inside]
    )
    result = vertices.copy()
    first = vertices if start is None else start
    follows = np.ones(len(skin), bool) if held is None else ~held[skin]
    result[skin] = _surface(vertices[skin], own_faces, scan, own, stages, first[skin], follows)
    for part in np.setdiff1d(piece, piece[skin[:1]]):
        members = np.flatnonzero(piece == part)
        away = np.linalg.norm(vertices[skin] - vertices[members].mean(axis=0), axis=1)
        near = skin[np.argsort(away)[: max(round(_NEAR * len(skin)), 12)]]
        result[members] = fit_similarity(vertices[near], result[near]).apply(vertices[members])
    return result


def _surface(
    template: np.ndarray,
    faces: np.ndarray,
    scan: Scan,
    anchors: Anchors,
    stages: tuple[Stage, ...],
    now: np.ndarray,
    follows: np.ndarray,
) -> np.ndarray:
    """The surface (V, 3), by displacements of the template, which before every stage is brought to the surface as it is
    by then: what the scan does not cover then follows the template's shape and not the tilt of a first guess.
    """
    plate, membrane, area = _smoothness(template, faces)
    size = np.sqrt(area.mean())
    share = area / area.mean()
    reads = sparse.csr_matrix(
        (anchors.bary.ravel(), (np.repeat(np.arange(len(anchors.bary)), 3), anchors.corners.ravel())),
        shape=(len(anchors.bary), len(template)),
    )
    covered = np.ones(len(template), bool)
    for stage in stages:
        base = fit_similarity(template[covered], now[covered]).apply(template)
        moved = now - base
        bend, stretch = (stage.length / size) ** 4, _STRETCH * (stage.length / size) ** 2
        alone = _STRETCH * (stage.length / _ALONE) ** 2
        held = anchors.weights * stage.anchors * len(template) / max(anchors.weights.sum(), 1e-9)
        smooth = bend * plate + stretch * membrane + alone * sparse.diags(share)
        fixed = (smooth + reads.T @ sparse.diags(held) @ reads).tocsr()
        pull = reads.T @ (held[:, None] * (anchors.targets - reads @ base))
        for _ in range(stage.rounds):
            now = base + moved
            found = match(now, vertex_normals(now, faces), scan, stage.reach)
            weight = share * (found.valid & follows) / (1 + 4 * (found.distance.clip(max=1) / stage.reach) ** 2) ** 2
            moved = _solve(fixed, pull, weight, found, base, moved)
        now = base + moved
        seen = found.valid & follows
        covered = seen if seen.mean() > _LEAST_COVERED else np.ones(len(template), bool)
    return now


def _solve(
    fixed: sparse.csr_matrix,
    pull: np.ndarray,
    weight: np.ndarray,
    found: Matches,
    start: np.ndarray,
    moved: np.ndarray,
) -> np.ndarray:
    """The displacement (V, 3) of least energy, by conjugate gradients: coordinates meet only in the tangent planes,
    and without that coupling one factorisation serves all three.
    """
    count, slack = len(start), 1e-6
    wanted = np.where(found.valid[:, None], found.points - start, 0)
    planes = np.where(found.valid[:, None], found.normals, 0)
    right = pull + weight[:, None] * (
        (1 - _SLIDE) * np.einsum("vd,vd->v", planes, wanted)[:, None] * planes + _SLIDE * wanted
    )

    def product(x: np.ndarray) -> np.ndarray:
        x = x.reshape(count, 3)
        across = np.einsum("vd,vd->v", planes, x)[:, None] * planes
        return (fixed @ x + weight[:, None] * ((1 - _SLIDE) * across + _SLIDE * x) + slack * x).ravel()

    mean = (1 - _SLIDE) / 3 + _SLIDE
    factor = splu((fixed + sparse.diags(weight * mean + slack)).tocsc())
    shape = (3 * count, 3 * count)
    solution, _ = cg(
        LinearOperator(shape, matvec=product, dtype=np.float64),
        right.ravel(),
        x0=moved.ravel(),
        rtol=1e-4,
        maxiter=60,
        M=LinearOperator(shape, matvec=lambda x: factor.solve(x.reshape(count, 3)).ravel(), dtype=np.float64),
    )
    return np.asarray(solution).reshape(count, 3)


def _smoothness(vertices: np.ndarray, faces: np.ndarray) -> tuple[sparse.csr_matrix, sparse.csr_matrix, np.ndarray]:
    """Energies of a displacement as matrices (V, V), for vertices of mean area 1, and the vertices' areas (V,):
    bending, its squared Laplacian, and stretching, its squared gradient (cotangent weights, Pinkall and Polthier 1993,
    none below zero).
    """
    count = len(vertices)
    corners = vertices[faces]
    rows, columns, values = [], [], []
    for k in range(3):
        one, two = corners[:, (k + 1) % 3] - corners[:, k], corners[:, (k + 2) % 3] - corners[:, k]
        double = np.linalg.norm(np.cross(one, two), axis=1)
        cotangent = np.clip(np.einsum("fd,fd->f", one, two) / np.maximum(double, 1e-12), 0.02, 10) / 2
        rows.append(faces[:, (k + 1) % 3])
        columns.append(faces[:, (k + 2) % 3])
        values.append(cotangent)
    edges = sparse.csr_matrix(
        (np.concatenate(values), (np.concatenate(rows), np.concatenate(columns))), shape=(count, count)
    )
    edges = edges + edges.T
    laplacian = (sparse.diags(np.asarray(edges.sum(axis=1)).ravel()) - edges).tocsr()
    double = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    area = np.bincount(faces.ravel(), weights=np.repeat(double / 6, 3), minlength=count)
    area = np.maximum(area, 0.05 * area.mean())
    plate = laplacian.T @ sparse.diags(area.mean() / area) @ laplacian
    return plate.tocsr(), laplacian, area
