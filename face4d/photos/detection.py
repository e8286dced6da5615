"""Where the faces of a photo are, by whatever detector is installed: the one place that answers this.

MediaPipe's networks give 468 points of each face at any roll; OpenCV's cascades, used where these are not installed,
give boxes of faces that are upright and look at the camera.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.photos import cascades, face_networks
from face4d.photos.crops import FaceBox
from face4d.photos.face_points import FacePoints, find_points

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class DetectedFace:
    """A face in a photo.

    Attributes:
        box: the extent of its 68 landmarks (kind ``landmarks``), or what a cascade has found (kind ``detector``).
        points: of the landmark network; None of a cascade.
    """

    box: FaceBox
    points: FacePoints | None = None

    @classmethod
    def of_points(cls, points: FacePoints) -> DetectedFace:
        return cls(FaceBox.of_landmarks(points.landmarks), points)


def detector_name() -> str:
    """Which detector is used: ``networks``, ``cascades`` or ``none``."""
    if face_networks.installed():
        return "networks"
    return "none" if cascades.opencv() is None else "cascades"


def require_detector(path: str | Path) -> None:
    """Raise :class:`InputError` of ``path`` where no detector is installed; it says how to install one."""
    if detector_name() == "none":
        raise InputError(
            path,
            f"a face box (--box), landmarks (--landmarks), or networks to find the face: {face_networks.INSTALL}",
            "none of them",
        )


def detect_faces(photo: np.ndarray, path: str | Path) -> list[DetectedFace]:
    """All faces, the largest first.

    Args:
        photo: (H, W, 3) float in 0..1.
        path: of the photo, for messages.

    Raises:
        InputError: no detector is installed; says how to install one.
    """
    require_detector(path)
    if face_networks.installed():
        return [DetectedFace.of_points(points) for points in find_points(photo)]
    cv2 = cascades.opencv()
    boxes = cascades.find_boxes(cv2, photo) if cv2 is not None else []
    return [DetectedFace(box) for box in sorted(boxes, key=lambda box: (-box.width * box.height, box.left, box.top))]


def find_face(photo: np.ndarray, path: str | Path, *, tell: bool = True) -> DetectedFace:
    """The largest face that :func:`detect_faces` finds; with ``tell`` says so in the log when there are several.

    Raises:
        InputError: no face, or no detector.
    """
    faces = detect_faces(photo, path)
    if not faces:
        seen = "a face" if face_networks.installed() else "a face, upright and roughly from the front"
        raise InputError(path, f"{seen} (or its place: --box, --landmarks)", "none")
    if len(faces) > 1 and tell:
        box = faces[0].box
        logger.warning(
            "%s: %d faces, the largest is taken: %.0f x %.0f pixels at left %.0f, top %.0f",
            path, len(faces), box.width, box.height, box.left, box.top,
        )  # fmt: skip
    return faces[0]
