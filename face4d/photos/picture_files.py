"""Picture files from outside, opened in one place: which formats, how large, turned upright.

Pillow guesses a file's format from its content, whatever its name, and knows formats whose decoders start other
programs (EPS runs PostScript in Ghostscript) or that nobody photographs in. Only those listed here are tried.
"""

from __future__ import annotations

import io
import logging
import warnings
from contextlib import nullcontext
from pathlib import Path
from typing import Any, NamedTuple

from PIL import Image, UnidentifiedImageError

from face4d.errors import InputError
from face4d.runtime.files import read_bytes
from face4d.runtime.quiet import silent_libraries

log = logging.getLogger(__name__)

FORMATS = {  # Pillow's name: suffixes of such files in a folder
    "JPEG": (".jpg", ".jpeg", ".jpe", ".jfif"),
    "PNG": (".png",),
    "WEBP": (".webp",),
    "TIFF": (".tif", ".tiff"),
    "BMP": (".bmp",),
    "GIF": (".gif",),
    "JPEG2000": (".jp2", ".j2k"),
    "AVIF": (".avif",),
}
SUFFIXES = tuple(suffix for suffixes in FORMATS.values() for suffix in suffixes)
HEIC_SUFFIXES = (".heic", ".heif")
HEIC_ADVICE = "convert it to JPEG first: phones and heif-convert do"
MAX_PIXELS = 64_000_000  # a 50 megapixel photo passes; decoded, four bytes each: 0.26 GB
MAX_BYTES = 1 << 30  # of a file, which is read whole
_MAX_SCAN_PIXELS = 2_000_000_000  # of a JPEG, which may pass over all pixels thousands of times; ten passes are usual
_ORIENTATION = 0x0112
_UPRIGHT = {  # by the EXIF entry: how the stored picture is turned
    2: Image.Transpose.FLIP_LEFT_RIGHT, 3: Image.Transpose.ROTATE_180, 4: Image.Transpose.FLIP_TOP_BOTTOM,
    5: Image.Transpose.TRANSPOSE, 6: Image.Transpose.ROTATE_270, 7: Image.Transpose.TRANSVERSE,
    8: Image.Transpose.ROTATE_90,
}  # fmt: skip
_DECODERS_THAT_KEEP = ("WEBP", "AVIF")  # pictures of their own, two of them or more, for as long as the image is there
_TIFF_BITS, _TIFF_TILE = 258, (322, 323)


class Picture(NamedTuple):
    """A decoded picture.

    Attributes:
        image: upright; of a moving picture the first.
        bits: significant bits of a channel where the file says so, else None.
        deep: whether the file has 16 bits per channel, of which Pillow keeps the upper 8 in colour pictures.
    """

    image: Image.Image
    bits: int | None
    deep: bool


def read_picture(path: str | Path, expected: str = "a picture (JPEG, PNG, TIFF, WebP, ...)") -> Picture:
    """Read a picture of one of ``FORMATS``; sizes are checked before pixels are read.

    Args:
        expected: what the file should be, for errors.

    Raises:
        InputError: no regular file, no picture of these formats, a damaged one, or one of more than ``MAX_PIXELS``
            pixels.
    """
    content = read_bytes(path, expected, MAX_BYTES)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about sizes, which are checked here, and about odd metadata
        try:
            with Image.open(io.BytesIO(content), formats=list(FORMATS)) as image:
                _check_size(path, image, content)
                bits, deep = _depth(image, content)
                with silent_libraries() if image.format == "TIFF" else nullcontext():
                    image.load()
                return Picture(_upright(path, image), bits, deep)
        except InputError:
            raise
        except UnidentifiedImageError:
            raise InputError(path, expected, _what_else(content)) from None
        except Image.DecompressionBombError:
            raise InputError(path, f"a picture of at most {MAX_PIXELS // 10**6} megapixels", "many more") from None
        except Exception as error:  # what decoders raise of damaged files is of no certain kind
            raise InputError(path, expected, f"a damaged one ({str(error) or type(error).__name__})") from None


def _check_size(path: str | Path, image: Image.Image, content: bytes) -> None:
    pixels = image.width * image.height
    if pixels > MAX_PIXELS:
        raise InputError(
            path, f"a picture of at most {MAX_PIXELS // 10**6} megapixels", f"{image.width} x {image.height} pixels"
        )
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        width, height = (tags.get(tag, 1) for tag in _TIFF_TILE)
        if not all(isinstance(side, int) and 0 < side for side in (width, height)) or width * height > MAX_PIXELS:
            raise InputError(
                path, f"a picture of at most {MAX_PIXELS // 10**6} megapixels", f"tiles of {width} x {height} pixels"
            )
    if content.startswith(b"\xff\xd8") and (scans := content.count(b"\xff\xda")) * pixels > _MAX_SCAN_PIXELS:
        raise InputError(
            path, "a JPEG of tens of scans at most", f"{scans} scans of {image.width} x {image.height} pixels"
        )


def _depth(image: Image.Image, content: bytes) -> tuple[int | None, bool]:
    """Significant bits where the file tells them, and whether it has 16 per channel; of an image not loaded yet."""
    deep = any(";16" in str(tile.args) for tile in getattr(image, "tile", ()))
    bits = None
    if image.format == "TIFF":
        tags: Any = getattr(image, "tag_v2", {})
        bits = (tags.get(_TIFF_BITS) or (None,))[0]
        bits = None if bits == 16 else bits  # the room, not what is used of it
    elif (
        image.format == "PNG"
        and image.mode.startswith("I")
        and (place := content.find(b"sBIT", 0, content.find(b"IDAT"))) >= 0
    ):
        bits = content[place + 4]  # grey pictures have one such byte
    return (bits if isinstance(bits, int) and 1 <= bits <= 16 else None), deep


def _upright(path: str | Path, image: Image.Image) -> Image.Image:
    try:
        orientation = image.getexif().get(_ORIENTATION)
    except Exception as error:  # the picture is whole all the same
        log.warning("note: %s: metadata that cannot be read (%s): taken as upright", path, type(error).__name__)
        orientation = None
    method = _UPRIGHT.get(orientation) if isinstance(orientation, int) else None
    if method is not None:
        return image.transpose(method)
    return image.copy() if image.format in _DECODERS_THAT_KEEP else image


def _what_else(content: bytes) -> str:
    if content[4:8] == b"ftyp" and content[8:12] in (
        b"heic",
        b"heix",
        b"heim",
        b"heis",
        b"hevc",
        b"hevx",
        b"mif1",
        b"msf1",
    ):
        return f"a HEIC picture; {HEIC_ADVICE}"
    return f"no picture of these formats: {', '.join(FORMATS)}"
