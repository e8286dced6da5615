"""MP4 files read back, what happens where there is no ffmpeg; videos as frames at an even rate, files that are none, or
that lead elsewhere."""

import logging
import os
import subprocess
import sys

import numpy as np
import pytest

from face4d.errors import InputError
from face4d.render import media as video
from face4d.render.media import executable, read_video, write_mp4

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


FRAMES = np.repeat(np.arange(10, 250, 24, dtype=np.uint8)[:, None, None, None], 3, axis=3) + np.zeros(
    (1, 48, 64, 1), np.uint8
)


def make(path, *options, frames=FRAMES, size="64x48"):
    """A video of ten grey frames, ten a second, by ffmpeg with further options."""
    start = [
        executable(),
        "-loglevel",
        "error",
        "-y",
        "-f",
        "rawvideo",
        "-pixel_format",
        "rgb24",
        "-video_size",
        size,
        "-framerate",
        "10",
        "-i",
        "pipe:0",
    ]
    subprocess.run([*start, *options, f"file:{path}"], input=frames.tobytes(), check=True)
    return path


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return make(tmp_path_factory.mktemp("video") / "plain.mp4")


def test_frames_come_at_the_rate_that_is_told(tmp_path):
    slower = "setpts='if(lt(N,5),N*0.1,0.5+(N-5)*0.3)/TB'"  # five frames 0.1 s apart, five 0.3 s apart
    varied = read_video(make(tmp_path / "varied.mp4", "-vf", slower, "-fps_mode", "vfr"))
    shown = [int(frame.mean().round()) for frame in varied.frames]
    assert varied.fps == 10 and 19 <= len(shown) <= 21  # the last one as long as ffmpeg takes it
    times = (np.abs(np.array(shown)[:, None] - FRAMES[:, 0, 0, 0]) < 8).sum(axis=0)
    assert (times[:4] == 1).all() and times[5:9].sum() >= 10  # shown three times as long, to a frame
    ntsc = read_video(make(tmp_path / "ntsc.mp4", "-r", "30000/1001"))
    assert ntsc.fps == 30000 / 1001 and len(list(ntsc.frames)) in (29, 30, 31)


def test_turned_and_tiny_videos(tmp_path, plain):
    turned = tmp_path / "turned.mp4"
    subprocess.run(
        [executable(), "-loglevel", "error", "-display_rotation", "90", "-i", plain, "-c", "copy", turned], check=True
    )
    assert next(read_video(turned).frames).shape == (64, 48, 3)
    tiny = read_video(
        make(tmp_path / "tiny.mkv", "-c:v", "ffv1", "-pix_fmt", "gray", frames=FRAMES[:2, :1, :1], size="1x1")
    )
    assert [frame.shape for frame in tiny.frames] == [(1, 1, 3)] * 2


def test_files_without_moving_pictures(tmp_path, plain):
    sound = ["-f", "lavfi", "-i", "sine=duration=0.3"]
    subprocess.run([executable(), "-loglevel", "error", *sound, tmp_path / "sound.m4a"], check=True)
    subprocess.run(
        [executable(), "-loglevel", "error", "-i", plain, "-frames:v", "1", tmp_path / "cover.png"], check=True
    )
    cover = [
        "-i",
        tmp_path / "cover.png",
        "-map",
        "0",
        "-map",
        "1",
        "-c:v",
        "mjpeg",
        "-disposition:v:0",
        "attached_pic",
    ]
    subprocess.run([executable(), "-loglevel", "error", *sound, *cover, tmp_path / "cover.m4a"], check=True)
    (tmp_path / "none.mp4").write_bytes(b"")
    (tmp_path / "cut.mp4").write_bytes(plain.read_bytes()[:-300])  # its index is at the end
    os.mkfifo(tmp_path / "pipe.mp4")
    said = {"sound.m4a": "no moving pictures", "cover.m4a": "no moving pictures", "none.mp4": "none that ffmpeg",
            "cut.mp4": "none that ffmpeg", "pipe.mp4": "a pipe", "no.mp4": "no such file", "": "a folder",
            "cover.png": "none that ffmpeg"}  # fmt: skip
    for name, found in said.items():
        with pytest.raises(InputError, match=f"expected a video .*found {found}"):
            read_video(tmp_path / name)


def test_lists_do_not_lead_to_other_files(tmp_path, plain):
    contents = {
        "list.mp4": f"ffconcat version 1.0\nfile '{plain}'\n",
        "list.m3u8": f"#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\n{plain}\n#EXT-X-ENDLIST\n",
        "list.mpd": '<?xml version="1.0"?><MPD '
        f'xmlns="urn:mpeg:dash:schema:mpd:2011"><Period><BaseURL>{plain}</BaseURL></Period></MPD>',
        "list.sdp": "v=0\no=- 0 0 IN IP4 127.0.0.1\nc=IN IP4 127.0.0.1\nm=video 9 RTP/AVP 96\na=rtpmap:96 H264/90000\n",
        "list.avi": "#EXTM3U\n#EXT-X-TARGETDURATION:1\n#EXTINF:1,\nhttp://127.0.0.1:9/a.mp4\n#EXT-X-ENDLIST\n",
    }
    for name, content in contents.items():
        (tmp_path / name).write_text(content)
        with pytest.raises(InputError, match="none that ffmpeg can read"):
            read_video(tmp_path / name)
    for address in (f"concat:{plain}|{plain}", f"file:{plain}", "http://127.0.0.1:9/a.mp4"):
        with pytest.raises(InputError, match="no such file"):
            read_video(address)


def test_odd_names_are_names(tmp_path, plain, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("-i.mp4", "concat:a|b.mp4", "%03d.mp4", "http:a.mp4", "a b'\".mp4"):
        os.symlink(plain, name)
        assert len(list(read_video(name).frames)) == 10
    os.mkdir("http:")
    write_mp4("http:/a.mp4", FRAMES)
    assert os.listdir("http:") == ["a.mp4"]


def test_a_cut_video_gives_what_is_there_and_says_so(tmp_path, caplog):
    noise = np.random.default_rng(0).integers(0, 255, FRAMES.shape[:3] + (3,), dtype=np.uint8)
    content = make(tmp_path / "whole.mp4", "-movflags", "+faststart", "-g", "1", frames=noise).read_bytes()
    (tmp_path / "cut.mp4").write_bytes(content[: len(content) * 2 // 3])
    with caplog.at_level(logging.WARNING):
        assert 0 < len(list(read_video(tmp_path / "cut.mp4").frames)) <= 10
    assert "cut.mp4: ffmpeg read" in caplog.text and "0x" not in caplog.text.split("says: ")[1].split(" ")[0]


def test_an_ffmpeg_that_hangs_is_ended(tmp_path, plain, monkeypatch):
    (tmp_path / "ffmpeg").write_text("#!/bin/sh\nexec sleep 100\n")
    (tmp_path / "ffmpeg").chmod(0o755)
    monkeypatch.setenv("IMAGEIO_FFMPEG_EXE", str(tmp_path / "ffmpeg"))
    monkeypatch.setattr(video, "SECONDS", 0.2)
    with pytest.raises(InputError, match="made no picture in 0.2 seconds"):
        read_video(plain)
