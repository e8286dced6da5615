"""Where the program ffmpeg is."""

from __future__ import annotations

from face4d.errors import InputError

INSTALL = "the program ffmpeg (pip install imageio-ffmpeg brings it, or name one in the variable IMAGEIO_FFMPEG_EXE)"


def executable() -> str:
    """Path of the ffmpeg that imageio-ffmpeg brings along, or names.

    Raises:
        InputError: none; says how to get it.
    """
    try:
        from imageio_ffmpeg import get_ffmpeg_exe

        return get_ffmpeg_exe()
    except (ImportError, RuntimeError):
        raise InputError("ffmpeg", INSTALL, "none") from None
