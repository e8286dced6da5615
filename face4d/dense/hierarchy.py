"""Coarser and coarser meshes of one template, the steps between them, and the spirals of each: all a spiral decoder knows of the topology.

Level 0 is the template; every further level keeps about a quarter of the vertices of the one before, as they are. Going back up, each vertex
is a mix of the three corners of its closest coarse triangle (Ranjan et al., Generating 3D Faces using Convolutional Mesh
Autoencoders, ECCV 2018).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from zipfile import BadZipFile

import numpy as np

from face4d.dense.edge_collapse import collapse_edges
from face4d.dense.spirals import build_spirals, connected_components, default_references
from face4d.errors import InputError
from face4d.mesh.closest import check_surface, closest_points
from face4d.mesh.topology import check_topology
from face4d.runtime.atomic import replacing
from face4d.runtime.safe_pickle import load_pickle

log = logging.getLogger(__name__)

# Of the published decoder, finest level first; a deeper hierarchy would go on with the last.
RINGS = (2, 2, 1, 1, 1)
DILATION = (2, 2, 1, 1, 1)
FLAME_REFERENCES = (3567, 4051, 4597)

REDUCTION = 4  # vertices of a level to those of the next
DEPTH = 5  # levels
SMALLEST_SOLID = 4  # vertices of a tetrahedron
CACHE_FORMAT = 1  # goes into the digest: one more whenever other arrays come of the same template
DEFAULT_CACHE = Path("models", "template_cache")

NEGLIGIBLE_WEIGHT = 1e-9
SAME_DISTANCE = 1e-9  # metres; symmetric templates have pairs of vertices equally far, but for rounding


@dataclass(frozen=True)
class Level:
    """One mesh of a hierarchy.

    Attributes:
        vertices: (V, 3) float64, metres.
        faces: (F, 3) int32.
        spirals: (V + 1, k) int64 vertex indices; -1 and the last row are the dummy vertex.
    """

    vertices: np.ndarray
    faces: np.ndarray
    spirals: np.ndarray


@dataclass(frozen=True)
class Step:
    """From a level with V vertices to the next coarser one, and back.

    Attributes:
        kept: vertex indices of the finer level, one for each vertex of the coarser.
        corners: (V, 3) int64 vertices of the coarser level that mix to each of the finer.
        weights: (V, 3) float64, how; barycentric, so rows sum to 1.
    """

    kept: np.ndarray
    corners: np.ndarray
    weights: np.ndarray


@dataclass(frozen=True)
class Hierarchy:
    """Levels from fine to coarse and the steps between neighbours.

    Attributes:
        levels: at least one.
        steps: one less.
    """

    levels: tuple[Level, ...]
    steps: tuple[Step, ...]

    @property
    def sizes(self) -> tuple[int, ...]:
        """Vertices of every level."""
        return tuple(len(level.vertices) for level in self.levels)

    def arrays(self) -> dict[str, np.ndarray]:
        """Everything as named arrays, for files; :meth:`from_arrays` reads them back."""
        named = {f"level{number}_{name}": value for number, level in enumerate(self.levels) for name, value in vars(level).items()}
        return named | {f"step{number}_{name}": value for number, step in enumerate(self.steps) for name, value in vars(step).items()}

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], source: str | Path = "hierarchy") -> Hierarchy:
        """The hierarchy whose :meth:`arrays` these are.

        Raises:
            InputError: arrays are missing or do not fit together; it names ``source``.
        """
        depth = sum(name.endswith("_spirals") for name in arrays)
        try:
            levels = tuple(Level(*(np.asarray(arrays[f"level{n}_{name}"]) for name in ("vertices", "faces", "spirals"))) for n in range(depth))
            steps = tuple(Step(*(np.asarray(arrays[f"step{n}_{name}"]) for name in ("kept", "corners", "weights"))) for n in range(depth - 1))
        except KeyError as error:
            raise InputError(source, "the arrays of a mesh hierarchy", f"no {error.args[0]}") from None
        hierarchy = cls(levels, steps)
        fits = depth > 0 and all(
            step.corners.shape == step.weights.shape == (size, 3)
            and step.kept.shape == (coarse,)
            and 0 <= step.corners.min()
            and step.corners.max() < coarse
            for step, size, coarse in zip(steps, hierarchy.sizes, hierarchy.sizes[1:])
        )
        fits = fits and all(
            -1 <= level.spirals.min() and level.spirals.max() < size == len(level.spirals) - 1 for level, size in zip(levels, hierarchy.sizes)
        )
        if not fits:
            raise InputError(source, "the arrays of a mesh hierarchy", "arrays that do not fit together")
        return hierarchy


def template_hierarchy(
    vertices: np.ndarray,
    faces: np.ndarray,
    *,
    matrices: str | Path | None = None,
    references: Sequence[int] | None = None,
    cache: str | Path | None = DEFAULT_CACHE,
    source: str | Path = "template",
) -> Hierarchy:
    """The hierarchy of a template, from the cache where it has been made before.

    Args:
        vertices: (V, 3) metres.
        faces: (F, 3).
        matrices: a ``downsampling_matrices.pkl`` whose hierarchy to take in place of one's own; it must be of this template.
        references: vertices that spirals point to. Default: those of FLAME with ``matrices``, else found by
            :func:`~face4d.dense.spirals.default_references`.
        cache: folder of hierarchies made before, one file for each digest of all that goes in; None = no cache. A damaged file is made again.
        source: file to name in errors.

    Raises:
        InputError: no surface (see :func:`build_hierarchy`), or matrices of another template.
    """
    if cache is None:
        return _template_hierarchy(vertices, faces, matrices, references, source)
    if matrices is not None and not Path(matrices).is_file():
        raise InputError(matrices, "mesh hierarchy matrices", "no such file")
    digest = sha256(f"{CACHE_FORMAT} {RINGS} {DILATION} {REDUCTION} {DEPTH} {references}".encode())
    for array, kind in ((vertices, np.float64), (faces, np.int64)):
        digest.update(f"{np.shape(array)}".encode() + np.ascontiguousarray(array, dtype=kind).tobytes())
    if matrices is not None:
        digest.update(Path(matrices).read_bytes())
    path = Path(cache) / f"{digest.hexdigest()[:32]}.npz"
    try:
        with np.load(path) as arrays:
            return Hierarchy.from_arrays(dict(arrays), path)
    except (OSError, ValueError, BadZipFile, EOFError):
        hierarchy = _template_hierarchy(vertices, faces, matrices, references, source)
    try:
        with replacing(path) as temporary:
            np.savez(temporary, **hierarchy.arrays())
    except OSError as error:  # a folder one may not write to costs some seconds at the next start, no more
        log.warning("hierarchy not cached: %s", error)
    return hierarchy


def _template_hierarchy(
    vertices: np.ndarray, faces: np.ndarray, matrices: str | Path | None, references: Sequence[int] | None, source: str | Path
) -> Hierarchy:
    if matrices is None:
        return build_hierarchy(vertices, faces, references=references, source=source)
    hierarchy = read_downsampling_matrices(matrices, FLAME_REFERENCES if references is None else references)
    finest = hierarchy.levels[0]
    check_topology(matrices, len(finest.vertices), finest.faces, len(vertices), faces, f"the template of {source}")
    return hierarchy


def build_hierarchy(
    vertices: np.ndarray, faces: np.ndarray, *, depth: int = DEPTH, references: Sequence[int] | None = None, source: str | Path = "template"
) -> Hierarchy:
    """Simplify a template level by level.

    Args:
        vertices: (V, 3) metres.
        faces: (F, 3) triangles; open edges (a neck) and several components (eyeballs) are fine.
        depth: number of levels; each has a quarter of the vertices of the one before, rounded up, or more where no further collapse is
            possible.
        references: see :func:`with_spirals`.
        source: file to name in errors.

    Raises:
        InputError: no triangles, an index out of range, a coordinate that is no number, a degenerate triangle, an edge of three or more
            triangles, neighbours of opposite orientation.
    """
    vertices, faces = np.asarray(vertices, dtype=np.float64), np.asarray(faces, dtype=np.int32)
    _check_template(vertices, faces, source)
    meshes, steps = [(vertices, faces)], []
    for _ in range(depth - 1):
        fine, fine_faces = meshes[-1]
        target = -(-len(fine) // REDUCTION)
        kept, coarse_faces = collapse_edges(fine, _large_components(len(fine), fine_faces), target)
        steps.append(Step(kept, *_upsampling(fine, fine_faces, kept, coarse_faces)))
        meshes.append((fine[kept], coarse_faces))
    return with_spirals(meshes, steps, references)


def _check_template(vertices: np.ndarray, faces: np.ndarray, source: str | Path) -> None:
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3 or not len(faces):
        raise InputError(source, "vertices (V, 3) and triangles (F, 3)", f"shapes {vertices.shape} and {faces.shape}")
    if faces.min() < 0 or faces.max() >= len(vertices):
        raise InputError(source, f"triangles of vertices 0..{len(vertices) - 1}", f"vertex {faces.min() if faces.min() < 0 else faces.max()}")
    if not np.isfinite(vertices).all():
        raise InputError(source, "finite coordinates", f"vertex {np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0]} without")
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not area.all():
        raise InputError(source, "triangles with an area", f"triangle {np.flatnonzero(area == 0)[0]} without")
    check_surface(source, faces)


def _large_components(count: int, faces: np.ndarray) -> np.ndarray:
    """Triangles of the components that will still be solids after the reduction; of all if there are none.

    A quarter of an eyeball of ten vertices is no eyeball; its vertices are better spent on the face, which carries it from then on.
    """
    component = connected_components(count, faces)
    large = np.bincount(component) >= REDUCTION * SMALLEST_SOLID
    return faces[large[component[faces[:, 0]]]] if large.any() else faces


def _upsampling(fine: np.ndarray, fine_faces: np.ndarray, kept: np.ndarray, coarse_faces: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Corners (V, 3) and weights (V, 3) of the closest point of the coarse mesh to every fine vertex.

    Only triangles of a vertex's own component that face its way are looked at (where there are any): an eyelid must not follow the
    eyeball, nor the upper lip the lower.
    """
    component = connected_components(len(fine), fine_faces)
    normals = _vertex_normals(fine, fine_faces)
    face_component = component[kept[coarse_faces[:, 0]]]
    corners, weights = np.zeros((len(fine), 3), dtype=np.int64), np.zeros((len(fine), 3))
    for number in np.unique(component):
        own, faces = np.flatnonzero(component == number), coarse_faces[face_component == number]
        if not len(faces):
            faces = coarse_faces  # of a component that is no more
        found = closest_points(fine[own], fine[kept], faces, normals=normals[own])
        missing = found.face < 0
        if missing.any():
            anywhere = closest_points(fine[own[missing]], fine[kept], faces)
            found.face[missing], found.bary[missing] = anywhere.face, anywhere.bary
        corners[own], weights[own] = faces[found.face], found.bary
    corners[kept], weights[kept] = np.arange(len(kept))[:, None], (1, 0, 0)  # exact; also vertices without triangles
    weights[np.abs(weights) < NEGLIGIBLE_WEIGHT] = 0
    return corners, weights / weights.sum(axis=1, keepdims=True)


def _vertex_normals(vertices: np.ndarray, faces: np.ndarray) -> np.ndarray:
    """(V, 3) unit normals, weighted by area; 0 without triangles."""
    corners = vertices[faces]
    normals = np.zeros_like(vertices)
    area_normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    for corner in range(3):
        np.add.at(normals, faces[:, corner], area_normals)
    return normals / np.maximum(np.linalg.norm(normals, axis=1, keepdims=True), np.finfo(float).tiny)


def with_spirals(
    meshes: Sequence[tuple[np.ndarray, np.ndarray]], steps: Sequence[Step], references: Sequence[int] | None = None
) -> Hierarchy:
    """Complete a hierarchy by the spirals of its meshes.

    Args:
        meshes: vertices and faces of every level.
        steps: between them.
        references: vertices of level 0 that spirals point to, see :func:`~face4d.dense.spirals.build_spirals`; on coarser levels the
            vertices nearest to them, the first of equals. Default: :func:`~face4d.dense.spirals.default_references`.
    """
    vertices, faces = meshes[0]
    if references is None:
        references = default_references(vertices, faces)
    points = vertices[list(references)]
    levels = []
    for number, (vertices, faces) in enumerate(meshes):
        distance = np.linalg.norm(vertices[None] - points[:, None], axis=2)  # (references, V)
        nearest = np.argmax(distance <= distance.min(axis=1, keepdims=True) + SAME_DISTANCE, axis=1).tolist()
        kind = min(number, len(RINGS) - 1)
        levels.append(Level(vertices, faces, build_spirals(vertices, faces, nearest, RINGS[kind], DILATION[kind])))
    return Hierarchy(tuple(levels), tuple(steps))


def read_downsampling_matrices(path: str | Path, references: Sequence[int] = FLAME_REFERENCES) -> Hierarchy:
    """The hierarchy in a ``downsampling_matrices.pkl`` of Sparse2Dense (``M_verts_faces``, ``D``, ``U``).

    Its weights are those of projections onto triangles, so some lie beyond 0..1.

    Raises:
        InputError: missing, damaged, or of other content.
    """
    content = load_pickle(path)
    expected = "M_verts_faces, D and U of a mesh hierarchy"
    if not (isinstance(content, dict) and {"M_verts_faces", "D", "U"} <= content.keys()):
        raise InputError(path, expected, "other content")
    try:
        meshes = [(np.asarray(v, dtype=np.float64), np.asarray(f).astype(np.int32)) for v, f in content["M_verts_faces"]]
        steps = []
        for down, up, (fine, _), (coarse, _) in zip(content["D"], content["U"], meshes[:-1], meshes[1:], strict=True):
            if down.shape != (len(coarse), len(fine)) or up.shape != (len(fine), len(coarse)):
                raise ValueError(f"matrices {down.shape} and {up.shape} between {len(fine)} and {len(coarse)} vertices")
            kept = np.asarray(down.argmax(axis=1)).ravel().astype(np.int64)
            steps.append(Step(kept, *_three_per_row(up)))
    except (TypeError, ValueError, AttributeError) as error:
        raise InputError(path, expected, str(error)) from None
    if references and max(references) >= len(meshes[0][0]):
        raise InputError(path, f"a template with vertex {max(references)}", f"{len(meshes[0][0])} vertices")
    return with_spirals(meshes, steps, references)


def _three_per_row(matrix: object) -> tuple[np.ndarray, np.ndarray]:
    """Columns (V, 3) and values (V, 3) of a matrix with at most three entries that count in each row."""
    rows = matrix.tocsr() if hasattr(matrix, "tocsr") else None
    if rows is None:
        from scipy import sparse

        rows = sparse.csr_matrix(np.asarray(matrix))
    rows.sum_duplicates()
    rows.data[np.abs(rows.data) < NEGLIGIBLE_WEIGHT] = 0
    rows.eliminate_zeros()
    counts = np.diff(rows.indptr)
    if counts.max(initial=0) > 3:
        raise ValueError(f"a row of {counts.max()} weights")
    corners, weights = np.zeros((len(counts), 3), dtype=np.int64), np.zeros((len(counts), 3))
    place = np.arange(len(rows.data)) - np.repeat(rows.indptr[:-1], counts)
    owner = np.repeat(np.arange(len(counts)), counts)
    corners[owner, place], weights[owner, place] = rows.indices, rows.data
    return corners, weights
