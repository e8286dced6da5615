"""Mesh sequences to landmark files, split by subject."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from face4d.datasets.layout import TEST_FOLDER, TRAIN_FOLDER
from face4d.datasets.mesh_set import find_mesh_sequences, split_by_subject
from face4d.datasets.sampling import plan_of
from face4d.errors import InputError
from face4d.landmarks import LandmarkEmbedding, combine, extract_files, load_embedding, load_flame_embedding
from face4d.mesh.points import PointReader
from face4d.mesh.sequence import find_sequences, frame_names, frame_paths
from face4d.resample import apply_plan
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
    frames: int | None = None,
    method: str = "linear",
    overwrite: bool = False,
    dry_run: bool = False,
    workers: int = 1,
    quiet: bool = False,
) -> Summary:
    """Extract and write landmark files, (T, 68, 3) float32 in the unit of the meshes.

    Existing files are compared with what the meshes give now; equal ones are kept.

    Args:
        frames, method: resample on the way, see :func:`resampled_landmarks`; None = the frames as they are.

    Raises:
        InputError: an unreadable frame, a gap in the frame numbers, another topology; a file of other content, or of the same name in the
            other half of the split, without ``overwrite`` (which replaces the first and removes the second).
    """
    return write_missing(
        files,
        partial(_inspect, embedding=embedding, frames=frames, method=method),
        partial(_write, embedding=embedding, frames=frames, method=method),
        overwrite=overwrite,
        dry_run=dry_run,
        workers=workers,
        description="landmarks",
        quiet=quiet,
    )


def resampled_landmarks(embedding: LandmarkEmbedding, folder: str | Path, frames: int, method: str = "linear") -> np.ndarray:
    """Landmarks of a PLY sequence at another number of frames, the same to the bit as those of :func:`sample_tree`'s meshes.

    Only the landmarks' corners are resampled, and read only of the frames that the result is made of; of the others header and size
    are checked.

    Args:
        folder: holds the frames.
        frames, method: see :mod:`face4d.resample`.

    Returns:
        (frames, 68, 3) float32, metres as in the files.

    Raises:
        InputError: see :func:`frame_paths` and :class:`PointReader`; a sequence too short for the method.
    """
    names = frame_names(folder)
    plan = plan_of(folder, len(names), frames, method)
    used = np.zeros(len(names), bool)
    used[plan.indices[plan.weights != 0]] = True
    reader = PointReader(embedding.corners.ravel(), embedding.num_vertices)
    corners = np.zeros((len(names), *embedding.corners.shape, 3), np.float32)
    for name, needed, place in zip(names, used.tolist(), corners.reshape(len(names), -1, 3)):
        path = os.path.join(folder, name)
        if needed:
            place[:] = reader.read(path)
        else:
            reader.check(path)
    return combine(embedding, apply_plan(corners, plan))


def _landmarks(file: LandmarkFile, embedding: LandmarkEmbedding, frames: int | None, method: str) -> np.ndarray:
    if frames is None:
        return extract_files(embedding, frame_paths(file.source))
    return resampled_landmarks(embedding, file.source, frames, method)


def _inspect(file: LandmarkFile, embedding: LandmarkEmbedding, frames: int | None, method: str) -> State:
    frame_names(file.source)  # a gap in the frames is found before anything is written
    if Path(file.other).exists():
        return State(0, 0, (file.other,))
    if not Path(file.target).exists():
        return State(1, 0)
    found = _landmarks(file, embedding, frames, method)
    return State(0, 1) if _is_equal(file, found) else State(0, 0, (file.target,))


def _is_equal(file: LandmarkFile, landmarks: np.ndarray) -> bool:
    try:
        return bool(np.array_equal(np.load(file.target, allow_pickle=False), landmarks))
    except (ValueError, OSError, EOFError):
        return False


def _write(file: LandmarkFile, embedding: LandmarkEmbedding, frames: int | None, method: str) -> int:
    save_npy(file.target, _landmarks(file, embedding, frames, method))
    Path(file.other).unlink(missing_ok=True)
    return 1


def preview_path(file: LandmarkFile) -> Path:
    """Where the preview GIF of a landmark file goes: ``previews/<half>/<name>.gif`` beside the halves."""
    target = Path(file.target)
    return target.parents[1] / "previews" / target.parent.name / f"{target.stem}.gif"
