"""Zip archives as numpy writes them, read with every size checked before anything is made of it.

Central directory, members stored or deflated, sums; no encryption, no archives beyond 4 GB, nothing that numpy does not write.
"""

from __future__ import annotations

import io
import os
import struct
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

from face4d.errors import InputError

MOST_MEMBERS = 1000
UNPACKED_PER_BYTE = 200  # what members may take, for each byte of the archive; deflate itself reaches a thousand
UNPACKED_FREE = 64 << 20

_END, _ENTRY, _LOCAL = (struct.Struct(layout) for layout in ("<4s4H2LH", "<4s6H3L5H2L", "<4s5H3L2H"))
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

    def __init__(self, file: BinaryIO, path: str | Path, expected: str) -> None:
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
            if len(directory) - place < _ENTRY.size:
                self.fail("a damaged archive")
            mark, _, _, flags, method, _, _, checksum, packed, unpacked, name, extra, comment, _, _, _, offset = _ENTRY.unpack_from(directory, place)
            place += _ENTRY.size
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

    def fail(self, found: str) -> None:
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
        if count > MOST_MEMBERS or length > count * (_ENTRY.size + 2 * _MOST_COMMENT):
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

    def readinto(self, buffer: memoryview) -> int:
        """Fill the buffer, or what is left."""
        view = memoryview(buffer).cast("B")
        view = view[: min(len(view), self.left)]
        done = 0
        while done < len(view):
            place = view[done : done + _PIECE]
            count = self._stored(place) if self.unpack is None else self._unpacked(place)
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

    def _unpacked(self, target: memoryview) -> int:
        try:
            while not self.unpack.eof:
                packed = self.unpack.unconsumed_tail
                if not packed and self.packed:
                    piece = memoryview(bytearray(min(self.packed, _PIECE)))
                    packed = piece[: self._stored(piece)]
                part = self.unpack.decompress(packed, len(target))
                if part:
                    target[: len(part)] = part
                    return len(part)
                if not packed:
                    break
        except zlib.error:
            pass
        return 0
