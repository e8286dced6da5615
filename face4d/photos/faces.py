"""Which photos are meant, where the face is in each, and the true landmarks where they are known.

Faces are where a box or landmark files say, or where :mod:`face4d.photos.detection` finds them.
"""

from __future__ import annotations

import copy
from collections.abc import Iterable, Sequence
from pathlib import Path

import numpy as np

from face4d.constants import NUM_LANDMARKS, OUTER_EYES
from face4d.errors import InputError
from face4d.photos import face_networks
from face4d.photos.crops import FaceBox, check_inside
from face4d.photos.detection import find_face, require_detector
from face4d.photos.face_points import FacePoints, points_in, refined
from face4d.photos.face_tracking import FaceTracker
from face4d.photos.picture_files import HEIC_ADVICE, HEIC_SUFFIXES, SUFFIXES
from face4d.photos.turned import TurnedSquare
from face4d.runtime.arrays import load_numbers
from face4d.runtime.files import beside, has_suffix, is_hidden, matching, read_bytes, report_passed_over
from face4d.runtime.mat import read_mat

MAT_LANDMARKS = "pt3d_68"  # AFLW2000-3D and 300W-LP, (3, 68)
_LONGEST_TEXT = 1 << 20  # bytes of a landmark file in text
_AROUND = 1.5  # the network sees a window so much larger than the face
_FARTHEST = 1e6  # pixels: no landmark of a photo lies beyond


def read_landmarks(path: str | Path) -> np.ndarray:
    """68 landmarks of a photo in pixels.

    Args:
        path: ``.npy`` (68, 2 or 3); text of 68 rows, blanks or commas between the numbers (``.pts`` of 300-W too); or
            ``.mat`` with ``pt3d_68`` (3, 68), as in AFLW2000-3D.

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
    if (
        points.dtype.kind not in "iuf"
        or points.ndim != 2
        or len(points) != NUM_LANDMARKS
        or points.shape[1] not in (2, 3)
    ):
        raise InputError(path, expected, f"{points.dtype} {points.shape}")
    if not np.isfinite(points).all():
        raise InputError(path, expected, "NaN or infinity")
    if (farthest := float(np.abs(points.astype(np.float64)).max())) > _FARTHEST:
        raise InputError(path, expected, f"a coordinate of {farthest:g} pixels")
    return points.astype(np.float64)


def _read_text(path: Path, expected: str) -> np.ndarray:
    try:
        lines = (
            read_bytes(path, expected, _LONGEST_TEXT)
            .decode("utf-8-sig")
            .replace(",", " ")
            .replace(";", " ")
            .splitlines()
        )
    except UnicodeDecodeError:
        raise InputError(path, expected, "a file that is not text") from None
    rows = [line.split() for line in lines]
    if path.suffix.lower() == ".pts":
        rows = [row for row in rows if row and row[0][0] in "+-.0123456789"]
    try:
        return np.array([[float(word) for word in row] for row in rows if row])
    except ValueError as error:
        raise InputError(path, expected, str(error)) from None


LANDMARK_SUFFIXES = (".npy", ".mat", ".pts", ".txt")


def photo_paths(given: Iterable[str | Path]) -> list[Path]:
    """The photos given, and those in the folders given, in the order of their names. Other files of a folder but
    landmarks of its photos are counted and named in the log.

    Raises:
        InputError: nothing of that name, or a folder without photos.
    """
    paths: list[Path] = []
    for path in map(Path, given):
        if path.is_dir():
            paths += _photos_inside(path)
        elif path.exists():  # what it is shows when it is read
            paths.append(path)
        else:
            raise InputError(path, "a photo, or a folder of photos", "nothing of that name")
    return paths


def _photos_inside(folder: Path) -> list[Path]:
    visible = sorted(child.name for child in folder.iterdir() if not is_hidden(child.name) and not child.is_dir())
    photos = [name for name in matching(visible, SUFFIXES) if (folder / name).is_file()]
    phones = matching(visible, HEIC_SUFFIXES)
    expected = f"photos ({', '.join(SUFFIXES)})"
    if not photos:
        raise InputError(
            folder, f"a folder with {expected}", f"{len(phones)} HEIC pictures ({HEIC_ADVICE})" if phones else "none"
        )
    report_passed_over(folder, phones, f"photo that can be read here ({HEIC_ADVICE})")
    stems = {Path(name).stem for name in photos}
    others = set(visible) - set(photos) - set(phones)
    report_passed_over(
        folder,
        (name for name in others if not (has_suffix(name, LANDMARK_SUFFIXES) and Path(name).stem in stems)),
        expected,
    )
    return [folder / name for name in photos]


def name_results(paths: Sequence[Path]) -> list[tuple[Path, str]]:
    """(path, name): the file's name without its suffix.

    Raises:
        InputError: two files would have one name, or one a name that is a folder's (``...jpg``).
    """
    names: dict[str, Path] = {}
    for path in paths:
        if path.stem in names:
            raise InputError(
                path,
                "photos whose names differ before the suffix, since results are named so",
                f"{names[path.stem]} too",
            )
        if path.stem.strip(".") == "":
            raise InputError(path, "a file with a name before the suffix, since results are named so", repr(path.stem))
        names[path.stem] = path
    return [(path, name) for name, path in names.items()]


class FaceFinder:
    """Where the face in a photo is: the box given, else the landmarks given, else what the detector finds.

    Args:
        box: left, top, right, bottom in pixels, for all photos.
        landmarks: a file for all photos, or a folder with one named as the photo but for the suffix.

    Raises:
        InputError: both, no such file or folder, or neither and no detector.
    """

    def __init__(self, box: Sequence[float] | None = None, landmarks: str | Path | None = None) -> None:
        if box is not None and landmarks is not None:
            raise InputError("--box and --landmarks", "one of them", "both")
        self.box: FaceBox | None = None
        if box is not None:
            left, top, right, bottom = box
            self.box = FaceBox(left, top, right, bottom)
        self.landmarks = Path(landmarks) if landmarks is not None else None
        if self.landmarks is not None and not self.landmarks.exists():
            raise InputError(
                self.landmarks,
                "landmarks of the photo, or a folder with landmarks named as the photos",
                "nothing of that name",
            )
        if self.box is None and self.landmarks is None:
            require_detector("where the face is")  # said once, not of every photo
        self._tracker: FaceTracker | None = None

    def in_video(self, rate: float) -> FaceFinder:
        """A finder for the frames of one video, in order, of ``rate`` frames per second: where the face has to be
        detected, it is followed from frame to frame and its points are smoothed.
        """
        finder = copy.copy(self)
        finder._tracker = FaceTracker(rate)
        return finder

    def find(self, photo: np.ndarray, path: str | Path) -> tuple[FaceBox | np.ndarray, np.ndarray | None]:
        """The face of a photo (H, W, 3) and, where they are given, its true landmarks (68, 2 or 3) in pixels.

        Raises:
            InputError: no face found, a box beside the photo, no landmarks for this photo, or other ones.
        """
        path = Path(path)
        if self.box is not None:
            check_inside(self.box, photo, path)
            return self.box, None
        if self.landmarks is None:
            face = self._tracker.find(photo, path) if self._tracker else find_face(photo, path)
            return face.box, None
        file = self.file(path)
        points = read_landmarks(file)
        check_inside(FaceBox.of_landmarks(points), photo, f"{path} with {file}")
        return points, points

    def points(self, photo: np.ndarray, path: str | Path) -> FacePoints:
        """The 468 points of the face of a photo (H, W, 3); landmarks given say only where the face is.

        Raises:
            InputError: no face there, or the networks that see points are not installed.
        """
        if not face_networks.installed():
            raise InputError(path, f"networks that see the points of a face: {face_networks.INSTALL}", "none")
        if self.box is None and self.landmarks is None:
            face = self._tracker.find(photo, path) if self._tracker else find_face(photo, path)
            if face.points is None:
                raise InputError(path, "a face", "none")
            return face.points
        place, _ = self.find(photo, path)
        box = place if isinstance(place, FaceBox) else FaceBox.of_landmarks(place)
        first = points_in(photo, TurnedSquare(*box.center, _AROUND * max(box.width, box.height)))
        found = refined(photo, first) if first.is_face else None
        if found is None:
            raise InputError(path, f"a face at {box.left:.0f} {box.top:.0f} {box.right:.0f} {box.bottom:.0f}", "none")
        return found

    def file(self, photo: Path) -> Path:
        """The landmark file of a photo; raises :class:`InputError` where there is none."""
        if self.landmarks is None:
            raise InputError(photo, "a file or folder with its landmarks", "none")
        if not self.landmarks.is_dir():
            return self.landmarks
        if (file := beside(self.landmarks, photo.stem, LANDMARK_SUFFIXES)) is not None:
            return file
        raise InputError(
            photo, f"its landmarks, {photo.stem} with {', '.join(LANDMARK_SUFFIXES)}, in {self.landmarks}", "none"
        )


def landmark_nme(found: np.ndarray, true: np.ndarray) -> float:
    """Normalised mean error: mean distance in the photo's plane over the distance of the outer eye corners.

    Args:
        found, true: (68, 2 or 3) pixels. With depth the eye distance is that in space, so that it means something in
            profile, too.
    """
    eyes = np.linalg.norm(true[OUTER_EYES[0]] - true[OUTER_EYES[1]])
    return float(np.linalg.norm(found[:, :2] - true[:, :2], axis=1).mean() / eyes)
