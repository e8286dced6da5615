"""Volume sets on disk, rendered and from photos."""

from __future__ import annotations

import json

import numpy as np
import pytest
from PIL import Image

from face4d.deca.face_model import load_face_model
from face4d.errors import InputError
from face4d.mesh.ply import write_ply
from face4d.vrn.volume_set import (
    PhotoSamples,
    fit_to_landmarks,
    landmarks_away,
    open_volume_set,
    read_sample,
    rendered_samples,
    split,
    write_rendered_set,
    write_volume_set,
)
from face4d.vrn.voxels import VRN_GRID, first_layers


@pytest.fixture(scope="module")
def face_model():
    return load_face_model("demo", contour="fixed")


@pytest.fixture(scope="module")
def samples(face_model):
    return list(rendered_samples(face_model, 3, seed=5))


@pytest.fixture(scope="module")
def fitted(face_model, samples):
    return fit_to_landmarks(face_model.layer, samples[0].landmarks.astype(float))


def test_rendered_volumes_lie_where_the_pictures_show_heads(face_model, samples):
    again = list(rendered_samples(face_model, 2, seed=6))
    for sample in samples:
        volume = sample.volume()
        assert volume.shape == VRN_GRID.shape and 0.03 < volume.mean() < 0.3
        landmarks = sample.landmarks
        assert abs(landmarks[:, 2].mean()) < 1e-3
        box = landmarks[:, :2].max(0) - landmarks[:, :2].min(0)
        assert 75 < np.sqrt(box.prod()) < 105  # VRN's framing, give or take a tenth
        # the nose's points lie on the volume's front, but where the tip hides them
        column, row = np.rint(landmarks[27:36, :2]).astype(int).T
        behind = VRN_GRID.layer(landmarks[27:36, 2]) - first_layers(volume)[row, column]
        assert behind.min() > -4 and np.median(np.abs(behind)) < 2
    assert not np.array_equal(again[0].image, samples[0].image)


def test_a_set_is_written_once_and_read_back(face_model, samples, tmp_path):
    written = write_rendered_set(tmp_path / "set", face_model, 2, 1, seed=5, quiet=True)
    assert written.training == ("head_000000", "head_000001") and written.testing == ("head_000000",)
    np.testing.assert_array_equal(written.read("training", "head_000001").image, samples[1].image)
    np.testing.assert_array_equal(written.read("training", "head_000001").bits, samples[1].bits)
    held_out = written.read("testing", "head_000000")
    assert not np.array_equal(held_out.image, samples[0].image)
    assert sum(path.stat().st_size for path in tmp_path.rglob("*.npz")) < 3 * 150_000
    before = {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    assert write_rendered_set(tmp_path / "set", face_model, 2, 1, seed=5, quiet=True).digest == written.digest
    assert before == {path: path.stat().st_mtime_ns for path in tmp_path.rglob("*.npz")}
    with pytest.raises(InputError, match="another one"):
        write_rendered_set(tmp_path / "set", face_model, 1, 1, seed=5, quiet=True)
    assert write_rendered_set(tmp_path / "set", face_model, 1, 1, seed=5, overwrite=True, quiet=True).training == (
        "head_000000",
    )


def test_damaged_and_foreign_sets_are_refused(samples, tmp_path):
    with pytest.raises(InputError, match="no such folder"):
        open_volume_set(tmp_path / "none")
    with pytest.raises(InputError, match="unfinished"):
        open_volume_set(tmp_path)
    (tmp_path / "dataset.json").write_text(json.dumps({"grid": {}}))
    with pytest.raises(InputError, match="expected source to be there"):
        open_volume_set(tmp_path)
    (tmp_path / "x.npz").write_bytes(b"PK damaged")
    with pytest.raises(InputError, match="unreadable"):
        read_sample(tmp_path / "x.npz")
    np.savez(
        tmp_path / "y.npz", image=np.zeros((4, 4, 3), np.uint8), volume=samples[0].bits, landmarks=samples[0].landmarks
    )
    with pytest.raises(InputError, match="image, volume"):
        read_sample(tmp_path / "y.npz")
    with pytest.raises(InputError, match="none that could be used"):
        write_volume_set(tmp_path / "empty", {}, {"training": [], "testing": []}, quiet=True)


def test_photos_become_samples_and_others_are_named(face_model, fitted, samples, tmp_path):
    sample = samples[0]
    for name in ("whole", "faceless", "far"):
        Image.fromarray(sample.image).save(tmp_path / f"{name}.png")
    (tmp_path / "broken.jpg").write_bytes(b"\xff\xd8\xff\xe0 not a photo")
    np.save(tmp_path / "whole.npy", sample.landmarks)
    np.save(tmp_path / "broken.npy", sample.landmarks)
    np.save(tmp_path / "far.npy", sample.landmarks + np.float32([4000, 0, 0]))
    photos = [
        (tmp_path / f"{name}{suffix}", name)
        for name, suffix in (("whole", ".png"), ("faceless", ".png"), ("far", ".png"), ("broken", ".jpg"))
    ]
    found = PhotoSamples(photos, tmp_path, layer=face_model.layer)
    (made,) = list(found)
    assert made.name == "whole" and set(found.dropped) == {"broken", "far", "faceless"}
    assert (
        "its landmarks" in found.dropped["faceless"]
        and "photo" in found.dropped["broken"]
        and "face box" in found.dropped["far"]
    )
    nose = np.rint(made.landmarks[30]).astype(int)
    assert abs(first_layers(made.volume())[nose[1], nose[0]] - VRN_GRID.layer(made.landmarks[30, 2])) < 6

    write_ply(tmp_path / "whole.ply", fitted, face_model.model.faces)
    (given,) = list(PhotoSamples(photos[:1], tmp_path, meshes=tmp_path))
    np.testing.assert_array_equal(given.bits[:, ::8, ::8], made.bits[:, ::8, ::8])
    without = PhotoSamples(photos[2:3], tmp_path, meshes=tmp_path)
    assert list(without) == [] and "far" in without.dropped


def test_fitted_faces_follow_the_landmarks(fitted, samples):
    nearest = np.linalg.norm(fitted[None] - samples[0].landmarks[17:, None], axis=2).min(axis=1)
    assert np.median(nearest) < 3  # pixels; vertices of the coarse head are some apart


def test_depth_of_landmarks_has_one_direction():
    points = np.arange(204.0).reshape(68, 3)
    np.testing.assert_array_equal(landmarks_away("a.npy", points), points)
    np.testing.assert_array_equal(landmarks_away("a.mat", points), points * [1, 1, -1])
    with pytest.raises(InputError, match="depth"):
        landmarks_away("a.npy", points[:, :2])


def test_photos_are_split_evenly():
    photos = [(None, str(number)) for number in range(20)]
    training, testing = split(photos, 0.1)
    assert [name for _, name in testing] == ["0", "19"] and len(training) == 18
    assert split(photos[:1], 0.1) == (photos[:1], [])
