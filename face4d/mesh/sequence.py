"""Sequences: folders of numbered meshes, one file per frame."""

from __future__ import annotations

import io
import itertools
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.obj import read_obj
from face4d.mesh.plausibility import as_float32
from face4d.mesh.ply import read_ply, read_ply_vertices
from face4d.mesh.triangles import check_indices
from face4d.runtime.files import matching, read_bytes, report_passed_over, walk

_LAST_DIGITS = re.compile(r"(\d+)\D*$")
MESH_SUFFIXES = (".ply", ".obj", ".off", ".stl")
"""Of the files that :func:`read_mesh` reads; sequences and neutral faces are PLY or OBJ."""

_OTHER_MESHES = (".stl", ".off", ".glb", ".gltf", ".fbx", ".dae", ".ply.gz", ".obj.gz")  # no frames


def frame_number(path: str | Path) -> int | None:
    """Number of a frame, the last group of digits of its stem (``mouth_open.000012.ply`` -> 12); None without
    digits.
    """
    return _number_in(os.path.basename(path))


def _number_in(name: str) -> int | None:
    stem, dot, _ = name.rpartition(".")
    match = _LAST_DIGITS.search(stem if dot else name)
    return int(match[1]) if match else None


def _numbered(names: Iterable[str], suffix: str) -> list[tuple[int, str]]:
    """Numbers and names of the frames among the names of one folder; hidden files and files without a number are
    none.
    """
    return [(number, name) for name in matching(names, (suffix,)) if (number := _number_in(name)) is not None]


def frame_paths(folder: str | Path, suffix: str = ".ply") -> list[Path]:
    """Frames of one sequence in numerical order. Numbers may start anywhere.

    Raises:
        InputError: no such folder, no frames, two frames of one number, or a gap; names folder and number.
    """
    return [Path(folder, name) for name in frame_names(folder, suffix)]


def mesh_frames(folder: Path, kinds: Sequence[str] = MESH_SUFFIXES) -> list[Path]:
    """:func:`frame_paths` of the first kind of mesh that a folder has."""
    names = [entry.name for entry in folder.iterdir()]
    return frame_paths(folder, next((kind for kind in kinds if any(matching(names, (kind,)))), kinds[0]))


def frame_names(folder: str | Path, suffix: str = ".ply") -> list[str]:
    """File names of :func:`frame_paths`."""
    return [name for _, name in numbered_frames(folder, suffix)]


def numbered_frames(
    folder: str | Path, suffix: str = ".ply", *, skip_gaps: bool | None = None
) -> list[tuple[int, str]]:
    """Numbers and file names of one sequence in numerical order.

    Args:
        skip_gaps: numbers may be missing, though not more than are there; None = they may not, and the command has no
            ``--skip-gaps`` for it.

    Raises:
        InputError: see :func:`frame_paths`.
    """
    folder, suffix = Path(folder), suffix.lower()
    if not folder.is_dir():
        raise InputError(folder, f"a folder of numbered {suffix} frames", "no such folder")
    frames = sorted(_numbered(os.listdir(folder), suffix))
    if not frames:
        raise InputError(folder, f"numbered {suffix} frames", "none")
    for (previous, name), (number, next_name) in itertools.pairwise(frames):
        if number == previous:
            raise InputError(folder, f"one frame {number}", f"{name} and {next_name}")
        if number != previous + 1:
            if skip_gaps:
                continue
            remedy = "" if skip_gaps is None else "; --skip-gaps reads on"
            found = f"{next_name} (a gap in the frame numbers{remedy})"
            raise InputError(folder, f"frame {previous + 1} after {name}", found)
    missing = frames[-1][0] - frames[0][0] + 1 - len(frames)
    if missing > len(frames):
        raise InputError(
            folder, "more frames than gaps in their numbers", f"{len(frames)} frames and {missing} numbers without one"
        )
    return frames


def find_sequences(root: str | Path, suffix: str = ".ply") -> list[Path]:
    """Folders below ``root`` (or ``root`` itself), at any depth, that directly hold frames; sorted.

    Hidden folders are left out, links to folders are followed. A folder with a single mesh beside folders with frames
    is no sequence (a subject's neutral mesh beside the subject's expressions). One line names meshes in a sequence's
    folder that are no frames of it.

    Raises:
        InputError: no such folder, or no sequence in it.
    """
    root, suffix = Path(root), suffix.lower()
    if not root.is_dir():
        raise InputError(root, f"a folder with sequences of {suffix} frames", "no such folder")
    counts: dict[Path, int] = {}
    beside: dict[Path, list[str]] = {}
    for place, _, names in walk(root):
        if frames := len(_numbered(names, suffix)):
            counts[Path(place)] = frames
            unnumbered = (
                [name for name in matching(names, (suffix,)) if _number_in(name) is None] if frames < len(names) else []
            )
            beside[Path(place)] = [*unnumbered, *matching(names, _OTHER_MESHES)]
    above = {parent for folder in counts for parent in folder.parents}
    found = sorted(folder for folder, frames in counts.items() if frames > 1 or folder not in above)
    if not found:
        raise InputError(root, f"sequences of numbered {suffix} frames at any depth", "none")
    passed_over = [
        Path(folder, name).relative_to(root).as_posix() for folder in found for name in beside.get(folder, ())
    ]
    report_passed_over(root, passed_over, f"numbered {suffix} frames")
    return found


def iterate_vertices(paths: Iterable[str | Path], num_vertices: int | None = None) -> Iterator[np.ndarray]:
    """Vertices (V, 3) float32 of each frame (PLY or OBJ), one frame in memory at a time.

    Args:
        paths: frames in order.
        num_vertices: number wanted in every frame; None takes that of the first.

    Raises:
        InputError: a frame that cannot be read or has another number of vertices.
    """
    for path in paths:
        if str(path).lower().endswith(".obj"):
            vertices = as_float32(path, read_obj(path)[0])
            if num_vertices is not None and len(vertices) != num_vertices:
                raise InputError(path, f"{num_vertices} vertices", f"{len(vertices)}")
        else:
            vertices = read_ply_vertices(path, num_vertices)
        num_vertices = len(vertices)
        yield vertices


def read_mesh(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) float32 and triangles (F, 3) int32 of one file: PLY, OBJ, OFF or STL.

    Raises:
        InputError: another suffix, or see :func:`read_ply` and :func:`read_obj`.
    """
    suffix = Path(path).suffix.lower()
    if suffix not in MESH_SUFFIXES:
        raise InputError(path, f"a mesh ({', '.join(MESH_SUFFIXES)})", f"the suffix {suffix or 'none'!r}")
    read = {".ply": read_ply, ".obj": read_obj}.get(suffix, _read_by_trimesh)
    vertices, faces = read(path)
    return as_float32(path, vertices), faces


def _read_by_trimesh(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Vertices (V, 3) and triangles (F, 3) int32 of an OFF file, in its order, or of an STL file.

    STL lists the corners of each triangle anew: those in one place become one vertex.
    """
    import trimesh

    kind = Path(path).suffix.lower().removeprefix(".")
    expected = f"a mesh in the format {kind.upper()}"
    data = read_bytes(path, expected)
    try:
        mesh = trimesh.load_mesh(io.BytesIO(data), file_type=kind, process=False, maintain_order=True)
        vertices, faces = np.array(mesh.vertices, np.float64), np.array(mesh.faces, np.int64)
    except Exception as error:  # trimesh raises what its parsers meet
        found = " ".join(str(error).split())[:120] or type(error).__name__
        raise InputError(path, expected, f"none that trimesh can read ({found})") from None
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or not len(vertices) or not len(faces):
        raise InputError(path, f"{expected} with vertices and faces", "none")
    as_float32(path, vertices)
    check_indices(path, faces, len(vertices))
    if kind == "stl":
        vertices, number = np.unique(vertices, axis=0, return_inverse=True)
        faces = number.reshape(-1)[faces]
    return vertices, faces.astype(np.int32)
