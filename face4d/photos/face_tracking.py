"""The same face from frame to frame of a video: its points seen where they were in the frame before, and smoothed."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.photos import face_networks
from face4d.photos.detection import DetectedFace, detect_faces, find_face
from face4d.photos.face_points import points_in


class OneEuroFilter:
    """A low-pass filter whose cutoff rises with speed: little jitter at rest, little lag in motion.

    Casiez et al., "1 Euro Filter: A Simple Speed-based Low-pass Filter for Noisy Input in Interactive Systems", CHI
    2012: equations 1 to 7, for every coordinate by itself.

    Args:
        rate: values per second.
        least_cutoff: Hz, at rest.
        beta: Hz of cutoff per unit of speed (1 / s).
        speed_cutoff: Hz, of the filter of the speed.
    """

    def __init__(self, rate: float, least_cutoff: float, beta: float, speed_cutoff: float = 1.0) -> None:
        self.rate, self.least_cutoff, self.beta, self.speed_cutoff = rate, least_cutoff, beta, speed_cutoff
        self._value: np.ndarray | None = None
        self._speed: np.ndarray | float = 0.0

    def __call__(self, value: np.ndarray, unit: float = 1.0) -> np.ndarray:
        """The filtered value; speeds are measured in ``unit``."""
        if self._value is None:
            self._value = np.array(value, float)
            return self._value
        speed = (value - self._value) * self.rate / unit
        self._speed = self._speed + self._share(self.speed_cutoff) * (speed - self._speed)
        share = self._share(self.least_cutoff + self.beta * np.abs(self._speed))
        self._value = self._value + share * (value - self._value)
        return self._value

    def _share(self, cutoff: np.ndarray | float) -> np.ndarray | float:
        """Of the new value: 1 / (1 + tau / Te), tau = 1 / (2 pi cutoff)."""
        return 1 / (1 + self.rate / (2 * np.pi * cutoff))


class FaceTracker:
    """One face of a video, frame after frame.

    The landmark network looks where the points of the frame before were; where it sees no face there, the detector
    searches the whole frame, and smoothing begins anew. With cascades every frame is searched.

    Args:
        rate: frames per second.
        smooth: filter the points.
    """

    _LEAST_CUTOFF, _BETA = 1.5, 15.0  # Hz; per face side and second

    def __init__(self, rate: float, *, smooth: bool = True) -> None:
        self._rate, self._smooth = rate, smooth
        self._last: DetectedFace | None = None  # as seen, not smoothed, so that the window does not lag
        self._filter: OneEuroFilter | None = None

    def find(self, photo: np.ndarray, path: str | Path) -> DetectedFace:
        """The face in the next frame (H, W, 3) in 0..1.

        Raises:
            InputError: none found.
        """
        seen = self._followed(photo)
        if seen is None:
            self._filter = None
            seen = self._searched(photo, path)
        self._last = seen
        return self._smoothed(seen)

    def _searched(self, photo: np.ndarray, path: str | Path) -> DetectedFace:
        """The largest face, or the nearest to where the face was last seen."""
        if self._last is None:
            return find_face(photo, path)
        faces, last = detect_faces(photo, path), self._last
        if not faces:
            self._last = DetectedFace(last.box)  # its points are not looked at any more
            raise InputError(path, "a face", "none")
        return min(faces, key=lambda face: np.linalg.norm(np.subtract(face.box.center, last.box.center)))

    def _followed(self, photo: np.ndarray) -> DetectedFace | None:
        if self._last is None or self._last.points is None or not face_networks.installed():
            return None
        found = points_in(photo, self._last.points.square)
        return DetectedFace.of_points(found) if found.is_face else None

    def _smoothed(self, face: DetectedFace) -> DetectedFace:
        if face.points is None or not self._smooth:
            return face
        if self._filter is None:
            self._filter = OneEuroFilter(self._rate, self._LEAST_CUTOFF, self._BETA)
        points = self._filter(face.points.points, face.points.square.side)
        return DetectedFace.of_points(replace(face.points, points=points))
