"""Texture layouts, textures read off photos, displaced surfaces, meshes with colour on disk."""

import numpy as np
import pytest
from PIL import Image

from face4d.demo.head import demo_head, vertex_colors
from face4d.errors import InputError
from face4d.mesh.geometry import vertex_normals
from face4d.mesh.obj import read_obj
from face4d.mesh.ply import read_ply
from face4d.mesh.textured import write_coloured_ply, write_textured_obj
from face4d.render.pictures import depth_picture, dots, draw, textured
from face4d.render.texture import (
    detailed_mesh,
    fill,
    find_layout,
    read_layout,
    sample,
    texture_of_photo,
    unwrap,
    uv_map,
    vertex_colours,
)

SQUARE = (
    "v 0 0 0\nv 1 0 0\nv 1 1 0\nv 0 1 0\nvt 0.1 0.1\nvt 0.9 0.1\nvt 0.9 0.9\nvt 0.1 0.9\nf 1/1 2/2 3/3\nf 1/1 3/3 4/4\n"
)


@pytest.fixture(scope="module")
def head():
    return demo_head()


@pytest.fixture(scope="module")
def layout(head):
    return unwrap(head.mean, head.faces)


def test_unwrapping_covers_every_triangle_once_and_lies_in_the_square(head, layout):
    np.testing.assert_array_equal(layout.mesh_faces, head.faces)
    np.testing.assert_array_equal(layout.vertex_of_point()[layout.faces], head.faces)
    assert layout.points.min() >= 0 and layout.points.max() <= 1 and not layout.is_published
    corners = layout.points[layout.faces]
    assert np.ptp(corners[..., 0], axis=1).max() < 0.5  # none runs over the seam
    texels = uv_map(layout, 512)
    shown = np.bincount(texels.triangle[texels.covered], minlength=len(head.faces))
    a, b, c = (corners * 512).transpose(1, 0, 2)
    area = np.abs((b - a)[:, 0] * (c - a)[:, 1] - (b - a)[:, 1] * (c - a)[:, 0]) / 2
    front = head.mean[head.faces][:, :, 2].min(axis=1) > 0.03  # the face: nothing in it may hide anything else
    assert shown[front & (area > 6)].min() > 0
    np.testing.assert_allclose(texels.spread(head.mean, head.faces).mean(axis=0)[0], 0, atol=0.01)


def test_layout_is_read_from_the_template_and_only_if_it_fits(tmp_path):
    (tmp_path / "head_template.obj").write_text(SQUARE)
    layout = read_layout(tmp_path / "head_template.obj")
    assert (
        layout.is_published
        and layout.points[2].tolist() == [0.9, 0.9]
        and layout.faces.tolist() == [[0, 1, 2], [0, 2, 3]]
    )
    square = np.array([[0, 0, 0], [1, 0, 0], [1, 1, 0], [0, 1, 0]], float)
    assert find_layout(tmp_path, square, layout.mesh_faces).is_published
    assert not find_layout(tmp_path, square, layout.mesh_faces[:1]).is_published  # another mesh
    (tmp_path / "head_template.obj").write_text(SQUARE.replace("/4\n", "/9\n"))
    with pytest.raises(InputError, match="texture indices 1 to 4"):
        read_layout(tmp_path / "head_template.obj")
    (tmp_path / "plain.obj").write_text("v 0 0 0\nv 1 0 0\nv 1 1 0\nf 1 2 3\n")
    assert read_layout(tmp_path / "plain.obj") is None


def test_texture_of_a_drawn_head_shows_its_colours_and_fills_what_is_hidden(head, layout):
    colours = vertex_colors(head).clip(0, 1)
    turn = np.deg2rad(20)
    turned = head.mean @ np.array([[np.cos(turn), 0, -np.sin(turn)], [0, 1, 0], [np.sin(turn), 0, np.cos(turn)]])
    placed = turned * [900, -900, -900] + [120, 130, 0]
    drawn = draw(placed, head.faces, 260, 240)
    photo = textured(np.zeros((260, 240, 3)), colours, head.faces, drawn)
    texels = uv_map(layout, 256)
    texture, seen = texture_of_photo(photo, placed, head.faces, texels, head.mean)
    found = vertex_colours(texture, layout, len(head.mean))
    normals = vertex_normals(placed, head.faces)
    clear = (normals[:, 2] < -0.6) & (head.mean[:, 2] > 0.03)
    assert clear.sum() > 100 and 0.1 < seen.mean() < 0.6
    assert np.median(np.abs(found - colours)[clear]) < 0.02
    hidden = texels.covered & ~seen
    assert texture[hidden].min() > 0.02  # the black background is nowhere in the texture
    assert np.abs(texture[hidden].mean(axis=0) - colours.mean(axis=0)).max() < 0.15
    nothing, none = texture_of_photo(photo, placed + [5000, 0, 0], head.faces, texels, head.mean)  # beside the photo
    assert not none.any() and np.isfinite(nothing).all()


def test_what_lies_behind_a_narrower_face_is_not_taken_for_it(head, layout):
    """A fitted head that is 3 % wider than the one in the photo, before a green wall."""
    placed = head.mean * [900, -900, -900] + [120, 130, 0]
    narrower = (placed - [120, 130, 0]) * [0.97, 0.97, 1] + [120, 130, 0]
    photo = np.zeros((260, 240, 3))
    photo[..., 1] = 1
    photo = textured(photo, np.full((len(placed), 3), 0.5), head.faces, draw(narrower, head.faces, 260, 240))
    texture, seen = texture_of_photo(photo, placed, head.faces, uv_map(layout, 256), head.mean)
    assert seen.mean() > 0.1
    np.testing.assert_allclose(texture, 0.5, atol=0.01)


def test_sampling_and_filling_by_hand():
    picture = np.arange(6.0).reshape(2, 3, 1)
    np.testing.assert_allclose(sample(picture, np.array([[0, 0], [1.5, 0], [2, 0.5], [9, -9]]))[:, 0], [0, 1.5, 3.5, 2])
    known = np.zeros((5, 7), bool)
    known[1, 2] = True
    np.testing.assert_allclose(fill(np.where(known[..., None], 0.7, 0.0), known), 0.7)
    known[4, 6] = True
    filled = fill(np.where(known[..., None], np.linspace(0.2, 0.8, 7)[None, :, None], 0.0), known)
    assert filled.min() >= 0.2 and filled.max() <= 0.8 + 1e-12 and filled[1, 2, 0] == pytest.approx(0.4)


def test_displacement_moves_points_along_the_normal(head, layout):
    texels = uv_map(layout, 64)
    flat = detailed_mesh(head.mean, layout, texels, np.zeros((64, 64)))
    raised = detailed_mesh(head.mean, layout, texels, np.full((64, 64), 0.002))
    np.testing.assert_allclose(np.linalg.norm(raised.vertices - flat.vertices, axis=1), 0.002, atol=1e-6)
    assert flat.faces.max() < len(flat.vertices) == texels.covered.sum() and len(flat.faces) > len(flat.vertices)
    triangle = flat.vertices[flat.faces]
    across = np.cross(triangle[:, 1] - triangle[:, 0], triangle[:, 2] - triangle[:, 0])
    face = triangle.mean(axis=1)[:, 2] > 0.05
    assert (across[face, 2] > 0).mean() > 0.97  # seen from outside


def test_coloured_meshes_keep_order_and_are_read_by_others(tmp_path, head, layout):
    Image.new("RGB", (8, 8)).save(tmp_path / "t.png")
    written = write_textured_obj(
        tmp_path / "a.obj", head.mean, head.faces, layout.points, layout.faces, tmp_path / "t.png"
    )
    vertices, faces = read_obj(written[0])
    np.testing.assert_allclose(vertices, head.mean, atol=1e-8)
    np.testing.assert_array_equal(faces, head.faces)
    assert "map_Kd t.png" in written[1].read_text() and "mtllib a.mtl" in written[0].read_text()
    read = read_layout(written[0])
    np.testing.assert_allclose(read.points, layout.points, atol=1e-6)
    np.testing.assert_array_equal(read.faces, layout.faces)
    colours = vertex_colors(head)
    write_coloured_ply(tmp_path / "a.ply", head.mean, head.faces, colours)
    vertices, faces = read_ply(tmp_path / "a.ply")
    np.testing.assert_array_equal(faces, head.faces)
    np.testing.assert_array_equal(vertices, head.mean.astype(np.float32))
    trimesh = pytest.importorskip("trimesh")
    other = trimesh.load(tmp_path / "a.ply", process=False)
    np.testing.assert_allclose(other.visual.vertex_colors[:, :3] / 255, colours.clip(0, 1), atol=0.003)
    with pytest.raises(InputError, match="finite"):
        write_coloured_ply(tmp_path / "b.ply", head.mean * np.nan, head.faces, colours)


def test_pictures_show_depth_and_points_where_they_are(head):
    placed = head.mean * [500, -500, -500] + [60, 80, 0]
    drawn = draw(placed, head.faces, 150, 120)
    depth = depth_picture(drawn)
    nose = placed[np.argmin(placed[:, 2])]
    assert (
        depth[round(nose[1]), round(nose[0])] > 0.97 and depth[drawn.mask].min() > 0 and (depth[~drawn.mask] == 0).all()
    )
    black = np.zeros((20, 30, 3))
    picture = dots(black, np.array([[10.0, 5.0], [100.0, 5.0]]), 2.0)
    assert picture[5, 10].max() > 0.9 and picture[5, 14].max() == 0 and black.max() == 0
