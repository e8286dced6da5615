"""Frames of a video file in, pictures as a video file out, by ffmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from face4d.errors import InputError
from face4d.runtime.atomic import replacing

EXTENSIONS = (".mp4", ".mov", ".avi", ".mkv", ".webm", ".m4v", ".mpg", ".gif")


class Video(NamedTuple):
    """A video being read: its frames (H, W, 3) uint8 one by one, and their number per second."""

    frames: Iterator[np.ndarray]
    fps: float


def read_video(path: str | Path) -> Video:
    """Open a video; frames come turned upright as players show them.

    Raises:
        InputError: no such file, or none that ffmpeg can read; also while frames are taken.
    """
    import imageio_ffmpeg

    if not Path(path).is_file():
        raise InputError(path, "a video (MP4, MOV, ...)", "a folder" if Path(path).is_dir() else "no such file")
    reader = imageio_ffmpeg.read_frames(str(path))
    try:
        about = next(reader)
    except (OSError, RuntimeError, StopIteration) as error:
        reason = (str(error).strip().splitlines() or ["no frames"])[-1][:120]
        raise InputError(path, "a video (MP4, MOV, ...)", f"none that ffmpeg can read ({reason})") from None
    width, height = about["size"]

    def frames() -> Iterator[np.ndarray]:
        try:
            for data in reader:
                yield np.frombuffer(data, np.uint8).reshape(height, width, 3)
        except (OSError, RuntimeError) as error:
            raise InputError(path, "a whole video", f"a damaged one ({(str(error).splitlines() or [''])[0][:120]})") from None
        finally:
            reader.close()

    return Video(frames(), float(about["fps"]))


def write_video(path: str | Path, frames: Iterator[np.ndarray], fps: float) -> Path:
    """Write frames (H, W, 3) uint8 of one size as MP4 (H.264), whole or not at all; an odd last row or column is left out.

    Raises:
        InputError: no frames.
    """
    import imageio_ffmpeg

    with replacing(path) as temporary:
        writer = None
        try:
            for frame in frames:
                frame = np.ascontiguousarray(frame[: len(frame) // 2 * 2, : frame.shape[1] // 2 * 2])
                if writer is None:
                    size = (frame.shape[1], frame.shape[0])
                    writer = imageio_ffmpeg.write_frames(str(temporary), size, fps=fps, quality=7, macro_block_size=2)
                    writer.send(None)
                writer.send(frame)
        finally:
            if writer is not None:
                writer.close()
        if writer is None:
            raise InputError(path, "at least one frame", "none")
    return Path(path)
