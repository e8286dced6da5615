"""Numbers in MATLAB files (version 5 to 7, plain or compressed), read tag by tag.

The format is a list of elements, each a tag (type, bytes) and its content; a matrix is an element of elements: flags,
dimensions, name, numbers ("MAT-File Format", The MathWorks). Every tag is compared with the bytes around it, and only
full real matrices of numbers are read.
"""

from __future__ import annotations

import math
import struct
import zlib
from collections.abc import Iterator
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.runtime.files import read_bytes

MOST_DIMENSIONS = 32
# what compressed variables may take, all together, for each byte of the file
UNPACKED_PER_BYTE, UNPACKED_FREE = 200, 16 << 20

_HEADER = 128
_COMPRESSED, _MATRIX, _INT32, _UINT32, _INT8 = 15, 14, 5, 6, 1
# by the type of an element
_STORED = {1: "i1", 2: "u1", 3: "i2", 4: "u2", 5: "i4", 6: "u4", 7: "f4", 9: "f8", 12: "i8", 13: "u8"}
# by the class of a matrix
_CLASSES = {6: "f8", 7: "f4", 8: "i1", 9: "u1", 10: "i2", 11: "u2", 12: "i4", 13: "u4", 14: "i8", 15: "u8"}
_COMPLEX = 0x08


class _Damaged(ValueError):
    """What is not as the format has it."""


def read_mat(path: str | Path, name: str, expected: str) -> np.ndarray:
    """The matrix of numbers that a MATLAB file has under a name.

    Args:
        expected: what the file should hold, for the errors.

    Returns:
        Of the type and dimensions (two or more) in the file, in the machine's byte order.

    Raises:
        InputError: no such file, a damaged one, one of another version, no matrix of that name, or one that is not
            numbers.
    """
    data = memoryview(read_bytes(path, expected))
    try:
        found = _find(data, name)
    except _Damaged as error:
        raise InputError(path, expected, f"an unreadable file ({error})") from None
    if found is None:
        raise InputError(path, expected, f"no {name}")
    return found


def _find(data: memoryview, name: str) -> np.ndarray | None:
    order = {b"IM": "<", b"MI": ">"}.get(bytes(data[_HEADER - 2 : _HEADER]))
    if bytes(data[:8]) == b"\x89HDF\r\n\x1a\n" or bytes(data[512:520]) == b"\x89HDF\r\n\x1a\n":
        raise _Damaged("a MATLAB 7.3 file; save it with -v7")
    if order is None or data[:4] == bytes(4):
        raise _Damaged("no MATLAB file of version 5 to 7")
    left = UNPACKED_PER_BYTE * len(data) + UNPACKED_FREE
    for kind, content in _elements(data[_HEADER:], order, padded=False):
        if kind == _COMPRESSED:
            content, left = _unpacked(content, order, left)
        elif kind != _MATRIX:
            raise _Damaged(f"a damaged file (an element of type {kind})")
        found = _matrix(content, order, name)
        if found is not None:
            return found
    return None


def _elements(data: memoryview, order: str, padded: bool = True) -> Iterator[tuple[int, memoryview]]:
    """Type and content of one element after the other; those of at most four bytes share eight with their tag."""
    place = 0
    while place < len(data):
        if len(data) - place < 8:
            raise _Damaged("a cut file")
        kind, size = struct.unpack_from(f"{order}2L", data, place)
        start, step = place + 8, 8
        if kind >> 16:  # the short form: bytes in the upper half
            kind, size, start = kind & 0xFFFF, kind >> 16, place + 4
            if size > 4:
                raise _Damaged("a damaged file (a short element of more than four bytes)")
        else:
            step += size + (-size % 8 if padded and kind != _COMPRESSED else 0)
        if start + size > len(data):
            raise _Damaged("a cut file")
        yield kind, data[start : start + size]
        place += step


def _unpacked(packed: memoryview, order: str, left: int) -> tuple[memoryview, int]:
    """Content of the matrix in a compressed element, and how much more may come."""
    unpack = zlib.decompressobj()
    try:
        data = unpack.decompress(packed, left + 1)
    except zlib.error:
        raise _Damaged("a damaged compressed variable") from None
    if len(data) > left:
        raise _Damaged("a variable that unpacks to more than the file can hold")
    if not unpack.eof:
        raise _Damaged("a cut compressed variable")
    kind, content = next(_elements(memoryview(data), order, padded=False), (0, memoryview(b"")))
    if kind != _MATRIX:
        raise _Damaged("a compressed variable that is no matrix")
    return content, left - len(data)


def _matrix(content: memoryview, order: str, name: str) -> np.ndarray | None:
    """The numbers of a matrix if it has the name."""
    if not len(content):  # MATLAB's empty matrix without a name
        return None
    parts = _elements(content, order)
    (flag_type, flags), (size_type, sizes), (name_type, letters) = (next(parts, (0, memoryview(b""))) for _ in range(3))
    if flag_type != _UINT32 or len(flags) != 8:
        raise _Damaged("a damaged matrix (its flags)")
    bits = struct.unpack(f"{order}2L", flags)[0]
    number_class = bits & 0xFF
    if name_type != _INT8 or bytes(letters) != name.encode():
        return None
    if number_class not in _CLASSES or bits >> 8 & _COMPLEX:
        raise _Damaged(f"{name} that is not full, real numbers")
    if size_type != _INT32 or len(sizes) % 4 or not 2 <= len(sizes) // 4 <= MOST_DIMENSIONS:
        raise _Damaged(f"{name} without dimensions")
    shape = struct.unpack(f"{order}{len(sizes) // 4}l", sizes)
    stored, values = next(parts, (0, memoryview(b"")))
    kind = np.dtype(order + _STORED[stored]) if stored in _STORED else None
    if (
        kind is None
        or min(shape) < 0
        or math.prod(shape) * kind.itemsize != len(values)
        or math.prod(max(n, 1) for n in shape) > 1 << 40
    ):
        raise _Damaged(f"{name} of {len(values)} bytes for {str(shape)[:60]} numbers")
    target = np.dtype(_CLASSES[number_class])
    # numbers are stored in the smallest type that holds them
    if kind.itemsize > target.itemsize or (kind.kind == "f" and target.kind != "f"):
        raise _Damaged(f"{name} of {target} stored as {kind}")
    return np.frombuffer(values, kind).reshape(shape, order="F").astype(target)
