"""OpenCV's cascades, where OpenCV is installed and has them."""

import sys
import types

import numpy as np
import pytest

from face4d.photos import cascades
from face4d.photos.crops import FaceBox, read_photo
from face4d.photos.faces import read_landmarks


@pytest.fixture
def cv2():
    found = cascades.opencv()
    if found is None:
        pytest.skip("needs OpenCV 4")
    return found


def test_opencv_without_cascades_is_none(monkeypatch):
    for module in (None, types.ModuleType("cv2")):  # not installed; OpenCV 5, which has no cascades
        monkeypatch.setitem(sys.modules, "cv2", module)
        assert cascades.opencv() is None


def test_boxes_are_in_pixels_of_the_photo_and_the_second_cascade_is_asked_where_the_first_finds_nothing(monkeypatch):
    asked = []

    class Cascade:
        def __init__(self, file):
            self.file = file

        def detectMultiScale(self, picture, *_, minSize):
            asked.append((self.file.rsplit("/")[-1], picture.shape, minSize))
            return [] if "alt" in self.file else [(10, 20, 30, 30)]

    fake = types.SimpleNamespace(
        CascadeClassifier=Cascade,
        INTER_AREA=3,
        data=types.SimpleNamespace(haarcascades="folder"),
        equalizeHist=lambda picture: picture,
        resize=lambda picture, size, interpolation: np.zeros(size[::-1], np.uint8),
    )
    found = cascades.find_boxes(fake, np.zeros((960, 1280, 3), np.float32))
    assert found == [FaceBox(20, 40, 80, 100, "detector")]
    assert asked == [
        ("haarcascade_frontalface_alt.xml", (480, 640), (38, 38)),
        ("haarcascade_frontalface_default.xml", (480, 640), (38, 38)),
    ]


def test_faces_of_photos(shared_data, cv2):
    for name in ("image00050", "image00251", "image00475", "image01038", "image04331"):  # the last four in one only
        path = shared_data / "aflw2000_sample" / f"{name}.jpg"
        picture, extent = read_photo(path), FaceBox.of_landmarks(read_landmarks(path.with_suffix(".mat")))
        found = cascades.find_boxes(cv2, picture)
        assert len(found) == 1, path.name
        off = np.subtract(found[0].center, extent.center)
        assert np.linalg.norm(off) < 0.45 * max(extent.width, extent.height), path.name
    assert cascades.find_boxes(cv2, np.full((300, 300, 3), 0.5, np.float32)) == []
