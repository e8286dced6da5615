"""Headers of PLY files: what a file says it holds."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property, lru_cache
from pathlib import Path

from face4d.errors import InputError

A_PLY = "a PLY file"
BYTE_ORDER = {"ascii": "=", "binary_little_endian": "<", "binary_big_endian": ">"}
_TYPES = {
    "char": "i1", "int8": "i1", "uchar": "u1", "uint8": "u1",
    "short": "i2", "int16": "i2", "ushort": "u2", "uint16": "u2",
    "int": "i4", "int32": "i4", "uint": "u4", "uint32": "u4",
    "float": "f4", "float32": "f4", "double": "f8", "float64": "f8",
}  # fmt: skip
_MAX_HEADER = 1 << 16
_MARK = b"\xef\xbb\xbf"  # UTF-8 byte order mark, put there by editors
_LINE_END = re.compile(rb"\r\n|\n|\r")
_FIRST_LINE = re.compile(rb"(?:\xef\xbb\xbf)?ply[ \t]*(\r\n|\n|\r)", re.IGNORECASE)
_LAST_LINE = re.compile(rb"(?<=[\r\n])end_header[ \t]*(\r\n|\n|\r)", re.IGNORECASE)
_LONGEST_COUNT = 18  # digits


@dataclass(frozen=True)
class PlyProperty:
    """One property; ``count_type`` is None for a scalar and the type of the length for a list. Types are numpy
    codes.
    """

    name: str
    type: str
    count_type: str | None = None


@dataclass(frozen=True)
class PlyElement:
    """One element (``vertex``, ``face``, ...) with its number of rows and its properties in file order."""

    name: str
    count: int
    properties: tuple[PlyProperty, ...]

    @property
    def has_lists(self) -> bool:
        """Whether its rows differ in size."""
        return any(p.count_type for p in self.properties)


@dataclass(frozen=True)
class PlyHeader:
    """A parsed header: encoding, elements, and its size in bytes (where the body starts)."""

    encoding: str
    elements: tuple[PlyElement, ...]
    size: int

    @cached_property
    def plain(self) -> tuple[int, int] | None:
        """Numbers of vertices and faces if this is the layout of face data sets (see :mod:`face4d.mesh.ply`), else
        None.
        """
        if self.encoding != "binary_little_endian" or [e.name for e in self.elements] != ["vertex", "face"]:
            return None
        vertex, face = self.elements
        if [(p.name, p.type, p.count_type) for p in vertex.properties] != [
            ("x", "f4", None),
            ("y", "f4", None),
            ("z", "f4", None),
        ]:
            return None
        if [(p.name, p.count_type) for p in face.properties] not in (
            [("vertex_indices", "u1")],
            [("vertex_index", "u1")],
        ):
            return None
        return (vertex.count, face.count) if face.properties[0].type in ("i4", "u4") else None


def header_of(path: str | Path, data: bytes) -> PlyHeader:
    """Header of a file's content; raises :class:`InputError` for anything but PLY."""
    end = data.find(b"\nend_header\n", 0, _MAX_HEADER) if data.startswith(b"ply\n") else -1
    size = end + 12 if end >= 0 else _size_of_another(path, data)
    try:
        return parse_header(data[:size])
    except ValueError as error:
        raise InputError(path, A_PLY, f"{error}") from None


def _size_of_another(path: str | Path, data: bytes) -> int:
    """Bytes of a header whose lines do not end as most do, or whose keywords are in capital letters."""
    first = _FIRST_LINE.match(data)
    if first is None:
        found = "an empty file" if not data else f"a file that starts with {data[:8]!r}"
        raise InputError(path, f"{A_PLY} (first line 'ply')", found)
    last = _LAST_LINE.search(data, 0, _MAX_HEADER)
    if last is None:
        raise InputError(path, f"{A_PLY} with a whole header", "no end_header line (file cut short?)")
    # Where lines end in CR alone, a line feed after the last one belongs to the body.
    return last.end() - (first[1] == b"\r" and last[1] == b"\r\n")


@lru_cache(maxsize=64)
def parse_header(header: bytes) -> PlyHeader:
    """Parse a header, from ``ply`` to the line end after ``end_header``; words in capital letters are the same words.

    Raises:
        ValueError: its message says what was found in place of a header line.
    """
    encoding = ""
    elements: list[tuple[str, int, list[PlyProperty]]] = []
    for line in _LINE_END.split(header.removeprefix(_MARK).lower())[1:]:
        words = line.split()
        if not words or words[0] in (b"comment", b"obj_info", b"end_header"):
            continue
        keyword, values = words[0], [word.decode("latin1") for word in words[1:]]
        if keyword == b"format" and not encoding and values and values[0] in BYTE_ORDER:
            encoding = values[0]
        elif keyword == b"element" and len(values) == 2 and words[2].isdigit() and len(words[2]) <= _LONGEST_COUNT:
            elements.append((values[0], int(values[1]), []))
        elif keyword == b"property" and elements and (entry := _property(values)) is not None:
            elements[-1][2].append(entry)
        else:
            raise ValueError(f"the header line {line.strip().decode('latin1')!r}")
    if not encoding:
        raise ValueError("a header without a format line")
    for name, _, properties in elements:
        names = [p.name for p in properties]
        if len(set(names)) < len(names):
            raise ValueError(f"a property named twice in element {name}")
    names = [name for name, _, _ in elements]
    if len(set(names)) < len(names):
        raise ValueError(f"two elements named {next(name for name in names if names.count(name) > 1)}")
    vertex = next((e for e in elements if e[0] == "vertex"), None)
    if vertex is None or vertex[1] == 0:
        raise ValueError("no vertices")
    if not {"x", "y", "z"} <= {p.name for p in vertex[2] if p.count_type is None}:
        raise ValueError("vertices without x, y, z")
    return PlyHeader(encoding, tuple(PlyElement(name, count, tuple(p)) for name, count, p in elements), len(header))


def _property(values: list[str]) -> PlyProperty | None:
    """The property of a header line, without its first word; None where that is none."""
    if len(values) == 2 and values[0] in _TYPES:
        return PlyProperty(values[1], _TYPES[values[0]])
    if (
        len(values) == 4
        and values[0] == "list"
        and _TYPES.get(values[1], "f").startswith(("i", "u"))
        and values[2] in _TYPES
    ):
        return PlyProperty(values[3], _TYPES[values[2]], _TYPES[values[1]])
    return None
