"""Pictures: what is drawn where, and that a sequence is drawn under one framing."""

import numpy as np
import pytest

from face4d.mesh.geometry import vertex_normals
from face4d.render.clay import Framing, frame_view, render_mesh, render_sequence


def ball(radius=0.1, rows=16):
    """A closed sphere, counter-clockwise from outside."""
    polar, turn = np.meshgrid(np.linspace(0, np.pi, rows + 1)[1:-1], np.arange(2 * rows) * np.pi / rows, indexing="ij")
    ring = np.stack([np.sin(polar) * np.sin(turn), np.cos(polar), np.sin(polar) * np.cos(turn)], -1).reshape(-1, 3)
    vertices = radius * np.concatenate([ring, [[0, 1, 0], [0, -1, 0]]])
    index = np.arange(len(ring)).reshape(rows - 1, 2 * rows)
    right = np.roll(index, -1, axis=1)
    a, b, c, d = (x.ravel() for x in (index[:-1], right[:-1], index[1:], right[1:]))
    faces = [np.stack([a, c, b], 1), np.stack([b, c, d], 1)]
    faces.append(np.stack([np.full(2 * rows, len(ring)), index[0], right[0]], 1))
    faces.append(np.stack([np.full(2 * rows, len(ring) + 1), right[-1], index[-1]], 1))
    return vertices, np.concatenate(faces)


def test_normals_of_a_ball_point_outwards():
    vertices, faces = ball()
    normals = vertex_normals(vertices, faces)
    np.testing.assert_allclose(np.linalg.norm(normals, axis=1), 1, atol=1e-12)
    assert np.einsum("vk,vk->v", normals, vertices / 0.1).min() > 0.99


def test_a_ball_is_a_disc_of_the_right_size_on_the_background():
    vertices, faces = ball(rows=40)
    image = render_mesh(vertices, faces, size=200, framing=Framing((0, 0), 0.2), background=(250, 240, 230))
    assert image.shape == (200, 200, 3) and image.dtype == np.uint8
    assert image[2, 2].tolist() == [250, 240, 230]
    covered = (np.abs(image.astype(int) - [250, 240, 230]).sum(axis=2) > 12).sum()
    assert covered == pytest.approx(np.pi * 50**2, rel=0.03)
    assert image[70, 80].sum() > image[130, 125].sum()  # the key light comes from the upper left


def test_supersampling_smooths_the_outline_only():
    vertices, faces = ball(rows=30)
    framing = Framing((0, 0), 0.13)
    rough = render_mesh(vertices, faces, size=96, framing=framing, supersample=1).astype(int)
    smooth = render_mesh(vertices, faces, size=96, framing=framing, supersample=3).astype(int)
    changed = np.abs(rough - smooth).sum(axis=2) > 6
    radius = np.hypot(*(np.mgrid[:96, :96] - 47.5)) / 96 * 0.26
    assert changed.sum() > 50
    assert (np.abs(radius[changed] - 0.1) < 0.008).all()
    assert np.abs(np.diff(smooth.sum(axis=2), axis=1)).max() < np.abs(np.diff(rough.sum(axis=2), axis=1)).max()


def test_yaw_turns_the_face_to_the_right_of_the_picture():
    vertices = np.array([[0, 0, 0.1], [0.01, 0, 0.1], [0, 0.01, 0.1], [-0.1, -0.1, 0], [0.1, -0.1, 0], [0, 0.1, 0]])
    faces = np.array([[0, 1, 2]])
    framing = Framing((0, 0), 0.12)
    column = [
        np.argwhere(render_mesh(vertices, faces, size=64, yaw=yaw, framing=framing).sum(axis=2) < 700)[:, 1].mean()
        for yaw in (-30, 0, 30)
    ]
    assert column[0] < column[1] - 10 < column[1] + 10 < column[2]
    row = [
        np.argwhere(render_mesh(vertices, faces, size=64, pitch=pitch, framing=framing).sum(axis=2) < 700)[:, 0].mean()
        for pitch in (0, 20)
    ]
    assert row[1] > row[0] + 5  # positive pitch lowers it


def test_back_faces_are_dark_and_cavities_are_darker():
    vertices, faces = ball()
    outside = render_mesh(vertices, faces, size=64)
    inside = render_mesh(vertices, faces[:, [0, 2, 1]], size=64)
    assert inside[32, 32].max() < 70 < 120 < outside[32, 32].min()


def test_colors_replace_the_material():
    vertices, faces = ball()
    red = np.tile([0.8, 0.02, 0.02], (len(vertices), 1))
    image = render_mesh(vertices, faces, size=64, colors=red)
    assert image[32, 32, 0] > 2 * image[32, 32, 1]
    with pytest.raises(ValueError, match="colors"):
        render_mesh(vertices, faces, colors=red[:-1])


def test_landmarks_are_drawn_where_they_are():
    vertices, faces = ball()
    framing = Framing((0, 0), 0.2)
    image = render_mesh(vertices, faces, size=200, framing=framing, landmarks=np.array([[0.1, 0.05, 0.0]])).astype(int)
    rows, columns = np.nonzero((image[..., 0] > 190) & (image[..., 1] < 80))
    assert columns.mean() == pytest.approx(150, abs=1) and rows.mean() == pytest.approx(75, abs=1)


def test_a_sequence_is_its_pictures_under_one_framing():
    vertices, faces = ball()
    moving = np.stack([vertices, vertices + [0.05, 0, 0], vertices * 1.3])
    framing = frame_view(moving)
    frames = render_sequence(moving, faces, size=48)
    assert frames.shape == (3, 48, 48, 3)
    for frame, mesh in zip(frames, moving):
        np.testing.assert_array_equal(frame, render_mesh(mesh, faces, size=48, framing=framing))
    with pytest.raises(ValueError, match=r"\(T, V, 3\)"):
        render_sequence(vertices, faces)


def test_framing_holds_everything():
    vertices, _ = ball()
    framing = frame_view(np.stack([vertices, vertices + [0.1, 0, 0]]), margin=0.0)
    assert framing.center == pytest.approx((0.05, 0.0), abs=1e-3)
    assert framing.half_side == pytest.approx(0.15, abs=1e-3)
