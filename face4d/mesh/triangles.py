"""Triangles: cut from polygons and strips, checked (they name existing vertices, they make a surface), and compared.

Two lists of triangles are one topology whatever order the triangles are listed in and whichever corner comes first.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from face4d.errors import InputError


@dataclass(frozen=True)
class Lists:
    """Lists of numbers of differing lengths.

    Attributes:
        values: (sum of lengths,) of all lists, one after the other.
        lengths: (N,) int64.
    """

    values: np.ndarray
    lengths: np.ndarray

    @classmethod
    def of_rows(cls, table: np.ndarray) -> Lists:
        """The rows of a table (N, K)."""
        return cls(table.ravel(), np.full(len(table), table.shape[1]))


def triangulate(path: str | Path, polygons: Lists, num_vertices: int) -> np.ndarray:
    """Split polygons into fans: corners (0, k, k + 1) for k = 1..n-2, polygon after polygon.

    Args:
        path: file named in errors.
        polygons: vertex indices.

    Returns:
        (F, 3) int32; triangles keep their corner order.

    Raises:
        InputError: a polygon with fewer than three corners, or a corner that is no vertex.
    """
    corners, lengths = _indices(path, polygons.values, num_vertices), polygons.lengths
    if not len(lengths):
        return np.empty((0, 3), np.int32)
    if lengths.min() < 3:
        raise InputError(path, "faces with three corners or more", f"one with {lengths.min()}")
    if lengths.max() == 3:
        return corners.reshape(-1, 3)
    first = np.repeat(np.cumsum(lengths) - lengths, lengths - 2)
    second = first + _counted(lengths - 2) + 1
    return np.stack([corners[first], corners[second], corners[second + 1]], axis=1)


def unroll_strips(path: str | Path, strips: Lists, num_vertices: int) -> np.ndarray:
    """Triangles of strips: corners (k, k + 1, k + 2), every second one turned round; -1 begins another strip.

    Triangles with a corner twice, which writers put in to get from one strip to the next, are left out.

    Returns:
        (F, 3) int32.

    Raises:
        InputError: a corner that is neither a vertex nor -1.
    """
    corners = _indices(path, strips.values, num_vertices, lowest=-1)
    begins = np.zeros(len(corners) + 1, bool)
    begins[np.cumsum(strips.lengths)] = True
    begins[1:] |= corners == -1
    place = np.arange(len(corners))
    start = np.maximum.accumulate(np.where(begins[:-1], place, 0)) if len(corners) else place  # of each corner's strip
    triangles = (
        np.stack([corners[:-2], corners[1:-1], corners[2:]], axis=1) if len(corners) > 2 else np.empty((0, 3), np.int32)
    )
    odd = (place - start)[: len(triangles)] % 2 == 1
    triangles[odd] = triangles[odd][:, [1, 0, 2]]
    a, b, c = triangles.T
    return (
        triangles[(start[:-2] == start[2:]) & (c != -1) & (a != b) & (b != c) & (a != c)]
        if len(triangles)
        else triangles
    )


def _counted(lengths: np.ndarray) -> np.ndarray:
    """0, 1, ..., n - 1 for every length n, one after the other."""
    return np.arange(lengths.sum()) - np.repeat(np.cumsum(lengths) - lengths, lengths)


def _indices(path: str | Path, values: np.ndarray, num_vertices: int, lowest: int = 0) -> np.ndarray:
    """Values of any type as int32 numbers of vertices, checked before anything is cut off."""
    if values.dtype.kind == "f":
        whole = values == np.floor(values)  # false for NaN
        if not whole.all():
            raise InputError(path, f"face indices {lowest} to {num_vertices - 1}", f"{values[np.argmin(whole)]}")
    else:
        values = values.astype(np.int64)
    check_indices(path, values, num_vertices, lowest)
    return values.astype(np.int32)


def check_indices(path: str | Path, faces: np.ndarray, num_vertices: int, lowest: int = 0) -> None:
    """Raise :class:`InputError` when one of the faces' corners, in an array of any shape, is outside
    lowest..num_vertices-1.
    """
    if len(faces) and (faces.min() < lowest or faces.max() >= num_vertices):
        bad = faces.min() if faces.min() < lowest else faces.max()
        raise InputError(
            path, f"face indices {lowest} to {num_vertices - 1}", f"{bad:g}" if faces.dtype.kind == "f" else f"{bad}"
        )


def check_surface(path: str | Path, faces: np.ndarray) -> None:
    """Refuse triangles that are no surface: an edge of three or more, or neighbours that turn opposite sides outwards.

    Raises:
        InputError: names the first such edge by its vertex numbers, from 0.
    """
    faces = np.asarray(faces, np.int64)
    edges = np.concatenate([faces[:, [0, 1]], faces[:, [1, 2]], faces[:, [2, 0]]])
    pairs, uses = np.unique(np.sort(edges, axis=1), axis=0, return_counts=True)
    if uses.max(initial=0) > 2:
        worst = pairs[uses.argmax()]
        raise InputError(
            path, "a manifold mesh (every edge in one or two triangles)", f"edge {worst[0]}-{worst[1]} in {uses.max()}"
        )
    directed, uses = np.unique(edges, axis=0, return_counts=True)
    if uses.max(initial=0) > 1:
        worst = directed[uses.argmax()]
        found = f"flipped faces: both triangles at edge {worst[0]}-{worst[1]} run the same way along it"
        raise InputError(path, "triangles that all run counter-clockwise seen from outside", found)


def canonical(faces: np.ndarray) -> np.ndarray:
    """The triangles (F, 3) int64, each from its smallest vertex on, sorted; the way round each is kept."""
    faces = np.asarray(faces, np.int64)
    first = faces.argmin(axis=1)[:, None]
    turned = np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1)
    return turned[np.lexsort(turned.T[::-1])]


def checksum(faces: np.ndarray) -> int:
    """CRC-32 of faces (F, 3) in their order, whatever their integer type; of :func:`canonical` ones, that of the
    topology.
    """
    return zlib.crc32(np.ascontiguousarray(faces, "<i4").tobytes())


def same_topology(faces: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two lists hold the same triangles, seen from the same side."""
    return np.array_equal(faces, expected) or (
        len(faces) == len(expected) and np.array_equal(canonical(faces), canonical(expected))
    )


class OtherTopologyError(InputError):
    """A mesh of another topology than the one wanted."""


def check_topology(
    path: str | Path, num_vertices: int, faces: np.ndarray, expected_vertices: int, expected: np.ndarray, name: str
) -> None:
    """Refuse a mesh of another topology. Where either has no triangles only the numbers of vertices can be compared.

    Args:
        path: of the mesh.
        num_vertices, faces: of the mesh, V and (F, 3).
        expected_vertices, expected: of the topology.
        name: of that topology, for the error.

    Raises:
        OtherTopologyError: says how the mesh differs.
    """
    if num_vertices == expected_vertices and (not len(faces) or not len(expected) or same_topology(faces, expected)):
        return
    wanted = f"{name} ({expected_vertices} vertices, {len(expected)} triangles)"
    if num_vertices != expected_vertices:
        raise OtherTopologyError(path, wanted, f"{num_vertices} vertices, {len(faces)} triangles")
    raise OtherTopologyError(path, wanted, difference(faces, expected))


def difference(faces: np.ndarray, expected: np.ndarray) -> str:
    """How triangles (F, 3) differ from others on the same vertices, in words."""
    own, wanted = ({tuple(row) for row in canonical(triangles).tolist()} for triangles in (faces, expected))
    flipped = {tuple(row) for row in canonical(np.asarray(faces)[:, ::-1]).tolist()}
    if len(faces) != len(expected):
        return f"{len(faces)} triangles, {len(own & wanted)} in common"
    if flipped == wanted:
        return "its triangles flipped: all run the other way round (a mirrored or inside-out mesh)"
    turned = flipped & wanted
    if turned and turned | own >= wanted:
        return f"{len(turned - own)} of its triangles flipped"
    if _other_diagonals(own - wanted, wanted - own):
        return (
            f"the same quads cut along other diagonals ({len(own - wanted)} triangles): "
            "it has to be exported as triangles, not as quads"
        )
    return f"other triangles ({len(own & wanted)} in common): vertices in another order, or another mesh"


def _other_diagonals(own: set[tuple[int, ...]], wanted: set[tuple[int, ...]]) -> bool:
    """Whether triangles pair up to quads whose other diagonal gives the ``wanted`` ones.

    Then every edge of one side alone connects what lies opposite an edge of the other side alone.
    """
    ours, theirs = _opposite(own), _opposite(wanted)
    diagonals, others = ours.keys() - theirs.keys(), theirs.keys() - ours.keys()
    return (
        bool(diagonals)
        and {ours[edge] for edge in diagonals} == others
        and {theirs[edge] for edge in others} == diagonals
    )


def _opposite(triangles: set[tuple[int, ...]]) -> dict[frozenset[int], frozenset[int]]:
    """For every edge the vertices that lie opposite it in its triangles."""
    found: dict[frozenset[int], set[int]] = {}
    for a, b, c in triangles:
        for edge, corner in (((a, b), c), ((b, c), a), ((c, a), b)):
            found.setdefault(frozenset(edge), set()).add(corner)
    return {edge: frozenset(corners) for edge, corners in found.items()}
