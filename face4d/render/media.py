"""Moving pictures as files: animated GIFs by Pillow; MP4 written, frames of any video read, by imageio-ffmpeg's ffmpeg.

ffmpeg opens whatever a file tells it to: playlists and lists of files name other files and addresses. So only formats
that hold their pictures themselves are tried, and nothing but files is opened.
"""

from __future__ import annotations

import contextlib
import errno
import io
import logging
import os
import re
import signal
import struct
import subprocess
import tempfile
import threading
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path
from typing import IO, NamedTuple

import numpy as np
from PIL import Image

from face4d.errors import InputError
from face4d.runtime.atomic import replacing, write_bytes
from face4d.runtime.files import open_file

log = logging.getLogger(__name__)

MAX_FPS = 50  # browsers slow faster files down
_LONGEST = 65535  # hundredths of a second that one picture of a file can be shown

_GREY = np.repeat(np.arange(256, dtype=np.uint8)[:, None], 3, axis=1)


def write_gif(path: str | Path, frames: np.ndarray, *, fps: float = 25, palette: np.ndarray | None = None) -> None:
    """Write an endlessly looping GIF, whole or not at all.

    Every frame after the first stores the rectangle that changed, with unchanged pixels transparent; a frame like the
    one before it makes that one stay longer. Up to 255 colours are kept exactly; more are reduced, see
    :func:`quantise`.

    Args:
        path: file to write.
        frames: (T, H, W, 3) uint8 RGB, or (T, H, W) uint8: grey levels, or indices into ``palette``.
        fps: frames per second, at most ``MAX_FPS``. GIF times are hundredths of a second; rounding does not accumulate.
        palette: (K, 3) uint8 RGB colours of ``frames`` when these are indices.

    Raises:
        InputError: a picture that stays for longer than a GIF can say, 655 seconds.
        ValueError: another shape or type, no frames, or ``fps`` out of range.
    """
    frames = np.asarray(frames)
    if not 100 / _LONGEST < fps <= MAX_FPS:
        raise ValueError(f"fps: expected above {100 / _LONGEST:.2g} and at most {MAX_FPS}, found {fps}")
    if (
        frames.dtype != np.uint8
        or frames.ndim not in (3, 4)
        or (frames.ndim == 4 and frames.shape[3] != 3)
        or 0 in frames.shape
    ):
        raise ValueError(f"frames: expected (T, H, W, 3) or (T, H, W) uint8, found {frames.shape} {frames.dtype}")
    if frames.ndim == 4:
        indices, palette = quantise(frames)
    else:
        indices, palette = frames, _GREY if palette is None else np.asarray(palette, np.uint8)
        if (
            palette.ndim != 2
            or palette.shape[1] != 3
            or not 0 < len(palette) <= 256
            or int(indices.max()) >= len(palette)
        ):
            found = f"{palette.shape}, largest index {indices.max()}"
            raise ValueError(f"palette: expected (K, 3) colours for all indices, found {found}")
    pictures = []
    for frame in indices:
        pictures.append(Image.fromarray(frame))
        pictures[-1].putpalette(palette.tobytes())
    ticks = np.round(np.arange(len(indices) + 1) * 100 / fps).astype(int)
    file = io.BytesIO()
    try:
        pictures[0].save(
            file,
            "GIF",
            save_all=True,
            append_images=pictures[1:],
            duration=(10 * np.diff(ticks)).tolist(),  # milliseconds
            loop=0,
            disposal=1,  # a frame is drawn over the one before it
            optimize=True,
        )
    except (struct.error, OverflowError):  # of one release of Pillow and another
        raise InputError(
            path, f"a GIF in which no picture stays longer than {_LONGEST // 100} seconds", "one that does"
        ) from None
    write_bytes(path, file.getvalue())


_SHARE = 0.75  # power of a colour's pixels by which it counts in a palette


def quantise(frames: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Palette indices (T, H, W) uint8 and palette (K, 3) uint8, K <= 255, of RGB frames (T, H, W, 3).

    One palette for all frames, so that colours do not flicker; exact for up to 255 colours. More are chosen by median
    cut over the colours of every second pixel of every second row, each counted by a power below 1 of its pixels: teeth
    and eyes are small, and would else get the colours of skin.
    """
    tall = Image.fromarray(frames.reshape(-1, *frames.shape[2:]))  # all frames, one below the other
    if tall.getcolors(255):
        reduced = tall.quantize(255, method=Image.Quantize.MEDIANCUT, dither=Image.Dither.NONE)
    else:
        some = frames[:, ::2, ::2]
        red, green, blue = (some[..., channel].ravel().astype(np.int32) for channel in range(3))
        block = (red >> 2) << 12 | (green >> 2) << 6 | blue >> 2  # of colours that count together
        pixels = np.bincount(block)
        blocks = np.flatnonzero(pixels)
        levels = np.stack([np.bincount(block, channel)[blocks] / pixels[blocks] for channel in (red, green, blue)], 1)
        levels, most = levels.round().astype(np.uint8), pixels[blocks].argmax()
        counts = np.ceil(pixels[blocks] ** _SHARE).astype(int)
        counts[most] = 0  # the background: it gets a colour of its own, the 255th
        cut = Image.fromarray(np.repeat(levels, counts, axis=0)[None]).quantize(254, method=Image.Quantize.MEDIANCUT)
        colours = np.zeros((255, 3), np.uint8) + levels[most]
        found = np.array(cut.getpalette(), np.uint8).reshape(-1, 3)[:254]
        colours[: len(found)] = found
        chosen = Image.new("P", (1, 1))
        chosen.putpalette(colours.tobytes())
        indices = np.array(tall.quantize(palette=chosen, dither=Image.Dither.NONE)).reshape(frames.shape[:3])
        indices[(frames == levels[most]).all(axis=3)] = 254  # Pillow takes colours that differ little for one
        return indices, colours
    palette = np.array(reduced.getpalette(), np.uint8).reshape(-1, 3)[:255]
    return np.asarray(reduced).reshape(frames.shape[:3]), palette


SECONDS = 60  # to wait for a frame that is read
_PROGRAM = "the program ffmpeg (pip install imageio-ffmpeg brings it, or name one in the variable IMAGEIO_FFMPEG_EXE)"
_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # ffmpeg's words for these are the system's
_BT709 = "colorspace=bt709:color_primaries=bt709:color_trc=bt709"
_EXPECTED = "a video (MP4, MOV, ...)"
_FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,mxf,dv,ivf,gif,apng,nut"
_MAX_PIXELS = 36_000_000  # of a frame: 8K; decoders keep some twenty of them
_MAX_FPS = 240  # files with a time for every frame have no rate of their own, and may name clocks of 90000 per second
_HEADER = re.compile(rb"YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)[ \n]")  # https://wiki.multimedia.cx/index.php/YUV4MPEG2


def executable() -> str:
    """Path of the ffmpeg that imageio-ffmpeg brings along, or names.

    Raises:
        InputError: none; says how to get it.
    """
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise InputError("ffmpeg", _PROGRAM, "none") from None


def write_mp4(path: str | Path, frames: Iterable[np.ndarray], *, fps: float = 25, quality: int = 18) -> None:
    """Write an H.264 video that every browser and player shows, whole or not at all.

    Frames are piped one by one, so they may be made while they are written. Colours are stored as yuv420p (BT.709),
    which needs even sides: an odd side gets its last row or column twice. The index lies at the beginning of the file
    (faststart).

    Args:
        path: file to write.
        frames: (H, W, 3) uint8 RGB pictures of one size.
        fps: frames per second.
        quality: constant rate factor of x264, 0 (lossless) to 51; 18 looks the same as the pictures.

    Raises:
        InputError: ffmpeg is missing or fails; the message has its last line.
        OSError: the disk is full.
        ValueError: no frames, or frames of another shape or type than the first.
    """
    if not fps > 0:
        raise ValueError(f"fps: expected above 0, found {fps}")
    pictures = _checked(frames)
    first = next(pictures)
    height, width, _ = first.shape
    options = [
        "-y", "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-framerate", f"{fps:g}",
        "-i", "pipe:0", "-an", "-c:v", "libx264", "-crf", str(quality), "-vf",
        f"scale=out_color_matrix=bt709:out_range=tv,setparams={_BT709}", "-pix_fmt", "yuv420p", "-movflags",
        "+faststart", "-f", "mp4",
    ]  # fmt: skip
    with replacing(path) as temporary, _ffmpeg([*options, f"file:{temporary}"]) as ffmpeg:
        with contextlib.suppress(BrokenPipeError), ffmpeg.stdin as pipe:  # of an ffmpeg that gave up: its words below
            for picture in chain([first], pictures):
                pipe.write(picture.tobytes())
        if code := ffmpeg.process.wait():
            lines = _said(ffmpeg.complaints)
            full = [
                number
                for number in _DISK
                if code == -signal.SIGXFSZ or any(os.strerror(number) in line for line in lines)
            ]
            if full:
                raise OSError(full[0], os.strerror(full[0]), str(path))
            raise InputError(path, "a video written by ffmpeg", lines[-1] if lines else f"its exit code {code}")


def _checked(frames: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    """The frames, with even sides."""
    shape = None
    for frame in frames:
        frame = np.asarray(frame)
        if (
            frame.dtype != np.uint8
            or frame.ndim != 3
            or frame.shape[2] != 3
            or 0 in frame.shape
            or frame.shape != (shape or frame.shape)
        ):
            raise ValueError(f"frames: expected {shape or '(H, W, 3)'} uint8, found {frame.shape} {frame.dtype}")
        shape = frame.shape
        yield np.pad(frame, ((0, shape[0] % 2), (0, shape[1] % 2), (0, 0)), mode="edge")
    if shape is None:
        raise ValueError("frames: expected at least one, found none")


class Video(NamedTuple):
    """A video being read: its frames (H, W, 3) uint8 one by one, and their number per second."""

    frames: Iterator[np.ndarray]
    fps: float


def read_video(path: str | Path) -> Video:
    """Open a video; frames come turned upright as players show them, at an even rate: where the file has a time for
    every frame, frames are repeated or left out so that they are shown when they should be.

    Raises:
        InputError: no regular file, none that ffmpeg can read, or one without pictures (but a cover); also while frames
            are taken.
    """
    os.close(open_file(path, _EXPECTED))
    with _decoding(path, "-frames:v", "1", "-pix_fmt", "gray", "-f", "yuv4mpegpipe") as ffmpeg:
        start = _read(path, ffmpeg, 2 * _MAX_PIXELS)  # one frame, to the end
        header = _HEADER.match(start)
        width, height, numerator, denominator = map(int, header.groups()) if header else (0, 0, 0, 0)
        if not (width and height and numerator and denominator):
            raise InputError(path, _EXPECTED, _why_none(ffmpeg.complaints))
    return Video(_frames(path, width, height), numerator / denominator)


def _frames(path: str | Path, width: int, height: int) -> Iterator[np.ndarray]:
    size = width * height * 3
    with _decoding(path, "-pix_fmt", "rgb24", "-f", "rawvideo") as ffmpeg:
        count = 0
        while data := _read(path, ffmpeg, size):
            if len(data) < size:
                raise InputError(path, "a whole video", f"{count} frames and a part of one")
            count += 1
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
        if said := _said(ffmpeg.complaints):
            log.warning("note: %s: ffmpeg read %d frames and says: %s", path, count, said[-1])


def _decoding(path: str | Path, *output: str) -> contextlib.AbstractContextManager[_Ffmpeg]:
    """ffmpeg that writes the first stream of moving pictures of a file into a pipe."""
    options = [
        "-protocol_whitelist", "file", "-format_whitelist", _FORMATS, "-max_pixels", str(_MAX_PIXELS), "-i",
        f"file:{Path(path).absolute()}", "-map", "0:V:0", "-fps_mode", "cfr", "-fpsmax", str(_MAX_FPS), *output,
        "pipe:1",
    ]  # fmt: skip
    return _ffmpeg(options)


class _Ffmpeg(NamedTuple):
    """ffmpeg running: pipes into and out of it, and where it complains."""

    process: subprocess.Popen[bytes]
    stdin: IO[bytes]
    stdout: IO[bytes]
    complaints: IO[bytes]


@contextlib.contextmanager
def _ffmpeg(options: list[str]) -> Iterator[_Ffmpeg]:
    """ffmpeg, ended on leaving."""
    command = [executable(), "-hide_banner", "-loglevel", "error", "-nostdin", *options]
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=complaints)
        except OSError as error:
            raise InputError(command[0], _PROGRAM, error.strerror or "one that does not start") from None
        assert process.stdin and process.stdout  # asked for above
        try:
            yield _Ffmpeg(process, process.stdin, process.stdout, complaints)
        finally:
            process.kill()
            for pipe in (process.stdin, process.stdout):
                with contextlib.suppress(BrokenPipeError):
                    pipe.close()
            process.wait()


def _read(path: str | Path, ffmpeg: _Ffmpeg, size: int) -> bytes:
    """The next bytes, fewer at the end; an ffmpeg that says nothing for ``SECONDS`` is ended."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        ffmpeg.process.kill()

    timer = threading.Timer(SECONDS, stop)
    timer.daemon = True
    timer.start()
    try:
        data = ffmpeg.stdout.read(size)
    finally:
        timer.cancel()
    if late.is_set():
        raise InputError(path, _EXPECTED, f"one of which ffmpeg made no picture in {SECONDS} seconds")
    return data


def _why_none(complaints: IO[bytes]) -> str:
    said = _said(complaints)
    if any("matches no streams" in line for line in said):
        return "no moving pictures in it (sound, or a cover picture)"
    return f"none that ffmpeg can read ({said[0][:120]})" if said else "one without a frame"


def _said(complaints: IO[bytes]) -> list[str]:
    """Lines that ffmpeg wrote, without the addresses it puts before them."""
    complaints.seek(0)
    lines = complaints.read(1 << 16).decode("utf-8", "replace").splitlines()
    return [text for line in lines if (text := re.sub(r"^\[[^\]]* @ 0x[0-9a-f]+\] ", "", line).strip())]
