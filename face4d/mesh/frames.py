"""Frames of one topology, read in parts: a folder of numbered meshes, one mesh, or an array that stays on disk."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.plausibility import as_float32, check_head, check_jumps
from face4d.mesh.sequence import iterate_vertices, mesh_frames, read_mesh
from face4d.mesh.triangles import check_topology
from face4d.runtime.arrays import map_numbers

_SAMPLED = 300  # vertices by which jumps are seen


@dataclass(frozen=True)
class Frames:
    """A sequence.

    Attributes:
        path: of the folder or file.
        names: of the frames, for errors.
        vertices: V.
        faces: (F, 3) of the first frame; F = 0 where the file has none.
        read: frames ``start`` to ``stop`` as (T, V, 3) float32.
    """

    path: Path
    names: list[str]
    vertices: int
    faces: np.ndarray
    read: Callable[[int, int], np.ndarray]

    def __len__(self) -> int:
        return len(self.names)

    def parts(self, size: int) -> Iterator[tuple[int, np.ndarray]]:
        """Number of the first frame, and frames, ``size`` at a time."""
        for start in range(0, len(self), size):
            yield start, self.read(start, min(start + size, len(self)))


def is_array(path: str | Path) -> bool:
    """Whether a path names an array and no mesh."""
    return Path(path).suffix.lower() == ".npy"


def open_frames(path: str | Path, vertices: int, faces: np.ndarray, name: str) -> Frames:
    """A sequence of a known topology.

    Args:
        path: a folder of numbered frames (PLY, else OBJ), one mesh, or an npy of (T, V, 3), (T, 3 V) or (V, 3) numbers.
        vertices, faces: V and (F, 3) of the topology.
        name: of it, for errors.

    Raises:
        InputError: unreadable, or another topology (:class:`~face4d.mesh.triangles.OtherTopologyError` for meshes).
    """
    path = Path(path)
    if is_array(path):
        return _array_frames(path, vertices)
    paths = [path]
    if path.is_dir():
        paths = mesh_frames(path, (".ply", ".obj"))
    first, own_faces = read_mesh(paths[0])
    check_topology(paths[0], len(first), own_faces, vertices, faces, name)
    return Frames(
        path,
        [str(frame) for frame in paths],
        vertices,
        own_faces,
        lambda start, stop: np.stack(
            list(iterate_vertices(paths[start:stop], vertices)) if len(paths) > 1 else [first]
        ),
    )


def _array_frames(path: Path, vertices: int) -> Frames:
    expected = f"frames (T, {vertices}, 3) or (T, {3 * vertices}) in metres (.npy)"
    array = map_numbers(path, expected)
    shaped = array.shape[-2:] == (vertices, 3) and array.ndim in (2, 3)
    flat = array.ndim == 2 and array.shape[1] == 3 * vertices
    if not (shaped or flat) or array.dtype.kind != "f" or not array.size:
        raise InputError(path, expected, f"{array.dtype} {array.shape}")
    frames = array if flat or array.ndim == 3 else array[None]

    def read(start: int, stop: int) -> np.ndarray:
        part = np.array(frames[start:stop]).reshape(-1, vertices, 3)
        return as_float32(f"{path}, frames {start} to {stop - 1}", part)

    names = [f"{path}, frame {frame}" for frame in range(len(frames))]
    return Frames(path, names, vertices, np.zeros((0, 3), np.int32), read)


def check_sequence(frames: Frames, part: int = 64) -> None:
    """Look at all frames once before anything is made of them.

    Raises:
        InputError: a frame that is unreadable, not finite, no head in metres, or far from the one before; names it.
    """
    step = max(frames.vertices // _SAMPLED, 1)
    last = None
    for start, vertices in frames.parts(part):
        if start == 0:
            check_head(frames.names[0], vertices[0])
        seen = vertices[:, ::step]
        if last is not None:
            seen, start = np.concatenate([last, seen]), start - 1
        check_jumps(frames.names[start : start + len(seen)], seen)
        last = seen[-1:]
