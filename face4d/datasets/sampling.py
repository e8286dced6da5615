"""Mesh sequences of any length to mesh sequences of a fixed number of frames."""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import lru_cache, partial
from pathlib import Path
from typing import Any

import numpy as np

from face4d.datasets.mesh_set import find_mesh_sequences
from face4d.errors import InputError
from face4d.mesh.plausibility import Remark, check_head, check_jumps, is_still, report, stillness
from face4d.mesh.ply import ply_bytes, read_ply
from face4d.mesh.sequence import iterate_vertices, numbered_frames
from face4d.mesh.triangles import check_topology
from face4d.resample import METHODS, Plan, compose, fill_plan, stream
from face4d.runtime.atomic import replacing_folder, write_json
from face4d.runtime.fields import read_json
from face4d.runtime.files import require_outside
from face4d.runtime.incremental import USUAL, State, Summary, WriteOptions, write_missing

GAPS = "frame numbers with holes, taken as the time; what is missing is interpolated"  # remark
RECORD = "sampling.json"  # beside the frames: how they were made, and that they were made here
_FORMAT_VERSION = 1
_WATCHED = 300  # vertices of a frame that are looked at for jumps


@dataclass(frozen=True)
class Resampling:
    """How a sequence becomes one of another number of frames.

    Attributes:
        frames: of the result, the neutral one included; None = the frames as they are.
        method: ``linear`` or ``thesis``, see :mod:`face4d.resample`.
        skip_gaps: frame numbers may have holes; they are the time, and what is missing is interpolated.
    """

    frames: int | None = None
    method: str = "linear"
    skip_gaps: bool = False

    def plan(self, source: str | Path, numbers: Sequence[int]) -> Plan:
        """How a sequence with frames of these numbers is resampled; where numbers are missing they are the time.

        Raises:
            InputError: naming ``source``, where the sequence is too short for the method.
        """
        if self.frames is None:
            return fill_plan(numbers)
        length = numbers[-1] - numbers[0] + 1
        try:
            plan = METHODS[self.method](length, self.frames)
            return plan if length == len(numbers) else compose(plan, fill_plan(numbers))
        except ValueError as error:
            raise InputError(source, "a longer sequence (or --method linear)", f"{length} frames: {error}") from None


AS_THEY_ARE = Resampling()


@dataclass(frozen=True)
class _Job:
    source: str
    target: str
    frames: int
    resampling: Resampling
    reference: str  # the first frame of the first sequence, whose topology all have


def sample_tree(
    source: str | Path,
    target: str | Path,
    resampling: Resampling,
    options: WriteOptions = USUAL,
    *,
    labels: list[str] | None = None,
) -> Summary:
    """Resample every PLY sequence below ``source`` to ``<target>/<subject>/<label>/<label>.NNNNNN.ply``, numbers from
    0.

    Each folder appears, and is replaced, as a whole. It holds ``sampling.json`` with the settings and the state of the
    input; while these and the sizes of the frames agree it is unchanged, otherwise, and always with ``overwrite``, the
    frames themselves are compared.

    Args:
        resampling: with a number of frames.
        labels: only these; None = all.

    Returns:
        Numbers of frames.

    Raises:
        InputError: see :func:`find_mesh_sequences` and :func:`numbered_frames`; an unreadable frame, a frame or
            sequence of another topology, no heads in metres, a jump; a sequence too short for the method; different
            outputs without ``overwrite``; outputs in a folder with other files; an output inside the input, or an input
            that another command has not finished.
    """
    require_outside(target, source)
    sequences = find_mesh_sequences(source, labels=labels)
    first = sequences[0].folder
    reference = str(first / numbered_frames(first, skip_gaps=resampling.skip_gaps)[0][1])
    if resampling.frames is None:
        raise ValueError("a resampling with a number of frames")
    jobs = [
        _Job(
            str(sequence.folder),
            str(Path(target, sequence.subject, sequence.folder.name)),
            resampling.frames,
            resampling,
            reference,
        )
        for sequence in sequences
    ]
    remarks: list[Remark] = []
    summary = write_missing(
        target,
        jobs,
        partial(_inspect, overwrite=options.overwrite),
        _write,
        options,
        description=f"{resampling.frames} frames",
        remarks=remarks,
    )
    report(source, remarks)
    return summary


def _names(job: _Job) -> list[str]:
    label = Path(job.target).name
    return [f"{label}.{index:06d}.ply" for index in range(job.frames)]


def _frame_files(job: _Job) -> tuple[list[int], list[str]]:
    """Numbers and paths of the input's frames in order; strings, of which there may be a million."""
    numbers, names = zip(*numbered_frames(job.source, skip_gaps=job.resampling.skip_gaps))
    return list(numbers), [os.path.join(job.source, name) for name in names]


def _record(job: _Job, paths: list[str]) -> dict[str, object]:
    """Settings and the state of the input: names, sizes and times of its frames."""
    state = hashlib.sha256()
    for path in paths:
        status = os.stat(path)
        state.update(f"{os.path.basename(path)} {status.st_size} {status.st_mtime_ns}\n".encode())
    return {
        "format_version": _FORMAT_VERSION,
        "method": job.resampling.method,
        "frames": job.frames,
        "source": job.source,
        "source_frames": len(paths),
        "source_state": state.hexdigest(),
    }


def _read_record(folder: Path) -> dict[str, Any] | None:
    try:
        record = read_json(folder / RECORD)
    except (OSError, ValueError):
        return None
    return record if isinstance(record, dict) else None


def _inspect(job: _Job, overwrite: bool) -> State:
    target = Path(job.target)
    numbers, paths = _frame_files(job)
    if not target.exists() or not any(target.iterdir()):
        return State(job.frames, 0)
    names = _names(job)
    present = {path.name for path in target.iterdir()}
    if present == {*names, RECORD} and (
        (not overwrite and _is_as_recorded(job, paths)) or all(_compare(job, numbers, paths))
    ):
        return State(0, job.frames)
    if overwrite:
        foreign = sorted(present - _made(target))
        if foreign:
            raise InputError(
                target, "only files of an earlier sampling there", f"{foreign[0]}, which stays; choose another --output"
            )
    return State(0, 0, (job.target,))


def _frames(job: _Job, numbers: list[int], vertices: Iterable[np.ndarray]) -> Iterator[np.ndarray]:
    return stream(vertices, job.resampling.plan(job.source, numbers))


def _is_as_recorded(job: _Job, paths: list[str]) -> bool:
    """Whether the record is that of this job, and the frames have the size that it tells."""
    target = Path(job.target)
    record = _read_record(target) or {}
    size = record.pop("frame_bytes", None)
    return record == _record(job, paths) and all(os.stat(target / name).st_size == size for name in _names(job))


def _compare(job: _Job, numbers: list[int], paths: list[str]) -> Iterator[bool]:
    _, faces = read_ply(paths[0])
    for name, vertices in zip(_names(job), _frames(job, numbers, iterate_vertices(paths))):
        yield Path(job.target, name).read_bytes() == ply_bytes(vertices, faces)


class _Watch:
    """Frames of one sequence as they are read; refuses jumps, and knows at the end whether anything moved."""

    def __init__(self, paths: list[str]) -> None:
        self.paths, self.moves = paths, False

    def __iter__(self) -> Iterator[np.ndarray]:
        first: np.ndarray | None = None
        before: np.ndarray | None = None
        for index, vertices in enumerate(iterate_vertices(self.paths)):
            some = vertices[:: max(len(vertices) // _WATCHED, 1)]
            if first is None or before is None:
                first = vertices
            else:
                check_jumps(self.paths[index - 1 : index + 1], np.stack([before, some]))
                self.moves = self.moves or not is_still(np.stack([first, vertices]))
            before = some
            yield vertices


@lru_cache(maxsize=1)
def _topology(path: str) -> tuple[int, np.ndarray]:
    vertices, faces = read_ply(path)
    return len(vertices), faces


def _check_meshes(job: _Job, paths: list[str]) -> np.ndarray:
    """Triangles (F, 3) of a sequence, whose first and last frame are looked at.

    Raises:
        InputError: they differ, or from those of the other sequences; no head in metres.
    """
    vertices, faces = read_ply(paths[0])
    check_head(paths[0], vertices, body=True)
    if paths[0] != job.reference:
        check_topology(paths[0], len(vertices), faces, *_topology(job.reference), f"the topology of {job.reference}")
    if len(paths) > 1:
        last = read_ply(paths[-1])
        check_topology(paths[-1], len(last[0]), last[1], len(vertices), faces, f"the topology of {Path(paths[0]).name}")
    return faces


def _write(job: _Job) -> tuple[int, tuple[Remark, ...]]:
    target, (numbers, paths) = Path(job.target), _frame_files(job)
    record = _record(job, paths)
    faces, watched = _check_meshes(job, paths), _Watch(paths)
    with replacing_folder(target, _made(target)) as folder:
        for name, vertices in zip(_names(job), _frames(job, numbers, watched)):
            content = ply_bytes(vertices, faces)
            (folder / name).write_bytes(content)
        write_json(folder / RECORD, {**record, "frame_bytes": len(content)})
    name, missing = "/".join(Path(job.source).parts[-2:]), numbers[-1] - numbers[0] + 1 - len(numbers)
    remarks = [] if watched.moves else [stillness(name, len(paths))]
    remarks += (
        []
        if len(faces)
        else [Remark("no triangles, so that nothing but the number of vertices tells the topology", name)]
    )
    remarks += [Remark(GAPS, f"{name} ({missing} of {missing + len(paths)})")] if missing else []
    return job.frames, tuple(remarks)


def _made(folder: Path) -> set[str]:
    """Names of the files that a sampling wrote into ``folder``, by its record."""
    try:
        frames = int((_read_record(folder) or {})["frames"])
    except (KeyError, TypeError, ValueError):
        return set()
    return {f"{folder.name}.{index:06d}.ply" for index in range(frames)} | {RECORD}
