"""Mesh sequences to landmark files, split by subject."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from face4d.datasets.layout import TEST_FOLDER, TRAIN_FOLDER
from face4d.datasets.mesh_set import find_mesh_sequences, split_by_subject
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, extract_files, load_embedding, load_flame_embedding
from face4d.mesh.sequence import find_sequences, frame_paths
from face4d.runtime.atomic import save_npy
from face4d.runtime.resume import State, Summary, write_missing


@dataclass(frozen=True)
class LandmarkFile:
    """One landmark file to be: frames in ``source``, landmarks at ``target``; ``other`` is its place in the other half of the split."""

    source: str
    target: str
    other: str


def choose_embedding(flame: str | Path, own: str | Path | None, contour_angle: float = 0.0) -> LandmarkEmbedding:
    """The embedding of one's own topology where a file is given, else that of the FLAME folder.

    Raises:
        InputError: see :func:`load_embedding` and :func:`load_flame_embedding`.
    """
    if own is not None:
        return load_embedding(own).at_contour_angle(contour_angle)
    return load_flame_embedding(flame, contour_angle)


def plan_landmarks(
    source: str | Path,
    target: str | Path,
    *,
    test_subjects: Sequence[str],
    labels: Sequence[str] | None = None,
    strict_subjects: bool = True,
    strict_labels: bool = True,
) -> tuple[list[LandmarkFile], list[LandmarkFile]]:
    """Landmark files of the training and of the test set for all PLY sequences below ``source``.

    Args:
        target: gets ``dataset_training`` and ``dataset_testing`` with ``<label>_<subject>.npy``.
        labels, strict_labels: see :func:`find_mesh_sequences`.
        test_subjects, strict_subjects: see :func:`split_by_subject`.

    Raises:
        InputError: see those two; also OBJ sequences without PLY ones.
    """
    try:
        sequences = find_mesh_sequences(source, labels=labels, strict=strict_labels)
    except InputError:
        _explain_obj(source)
        raise
    halves = split_by_subject(sequences, test_subjects, source, strict=strict_subjects)
    folders = Path(target, TRAIN_FOLDER), Path(target, TEST_FOLDER)
    train, test = (
        [LandmarkFile(str(s.folder), str(own / f"{s.name}.npy"), str(other / f"{s.name}.npy")) for s in half]
        for half, own, other in zip(halves, folders, folders[::-1])
    )
    return train, test


def _explain_obj(source: str | Path) -> None:
    """OBJ sequences without any PLY sequence: say which step comes first."""
    for suffix in (".ply", ".obj"):
        try:
            find_sequences(source, suffix)
        except InputError:
            continue
        if suffix == ".obj":
            raise InputError(source, "PLY sequences (convert_obj_to_ply.py makes them)", "only OBJ ones") from None
        return


def write_landmarks(
    files: Sequence[LandmarkFile],
    embedding: LandmarkEmbedding,
    *,
    overwrite: bool = False,
    dry_run: bool = False,
    workers: int = 1,
    quiet: bool = False,
) -> Summary:
    """Extract and write landmark files, (T, 68, 3) float32 in the unit of the meshes.

    Existing files are compared with what the meshes give now; equal ones are kept.

    Raises:
        InputError: an unreadable frame, a gap in the frame numbers, another topology; a file of other content, or of the same name in the
            other half of the split, without ``overwrite`` (which replaces the first and removes the second).
    """
    return write_missing(
        files,
        partial(_inspect, embedding=embedding),
        partial(_write, embedding=embedding),
        overwrite=overwrite,
        dry_run=dry_run,
        workers=workers,
        description="landmarks",
        quiet=quiet,
    )


def _inspect(file: LandmarkFile, embedding: LandmarkEmbedding) -> State:
    paths = frame_paths(file.source)
    if Path(file.other).exists():
        return State(0, 0, (file.other,))
    if not Path(file.target).exists():
        return State(1, 0)
    return State(0, 1) if _is_equal(file, extract_files(embedding, paths)) else State(0, 0, (file.target,))


def _is_equal(file: LandmarkFile, landmarks: np.ndarray) -> bool:
    try:
        return bool(np.array_equal(np.load(file.target, allow_pickle=False), landmarks))
    except (ValueError, OSError, EOFError):
        return False


def _write(file: LandmarkFile, embedding: LandmarkEmbedding) -> int:
    save_npy(file.target, extract_files(embedding, frame_paths(file.source)))
    Path(file.other).unlink(missing_ok=True)
    return 1


def preview_path(file: LandmarkFile) -> Path:
    """Where the preview GIF of a landmark file goes: ``previews/<half>/<name>.gif`` beside the halves."""
    target = Path(file.target)
    return target.parents[1] / "previews" / target.parent.name / f"{target.stem}.gif"
