"""Polygons and strips become triangles; corners that are no vertex and surfaces that are none are refused."""

import itertools

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.mesh.triangles import Lists, check_indices, check_surface, triangulate, unroll_strips


def lists(*rows):
    return Lists(np.array(list(itertools.chain(*rows))), np.array(list(map(len, rows))))


def test_polygons_become_fans_in_their_order():
    found = triangulate("a", lists([0, 1, 2], [3, 4, 5, 6], [2, 1, 0], [6, 5, 4, 3, 2]), 7)
    assert found.dtype == np.int32
    assert found.tolist() == [[0, 1, 2], [3, 4, 5], [3, 5, 6], [2, 1, 0], [6, 5, 4], [6, 4, 3], [6, 3, 2]]
    assert triangulate("a", Lists.of_rows(np.array([[0, 1, 2, 3], [3, 2, 1, 0]])), 4).tolist() == [
        [0, 1, 2],
        [0, 2, 3],
        [3, 2, 1],
        [3, 1, 0],
    ]


def test_short_strips():
    assert unroll_strips("a", lists([0, 1, 2]), 3).tolist() == [[0, 1, 2]]
    assert unroll_strips("a", lists([0, 1]), 3).shape == (0, 3)


def test_strips_turn_every_second_triangle_and_begin_again_at_minus_one():
    found = unroll_strips("a", lists([0, 1, 2, 3, 4], [4, 5, 6, -1, 0, 1, 2, 2, 3]), 7)
    assert found.tolist() == [[0, 1, 2], [2, 1, 3], [2, 3, 4], [4, 5, 6], [0, 1, 2]]


def test_corners_that_are_no_vertex():
    for bad in ([0, 1, 3], [0, -1, 2], [0, 1]):
        with pytest.raises(InputError):
            triangulate("a", lists([0, 1, 2], bad), 3)
    with pytest.raises(InputError, match="found 0.5"):
        triangulate("a", lists([0, 1, 0.5]), 3)
    with pytest.raises(InputError, match="face indices 0 to 4294967295, found 4294967297"):
        check_indices("a", np.array([[0, 1, 2**32 + 1]]), 2**32)


def test_surfaces_that_are_none():
    check_surface("a", np.array([[0, 1, 2], [0, 2, 3]]))
    with pytest.raises(InputError, match=r"^a: expected a manifold mesh .* found edge 0-2 in 3$"):
        check_surface("a", np.array([[0, 1, 2], [0, 2, 3], [0, 2, 4]]))
    with pytest.raises(InputError, match="flipped faces: both triangles at edge 2-0"):
        check_surface("a", np.array([[0, 1, 2], [0, 3, 2]]))
