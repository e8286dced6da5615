"""The 468 points on the demo head: the same places at every level, on both halves, and on the lip they belong to."""

import numpy as np
import pytest

from face4d.constants import OUTER_EYES
from face4d.demo.expressions import deform, weights_of
from face4d.demo.flame import locate, static_embedding
from face4d.demo.head import SKIN, demo_head
from face4d.demo.points import point_places
from face4d.photos.face_points import NUM_POINTS, TO_68

UPPER_LIP, LOWER_LIP = [13, 82, 312, 81, 311], [14, 87, 317, 178, 402]  # inner rims, numbers of the network


def points(head, vertices, row):
    places = point_places(head)
    return np.einsum("nk,nkd->nd", places.bary[row], vertices[head.faces[places.face_idx[row]]])


@pytest.mark.parametrize("level", [0, 1])
def test_the_table_has_places_on_the_skin(level):
    head = demo_head(level)
    places = point_places(head)
    assert places.face_idx.shape == places.spread.shape == (9, NUM_POINTS) and places.bary.shape == (9, NUM_POINTS, 3)
    assert (np.diff(places.yaw) > 0).all() and places.yaw[4] == 0
    assert (head.kind[head.faces[places.face_idx]] == SKIN).all()
    assert places.bary.min() >= 0 and np.allclose(places.bary.sum(-1), 1)
    assert 0.0005 < np.median(places.spread) < 0.005


def test_levels_agree_and_the_head_turned_the_other_way_is_the_mirror():
    coarse, fine = (points(demo_head(level), demo_head(level).mean, 5) for level in (0, 1))
    assert np.percentile(np.linalg.norm(coarse - fine, axis=1), [50, 100]) == pytest.approx([0.0003, 0.003], abs=0.003)
    front = points(demo_head(1), demo_head(1).mean, 4)
    right, left = (points(demo_head(1), demo_head(1).mean, row) for row in (2, 6))
    other = np.linalg.norm(front[:, None] * [-1, 1, 1] - front, axis=2).argmin(axis=1)
    assert (other[other] == np.arange(NUM_POINTS)).all()
    np.testing.assert_allclose(right * [-1, 1, 1], left[other], atol=2e-5)


def test_points_are_where_the_landmarks_are_and_lips_part():
    head = demo_head(1)
    face_idx, bary = static_embedding(head)
    landmarks = np.einsum("nk,nkd->nd", bary, head.mean[head.faces[face_idx]])
    off = np.linalg.norm(points(head, head.mean, 4)[TO_68[17:]] - landmarks, axis=1)
    assert np.median(off) < 0.004 and off[[index - 17 for index in OUTER_EYES]].max() < 0.005
    opened = points(head, deform(head, head.mean, weights_of("mouth_open")), 4)
    assert (opened[UPPER_LIP, 1] - opened[LOWER_LIP, 1]).min() > 0.008


def test_a_chart_point_beside_the_skin_gets_the_nearest_triangle():
    head = demo_head(0)
    far = np.array([[10.0, 400.0], [40.0, 0.0]])  # above the crown, farther than any triangle's box; on the cheek
    face_idx, bary = locate(head, np.array([1, -1]), far)
    found = np.einsum("nk,nkd->nd", bary, head.mean[head.faces[face_idx]])
    assert found[0, 1] > head.mean[:, 1].max() - 0.03
    assert found[1, 0] < -0.03
