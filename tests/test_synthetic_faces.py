"""Rendered faces: the truth that comes with a picture is the picture's."""

import numpy as np
import pytest
import torch

from face4d.demo.flame import demo_flame_model, dynamic_embedding, static_embedding
from face4d.demo.head import demo_head
from face4d.errors import InputError
from face4d.flame.layer import FlameLayer
from face4d.flame.skinning import rodrigues
from face4d.landmarks import LandmarkEmbedding
from face4d.photos.crops import FaceBox, deca_crop, vrn_crop
from face4d.render.lit import render, shade, to_pixels
from face4d.synthetic.faces import FaceRegions, SyntheticFaces, lamp, random_backgrounds, random_colors, random_light


@pytest.fixture(scope="module")
def layer():
    head = demo_head()
    (static_face, static_bary), (contour_face, contour_bary) = static_embedding(head), dynamic_embedding(head)
    face_idx, bary = np.concatenate([contour_face[0], static_face]), np.concatenate([contour_bary[0], static_bary])
    embedding = LandmarkEmbedding(face_idx, bary, head.faces, len(head.mean), contour_face, contour_bary)
    return FlameLayer(demo_flame_model(), embedding)


@pytest.fixture(scope="module")
def batch(layer):
    return SyntheticFaces(layer, 5).batch(6)


def test_shapes_and_ranges(batch, layer):
    count, vertices = 6, layer.num_vertices
    shapes = {"images": (3, 224, 224), "shape": (100,), "expression": (50,), "pose": (6,), "camera": (3,),
              "light": (9, 3), "vertices": (vertices, 3), "landmarks": (68, 3), "screen_landmarks": (68, 3),
              "colors": (vertices, 3), "mask": (1, 224, 224)}  # fmt: skip
    assert {name: tuple(values.shape) for name, values in batch._asdict().items()} == {
        name: (count, *shape) for name, shape in shapes.items()
    }
    assert batch.images.min() >= 0 and batch.images.max() <= 1 and batch.images.std() > 0.1
    assert (0.2 < batch.mask.mean((1, 2, 3))).all()


def test_the_parameters_give_the_vertices_and_the_picture(batch, layer):
    posed = layer(
        shape=batch.shape, expression=batch.expression, global_pose=batch.pose[:, :3], jaw_pose=batch.pose[:, 3:]
    )
    torch.testing.assert_close(posed.vertices, batch.vertices)
    torch.testing.assert_close(posed.landmarks, batch.landmarks)
    drawn = render(posed.vertices, layer.faces, batch.camera, batch.light, 224, colors=batch.colors)
    assert torch.equal(drawn.mask, batch.mask)
    torch.testing.assert_close(drawn.image.clamp(0, 1) * batch.mask, batch.images * batch.mask, atol=1e-5, rtol=0)


def test_the_same_seed_gives_the_same_faces_and_another_one_others(layer, batch):
    again, other = SyntheticFaces(layer, 5).batch(6), SyntheticFaces(layer, 6).batch(6)
    assert all(torch.equal(a, b) for a, b in zip(batch, again))
    assert not torch.equal(batch.shape, other.shape)


def test_coefficients_without_effect_are_zero(batch, layer):
    model = demo_flame_model()
    for values, directions in ((batch.shape, model.shape_directions), (batch.expression, model.expression_directions)):
        used = torch.tensor((directions != 0).any(axis=(0, 1))[: values.shape[1]])
        assert not used.all() and (values[:, ~used] == 0).all() and (values[:, used] != 0).all()


def test_heads_nod_turn_and_tilt_as_in_photos_and_half_of_the_mouths_are_closed(layer):
    codes, posed, camera = SyntheticFaces(layer, 3).geometry(2000)
    pose = codes[:, 150:156]
    matrix = rodrigues(pose[:, :3])  # R_x R_y R_z
    nod = torch.atan2(-matrix[:, 1, 2], matrix[:, 2, 2])
    turn = torch.asin(matrix[:, 0, 2])
    tilt = torch.atan2(-matrix[:, 0, 1], matrix[:, 0, 0])
    for radians, degrees in ((nod, 10), (turn, 22), (tilt, 8)):  # normal, cut at twice the standard deviation
        angle = torch.rad2deg(radians)
        assert angle.mean() == pytest.approx(0, abs=0.1 * degrees)
        assert (angle.abs() < degrees).float().mean() == pytest.approx(0.683, abs=0.04)
        assert angle.min() == pytest.approx(-2 * degrees, rel=1e-3) and angle.max() == pytest.approx(
            2 * degrees, rel=1e-3
        )
    opening, sideways = pose[:, 3], pose[:, 4:]  # radians
    assert (opening == 0).float().mean() == pytest.approx(0.5, abs=0.04) and opening.min() == 0
    assert opening.max() == pytest.approx(0.45) and (opening < 0.18).float().mean() == pytest.approx(0.841, abs=0.03)
    assert sideways.std() == pytest.approx(0.02, rel=0.1)
    assert torch.equal(camera, codes[:, 156:])
    again = layer(shape=codes[:2, :100], expression=codes[:2, 100:150], global_pose=pose[:2, :3], jaw_pose=pose[:2, 3:])
    torch.testing.assert_close(again.vertices, posed.vertices[:2])


def test_identities_are_normal_and_expressions_go_from_none_to_strong(layer):
    codes = SyntheticFaces(layer, 4).geometry(2000)[0]
    shape, expression = codes[:, :100], codes[:, 100:150]
    shape, expression = shape[:, shape.abs().amax(0) > 0], expression[:, expression.abs().amax(0) > 0]
    assert shape.abs().max() == pytest.approx(2.5) and shape.std() == pytest.approx(1, abs=0.03)
    strength = expression.std(1)  # up to 0.8, whatever number is drawn evenly
    assert expression.abs().max() <= 1.6 and strength.mean() == pytest.approx(0.4, abs=0.05) and strength.min() < 0.02


@pytest.mark.parametrize(("framing", "size", "window"), [("deca", 224, deca_crop), ("vrn", 192, vrn_crop)])
def test_framed_as_the_crop_of_a_photo_is(layer, framing, size, window):
    steady = SyntheticFaces(layer, 1, framing=framing, jitter=0.0).batch(3)
    assert steady.images.shape[2:] == (size, size)
    for points in to_pixels(steady.screen_landmarks, size):
        crop = window(FaceBox.of_landmarks(points.numpy()))  # of a picture that is framed already: no change
        assert crop.scale == pytest.approx(1, abs=0.02)
        np.testing.assert_allclose(crop.to_crop([size / 2, size / 2]), size / 2, atol=2.0)
    moved = SyntheticFaces(layer, 1, framing=framing, jitter=0.2).batch(3)
    assert (moved.camera[:, 0] / steady.camera[:, 0] - 1).abs().max() > 0.02


def test_landmarks_lie_on_the_face(batch):
    x, y = to_pixels(batch.screen_landmarks, 224)[..., :2].round().long().unbind(-1)
    inside = (x >= 0) & (x < 224) & (y >= 0) & (y < 224)
    on_face = batch.mask[torch.arange(6)[:, None], 0, y.clamp(0, 223), x.clamp(0, 223)] > 0
    assert on_face[:, 17:][inside[:, 17:]].float().mean() > 0.97


def test_bad_requests(layer):
    with pytest.raises(InputError, match="framing"):
        SyntheticFaces(layer, 0, framing="portrait")
    with pytest.raises(InputError, match="landmarks"):
        SyntheticFaces(FlameLayer(demo_flame_model()), 0)


def test_a_lamp_shines_where_it_points():
    directions = torch.nn.functional.normalize(torch.randn(20, 3, generator=torch.Generator().manual_seed(0)), dim=1)
    light = lamp(directions)[..., None].expand(-1, -1, 3)
    toward = shade(directions[:, None], light)
    torch.testing.assert_close(toward, torch.full_like(toward, 0.25 + 0.5 + 5 / 16))  # 1.06 of the exact 1
    torch.testing.assert_close(shade(-directions[:, None], light), torch.full_like(toward, 0.25 - 0.5 + 5 / 16))


def test_faces_are_neither_dark_nor_burnt():
    light = random_light(200, torch.Generator().manual_seed(0))
    front = shade(torch.tensor([[[0.0, 0.0, 1.0]]]).expand(200, -1, -1), light)
    assert 0.4 < front.mean((1, 2)).min() and front.mean((1, 2)).max() < 1.4
    assert light.std(0).min() > 0


def test_backgrounds_differ_and_stay_in_range():
    pictures = random_backgrounds(4, 50, torch.Generator().manual_seed(0))
    assert pictures.shape == (4, 3, 50, 50) and pictures.min() >= 0 and pictures.max() <= 1
    assert (pictures[0] - pictures[1]).abs().mean() > 0.05


def test_regions_lie_where_the_landmarks_are(layer):
    neutral = layer()
    points, marks = neutral.vertices[0], neutral.landmarks[0]
    weights = FaceRegions(points, layer.faces, marks).weights
    assert all(0 <= weight.min() and weight.max() <= 1 and weight.sum() > 0 for weight in weights.values())

    def middle(name):
        return (points * weights[name][:, None]).sum(0) / weights[name].sum()

    assert (middle("lips") - marks[48:60].mean(0)).norm() < 0.012
    assert (middle("iris")[1:2] - marks[36:48].mean(0)[1:2]).abs() < 0.006
    assert middle("hair")[1] > marks[17:27, 1].mean() > middle("iris")[1] > middle("beard")[1]
    people = random_colors(FaceRegions(points, layer.faces, marks), 30, torch.Generator().manual_seed(0))
    assert people.shape == (30, len(points), 3) and 0 <= people.min() and people.max() <= 1
    assert people.mean(1).std(0).min() > 0.05  # they differ from each other
