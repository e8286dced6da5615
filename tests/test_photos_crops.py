"""Photos of all kinds of files, and crops against the published ones."""

import contextlib
import logging
import os
import struct
import sys
import tracemalloc
import zlib

import numpy as np
import pytest
from PIL import Image

from face4d.errors import InputError
from face4d.photos import picture_files
from face4d.photos.crops import Crop, FaceBox, crop_face, deca_crop, read_photo, vrn_crop
from face4d.photos.picture_files import FORMATS
from tests.conftest import real_data

# the published crops: left, top, right, bottom, how it is known, scale and shift
CROPS = (
    ((100, 80, 220, 230, "landmarks"), 223 / 185, (-81.36486486486491, -75.33783783783782)),
    ((33.5, 41, 180.25, 210.75, "detector"), 223 / 197, (-9.480329949238595, -52.48423857868019)),
    ((0, 0, 299, 279, "landmarks"), 223 / 397, (27.52392947103273, 33.14105793450883)),
)


@pytest.fixture(scope="module")
def stripes():
    """The picture of the published crops, (300, 280, 3)."""
    y, x = np.mgrid[:300, :280]
    channels = (
        0.5 + 0.5 * np.sin(x / 7 + y / 11),
        0.5 + 0.5 * np.cos(x / 5 - y / 13),
        ((x // 10 + y // 10) % 2).astype(float),
    )
    return np.round(255 * np.stack(channels, axis=-1)) / 255


@pytest.mark.parametrize("number", range(3))
def test_crops_are_the_published_ones(reference, stripes, number):
    box, scale, shift = CROPS[number]
    crop = deca_crop(FaceBox(*box))
    np.testing.assert_allclose(crop.matrix, [[scale, 0, shift[0]], [0, scale, shift[1]], [0, 0, 1]], atol=1e-9)
    picture = crop.warp(stripes).transpose(2, 0, 1)
    np.testing.assert_allclose(picture[:, ::8, ::8], reference("c09_deca")[f"warp{number}_slice"], atol=1e-6)


def test_a_box_by_hand_is_neither_widened_nor_moved():
    crop = deca_crop(FaceBox(10, 20, 90, 140))  # mean side 100, window 125
    np.testing.assert_allclose(
        crop.to_crop([[50 - 62.5, 80 - 62.5], [50 + 62.5, 80 + 62.5]]), [[0, 0], [223, 223]], atol=1e-9
    )


def test_vrn_crop_has_a_face_of_90_pixels_in_the_middle():
    crop = vrn_crop(FaceBox(100, 50, 140, 140))  # 40 x 90 = 60^2
    assert crop.scale == pytest.approx(1.5) and crop.size == 192
    np.testing.assert_allclose(crop.to_crop([120, 95]), [96, 96])


def test_reflected_border_mirrors_about_the_outermost_sample():
    row = np.arange(5.0)[None, :, None].repeat(5, axis=0)
    picture = Crop(1.0, (7.0, 0.0), 16, "reflect").warp(row)
    np.testing.assert_allclose(picture[0, :, 0], [1, 2, 3, 4, 3, 2, 1, 0, 1, 2, 3, 4, 3, 2, 1, 0])
    one = Crop(1.0, (3.0, 3.0), 8, "reflect").warp(np.full((1, 1, 3), 0.25))
    assert (one == 0.25).all()


def test_points_and_pictures_go_to_the_crop_and_back():
    crop = deca_crop(FaceBox(40, 30, 160, 150))
    points = np.array([[40.0, 30.0, 5.0], [100.0, 90.0, -2.0]])
    np.testing.assert_allclose(crop.to_photo(crop.to_crop(points)), points)
    y, x = np.mgrid[:200, :220].astype(float)
    smooth = np.stack([x / 220, y / 200], axis=-1)
    back = crop.unwarp(crop.warp(smooth), 200, 220)
    np.testing.assert_allclose(back[60:120, 60:120], smooth[60:120, 60:120], atol=1e-9)
    assert (back[0] == 0).all()


def test_a_landmark_lies_on_the_same_spot_of_the_crop():
    dot = np.zeros((100, 100, 1))
    dot[40, 60] = 1
    crop = Crop(2.0, (-70.0, -50.0), 100)
    picture = crop.warp(dot)[..., 0]
    assert np.unravel_index(picture.argmax(), picture.shape) == tuple(crop.to_crop([60, 40])[::-1])


def test_small_crops_of_large_photos_are_averaged_unless_told_otherwise():
    draw = np.random.default_rng(0)
    noise = draw.random((900, 1000, 3)).astype(np.float32)
    crop = deca_crop(FaceBox(160, 120, 840, 800))  # window of 850 pixels, blocks of 3
    plain, smooth = crop.warp(noise, smooth=False), crop.warp(noise)
    assert smooth.dtype == np.float32
    assert smooth.std() < 0.5 * plain.std() and smooth.mean() == pytest.approx(plain.mean(), rel=0.02)
    y, x = np.mgrid[:900, :1000].astype(float)
    ramp = np.stack([x, y], axis=-1)
    inner = np.s_[1:-1, 1:-1]
    # nothing is displaced
    np.testing.assert_allclose(crop.warp(ramp)[inner], crop.warp(ramp, smooth=False)[inner], atol=1e-6)


def test_pictures_of_whole_numbers_are_not_rounded_in_silence(stripes):
    with pytest.raises(ValueError, match="uint8"):
        Crop(1.0, (0.0, 0.0), 16).warp((255 * stripes).astype(np.uint8))


def test_crop_face_takes_boxes_and_landmarks(stripes):
    points = np.array([[100, 80, 3], [220, 230, 4], [150, 100, 5.0]])
    by_points, crop = crop_face(stripes, points)
    by_box, _ = crop_face(stripes, FaceBox(100, 80, 220, 230, "landmarks"))
    np.testing.assert_array_equal(by_points, by_box)
    assert by_points.shape == (224, 224, 3) and crop.scale == pytest.approx(223 / 185)
    assert crop_face(stripes, points, size=64, scale=1.6)[0].shape == (64, 64, 3)


@pytest.mark.parametrize(
    "box", [(5, 5, 5, 50), (5, 60, 50, 50), (np.nan, 0, 5, 5), (400, 10, 500, 90), (1, 2, 3, 4, "ears")]
)
def test_impossible_boxes_are_refused(stripes, box):
    with pytest.raises(InputError, match="face box: expected"):
        crop_face(stripes, FaceBox(*box))


PIXELS = np.array([[[255, 0, 0], [0, 255, 0], [0, 0, 255]], [[10, 20, 30], [200, 200, 200], [0, 0, 0]]], dtype=np.uint8)


def test_colour_photo(tmp_path):
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    found = read_photo(tmp_path / "a.png")
    assert found.dtype == np.float32 and found.shape == (2, 3, 3)
    np.testing.assert_allclose(found, PIXELS / 255, atol=1e-7)


def test_grey_16_bit_and_palette(tmp_path):
    grey = np.array([[0, 1000], [30000, 65535]], dtype=np.uint16)
    Image.fromarray(grey).save(tmp_path / "deep.png")
    np.testing.assert_allclose(
        read_photo(tmp_path / "deep.png"), (grey / 65535)[..., None].repeat(3, axis=2), atol=1e-6
    )
    Image.fromarray(PIXELS[..., 0]).save(tmp_path / "grey.png")
    np.testing.assert_allclose(read_photo(tmp_path / "grey.png"), PIXELS[..., :1].repeat(3, axis=2) / 255, atol=1e-7)
    Image.fromarray(PIXELS).quantize(16).save(tmp_path / "palette.png")
    np.testing.assert_allclose(read_photo(tmp_path / "palette.png"), PIXELS / 255, atol=0.02)
    Image.fromarray(PIXELS).convert("CMYK").save(tmp_path / "print.tiff")
    assert read_photo(tmp_path / "print.tiff").shape == (2, 3, 3)
    smooth = np.linspace(0, 255, 16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    Image.fromarray(smooth).convert("CMYK").save(tmp_path / "print.jpg", quality=100)
    np.testing.assert_allclose(read_photo(tmp_path / "print.jpg"), smooth / 255, atol=0.03)


def test_of_moving_pictures_the_first(tmp_path):
    first, second = Image.fromarray(PIXELS), Image.fromarray(255 - PIXELS)
    first.save(tmp_path / "a.gif", save_all=True, append_images=[second])
    np.testing.assert_allclose(read_photo(tmp_path / "a.gif"), PIXELS / 255, atol=0.02)


def test_a_photo_of_one_pixel(tmp_path):
    Image.new("RGB", (1, 1), (255, 0, 51)).save(tmp_path / "a.png")
    picture, _ = crop_face(read_photo(tmp_path / "a.png"), FaceBox(-1, -1, 1, 1), size=5)
    np.testing.assert_allclose(picture.max(axis=(0, 1)), [1, 0, 0.2], atol=1e-6)


def test_a_box_of_any_size_is_cropped_in_little_memory(stripes):
    picture, crop = crop_face(stripes, FaceBox(-1e9, -1e9, 1e9, 1e9))
    assert picture.shape == (224, 224, 3) and np.isfinite(picture).all() and crop.scale < 1e-6


def test_transparency_is_white(tmp_path):
    alpha = np.array([[0, 255, 51], [255, 255, 255]], dtype=np.uint8)
    Image.fromarray(np.dstack([PIXELS, alpha])).save(tmp_path / "a.png")
    expected = PIXELS / 255
    expected[0, 0], expected[0, 2] = 1, [0.8, 0.8, 1.0]
    np.testing.assert_allclose(read_photo(tmp_path / "a.png"), expected, atol=1e-6)


def test_exif_rotation_turns_the_photo(tmp_path):
    across = PIXELS.transpose(1, 0, 2)
    upright = {  # by the entry: where the first row and column of the file belong
        1: PIXELS, 2: PIXELS[:, ::-1], 3: PIXELS[::-1, ::-1], 4: PIXELS[::-1], 5: across, 6: across[:, ::-1],
        7: across[::-1, ::-1], 8: across[::-1],
    }  # fmt: skip
    for entry, expected in upright.items():
        exif = Image.Exif()
        exif[274] = entry
        Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=exif)
        np.testing.assert_allclose(read_photo(tmp_path / "a.png"), expected / 255, atol=1e-7, err_msg=str(entry))


def test_damaged_missing_and_other_files(tmp_path):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (200, 200, 3), dtype=np.uint8)).save(tmp_path / "a.jpg")
    whole = (tmp_path / "a.jpg").read_bytes()
    (tmp_path / "cut.jpg").write_bytes(whole[: len(whole) // 2])
    (tmp_path / "text.png").write_text("no picture")
    (tmp_path / "empty.png").touch()
    Image.fromarray(np.ones((2, 2), np.float32)).save(tmp_path / "float.tiff")
    wrong = {
        "cut.jpg": "damaged",
        "text.png": "no picture",
        "empty.png": "no picture",
        "none.png": "no such file",
        "": "a folder",
    }
    wrong["float.tiff"] = "floating"
    for name, found in wrong.items():
        with pytest.raises(InputError, match=found):
            read_photo(tmp_path / name)


def test_huge_photos_are_refused_before_they_are_read(tmp_path, monkeypatch):
    # the second is what Pillow itself calls an attack
    for side, found in ((9000, "9000 x 9000 pixels"), (30000, "many more")):
        header = b"IHDR" + struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
        chunk = struct.pack(">I", 13) + header + struct.pack(">I", zlib.crc32(header))
        (tmp_path / "huge.png").write_bytes(
            b"\x89PNG\r\n\x1a\n" + chunk + struct.pack(">I", 100) + b"IDAT" + bytes(104)
        )
        with pytest.raises(InputError, match=f"at most 64 megapixels, found {found}"):
            read_photo(tmp_path / "huge.png")
    Image.fromarray(PIXELS).save(tmp_path / "a.png")
    monkeypatch.setattr(picture_files, "MAX_PIXELS", 5)
    with pytest.raises(InputError, match="3 x 2 pixels"):
        read_photo(tmp_path / "a.png")


POSTSCRIPT = b"%!PS-Adobe-3.0 EPSF-3.0\n%%BoundingBox: 0 0 8 8\n%%EndComments\n0 0 8 8 rectfill showpage\n%%EOF\n"


def test_no_decoder_that_runs_programs_or_that_nobody_photographs_in(tmp_path, monkeypatch):
    from PIL import EpsImagePlugin

    def reached(*_, **__):
        raise AssertionError("the file reached Ghostscript")

    monkeypatch.setattr(EpsImagePlugin, "Ghostscript", reached)
    monkeypatch.setattr(EpsImagePlugin.EpsImageFile, "_open", reached)
    colours = Image.fromarray(PIXELS)
    (tmp_path / "run.jpg").write_bytes(POSTSCRIPT)
    for kind in ("EPS", "PCX", "TGA", "PPM", "ICO", "ICNS", "DDS", "SGI", "MSP", "XBM", "QOI", "PDF"):
        image = colours.convert("1") if kind in ("MSP", "XBM") else colours.resize((16, 16))
        image.save(tmp_path / f"{kind}.jpg", kind)
    for path in sorted(tmp_path.iterdir()):
        with pytest.raises(InputError, match="no picture of these formats: JPEG, PNG"):
            read_photo(path)


@pytest.mark.parametrize("kind", FORMATS)
def test_formats_of_photos_are_read_whatever_their_name(tmp_path, kind):
    smooth = np.linspace(40, 200, 16 * 16 * 3).reshape(16, 16, 3).astype(np.uint8)
    Image.fromarray(smooth).save(
        tmp_path / "a.jpg", kind, **({"quality": 95} if kind in ("JPEG", "WEBP", "AVIF") else {})
    )
    np.testing.assert_allclose(read_photo(tmp_path / "a.jpg"), smooth / 255, atol=0.06)


def _png(bits, colour, size, rows, chunks=b""):
    """A PNG of rows of bytes, each with its filter byte; ``colour`` as in its header."""

    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    header = chunk(b"IHDR", struct.pack(">IIBBBBB", *size, bits, colour, 0, 0, 0))
    return b"\x89PNG\r\n\x1a\n" + header + chunks + chunk(b"IDAT", zlib.compress(rows, 9)) + chunk(b"IEND", b"")


def _chunk(name, data):
    return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))


def test_a_transparent_photo_takes_little_more_than_its_result(tmp_path):
    side = 1500
    palette = _chunk(b"PLTE", bytes(range(6))) + _chunk(b"tRNS", b"\x80\xff")
    (tmp_path / "small.png").write_bytes(_png(1, 3, (side, side), bytes((side + 7) // 8 + 1) * side, palette))
    assert (tmp_path / "small.png").stat().st_size < 2000
    tracemalloc.start()
    found = read_photo(tmp_path / "small.png")
    # of what numpy allocates; Pillow has a byte, and four of a band, per pixel
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    np.testing.assert_allclose(found[0, 0], (np.array([0, 1, 2]) * 128 + 255 * 127) / 255**2, atol=1e-6)
    assert found.dtype == np.float32 and peak < 1.7 * found.nbytes + 40e6


def test_bombs_of_other_kinds(tmp_path):
    text = zlib.compress(bytes(20_000_000), 9)
    for name, start in ((b"zTXt", b"a\0\0"), (b"iTXt", b"a\0\1\0\0\0"), (b"iCCP", b"a\0\0")):
        (tmp_path / "text.png").write_bytes(_png(8, 2, (1, 1), bytes(4), _chunk(name, start + text)))
        with contextlib.suppress(InputError):
            assert read_photo(tmp_path / "text.png").shape == (1, 1, 3)
    Image.new("RGB", (2000, 2000)).save(tmp_path / "scans.jpg", progressive=True)
    content = (tmp_path / "scans.jpg").read_bytes()
    scan = content.rindex(b"\xff\xda")
    (tmp_path / "scans.jpg").write_bytes(content[:-2] + content[scan:-2] * 600 + content[-2:])
    with pytest.raises(InputError, match="scans of 2000 x 2000 pixels"):
        read_photo(tmp_path / "scans.jpg")
    tile = zlib.compress(bytes(100))
    entries = {256: 16, 257: 16, 258: 8, 259: 8, 262: 1, 277: 1, 322: 65520, 323: 65520, 324: 8, 325: len(tile)}
    (tmp_path / "tiles.tif").write_bytes(b"II*\0" + struct.pack("<I", 8 + len(tile)) + tile + _directory(entries))
    with pytest.raises(InputError, match="tiles of 65520 x 65520"):
        read_photo(tmp_path / "tiles.tif")


def _directory(entries, kind=4):
    """A TIFF directory of integers, or of two where ``kind`` is a rational's (its place stands in the entry)."""
    rows = b"".join(struct.pack("<HHII", tag, kind, 1, value) for tag, value in entries.items())
    return struct.pack("<H", len(entries)) + rows + bytes(4)


def test_a_damaged_tiff_is_one_line(tmp_path, capfd):
    Image.fromarray(np.random.default_rng(0).integers(0, 255, (40, 40, 3), np.uint8)).save(
        tmp_path / "a.tif", compression="tiff_deflate"
    )
    content = bytearray((tmp_path / "a.tif").read_bytes())
    content[60:2000] = bytes(1940)
    (tmp_path / "a.tif").write_bytes(content)
    with pytest.raises(InputError, match="a damaged one"):
        read_photo(tmp_path / "a.tif")
    print("heard", file=sys.stderr)
    assert capfd.readouterr().err == "heard\n"  # nothing that libtiff wrote past Python


def test_orientation_that_is_none(tmp_path, caplog):
    start = b"Exif\0\0II*\0\x08\0\0\0"
    rational = start + _directory({274: 26}, kind=5) + struct.pack("<II", 6, 1)
    others = [start + _directory({274: value}) for value in (0, 9, 2**32 - 1)]
    for exif in (
        rational,
        *others,
        start + _directory({274: 26}, kind=12) + struct.pack("<d", 6.5),
        start + _directory({274: 6}, kind=2),
    ):
        for name in ("a.png", "a.jpg", "a.webp"):
            Image.fromarray(PIXELS).save(tmp_path / name, exif=exif)
            assert read_photo(tmp_path / name).shape == (2, 3, 3)
    Image.fromarray(PIXELS).save(tmp_path / "a.png", exif=b"Exif\0\0XX*\xff\xff\xff\xff")
    assert read_photo(tmp_path / "a.png").shape == (2, 3, 3) and "metadata that cannot be read" in caplog.text


def test_twelve_bits_stored_in_sixteen(tmp_path, caplog):
    values = np.array([[0, 1000, 2000], [3000, 4000, 4095]], np.uint16)
    expected = (values / 4095)[..., None].repeat(3, axis=2)
    Image.fromarray(values).save(tmp_path / "a.png")
    with caplog.at_level(logging.WARNING):
        np.testing.assert_allclose(read_photo(tmp_path / "a.png"), expected, atol=1e-6)
    assert "no value above 4095 of 65535: taken as 12 bits" in caplog.text
    caplog.clear()
    rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in values)
    for bits, whole in ((12, 4095), (14, 16383), (16, 65535), (10, 4095)):  # 10 cannot be: the values do not fit
        (tmp_path / "a.png").write_bytes(_png(16, 0, (3, 2), rows, _chunk(b"sBIT", bytes([bits]))))
        np.testing.assert_allclose(
            read_photo(tmp_path / "a.png"), (values / whole)[..., None].repeat(3, axis=2), atol=1e-6
        )
    Image.fromarray(values * 16).save(tmp_path / "spread.png")
    np.testing.assert_allclose(
        read_photo(tmp_path / "spread.png"), (values * 16 / 65535)[..., None].repeat(3, axis=2), atol=1e-6
    )
    colours = values[..., None].repeat(3, axis=2)
    for factor in (16, 1):
        rows = b"".join(b"\0" + row.astype(">u2").tobytes() for row in colours * factor)
        (tmp_path / "colours.png").write_bytes(_png(16, 2, (3, 2), rows))
        if factor == 16:
            np.testing.assert_allclose(read_photo(tmp_path / "colours.png"), colours / 4095, atol=0.005)
        else:
            with pytest.raises(InputError, match="12 bits in 16"):
                read_photo(tmp_path / "colours.png")


def test_what_is_no_regular_file(tmp_path):
    os.mkfifo(tmp_path / "pipe.jpg")
    (tmp_path / "nothing.jpg").symlink_to("nowhere.jpg")
    (tmp_path / "circle.jpg").symlink_to("circle.jpg")
    for name, found in (
        ("pipe.jpg", "a pipe"),
        ("nothing.jpg", "a link to nothing"),
        ("circle.jpg", "links in a circle"),
    ):
        with pytest.raises(InputError, match=found):
            read_photo(tmp_path / name)


def test_heic_says_what_to_do(tmp_path):
    (tmp_path / "a.heic").write_bytes(b"\0\0\0\x18ftypheic\0\0\0\0mif1heic" + bytes(100))
    with pytest.raises(InputError, match="a HEIC picture; convert it to JPEG first"):
        read_photo(tmp_path / "a.heic")


def test_postscript_of_others():
    for path in real_data("cases/photo_eps").glob("*.jpg"):
        with pytest.raises(InputError, match="no picture of these formats"):
            read_photo(path)
