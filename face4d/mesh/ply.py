"""PLY files, ASCII and binary: vertices and triangles, in the order of the file.

The format is Greg Turk's "The PLY Polygon File Format" (1994). The layout that face data sets use (binary little-endian, three floats per
vertex, triangles as uchar + int lists) is read without any parsing beyond the header, and headers are cached by their bytes.
"""

from __future__ import annotations

import os
from abc import ABC, abstractmethod
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.polygons import check_indices, triangulate
from face4d.runtime.atomic import write_bytes

_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_BYTE_ORDER = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_MAX_HEADER = 1 << 16
_A_PLY = "a PLY file"


@dataclass(frozen=True)
class PlyProperty:
    """One property; ``count_type`` is None for a scalar and the type of the length for a list. Types are numpy codes."""

    name: str
    type: str
    count_type: str | None = None


@dataclass(frozen=True)
class PlyElement:
    """One element (``vertex``, ``face``, ...) with its number of rows and its properties in file order."""

    name: str
    count: int
    properties: tuple[PlyProperty, ...]

    @cached_property
    def row_dtype(self) -> np.dtype | None:
        """Packed dtype of one binary row; None when a list makes rows of unknown size."""
        if any(p.count_type for p in self.properties):
            return None
        return np.dtype([(p.name, p.type) for p in self.properties])


@dataclass(frozen=True)
class PlyHeader:
    """A parsed header: encoding, elements, and its size in bytes (where the body starts)."""

    encoding: str
    elements: tuple[PlyElement, ...]
    size: int

    def element(self, name: str) -> PlyElement | None:
        """The element of that name, or None."""
        return next((e for e in self.elements if e.name == name), None)

    @cached_property
    def plain(self) -> tuple[int, int] | None:
        """Numbers of vertices and faces if this is the plain layout (see the module's docstring), else None."""
        if self.encoding != "binary_little_endian" or [e.name for e in self.elements] != ["vertex", "face"]:
            return None
        vertex, face = self.elements
        if [(p.name, p.type, p.count_type) for p in vertex.properties] != [("x", "f4", None), ("y", "f4", None), ("z", "f4", None)]:
            return None
        if len(face.properties) != 1 or face.properties[0].count_type != "u1" or face.properties[0].type not in ("i4", "u4"):
            return None
        return vertex.count, face.count


@lru_cache(maxsize=64)
def parse_header(header: bytes) -> PlyHeader:
    """Parse a header, from ``ply`` to the line end after ``end_header``.

    Raises:
        ValueError: its message says what was found in place of a header line.
    """
    encoding, elements = "", []
    for line in header.decode("latin1").splitlines()[1:]:
        words = line.split()
        if not words or words[0] in ("comment", "obj_info", "end_header"):
            continue
        if words[0] == "format" and len(words) >= 2 and words[1] in _BYTE_ORDER:
            encoding = words[1]
        elif words[0] == "element" and len(words) == 3 and words[2].isdigit():
            elements.append((words[1], int(words[2]), []))
        elif words[0] == "property" and elements and len(words) == 3 and words[1] in _TYPES:
            elements[-1][2].append(PlyProperty(words[2], _TYPES[words[1]]))
        elif (
            words[0] == "property" and elements and len(words) == 5 and words[1] == "list"
            and words[2] in _TYPES and words[3] in _TYPES
        ):  # fmt: skip
            elements[-1][2].append(PlyProperty(words[4], _TYPES[words[3]], _TYPES[words[2]]))
        else:
            raise ValueError(f"the header line {line.strip()!r}")
    if not encoding:
        raise ValueError("a header without a format line")
    vertex = next((e for e in elements if e[0] == "vertex"), None)
    if vertex is None or vertex[1] == 0:
        raise ValueError("no vertices")
    if not {"x", "y", "z"} <= {p.name for p in vertex[2] if p.count_type is None}:
        raise ValueError("vertices without x, y, z")
    for name, _, properties in elements:
        names = [p.name for p in properties]
        if len(set(names)) < len(names):
            raise ValueError(f"a property named twice in element {name}")
    return PlyHeader(encoding, tuple(PlyElement(name, count, tuple(p)) for name, count, p in elements), len(header))


def header_of(path: str | Path, data: bytes) -> PlyHeader:
    """Header of a file's content; raises :class:`InputError` for anything but PLY."""
    if data[:4] not in (b"ply\n", b"ply\r"):
        found = "an empty file" if not data else f"a file that starts with {data[:8]!r}"
        raise InputError(path, f"{_A_PLY} (first line 'ply')", found)
    end = data.find(b"end_header", 0, _MAX_HEADER)
    line_end = data.find(b"\n", end) if end >= 0 else -1
    if end < 0 or line_end < 0:
        raise InputError(path, f"{_A_PLY} with a whole header", "no end_header line (file cut short?)")
    try:
        return parse_header(data[: line_end + 1])
    except ValueError as error:
        raise InputError(path, _A_PLY, f"{error}") from None


def _truncated(path: str | Path, expected: str, found: int) -> InputError:
    return InputError(path, expected, f"{found} bytes (file cut short)")


def check_finite(path: str | Path, vertices: np.ndarray) -> None:
    """Raise :class:`InputError` at the first of the vertices (N, 3) with NaN or infinity."""
    finite = np.isfinite(vertices)
    if not finite.all():
        bad = int(np.argmin(finite.all(axis=1)))
        raise InputError(path, "finite vertex coordinates", f"{vertices[bad].tolist()} at vertex {bad}")


def read_ply(path: str | Path) -> tuple[np.ndarray, np.ndarray]:
    """Read a mesh; polygons become triangle fans.

    Returns:
        vertices (V, 3) float32 and faces (F, 3) int32, in file order; F is 0 when the file has no faces.

    Raises:
        InputError: no such file, not PLY, cut short, NaN or infinite coordinates, a face index outside 0..V-1.
    """
    data = read_bytes(path)
    header = header_of(path, data)
    vertices, faces = _read_plain(data, header) or _read_any(path, data, header)
    check_finite(path, vertices)
    check_indices(path, faces, len(vertices))
    return vertices, faces


def read_bytes(path: str | Path) -> bytes:
    """Content of a PLY file; raises :class:`InputError` where there is none."""
    try:
        return Path(path).read_bytes()
    except FileNotFoundError:
        raise InputError(path, _A_PLY, "no such file") from None
    except IsADirectoryError:
        raise InputError(path, _A_PLY, "a folder") from None


def _read_plain(data: bytes, header: PlyHeader) -> tuple[np.ndarray, np.ndarray] | None:
    """The plain layout with nothing but triangles, else None."""
    if header.plain is None:
        return None
    num_vertices, num_faces = header.plain
    if len(data) < header.size + 12 * num_vertices + 13 * num_faces:
        return None
    body = np.frombuffer(data, np.uint8, 13 * num_faces, header.size + 12 * num_vertices).reshape(num_faces, 13)
    if not (body[:, 0] == 3).all():
        return None
    vertices = np.frombuffer(data, "<f4", 3 * num_vertices, header.size).reshape(num_vertices, 3)
    faces = np.ascontiguousarray(body[:, 1:]).view("<i4")
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
    try:
        descriptor = os.open(path, os.O_RDONLY | getattr(os, "O_BINARY", 0))
    except FileNotFoundError:
        raise InputError(path, _A_PLY, "no such file") from None
    try:
        size = os.fstat(descriptor).st_size
        data = os.read(descriptor, _first_read)
    except IsADirectoryError:
        raise InputError(path, _A_PLY, "a folder") from None
    finally:
        os.close(descriptor)
    header = header_of(path, data)
    vertices = None
    if header.plain is not None:
        count, num_faces = header.plain
        end = header.size + 12 * count
        if size == end + 13 * num_faces:
            if len(data) < end:
                data = read_bytes(path)
                _first_read = end
            # The slice moves the numbers to an aligned address: arithmetic on odd addresses costs more than the copy.
            vertices = np.frombuffer(data[header.size : end], "<f4").reshape(count, 3)
    if vertices is None:
        data = read_bytes(path)
        vertices, _ = _read_plain(data, header) or _read_any(path, data, header)
    if num_vertices is not None and len(vertices) != num_vertices:
        raise InputError(path, f"{num_vertices} vertices", f"{len(vertices)}")
    check_finite(path, vertices)
    return vertices.astype(np.float32) if copy or vertices.dtype != np.float32 else vertices


def _read_any(path: str | Path, data: bytes, header: PlyHeader) -> tuple[np.ndarray, np.ndarray]:
    """Any encoding and any properties; vertices float32 and triangles int32."""
    rows: _Rows = _AsciiRows(path, data, header) if header.encoding == "ascii" else _BinaryRows(path, data, header)
    vertices, faces = np.empty((0, 3), np.float32), np.empty((0, 3), np.int32)
    for element in header.elements:
        columns = rows.read(element)
        if element.name == "vertex":
            vertices = np.stack([np.ravel(columns[axis]) for axis in "xyz"], axis=1).astype(np.float32)
        elif element.name == "face":
            lists = next((columns[name] for name in ("vertex_indices", "vertex_index") if name in columns), None)
            if lists is None and element.count:
                raise InputError(path, "faces with vertex_indices", f"only {', '.join(columns) or 'nothing'}")
            if element.count:
                faces = triangulate(path, lists)
    return vertices, faces


class _Rows(ABC):
    """Reads elements one after the other; a list column is an (n, k) array or, with differing lengths, a list of arrays."""

    def __init__(self, path: str | Path, data: bytes, header: PlyHeader) -> None:
        self.path, self.data, self.position = path, data, header.size
        self.order = _BYTE_ORDER[header.encoding]

    @abstractmethod
    def read(self, element: PlyElement) -> dict[str, np.ndarray | list[np.ndarray]]:
        """The next element's columns by property name."""


class _BinaryRows(_Rows):
    def read(self, element: PlyElement) -> dict[str, np.ndarray | list[np.ndarray]]:
        if element.count == 0:
            return {p.name: np.empty(0, p.type) for p in element.properties}
        dtype = self._uniform_dtype(element)
        if self.position + element.count * dtype.itemsize <= len(self.data):
            table = np.frombuffer(self.data, dtype, element.count, self.position)
            counts = [name for name in table.dtype.names if name.startswith("count ")]
            if all((table[name] == table[name][0]).all() for name in counts):
                self.position += table.nbytes
                return {p.name: table[p.name] for p in element.properties}
        if element.row_dtype is not None:
            raise self._cut(element)
        return self._row_by_row(element)

    def _uniform_dtype(self, element: PlyElement) -> np.dtype:
        """Row dtype if every list were as long as in the first row."""
        fields, position = [], self.position
        for p in element.properties:
            kind = np.dtype(self.order + p.type)
            if p.count_type is None:
                fields.append((p.name, kind))
                position += kind.itemsize
                continue
            count_kind = np.dtype(self.order + p.count_type)
            length = int(self._take(element, count_kind, 1, position)[0])
            fields += [(f"count {p.name}", count_kind), (p.name, kind, (length,))]
            position += count_kind.itemsize + length * kind.itemsize
        return np.dtype(fields)

    def _row_by_row(self, element: PlyElement) -> dict[str, list[np.ndarray]]:
        columns: dict[str, list[np.ndarray]] = {p.name: [] for p in element.properties}
        for _ in range(element.count):
            for p in element.properties:
                length = 1
                if p.count_type is not None:
                    count_kind = np.dtype(self.order + p.count_type)
                    length = int(self._take(element, count_kind, 1, self.position)[0])
                    self.position += count_kind.itemsize
                kind = np.dtype(self.order + p.type)
                columns[p.name].append(self._take(element, kind, length, self.position))
                self.position += length * kind.itemsize
        return columns

    def _take(self, element: PlyElement, kind: np.dtype, length: int, position: int) -> np.ndarray:
        if length < 0 or position + length * kind.itemsize > len(self.data):
            raise self._cut(element)
        return np.frombuffer(self.data, kind, length, position)

    def _cut(self, element: PlyElement) -> InputError:
        return _truncated(self.path, f"{element.count} rows of element {element.name}", len(self.data))


class _AsciiRows(_Rows):
    def __init__(self, path: str | Path, data: bytes, header: PlyHeader) -> None:
        super().__init__(path, data, header)
        self.words, self.position = data[header.size :].split(), 0

    def read(self, element: PlyElement) -> dict[str, np.ndarray | list[np.ndarray]]:
        if not any(p.count_type for p in element.properties):
            width = len(element.properties)
            table = self._take(element, element.count * width).reshape(element.count, width)
            return {p.name: table[:, i] for i, p in enumerate(element.properties)}
        columns: dict[str, list[np.ndarray]] = {p.name: [] for p in element.properties}
        for _ in range(element.count):
            for p in element.properties:
                length = 1 if p.count_type is None else self._take(element, 1)[0]
                if length != int(length) or length < 0:
                    raise InputError(self.path, f"a list length in element {element.name}", f"{length:g}")
                columns[p.name].append(self._take(element, int(length)))
        return columns

    def _take(self, element: PlyElement, length: int) -> np.ndarray:
        words = self.words[self.position : self.position + length]
        if len(words) < length:
            raise _truncated(self.path, f"{element.count} rows of element {element.name}", len(self.data))
        self.position += length
        try:
            return np.array([float(word) for word in words])
        except ValueError as error:
            raise InputError(self.path, f"numbers in element {element.name}", f"{error}") from None


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
