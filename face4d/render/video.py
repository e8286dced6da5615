"""MP4 videos through the ffmpeg that imageio-ffmpeg brings along."""

from __future__ import annotations

import errno
import os
import signal
import subprocess
import tempfile
from collections.abc import Iterable, Iterator
from itertools import chain
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.render.ffmpeg import INSTALL, executable
from face4d.runtime.atomic import replacing

__all__ = ["write_mp4"]

_DISK = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)  # ffmpeg's words for these are the system's
_BT709 = "colorspace=bt709:color_primaries=bt709:color_trc=bt709"


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
    command = [
        executable(), "-hide_banner", "-loglevel", "error", "-nostdin", "-y",
        "-f", "rawvideo", "-pixel_format", "rgb24", "-video_size", f"{width}x{height}", "-framerate", f"{fps:g}", "-i", "pipe:0",
        "-an", "-c:v", "libx264", "-crf", str(quality), "-vf", f"scale=out_color_matrix=bt709:out_range=tv,setparams={_BT709}", "-pix_fmt", "yuv420p",
        "-movflags", "+faststart", "-f", "mp4",
    ]  # fmt: skip
    with replacing(path) as temporary, tempfile.TemporaryFile() as complaints:
        try:
            process = subprocess.Popen(
                [*command, f"file:{temporary}"], stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, stderr=complaints
            )
        except OSError as error:
            raise InputError(command[0], INSTALL, error.strerror or "one that does not start") from None
        try:
            with process.stdin:
                for picture in chain([first], pictures):
                    process.stdin.write(picture.tobytes())
        except BrokenPipeError:
            pass  # ffmpeg gave up; its own words come below
        except BaseException:
            process.kill()
            raise
        finally:
            code = process.wait()
        if code:
            complaints.seek(0)
            lines = complaints.read().decode("utf-8", "replace").strip().splitlines()
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
