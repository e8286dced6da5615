"""Frames of video files, by ffmpeg.

ffmpeg opens whatever a file tells it to: playlists and lists of files name other files and addresses. So only formats
that hold their pictures themselves are tried, and nothing but files is opened.
"""

from __future__ import annotations

import contextlib
import logging
import os
import re
import subprocess
import tempfile
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import IO, BinaryIO, NamedTuple

import numpy as np

from face4d.errors import InputError
from face4d.render.ffmpeg import INSTALL, executable
from face4d.runtime.files import open_file

log = logging.getLogger(__name__)

SECONDS = 60  # to wait for a frame
_EXPECTED = "a video (MP4, MOV, ...)"
_FORMATS = "mov,matroska,avi,mpegts,mpeg,mpegvideo,m4v,h264,hevc,flv,asf,ogg,mxf,dv,ivf,gif,apng,nut"
_MAX_PIXELS = 36_000_000  # of a frame: 8K; decoders keep some twenty of them
_MAX_FPS = 240  # files with a time for every frame have no rate of their own, and may name clocks of 90000 per second
_HEADER = re.compile(rb"YUV4MPEG2 W(\d+) H(\d+) F(\d+):(\d+)[ \n]")  # https://wiki.multimedia.cx/index.php/YUV4MPEG2


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
    with _ffmpeg(path, "-frames:v", "1", "-pix_fmt", "gray", "-f", "yuv4mpegpipe") as (process, complaints):
        start = _read(path, process, 2 * _MAX_PIXELS)  # one frame, to the end
        header = _HEADER.match(start)
        width, height, numerator, denominator = map(int, header.groups()) if header else (0, 0, 0, 0)
        if not (width and height and numerator and denominator):
            raise InputError(path, _EXPECTED, _why_none(complaints))
    return Video(_frames(path, width, height), numerator / denominator)


def _frames(path: str | Path, width: int, height: int) -> Iterator[np.ndarray]:
    size = width * height * 3
    with _ffmpeg(path, "-pix_fmt", "rgb24", "-f", "rawvideo") as (process, complaints):
        count = 0
        while data := _read(path, process, size):
            if len(data) < size:
                raise InputError(path, "a whole video", f"{count} frames and a part of one")
            count += 1
            yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
        if said := _said(complaints):
            log.warning("note: %s: ffmpeg read %d frames and says: %s", path, count, said[-1])


@contextlib.contextmanager
def _ffmpeg(path: str | Path, *output: str) -> Iterator[tuple[subprocess.Popen[bytes], BinaryIO]]:
    """ffmpeg that writes the first stream of moving pictures of a file into a pipe, and where it complains; ended on
    leaving."""
    command = [
        executable(), "-hide_banner", "-loglevel", "error", "-nostdin", "-protocol_whitelist", "file", "-format_whitelist", _FORMATS,
        "-max_pixels", str(_MAX_PIXELS), "-i", f"file:{Path(path).absolute()}",
        "-map", "0:V:0", "-fps_mode", "cfr", "-fpsmax", str(_MAX_FPS), *output, "pipe:1",
    ]  # fmt: skip
    with tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=complaints)
        except OSError as error:
            raise InputError(command[0], INSTALL, error.strerror or "one that does not start") from None
        try:
            yield process, complaints
        finally:
            process.kill()
            _pipe(process).close()
            process.wait()


def _pipe(process: subprocess.Popen[bytes]) -> IO[bytes]:
    assert process.stdout is not None  # it was started with a pipe
    return process.stdout


def _read(path: str | Path, process: subprocess.Popen[bytes], size: int) -> bytes:
    """The next bytes, fewer at the end; an ffmpeg that says nothing for ``SECONDS`` is ended."""
    late = threading.Event()

    def stop() -> None:
        late.set()
        process.kill()

    timer = threading.Timer(SECONDS, stop)
    timer.daemon = True
    timer.start()
    try:
        data = _pipe(process).read(size)
    finally:
        timer.cancel()
    if late.is_set():
        raise InputError(path, _EXPECTED, f"one of which ffmpeg made no picture in {SECONDS} seconds")
    return data


def _why_none(complaints: BinaryIO) -> str:
    said = _said(complaints)
    if any("matches no streams" in line for line in said):
        return "no moving pictures in it (sound, or a cover picture)"
    return f"none that ffmpeg can read ({said[0][:120]})" if said else "one without a frame"


def _said(complaints: BinaryIO) -> list[str]:
    """Lines that ffmpeg wrote, without the addresses it puts before them."""
    complaints.seek(0)
    lines = complaints.read(1 << 16).decode("utf-8", "replace").splitlines()
    return [text for line in lines if (text := re.sub(r"^\[[^\]]* @ 0x[0-9a-f]+\] ", "", line).strip())]
