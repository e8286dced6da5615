"""What the commands that reconstruct photos share: what results follow from, and what is said of many photos."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.errors import InputError

if TYPE_CHECKING:
    from tqdm import tqdm

    from face4d.runtime.progress import Lines


def photo_digest(path: Path) -> str | None:
    """A digest of a photo's or video's content; None of one that cannot be read, of which its reader says why."""
    from face4d.runtime.incremental import file_digest

    try:
        return file_digest(path)
    except InputError:
        return None


def report_photo(bar: tqdm[Any] | Lines[Any], path: Path, error: float) -> None:
    """Print how far the landmarks of a photo lie from the true ones (NME), beside a bar that is shown."""
    from face4d.runtime.progress import Lines, share

    line = f"{path}: NME {share(error)} of the outer eye distance"
    if isinstance(bar, Lines):
        print(line, flush=True)
    else:
        bar.write(line)


def report_photos(output: Path, skipped: Sequence[str], errors: Sequence[float], folders: Sequence[Path]) -> None:
    """Print which photos were left out and why, and how far landmarks lie from the true ones.

    Args:
        output: folder of all results.
        skipped: a sentence for each photo left out.
        errors: landmark errors (NME), shares of the outer eye distance, of the photos whose landmarks are known.
        folders: results there are.

    Raises:
        InputError: no results at all.
    """
    from face4d.runtime.progress import counted, share

    for line in skipped:
        print(f"left out: {line}")
    if errors:
        mean, median = sum(errors) / len(errors), sorted(errors)[len(errors) // 2]
        print(
            f"NME of {counted(len(errors), 'photo')}: mean {share(mean)}, "
            f"median {share(median)} of the outer eye distance"
        )
    if not folders:
        raise InputError(output, "at least one photo with a face", f"none of {len(skipped)}")
