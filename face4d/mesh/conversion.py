"""A tree of OBJ files to the same tree of binary PLY files."""

from __future__ import annotations

import logging
import os
import re
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache, lru_cache, partial
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.obj import read_obj
from face4d.mesh.ply import ply_bytes
from face4d.mesh.ply_header import header_of
from face4d.mesh.triangles import difference, same_topology
from face4d.runtime.atomic import replacing
from face4d.runtime.files import matching, require_outside, walk
from face4d.runtime.incremental import USUAL, State, Summary, WriteOptions, write_missing

log = logging.getLogger(__name__)

_FILES_PER_JOB = 64
_HEADER_BYTES = 1024  # more than the header of a PLY file written here
_LAST_NUMBER = re.compile(r"\d+(?=\D*$)")


@dataclass(frozen=True)
class _Slice:
    """Some OBJ files of one folder (``begin``..``end`` in sorted order) and the folder of their PLY files."""

    source: str
    target: str
    begin: int
    end: int


def convert_tree(source: str | Path, target: str | Path, options: WriteOptions = USUAL) -> Summary:
    """Convert every OBJ below ``source`` to binary PLY at the same place below ``target`` (may be ``source`` itself).

    A PLY file gets the time stamp of its OBJ file and counts as unchanged while they agree and its size is right;
    otherwise, and always with ``overwrite``, its content is compared. Hidden files and folders are left out. Numbered
    files with different numbers of vertices (scans of several people) are no series: each is converted for itself, and
    a note says so.

    Raises:
        InputError: no such folder, no OBJ in it, a bad OBJ file, two OBJ files of one PLY file, a file of a numbered
            series whose faces differ from the others', different outputs without ``overwrite`` (found before anything
            is written), or a target inside ``source``.
    """
    source, target = Path(source), Path(target)
    if target.resolve() != source.resolve():
        require_outside(target, source)
    if not source.is_dir():
        raise InputError(source, "a folder with OBJ files", "no such folder")
    jobs = list(_slices(source, target))
    if not jobs:
        raise InputError(source, "OBJ files at any depth", "none")
    return write_missing(
        target,
        jobs,
        partial(_inspect, overwrite=options.overwrite),
        partial(_convert, overwrite=options.overwrite),
        options,
        description="OBJ to PLY",
    )


def _slices(source: Path, target: Path) -> Iterator[_Slice]:
    for place, _, _ in walk(source):
        count = len(_objects(place))
        for begin in range(0, count, _FILES_PER_JOB):
            yield _Slice(
                place, str(target / Path(place).relative_to(source)), begin, min(begin + _FILES_PER_JOB, count)
            )


def _objects(folder: str | Path) -> list[str]:
    """Names of the OBJ files of a folder.

    Raises:
        InputError: two that would become one PLY file.
    """
    names = sorted(matching(os.listdir(folder), [".obj"]))
    stems: dict[str, str] = {}
    for name in names:
        other = stems.setdefault(os.path.splitext(name)[0], name)
        if other != name:
            raise InputError(Path(folder, name), f"one OBJ file for {Path(name).stem}.ply", f"also {other}")
    return names


def _pairs(job: _Slice) -> Iterator[tuple[Path, Path, Path]]:
    """OBJ, PLY, and the first OBJ of the numbered series in this folder."""
    names = _objects(job.source)
    first: dict[str, str] = {}
    for name in names:
        first.setdefault(_series(name), name)
    for name in names[job.begin : job.end]:
        obj = Path(job.source, name)
        yield obj, Path(job.target, obj.stem + ".ply"), Path(job.source, first[_series(name)])


def _series(name: str) -> str:
    """What the names of a series have in common (``Cheeky_07.obj`` -> ``Cheeky_*.obj``)."""
    return _LAST_NUMBER.sub("*", name, count=1)


def _inspect(job: _Slice, overwrite: bool) -> State:
    missing, unchanged, different = 0, 0, []
    for obj, ply, first in _pairs(job):
        if not ply.exists():
            missing += 1
        elif (not overwrite and _looks_converted(obj, ply)) or ply.read_bytes() == _content(obj, first):
            unchanged += 1
        else:
            different.append(str(ply))
    return State(missing, unchanged, tuple(different))


def _looks_converted(obj: Path, ply: Path) -> bool:
    """Whether a PLY file has the time stamp of its OBJ file, and the size that its own header tells."""
    if obj.stat().st_mtime_ns != ply.stat().st_mtime_ns:
        return False
    with open(ply, "rb") as file:
        try:
            header = header_of(ply, file.read(_HEADER_BYTES))
        except InputError:
            return False
        counts = header.plain
        return counts is not None and os.fstat(file.fileno()).st_size == header.size + 12 * counts[0] + 13 * counts[1]


def _convert(job: _Slice, overwrite: bool) -> int:
    written = 0
    for obj, ply, first in _pairs(job):
        if ply.exists() and not overwrite:
            continue
        status = obj.stat()
        content = _content(obj, first)
        if ply.exists() and ply.read_bytes() == content:
            continue
        with replacing(ply) as temporary:
            temporary.write_bytes(content)
            os.utime(temporary, ns=(status.st_atime_ns, status.st_mtime_ns))
        written += 1
    return written


@lru_cache(maxsize=4)
def _first_mesh(path: Path) -> tuple[int, np.ndarray]:
    """Number of vertices and faces of the first file of a series."""
    vertices, faces = read_obj(path)
    return len(vertices), faces


@cache
def _note_no_series(folder: Path, first: str) -> None:
    log.warning(
        "note: %s: the numbered files like %s have different numbers of vertices, so each is converted for itself",
        folder,
        first,
    )


def _content(obj: Path, first: Path) -> bytes:
    vertices, faces = read_obj(obj)
    count, expected = _first_mesh(first) if first != obj else (len(vertices), faces)
    if len(vertices) != count:
        _note_no_series(obj.parent, first.name)
    elif not same_topology(faces, expected):
        raise InputError(
            obj,
            f"the faces of {first.name} ({len(expected)} triangles)",
            f"{difference(faces, expected)} (file cut short?)",
        )
    return ply_bytes(vertices, faces)
