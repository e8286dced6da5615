"""Light from all around: all of it on a ball, what an opening lets in at the bottom of a pit."""

import numpy as np
import pytest

from face4d.mesh.geometry import vertex_normals
from face4d.render.occlusion import ambient_light, light_of_motion, occlusion_tint
from tests.test_render_clay import ball


def test_a_ball_is_lit_everywhere_and_another_around_it_hides_it():
    vertices, faces = ball(rows=12)
    normals = vertex_normals(vertices, faces)
    assert ambient_light(vertices, faces, normals).min() > 0.99
    both, all_faces = np.concatenate([0.5 * vertices, vertices]), np.concatenate([faces, faces + len(vertices)])
    light = ambient_light(both, all_faces, np.concatenate([normals, normals]))
    assert light[: len(vertices)].max() < 0.01 and light[len(vertices) :].min() > 0.99


def test_the_bottom_of_a_pit_sees_what_its_opening_lets_in():
    """A disc of radius 1 at the bottom of a cylinder of depth 1: its middle sees sin^2 of half the opening's angle, 1 /
    2, of the light."""
    angle = np.linspace(0, 2 * np.pi, 49)[:-1]
    ring = np.stack([np.cos(angle), 0 * angle, np.sin(angle)], axis=1)
    vertices = np.concatenate([[[0, 0, 0]], ring, ring + [0, 1, 0]])
    inner, upper, after = np.arange(1, 49), np.arange(49, 97), np.roll(np.arange(48), -1)
    bottom = np.stack([np.zeros(48, int), inner[after], inner], axis=1)
    wall = np.concatenate(
        [np.stack([inner, inner[after], upper], axis=1), np.stack([inner[after], upper[after], upper], axis=1)]
    )
    normals = np.tile([0.0, 1.0, 0.0], (97, 1))
    assert ambient_light(vertices, np.concatenate([bottom, wall]), normals)[0] == pytest.approx(0.5, abs=0.06)
    assert ambient_light(vertices, bottom, normals)[0] > 0.97


def test_what_opens_once_is_not_dark():
    vertices, faces = ball(rows=8)
    lid = np.concatenate([vertices, 2 * vertices])
    opened = np.concatenate([vertices, 2 * vertices + [9, 0, 0]])
    both = np.concatenate([faces, faces + len(vertices)])
    dark = (0.1, 0.2, 0.3)
    shut = occlusion_tint(light_of_motion(np.stack([lid, lid]), both), dark)
    np.testing.assert_allclose(shut[: len(vertices)], np.tile(dark, (len(vertices), 1)), atol=1e-6)
    np.testing.assert_allclose(shut[len(vertices) :], 1)
    assert occlusion_tint(light_of_motion(np.stack([lid, opened]), both), dark)[: len(vertices)].mean() > 0.9


def test_a_heap_of_triangles_is_left_alone():
    draw = np.random.default_rng(0)
    vertices = draw.normal(size=(500, 3))
    assert (ambient_light(vertices, draw.integers(0, 500, (5000, 3)), np.zeros((500, 3))) == 1).all()
