"""MP4 files read back, and what happens where there is no ffmpeg."""

import sys

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.render.video import write_mp4

imageio_ffmpeg = pytest.importorskip("imageio_ffmpeg")


def read(path):
    reader = imageio_ffmpeg.read_frames(str(path))
    meta = next(reader)
    width, height = meta["size"]
    return meta, np.stack([np.frombuffer(frame, np.uint8).reshape(height, width, 3) for frame in reader])


def ramp(frames, height, width):
    """Grey pictures, each with one brighter half; the whole grows brighter."""
    pictures = np.repeat(np.linspace(20, 200, frames).astype(np.uint8), height * width * 3).reshape(
        frames, height, width, 3
    )
    pictures[:, :, width // 2 :] += 40
    return pictures


def test_frames_come_back(tmp_path):
    pictures = ramp(7, 48, 64)
    write_mp4(tmp_path / "a.mp4", iter(pictures), fps=12.5)
    meta, frames = read(tmp_path / "a.mp4")
    assert meta["fps"] == 12.5 and meta["pix_fmt"].startswith("yuv420p") and meta["codec"] == "h264"
    assert frames.shape == pictures.shape
    assert np.abs(frames.astype(int) - pictures).mean() < 2.5
    data = (tmp_path / "a.mp4").read_bytes()
    assert data.index(b"moov") < data.index(b"mdat")  # playable before it is all there


def test_odd_sides_become_even(tmp_path):
    pictures = ramp(2, 31, 45)
    write_mp4(tmp_path / "a.mp4", pictures)
    meta, frames = read(tmp_path / "a.mp4")
    assert meta["size"] == (46, 32)
    assert np.abs(frames[:, :31, :45].astype(int) - pictures).mean() < 2.5


def test_colours_stay(tmp_path):
    pictures = np.tile(np.uint8([200, 60, 30]), (2, 32, 32, 1))
    write_mp4(tmp_path / "a.mp4", pictures)
    assert np.abs(read(tmp_path / "a.mp4")[1].astype(int) - [200, 60, 30]).max() < 8


@pytest.mark.parametrize(
    ("frames", "words"),
    [
        ([], "at least one"),
        ([np.zeros((4, 4, 3))], "uint8"),
        ([np.zeros((4, 4, 3), np.uint8), np.zeros((6, 4, 3), np.uint8)], r"\(4, 4, 3\)"),
    ],
)
def test_wrong_frames_leave_no_file(tmp_path, frames, words):
    with pytest.raises(ValueError, match=words):
        write_mp4(tmp_path / "a.mp4", frames)
    assert not list(tmp_path.iterdir())


def test_no_ffmpeg_is_one_clear_line(tmp_path, monkeypatch):
    picture = np.zeros((1, 16, 16, 3), np.uint8)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "nowhere"))
    with pytest.raises(InputError, match="pip install imageio-ffmpeg"):
        write_mp4(tmp_path / "a.mp4", picture)
    broken = tmp_path / "ffmpeg"
    broken.write_text("#!/bin/sh\ncat > /dev/null\necho out of luck >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(broken))
    with pytest.raises(InputError, match="out of luck"):
        write_mp4(tmp_path / "a.mp4", picture)
    monkeypatch.setitem(sys.modules, "imageio_ffmpeg", None)
    with pytest.raises(InputError, match="expected the program ffmpeg .* found none"):
        write_mp4(tmp_path / "a.mp4", picture)
    assert [path.name for path in tmp_path.iterdir()] == ["ffmpeg"]
