"""Photos as arrays, and the square crops that the networks look at.

Pixel coordinates everywhere: x right, y down, and the integer (x, y) is the place of the sample in column x, row y (no shift by half a
pixel). A crop is a scale and a shift, so its warp is separable: columns and rows are interpolated one after the other.
"""

from __future__ import annotations

import warnings
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
from PIL import Image, ImageOps, UnidentifiedImageError

from face4d.errors import InputError

MAX_PIXELS = 64_000_000  # 0.8 GB as float32; a 50 megapixel photo passes
DECA_SIZE, DECA_MARGIN = 224, 1.25
VRN_SIZE, VRN_FACE = 192, 90.0  # pixels: the crop, and the geometric mean of the face box's sides in it
LANDMARK_MARGIN = 1.1  # the box of 68 landmarks is smaller than the face
_DETECTOR_DROP = 0.12  # a detector's box sits higher than the face, by this share of its side
_WHOLE_RANGE = {"I;16": 65535, "I;16L": 65535, "I;16B": 65535, "I;16N": 65535, "I": 65535}
_KINDS = ("box", "landmarks", "detector")


def read_photo(path: str | Path) -> np.ndarray:
    """Read a photo: turned upright by its EXIF entry, grey as three equal channels, transparency over white, 16 bits kept.

    Returns:
        (H, W, 3) float32 RGB in 0..1.

    Raises:
        InputError: no such file, no picture, a damaged one, or more than ``MAX_PIXELS`` pixels (found before they are read).
    """
    expected = "a photo (JPEG, PNG, TIFF, WebP, ...)"
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, which are checked here, and about odd metadata
            with Image.open(path) as image:
                if image.width * image.height > MAX_PIXELS:
                    raise InputError(path, f"a photo of at most {MAX_PIXELS // 10**6} megapixels", f"{image.width} x {image.height} pixels")
                return _rgb(path, ImageOps.exif_transpose(image))
    except FileNotFoundError:
        raise InputError(path, expected, "no such file") from None
    except IsADirectoryError:
        raise InputError(path, expected, "a folder") from None
    except UnidentifiedImageError:
        raise InputError(path, expected, "no picture that can be read") from None
    except Image.DecompressionBombError:
        raise InputError(path, f"a photo of at most {MAX_PIXELS // 10**6} megapixels", "many more") from None
    except (OSError, SyntaxError, ValueError, EOFError) as error:  # all of them are how decoders report damaged files
        if isinstance(error, (InputError, PermissionError)):
            raise
        raise InputError(path, expected, f"a damaged one ({error})") from None


def _rgb(path: str | Path, image: Image.Image) -> np.ndarray:
    if image.mode in _WHOLE_RANGE:  # 16-bit grey
        grey = np.asarray(image).astype(np.float32) / _WHOLE_RANGE[image.mode]
        return np.repeat(grey.clip(0, 1)[:, :, None], 3, axis=2)
    if image.mode == "F":
        raise InputError(path, "a photo of 8 or 16 bits per channel", "floating-point pixels, whose range is not known")
    if image.mode in ("RGBA", "LA", "PA", "La", "RGBa") or "transparency" in image.info:
        pixels = np.asarray(image.convert("RGBA"), dtype=np.float32) / 255
        alpha = pixels[:, :, 3:]
        return pixels[:, :, :3] * alpha + (1 - alpha)
    return np.asarray(image.convert("RGB"), dtype=np.float32) / 255


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
            smooth: in a crop of less than half the photo's size, average the photo's pixels first, which a bilinear sample would skip
                (the published programs do skip them). No effect on other crops.

        Returns:
            (size, size, C) of the photo's type.
        """
        scale, shift = self.scale, np.array(self.shift)
        block = min(int(1 / scale + 1e-9), max(photo.shape[:2])) if smooth else 1
        if block > 1:
            photo = _block_means(photo, block, self.border)
            shift = shift + scale * (block - 1) / 2  # the first mean lies in the middle of its block
            scale = scale * block
        return _resample(photo, scale, shift, (self.size, self.size), self.border)

    def unwarp(self, picture: np.ndarray, height: int, width: int) -> np.ndarray:
        """A picture of the crop's size (size, size, C) put back to its place in a photo (height, width, C); zero around it."""
        shift = -np.array(self.shift) / self.scale
        return _resample(picture, 1 / self.scale, shift, (height, width), "zero")


def deca_crop(face: FaceBox, size: int = DECA_SIZE, margin: float = DECA_MARGIN) -> Crop:
    """DECA's window of a face: a square around the box, ``margin`` times its mean side.

    The side is (width + height) / 2, for landmarks 1.1 times that; the centre is the box's, for a detector's box 12 % of the side further
    down. The window's side is cut to whole photo pixels, and its corners become the centres of the crop's corner pixels.

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
    """VRN's window: 192 pixels around the box's centre, scaled so that the square root of the box's area is 90 pixels, border reflected.

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
    """Raise :class:`InputError`, of the photo at ``path``, when the box has no area or no part of it lies in the photo (H, W, 3)."""
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


def _block_means(photo: np.ndarray, block: int, border: str) -> np.ndarray:
    """Means of blocks of block x block pixels; blocks at the right and lower edge are filled up as the border says."""
    height, width = photo.shape[:2]
    padding = ((0, -height % block), (0, -width % block), (0, 0))
    whole = np.pad(photo, padding, mode="constant" if border == "zero" else "symmetric") if any(map(any, padding)) else photo
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
