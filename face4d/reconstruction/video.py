"""Frames of video files, by ffmpeg."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import numpy as np

from face4d.errors import InputError


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
