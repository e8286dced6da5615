"""Where the face is in a photo: from landmark files, or from OpenCV's bundled frontal-face detectors."""

from __future__ import annotations

import logging
from pathlib import Path
from types import ModuleType

import numpy as np

from face4d.constants import NUM_LANDMARKS
from face4d.errors import InputError
from face4d.reconstruction.photo import FaceBox
from face4d.runtime.arrays import load_numbers
from face4d.runtime.files import read_bytes
from face4d.runtime.mat import read_mat

logger = logging.getLogger(__name__)

MAT_LANDMARKS = "pt3d_68"  # AFLW2000-3D and 300W-LP, (3, 68)
_LONGEST_TEXT = 1 << 20  # bytes of a landmark file in text
_FARTHEST = 1e6  # pixels: no landmark of a photo lies beyond
_INSTALL = 'python -m pip install "opencv-python-headless<5"'
_DETECTION_SIDE = 640  # pixels: photos are shrunk to it, which a face worth reconstructing survives
_SMALLEST_FACE = 0.08  # of the shorter side of the photo
_FINAL_SCALE, _NEIGHBOURS = 1.1, 5
_CASCADES = (  # (file, with the histogram equalised): the second is asked where the first, which is hardly ever wrong, finds nothing
    ("haarcascade_frontalface_alt.xml", False),
    ("haarcascade_frontalface_default.xml", True),
)


def read_landmarks(path: str | Path) -> np.ndarray:
    """68 landmarks of a photo in pixels.

    Args:
        path: ``.npy`` (68, 2 or 3); text of 68 rows, blanks or commas between the numbers (``.pts`` of 300-W too); or ``.mat`` with
            ``pt3d_68`` (3, 68), as in AFLW2000-3D.

    Returns:
        (68, 2 or 3) float64.

    Raises:
        InputError: no such file, another content, or numbers that are not finite.
    """
    path = Path(path)
    expected = f"{NUM_LANDMARKS} landmarks of a photo (.npy, .txt, .pts, or .mat with {MAT_LANDMARKS})"
    if path.suffix.lower() == ".npy":
        points = load_numbers(path, expected)
    elif path.suffix.lower() == ".mat":
        points = read_mat(path, MAT_LANDMARKS, expected).T
    else:
        points = _read_text(path, expected)
    if points.dtype.kind not in "iuf" or points.ndim != 2 or len(points) != NUM_LANDMARKS or points.shape[1] not in (2, 3):
        raise InputError(path, expected, f"{points.dtype} {points.shape}")
    if not np.isfinite(points).all():
        raise InputError(path, expected, "NaN or infinity")
    if (farthest := float(np.abs(points.astype(np.float64)).max())) > _FARTHEST:
        raise InputError(path, expected, f"a coordinate of {farthest:g} pixels")
    return points.astype(np.float64)


def _read_text(path: Path, expected: str) -> np.ndarray:
    try:
        lines = read_bytes(path, expected, _LONGEST_TEXT).decode("utf-8-sig").replace(",", " ").replace(";", " ").splitlines()
    except UnicodeDecodeError:
        raise InputError(path, expected, "a file that is not text") from None
    rows = [line.split() for line in lines]
    if path.suffix.lower() == ".pts":
        rows = [row for row in rows if row and row[0][0] in "+-.0123456789"]
    try:
        return np.array([[float(word) for word in row] for row in rows if row])
    except ValueError as error:
        raise InputError(path, expected, str(error)) from None


def detect_faces(photo: np.ndarray, path: str | Path) -> list[FaceBox]:
    """All upright, roughly frontal faces that the first of OpenCV's Haar cascades that finds any finds, the largest first.

    Viola and Jones, "Rapid Object Detection using a Boosted Cascade of Simple Features", CVPR 2001.

    Args:
        photo: (H, W, 3) float in 0..1.
        path: of the photo, for messages.

    Raises:
        InputError: OpenCV is not installed; says how to install it.
    """
    cv2 = opencv(path)
    height, width = photo.shape[:2]
    scale = min(1.0, _DETECTION_SIDE / max(height, width))
    grey = (photo @ np.array([0.299, 0.587, 0.114], dtype=photo.dtype) * 255).astype(np.uint8)
    if scale < 1:
        grey = cv2.resize(grey, (max(round(width * scale), 1), max(round(height * scale), 1)), interpolation=cv2.INTER_AREA)
    smallest = max(int(_SMALLEST_FACE * min(grey.shape)), 20)
    for file, equalised in _CASCADES:
        cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / file))
        picture = cv2.equalizeHist(grey) if equalised else grey
        found = cascade.detectMultiScale(picture, _FINAL_SCALE, _NEIGHBOURS, minSize=(smallest, smallest))
        if len(found):
            break
    corners = (np.array([[x, y, x + w, y + h] for x, y, w, h in found]).reshape(-1, 4) / scale).tolist()
    boxes = [FaceBox(left, top, right, bottom, "detector") for left, top, right, bottom in corners]
    return sorted(boxes, key=lambda box: (-box.width * box.height, box.left, box.top))


def find_face(photo: np.ndarray, path: str | Path, *, tell: bool = True) -> FaceBox:
    """The largest face that :func:`detect_faces` finds; with ``tell`` says so in the log when there are several.

    Raises:
        InputError: no face, or OpenCV is not installed.
    """
    boxes = detect_faces(photo, path)
    if not boxes:
        raise InputError(path, "a face, upright and roughly from the front (or its place: --box, --landmarks)", "none")
    if len(boxes) > 1 and tell:
        box = boxes[0]
        logger.warning(
            "%s: %d faces, the largest is taken: %.0f x %.0f pixels at left %.0f, top %.0f",
            path, len(boxes), box.width, box.height, box.left, box.top,
        )  # fmt: skip
    return boxes[0]


def opencv(path: str | Path) -> ModuleType:
    """OpenCV 4; raises :class:`InputError` of ``path`` where it is not installed, which says how to install it."""
    try:
        import cv2

        cv2.CascadeClassifier  # OpenCV 5 keeps it in another package
    except (ImportError, AttributeError):
        raise InputError(path, f"a face box (--box), landmarks (--landmarks), or OpenCV 4 to find the face: {_INSTALL}", "none of them") from None
    return cv2
