"""Similarities against ones that are known."""

import numpy as np
import pytest
from scipy.spatial.transform import Rotation

from face4d.mesh.geometry import fit_similarity


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


def test_three_points_are_enough_and_single_precision_is_not_the_limit():
    for size in (1e-3, 1, 1e3):
        assert fit_similarity(size * POINTS[:3], 2 * size * POINTS[:3]).scale == pytest.approx(2)
    points = np.random.default_rng(0).normal(size=(101, 3))
    moved = (2 * points + 1234.567).astype(np.float32)
    found = fit_similarity(points.astype(np.float32), moved)
    assert found.scale == pytest.approx(2, rel=1e-3)  # the points themselves are rounded
    np.testing.assert_allclose(found.apply(points).mean(axis=0), moved.astype(np.float64).mean(axis=0), atol=1e-9)


def test_points_without_extent_are_refused():
    for points in (np.zeros((4, 3)), np.full((4, 3), np.nan)):
        with pytest.raises(ValueError, match="expected points of some extent"):
            fit_similarity(points, points)


POINTS = np.random.default_rng(0).normal(size=(4, 3))


@pytest.mark.parametrize(
    ("source", "target"),
    [
        (POINTS[:2], POINTS[:2]),
        (POINTS[:, :2], POINTS[:, :2]),
        (POINTS, POINTS[:3]),
        (POINTS[0], POINTS[0]),
        (POINTS[None], POINTS[None]),
    ],
)
def test_other_shapes_are_refused(source, target):
    with pytest.raises(ValueError, match=r"expected two sets of at least three points \(N, 3\)"):
        fit_similarity(source, target)
