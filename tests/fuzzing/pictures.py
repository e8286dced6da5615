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
    b"IHDR", b"IDAT", b"PLTE", b"tRNS", b"eXIf", b"iTXt", b"acTL", b"\xff\xd8", b"\xff\xda", b"\xff\xc2", b"\xff\xe1",
    b"Exif\0\0", b"II*\0", b"MM\0*", b"RIFF", b"VP8X", b"ANIM", b"GIF89a", b"\x21\xf9\x04", b"BM", b"ftypavif", b"jP  ",
    b"ispe", b"\xff\x4f", b"\xff\x51", b"%!PS-Adobe-3.0 EPSF-3.0\n", b"DDS ",
)  # fmt: skip
_KINDS = {  # format: modes, and what its writer is told
    "PNG": (("1", "L", "LA", "P", "RGB", "RGBA", "I;16"), ({}, {"optimize": True})),
    "JPEG": (("L", "RGB", "CMYK"), ({}, {"progressive": True}, {"restart_marker_blocks": 1})),
    "TIFF": (("1", "L", "LA", "P", "RGB", "RGBA", "CMYK", "YCbCr", "LAB", "I;16", "F"),
        tuple({"compression": kind} for kind in (
            None, "tiff_lzw", "tiff_deflate", "packbits", "jpeg", "tiff_adobe_deflate", "group4"))),
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
        image = (
            Image.fromarray(values, "RGBA").convert(mode)
            if mode == "RGBA"
            else Image.fromarray(values[..., :3]).convert(mode)
        )
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
    from face4d.photos import crops as photo

    try:
        from face4d.photos import picture_files as bounds
    except ImportError:  # an earlier library
        bounds = photo
    whole, bounds.MAX_PIXELS = bounds.MAX_PIXELS, _PIXELS
    try:
        found = photo.read_photo(path)
    finally:
        bounds.MAX_PIXELS = whole
    assert found.dtype == np.float32 and found.ndim == 3 and found.shape[2] == 3 and found.size > 0, (
        f"{found.shape} {found.dtype}"
    )
    assert np.isfinite(found).all() and 0 <= found.min() and found.max() <= 1.00001, "values outside 0..1"


# Shortened findings in an earlier version: AVIF whose decoder gives up (two ways), pixel format flags of DDS, a TIFF
# that asks for too much memory.
_CORPUS = (
    bytes.fromhex(
        "00000020667479706176696600000000617669666d6966316d6961664d413142000000eb6d657461000000000000002168646c7200000000000000007069637400"
        "0000000000000000000000000000000e7069746d0000000000010000001e696c6f63000000004400000100010000000100000113000000290000002869696e6600"
        "00000000010000001a696e6665020000000001000061763051436f6c6f72000000006a697072700000004b6970636f000000146973706500000000000000010000"
        "0001000000107069786900000000001769706d61000000000000000100010401028304000000316d64617412000a081800068808683420ffe1209e410000904bdb"
        "3bf745b12d4e56"
    ),
    bytes.fromhex(
        "00000020667479706176696600000000617669666d6966316d6961664d413142000000eb6d657461000000000000002168646c7200000000000000007069637400"
        "0000000000000000000000000000000e7069746d0000000000010000001e696c6f63000000004400000100010000000100000113000000250000002869696e6600"
        "00000000010000001a696e6665020000000001000061763031436f6c6f72000000006a697072700000004b6970636f000000146973706500000000000000010000"
        "0001000000107069786900000000030808080000000c6176314381000c0000000013636f6c726e636cb50001000d0006800000001769706d610000000000000001"
        "000104010283040000002d6d64617412000a08180006880868342031653430301714c78786650208209e410000904bd72fffc103"
    ),
    bytes.fromhex(
        "444453207c0000000f1000000700000000000000000000000000000000000000000000000000200000004100000000000000200000000000ff0000ff0000ff0000"
        "00000000ff0010000000000000000000000000000000000000bdc1f71979c8282042e3a54527b0b23188bb0c3efe075d3f071c189b9c72bd91da632686ece2"
    ),
    bytes.fromhex(
        "444453207c0000000f1000000500000001000000040000000000000000000000000000000000000000000000000000000000000000000000000000000000000000"
        "0000000000000000000000200000004100000000000000200000d80eeacea2d8d620810fbcf744cce7b74d000000c1815ed80eeacea2d8d620810fbcf744cc"
    ),
    bytes.fromhex("4903000100000001000000010103000100000001"),
    b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n{} loop\n%%EOF\n",  # never ended
)


READERS = (Reader("picture", ".jpg", mutated(files(), _WORDS), _read, corpus=_CORPUS, megabytes=200),)
