"""Colours of heads: from their files, of the demo head, in clay."""

import numpy as np
import pytest
from PIL import Image

from face4d.demo.expressions import deform, weights_of
from face4d.demo.head import EYE, POCKET, SKIN, TEETH, demo_head, head_of, vertex_colors
from face4d.errors import InputError
from face4d.mesh.ply import write_ply
from face4d.mesh.textured import write_coloured_obj, write_coloured_ply, write_textured_obj
from face4d.render.clay import CLAY
from face4d.view.looks import byte_colours, own_colours, painted_colours, shown_head

HEAD = demo_head(0)
OTHER = HEAD.faces[:, [1, 2, 0]][:-1]  # no longer the demo head's triangles


@pytest.mark.parametrize("level", [0, 1, 2])
def test_the_demo_head_is_known_by_its_triangles(level):
    head = demo_head(level)
    shuffled = np.random.default_rng(0).permutation(np.roll(head.faces, 1, axis=1))
    assert head_of(len(head.mean), shuffled) is head
    assert head_of(len(head.mean), head.faces[:, ::-1]) is None and head_of(len(head.mean), head.faces[1:]) is None
    assert head_of(5023, head.faces) is None


def test_a_demo_head_of_any_shape_has_the_demo_heads_colours():
    taller = HEAD.mean * [1, 1.1, 1]
    found = painted_colours(taller[None], HEAD.faces)
    wanted = vertex_colors(HEAD)
    np.testing.assert_allclose(found[HEAD.kind != SKIN], wanted[HEAD.kind != SKIN].clip(0, 1))
    shade = (found / wanted)[HEAD.kind == SKIN]
    assert shade.min() >= 0.65 - 1e-9 and shade.max() <= 1 and 0.9 < np.median(shade)
    bytes_ = byte_colours(found)
    assert bytes_.dtype == np.uint8 and bytes_.shape == taller.shape
    np.testing.assert_allclose((bytes_ / 255.0) ** 2.2, found, atol=0.005)


def test_clay_is_dark_where_no_light_comes_and_has_eyes():
    opened = deform(HEAD, HEAD.mean, weights_of("mouth_extreme"))
    found = painted_colours(np.stack([HEAD.mean, opened]), OTHER)
    assert found.min() >= 0 and found.max() <= 1
    forehead = (HEAD.kind == SKIN) & (HEAD.q > 60) & (HEAD.q < 90) & (HEAD.p < 30)
    np.testing.assert_allclose(found[forehead], np.tile(CLAY, (forehead.sum(), 1)), rtol=0.08)
    assert found[(HEAD.kind == POCKET) & (HEAD.inner[:, 2] == 1)].mean() < 0.25 * np.mean(CLAY)
    for side in (-1, 1):
        ball = np.flatnonzero((HEAD.kind == EYE) & (HEAD.side == side))
        assert found[ball[0]].max() < 0.08  # the pupil
        assert found[ball].mean(axis=1).max() > np.mean(CLAY)  # the white
    teeth = found[HEAD.kind == TEETH]
    assert (teeth <= np.array(CLAY) + 1e-9).all()  # a part of its own, but no ball


def test_what_opens_once_is_lit():
    shut, opened = HEAD.mean, deform(HEAD, HEAD.mean, weights_of("mouth_extreme"))
    lower_teeth = (HEAD.kind == TEETH) & (HEAD.inner[:, 1] < 0)
    moving = painted_colours(np.stack([shut, opened]), OTHER)[lower_teeth].mean()
    assert moving > 1.5 * painted_colours(shut[None], OTHER)[lower_teeth].mean()


def test_a_file_brings_its_colours(tmp_path):
    colours = np.random.default_rng(1).uniform(0, 1, HEAD.mean.shape)
    eight_bits = (255 * colours).round()
    ply = write_coloured_ply(tmp_path / "a.ply", HEAD.mean, HEAD.faces, colours)
    obj = write_coloured_obj(tmp_path / "a.obj", HEAD.mean, HEAD.faces, colours)
    np.testing.assert_allclose(255 * own_colours(ply, len(HEAD.mean)), eight_bits, atol=1e-4)
    assert np.abs(255 * own_colours(obj, len(HEAD.mean)) - eight_bits).max() <= 1
    write_ply(tmp_path / "plain.ply", HEAD.mean, HEAD.faces)
    for path in (tmp_path / "plain.ply", tmp_path / "landmarks.npy"):
        assert own_colours(path, len(HEAD.mean)) is None


def test_a_texture_in_the_objs_folder_and_none_elsewhere(tmp_path):
    folder = tmp_path / "inside"
    folder.mkdir()
    rows = np.linspace(0, 255, 64).round().astype(np.uint8)
    Image.fromarray(np.stack([np.tile(rows, (64, 1))] * 3, axis=2)).save(folder / "skin.png")
    Image.new("RGB", (8, 8), "red").save(tmp_path / "outside.png")
    u = (HEAD.mean[:, 0] - HEAD.mean[:, 0].min()) / np.ptp(HEAD.mean[:, 0])
    uv = np.stack([u, np.full_like(u, 0.5)], axis=1)
    write_textured_obj(folder / "a.obj", HEAD.mean, HEAD.faces, uv, HEAD.faces, folder / "skin.png")
    found = own_colours(folder / "a.obj", len(HEAD.mean))
    np.testing.assert_allclose(255 * found[:, 0], 255 * np.clip((u * 64 - 0.5) / 63, 0, 1), atol=2)
    (folder / "a.mtl").write_text("newmtl face\nmap_Kd ../outside.png\n")
    assert own_colours(folder / "a.obj", len(HEAD.mean)) is None


def test_colours_that_are_none_are_refused(tmp_path):
    path = write_coloured_ply(tmp_path / "a.ply", HEAD.mean, HEAD.faces, np.ones_like(HEAD.mean))
    with pytest.raises(InputError, match=f"colours of {len(HEAD.mean) - 1} vertices"):
        own_colours(path, len(HEAD.mean) - 1)
    text = "ply\nformat ascii 1.0\nelement vertex 3\nproperty float x\nproperty float y\nproperty float z\n"
    text += "property float red\nproperty float green\nproperty float blue\nelement face 1\n"
    text += "property list uchar int vertex_indices\nend_header\n0 0 0 1 1 1\n1 0 0 0 0 %s\n0 1 0 1 1 1\n3 0 1 2\n"
    for bad in ("1.5", "-1", "nan"):
        (tmp_path / "b.ply").write_text(text % bad)
        with pytest.raises(InputError, match="colours of vertices from 0 to 1"):
            own_colours(tmp_path / "b.ply", 3)
    (tmp_path / "b.ply").write_text(text % "0.5")
    np.testing.assert_allclose(own_colours(tmp_path / "b.ply", 3)[1], [0, 0, 0.5])
    (tmp_path / "c.obj").write_text("v 0 0 0 1 1 1\nv 1 0 0\nv 0 1 0 1 1 1\nf 1 2 3\n")
    with pytest.raises(InputError, match="a colour for every vertex"):
        own_colours(tmp_path / "c.obj", 3)


def test_the_demo_head_is_shown_finer_and_others_are_not(tmp_path):
    fine = demo_head(1)
    frames = np.stack([HEAD.mean, deform(HEAD, HEAD.mean, weights_of("Happy"))]).astype(np.float32)
    shown = shown_head([frames, frames[:1]], HEAD.faces)
    assert shown.faces is fine.faces and [len(motion) for motion in shown.motions] == [2, 1]
    wanted = deform(fine, fine.mean, weights_of("Happy"))
    assert 1e3 * np.linalg.norm(shown.motions[0][1] - wanted, axis=1).max() < 0.5
    np.testing.assert_allclose(shown.neutral, fine.mean, atol=1e-7)
    np.testing.assert_allclose(shown.colours[fine.kind == TEETH], vertex_colors(fine)[fine.kind == TEETH])
    own = np.random.default_rng(2).uniform(0, 1, HEAD.mean.shape)
    path = write_coloured_ply(tmp_path / "a.ply", HEAD.mean, HEAD.faces, own)
    coloured = shown_head([frames], HEAD.faces, HEAD.mean, own_colours(path, len(HEAD.mean)))
    same = np.flatnonzero(HEAD.kind == SKIN)[:50]  # of the half head: the same numbers in both
    np.testing.assert_allclose(coloured.colours[same], own[same] ** 2.2, atol=0.01)
    other = shown_head([frames], OTHER)
    assert other.motions[0] is frames and other.faces is OTHER and len(other.colours) == len(HEAD.mean)


def test_eyes_and_teeth_of_the_demo_head_keep_their_colours():
    """A head of 871 vertices with a photo's colours: its eyes have an iris all the same."""
    head, fine = demo_head(), demo_head(1)
    green = np.tile([0.1, 0.6, 0.1], (len(head.mean), 1))
    shown = shown_head([head.mean[None]], head.faces, colours=green)
    skin = fine.kind == SKIN
    np.testing.assert_allclose(shown.colours[~skin], vertex_colors(fine)[~skin])
    np.testing.assert_allclose(shown.colours[skin], np.tile([0.1, 0.6, 0.1], (skin.sum(), 1)) ** 2.2, atol=1e-6)
