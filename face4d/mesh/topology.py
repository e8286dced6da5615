"""Whether two lists of triangles are one topology, whatever order the triangles are listed in and whichever corner comes first."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from face4d.errors import InputError


def canonical(faces: np.ndarray) -> np.ndarray:
    """The triangles (F, 3) int64, each from its smallest vertex on, sorted; the way round each is kept."""
    faces = np.asarray(faces, np.int64)
    first = faces.argmin(axis=1)[:, None]
    turned = np.take_along_axis(faces, (first + np.arange(3)) % 3, axis=1)
    return turned[np.lexsort(turned.T[::-1])]


def same_topology(faces: np.ndarray, expected: np.ndarray) -> bool:
    """Whether two lists hold the same triangles, seen from the same side."""
    return np.array_equal(faces, expected) or (len(faces) == len(expected) and np.array_equal(canonical(faces), canonical(expected)))


def check_topology(path: str | Path, num_vertices: int, faces: np.ndarray, expected_vertices: int, expected: np.ndarray, name: str) -> None:
    """Refuse a mesh of another topology. Where either has no triangles only the numbers of vertices can be compared.

    Args:
        path: of the mesh.
        num_vertices, faces: of the mesh, V and (F, 3).
        expected_vertices, expected: of the topology.
        name: of that topology, for the error.

    Raises:
        InputError: says how the mesh differs.
    """
    if num_vertices == expected_vertices and (not len(faces) or not len(expected) or same_topology(faces, expected)):
        return
    wanted = f"{name} ({expected_vertices} vertices, {len(expected)} triangles)"
    if num_vertices != expected_vertices:
        raise InputError(path, wanted, f"{num_vertices} vertices, {len(faces)} triangles")
    raise InputError(path, wanted, difference(faces, expected))


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
        return f"the same quads cut along other diagonals ({len(own - wanted)} triangles): it has to be exported as triangles, not as quads"
    return f"other triangles ({len(own & wanted)} in common): vertices in another order, or another mesh"


def _other_diagonals(own: set[tuple[int, ...]], wanted: set[tuple[int, ...]]) -> bool:
    """Whether triangles pair up to quads whose other diagonal gives the ``wanted`` ones.

    Then every edge of one side alone connects what lies opposite an edge of the other side alone.
    """
    ours, theirs = _opposite(own), _opposite(wanted)
    diagonals, others = ours.keys() - theirs.keys(), theirs.keys() - ours.keys()
    return bool(diagonals) and {ours[edge] for edge in diagonals} == others and {theirs[edge] for edge in others} == diagonals


def _opposite(triangles: set[tuple[int, ...]]) -> dict[frozenset[int], frozenset[int]]:
    """For every edge the vertices that lie opposite it in its triangles."""
    found: dict[frozenset[int], set[int]] = {}
    for a, b, c in triangles:
        for edge, corner in (((a, b), c), ((b, c), a), ((c, a), b)):
            found.setdefault(frozenset(edge), set()).add(corner)
    return {edge: frozenset(corners) for edge, corners in found.items()}
