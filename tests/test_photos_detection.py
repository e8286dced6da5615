"""Which detector says where the faces are, and which of them is taken."""

import logging

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.photos import cascades, detection, face_networks
from face4d.photos.crops import FaceBox
from face4d.photos.detection import DetectedFace, detect_faces, detector_name, find_face
from face4d.photos.face_points import FacePoints

PHOTO = np.zeros((200, 200, 3), np.float32)
BOXES = [FaceBox(100, 0, 130, 30, "detector"), FaceBox(0, 0, 80, 80, "detector")]


def use(monkeypatch, networks=False, opencv=False):
    monkeypatch.setattr(face_networks, "installed", lambda: networks)
    monkeypatch.setattr(cascades, "opencv", lambda: object() if opencv else None)
    monkeypatch.setattr(cascades, "find_boxes", lambda cv2, photo: BOXES)


def test_networks_come_before_cascades(monkeypatch):
    points = FacePoints(np.random.default_rng(0).uniform(10, 90, (468, 3)), 9.0)
    monkeypatch.setattr(detection, "find_points", lambda photo: [points])
    use(monkeypatch, networks=True, opencv=True)
    (face,) = detect_faces(PHOTO, "a.jpg")
    assert detector_name() == "networks" and face.points is points
    assert face.box == FaceBox.of_landmarks(points.landmarks) and face.box.kind == "landmarks"
    use(monkeypatch, opencv=True)
    assert detector_name() == "cascades"
    assert detect_faces(PHOTO, "a.jpg") == [DetectedFace(BOXES[1]), DetectedFace(BOXES[0])]  # the largest first


def test_without_any_the_message_is_the_line_to_type(monkeypatch):
    use(monkeypatch)
    assert detector_name() == "none"
    with pytest.raises(InputError, match=r"^a.jpg: expected a face box .*: python -m pip install ai-edge-litert && "):
        detect_faces(PHOTO, "a.jpg")


def test_largest_face_is_taken_and_told(monkeypatch, caplog):
    use(monkeypatch, opencv=True)
    with caplog.at_level(logging.WARNING):
        assert find_face(PHOTO, "a.jpg").box == BOXES[1]
    assert "2 faces, the largest is taken: 80 x 80 pixels" in caplog.text
    caplog.clear()
    find_face(PHOTO, "a.jpg", tell=False)
    assert not caplog.records


def test_no_face_says_what_would_be_found(monkeypatch):
    monkeypatch.setattr(detection, "find_points", lambda photo: [])
    for networks, expected in ((True, r"expected a face \(or"), (False, "expected a face, upright and roughly")):
        use(monkeypatch, networks=networks, opencv=True)
        monkeypatch.setattr(cascades, "find_boxes", lambda cv2, photo: [])
        with pytest.raises(InputError, match=f"^a.jpg: {expected}"):
            find_face(PHOTO, "a.jpg")
