"""Simplifying a mesh by edge collapses that keep one end where it is: what remains are vertices of the original.

The cost of removing a vertex is the quadric error of its neighbour in its place (Garland and Heckbert, Surface
Simplification Using Quadric Error Metrics, SIGGRAPH 1997): the area-weighted sum of squared distances to the planes of
all triangles the two have stood for, and at open edges to planes through the edge across its triangle.
"""

from __future__ import annotations

import heapq

import numpy as np

BOUNDARY_WEIGHT = 10.0  # of the planes that hold open edges in place
STEEPEST_TURN = 0.2  # cosine; a collapse may turn no triangle's normal farther
SLIVER = 1e-3  # a collapse may leave no triangle whose doubled area is below this share of its longest side squared

Quadric = tuple[float, ...]  # the ten numbers of a symmetric 4 x 4 matrix, by rows
Point = tuple[float, float, float]


def collapse_edges(vertices: np.ndarray, faces: np.ndarray, target: int) -> tuple[np.ndarray, np.ndarray]:
    """Remove vertices, cheapest first, until ``target`` are left or no collapse is allowed.

    A collapse must leave a manifold (link condition: the ends share only the third corners of their common triangles,
    and no triangle would lie on another), must not pull an open edge inwards, flip a triangle or take the last triangle
    of a vertex. Equal costs go by vertex numbers, so the result is always the same.

    Args:
        vertices: (V, 3).
        faces: (F, 3) manifold triangles, oriented alike.
        target: number of vertices wanted.

    Returns:
        (K,) int64 indices of the vertices kept, ascending; (G, 3) int32 faces that index them. Vertices without
        triangles are not kept.
    """
    mesh = _Mesh(vertices, faces)
    for careful in (True, False):  # where shapes are too coarse to keep every normal, connectivity alone decides
        mesh.reduce(target, careful)
    kept = np.array(sorted(mesh.alive), dtype=np.int64)
    number = np.zeros(len(vertices), dtype=np.int32)
    number[kept] = np.arange(len(kept))
    left = np.array([mesh.corners[face] for face in sorted(mesh.corners)], dtype=np.int64).reshape(-1, 3)
    return kept, number[left]


class _Mesh:
    """Triangles that vertices are taken out of."""

    def __init__(self, vertices: np.ndarray, faces: np.ndarray) -> None:
        self.points: list[Point] = [tuple(point) for point in vertices.tolist()]
        self.corners: dict[int, tuple[int, int, int]] = dict(enumerate(map(tuple, faces.tolist())))
        self.around: list[set[int]] = [set() for _ in self.points]  # triangles of each vertex
        for face, corners in self.corners.items():
            for vertex in corners:
                self.around[vertex].add(face)
        self.alive = {vertex for vertex, around in enumerate(self.around) if around}
        self.quadrics = _quadrics(vertices, faces)
        self.version = [0] * len(self.points)

    def neighbours(self, vertex: int) -> set[int]:
        """Vertices that share a triangle with this one."""
        return {corner for face in self.around[vertex] for corner in self.corners[face]} - {vertex}

    def reduce(self, target: int, careful: bool) -> None:
        queue = [entry for vertex in sorted(self.alive) if (entry := self.cheapest(vertex, careful))]
        heapq.heapify(queue)
        while len(self.alive) > target and queue:
            _, vertex, other, version = heapq.heappop(queue)
            if vertex not in self.alive or version != self.version[vertex]:
                continue
            touched = self.collapse(vertex, other)
            for near in sorted(touched):
                self.version[near] += 1
                if entry := self.cheapest(near, careful):
                    heapq.heappush(queue, entry)

    def cheapest(self, vertex: int, careful: bool) -> tuple[float, int, int, int] | None:
        """Queue entry (cost, vertex, the neighbour it may best collapse into, version), or None."""
        quadric = self.quadrics[vertex]
        offers = sorted(
            (_error(quadric, self.quadrics[other], self.points[other]), other) for other in self.neighbours(vertex)
        )
        for cost, other in offers:
            if self.allowed(vertex, other, careful):
                return cost, vertex, other, self.version[vertex]
        return None

    def allowed(self, vertex: int, other: int, careful: bool) -> bool:
        shared = self.around[vertex] & self.around[other]
        moved = self.around[vertex] - shared
        near = self.neighbours(vertex)
        common = near & self.neighbours(other)
        if len(common) != len(shared):
            return False
        closed = len(near) == len(self.around[vertex])
        if not closed and len(shared) != 1:
            return False  # a vertex of an open edge moves along that edge only
        if (
            any(len(self.around[corner]) < 2 for corner in common)
            or len(self.around[other]) + len(moved) - len(shared) < 1
        ):
            return False
        existing = {frozenset(self.corners[face]) for face in self.around[other]}
        for face in moved:
            a, b, c = (other if corner == vertex else corner for corner in self.corners[face])
            new = (a, b, c)
            if frozenset(new) in existing or (careful and self.spoils(face, new)):
                return False
        return True

    def spoils(self, face: int, new: tuple[int, int, int]) -> bool:
        """Whether the triangle turns too far or becomes a sliver."""
        old_normal, _ = _normal(*(self.points[corner] for corner in self.corners[face]))
        new_normal, longest = _normal(*(self.points[corner] for corner in new))
        old_area, new_area = _dot(old_normal, old_normal) ** 0.5, _dot(new_normal, new_normal) ** 0.5
        return new_area < SLIVER * longest or _dot(old_normal, new_normal) < STEEPEST_TURN * old_area * new_area

    def collapse(self, vertex: int, other: int) -> set[int]:
        """Put ``other`` in the place of ``vertex``; returns the vertices whose surroundings have changed."""
        touched = self.neighbours(vertex) | self.neighbours(other)
        for face in sorted(self.around[vertex]):
            corners = self.corners[face]
            if other in corners:
                for corner in corners:
                    self.around[corner].discard(face)
                del self.corners[face]
            else:
                first, second, third = (other if corner == vertex else corner for corner in corners)
                self.corners[face] = (first, second, third)
                self.around[other].add(face)
        self.around[vertex] = set()
        self.quadrics[other] = tuple(a + b for a, b in zip(self.quadrics[vertex], self.quadrics[other]))
        self.alive.discard(vertex)
        return touched - {vertex}


def _quadrics(vertices: np.ndarray, faces: np.ndarray) -> list[Quadric]:
    """Quadric of every vertex."""
    corners = vertices[faces]  # (F, 3, 3)
    normals = np.cross(corners[:, 1] - corners[:, 0], corners[:, 2] - corners[:, 0])
    doubled = np.linalg.norm(normals, axis=1)
    normals /= doubled[:, None]
    owners, planes, weights = [], [], []

    def add(owner: np.ndarray, normal: np.ndarray, point: np.ndarray, weight: np.ndarray) -> None:
        owners.append(owner)
        planes.append(np.concatenate([normal, -np.sum(normal * point, axis=1, keepdims=True)], axis=1))
        weights.append(weight)

    for corner in range(3):
        add(faces[:, corner], normals, corners[:, 0], doubled / 2)
    # directed edges, first those of all first corners
    start, end = faces.T.ravel(), np.roll(faces, -1, axis=1).T.ravel()
    count = len(vertices)
    open_edge = np.flatnonzero(~np.isin(start * np.int64(count) + end, end * np.int64(count) + start))
    if len(open_edge):
        side = vertices[end[open_edge]] - vertices[start[open_edge]]
        across = np.cross(side, normals[open_edge % len(faces)])
        across /= np.linalg.norm(across, axis=1, keepdims=True)
        weight = BOUNDARY_WEIGHT * np.sum(side**2, axis=1)
        for owner in (start, end):
            add(owner[open_edge], across, vertices[start[open_edge]], weight)

    plane, weight = np.concatenate(planes), np.concatenate(weights)
    rows, columns = np.triu_indices(4)
    totals = np.zeros((count, 10))
    np.add.at(totals, np.concatenate(owners), plane[:, rows] * plane[:, columns] * weight[:, None])
    return [tuple(total) for total in totals.tolist()]


def _error(one: Quadric, other: Quadric, point: Point) -> float:
    """(x y z 1) (Q_1 + Q_2) (x y z 1)^T."""
    xx, xy, xz, xw, yy, yz, yw, zz, zw, ww = (a + b for a, b in zip(one, other))
    x, y, z = point
    return x * (xx * x + 2 * (xy * y + xz * z + xw)) + y * (yy * y + 2 * (yz * z + yw)) + z * (zz * z + 2 * zw) + ww


def _normal(a: Point, b: Point, c: Point) -> tuple[Point, float]:
    """Normal as long as twice the area, and the longest side squared."""
    u, v = (b[0] - a[0], b[1] - a[1], b[2] - a[2]), (c[0] - a[0], c[1] - a[1], c[2] - a[2])
    w = (u[0] - v[0], u[1] - v[1], u[2] - v[2])
    normal = (u[1] * v[2] - u[2] * v[1], u[2] * v[0] - u[0] * v[2], u[0] * v[1] - u[1] * v[0])
    return normal, max(_dot(u, u), _dot(v, v), _dot(w, w))


def _dot(a: Point, b: Point) -> float:
    return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]
