"""Triangles are compared whatever their order; what differs is said in words, never with the same two numbers on both
sides."""

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.mesh.triangles import canonical, check_topology, difference, same_topology

QUADS = np.array([[0, 1, 4, 3], [1, 2, 5, 4], [3, 4, 7, 6], [4, 5, 8, 7]])  # a sheet of 3 x 3 vertices
FACES = np.concatenate([QUADS[:, [0, 1, 2]], QUADS[:, [0, 2, 3]]])


def other_diagonals() -> np.ndarray:
    """As a reader of quads that begin with another corner gets them."""
    quads = QUADS.copy()
    quads[1] = np.roll(quads[1], 1)
    return np.concatenate([quads[:, [0, 1, 2]], quads[:, [0, 2, 3]]])


@pytest.mark.parametrize(
    "faces", [FACES, FACES[::-1], FACES[:, [1, 2, 0]], np.roll(FACES[[3, 1, 0, 2, 7, 5, 6, 4]], 2, axis=1)]
)
def test_order_of_rows_and_corners_does_not_matter(faces):
    assert same_topology(faces, FACES)
    check_topology("a.ply", 9, faces, 9, FACES, "the topology")


@pytest.mark.parametrize(
    ("faces", "words"),
    [
        (FACES[:, ::-1], "its triangles flipped: all run the other way round"),
        (np.concatenate([FACES[:2, ::-1], FACES[2:]]), "2 of its triangles flipped"),
        (other_diagonals(), r"the same quads cut along other diagonals \(2 triangles\)"),
        (
            np.random.default_rng(1).permutation(9)[FACES],
            r"other triangles \(\d in common\): vertices in another order, or another mesh",
        ),
        (FACES[:-1], "7 triangles, 7 in common"),
        (np.concatenate([FACES, FACES[:1]]), "9 triangles, 8 in common"),
    ],
)
def test_what_differs_is_said(faces, words):
    with pytest.raises(InputError, match=rf"a.ply: expected the topology \(9 vertices, 8 triangles\), found {words}"):
        check_topology("a.ply", 9, faces, 9, FACES, "the topology")


def test_without_triangles_the_vertices_are_counted():
    nothing = np.empty((0, 3), int)
    check_topology("a.ply", 9, nothing, 9, FACES, "the topology")
    check_topology("a.ply", 9, FACES, 9, nothing, "the topology")
    with pytest.raises(InputError, match="found 8 vertices, 0 triangles"):
        check_topology("a.ply", 8, nothing, 9, FACES, "the topology")


def test_canonical_triangles_begin_with_their_smallest_vertex_are_sorted_and_keep_their_way_round():
    triangles = np.array([[5, 3, 4], [9, 0, 1], [3, 0, 2], [2, 4, 0]])
    assert canonical(triangles).tolist() == [[0, 1, 9], [0, 2, 3], [0, 2, 4], [3, 4, 5]]
    assert canonical(triangles[:, ::-1]).tolist() == [[0, 3, 2], [0, 4, 2], [0, 9, 1], [3, 5, 4]]


def test_what_is_only_listed_twice_is_not_called_flipped():
    twice = np.concatenate([FACES[:-1], FACES[:1]])
    assert difference(FACES, twice).startswith("other triangles (7 in common)")
    assert difference(twice, FACES).startswith("other triangles (7 in common)")


@pytest.mark.parametrize(
    ("faces", "expected"),
    [
        ([[0, 4, 2], [0, 4, 3], [0, 3, 1], [2, 3, 4]], [[0, 2, 1], [0, 1, 3], [1, 2, 4], [1, 3, 4]]),
        ([[1, 4, 3], [0, 4, 2], [1, 2, 3], [0, 2, 3]], [[0, 3, 1], [0, 2, 4], [1, 3, 4], [1, 2, 4]]),
    ],
)
def test_edges_that_only_look_like_diagonals_from_one_side(faces, expected):
    assert difference(np.array(faces), np.array(expected)).startswith("other triangles")


def test_a_mesh_with_the_same_number_of_triangles_is_never_described_by_it():
    rng = np.random.default_rng(0)
    for _ in range(30):
        faces = rng.integers(0, 9, (8, 3))
        if not same_topology(faces, FACES):
            assert not difference(faces, FACES).startswith("8 triangles")
