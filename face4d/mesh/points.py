"""A few vertices of many PLY files."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np

from face4d.mesh.ply import check_finite, read_ply, read_ply_vertices
from face4d.mesh.ply_header import A_PLY, header_of
from face4d.runtime.files import open_sized, read_bytes


class FaceReader:
    """Reads the triangles of many files; where a plain file has those of the last one they are not parsed again."""

    def __init__(self) -> None:
        self._rows, self._faces = b"", np.empty((0, 3), np.int32)

    def read(self, path: str | Path) -> np.ndarray:
        """(F, 3) int32 of one file.

        Raises:
            InputError: see :func:`face4d.mesh.ply.read_ply`.
        """
        data = read_bytes(path, A_PLY)
        header = header_of(path, data)
        begin = None if header.plain is None else header.size + 12 * header.plain[0]
        if begin is not None and self._rows and len(data) == begin + len(self._rows) and data.endswith(self._rows):
            return self._faces
        self._faces = read_ply(path)[1]
        self._rows = b"" if begin is None else data[begin:]
        return self._faces


class PointReader:
    """Reads the same few vertices of many files of one topology; of plain files only header, size and those vertices are looked at.

    Args:
        points: (N,) vertex numbers, 0..V-1.
        num_vertices: number V wanted in every file.
    """

    def __init__(self, points: np.ndarray, num_vertices: int) -> None:
        self.points, self.num_vertices = np.asarray(points), num_vertices
        self._header, self._size = b"", -1  # of the last plain file, and the size that goes with it

    def read(self, path: str | Path) -> np.ndarray:
        """(N, 3) float32 of one file.

        Raises:
            InputError: as :func:`read_ply_vertices`, though NaN and infinity only at the points read.
        """
        data = self._beginning(path, len(self._header) + 12 * self.num_vertices)
        if data is None:
            vertices = read_ply_vertices(path, self.num_vertices)
            self._learn(path)
            return vertices[self.points]
        rows = np.frombuffer(data, "V12", self.num_vertices, len(self._header))  # whole: the numbers lie at odd addresses
        found = rows[self.points].view("<f4").reshape(-1, 3)
        check_finite(path, found)
        return found.astype(np.float32, copy=False)

    def check(self, path: str | Path) -> None:
        """Look at header and size of a file that is not needed.

        Raises:
            InputError: as :func:`read_ply_vertices` (a file that is not like the last one is read).
        """
        if self._beginning(path, len(self._header)) is None:
            read_ply_vertices(path, self.num_vertices)
            self._learn(path)

    def _beginning(self, path: str | Path, length: int) -> bytes | None:
        """The first bytes of a whole file with the header of the last plain one, else None."""
        descriptor, size = open_sized(path, A_PLY)
        try:
            data = os.read(descriptor, length) if size == self._size else b""
        finally:
            os.close(descriptor)
        return data if self._header and data.startswith(self._header) and len(data) == length else None

    def _learn(self, path: str | Path) -> None:
        data = read_bytes(path, A_PLY)
        header = header_of(path, data)
        if header.plain is not None and len(data) == header.size + 12 * header.plain[0] + 13 * header.plain[1]:
            self._header, self._size = data[: header.size], len(data)
