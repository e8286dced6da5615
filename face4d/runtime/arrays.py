"""Arrays of numbers and of text in ``.npy`` and ``.npz`` files: one reader for all of them, which believes a header only as far as the file goes.

Types come from a short list, the size that a header claims is compared with the bytes that are there before memory is taken, and nothing is
unpickled (:mod:`face4d.runtime.safe_pickle` reads the pickles that some published ``.npy`` files hold).
"""

from __future__ import annotations

import math
import os
import re
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from face4d.errors import InputError
from face4d.runtime.files import open_file
from face4d.runtime.zip_archive import ZipArchive

MOST_DIMENSIONS = 32
MOST_LENGTH = 1 << 40  # product of dimensions, zeros left out
MOST_HEADER = 10_000  # bytes, as numpy has it
MOST_TEXT = 1024  # bytes of an entry of text

_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}
_TYPE = re.compile(r"([<>=|]?)([a-zA-Z])([1-9]\d{0,3})")
_MAGIC = b"\x93NUMPY"
_ENTRY = re.compile(r"""\s*['"](\w{1,20})['"]\s*:\s*(?:(['"])(.{0,40}?)\2|(True|False)|\(([\d\sL,]*)\)|(\[))\s*(?:,|(?=\}))""")


@dataclass(frozen=True)
class NpyHeader:
    """What an array's header says.

    Attributes:
        type: of its elements; None where they are pickled objects.
        shape: of any claimed size.
        fortran: whether the first index runs fastest.
    """

    type: np.dtype | None
    shape: tuple[int, ...]
    fortran: bool


def element_type(text: str) -> np.dtype | None:
    """The type that a text as ``<f8`` names, if numbers (integers, bool, floating, complex) or text of a bounded length."""
    match = _TYPE.fullmatch(text)
    if match is None:
        return None
    order, kind, size = match.groups()
    if kind + size in _NUMBERS:
        if order == "|" and size != "1":
            return None
    elif not (kind == "S" and int(size) <= MOST_TEXT) and not (kind == "U" and 4 * int(size) <= MOST_TEXT):
        return None
    return np.dtype(f"{order or '='}{kind}{size}")


def shape_size(shape: Any) -> int | None:
    """Number of entries of a shape; None where it is not a sequence of whole numbers that an array can have."""
    if len(shape) > MOST_DIMENSIONS or any(type(n) is not int or n < 0 for n in shape) or math.prod(max(n, 1) for n in shape) > MOST_LENGTH:
        return None
    return math.prod(shape)


def read_elements(file: BinaryIO, kind: np.dtype, shape: tuple[int, ...], fortran: bool) -> np.ndarray | None:
    """An array from the bytes at the file's position, whose number must have been compared with the shape; None for text that is none."""
    array = np.empty(shape[::-1] if fortran else shape, kind)
    flat = array.reshape(-1).view(np.uint8)
    place = 0
    while place < len(flat) and (count := file.readinto(flat[place:].data)):
        place += count
    if place < len(flat):
        return None
    if kind.kind == "b":
        array = np.asarray(flat.reshape(array.shape) != 0)  # other bytes than 0 and 1 are no truth values to the processor
    elif kind.kind == "U" and array.size and flat.view(kind.str[0] + "u4").max() > 0x10FFFF:
        return None
    return array.T if fortran else array


def read_npy_header(file: BinaryIO, size: int, path: str | Path, expected: str) -> NpyHeader:
    """The header at the beginning of an ``.npy`` of ``size`` bytes; the file is left at the first element.

    Raises:
        InputError: no such file, another type of elements than numbers, text and objects, or a size that differs from the file's.
    """

    def fail(found: str) -> None:
        raise InputError(path, expected, f"an unreadable file ({found})")

    start = file.read(8)
    if start[:4] in (b"PK\3\4", b"PK\5\6"):
        fail("an archive of arrays (.npz)")
    if start[:6] != _MAGIC or len(start) < 8:
        fail("an empty file" if not size else "a file that is no array (.npy)")
    wide = start[6] in (2, 3)
    if start[6] not in (1, 2, 3):
        fail(f"an array of format {start[6]}")
    length = int.from_bytes(file.read(4 if wide else 2), "little")
    done = 12 + length if wide else 10 + length
    text = file.read(length).decode("latin1") if length <= min(MOST_HEADER, size) else ""
    if len(text) != length or done > size or not length:
        fail("a cut or damaged header")
    found = _header(text)
    if found is None:
        fail("a header of other than numbers or text")
    if found.type is not None:
        count = shape_size(found.shape)
        if count is None or count * found.type.itemsize != size - done:
            shape = str(found.shape) if len(found.shape) < 8 else f"{len(found.shape)} dimensions"
            fail(f"{size - done} bytes for {found.type} {shape[:60]}")
    return found


def _header(text: str) -> NpyHeader | None:
    text = text.strip()
    fields: dict[str, Any] = {}
    place = 1
    while match := _ENTRY.match(text, place):
        name, _, words, truth, numbers, _ = match.groups()
        shape = numbers is not None and tuple(int(number.strip(" L")) if number.strip(" L").isdigit() else -1 for number in numbers.split(","))
        fields[name] = words if words is not None else truth == "True" if truth else shape
        place = match.end()
    if text[:1] != "{" or text[place:].strip() != "}" or fields.keys() != {"descr", "fortran_order", "shape"}:
        return None
    kind, fortran, shape = fields["descr"], fields["fortran_order"], fields["shape"]
    if not isinstance(kind, str) or not isinstance(fortran, bool) or not isinstance(shape, tuple):
        return None
    if shape and shape[-1] == -1:  # "(5,)" and "()" end so
        shape = shape[:-1]
    if kind.lstrip("|=<>") in ("O", "O4", "O8"):
        return NpyHeader(None, shape, fortran)
    return None if (found := element_type(kind)) is None else NpyHeader(found, shape, fortran)


def array_of(file: BinaryIO, header: NpyHeader, path: str | Path, expected: str) -> np.ndarray:
    """The array after its header.

    Raises:
        InputError: pickled objects, or a file that changed.
    """
    if header.type is None:
        raise InputError(path, expected, "an unreadable file (pickled objects)")
    array = read_elements(file, header.type, header.shape, header.fortran)
    if array is None:
        raise InputError(path, expected, "an unreadable file (a damaged array)")
    return array


def load_numbers(path: str | Path, expected: str) -> np.ndarray:
    """Load an ``.npy`` file of numbers (integers or floating).

    Args:
        expected: what the file should hold, for the errors.

    Raises:
        InputError: it is missing, damaged, an archive, or holds anything else.
    """
    with open(open_file(path, expected), "rb") as file:
        header = read_npy_header(file, os.fstat(file.fileno()).st_size, path, expected)
        if header.type is not None and header.type.kind not in "fiu":
            raise InputError(path, expected, "something that is not numbers")
        return array_of(file, header, path, expected)


def load_npz(path: str | Path, expected: str, required: Collection[str] = (), optional: Collection[str] | None = None) -> dict[str, np.ndarray]:
    """Load arrays of an ``.npz`` file by name.

    Args:
        expected: what the file should hold, for the errors.
        required: arrays that must be there.
        optional: arrays that may be there; others are not looked at. None for all that there are.

    Raises:
        InputError: it is missing, damaged, a single array, without a required array, or one of the arrays is none of numbers or text.
    """
    with open(open_file(path, expected), "rb") as file:
        archive = ZipArchive(file, path, expected)
        arrays = {}
        for member in archive.members:
            name = member.removesuffix(".npy")
            if name != member and (optional is None or name in required or name in optional):
                stream = archive.open(member)
                header = read_npy_header(stream, stream.size, f"{path}, {ascii(name)[1:-1]}", expected)
                arrays[name] = array_of(stream, header, f"{path}, {ascii(name)[1:-1]}", expected)
    if missing := [name for name in required if name not in arrays]:
        raise InputError(path, expected, f"no {', '.join(missing)}")
    return arrays


def numbers(value: Any) -> np.ndarray | None:
    """An array of numbers from an array or nested lists of numbers as a file holds them; None for anything else."""
    if isinstance(value, (list, tuple)) and _are_numbers(value):
        try:
            value = np.array(value)
        except (ValueError, OverflowError):  # rows of different lengths
            return None
    elif isinstance(value, (bool, int, float)):
        value = np.array(value)
    elif isinstance(value, np.generic):
        value = np.asarray(value)
    return value if isinstance(value, np.ndarray) and value.dtype.kind in "biufc" else None


def _are_numbers(values: list[Any] | tuple[Any, ...]) -> bool:
    for value in values:
        if isinstance(value, (list, tuple)):
            if not _are_numbers(value):
                return False
        elif not isinstance(value, (bool, int, float, np.number)) and not (isinstance(value, np.ndarray) and value.dtype.kind in "biufc"):
            return False
    return True
