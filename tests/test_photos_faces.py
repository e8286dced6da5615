"""Landmark files, and who says where the face is."""

import os

import numpy as np
import pytest
from scipy.io import savemat

from face4d.errors import InputError
from face4d.photos import detection, faces
from face4d.photos.crops import FaceBox
from face4d.photos.detection import DetectedFace
from face4d.photos.faces import FaceFinder, read_landmarks

POINTS = np.random.default_rng(1).uniform(0, 200, (68, 3))


def test_every_kind_of_landmark_file(tmp_path):
    np.save(tmp_path / "a.npy", POINTS.astype(np.float32))
    savemat(tmp_path / "a.mat", {"pt3d_68": POINTS.T, "other": np.ones(3)})
    np.savetxt(tmp_path / "a.txt", POINTS[:, :2])
    np.savetxt(tmp_path / "a.csv", POINTS, delimiter=",")
    body = "\n".join(f"{x} {y}" for x, y, _ in POINTS)
    (tmp_path / "a.pts").write_text(f"version: 1\nn_points: 68\n{{\n{body}\n}}\n")
    for suffix, columns in ((".npy", 3), (".mat", 3), (".txt", 2), (".csv", 3), (".pts", 2)):
        np.testing.assert_allclose(read_landmarks(tmp_path / f"a{suffix}"), POINTS[:, :columns], rtol=1e-6)


def test_wrong_landmark_files_are_named(tmp_path):
    np.save(tmp_path / "few.npy", POINTS[:60])
    np.save(tmp_path / "nan.npy", np.where(POINTS > 199, np.nan, POINTS) * np.nan)
    savemat(tmp_path / "other.mat", {"x": POINTS})
    (tmp_path / "broken.mat").write_bytes(b"MATLAB 5.0 MAT-file" + bytes(200))
    (tmp_path / "words.txt").write_text("one two\n")
    (tmp_path / "bytes.txt").write_bytes(bytes(range(128, 256)))
    (tmp_path / "long.txt").write_bytes(b"1 2\n" * 300_000)
    np.save(tmp_path / "far.npy", POINTS * 1e200)
    os.mkfifo(tmp_path / "pipe.txt")
    wrong = {"few.npy": r"\(60, 3\)", "nan.npy": "NaN", "other.mat": "no pt3d_68", "broken.mat": "expected 68",
             "words.txt": "one", "bytes.txt": "not text", "long.txt": "at most 1 MB", "far.npy": "a coordinate of",
             "pipe.txt": "found", "none.npy": "no such file"}  # fmt: skip
    for name, found in wrong.items():
        with pytest.raises(InputError, match=found):
            read_landmarks(tmp_path / name)


def test_without_a_detector_the_message_comes_before_any_photo(monkeypatch):
    monkeypatch.setattr(detection, "detector_name", lambda: "none")
    with pytest.raises(InputError, match=r"^where the face is: expected a face box .*pip install ai-edge-litert && "):
        FaceFinder()
    assert FaceFinder((0, 0, 9, 9)).find(np.zeros((20, 20, 3)), "a.jpg")[0] == FaceBox(0, 0, 9, 9)  # needs none


def test_faces_of_photos_are_detected_and_those_of_videos_followed(monkeypatch):
    boxes = [DetectedFace(FaceBox(x, 0, x + 10, 10, "detector")) for x in range(5)]
    monkeypatch.setattr(faces, "require_detector", lambda path: None)
    monkeypatch.setattr(faces, "find_face", lambda photo, path: boxes[0])
    finder, photo = FaceFinder(), np.zeros((20, 20, 3))
    video = finder.in_video(25)
    monkeypatch.setattr(faces.FaceTracker, "find", lambda tracker, photo, path: boxes[1])
    assert finder.find(photo, "a.jpg") == (boxes[0].box, None)
    assert video.find(photo, "a.mp4") == (boxes[1].box, None)
