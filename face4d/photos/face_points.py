"""468 points of a face by MediaPipe's landmark network, and the 68 among them.

Kartynnik et al., "Real-time Facial Surface Geometry from Monocular Video on Mobile GPUs", 2019.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from face4d.photos.face_detector import Detection, searches
from face4d.photos.face_networks import load_network, sigmoid
from face4d.photos.turned import TurnedSquare

NUM_POINTS = 468
_FILE = "face_landmark.tflite"
_WINDOW = 1.5  # of the face's extent, as the network was trained
_FARTHEST = 1e6  # pixels
_MOST = 100  # answers of detectors that are looked at
_PASSES = 2  # after the first
_OTHER_ROLL, _OTHER_SCALE = 0.1, 1.07  # radians, of the side
_EYES = (33, 263)  # outer corners, the subject's right and left
PRESENCE = 0.5  # least: below, the network takes what it sees for no face

# The points that stand for the 68 of iBUG, by their numbers in MediaPipe's canonical face mesh. Such lists are in many
# projects and differ by a point or two. Inner points are the same parts of the face (corners, lids, lips); outline and
# brows are those of Yan's Mediapipe_2_Dlib_Landmarks (2024), one point where that takes the mean of two. The outline is
# MediaPipe's, which lies further up the cheek than the jaw line of other models.
TO_68 = np.array([
    127, 234, 93, 132, 58, 136, 150, 176, 152, 400, 379, 365, 288, 361, 323, 454, 356,
    70, 63, 105, 66, 107, 336, 296, 334, 293, 300,
    168, 197, 5, 4, 75, 97, 2, 326, 305,
    33, 160, 158, 133, 153, 144, 362, 385, 387, 263, 373, 380,
    61, 39, 37, 0, 267, 269, 291, 405, 314, 17, 84, 181, 78, 82, 13, 312, 308, 317, 14, 87,
])  # fmt: skip


@dataclass(frozen=True)
class FacePoints:
    """Points of a face in a photo.

    Attributes:
        points: (468, 3) pixels: x right, y down, z away from the viewer with about zero in the middle of the face.
        logit: of the network's belief that it has seen a face.
    """

    points: np.ndarray
    logit: float

    @property
    def presence(self) -> float:
        """The belief, 0..1."""
        return float(sigmoid(np.array(self.logit)))

    @property
    def is_face(self) -> bool:
        """Whether the network has seen one, whose points make a window."""
        return self.presence >= PRESENCE and bool(np.isfinite(self.points).all()) and 1 <= self.square.side < _FARTHEST

    @property
    def landmarks(self) -> np.ndarray:
        """(68, 3) in iBUG's order."""
        return self.points[TO_68]

    @property
    def square(self) -> TurnedSquare:
        """The window in which the network should see this face: eyes level, 1.5 times the points' extent."""
        across = self.points[_EYES[1]] - self.points[_EYES[0]]
        level = TurnedSquare(0, 0, 1, float(np.arctan2(across[1], across[0])))
        places = level.to_square(self.points[:, :2])
        low, high = places.min(0), places.max(0)
        x, y = level.to_photo((low + high) / 2)
        return TurnedSquare(float(x), float(y), float((high - low).max()) * _WINDOW, level.roll)


def points_in(photo: np.ndarray, square: TurnedSquare) -> FacePoints:
    """What the network sees in a square of a photo (H, W, 3) in 0..1, whatever that is.

    Raises:
        InputError: the network is not installed; says how to install it.
    """
    network = load_network(_FILE, (NUM_POINTS * 3, 1))
    found, logit = network(square.sample(photo, network.size))
    return FacePoints(square.to_photo(found.reshape(NUM_POINTS, 3) / network.size), float(logit[0]))


def refined(photo: np.ndarray, first: FacePoints) -> FacePoints | None:
    """A face seen anew until its window hardly changes, then the mean of what the network says of that window and of
    four more, a little turned and scaled: points depend on the window, their mean depends less.

    Returns:
        None where the network takes it for no face in one of the windows.
    """
    for _ in range(_PASSES):
        first = points_in(photo, first.square)
        if not first.is_face:
            return None
    windows = [
        replace(first.square, roll=first.square.roll + roll, side=first.square.side * scale)
        for roll in (-_OTHER_ROLL, _OTHER_ROLL)
        for scale in (1 / _OTHER_SCALE, _OTHER_SCALE)
    ]
    seen = [first, *(points_in(photo, window) for window in windows)]
    if not all(one.is_face for one in seen):
        return None
    return FacePoints(np.mean([one.points for one in seen], axis=0), float(np.mean([one.logit for one in seen])))


def find_points(photo: np.ndarray) -> list[FacePoints]:
    """Faces of a photo (H, W, 3) in 0..1, at any roll, the largest first; small ones where there is no larger one.

    Where detectors answer more than once, in several turns for instance, the network's belief decides.

    Raises:
        InputError: the networks are not installed; says how to install them.
    """
    for answers in searches(photo):
        if found := _confirmed(photo, answers[:_MOST]):
            return sorted(found, key=lambda one: -one.square.side)
    return []


def _confirmed(photo: np.ndarray, answers: Sequence[Detection]) -> list[FacePoints]:
    seen = [points_in(photo, one.enlarged) for one in answers]
    found: list[FacePoints] = []
    for first in sorted((one for one in seen if one.is_face), key=lambda one: -one.logit):
        if all(_apart(first, other) for other in found):
            face = refined(photo, first)
            if face is not None and all(_apart(face, other) for other in found):
                found.append(face)
    return found


def _apart(one: FacePoints, other: FacePoints) -> bool:
    """Whether two faces are two: the middle of neither lies in the other's half window."""
    between = np.linalg.norm(one.points[:, :2].mean(0) - other.points[:, :2].mean(0))
    return bool(between > max(one.square.side, other.square.side) / 4)
