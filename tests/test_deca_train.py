"""Training of the encoder on rendered faces: data, losses, scores, resuming."""

from dataclasses import replace

import numpy as np
import pytest
import torch

from face4d.deca.checkpoints import load_encoder
from face4d.deca.config import EncoderConfig
from face4d.deca.face_model import load_face_model
from face4d.deca.networks import CodeLayout, PointEncoder
from face4d.deca.rendered_faces import aligned_error, face_errors, landmark_error, photometric_difference, render_faces
from face4d.deca.train import (
    EncoderLoss,
    build_network,
    code_layout,
    evaluate,
    face_vertices,
    moved,
    true_points,
    undrawn_loss,
)
from face4d.errors import InputError
from face4d.render.lit import to_screen
from face4d.runtime.run_folder import Run
from face4d.synthetic.faces import SyntheticFaces
from tests.conftest import load_script

TINY = {
    "faces": 8,
    "held_out": 2,
    "image_size": 32,
    "hidden": 8,
    "batch_size": 4,
    "epochs": 2,
    "photometric_faces": 1,
    "undrawn_faces": 4,
}


@pytest.fixture(scope="module")
def face():
    return load_face_model("demo")


@pytest.fixture(scope="module")
def faces(face):
    return render_faces(face, code_layout(face), 5, 48, 1, quiet=True)


def test_layout_leaves_out_what_moves_nothing(face):
    layout = code_layout(face)
    assert (layout.shape, layout.texture, layout.pose, layout.camera, layout.light) == (14, 0, 6, 3, 27)
    whole, _ = face.pose(layout.split(torch.randn(2, layout.total)))
    assert whole.shape == (2, face.model.num_vertices, 3)


def test_rendered_faces_are_what_their_codes_say(face, faces):
    again = render_faces(face, faces.layout, 3, 48, 1, quiet=True)
    assert (
        torch.equal(again.images, faces.images[:3])
        and again.digest() == faces.rows(slice(0, 3)).digest() != faces.digest()
    )
    _, landmarks = face.pose(faces.code)
    torch.testing.assert_close(to_screen(landmarks, faces.code.camera), faces.landmarks, atol=1e-5, rtol=0)
    assert photometric_difference(face, faces.code, faces) < 0.005
    other = faces.layout.split(faces.codes.flip(0))
    assert photometric_difference(face, other, faces) > 0.03


def test_moved_pictures_have_moved_cameras(face, faces):
    generator = torch.Generator().manual_seed(4)
    shifted = moved(faces, 6, generator)
    assert not torch.equal(shifted.images, faces.images)
    _, landmarks = face.pose(shifted.code)
    torch.testing.assert_close(to_screen(landmarks, shifted.code.camera), shifted.landmarks, atol=1e-5, rtol=0)
    assert photometric_difference(face, shifted.code, shifted) < 0.03  # the border is repeated, the face is not
    assert photometric_difference(face, faces.code, shifted) > photometric_difference(face, shifted.code, shifted)


def test_errors_are_zero_at_the_truth_and_the_mean_faces_at_the_mean(face, faces):
    errors = face_errors(face, faces.code, faces.code)
    assert errors["neutral"].max() < 1e-3 and errors["expressive"].max() < 1e-3 and errors["mean_face"].min() > 0.5
    mean = faces.layout.split(torch.zeros_like(faces.codes))
    at_mean = face_errors(face, mean, faces.code)
    torch.testing.assert_close(at_mean["neutral"], at_mean["mean_face"], atol=1e-4, rtol=0)
    assert landmark_error(face, faces.code, faces.code).max() < 1e-4
    points = torch.as_tensor(np.random.default_rng(0).normal(size=(1, 9, 3)))
    turn, _ = np.linalg.qr(np.random.default_rng(1).normal(size=(3, 3)))
    turn = torch.as_tensor(turn * np.sign(np.linalg.det(turn)))
    assert aligned_error(points, 3 * points @ turn + 1) < 1e-9
    assert aligned_error(points, -points) > 1  # a mirror image is another face


def test_loss_is_least_at_the_truth_and_reaches_every_weight(face, faces):
    config = EncoderConfig(photometric_faces=5)
    scale = faces.codes.std(0).clamp_min(1e-3)
    loss = EncoderLoss(face, config, faces.layout, scale)
    at_truth, parts = loss(faces.codes, faces)
    assert set(parts) == {"code", "vertices", "landmarks", "light", "photometric"} and at_truth < 0.02
    for name in ("shape", "expression", "pose", "camera", "light"):
        start = list(faces.layout.as_dict()).index(name)
        column = sum(list(faces.layout.as_dict().values())[:start])
        codes = faces.codes.clone()
        codes[:, column] += scale[column]
        assert loss(codes, faces)[0] > at_truth + 0.005, name
    network = build_network(faces.layout, EncoderConfig(**TINY))
    points = true_points(face, faces, network.vertices)
    network.fit_scale(faces.codes, points)
    value, parts = _loss_of(loss, network, faces, points)
    assert parts["points"] > 0.5
    value.backward()
    assert all(
        parameter.grad is not None and torch.isfinite(parameter.grad).all() for parameter in network.parameters()
    )


def _loss_of(loss, network, faces, points):
    codes, found = network.codes_and_points(faces.pictures())
    return loss(codes, faces, found, points)


def test_faces_that_are_not_drawn_teach_the_second_half(face):
    torch.manual_seed(0)
    layout = code_layout(face)
    config = EncoderConfig(**TINY | {"hidden": 64, "undrawn_faces": 64})
    network = build_network(layout, config)
    network.vertices.copy_(torch.as_tensor(face_vertices(face)))
    some = render_faces(face, layout, 64, 8, 2, quiet=True)
    network.fit_scale(some.codes, true_points(face, some, network.vertices))
    loss = EncoderLoss(face, config, layout, network.code_scale)
    source = SyntheticFaces(face.layer, 1, size=8)
    optimizer = torch.optim.Adam(network.geometry.parameters(), lr=3e-3)
    values = []
    for _ in range(60):
        value = loss.weighted(undrawn_loss(layout, network, loss, source, config))
        optimizer.zero_grad()
        value.backward()
        optimizer.step()
        values.append(value.item())
    assert np.mean(values[-5:]) < 0.85 * np.mean(values[:5])


def test_points_are_centres_of_maps_in_screen_coordinates():
    network = PointEncoder(CodeLayout(shape=2, texture=0, expression=2), 8).eval()
    with torch.no_grad():
        network.maps.weight.zero_()
        network.maps.bias.zero_()
        points, _ = network.find_points(torch.rand(2, 3, 64, 96))
        # even maps: the middle of the picture
        torch.testing.assert_close(points, torch.zeros(2, 128, 2), atol=1e-6, rtol=0)
    assert network(torch.rand(2, 3, 64, 64)).shape == (2, 2 + 2 + 9 + 27)


def test_true_points_are_landmarks_and_vertices_and_stay_in_the_picture(face, faces):
    chosen = torch.as_tensor(face_vertices(face))
    points = true_points(face, faces, chosen, batch_size=2)
    torch.testing.assert_close(points[:, :68], faces.landmarks[..., :2].clamp(-0.9, 0.9), atol=1e-5, rtol=0)
    codes = faces.codes.clone()
    codes[:, -27 - 3] *= 1.4  # nearer: more than the picture shows
    near = replace(faces, codes=codes)
    points = true_points(face, near, chosen)
    vertices, _ = face.pose(near.code)
    outside = to_screen(vertices[:, chosen], near.code.camera)[..., :2].abs().amax(2) > 1
    assert outside.any() and points.abs().max() <= 0.9 and (points[:, 68:].abs().amax(2)[outside] == 0.9).all()


def test_spread_vertices_lie_on_the_front_and_far_apart(face):
    chosen = face_vertices(face)
    assert len(set(chosen.tolist())) == 60
    points = face.model.template[chosen]
    distance = np.linalg.norm(points[:, None] - points[None], axis=2) + np.eye(60)
    assert distance.min() > 0.008 and np.ptp(points[:, 1]) > 0.15


@pytest.mark.parametrize("backbone", ["small", "resnet18"])
def test_training_resumes_to_the_same_weights_and_is_read_back(face, tmp_path, monkeypatch, backbone):
    config = EncoderConfig(**TINY | {"backbone": backbone})
    whole = Run("a", tmp_path, tmp_path / "runs", quiet=True)
    train = load_script("Reconstruction/deca_train.py").train
    metrics = train(face, config, whole)
    assert metrics["test/faces"] == 2 and metrics["test/mean_face_mm"] > 0 and np.isfinite(metrics["test/neutral_mm"])

    halves = Run("b", tmp_path, tmp_path / "runs", checkpoint_seconds=0, quiet=True)
    from face4d.deca import train as deca_train

    calls = []

    def interrupted(*arguments):  # after the first epoch's score
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return evaluate(*arguments)

    monkeypatch.setattr(deca_train, "evaluate", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(face, config, halves)
    monkeypatch.undo()
    train(face, config, replace(halves, resume=True))
    first, second = (torch.load(run.checkpoint, weights_only=True)["model"] for run in (whole, halves))
    assert all(torch.equal(value, second[name]) for name, value in first.items())
    with pytest.raises(InputError, match="lr"):
        train(face, replace(config, lr=1e-4), replace(halves, resume=True))

    loaded = load_encoder(whole.checkpoint)
    assert loaded.image_size == 32 and face.is_model_of(loaded.fingerprint) and loaded.metrics["test/faces"] == 2
    network = build_network(loaded.layout, config)
    network.load_state_dict(first)
    pictures = torch.rand(2, 3, 32, 32)
    torch.testing.assert_close(loaded.coarse.eval()(pictures), network.eval()(pictures), atol=1e-5, rtol=1e-4)


def test_settings_that_cannot_train_are_refused():
    with pytest.raises(InputError, match="--image-size: expected an integer from 32"):
        EncoderConfig(image_size=8)
    with pytest.raises(InputError, match="--batch-size: expected an integer from 2"):
        EncoderConfig(batch_size=1)


def test_light_is_learned_from_features_like_those_of_pictures():
    """Means of rectified maps: all positive, with a small spread. Unless they are normalised, the loss stays where it
    is."""
    torch.manual_seed(0)
    light = PointEncoder(CodeLayout(shape=2, texture=0, expression=2), 64).light
    optimizer = torch.optim.AdamW(light.parameters(), lr=EncoderConfig().lr)
    values = []
    for _ in range(150):
        told = torch.randn(32, 96)
        loss = (light(0.43 + 0.075 * told) - told[:, :27]).abs().mean()
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
        values.append(loss.item())
    assert np.mean(values[-10:]) < 0.5 * np.mean(values[:10])


def test_a_loss_and_the_faces_it_looks_at_are_refused_where_the_other_is_none():
    assert "weight_photometric" in EncoderConfig(photometric_faces=0).unused()
    assert "photometric_faces" in EncoderConfig(weight_photometric=0.0).unused()
    assert not {"weight_photometric", "photometric_faces"} & set(EncoderConfig().unused())
