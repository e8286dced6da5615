"""Wavefront OBJ files: the ``v`` and ``f`` lines, nothing else; vertices are never merged, dropped or reordered.

Texture and normal indices of faces are ignored, polygons become triangle fans, negative indices count back from the vertices read so
far (Wavefront, "Advanced Visualizer manual", appendix B1).
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.decimals import parse_lines
from face4d.mesh.polygons import triangulate
from face4d.runtime.atomic import write_text

# Text of the face lines, number of vertices and triangles of the last file: the frames of a sequence share them.
_last_faces: tuple[bytes, int, np.ndarray] = (b"", 0, np.empty((0, 3), np.int32))


def read_obj(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a mesh.

    Returns:
        vertices (V, 3) float64 and triangles (F, 3) int32, in file order.

    Raises:
        InputError: no such file, no vertices or faces, a line cut short, NaN or infinity, an index of no vertex; names file and line.
    """
    global _last_faces
    try:
        data = Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(path, "an OBJ file", "no such file") from None
    except IsADirectoryError:
        raise InputError(path, "an OBJ file", "a folder") from None
    if b"\r" in data:
        data = data.replace(b"\r\n", b"\n").replace(b"\r", b"\n")
    vertices, face_text, faces_at = _vertex_block(data)
    if vertices is None:
        vertices, polygons = _read_lines(path, data.split(b"\n"), [])
        if not len(vertices):
            found = "none" if data.strip() else "an empty file"
            raise InputError(path, "an OBJ file with vertices ('v x y z' lines)", found)
        if not polygons:
            raise InputError(path, "an OBJ file with faces ('f a b c' lines)", "none (file cut short?)")
        return np.array(vertices, np.float64), triangulate(path, [np.array(polygon) for polygon in polygons])
    if _last_faces[1] != len(vertices) or _last_faces[0] != face_text:
        faces = _plain_triangles(face_text, len(vertices))
        if faces is None:
            lines = face_text.split(b"\n")
            _, polygons = _read_lines(path, lines, vertices, data.count(b"\n", 0, faces_at) + 1)
            faces = triangulate(path, [np.array(polygon) for polygon in polygons])
        _last_faces = (face_text, len(vertices), faces)
    return vertices, _last_faces[2].copy()


def _plain_triangles(text: bytes, num_vertices: int) -> np.ndarray | None:
    """Triangles (F, 3) int32 of lines ``f a b c``, texture and normal indices dropped; None when a line is another."""
    words = re.sub(rb"/\S*", b"", text).split()
    lines = text.count(b"\n") + (not text.endswith(b"\n"))
    if len(words) != 4 * lines or text.count(b"\nf ") != lines - 1:
        return None
    try:
        corners = np.array(list(map(int, (word for k, word in enumerate(words) if k % 4)))).reshape(lines, 3)
    except ValueError:
        return None
    return (corners - 1).astype(np.int32) if corners.min() >= 1 and corners.max() <= num_vertices else None


def _vertex_block(data: bytes) -> tuple[np.ndarray | None, bytes | None, int]:
    """The usual file: all ``v`` lines in one block, all ``f`` lines behind it.

    Returns:
        vertices (V, 3) float64, the text from the first ``f`` line on and where it starts; vertices are None when the file is another.
    """
    begin = 0 if data.startswith(b"v ") else data.find(b"\nv ") + 1
    faces = _find_line(data, b"f", begin)
    if not data.startswith(b"v ", begin) or faces < 0 or b"\\" in data[:begin] or b"\nf" in data[:begin]:
        return None, None, 0
    last = data.rfind(b"\nv ", 0, faces) + 1
    if _find_line(data, b"v", faces) >= 0:
        return None, None, 0
    end = data.find(b"\n", max(last, begin)) + 1
    return parse_lines(data[begin:end], b"v", 3), data[faces:], faces


def _find_line(data: bytes, letter: bytes, begin: int) -> int:
    """Where the first line after ``begin`` starts whose first word is ``letter``, or -1. One byte is searched far faster than two."""
    place = data.find(letter, begin + 1)
    if place < 0 or data[place - 1 : place + 2] == b"\n" + letter + b" ":
        return place
    place = data.find(b"\n" + letter + b" ", begin)
    return place + 1 if place >= 0 else -1


def _read_lines(
    path: str | Path, lines: Sequence[bytes], vertices: list[list[float]] | np.ndarray, first_line: int = 1
) -> tuple[list[list[float]] | np.ndarray, list[list[int]]]:
    """Read line by line; ``vertices`` are those before the first line. Polygons hold indices from 0."""
    polygons: list[list[int]] = []
    lines_of_polygons: list[int] = []
    pending = b""
    for number, line in enumerate(lines, first_line):
        line = pending + line.partition(b"#")[0]
        if line.rstrip().endswith(b"\\"):
            pending = line.rstrip()[:-1] + b" "
            continue
        pending = b""
        words = line.split()
        if not words:
            continue
        if words[0] == b"v":
            vertices.append(_coordinates(path, number, words))
        elif words[0] == b"f":
            polygons.append(_corners(path, number, words, len(vertices)))
            lines_of_polygons.append(number)
    if pending:
        raise InputError(f"{path}:{first_line + len(lines) - 1}", "a line after the continuation mark", "the end of the file")
    for number, polygon in zip(lines_of_polygons, polygons):
        if max(polygon) >= len(vertices):
            raise InputError(f"{path}:{number}", f"vertex indices up to {len(vertices)}", f"{max(polygon) + 1}")
    return vertices, polygons


def _coordinates(path: str | Path, number: int, words: list[bytes]) -> list[float]:
    """x, y, z of a ``v`` line; what follows (w, a colour) is ignored."""
    try:
        values = [float(word) for word in words[1:4]]
    except ValueError:
        values = []
    if len(values) < 3 or not np.isfinite(values).all():
        raise InputError(f"{path}:{number}", "'v x y z' with three finite numbers", repr(_text(words)))
    return values


def _corners(path: str | Path, number: int, words: list[bytes], num_vertices: int) -> list[int]:
    """Vertex indices, from 0, of an ``f`` line (``v``, ``v/vt``, ``v//vn``, ``v/vt/vn``; negative ones count back)."""
    try:
        corners = [int(word.partition(b"/")[0]) for word in words[1:]]
    except ValueError:
        corners = []
    if len(corners) < 3:
        raise InputError(f"{path}:{number}", "'f a b c ...' with three vertex indices or more", repr(_text(words)))
    resolved = [corner - 1 if corner > 0 else num_vertices + corner for corner in corners]
    if 0 in corners or min(resolved) < 0:
        raise InputError(f"{path}:{number}", f"vertex indices from 1 (or -1 to -{num_vertices})", repr(_text(words)))
    return resolved


def _text(words: list[bytes]) -> str:
    text = b" ".join(words).decode("latin1")
    return text if len(text) <= 60 else text[:57] + "..."


def write_obj(path: str | Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write vertices (V, 3) with eight decimals (10 nm in metres) and triangles (F, 3), indices from 1, whole or not at all.

    Raises:
        ValueError: wrong shapes, NaN or infinity.
    """
    vertices, faces = np.asarray(vertices, np.float64), np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"expected vertices (V, 3) and faces (F, 3), found {vertices.shape} and {faces.shape}")
    if not np.isfinite(vertices).all():
        raise InputError(path, "finite vertex coordinates", "NaN or infinity")
    text = "v %.8f %.8f %.8f\n" * len(vertices) % tuple(vertices.ravel())
    write_text(path, text + "f %d %d %d\n" * len(faces) % tuple((faces + 1).ravel()))
