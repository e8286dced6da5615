"""Upright, roughly frontal faces by the cascades that come with OpenCV 4.

Viola and Jones, "Rapid Object Detection using a Boosted Cascade of Simple Features", CVPR 2001.
"""

from __future__ import annotations

from pathlib import Path
from types import ModuleType

import numpy as np

from face4d.photos.crops import FaceBox

_SIDE = 640  # pixels: photos are shrunk to it, which a face worth reconstructing survives
_SMALLEST_FACE = 0.08  # of the shorter side of the photo
_FINAL_SCALE, _NEIGHBOURS = 1.1, 5
# (file, with the histogram equalised): the second is asked where the first, which is hardly ever wrong, finds nothing
_CASCADES = (
    ("haarcascade_frontalface_alt.xml", False),
    ("haarcascade_frontalface_default.xml", True),
)


def opencv() -> ModuleType | None:
    """OpenCV, or None where it is not installed or has no cascades, as OpenCV 5 without its package of extras."""
    try:
        import cv2

        _ = cv2.CascadeClassifier, cv2.data.haarcascades
    except (ImportError, AttributeError):
        return None
    return cv2


def find_boxes(cv2: ModuleType, photo: np.ndarray) -> list[FaceBox]:
    """Faces of a photo (H, W, 3) in 0..1 that the first cascade that finds any finds."""
    height, width = photo.shape[:2]
    scale = min(1.0, _SIDE / max(height, width))
    grey = (photo @ np.array([0.299, 0.587, 0.114], dtype=photo.dtype) * 255).astype(np.uint8)
    if scale < 1:
        grey = cv2.resize(
            grey, (max(round(width * scale), 1), max(round(height * scale), 1)), interpolation=cv2.INTER_AREA
        )
    smallest = max(int(_SMALLEST_FACE * min(grey.shape)), 20)
    for file, equalised in _CASCADES:
        cascade = cv2.CascadeClassifier(str(Path(cv2.data.haarcascades) / file))
        picture = cv2.equalizeHist(grey) if equalised else grey
        found = cascade.detectMultiScale(picture, _FINAL_SCALE, _NEIGHBOURS, minSize=(smallest, smallest))
        if len(found):
            break
    corners = (np.array([[x, y, x + w, y + h] for x, y, w, h in found]).reshape(-1, 4) / scale).tolist()
    return [FaceBox(left, top, right, bottom, "detector") for left, top, right, bottom in corners]
