"""Photos as arrays, and the square crops that the networks look at.

Pixel coordinates everywhere: x right, y down, and the integer (x, y) is the place of the sample in column x, row y (no
shift by half a pixel). A crop is a scale and a shift, so its warp is separable: columns and rows are interpolated one
after the other.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from PIL import Image

from face4d.errors import InputError
from face4d.photos.picture_files import read_picture

log = logging.getLogger(__name__)

DECA_SIZE, DECA_MARGIN = 224, 1.25
VRN_SIZE, VRN_FACE = 192, 90.0  # pixels: the crop, and the geometric mean of the face box's sides in it
LANDMARK_MARGIN = 1.1  # the box of 68 landmarks is smaller than the face
_DETECTOR_DROP = 0.12  # a detector's box sits higher than the face, by this share of its side
_TRANSPARENT = ("RGBA", "LA", "PA", "La", "RGBa")
_BAND = 1 << 20  # pixels made floating at a time
_KINDS = ("box", "landmarks", "detector")


def read_photo(path: str | Path) -> np.ndarray:
    """Read a photo: turned upright by its EXIF entry, grey as three equal channels, transparency over white, 16 bits
    kept of grey ones.

    Takes little more memory than the result and the picture at one byte per channel: 1.0 GB at ``MAX_PIXELS`` as JPEG,
    1.3 GB as WebP.

    Returns:
        (H, W, 3) float32 RGB in 0..1.

    Raises:
        InputError: see :func:`~face4d.photos.picture_files.read_picture`; also floating-point pixels, or colours of
            fewer than 16 bits stored in 16.
    """
    image, bits, deep = read_picture(path, "a photo (JPEG, PNG, TIFF, WebP, ...)")
    if image.mode == "F":
        raise InputError(path, "a photo of 8 or 16 bits per channel", "floating-point pixels, whose range is not known")
    if image.mode.startswith("I"):
        return _grey(path, np.asarray(image), bits)
    extremes: Any = image.getextrema() if deep and image.mode in ("RGB", "RGBA") else ()
    if extremes and all(high < 16 for _, high in extremes[:3]):  # of 16 bits Pillow has kept four, or fewer
        raise InputError(
            path,
            "a photo whose colours use their range of 16 bits",
            "values below 4096 only (12 bits in 16?); save it with 8 bits",
        )
    mode = "RGBA" if image.mode in _TRANSPARENT or "transparency" in image.info else "RGB"
    photo = np.empty((image.height, image.width, 3), np.float32)
    rows = max(_BAND // image.width, 1)
    for top in range(0, image.height, rows):
        band = image.crop((0, top, image.width, min(top + rows, image.height))) if rows < image.height else image
        _over_white(_as_bytes(path, band, mode), photo[top : top + rows])
    return photo


def _as_bytes(path: str | Path, image: Image.Image, mode: str) -> np.ndarray:
    """(H, W, 3 or 4) uint8."""
    try:
        return np.asarray(image if image.mode == mode else image.convert(mode))
    except ValueError as error:  # LAB, for one
        raise InputError(path, "a photo in colours or grey", f"one that is neither ({error})") from None


def _over_white(pixels: np.ndarray, into: np.ndarray) -> None:
    """Write bytes (H, W, 3), or with transparency (H, W, 4), ``into`` float32 (H, W, 3) in 0..1, as they look before
    white.
    """
    np.divide(pixels[:, :, :3], 255, out=into, dtype=np.float32)
    if pixels.shape[2] == 4:
        alpha = np.divide(pixels[:, :, 3:], 255, dtype=np.float32)
        into *= alpha
        into += 1 - alpha


def _grey(path: str | Path, values: np.ndarray, bits: int | None) -> np.ndarray:
    """Grey integers (H, W) as float32 (H, W, 3) in 0..1.

    Cameras of 10 and 12 bits are often stored in files of 16, whose whole range then is not used: a picture without a
    value above 4095 (6 % of the range) is taken for one of those. ``bits``, where the file says it, is believed if the
    values fit: PNG's standard asks for values spread over the whole range, which some writers do not heed.
    """
    highest = int(values.max())
    if values.min() < 0 or highest > 65535:
        raise InputError(
            path,
            "a photo of 8 or 16 bits per channel",
            f"values from {values.min()} to {highest}, whose range is not known",
        )
    if bits is None or highest >= 1 << bits:
        bits = next(known for known in (10, 12, 16) if highest < 1 << known)
        if bits < 16:
            log.warning("note: %s: no value above %d of 65535: taken as %d bits stored in 16", path, highest, bits)
    grey = values.astype(np.float32)
    grey /= (1 << bits) - 1
    return np.repeat(grey[:, :, None], 3, axis=2)


class FaceBox(NamedTuple):
    """Where a face is in a photo, pixels, and how that is known, which decides the room left around it in a crop."""

    left: float
    top: float
    right: float
    bottom: float
    kind: str = "box"  # drawn by hand or known otherwise; or "landmarks": the extent of 68 points; or "detector"

    @classmethod
    def of_landmarks(cls, points: np.ndarray) -> FaceBox:
        """The extent of landmarks (L, 2 or 3)."""
        low, high = np.min(points, axis=0), np.max(points, axis=0)
        return cls(float(low[0]), float(low[1]), float(high[0]), float(high[1]), "landmarks")

    @property
    def width(self) -> float:
        return self.right - self.left

    @property
    def height(self) -> float:
        return self.bottom - self.top

    @property
    def center(self) -> tuple[float, float]:
        return (self.left + self.right) / 2, (self.top + self.bottom) / 2


@dataclass(frozen=True)
class Crop:
    """A square window: crop pixels = scale * photo pixels + shift.

    Attributes:
        scale: crop pixels per photo pixel.
        shift: (x, y) crop pixels.
        size: side of the crop, pixels.
        border: what lies beyond the photo: ``zero``, or ``reflect`` (mirrored about the outermost sample).
    """

    scale: float
    shift: tuple[float, float]
    size: int
    border: str = "zero"

    @property
    def matrix(self) -> np.ndarray:
        """(3, 3) float64 similarity, photo to crop, of points (x, y, 1)."""
        return np.array([[self.scale, 0, self.shift[0]], [0, self.scale, self.shift[1]], [0, 0, 1]])

    def to_crop(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2 or 3) of the photo in the crop; a third coordinate, a depth in pixels, is scaled."""
        return np.asarray(points) * self.scale + np.array([*self.shift, 0])[: np.shape(points)[-1]]

    def to_photo(self, points: np.ndarray) -> np.ndarray:
        """Points (..., 2 or 3) of the crop in the photo."""
        return (np.asarray(points) - np.array([*self.shift, 0])[: np.shape(points)[-1]]) / self.scale

    def warp(self, photo: np.ndarray, *, smooth: bool = True) -> np.ndarray:
        """The window as a picture, by bilinear interpolation.

        Args:
            photo: (H, W, C) floating; ValueError for other types.
            smooth: in a crop of less than half the photo's size, average the photo's pixels first, which a bilinear
                sample would skip (the published programs do skip them). No effect on other crops.

        Returns:
            (size, size, C) of the photo's type.
        """
        scale, shift = self.scale, np.array(self.shift)
        block = min(int(1 / scale + 1e-9), max(photo.shape[:2])) if smooth else 1
        if block > 1:
            photo = block_means(photo, block, self.border)
            shift = shift + scale * (block - 1) / 2  # the first mean lies in the middle of its block
            scale = scale * block
        return _resample(photo, scale, shift, (self.size, self.size), self.border)

    def unwarp(self, picture: np.ndarray, height: int, width: int) -> np.ndarray:
        """A picture of the crop's size (size, size, C) put back to its place in a photo (height, width, C); zero around
        it.
        """
        shift = -np.array(self.shift) / self.scale
        return _resample(picture, 1 / self.scale, shift, (height, width), "zero")


def deca_crop(face: FaceBox, size: int = DECA_SIZE, margin: float = DECA_MARGIN) -> Crop:
    """DECA's window of a face: a square around the box, ``margin`` times its mean side.

    The side is (width + height) / 2, for landmarks 1.1 times that; the centre is the box's, for a detector's box 12 %
    of the side further down. The window's side is cut to whole photo pixels, and its corners become the centres of the
    crop's corner pixels.

    Raises:
        InputError: a box without an area, or of an unknown kind.
    """
    _check(face)
    side = (face.width + face.height) / 2
    x, y = face.center
    if face.kind == "landmarks":
        side *= LANDMARK_MARGIN
    elif face.kind == "detector":
        y += _DETECTOR_DROP * side
    window = max(int(side * margin), 1)
    scale = (size - 1) / window
    return Crop(scale, (-scale * (x - window / 2), -scale * (y - window / 2)), size)


def vrn_crop(face: FaceBox) -> Crop:
    """VRN's window: 192 pixels around the box's centre, scaled so that the square root of the box's area is 90 pixels,
    border reflected.

    Raises:
        InputError: a box without an area, or of an unknown kind.
    """
    _check(face)
    scale = VRN_FACE / (face.width * face.height) ** 0.5
    x, y = face.center
    return Crop(scale, (VRN_SIZE / 2 - scale * x, VRN_SIZE / 2 - scale * y), VRN_SIZE, "reflect")


def crop_face(
    photo: np.ndarray, face: FaceBox | np.ndarray, size: int = DECA_SIZE, scale: float = DECA_MARGIN
) -> tuple[np.ndarray, Crop]:
    """DECA's crop of a photo (H, W, 3), with the face's box or its landmarks (68, 2 or 3) in pixels.

    Returns:
        picture (size, size, 3), and the :class:`Crop` that made it.

    Raises:
        InputError: a face without an area, or beside the photo.
    """
    if not isinstance(face, FaceBox):
        face = FaceBox.of_landmarks(np.asarray(face))
    crop = deca_crop(face, size, scale)
    check_inside(face, photo)
    return crop.warp(photo), crop


def check_inside(face: FaceBox, photo: np.ndarray, path: str | Path = "face box") -> None:
    """Raise :class:`InputError`, of the photo at ``path``, when the box has no area or no part of it lies in the photo
    (H, W, 3).
    """
    _check(face, path)
    height, width = photo.shape[:2]
    if face.right < 0 or face.bottom < 0 or face.left > width - 1 or face.top > height - 1:
        raise InputError(path, f"a face box that meets the photo of {width} x {height} pixels", _corners(face))


def _check(face: FaceBox, path: str | Path = "face box") -> None:
    if face.kind not in _KINDS:
        raise InputError(path, f"a face box of kind {', '.join(_KINDS)}", str(face.kind))
    if not (np.isfinite(face[:4]).all() and face.width > 0 and face.height > 0):
        raise InputError(path, "a face box with left < right and top < bottom, pixels", _corners(face))


def _corners(face: FaceBox) -> str:
    return f"left {face.left:g}, top {face.top:g}, right {face.right:g}, bottom {face.bottom:g}"


def block_means(photo: np.ndarray, block: int, border: str) -> np.ndarray:
    """Means of blocks of block x block pixels; blocks at the right and lower edge are filled up as the border says."""
    height, width = photo.shape[:2]
    padding = ((0, -height % block), (0, -width % block), (0, 0))
    whole = (
        np.pad(photo, padding, mode="constant" if border == "zero" else "symmetric")
        if any(map(any, padding))
        else photo
    )
    rows = whole.reshape(whole.shape[0] // block, block, -1, photo.shape[2]).mean(axis=1, dtype=photo.dtype)
    return rows.reshape(len(rows), -1, block, photo.shape[2]).mean(axis=2, dtype=photo.dtype)


def _resample(photo: np.ndarray, scale: float, shift: np.ndarray, shape: tuple[int, int], border: str) -> np.ndarray:
    """Bilinear samples (height, width, C) at (place - shift) / scale, rows first."""
    if photo.dtype.kind != "f":
        raise ValueError(f"picture: expected floating numbers, found {photo.dtype}")
    for axis, (length, offset) in enumerate(zip(shape, shift[::-1])):
        places, weights = _neighbours((np.arange(length) - offset) / scale, photo.shape[axis], border)
        weights = weights.astype(photo.dtype).reshape((2, -1, 1, 1) if axis == 0 else (2, 1, -1, 1))
        photo = np.take(photo, places[0], axis) * weights[0] + np.take(photo, places[1], axis) * weights[1]
    return photo


def _neighbours(place: np.ndarray, length: int, border: str) -> tuple[np.ndarray, np.ndarray]:
    """The samples on both sides of places (N,) in 0..length - 1, and their weights, (2, N) each."""
    low = np.floor(place)
    share = place - low
    neighbours, weights = np.stack([low, low + 1]).astype(np.int64), np.stack([1 - share, share])
    if border == "reflect":
        period = max(2 * (length - 1), 1)
        neighbours = np.abs((neighbours + length - 1) % period - (length - 1))
        return neighbours % length, weights
    inside = (neighbours >= 0) & (neighbours < length)
    return np.where(inside, neighbours, 0), np.where(inside, weights, 0)
