"""Pictures of all formats that are read, and of some that are not, small, with metadata."""

from __future__ import annotations

import io
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.fuzzing import Reader
from tests.fuzzing.mutations import mutated

_PIXELS = 250_000  # in place of the real bound, and megabytes in proportion
_WORDS = (
    b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"eXIf", b"iTXt", b"acTL", b"\xff\xd8", b"\xff\xda", b"\xff\xc2", b"\xff\xe1", b"Exif\0\0", b"II*\0", b"MM\0*", b"RIFF",
    b"VP8X", b"ANIM", b"GIF89a", b"\x21\xf9\x04", b"BM", b"ftypavif", b"jP  ", b"ispe", b"\xff\x4f", b"\xff\x51", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"DDS ",
)  # fmt: skip
_KINDS = {  # format: modes, and what its writer is told
    "PNG": (("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), ({}, {"optimize": True})),
    "JPEG": (("L", "RGB", "CMYK"), ({}, {"progressive": True}, {"restart_marker_blocks": 1})),
    "TIFF": (("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "F"), tuple({"compression": kind} for kind in (
        None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "tiff_adobe_deflate", "group4")), ),
    "BMP": (("1", "L", "P", "RGB", "RGBA"), ({},)),
    "GIF": (("L", "P", "RGB"), ({}, {"interlace": 0}, {"transparency": 0})),
    "WEBP": (("RGB", "RGBA"), ({}, {"lossless": True})),
    "JPEG2000": (("L", "LA", "RGB", "RGBA", "I;16"), ({}, {"no_jp2": True}, {"tile_size": (4, 4)})),
    "AVIF": (("RGB", "RGBA"), ({"speed": 10},)),
    "DDS": (("RGB", "RGBA"), ({},)),
    "PPM": (("L", "RGB"), ({},)),
    "ICO": (("RGBA",), ({},)),
    "EPS": (("RGB",), ({},)),
}  # fmt: skip


@st.composite
def files(draw: DrawFn) -> bytes:
    """Content of a valid file."""
    from PIL import Image

    kind = draw(st.sampled_from(tuple(_KINDS)))
    modes, options = _KINDS[kind]
    mode, chosen = draw(st.sampled_from(modes)), dict(draw(st.sampled_from(options)))
    width, height = draw(st.integers(1, 9)), draw(st.integers(1, 9))
    values = np.random.default_rng(draw(st.integers(0, 3))).integers(0, 255, (height, width, 4), dtype=np.uint8)
    if mode == "I;16":
        image = Image.fromarray(values[..., 0].astype(np.uint16) * 17)
    elif mode == "LAB":
        image = Image.frombytes("LAB", (width, height), values[..., :3].tobytes())
    else:
        image = Image.fromarray(values, "RGBA").convert(mode) if mode == "RGBA" else Image.fromarray(values[..., :3]).convert(mode)
    if kind in ("PNG", "JPEG", "TIFF", "WEBP") and draw(st.booleans()):
        exif = Image.Exif()
        exif[274] = draw(st.integers(1, 8))
        chosen["exif"] = exif
    if kind in ("PNG", "GIF", "TIFF", "WEBP") and mode in ("RGB", "L", "P") and draw(st.booleans()):
        chosen |= {"save_all": True, "append_images": [image.copy()]}
    buffer = io.BytesIO()
    try:
        image.save(buffer, kind, **chosen)
    except (OSError, ValueError, KeyError, RuntimeError):  # a way to compress that does not go with the mode
        image.convert("RGB").save(buffer, "PNG")
    return buffer.getvalue()


def _read(path: Path) -> None:
    from face4d.reconstruction import photo

    try:
        from face4d.runtime import picture_files as bounds
    except ImportError:  # an earlier library
        bounds = photo
    whole, bounds.MAX_PIXELS = bounds.MAX_PIXELS, _PIXELS
    try:
        found = photo.read_photo(path)
    finally:
        bounds.MAX_PIXELS = whole
    assert found.dtype == np.float32 and found.ndim == 3 and found.shape[2] == 3 and found.size > 0, f"{found.shape} {found.dtype}"
    assert np.isfinite(found).all() and 0 <= found.min() and found.max() <= 1.00001, "values outside 0..1"


READERS = (Reader("picture", ".jpg", mutated(files(), _WORDS), _read, megabytes=200),)
