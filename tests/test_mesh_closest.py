"""Closest points and similarities against cases worked out by hand and against every triangle."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from face4d.datasets.demo.head import demo_head
from face4d.mesh.alignment import fit_similarity
from face4d.mesh.closest import ClosestPoints, closest_on_triangles

TRIANGLE = np.array([[0, 0, 0], [4, 0, 0], [0, 4, 0.0]])


@pytest.mark.parametrize(
    ("point", "closest"),
    [
        ((1, 1, 3), (1, 1, 0)),  # above the inside
        ((2, -3, 0), (2, 0, 0)),  # beside an edge
        ((4, 4, 1), (2, 2, 0)),  # beside the long edge
        ((-1, -2, -2), (0, 0, 0)),  # off a corner
        ((7, -1, 0), (4, 0, 0)),
    ],
)
def test_closest_point_of_one_triangle(point, closest):
    found, distance = closest_on_triangles(np.array([point], float), TRIANGLE[None])
    np.testing.assert_allclose(found[0], closest, atol=1e-12)
    assert distance[0] == pytest.approx(np.linalg.norm(np.subtract(point, closest)))


def test_degenerate_triangles_are_segments_and_points():
    corners = np.array([[[0, 0, 0], [4, 0, 0], [8, 0, 0]], [[1, 1, 1]] * 3], float)
    found, _ = closest_on_triangles(np.array([[5, 2, 0], [1, 1, 4.0]]), corners)
    np.testing.assert_allclose(found, [[5, 0, 0], [1, 1, 1]])


def test_a_mesh_of_very_different_triangles_is_searched_exactly():
    head = demo_head()
    ground = np.array([[-2, -0.3, -2], [2, -0.3, -2], [0, -0.3, 3.0]])  # one triangle far larger than the others
    vertices, faces = np.concatenate([head.mean, ground]), np.concatenate([head.faces, len(head.mean) + np.array([[0, 1, 2]])])
    draw = np.random.default_rng(0)
    near = head.mean[draw.integers(0, len(head.mean), 60)] + draw.normal(0, 0.004, (60, 3))
    points = np.concatenate([near, draw.normal(0, 0.4, (40, 3)), head.mean[:5]])
    closest, distances = ClosestPoints(vertices, faces).of(points)
    corners = vertices[faces]
    for point, found, distance in zip(points, closest, distances):
        every, gaps = closest_on_triangles(np.broadcast_to(point, (len(faces), 3)), corners)
        assert distance == pytest.approx(gaps.min(), abs=1e-12)
        assert np.linalg.norm(point - found) == pytest.approx(distance, abs=1e-12)


def test_a_mesh_without_faces_is_refused():
    with pytest.raises(ValueError, match="faces"):
        ClosestPoints(TRIANGLE, np.empty((0, 3), int))


def test_similarity_is_recovered_exactly():
    draw = np.random.default_rng(0)
    points = draw.normal(size=(7, 3))
    rotation = Rotation.random(random_state=1).as_matrix()
    moved = 2.5 * points @ rotation.T + [1, -2, 3]
    found = fit_similarity(points, moved)
    assert found.scale == pytest.approx(2.5)
    np.testing.assert_allclose(found.rotation, rotation, atol=1e-12)
    np.testing.assert_allclose(found.apply(points), moved, atol=1e-12)


def test_mirrored_points_are_turned_not_mirrored():
    points = np.random.default_rng(0).normal(size=(10, 3))
    found = fit_similarity(points, points * [-1, 1, 1])
    assert np.linalg.det(found.rotation) == pytest.approx(1)


def test_least_squares_beats_any_other_similarity():
    draw = np.random.default_rng(0)
    points = draw.normal(size=(20, 3))
    target = points @ Rotation.random(random_state=2).as_matrix().T + draw.normal(0, 0.2, (20, 3))
    found = fit_similarity(points, target)
    error = ((found.apply(points) - target) ** 2).sum()
    for _ in range(20):
        turn = Rotation.from_rotvec(draw.normal(0, 0.05, 3)).as_matrix() @ found.rotation
        other = found.scale * draw.normal(1, 0.02) * points @ turn.T + found.translation + draw.normal(0, 0.02, 3)
        assert ((other - target) ** 2).sum() > error


def test_rigid_keeps_the_size():
    points = np.random.default_rng(0).normal(size=(5, 3))
    found = fit_similarity(points, 3 * points + 1, scaled=False)
    assert found.scale == 1
    np.testing.assert_allclose(found.apply(points).mean(axis=0), (3 * points + 1).mean(axis=0))


@pytest.mark.parametrize("points", [np.zeros((4, 3)), np.ones((2, 3)), np.ones((4, 2))])
def test_points_without_extent_are_refused(points):
    with pytest.raises(ValueError, match="points"):
        fit_similarity(points, points)
