"""Coarser and coarser meshes of one template, the steps between them, and the spirals of each: all a spiral decoder
knows of the topology.

Level 0 is the template; every further level keeps about a quarter of the vertices of the one before, as they are. Going
back up, each vertex is a mix of the three corners of its closest coarse triangle (Ranjan et al., Generating 3D Faces
using Convolutional Mesh Autoencoders, ECCV 2018).
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np

from face4d.dense.edge_collapse import collapse_edges
from face4d.dense.spirals import build_spirals, default_references
from face4d.errors import InputError
from face4d.mesh.geometry import closest_points, connected_components, vertex_normals
from face4d.mesh.triangles import check_surface, check_topology
from face4d.runtime.arrays import load_npz, numbers
from face4d.runtime.atomic import replacing
from face4d.runtime.files import read_bytes
from face4d.runtime.safe_pickle import load_pickle

log = logging.getLogger(__name__)

# Of the published decoder, finest level first; a deeper hierarchy would go on with the last.
RINGS = (2, 2, 1, 1, 1)
DILATION = (2, 2, 1, 1, 1)
FLAME_REFERENCES = (3567, 4051, 4597)

REDUCTION = 4  # vertices of a level to those of the next
DEPTH = 5  # levels
MOST_LEVELS = 20  # of a file
LARGEST = 1e30  # coordinate or weight of a file
MOST_TRIANGLES = 64  # at one vertex of a file's meshes; published ones have up to 32
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

    def arrays(self) -> dict[str, Any]:
        """Everything as named arrays, for files; :meth:`from_arrays` reads them back."""
        named = {
            f"level{number}_{name}": value
            for number, level in enumerate(self.levels)
            for name, value in vars(level).items()
        }
        return named | {
            f"step{number}_{name}": value
            for number, step in enumerate(self.steps)
            for name, value in vars(step).items()
        }

    @classmethod
    def from_arrays(cls, arrays: Mapping[str, np.ndarray], source: str | Path = "hierarchy") -> Hierarchy:
        """The hierarchy whose :meth:`arrays` these are.

        Raises:
            InputError: arrays are missing or do not fit together; it names ``source``.
        """
        depth = sum(name.endswith("_spirals") for name in arrays)
        try:
            levels = tuple(
                Level(*(np.asarray(arrays[f"level{n}_{name}"]) for name in ("vertices", "faces", "spirals")))
                for n in range(depth)
            )
            steps = tuple(
                Step(*(np.asarray(arrays[f"step{n}_{name}"]) for name in ("kept", "corners", "weights")))
                for n in range(depth - 1)
            )
        except KeyError as error:
            raise InputError(source, "the arrays of a mesh hierarchy", f"no {error.args[0]}") from None
        fits = 0 < depth <= MOST_LEVELS and all(
            _are_points(level.vertices)
            and _are_indices(level.faces, (None, 3), 0, len(level.vertices))
            and _are_indices(level.spirals, (len(level.vertices) + 1, None), -1, len(level.vertices))
            for level in levels
        )
        fits = fits and all(
            _are_indices(step.kept, (len(coarse.vertices),), 0, len(fine.vertices))
            and _are_indices(step.corners, (len(fine.vertices), 3), 0, len(coarse.vertices))
            and step.weights.shape == step.corners.shape
            and _are_points(step.weights)
            for step, fine, coarse in zip(steps, levels, levels[1:])
        )
        if not fits:
            raise InputError(source, "the arrays of a mesh hierarchy", "arrays that do not fit together")
        return cls(levels, steps)


def _are_points(array: np.ndarray) -> bool:
    """Whether an array is finite floating numbers (N, 3) that can be reckoned with, N at least 1."""
    fits = array.ndim == 2 and array.shape[1] == 3 and array.size > 0 and array.dtype.kind == "f"
    return fits and bool((np.abs(array) < LARGEST).all())  # NaN fails too


def _are_indices(array: np.ndarray, shape: tuple[int | None, ...], lowest: int, end: int) -> bool:
    """Whether an array is whole numbers from ``lowest`` to ``end`` - 1, of that shape (None: any length but 0)."""
    fits = array.ndim == len(shape) and array.size > 0 and all(n in (None, m) for n, m in zip(shape, array.shape))
    return fits and array.dtype.kind in "iu" and lowest <= int(array.min()) and int(array.max()) < end


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
        matrices: a ``downsampling_matrices.pkl`` whose hierarchy to take in place of one's own; it must be of this
            template.
        references: vertices that spirals point to. Default: those of FLAME with ``matrices``, else found by
            :func:`~face4d.dense.spirals.default_references`.
        cache: folder of hierarchies made before, one file for each digest of all that goes in; None = no cache. A
            damaged file is made again.
        source: file to name in errors.

    Raises:
        InputError: no surface (see :func:`build_hierarchy`), or matrices of another template.
    """
    if cache is None:
        return _template_hierarchy(vertices, faces, matrices, references, source)
    digest = sha256(f"{CACHE_FORMAT} {RINGS} {DILATION} {REDUCTION} {DEPTH} {references}".encode())
    for array, kind in ((vertices, np.float64), (faces, np.int64)):
        digest.update(f"{np.shape(array)}".encode() + np.ascontiguousarray(array, dtype=kind).tobytes())
    if matrices is not None:
        digest.update(read_bytes(matrices, "mesh hierarchy matrices"))
    path = Path(cache) / f"{digest.hexdigest()[:32]}.npz"
    try:
        return Hierarchy.from_arrays(load_npz(path, "the arrays of a mesh hierarchy"), path)
    except InputError:
        hierarchy = _template_hierarchy(vertices, faces, matrices, references, source)
    try:
        with replacing(path) as temporary:
            np.savez(temporary, **hierarchy.arrays())
    except OSError as error:  # a folder one may not write to costs some seconds at the next start, no more
        log.warning("hierarchy not cached: %s", error)
    return hierarchy


def _template_hierarchy(
    vertices: np.ndarray,
    faces: np.ndarray,
    matrices: str | Path | None,
    references: Sequence[int] | None,
    source: str | Path,
) -> Hierarchy:
    if matrices is None:
        return build_hierarchy(vertices, faces, references=references, source=source)
    hierarchy = read_downsampling_matrices(matrices, FLAME_REFERENCES if references is None else references)
    finest = hierarchy.levels[0]
    check_topology(matrices, len(finest.vertices), finest.faces, len(vertices), faces, f"the template of {source}")
    return hierarchy


def build_hierarchy(
    vertices: np.ndarray,
    faces: np.ndarray,
    *,
    depth: int = DEPTH,
    references: Sequence[int] | None = None,
    source: str | Path = "template",
) -> Hierarchy:
    """Simplify a template level by level.

    Args:
        vertices: (V, 3) metres.
        faces: (F, 3) triangles; open edges (a neck) and several components (eyeballs) are fine.
        depth: number of levels; each has a quarter of the vertices of the one before, rounded up, or more where no
            further collapse is possible.
        references: see :func:`with_spirals`.
        source: file to name in errors.

    Raises:
        InputError: no triangles, an index out of range, a coordinate that is no number, a degenerate triangle, an edge
            of three or more triangles, neighbours of opposite orientation.
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
        raise InputError(
            source,
            f"triangles of vertices 0..{len(vertices) - 1}",
            f"vertex {faces.min() if faces.min() < 0 else faces.max()}",
        )
    if not np.isfinite(vertices).all():
        raise InputError(
            source, "finite coordinates", f"vertex {np.flatnonzero(~np.isfinite(vertices).all(axis=1))[0]} without"
        )
    corners = vertices[faces]
    area = np.linalg.norm(np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0]), axis=1)
    if not area.all():
        raise InputError(source, "triangles with an area", f"triangle {np.flatnonzero(area == 0)[0]} without")
    check_surface(source, faces)


def _large_components(count: int, faces: np.ndarray) -> np.ndarray:
    """Triangles of the components that will still be solids after the reduction; of all if there are none.

    A quarter of an eyeball of ten vertices is no eyeball; its vertices are better spent on the face, which carries it
    from then on.
    """
    component = connected_components(count, faces)
    large = np.bincount(component) >= REDUCTION * SMALLEST_SOLID
    return faces[large[component[faces[:, 0]]]] if large.any() else faces


def _upsampling(
    fine: np.ndarray, fine_faces: np.ndarray, kept: np.ndarray, coarse_faces: np.ndarray
) -> tuple[np.ndarray, np.ndarray]:
    """Corners (V, 3) and weights (V, 3) of the closest point of the coarse mesh to every fine vertex.

    Only triangles of a vertex's own component that face its way are looked at (where there are any): an eyelid must not
    follow the eyeball, nor the upper lip the lower.
    """
    component = connected_components(len(fine), fine_faces)
    normals = vertex_normals(fine, fine_faces)
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


def with_spirals(
    meshes: Sequence[tuple[np.ndarray, np.ndarray]], steps: Sequence[Step], references: Sequence[int] | None = None
) -> Hierarchy:
    """Complete a hierarchy by the spirals of its meshes.

    Args:
        meshes: vertices and faces of every level.
        steps: between them.
        references: vertices of level 0 that spirals point to, see :func:`~face4d.dense.spirals.build_spirals`; on
            coarser levels the vertices nearest to them, the first of equals. Default:
            :func:`~face4d.dense.spirals.default_references`.
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
    pairs, downs, ups = (
        list(content[key]) if isinstance(content[key], (list, tuple, np.ndarray)) else []
        for key in ("M_verts_faces", "D", "U")
    )
    if not 0 < len(pairs) <= MOST_LEVELS or not len(downs) == len(ups) == len(pairs) - 1:
        raise InputError(path, expected, f"{len(pairs)} meshes, {len(downs)} and {len(ups)} steps")
    meshes = [_mesh(path, number, pair) for number, pair in enumerate(pairs)]
    steps = []
    for number, (down, up, (fine, _), (coarse, _)) in enumerate(zip(downs, ups, meshes, meshes[1:])):
        down, up = (
            _matrix(path, f"D {number}", down, (len(coarse), len(fine))),
            _matrix(path, f"U {number}", up, (len(fine), len(coarse))),
        )
        kept = np.asarray(down.argmax(axis=1)).ravel().astype(np.int64)
        steps.append(Step(kept, *_three_per_row(f"{path}, U {number}", up)))
    if references and max(references) >= len(meshes[0][0]):
        raise InputError(path, f"a template with vertex {max(references)}", f"{len(meshes[0][0])} vertices")
    return with_spirals(meshes, steps, references)


def _mesh(path: str | Path, number: int, pair: object) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float64 and triangles (F, 3) int32 of one level."""
    expected = "vertices (V, 3) and triangles (F, 3) of three vertices each"
    parts = [numbers(part) for part in pair] if isinstance(pair, (list, tuple, np.ndarray)) and len(pair) == 2 else []
    vertices, faces = parts if len(parts) == 2 else (None, None)
    if vertices is None or faces is None:
        raise InputError(f"{path}, mesh {number}", expected, "other content")
    vertices = vertices.astype(np.float64) if vertices.dtype.kind in "fiu" else vertices
    if (
        not _are_points(vertices)
        or not _are_indices(faces, (None, 3), 0, len(vertices))
        or (faces == np.roll(faces, 1, axis=1)).any()
    ):
        raise InputError(
            f"{path}, mesh {number}",
            expected,
            f"{vertices.dtype} {vertices.shape} and {faces.dtype} {faces.shape} of other content",
        )
    most = int(np.bincount(faces.ravel().astype(np.int64)).max())
    if most > MOST_TRIANGLES:
        raise InputError(f"{path}, mesh {number}", f"at most {MOST_TRIANGLES} triangles at a vertex", f"{most}")
    return vertices, faces.astype(np.int32)


def _matrix(path: str | Path, name: str, matrix: Any, shape: tuple[int, int]) -> Any:
    """A sparse or full matrix of finite real numbers as CSR."""
    from scipy import sparse

    matrix = matrix if sparse.issparse(matrix) else numbers(matrix)
    if matrix is None or matrix.shape != shape or matrix.dtype.kind not in "fiub":
        found = "other content" if matrix is None else f"{matrix.dtype} {matrix.shape}"
        raise InputError(
            f"{path}, {name}", f"numbers {shape}, between levels of {shape[0]} and {shape[1]} vertices", found
        )
    matrix = sparse.csr_matrix(matrix, dtype=np.float64)
    if not (np.abs(matrix.data) < LARGEST).all():
        raise InputError(f"{path}, {name}", "finite numbers", "NaN, infinity or numbers close to it")
    return matrix


def _three_per_row(name: str, rows: Any) -> tuple[np.ndarray, np.ndarray]:
    """Columns (V, 3) and values (V, 3) of a CSR matrix with at most three entries that count in each row."""
    rows.sum_duplicates()
    rows.data[np.abs(rows.data) < NEGLIGIBLE_WEIGHT] = 0
    rows.eliminate_zeros()
    counts = np.diff(rows.indptr)
    if counts.max(initial=0) > 3:
        raise InputError(name, "at most three weights in a row", f"a row of {counts.max()} weights")
    corners, weights = np.zeros((len(counts), 3), dtype=np.int64), np.zeros((len(counts), 3))
    place = np.arange(len(rows.data)) - np.repeat(rows.indptr[:-1], counts)
    owner = np.repeat(np.arange(len(counts)), counts)
    corners[owner, place], weights[owner, place] = rows.indices, rows.data
    return corners, weights
