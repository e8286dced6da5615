"""Mesh sequences of any length to mesh sequences of a fixed number of frames."""

from __future__ import annotations

import hashlib
import json
import os
import uuid
from collections.abc import Iterator
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np

from face4d.datasets.mesh_set import find_mesh_sequences
from face4d.errors import InputError
from face4d.mesh.ply import ply_bytes, read_ply, read_ply_vertices
from face4d.mesh.sequence import frame_names, iterate_vertices
from face4d.resample import METHODS, Plan, stream
from face4d.runtime.atomic import replacing_folder, write_json
from face4d.runtime.resume import State, Summary, write_missing

RECORD = "sampling.json"  # beside the frames: how they were made, and that they were made here
_FORMAT_VERSION = 1


@dataclass(frozen=True)
class _Job:
    source: str
    target: str
    frames: int
    method: str


def sample_tree(
    source: str | Path,
    target: str | Path,
    *,
    frames: int,
    method: str = "linear",
    labels: list[str] | None = None,
    overwrite: bool = False,
    dry_run: bool = False,
    workers: int = 1,
    quiet: bool = False,
) -> Summary:
    """Resample every PLY sequence below ``source`` to ``<target>/<subject>/<label>/<label>.NNNNNN.ply``, numbers from 0.

    Each folder appears as a whole. It holds ``sampling.json`` with the settings and the state of the input; while these agree it is
    unchanged, otherwise the frames themselves are compared.

    Args:
        frames: output frames per sequence, the neutral one included.
        method: ``linear`` or ``thesis``, see :mod:`face4d.resample`.
        labels: only these; None = all.

    Returns:
        Numbers of frames.

    Raises:
        InputError: see :func:`find_mesh_sequences` and :func:`frame_names`; an unreadable frame, a frame with another number of vertices, a
            sequence too short for the method; different outputs without ``overwrite``; outputs in a folder with other files.
    """
    sequences = find_mesh_sequences(source, labels=labels)
    if Path(source).resolve() == Path(target).resolve():
        raise InputError(target, "an output folder other than the input", "the same")
    jobs = [
        _Job(str(sequence.folder), str(Path(target, sequence.subject, sequence.folder.name)), frames, method)
        for sequence in sequences
    ]
    return write_missing(
        jobs,
        partial(_inspect, overwrite=overwrite),
        _write,
        overwrite=overwrite,
        dry_run=dry_run,
        workers=workers,
        description=f"{frames} frames",
        quiet=quiet,
    )


def _names(job: _Job) -> list[str]:
    label = Path(job.target).name
    return [f"{label}.{index:06d}.ply" for index in range(job.frames)]


def _frame_files(job: _Job) -> list[str]:
    """Paths of the input's frames in order; strings, of which there may be a million."""
    return [os.path.join(job.source, name) for name in frame_names(job.source)]


def _record(job: _Job, paths: list[str]) -> dict[str, object]:
    """Settings and the state of the input: names, sizes and times of its frames."""
    state = hashlib.sha256()
    for path in paths:
        status = os.stat(path)
        state.update(f"{os.path.basename(path)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return {
        "format_version": _FORMAT_VERSION,
        "method": job.method,
        "frames": job.frames,
        "source": job.source,
        "source_frames": len(paths),
        "source_state": state.hexdigest(),
    }


def _read_record(folder: Path) -> dict[str, object] | None:
    try:
        record = json.loads((folder / RECORD).read_text("utf-8"))
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _inspect(job: _Job, overwrite: bool) -> State:
    target = Path(job.target)
    paths = _frame_files(job)
    if not target.exists() or not any(target.iterdir()):
        return State(job.frames, 0)
    names = _names(job)
    present = {path.name for path in target.iterdir()}
    if present == {*names, RECORD}:
        if _read_record(target) == _record(job, paths) or all(_compare(job, paths)):
            return State(0, job.frames)
    if overwrite:
        foreign = sorted(present - _made(target))
        if foreign:
            raise InputError(target, "only files of an earlier sampling there", f"{foreign[0]}, which stays; choose another --output")
    return State(0, 0, (job.target,))


def plan_of(source: str | Path, length: int, frames: int, method: str) -> Plan:
    """How a sequence of ``length`` frames becomes one of ``frames``.

    Raises:
        InputError: naming ``source``, where the sequence is too short for the method.
    """
    try:
        return METHODS[method](length, frames)
    except ValueError as error:
        raise InputError(source, "a longer sequence (or --method linear)", f"{length} frames: {error}") from None


def _frames(job: _Job, paths: list[str]) -> Iterator[np.ndarray]:
    return stream(iterate_vertices(paths), plan_of(job.source, len(paths), job.frames, job.method))


def _compare(job: _Job, paths: list[str]) -> Iterator[bool]:
    for name, vertices in zip(_names(job), _frames(job, paths)):
        yield bool(np.array_equal(read_ply_vertices(Path(job.target, name)), vertices))


def _write(job: _Job) -> int:
    target, paths = Path(job.target), _frame_files(job)
    occupied = target.exists() and any(target.iterdir())
    if target.exists() and not occupied:
        target.rmdir()  # an empty folder gives way to the whole one
    fresh = target.with_name(f".{target.name}.{uuid.uuid4().hex[:8]}.new") if occupied else target
    record = _record(job, paths)
    _, faces = read_ply(paths[0])
    with replacing_folder(fresh) as folder:
        for name, vertices in zip(_names(job), _frames(job, paths)):
            (folder / name).write_bytes(ply_bytes(vertices, faces))
        write_json(folder / RECORD, record)
    if occupied:
        _replace(target, fresh)
    return job.frames


def _replace(target: Path, fresh: Path) -> None:
    """Put a whole new sampling in the place of an earlier one; only names that the earlier one wrote are removed.

    The record goes first and comes last, so that a folder left half way is never taken for a finished one.
    """
    previous = _made(target)
    (target / RECORD).unlink()
    new = {path.name for path in fresh.iterdir()}
    for name in sorted(new - {RECORD}):
        os.replace(fresh / name, target / name)
    for name in previous - new:
        (target / name).unlink(missing_ok=True)
    os.replace(fresh / RECORD, target / RECORD)
    fresh.rmdir()


def _made(folder: Path) -> set[str]:
    """Names of the files that a sampling wrote into ``folder``, by its record."""
    try:
        frames = int((_read_record(folder) or {})["frames"])  # type: ignore[call-overload]
    except (KeyError, TypeError, ValueError):
        return set()
    return {f"{folder.name}.{index:06d}.ply" for index in range(frames)} | {RECORD}
