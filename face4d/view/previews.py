"""Preview pictures of landmark files."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from pathlib import Path

from face4d.datasets.extraction import LandmarkFile, preview_path
from face4d.runtime.arrays import load_numbers
from face4d.runtime.resume import State, Summary, write_missing
from face4d.view.landmark_view import landmark_gif


def write_previews(files: Sequence[LandmarkFile], *, fps: float, overwrite: bool = False, workers: int = 1, quiet: bool = False) -> Summary:
    """Draw a GIF of each landmark file at :func:`preview_path`; one that is newer than its landmarks is kept.

    Raises:
        InputError: an older GIF without ``overwrite``.
    """
    draw, folder = partial(_draw, fps=fps), preview_path(files[0]).parents[1]
    return write_missing(
        folder, files, _inspect, draw, overwrite=overwrite, dry_run=False, workers=workers, description="preview GIFs", quiet=quiet
    )


def _inspect(file: LandmarkFile) -> State:
    path = preview_path(file)
    if not path.exists():
        return State(1, 0)
    newer = path.stat().st_mtime_ns >= Path(file.target).stat().st_mtime_ns
    return State(0, 1) if newer else State(0, 0, (str(path),))


def _draw(file: LandmarkFile, fps: float) -> int:
    landmarks = load_numbers(file.target, "landmarks")
    landmark_gif(preview_path(file), landmarks, title=preview_path(file).stem, fps=fps)
    return 1
