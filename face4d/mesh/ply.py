"""PLY files, ASCII and binary: vertices and triangles, in the order of the file.

The format is Greg Turk's "The PLY Polygon File Format" (1994). The layout that face data sets use (binary
little-endian, three floats per vertex, triangles as uchar + int lists) is read without any parsing beyond the header,
and headers are cached by their bytes.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from array import array
from collections.abc import Sequence
from pathlib import Path
from struct import Struct
from typing import Any

import numpy as np

from face4d.errors import InputError
from face4d.mesh.ply_header import A_PLY, BYTE_ORDER, PlyElement, PlyHeader, header_of
from face4d.mesh.triangles import Lists, check_indices, triangulate, unroll_strips
from face4d.runtime.atomic import write_bytes
from face4d.runtime.files import open_sized, read_bytes


def check_finite(path: str | Path, vertices: np.ndarray) -> None:
    """Raise :class:`InputError` at the first of the vertices (N, 3) with NaN or infinity."""
    finite = np.isfinite(vertices)
    if not finite.all():
        bad = int(np.argmin(finite.all(axis=1)))
        raise InputError(path, "finite vertex coordinates", f"{vertices[bad].tolist()} at vertex {bad}")


def read_ply(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a mesh; polygons become triangle fans, triangle strips their triangles.

    Returns:
        vertices (V, 3) float32 and faces (F, 3) int32, in file order; F is 0 when the file has no faces.

    Raises:
        InputError: no such file, not PLY, cut short, more in it than its header declares, NaN or infinite coordinates,
            a face index outside 0..V-1.
    """
    data = read_bytes(path, A_PLY)
    header = header_of(path, data)
    vertices, faces = _read_plain(path, data, header) or _read_any(path, data, header)
    check_finite(path, vertices)
    return vertices, faces


def _read_plain(path: str | Path, data: bytes, header: PlyHeader) -> tuple[np.ndarray, np.ndarray] | None:
    """The plain layout with nothing but triangles, else None."""
    if header.plain is None:
        return None
    num_vertices, num_faces = header.plain
    if len(data) != header.size + 12 * num_vertices + 13 * num_faces:
        return None
    body = np.frombuffer(data, np.uint8, 13 * num_faces, header.size + 12 * num_vertices).reshape(num_faces, 13)
    if not (body[:, 0] == 3).all():
        return None
    vertices = np.frombuffer(data, "<f4", 3 * num_vertices, header.size).reshape(num_vertices, 3)
    faces = np.ascontiguousarray(body[:, 1:]).view("<i4")
    check_indices(path, faces, num_vertices)
    return vertices.astype(np.float32), faces.astype(np.int32)


# Bytes to ask for first: holds the header and all vertices of the last plain file, so one read serves the next one.
_first_read = 1 << 16


def read_ply_vertices(path: str | Path, num_vertices: int | None = None, copy: bool = True) -> np.ndarray:
    """Read only the vertices; in the plain layout the faces are not even read, only their room is checked.

    Args:
        path: PLY file.
        num_vertices: number wanted, or None for any.
        copy: False returns a read-only view of the file's bytes where possible, a few microseconds sooner.

    Returns:
        (V, 3) float32 in file order.

    Raises:
        InputError: as :func:`read_ply`, and another number of vertices than ``num_vertices``.
    """
    global _first_read
    descriptor, size = open_sized(path, A_PLY)
    try:
        data = os.read(descriptor, _first_read)
    finally:
        os.close(descriptor)
    header = header_of(path, data)
    vertices = None
    if header.plain is not None:
        count, num_faces = header.plain
        end = header.size + 12 * count
        if size == end + 13 * num_faces:
            if len(data) < end:
                data = read_bytes(path, A_PLY)
                _first_read = end
            # The slice moves the numbers to an aligned address: arithmetic on odd addresses costs more than the copy.
            vertices = np.frombuffer(data[header.size : end], "<f4").reshape(count, 3)
    if vertices is None:
        data = read_bytes(path, A_PLY)
        vertices, _ = _read_plain(path, data, header) or _read_any(path, data, header)
    if num_vertices is not None and len(vertices) != num_vertices:
        raise InputError(path, f"{num_vertices} vertices", f"{len(vertices)}")
    check_finite(path, vertices)
    return vertices.astype(np.float32) if copy or vertices.dtype != np.float32 else vertices


def read_vertex_columns(path: str | Path, names: Sequence[str]) -> np.ndarray | None:
    """Numbers (V, len(names)) of the vertices beside their places, such as ``red``, ``green``, ``blue``, as they are in
    the file; None where the file has not all of them.

    Raises:
        InputError: no such file, not PLY, cut short before the vertices' end.
    """
    data = read_bytes(path, A_PLY)
    header = header_of(path, data)
    vertex = next(element for element in header.elements if element.name == "vertex")
    if not set(names) <= {p.name for p in vertex.properties if p.count_type is None}:
        return None
    rows = _rows(path, data, header)
    for element in header.elements[: header.elements.index(vertex)]:
        rows.read(element)
    columns = rows.read(vertex)
    return np.stack([np.asarray(columns[name]) for name in names], axis=1)


def _rows(path: str | Path, data: bytes, header: PlyHeader) -> _Rows:
    return _AsciiRows(path, data, header) if header.encoding == "ascii" else _BinaryRows(path, data, header)


def _read_any(path: str | Path, data: bytes, header: PlyHeader) -> tuple[np.ndarray, np.ndarray]:
    """Any encoding and any properties; vertices float32 and triangles int32."""
    rows = _rows(path, data, header)
    num_vertices = next(element.count for element in header.elements if element.name == "vertex")
    vertices: np.ndarray = np.empty((0, 3), np.float32)
    faces: list[np.ndarray] = [np.empty((0, 3), np.int32)]
    for element in header.elements:
        columns = rows.read(element)
        if element.name == "vertex":
            with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is refused
                vertices = np.stack([np.asarray(columns[axis]) for axis in "xyz"], axis=1).astype(np.float32)
        elif element.name in ("face", "tristrips") and element.count:
            named = (columns.get(name) for name in ("vertex_indices", "vertex_index"))
            lists = next((column for column in named if isinstance(column, Lists)), None)
            if lists is None:
                raise InputError(
                    path, f"element {element.name} with lists vertex_indices", f"only {', '.join(columns) or 'nothing'}"
                )
            faces.append((triangulate if element.name == "face" else unroll_strips)(path, lists, num_vertices))
    rows.check_end()
    return vertices, np.concatenate(faces)


class _Rows(ABC):
    """Reads elements one after the other.

    Raises:
        InputError: fewer bytes than the header's numbers of rows take at least; known before anything is reserved for
            them.
    """

    def __init__(self, path: str | Path, data: bytes, header: PlyHeader) -> None:
        self.path, self.data, self.position = path, data, header.size
        self.order = BYTE_ORDER[header.encoding]
        room = len(data) - header.size + 1  # the last number of a text needs no blank behind it
        for element in header.elements:
            room -= element.count * self._least(element)
            if room < 0:
                raise self._cut(element)

    @abstractmethod
    def _least(self, element: PlyElement) -> int:
        """Bytes that a row takes at least."""

    @abstractmethod
    def read(self, element: PlyElement) -> dict[str, np.ndarray | Lists]:
        """The next element's columns by property name: (rows,) numbers or lists of numbers."""

    @abstractmethod
    def check_end(self) -> None:
        """Raise :class:`InputError` when more is left than blanks: rows then hold columns that the header does not
        declare.
        """

    def _cut(self, element: PlyElement) -> InputError:
        return InputError(
            self.path, f"{element.count} rows of element {element.name}", f"{len(self.data)} bytes (file cut short)"
        )


class _BinaryRows(_Rows):
    def _least(self, element: PlyElement) -> int:
        return sum(np.dtype(p.count_type or p.type).itemsize for p in element.properties)

    def read(self, element: PlyElement) -> dict[str, np.ndarray | Lists]:
        if not element.count or not element.properties:
            return _no_columns(element)
        dtype, lengths = self._row_like_the_first(element)
        if self.position + element.count * dtype.itemsize <= len(self.data):
            table = np.frombuffer(self.data, dtype, element.count, self.position)
            if all((table[f"length {name}"] == length).all() for name, length in lengths.items()):
                self.position += table.nbytes
                return {
                    p.name: Lists(table[p.name].reshape(-1), np.full(element.count, lengths[p.name]))
                    if p.count_type
                    else table[p.name]
                    for p in element.properties
                }
        if not element.has_lists:
            raise self._cut(element)
        return self._row_by_row(element)

    def _row_like_the_first(self, element: PlyElement) -> tuple[np.dtype, dict[str, int]]:
        """Row dtype if every list were as long as in the first row, and these lengths."""
        fields: list[Any] = []
        lengths: dict[str, int] = {}
        position = self.position
        for p in element.properties:
            kind = np.dtype(self.order + p.type)
            if p.count_type is None:
                fields.append((p.name, kind))
                position += kind.itemsize
                continue
            counter = np.dtype(self.order + p.count_type)
            if position + counter.itemsize > len(self.data):
                raise self._cut(element)
            length = lengths[p.name] = int(np.frombuffer(self.data, counter, 1, position)[0])
            position += counter.itemsize + length * kind.itemsize
            self._check_length(element, length, position)
            fields += [(f"length {p.name}", counter), (p.name, kind, (length,))]
        return np.dtype(fields), lengths

    def _check_length(self, element: PlyElement, length: int, end: int) -> None:
        if length < 0:
            raise InputError(self.path, f"a list length in element {element.name}", f"{length}")
        if end > len(self.data):
            raise InputError(
                self.path,
                f"{element.count} rows of element {element.name}",
                f"a list of {length} beyond the end (file cut short?)",
            )

    def _row_by_row(self, element: PlyElement) -> dict[str, np.ndarray | Lists]:
        """Columns of rows that differ in size: where each row's numbers begin is found first."""
        places, lengths = ({p.name: array("q") for p in element.properties} for _ in range(2))
        kinds = {p.name: np.dtype(self.order + p.type) for p in element.properties}
        counters = {
            p.name: Struct(self.order + np.dtype(p.count_type).char) if p.count_type else None
            for p in element.properties
        }
        plan = [(places[name].append, lengths[name].append, counters[name], kinds[name].itemsize) for name in kinds]
        position, size = self.position, len(self.data)
        for _ in range(element.count):
            for add_place, add_length, counter, width in plan:
                length = 1
                if counter is not None:
                    if position + counter.size > size:
                        raise self._cut(element)
                    (length,) = counter.unpack_from(self.data, position)
                    position += counter.size
                    add_length(length)
                add_place(position)
                position += length * width
                if length < 0 or position > size:
                    self._check_length(element, length, position)
        self.position = position
        columns: dict[str, np.ndarray | Lists] = {}
        for name, kind in kinds.items():
            # All numbers of this type in the file, one at every byte.
            everywhere: np.ndarray = np.ndarray((max(0, size - kind.itemsize + 1),), kind, self.data, strides=(1,))
            place = np.array(places[name])
            if counters[name] is None:
                columns[name] = everywhere[place]
                continue
            count = np.array(lengths[name])
            before = np.cumsum(count) - count  # numbers of the rows before
            columns[name] = Lists(
                everywhere[np.repeat(place - before * kind.itemsize, count) + kind.itemsize * np.arange(count.sum())],
                count,
            )
        return columns

    def check_end(self) -> None:
        if self.data[self.position :].strip():
            raise InputError(self.path, f"{self.position} bytes, as the header declares", f"{len(self.data)}")


class _AsciiRows(_Rows):
    """Numbers with blanks between them, a row on a line; where rows are broken over lines, the numbers alone count."""

    def __init__(self, path: str | Path, data: bytes, header: PlyHeader) -> None:
        super().__init__(path, data, header)
        body = data[header.size :]
        counts = np.array([len(line.split()) for line in body.splitlines()])
        ends = np.cumsum(counts[counts > 0])
        self._ends = ends if len(ends) == sum(e.count for e in header.elements if e.properties) else None  # in words
        self.words, self.position = body.split(), 0
        if b"_" in body:  # to Python, 1_0 is ten
            raise self._no_number(next(word for word in self.words if b"_" in word))

    def _least(self, element: PlyElement) -> int:
        return 2 * len(element.properties)

    def read(self, element: PlyElement) -> dict[str, np.ndarray | Lists]:
        if not element.count or not element.properties:
            return _no_columns(element)
        width, begin = len(element.properties), self.position
        if not element.has_lists:
            last = begin + width * np.arange(1, element.count + 1)
            self._check_lines(element, begin, last)
            table = self._numbers(self._words(element, begin, element.count * width)).reshape(element.count, width)
            self.position = int(last[-1])
            return {p.name: table[:, i] for i, p in enumerate(element.properties)}
        words: dict[str, list[bytes]] = {p.name: [] for p in element.properties}
        lengths = {p.name: array("q") for p in element.properties if p.count_type}
        ends, position = array("q"), begin
        try:
            for _ in range(element.count):
                for p in element.properties:
                    length = 1
                    if p.count_type is not None:
                        length = self._length(element, *self._words(element, position, 1))
                        lengths[p.name].append(length)
                        position += 1
                    words[p.name] += self._words(element, position, length)
                    position += length
                ends.append(position)
        except InputError:  # perhaps because rows before this one were longer than they say
            self._check_lines(element, begin, np.array(ends))
            raise
        self._check_lines(element, begin, np.array(ends))
        self.position = position
        columns = {name: self._numbers(found) for name, found in words.items()}
        return {
            name: Lists(values, np.array(lengths[name])) if name in lengths else values
            for name, values in columns.items()
        }

    def _words(self, element: PlyElement, begin: int, length: int) -> list[bytes]:
        words = self.words[begin : begin + length]
        if len(words) < length:
            raise self._cut(element)
        return words

    def _length(self, element: PlyElement, word: bytes) -> int:
        """The length of a list: a whole number, however it is written (``3``, ``3.0``)."""
        try:
            length = float(word)
        except ValueError:
            length = -1.0
        if not 0 <= length <= len(self.data) or length != int(length):
            raise InputError(self.path, f"a list length in element {element.name}", f"{word.decode('latin1')!r}")
        return int(length)

    def _numbers(self, words: list[bytes]) -> np.ndarray:
        try:
            return np.fromiter(map(float, words), np.float64, len(words))
        except ValueError:
            raise self._no_number(next(word for word in words if not _is_number(word))) from None

    def _no_number(self, word: bytes) -> InputError:
        return InputError(self.path, "numbers behind the header", f"{word.decode('latin1')!r}")

    def _check_lines(self, element: PlyElement, begin: int, ends: np.ndarray) -> None:
        """Where there are as many lines as rows, every row has to fill its line."""
        if self._ends is None:
            return
        row = int(np.searchsorted(self._ends, begin, side="right"))
        lines = self._ends[row : row + len(ends)]
        wrong = np.flatnonzero(lines != ends[: len(lines)])
        if len(wrong):
            first = int(wrong[0])
            before = ends[first - 1] if first else begin
            raise InputError(
                self.path,
                f"{ends[first] - before} numbers in row {first} of element {element.name}, as the header declares",
                f"{lines[first] - before}",
            )

    def check_end(self) -> None:
        if self.position < len(self.words):
            raise InputError(self.path, f"{self.position} numbers, as the header declares", f"{len(self.words)}")


def _is_number(word: bytes) -> bool:
    try:
        float(word)
    except ValueError:
        return False
    return True


def _no_columns(element: PlyElement) -> dict[str, np.ndarray | Lists]:
    """Columns of an element of no rows."""
    return {p.name: Lists(np.empty(0), np.empty(0, int)) if p.count_type else np.empty(0) for p in element.properties}


# Triangles of the last file written, as PLY rows: the frames of a sequence share them.
_last_rows: tuple[bytes, bytes] = (b"", b"")


def face_rows(faces: np.ndarray) -> bytes:
    """Triangles (F, 3) as PLY rows (uchar 3, three little-endian int32); the last result is kept."""
    global _last_rows
    key = np.ascontiguousarray(faces, "<i4").tobytes()
    if _last_rows[0] != key:
        rows = np.empty((len(faces), 13), np.uint8)
        rows[:, 0] = 3
        rows[:, 1:] = np.frombuffer(key, np.uint8).reshape(len(faces), 12)
        _last_rows = (key, rows.tobytes())
    return _last_rows[1]


def ply_bytes(vertices: np.ndarray, faces: np.ndarray) -> bytes:
    """Content of a binary little-endian PLY file of vertices (V, 3) and triangles (F, 3).

    Raises:
        ValueError: wrong shapes, NaN or infinity, a face index outside 0..V-1.
    """
    vertices, faces = np.asarray(vertices), np.asarray(faces)
    if vertices.ndim != 2 or vertices.shape[1] != 3 or faces.ndim != 2 or faces.shape[1] != 3:
        raise ValueError(f"expected vertices (V, 3) and faces (F, 3), found {vertices.shape} and {faces.shape}")
    with np.errstate(over="ignore"):  # beyond float32 becomes infinite, and is refused
        vertices = np.ascontiguousarray(vertices, "<f4")
    check_finite("vertices", vertices)
    check_indices("faces", faces, len(vertices))
    header = (
        f"ply\nformat binary_little_endian 1.0\nelement vertex {len(vertices)}\n"
        "property float x\nproperty float y\nproperty float z\n"
        f"element face {len(faces)}\nproperty list uchar int vertex_indices\nend_header\n"
    )
    return b"".join((header.encode("ascii"), vertices.tobytes(), face_rows(faces)))


def write_ply(path: str | Path, vertices: np.ndarray, faces: np.ndarray) -> None:
    """Write vertices (V, 3) and triangles (F, 3) as binary little-endian PLY, float32, whole or not at all.

    Raises:
        ValueError: see :func:`ply_bytes`.
    """
    write_bytes(path, ply_bytes(vertices, faces))
