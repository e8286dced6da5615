"""What is given with photos: which files they are, where the face in each is, and the true landmarks where they are known."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.constants import NUM_LANDMARKS
from face4d.reconstruction.photo import FaceBox

log = logging.getLogger(__name__)

PHOTO_SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff")
_OUTER_EYES = (36, 45)  # of the 68 landmarks


def photo_paths(given: Iterable[str | Path]) -> list[Path]:
    """The photos given, and those in the folders given, in the order of their names.

    Raises:
        InputError: nothing of that name, or a folder without photos.
    """
    paths: list[Path] = []
    for path in map(Path, given):
        if path.is_dir():
            inside = sorted(child for child in path.iterdir() if child.suffix.lower() in PHOTO_SUFFIXES and child.is_file())
            if not inside:
                raise InputError(path, f"a folder with photos ({', '.join(PHOTO_SUFFIXES)})", "none")
            paths += inside
        elif path.is_file():
            paths.append(path)
        else:
            raise InputError(path, "a photo, or a folder of photos", "nothing of that name")
    return paths


def name_results(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """(path, name): the file's name without its suffix.

    Raises:
        InputError: two files would have one name.
    """
    names: dict[str, Path] = {}
    for path in paths:
        if path.stem in names:
            raise InputError(path, "photos whose names differ before the suffix, since results are named so", f"{names[path.stem]} too")
        names[path.stem] = path
    return [(path, name) for name, path in names.items()]


class FaceFinder:
    """Where the face in a photo is: the box given, else the landmarks given, else what the detector finds.

    Args:
        box: left, top, right, bottom in pixels, for all photos.
        landmarks: a file for all photos, or a folder with ``<photo>.npy`` or ``<photo>.mat``.
    """

    def __init__(self, box: Sequence[float] | None = None, landmarks: str | Path | None = None) -> None:
        if box is not None and landmarks is not None:
            raise InputError("--box and --landmarks", "one of them", "both")
        self.box = FaceBox(*box) if box is not None else None
        self.landmarks = Path(landmarks) if landmarks is not None else None

    def find(self, photo: np.ndarray, path: str | Path) -> tuple[FaceBox | np.ndarray, np.ndarray | None]:
        """The face of a photo (H, W, 3) and, where they are given, its true landmarks (68, 2 or 3) in pixels.

        Raises:
            InputError: no face found, no landmarks for this photo, or other ones.
        """
        if self.box is not None:
            return self.box, None
        if self.landmarks is None:
            return detected_face(photo, path), None
        points = read_photo_landmarks(self._file(Path(path)))
        return points, points

    def _file(self, photo: Path) -> Path:
        if not self.landmarks.is_dir():
            return self.landmarks
        for suffix in (".npy", ".mat"):
            file = self.landmarks / f"{photo.stem}{suffix}"
            if file.is_file():
                return file
        raise InputError(photo, f"its landmarks, {photo.stem}.npy or {photo.stem}.mat in {self.landmarks}", "neither")


def detected_face(photo: np.ndarray, path: str | Path) -> FaceBox:
    """The largest face the detector finds.

    Raises:
        InputError: no detector, or no face.
    """
    from face4d.reconstruction.detector import detect_face

    return detect_face(photo, path)


def read_photo_landmarks(path: str | Path) -> np.ndarray:
    """68 landmarks in pixels of a photo: npy (68, 2 or 3), or ``pt3d_68`` (3, 68) of an AFLW2000 mat file.

    Returns:
        (68, 2 or 3) float64.

    Raises:
        InputError: no such file, or other content.
    """
    from scipy.io import loadmat

    path = Path(path)
    expected = f"{NUM_LANDMARKS} landmarks in pixels: npy (68, 2 or 3), or mat with pt3d_68 (3, 68)"
    if not path.is_file():
        raise InputError(path, expected, "no such file")
    try:
        if path.suffix.lower() == ".mat":
            points = np.asarray(loadmat(path, variable_names=["pt3d_68"])["pt3d_68"]).T
        else:
            points = np.load(path, allow_pickle=False)
    except KeyError:
        raise InputError(path, expected, "no pt3d_68") from None
    except Exception as error:  # damaged mat files raise nearly anything
        raise InputError(path, expected, f"an unreadable file ({error})") from None
    if points.ndim != 2 or len(points) != NUM_LANDMARKS or points.shape[1] not in (2, 3) or points.dtype.kind not in "fiu":
        raise InputError(path, expected, f"{points.dtype} {points.shape}")
    if not np.isfinite(points).all():
        raise InputError(path, expected, "NaN or infinity")
    return points.astype(np.float64)


def landmark_nme(found: np.ndarray, true: np.ndarray) -> float:
    """Normalised mean error: mean distance in the photo's plane over the distance of the outer eye corners.

    Args:
        found, true: (68, 2 or 3) pixels. With depth the eye distance is that in space, so that it means something in profile, too.
    """
    eyes = np.linalg.norm(true[_OUTER_EYES[0]] - true[_OUTER_EYES[1]])
    return float(np.linalg.norm(found[:, :2] - true[:, :2], axis=1).mean() / eyes)
