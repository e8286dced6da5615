"""Contact sheets of moving meshes: which frames, and where."""

import numpy as np
import pytest
from PIL import Image

from face4d.render.contact_sheet import (
    chosen_frames,
    contact_sheet,
    face_framing_points,
    head_points,
    mesh_sheet,
    write_mesh_sheet,
)
from tests.test_render_clay import ball


def growing(apex, frames=21):
    vertices, faces = ball(rows=8)
    size = 1 - np.abs(np.arange(frames) - apex) / frames
    return vertices * (1 + 0.5 * size - 0.5 * size[0])[:, None, None], faces


def test_first_apex_and_last_are_there():
    for apex in (11, 13, 17):
        chosen = chosen_frames(growing(apex)[0], 5)
        assert (
            chosen[0] == 0 and chosen[-1] == 20 and apex in chosen and len(chosen) == 5 and (np.diff(chosen) > 0).all()
        )
    assert chosen_frames(growing(1, 3)[0], 6).tolist() == [0, 1, 2]


def test_rows_are_sequences_and_views_under_one_framing(tmp_path):
    vertices, faces = growing(10)
    still = np.repeat(vertices[:1], 21, axis=0)
    sheet = mesh_sheet({"still": still, "growing": vertices}, faces, columns=3, size=64, yaws=(0, 90))
    assert sheet.shape == (4 * 68 - 4, 3 * 68 - 4, 3)

    def drawn(row, column):
        return (sheet[68 * row + 24 : 68 * row + 64, 68 * column : 68 * column + 64] < 200).any(axis=2).sum()

    assert drawn(0, 0) == drawn(0, 1) == drawn(0, 2) > 100  # no motion
    assert drawn(2, 1) > 1.2 * drawn(2, 0) and drawn(2, 0) == drawn(0, 0)
    write_mesh_sheet(tmp_path / "a.png", {"growing": vertices}, faces, columns=3, size=64)
    assert Image.open(tmp_path / "a.png").size == (200, 64)


def test_framing_holds_landmarks_and_forehead():
    landmarks = np.array([[0.0, -0.06, 0], [0.0, 0.02, 0], [0.05, 0, 0]])
    points = face_framing_points(landmarks[None])
    np.testing.assert_allclose(points[:3], landmarks)
    assert points[3, 1] == 0.06


def test_a_head_is_whole_in_all_views_under_one_scale():
    vertices, faces = growing(10)
    vertices = 0.12 * vertices * [0.6, 1, 1]  # a head, higher than wide and deeper than wide
    landmarks = 0.9 * vertices[:, :68]
    body = np.concatenate([vertices, np.broadcast_to([0, -1.5, 0], (21, 1, 3))], axis=1)  # and something far below
    assert len(head_points(body, landmarks)) == vertices.shape[0] * vertices.shape[1]
    sheet = mesh_sheet({"a": body}, faces, columns=3, size=64, yaws=(0, 90), landmarks=landmarks)
    cells = [
        [sheet[68 * row : 68 * row + 64, 68 * column : 68 * column + 64] < 250 for column in range(3)]
        for row in range(2)
    ]
    spans = []
    for row in cells:
        for cell in row:
            seen = cell.any(axis=2)[22:]  # below the caption
            assert not seen[-1].any() and not seen[:, 0].any() and not seen[:, -1].any()  # nothing touches the rim
        rows = np.flatnonzero(row[1].any(axis=(1, 2))[22:])
        spans.append(rows[-1])
    assert abs(spans[0] - spans[1]) <= 1  # one height in all views


def test_contact_sheet_places_pictures_in_rows():
    images = [np.full((20, 30, 3), value, np.uint8) for value in (10, 90, 170)]
    sheet = contact_sheet(images, 2, gap=4)
    assert sheet.shape == (44, 64, 3)
    assert (sheet[10, 10] == 10).all() and (sheet[10, 40] == 90).all() and (sheet[30, 10] == 170).all()
    assert (sheet[30, 50] == 255).all()
    with pytest.raises(ValueError, match="captions"):
        contact_sheet(images, 2, ["one"])
