"""Wavefront OBJ files: the ``v`` and ``f`` lines, nothing else; vertices are never merged, dropped or reordered.

Texture and normal indices of faces are ignored, polygons become triangle fans, negative indices count back from the
vertices read so far (Wavefront, "Advanced Visualizer manual", appendix B1).

The usual file is a block of ``v`` lines, then one of ``f`` lines; each block is converted at once. Any other is read
line by line.
"""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.triangles import Lists, triangulate
from face4d.runtime.atomic import write_text
from face4d.runtime.files import read_bytes

_AN_OBJ = "an OBJ file"
_MARK = b"\xef\xbb\xbf"  # UTF-8 byte order mark, put there by editors
_LARGEST = float(np.finfo(np.float32).max)  # what meshes are kept in
_STATEMENT = re.compile(rb"\n[^\S\n]*[vf](?:[\s#]|$)")  # a v or f line, from the end of the line before it

# Text from the first face line on, vertices before it, and the triangles of the last file: the frames of a sequence
# share them.
_last_faces: tuple[bytes, int, np.ndarray] = (b"", 0, np.empty((0, 3), np.int32))


def read_obj(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a mesh.

    Returns:
        vertices (V, 3) float64 and triangles (F, 3) int32, in file order.

    Raises:
        InputError: no such file, no vertices or faces, a line cut short, NaN or infinity (also beyond float32), an
            index of no vertex; names file and line.
    """
    global _last_faces
    data = read_text(path)
    begin = data.find(b"\nf ") + 1
    head, tail = data[:begin], data[begin:]
    vertices = _vertex_block(head)
    if vertices is None:
        return _read_lines(path, data)
    if (tail, len(vertices)) == _last_faces[:2]:
        return vertices, _last_faces[2].copy()
    corners = _face_block(tail, len(vertices))
    if corners is not None:
        faces = triangulate(path, Lists.of_rows(corners), len(vertices))
    else:
        known = len(vertices)
        vertices, faces = _read_lines(path, tail, vertices, head.count(b"\n"))
        if len(vertices) > known:
            return vertices, faces
    _last_faces = (tail, len(vertices), faces)
    return vertices, faces.copy()


def read_text(path: str | Path) -> bytes:
    r"""Content of an OBJ file with lines that end in ``\\n``; see :func:`face4d.runtime.files.read_bytes`."""
    data = read_bytes(path, _AN_OBJ).removeprefix(_MARK)
    return data.replace(b"\r\n", b"\n").replace(b"\r", b"\n") if b"\r" in data else data


def _vertex_block(text: bytes) -> np.ndarray | None:
    """Vertices (V, 3) of a text whose ``v`` lines are one block of plain ones, without ``f`` lines; None of any other,
    and of what is wrong.
    """
    rows = None if b"\\" in text else _block(text, b"v", float)
    if rows is None or rows.shape[1] < 3 or not np.abs(rows[:, :3]).max() < _LARGEST / 3:  # false for NaN, too
        return None
    return np.ascontiguousarray(rows[:, :3])


def _face_block(text: bytes, num_vertices: int) -> np.ndarray | None:
    """Corners (N, K), from 0, of a text whose ``f`` lines are one block of polygons of K corners, without ``v`` lines;
    None of any other.
    """
    corners = _block(re.sub(rb"(?<=\d)/\S*", b"", text), b"f", int)
    if corners is None or corners.shape[1] < 3 or corners.min() < 1 or corners.max() > num_vertices:
        return None
    return corners - 1


def _block(text: bytes, name: bytes, number: type[float]) -> np.ndarray | None:
    """Numbers (N, K) of the ``v`` or ``f`` lines of a text: those from the first to the last that begins with ``name``
    and a space.

    None where they are not all numbers, K on each line, or where there is another ``v`` or ``f`` line.
    """
    start = b"\n" + name + b" "
    begin = 0 if text.startswith(start[1:]) else text.find(start) + 1
    end = text.find(b"\n", max(begin, text.rfind(start) + 1))
    block = text[begin : end if end >= 0 else len(text)]
    words, lines = block.split(), block.count(b"\n") + 1
    width = len(words) // lines
    if not block.startswith(start[1:]) or block.count(start) != lines - 1 or b"_" in block:  # to Python, 1_0 is ten
        return None
    # Every line begins with the name. Where every width-th word is the name and all others are numbers, every line has
    # this width.
    if len(words) != lines * width or words[::width].count(name) != lines:
        return None
    if _STATEMENT.search(b"\n" + text[:begin]) or (end >= 0 and _STATEMENT.search(text, end)):
        return None
    del words[::width]
    try:
        return np.fromiter(map(number, words), number, len(words)).reshape(lines, width - 1)
    except (ValueError, OverflowError):
        return None


def _read_lines(
    path: str | Path, text: bytes, known: np.ndarray | None = None, line: int = 0
) -> tuple[np.ndarray, np.ndarray]:
    """Any file, line by line; of a file whose first lines have been read the text behind them, and the vertices
    ``known`` from them.
    """
    before = np.empty((0, 3)) if known is None else known
    vertices: list[list[float]] = []
    polygons: list[list[int]] = []
    lines_of_polygons: list[int] = []
    for number, words in statements(path, text, line):
        if words[0] == b"v":
            vertices.append(coordinates(path, number, words, 3))
        elif words[0] == b"f":
            polygons.append(corner_indices(path, number, words, 0, len(before) + len(vertices)))
            lines_of_polygons.append(number)
    count = len(before) + len(vertices)
    if not count:
        raise InputError(
            path, f"{_AN_OBJ} with vertices ('v x y z' lines)", "none" if text.strip() else "an empty file"
        )
    if not polygons:
        raise InputError(path, f"{_AN_OBJ} with faces ('f a b c' lines)", "none (file cut short?)")
    for number, polygon in zip(lines_of_polygons, polygons):
        if max(polygon) >= count:
            raise InputError(f"{path}:{number}", f"vertex indices up to {count}", f"{max(polygon) + 1}")
    corners = np.array([corner for polygon in polygons for corner in polygon], np.int64)
    faces = triangulate(path, Lists(corners, np.array(list(map(len, polygons)), np.int64)), count)
    return np.concatenate([before, np.array(vertices).reshape(-1, 3)]), faces


def statements(path: str | Path, data: bytes, before: int = 0) -> Iterator[tuple[int, list[bytes]]]:
    """Number and words of every line (see :func:`read_text`) that has any; comments are left out, continued lines
    joined.

    Args:
        before: lines of the file in front of ``data``.

    Raises:
        InputError: the last line is to be continued.
    """
    pending: list[bytes] = []
    number = before
    for number, line in enumerate(data.split(b"\n"), before + 1):
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
        corners = list(
            map(int, [word.split(b"/")[place] for word in words[1:]] if place or b"/" in text else words[1:])
        )
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
    """Write vertices (V, 3) with eight decimals (10 nm in metres) and triangles (F, 3), indices from 1, whole or not at
    all.

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
