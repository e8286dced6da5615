"""Spirals: for every vertex of a mesh the vertices around it, ring after ring, in one order of walking.

A spiral is the vertex, its first ring and perhaps its second, each ring walked around once. The ring begins at the
neighbour through which the shortest path to a reference vertex leaves, so that spirals of neighbouring vertices begin
alike (Bouritsas et al., Neural 3D Morphable Models, ICCV 2019; Otberdout et al., Sparse to Dense Dynamic 3D Facial
Expression Generation, CVPR 2022). At an open boundary a ring falls into two halves; -1, the dummy vertex, stands
between them.

The published decoder's weights belong to one particular order. In second rings the original walks over Python sets, so
the order of its triangles there is that of CPython's hash tables; ``set_order`` repeats it, and without it candidates
are taken in the order they are found.
"""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Iterable, Sequence

import numpy as np

from face4d.mesh.geometry import connected_components

DUMMY = -1

Triangle = tuple[int, int, int]


class Connectivity:
    """Who touches whom."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        count = len(vertices)
        self.triangles: list[list[Triangle]] = [[] for _ in range(count)]  # of each vertex, in the order of the mesh
        around: list[set[int]] = [set() for _ in range(count)]
        for triangle in map(tuple, faces.tolist()):
            for vertex in triangle:
                self.triangles[vertex].append(triangle)
                around[vertex].update(triangle)
        self.neighbours = [sorted(near - {vertex}) for vertex, near in enumerate(around)]
        owner = np.repeat(np.arange(count), [len(near) for near in self.neighbours])
        other = np.array([vertex for near in self.neighbours for vertex in near], dtype=np.int64)
        lengths = iter(np.linalg.norm(vertices[owner] - vertices[other], axis=1).tolist())
        self.lengths = [[next(lengths) for _ in near] for near in self.neighbours]


def shortest_paths(mesh: Connectivity, references: Sequence[int]) -> tuple[np.ndarray, np.ndarray]:
    """Paths along edges to the reference vertices (Dijkstra 1959).

    Where several references lie in one connected component, the last of them counts.

    Args:
        references: vertex indices.

    Returns:
        (V,) int64 predecessor, the next vertex towards the reference, -1 at references and in components without one;
        (V,) distance.
    """
    predecessor = np.full(len(mesh.neighbours), -1, dtype=np.int64)
    distance = np.full(len(mesh.neighbours), np.inf)
    for reference in references:
        reached, settled, queue = {reference: 0.0}, set(), [(0.0, reference)]
        predecessor[reference] = -1
        while queue:
            length, vertex = heapq.heappop(queue)
            if vertex in settled:
                continue
            settled.add(vertex)
            for neighbour, edge in zip(mesh.neighbours[vertex], mesh.lengths[vertex]):
                if length + edge < reached.get(neighbour, np.inf):
                    reached[neighbour] = length + edge
                    predecessor[neighbour] = vertex
                    heapq.heappush(queue, (length + edge, neighbour))
        distance[list(reached)] = list(reached.values())
    return predecessor, distance


def default_references(vertices: np.ndarray, faces: np.ndarray) -> list[int]:
    """The foremost vertex (largest z, then smallest index) of every connected component: tip of the nose, middle of
    each cornea.
    """
    component = connected_components(len(vertices), faces)
    order = np.lexsort((np.arange(len(vertices)), -vertices[:, 2], component))
    return order[np.searchsorted(component[order], np.arange(component.max() + 1))].tolist()


def build_spirals(
    vertices: np.ndarray,
    faces: np.ndarray,
    references: Sequence[int],
    rings: int = 1,
    dilation: int = 1,
    *,
    set_order: bool = True,
) -> np.ndarray:
    """Spirals of all vertices of one mesh, all of one length.

    The length is the mean plus two standard deviations of the spirals' own lengths, rounded down; longer ones are cut,
    shorter ones end in -1.

    Args:
        vertices: (V, 3).
        faces: (F, 3) consistently oriented triangles.
        references: vertices towards which first neighbours point.
        rings: 1 or 2.
        dilation: d keeps every d-th vertex of the spiral behind its centre.
        set_order: the published order, see the top of this module.

    Returns:
        (V + 1, k) int64; -1 and the whole last row mean the dummy vertex.
    """
    spirals = [[spiral[0], *spiral[1::dilation]] for spiral in _spirals(vertices, faces, references, rings, set_order)]
    lengths = np.array([len(spiral) for spiral in spirals])
    size = int(lengths.mean() + 2 * lengths.std())
    rows = np.full((len(vertices) + 1, size), DUMMY, dtype=np.int64)
    for row, spiral in zip(rows, spirals):
        row[: len(spiral)] = spiral[:size]
    return rows


def _spirals(
    vertices: np.ndarray, faces: np.ndarray, references: Sequence[int], rings: int, set_order: bool
) -> list[list[int]]:
    if rings not in (1, 2):
        raise ValueError(f"spirals have 1 or 2 rings, not {rings}")
    mesh = Connectivity(vertices, faces)
    predecessor, _ = shortest_paths(mesh, references)
    spirals = []
    for centre, (neighbours, lengths) in enumerate(zip(mesh.neighbours, mesh.lengths)):
        if not neighbours:
            spirals.append([centre])
            continue
        first = int(predecessor[centre])
        if centre in references or first < 0:
            first = neighbours[int(np.argmin(lengths))]
        ring = _first_ring(mesh, centre, first)
        spiral = [centre, *ring]
        if rings == 2:
            spiral += _second_ring(mesh, centre, ring, set_order)
        spirals.append(spiral)
    return spirals


class _Fan:
    """Triangles still to be walked over, around a centre or around a first ring.

    Args:
        triangles: all of them, in the order in which walks prefer them.
        seen: vertices that a walk may not step on; grows with the ring.
    """

    def __init__(self, triangles: Iterable[Triangle], seen: set[int]) -> None:
        self.remaining: list[Triangle] | set[Triangle] = list(triangles)
        self.seen = seen

    def at(self, vertex: int) -> list[Triangle]:
        """Remaining triangles that contain the vertex."""
        return [triangle for triangle in self.remaining if vertex in triangle]

    def cross(self, triangle: Triangle) -> int | None:
        """Drop the triangle; its unseen corner, or None."""
        self.remaining.remove(triangle)
        return next((corner for corner in triangle if corner not in self.seen), None)


def _walk(fan: _Fan, first: int, forward: bool, closing: bool) -> list[int]:
    """Ring from ``first`` around the fan; at a boundary both halves with -1 between them.

    Args:
        forward: whether the first of the triangles at ``first`` lies in the walking direction.
        closing: whether a triangle without an unseen corner (the one that closes a ring around a centre) is passed
            over, not the end.
    """
    ring = [first]
    fan.seen.add(first)
    step = fan.at(first)
    step = step[:1] if forward else step[1:2]
    if len(fan.at(first)) < 2:
        step = []  # at a boundary the whole walk goes the other way
    while step:
        vertex = fan.cross(step[0])
        if vertex is not None:
            ring.append(vertex)
            fan.seen.add(vertex)
        elif not closing:
            break
        step = fan.at(ring[-1])

    position, in_order, crossed = len(ring), forward and len(ring) == 1, False
    current: int | None = first
    while current is not None and len(step := fan.at(current)) == 1:
        crossed = True
        current = fan.cross(step[0])
        if current is not None:
            ring.insert(len(ring) if in_order else position, current)
            fan.seen.add(current)
    if crossed:
        ring.insert(len(ring) if in_order else position, DUMMY)
    return ring


def _runs(triangle: Triangle, start: int, end: int) -> bool:
    """Whether the triangle's cyclic order goes from ``start`` straight to ``end``."""
    return triangle[(triangle.index(start) + 1) % 3] == end


def _first_ring(mesh: Connectivity, centre: int, first: int) -> list[int]:
    fan = _Fan(mesh.triangles[centre], {centre})
    start = fan.at(first)
    return _walk(fan, first, bool(start) and _runs(start[0], centre, first), closing=True)


def _second_ring(mesh: Connectivity, centre: int, ring: list[int], set_order: bool) -> list[int]:
    """Second ring around a first, or nothing where none begins."""
    seen = {centre, *ring} - {DUMMY}
    outside: dict[int, None] | set[int] = set() if set_order else {}
    for vertex in ring:
        if vertex != DUMMY:
            near = [neighbour for neighbour in mesh.neighbours[vertex] if neighbour not in seen]
            if isinstance(outside, set):
                outside |= set(near)
            else:
                outside |= dict.fromkeys(near)
    candidates: dict[Triangle, None] | set[Triangle] = set() if set_order else {}
    base = None
    for vertex in outside:
        for triangle in mesh.triangles[vertex]:
            if len(seen.intersection(triangle)) == 1:
                if isinstance(candidates, set):
                    candidates |= {triangle}
                else:
                    candidates |= {triangle: None}
            elif ring[0] in triangle and ring[-1] in triangle:
                base = triangle
    touched = {corner for triangle in candidates for corner in triangle}
    first = _second_start(mesh, ring, seen, touched, base)
    if first is None:
        return []
    fan = _SetFan(candidates, mesh, seen) if isinstance(candidates, set) else _Fan(candidates, seen)
    start = fan.at(first)[0]
    return _walk(fan, first, start[start.index(first) - 1] in seen, closing=False)


def _second_start(
    mesh: Connectivity, ring: list[int], seen: set[int], touched: set[int], base: Triangle | None
) -> int | None:
    """Where the second ring begins: across the edge from the last to the first vertex of the first ring, else across
    the first that allows it.
    """
    if base is not None:
        third = next((corner for corner in base if corner not in (ring[0], ring[-1])), None)
        if third in touched and third not in seen:
            return third
    for one, other in itertools.pairwise(ring):
        if DUMMY not in (one, other):
            for triangle in mesh.triangles[one]:
                if other in triangle:
                    for corner in triangle:
                        if corner not in seen and corner in touched:
                            return corner
    return None


class _SetFan(_Fan):
    """The same over Python sets: triangles at a vertex in the order of a set intersection, as the original has it."""

    def __init__(self, triangles: set[Triangle], mesh: Connectivity, seen: set[int]) -> None:
        super().__init__((), seen)
        self.remaining = self.triangles = triangles
        self.mesh = mesh

    def at(self, vertex: int) -> list[Triangle]:
        return list(self.triangles & set(self.mesh.triangles[vertex]))
