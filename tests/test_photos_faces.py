"""Landmark files, and the detector where OpenCV is installed."""

import logging
import os
import sys
import types

import numpy as np
import pytest
from scipy.io import savemat

from face4d.errors import InputError
from face4d.photos import faces as face_boxes
from face4d.photos.crops import FaceBox, read_photo
from face4d.photos.faces import FaceFinder, detect_faces, find_face, read_landmarks

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


def test_without_opencv_the_message_says_how_to_get_it(monkeypatch):
    for module in (None, types.ModuleType("cv2")):  # not installed; OpenCV 5, which has no cascades
        monkeypatch.setitem(sys.modules, "cv2", module)
        with pytest.raises(InputError, match=r"python -m pip install \"opencv-python-headless<5\""):
            detect_faces(np.zeros((50, 50, 3), np.float32), "a.jpg")
        # before any photo is looked at
        with pytest.raises(InputError, match="^where the face is: expected a face box .*opencv"):
            FaceFinder()


def test_largest_face_is_taken_and_told(monkeypatch, caplog):
    boxes = [FaceBox(0, 0, 80, 80, "detector"), FaceBox(100, 0, 130, 30, "detector")]
    monkeypatch.setattr(face_boxes, "detect_faces", lambda photo, path: boxes)
    with caplog.at_level(logging.WARNING):
        assert find_face(np.zeros((200, 200, 3)), "a.jpg") == boxes[0]
    assert "2 faces, the largest is taken: 80 x 80 pixels" in caplog.text
    monkeypatch.setitem(sys.modules, "cv2", types.SimpleNamespace(CascadeClassifier=None))
    finder, frame = FaceFinder(), np.zeros((200, 200, 3))
    caplog.clear()
    with caplog.at_level(logging.WARNING):
        assert [finder.find(frame, "talk.mp4")[0] for _ in range(3)] == 3 * boxes[:1]
    assert len(caplog.records) == 1  # said once of all frames of a video
    monkeypatch.setattr(face_boxes, "detect_faces", lambda photo, path: [])
    with pytest.raises(InputError, match="a.jpg: expected a face"):
        find_face(np.zeros((200, 200, 3)), "a.jpg")


def test_detector_finds_faces_of_photos(shared_data):
    pytest.importorskip("cv2")
    folder = shared_data / "aflw2000_sample"
    picture = read_photo(folder / "image00050.jpg")
    points = read_landmarks(folder / "image00050.mat")
    small = np.full((450, 300, 3), 0.5, np.float32)
    small[100:325, 50:275] = picture[::2, ::2]
    pair = np.concatenate([small, picture], axis=1)  # a small and a large one
    found = detect_faces(pair, "pair.jpg")
    assert len(found) >= 2 and found[0].width > found[1].width
    extent = FaceBox.of_landmarks(points + [300, 0, 0])
    assert abs(found[0].center[0] - extent.center[0]) < 0.15 * extent.width
    assert detect_faces(np.full((300, 300, 3), 0.5, np.float32), "grey.jpg") == []


def test_detector_finds_turned_shaded_and_grey_faces(shared_data):
    pytest.importorskip("cv2")
    for name in ("image00251", "image00475", "image01038", "image04331"):  # each is missed by one of the two cascades
        path = shared_data / "aflw2000_sample" / f"{name}.jpg"
        picture, extent = read_photo(path), FaceBox.of_landmarks(read_landmarks(path.with_suffix(".mat")))
        found = detect_faces(picture, path)
        assert len(found) == 1, path.name
        off = np.subtract(found[0].center, extent.center)
        assert np.linalg.norm(off) < 0.45 * max(extent.width, extent.height), path.name
