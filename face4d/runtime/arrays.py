"""Arrays of numbers and of text in ``.npy`` and ``.npz`` files, read with every size checked before memory is taken.

Central directory, members stored or deflated, sums; no encryption, no archives beyond 4 GB, nothing that numpy does not
write.

Arrays of numbers and of text in ``.npy`` and ``.npz`` files: one reader for all of them, which believes a header only
as far as the file goes.

Types come from a short list, the size that a header claims is compared with the bytes that are there before memory is
taken, and nothing is unpickled (:mod:`face4d.runtime.safe_pickle` reads the pickles that some published ``.npy`` files
hold).
"""

from __future__ import annotations

import io
import math
import os
import re
import struct
import zlib
from collections.abc import Collection
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

import numpy as np

from face4d.errors import InputError
from face4d.runtime.files import open_file

MOST_MEMBERS = 1000
UNPACKED_PER_BYTE = 200  # what members may take, for each byte of the archive; deflate itself reaches a thousand
UNPACKED_FREE = 64 << 20

_END, _ZIP_ENTRY, _LOCAL = (struct.Struct(layout) for layout in ("<4s4H2LH", "<4s6H3L5H2L", "<4s5H3L2H"))
_MOST_COMMENT = 0xFFFF
_BEYOND = 0xFFFFFFFF  # in place of a size that another record holds
_STORED, _DEFLATED = 0, 8
_PIECE = 1 << 18  # bytes read or unpacked at once


@dataclass(frozen=True)
class _Member:
    method: int
    checksum: int
    packed: int
    size: int
    start: int  # of its own header


class ZipArchive:
    """An open archive.

    Attributes:
        members: by name; none is read before :meth:`open`.

    Raises:
        InputError: no archive, a cut one, or one of another kind than described above.
    """

    def __init__(self, file: io.BufferedIOBase, path: str | Path, expected: str) -> None:
        self.file, self.path, self.expected = file, path, expected
        size = os.fstat(file.fileno()).st_size
        if self._at(0, 6) == b"\x93NUMPY":
            self.fail("a single array (.npy)")
        count, start, end = self._directory(size)
        self.end = start
        self.members: dict[str, _Member] = {}
        directory = self._at(start, end - start)
        place = 0
        for _ in range(count):
            if len(directory) - place < _ZIP_ENTRY.size:
                self.fail("a damaged archive")
            mark, _, _, flags, method, _, _, checksum, packed, unpacked, name, extra, comment, _, _, _, offset = (
                _ZIP_ENTRY.unpack_from(directory, place)
            )
            place += _ZIP_ENTRY.size
            text = directory[place : place + name].decode("utf-8", "replace")
            place += name + extra + comment
            if mark != b"PK\1\2" or place > len(directory):
                self.fail("a damaged archive")
            if flags & 1:
                self.fail("an archive with a password")
            if method not in (_STORED, _DEFLATED):
                self.fail(f"an archive packed by method {method}")
            if _BEYOND in (packed, unpacked, offset):
                self.fail("an archive of 4 GB or more")
            if text in self.members:
                self.fail(f"two members {ascii(text)[:60]}")
            if offset + _LOCAL.size + packed > start or (method == _STORED and packed != unpacked):
                self.fail("a damaged archive")
            self.members[text] = _Member(method, checksum, packed, unpacked, offset)
        if sum(member.size for member in self.members.values()) > UNPACKED_PER_BYTE * size + UNPACKED_FREE:
            self.fail(f"one of {size} bytes that unpacks to {sum(member.size for member in self.members.values())}")

    def fail(self, found: str) -> NoReturn:
        raise InputError(self.path, self.expected, f"an unreadable file ({found})")

    def _at(self, start: int, count: int) -> bytes:
        self.file.seek(start)
        return self.file.read(count)

    def _directory(self, size: int) -> tuple[int, int, int]:
        """Number of members, and start and end of the list of them."""
        tail = self._at(max(size - _END.size - _MOST_COMMENT, 0), _END.size + _MOST_COMMENT)
        place = len(tail) - _END.size + 1
        while (place := tail.rfind(b"PK\5\6", 0, max(place + 3, 0))) >= 0:
            _, disk, first_disk, here, count, length, start, comment = _END.unpack_from(tail, place)
            end = size - len(tail) + place
            if place + _END.size + comment == len(tail):
                break
        else:
            if self._at(0, 4) in (b"PK\3\4", b"PK\5\6"):
                self.fail("a cut archive")
            self.fail("a file that is no archive")
        if 0xFFFF in (disk, first_disk, here, count) or _BEYOND in (length, start):
            self.fail("an archive of 4 GB or more")
        if disk or first_disk or here != count or start + length != end:
            self.fail("a damaged archive")
        if count > MOST_MEMBERS or length > count * (_ZIP_ENTRY.size + 2 * _MOST_COMMENT):
            self.fail(f"an archive of {count} members")
        return count, start, end

    def open(self, name: str) -> ZipMember:
        """A member to be read from its beginning.

        Raises:
            InputError: its own header is damaged.
        """
        member = self.members[name]
        header = self._at(member.start, _LOCAL.size)
        mark, *_, name_length, extra_length = _LOCAL.unpack(header) if len(header) == _LOCAL.size else (b"", 0, 0)
        start = member.start + _LOCAL.size + name_length + extra_length
        if mark != b"PK\3\4" or start + member.packed > self.end:
            self.fail("a damaged archive")
        return ZipMember(self, member, start)


class ZipMember(io.RawIOBase):
    """Content of a member as a stream; raises :class:`InputError` where it is damaged, at the latest at its end."""

    def __init__(self, archive: ZipArchive, member: _Member, start: int) -> None:
        self.archive, self.size, self.checksum = archive, member.size, member.checksum
        self.place, self.packed, self.left, self.sum = start, member.packed, member.size, 0
        self.unpack = zlib.decompressobj(-zlib.MAX_WBITS) if member.method == _DEFLATED else None

    def readable(self) -> bool:
        return True

    def read(self, size: int = -1, /) -> bytes:
        return super().read(size) or b""

    def readinto(self, buffer: Any, /) -> int:
        """Fill the buffer, or what is left."""
        view = memoryview(buffer).cast("B")
        view = view[: min(len(view), self.left)]
        done = 0
        while done < len(view):
            place = view[done : done + _PIECE]
            count = self._stored(place) if self.unpack is None else self._unpacked(self.unpack, place)
            if not count:
                self.archive.fail("a damaged archive")
            self.sum = zlib.crc32(place[:count], self.sum)
            done += count
        self.left -= done
        if done and not self.left and self.sum != self.checksum:
            self.archive.fail("a damaged archive (a checksum differs)")
        return done

    def _stored(self, target: memoryview) -> int:
        """Bytes as they lie in the file, into ``target``; how many."""
        self.archive.file.seek(self.place)
        count = self.archive.file.readinto(target[: self.packed])
        self.place += count
        self.packed -= count
        return count

    def _unpacked(self, unpack: Any, target: memoryview) -> int:
        """What ``unpack`` (:func:`zlib.decompressobj`) makes of bytes of the file, into ``target``; how many."""
        try:
            while not unpack.eof:
                packed = unpack.unconsumed_tail
                if not packed and self.packed:
                    piece = memoryview(bytearray(min(self.packed, _PIECE)))
                    packed = piece[: self._stored(piece)]
                part = unpack.decompress(packed, len(target))
                if part:
                    target[: len(part)] = part
                    return len(part)
                if not packed:
                    break
        except zlib.error:
            pass
        return 0


MOST_DIMENSIONS = 32
MOST_LENGTH = 1 << 40  # product of dimensions, zeros left out
MOST_HEADER = 10_000  # bytes, as numpy has it
MOST_TEXT = 1024  # bytes of an entry of text

_NUMBERS = {"b1", "i1", "i2", "i4", "i8", "u1", "u2", "u4", "u8", "f2", "f4", "f8", "c8", "c16"}
_TYPE = re.compile(r"([<>=|]?)([a-zA-Z])([1-9]\d{0,3})")
_MAGIC = b"\x93NUMPY"
_ENTRY = re.compile(
    r"""\s*['"](\w{1,20})['"]\s*:\s*(?:(['"])(.{0,40}?)\2|(True|False)|\(([\d\sL,]*)\)|(\[))\s*(?:,|(?=\}))"""
)


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
    """The type that a text as ``<f8`` names, if numbers (integers, bool, floating, complex) or text of a bounded
    length.
    """
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
    if (
        len(shape) > MOST_DIMENSIONS
        or any(type(n) is not int or n < 0 for n in shape)
        or math.prod(max(n, 1) for n in shape) > MOST_LENGTH
    ):
        return None
    return math.prod(shape)


def read_elements(
    file: io.BufferedIOBase | ZipMember, kind: np.dtype, shape: tuple[int, ...], fortran: bool
) -> np.ndarray | None:
    """An array from the bytes at the file's position, whose number must have been compared with the shape; None for
    text that is none.
    """
    array = np.empty(shape[::-1] if fortran else shape, kind)
    flat = array.reshape(-1).view(np.uint8)
    place = 0
    while place < len(flat) and (count := file.readinto(flat[place:].data)):
        place += count
    if place < len(flat):
        return None
    if kind.kind == "b":
        # other bytes than 0 and 1 are no truth values to the processor
        array = np.asarray(flat.reshape(array.shape) != 0)
    elif kind.kind == "U" and array.size and flat.view(kind.str[0] + "u4").max() > 0x10FFFF:
        return None
    return array.T if fortran else array


def read_npy_header(file: io.BufferedIOBase | ZipMember, size: int, path: str | Path, expected: str) -> NpyHeader:
    """The header at the beginning of an ``.npy`` of ``size`` bytes; the file is left at the first element.

    Raises:
        InputError: no such file, another type of elements than numbers, text and objects, or a size that differs from
            the file's.
    """

    def fail(found: str) -> NoReturn:
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
        shape = numbers is not None and tuple(
            int(number.strip(" L")) if number.strip(" L").isdigit() else -1 for number in numbers.split(",")
        )
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


def array_of(file: io.BufferedIOBase | ZipMember, header: NpyHeader, path: str | Path, expected: str) -> np.ndarray:
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


def load_numbers(path: str | Path, expected: str, *, truth: bool = False) -> np.ndarray:
    """Load an ``.npy`` file of numbers (integers or floating).

    Args:
        expected: what the file should hold, for the errors.
        truth: it may also hold truth values.

    Raises:
        InputError: it is missing, damaged, an archive, or holds anything else.
    """
    with open(open_file(path, expected), "rb") as file:
        header = read_npy_header(file, os.fstat(file.fileno()).st_size, path, expected)
        if header.type is not None and header.type.kind not in ("fiub" if truth else "fiu"):
            raise InputError(path, expected, "something that is not numbers")
        return array_of(file, header, path, expected)


def map_numbers(path: str | Path, expected: str) -> np.ndarray:
    """An ``.npy`` file of numbers that stays on disk: parts are read as they are asked for.

    Args:
        expected: what the file should hold, for the errors.

    Returns:
        A read-only array.

    Raises:
        InputError: see :func:`load_numbers`.
    """
    with open(open_file(path, expected), "rb") as file:
        header = read_npy_header(file, os.fstat(file.fileno()).st_size, path, expected)
        start = file.tell()
    if header.type is None or header.type.kind not in "fiu":
        raise InputError(path, expected, "something that is not numbers")
    if not math.prod(header.shape):
        return np.empty(header.shape, header.type)
    return np.memmap(path, header.type, "r", start, header.shape, "F" if header.fortran else "C")


def load_npz(
    path: str | Path, expected: str, required: Collection[str] = (), optional: Collection[str] | None = None
) -> dict[str, np.ndarray]:
    """Load arrays of an ``.npz`` file by name.

    Args:
        expected: what the file should hold, for the errors.
        required: arrays that must be there.
        optional: arrays that may be there; others are not looked at. None for all that there are.

    Raises:
        InputError: it is missing, damaged, a single array, without a required array, or one of the arrays is none of
            numbers or text.
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
        elif not isinstance(value, (bool, int, float, np.number)) and not (
            isinstance(value, np.ndarray) and value.dtype.kind in "biufc"
        ):
            return False
    return True
