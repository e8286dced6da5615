"""Training of the volume network, what it leaves, and its use on a photo; tiny networks."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
import torch
from PIL import Image

from face4d.deca.face_model import load_face_model
from face4d.errors import InputError
from face4d.mesh.ply import read_ply
from face4d.photos.crops import Crop, FaceBox, vrn_crop
from face4d.runtime.fields import read_json
from face4d.runtime.run_folder import Run
from face4d.vrn import train as vrn_train
from face4d.vrn.config import VolumeConfig
from face4d.vrn.network import VolumeNetwork
from face4d.vrn.reconstruction import (
    LoadedVolumeNetwork,
    load_volume_network,
    places,
    reconstruct,
    surface_colours,
    write_volume_face,
)
from face4d.vrn.train import VolumeScores
from face4d.vrn.volume_set import write_rendered_set
from tests.conftest import load_script

TINY = VolumeConfig(width=1 / 32, epochs=2, batch_size=2, validate_every=2, seed=3)


@pytest.fixture(scope="module")
def data(tmp_path_factory):
    return write_rendered_set(
        tmp_path_factory.mktemp("set") / "heads", load_face_model("demo"), 4, 1, seed=5, quiet=True
    )


@pytest.fixture(scope="module")
def trained(data, tmp_path_factory):
    run = Run("vrn", tmp_path_factory.mktemp("models"), tmp_path_factory.mktemp("runs"), quiet=True)
    return run, load_script("Reconstruction/vrn_train.py").train(data, TINY, run)


def test_training_writes_scores_beside_the_mean_volume(trained):
    run, scores = trained
    assert read_json(run.folder.path / "config.json")["config"]["width"] == 1 / 32
    assert scores["epoch"] == 2 and scores["test/samples"] == 1
    assert 0.3 < scores["test/mean_volume_iou"] < 1 and 0 <= scores["test/iou"] < 1
    assert scores["test/mean_volume_nme"] > 0


def test_interrupted_and_resumed_equals_uninterrupted(data, trained, tmp_path, monkeypatch):
    run = Run("vrn", tmp_path / "models", tmp_path / "runs", checkpoint_seconds=0, quiet=True)
    calls, whole = [], vrn_train.vary

    def interrupted(*arguments):
        calls.append(1)
        if len(calls) == 4:  # in the second epoch
            raise KeyboardInterrupt
        return whole(*arguments)

    monkeypatch.setattr(vrn_train, "vary", interrupted)
    # the weights are what is compared
    monkeypatch.setattr(vrn_train, "evaluate", lambda network, data: VolumeScores(1, *[0.5] * 8))
    with pytest.raises(KeyboardInterrupt):
        load_script("Reconstruction/vrn_train.py").train(data, TINY, run)
    assert run.last.exists() and not run.checkpoint.exists()
    load_script("Reconstruction/vrn_train.py").train(data, TINY, replace(run, resume=True))
    assert len(calls) == 6
    first, second = (torch.load(path, weights_only=True)["model"] for path in (trained[0].checkpoint, run.checkpoint))
    assert all(torch.equal(first[name], second[name]) for name in first)
    with pytest.raises(InputError, match="width"):
        load_script("Reconstruction/vrn_train.py").train(data, replace(TINY, width=1 / 16), replace(run, resume=True))


def test_a_step_lowers_the_loss_and_pictures_are_mirrored_with_their_volumes(data):
    samples = [data.read("training", name) for name in data.training[:2]]
    config = VolumeConfig(augmented=0.0)
    seen = set()
    for seed in range(6):
        pictures, bits = vrn_train.vary(samples, config, torch.Generator().manual_seed(seed))
        for sample, picture, volume in zip(samples, pictures, bits):
            mirrored = not np.array_equal((picture * 255).round().byte().permute(1, 2, 0).numpy(), sample.image)
            np.testing.assert_array_equal(volume, sample.bits[..., ::-1] if mirrored else sample.bits)
            seen.add(mirrored)
    assert seen == {True, False}
    phase = vrn_train.phase_of(bits, 6, data.grid)  # row 1, column 2
    np.testing.assert_array_equal(phase[0, :, 3, 5], np.unpackbits(bits[0][:, 13, 22]))


def test_bad_configurations_and_sets_are_refused(data, tmp_path):
    for wrong in ({"width": 0.0}, {"width": 2.0}, {"phases": 17}, {"batch_size": 1}):
        with pytest.raises(InputError):
            VolumeConfig(**wrong)
    with pytest.raises(InputError, match="at least 8"):
        load_script("Reconstruction/vrn_train.py").train(data, VolumeConfig(batch_size=8), Run("x", tmp_path, tmp_path))


def test_a_photo_becomes_a_coloured_head(data, trained, tmp_path, monkeypatch):
    loaded = load_volume_network(trained[0].checkpoint)
    sample = data.read("training", data.training[0])
    found = loaded.volume(sample.image / 255.0)
    np.testing.assert_array_equal(found > 0.5, vrn_train.predict(loaded.network, sample))
    # from here on a network that knows: two epochs fill no head, and what follows the network is looked at
    monkeypatch.setattr(LoadedVolumeNetwork, "volume", lambda self, picture: sample.volume().astype(np.float32))
    photo = np.kron(sample.image, np.ones((2, 2, 1))) / 255.0
    landmarks = sample.landmarks * 2.0
    crop = vrn_crop(FaceBox.of_landmarks(landmarks))
    monkeypatch.setattr("face4d.vrn.reconstruction.vrn_crop", lambda box: Crop(0.5, (0.0, 0.0), 192, "reflect"))
    found = reconstruct(loaded, photo, landmarks)
    # the rendering is not framed to the pixel as its landmarks would frame it
    assert crop.size == 192 and found.crop != crop
    crop = found.crop
    assert found.colours.shape == found.vertices.shape and 0 <= found.colours.min() <= found.colours.max() <= 1
    assert found.nme(landmarks) < 0.03
    for path in write_volume_face(tmp_path / "a", "a", found, volume=True):
        assert path.stat().st_size > 1000
    vertices, faces = read_ply(tmp_path / "a" / "a_mesh.ply")
    np.testing.assert_allclose(vertices, crop.to_photo(found.vertices) * [1, -1, -1], atol=1e-3)
    first = (tmp_path / "a" / "a_mesh.obj").read_text().splitlines()
    assert len(first[0].split()) == 7 and sum(line.startswith("v ") for line in first) == len(vertices)
    assert len(faces) == sum(line.startswith("f ") for line in first)
    with np.load(tmp_path / "a" / "a_volume.npz") as volume:
        assert volume["volume"].shape == (25, 192, 192)
    overview = Image.open(tmp_path / "a" / "a_overview.png")
    assert overview.size == (8 * 384, 384)


def test_landmarks_as_places_are_centred_in_depth():
    crop = Crop(0.5, (10.0, 20.0), 192, "reflect")
    landmarks = np.random.default_rng(0).normal(100, 20, (68, 3))
    found = places(landmarks, crop)
    np.testing.assert_allclose(found[:, :2], landmarks[:, :2] * 0.5 + [10, 20])
    np.testing.assert_allclose(found[:, 2], (landmarks[:, 2] - landmarks[:, 2].mean()) * 0.5)


def test_hidden_vertices_take_the_nearest_visible_colour():
    picture = np.zeros((4, 4, 3))
    picture[:, :2] = [1, 0, 0]
    vertices = np.array([[0.0, 0, 0], [3, 0, 0], [2.9, 0, 9]])
    colours = surface_colours(picture, vertices, np.array([True, False, True]))
    np.testing.assert_array_equal(colours, [[1, 0, 0], [1, 0, 0], [0, 0, 0]])


def test_weights_of_others_are_told_apart(tmp_path):
    with pytest.raises(InputError, match="vrn_train"):
        load_volume_network(tmp_path / "none.pt")
    (tmp_path / "damaged.pt").write_bytes(b"PK damaged")
    with pytest.raises(InputError, match="unreadable"):
        load_volume_network(tmp_path / "damaged.pt")
    torch.save({"weight": torch.zeros(3)}, tmp_path / "other.pt")
    with pytest.raises(InputError, match="another file"):
        load_volume_network(tmp_path / "other.pt")
    weights = VolumeNetwork(0.0625).state_dict()
    torch.save(weights, tmp_path / "narrow.pt")
    with pytest.raises(InputError, match="shape"):
        load_volume_network(tmp_path / "narrow.pt")
    del weights["11.0.1.bias"]
    torch.save(weights, tmp_path / "cut.pt")
    with pytest.raises(InputError, match=r"none named 11\.0\.1\.bias"):
        load_volume_network(tmp_path / "cut.pt")
