"""Wavefront OBJ files: the ``v`` and ``f`` lines, nothing else; vertices are never merged, dropped or reordered.

Texture and normal indices of faces are ignored, polygons become triangle fans, negative indices count back from the vertices read so
far (Wavefront, "Advanced Visualizer manual", appendix B1).

The usual file is one block of ``v`` lines in plain decimals, which is read at once, and ``f`` lines behind it. Any other is read line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator, Sequence
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.decimals import parse_lines
from face4d.mesh.polygons import Lists, triangulate
from face4d.runtime.atomic import write_text
from face4d.runtime.files import read_bytes

_AN_OBJ = "an OBJ file"
_MARK = b"\xef\xbb\xbf"  # UTF-8 byte order mark, put there by editors
_LARGEST = float(np.finfo(np.float32).max)  # what meshes are kept in; to Python, 1_0 is ten: looked for wherever numbers are read

# Text from the first face line on, number of vertices and triangles of the last usual file: the frames of a sequence share them.
_last_faces: tuple[bytes, int, np.ndarray] = (b"", 0, np.empty((0, 3), np.int32))


def read_obj(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a mesh.

    Returns:
        vertices (V, 3) float64 and triangles (F, 3) int32, in file order.

    Raises:
        InputError: no such file, no vertices or faces, a line cut short, NaN or infinity (also beyond float32), an index of no vertex; names file and
            line.
    """
    data = read_text(path)
    return _read_usual(path, data) or _read_any(path, data)


def read_text(path: str | Path) -> bytes:
    """Content of an OBJ file with lines that end in ``\\n``; see :func:`face4d.runtime.files.read_bytes`."""
    data = read_bytes(path, _AN_OBJ).removeprefix(_MARK)
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _read_usual(path: str | Path, data: bytes) -> tuple[np.ndarray, np.ndarray] | None:
    """The usual file, else None: outside of the block of ``v`` lines nothing else is one, and behind it nothing refers to later ones."""
    global _last_faces
    text, num_vertices, faces = _last_faces
    if not text or not data.endswith(text):
        text = b""
    stop = len(data) - len(text)
    begin = 0 if data.startswith(b"v ") else data.find(b"\nv ", 0, stop) + 1
    end = data.find(b"\n", data.rfind(b"\nv ", 0, stop) + 1) + 1  # of the last line that starts like this
    if not data.startswith(b"v ", begin) or end <= begin or data.find(b"\\", 0, stop) >= 0:
        return None
    if not text:
        first = data.find(b"\nf ", end - 1)
        text = data[first:] if first >= 0 else b""
        stop = len(data) - len(text)
    if not text or not _has_no_statement(data, 0, begin) or not _has_no_statement(data, end, stop):
        return None
    vertices = parse_lines(data[begin:end], b"v", 3)
    if vertices is None:
        return None
    if text != _last_faces[0] or len(vertices) != num_vertices:
        faces = _plain_triangles(text[1:], len(vertices))
        if faces is None:
            faces = _other_triangles(path, text[1:], len(vertices))
        if faces is None:
            return None
        _last_faces = (text, len(vertices), faces)
    return vertices, faces.copy()


def _has_no_statement(data: bytes, begin: int, end: int) -> bool:
    """Whether it is certain that none of the lines in ``data[begin:end]``, without continuation marks, is a ``v`` or ``f`` line."""
    if end <= begin:
        return True
    text = np.frombuffer(b"\n" + data[begin:end] + b"\n\n", np.uint8)
    first, second = text[1:-1], text[2:]  # of each line, seen from the line end before it
    named = (first & 0xEF == 0x66) & (second <= 32)  # v and f differ in one bit
    found = np.flatnonzero((text[:-2] == 10) & ((first <= 32) | named))
    return bool((first[found] == 10).all())  # empty lines


def _plain_triangles(text: bytes, num_vertices: int) -> np.ndarray | None:
    """Triangles (F, 3) int32 of lines ``f a b c``, texture and normal indices dropped; None when a line is another."""
    if b"_" in text:
        return None
    words = re.sub(rb"(?<=\d)/\S*", b"", text).split()
    lines = text.count(b"\n") + (not text.endswith(b"\n"))
    if len(words) != 4 * lines or text.count(b"\nf ") != lines - 1:
        return None
    try:
        corners = np.array(list(map(int, (word for k, word in enumerate(words) if k % 4)))).reshape(lines, 3)
    except ValueError:
        return None
    return (corners - 1).astype(np.int32) if corners.min() >= 1 and corners.max() <= num_vertices else None


def _other_triangles(path: str | Path, text: bytes, num_vertices: int) -> np.ndarray | None:
    """Triangles (F, 3) int32 of all ``f`` lines of a text; None when there is a ``v`` line or something is wrong."""
    polygons: list[list[int]] = []
    try:
        for number, words in statements(path, text):
            if words[0] == b"v":
                return None
            if words[0] == b"f":
                polygons.append(corner_indices(path, number, words, 0, num_vertices))
                if max(polygons[-1]) >= num_vertices:
                    return None
        return triangulate(path, _lists(polygons), num_vertices)
    except InputError:  # said again with the right line, by the reader of whole files
        return None


def _read_any(path: str | Path, data: bytes) -> tuple[np.ndarray, np.ndarray]:
    """Any file, line by line."""
    vertices: list[list[float]] = []
    polygons: list[list[int]] = []
    lines_of_polygons: list[int] = []
    for number, words in statements(path, data):
        if words[0] == b"v":
            vertices.append(coordinates(path, number, words, 3))
        elif words[0] == b"f":
            polygons.append(corner_indices(path, number, words, 0, len(vertices)))
            lines_of_polygons.append(number)
    if not vertices:
        raise InputError(path, f"{_AN_OBJ} with vertices ('v x y z' lines)", "none" if data.strip() else "an empty file")
    if not polygons:
        raise InputError(path, f"{_AN_OBJ} with faces ('f a b c' lines)", "none (file cut short?)")
    for number, polygon in zip(lines_of_polygons, polygons):
        if max(polygon) >= len(vertices):
            raise InputError(f"{path}:{number}", f"vertex indices up to {len(vertices)}", f"{max(polygon) + 1}")
    return np.array(vertices, np.float64), triangulate(path, _lists(polygons), len(vertices))


def _lists(polygons: Sequence[Sequence[int]]) -> Lists:
    return Lists(np.array([corner for polygon in polygons for corner in polygon], np.int64), np.array(list(map(len, polygons)), np.int64))


def statements(path: str | Path, data: bytes) -> Iterator[tuple[int, list[bytes]]]:
    """Number and words of every line (see :func:`read_text`) that has any; comments are left out, continued lines joined.

    Raises:
        InputError: the last line is to be continued.
    """
    pending: list[bytes] = []
    number = 0
    for number, line in enumerate(data.split(b"\n"), 1):
        line = line.partition(b"#")[0]
        if line.rstrip().endswith(b"\\"):
            pending.append(line.rstrip()[:-1])
            continue
        if pending:
            line = b" ".join([*pending, line])
            pending = []
        if words := line.split():
            yield number, words
    if pending:
        raise InputError(f"{path}:{number}", "a line after the continuation mark", "the end of the file")


def coordinates(path: str | Path, number: int, words: list[bytes], count: int) -> list[float]:
    """The first numbers of a ``v`` or ``vt`` line; what follows (w, a colour) is ignored.

    Raises:
        InputError: fewer than ``count``, or not finite.
    """
    try:
        values = [float(word) for word in words[1 : 1 + count]]
    except ValueError:
        values = []
    if len(values) < count or not sum(map(abs, values)) <= _LARGEST or b"_" in b"".join(words[: 1 + count]):
        form = "'v x y z' with three" if count == 3 else "'vt u v' with two"
        raise InputError(f"{path}:{number}", f"{form} finite numbers", repr(_text(words)))
    return values


def corner_indices(path: str | Path, number: int, words: list[bytes], place: int, count: int) -> list[int]:
    """Indices, from 0, of an ``f`` line (``v``, ``v/vt``, ``v//vn``, ``v/vt/vn``; negative ones count back).

    Args:
        place: 0 for vertices, 1 for texture coordinates.
        count: vertices or texture coordinates read so far.

    Raises:
        InputError: fewer than three corners, no whole number, 0, or further back than the first.
    """
    text = b" ".join(words)
    try:
        corners = list(map(int, [word.split(b"/")[place] for word in words[1:]] if place or b"/" in text else words[1:]))
    except (ValueError, IndexError):
        corners = []
    if len(corners) < 3 or b"_" in text:
        raise InputError(f"{path}:{number}", "'f a b c ...' with three indices or more", repr(_text(words)))
    if min(corners) > 0:
        return [corner - 1 for corner in corners]
    resolved = [corner - 1 if corner > 0 else count + corner for corner in corners]
    if 0 in corners or min(resolved) < 0:
        raise InputError(f"{path}:{number}", f"indices from 1 (or -1 to -{count})", repr(_text(words)))
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
