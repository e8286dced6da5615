"""Files that belong to a checkpoint or a record: found from where it lies, and whether they fit it.

A checkpoint remembers the folders it was trained with as they were typed, relative to a working directory that is
another one today, or on another machine. Such paths are data from a file: they are looked for and read, never written
to.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from face4d.constants import DEMO_VERTICES, FLAME_VERTICES
from face4d.errors import InputError

if TYPE_CHECKING:  # flags are parsed without it
    import numpy as np

# folders that checkpoints and records lie in, below the root of a working folder
LAYOUT = ("models", "runs", "results", "Generated_Animation")
HEADS = {FLAME_VERTICES: "FLAME", DEMO_VERTICES: "the demo head"}  # by number of vertices


def find(owner: str | Path, recorded: str | Path) -> Path | None:
    """Where a path that was recorded in a file is now; None where nothing of that name is found.

    An absolute path is first taken as it is. A relative one is first looked for in the folders above the file that
    remembers it, up to the one that holds the working folder (the one with ``models/`` in it), then in the working
    directory. Last, for a working folder that was moved or renamed, the end of the path is looked for in the same
    folders, the longest first.

    Args:
        owner: the checkpoint or record; it need not exist.
        recorded: the path in it, as it was typed when the file was written.
    """
    return next((place for place in _places(Path(owner), PurePath(recorded)) if os.path.exists(place)), None)


def _places(owner: Path, recorded: PurePath) -> Iterator[Path]:
    above = _folders_above(owner)
    if recorded.is_absolute():
        yield Path(recorded)
    else:
        yield from (folder / recorded for folder in above)
        yield Path(recorded)
    parts = [part for part in recorded.parts if part not in (recorded.anchor, "..")]
    for start in range(len(parts)):
        yield from (folder.joinpath(*parts[start:]) for folder in above)


def _folders_above(owner: Path) -> list[Path]:
    """The folder of a file, the root of its working folder and what lies between and above it, nearest first; links
    also followed.
    """
    found: dict[Path, None] = {}
    for path in (Path(os.path.abspath(owner)), owner.resolve()):
        parents = list(path.parents)
        # in parents, of the working folder
        root = next((number + 1 for number, folder in enumerate(parents) if folder.name in LAYOUT), 0)
        found.update(dict.fromkeys(parents[: root + 2]))
    return list(found)


def require(owner: str | Path, path: Path, what: str, helps: str) -> Path:
    """The path, if something is there.

    Args:
        owner: the checkpoint that remembers it.
        what: what it holds, for the error.
        helps: which flag gives another place.

    Raises:
        InputError: nothing is there.
    """
    if not os.path.exists(path):
        raise InputError(
            path, f"{what} of {owner}, as remembered there ({helps})", "nothing of that name here or beside it"
        )
    return path


@dataclass(frozen=True)
class Topology:
    """What a checkpoint's faces are made of, as far as it decides which files fit each other.

    Attributes:
        vertices: their number V.
        faces: (F, 3), None where only the number of vertices is known.
    """

    vertices: int
    faces: np.ndarray | None = None

    @property
    def name(self) -> str:
        return HEADS.get(self.vertices, f"a head of {self.vertices} vertices")

    def __str__(self) -> str:
        return self.name if str(self.vertices) in self.name else f"{self.name} ({self.vertices} vertices)"


def require_fit(
    generator: str | Path, wanted: Topology, other: str | Path, found: Topology, makes: str, flag: str
) -> None:
    """Refuse two files of different topologies.

    Args:
        generator: the checkpoint whose landmarks lie on ``wanted``.
        other: a file that ``makes`` (a verb: makes, moves) faces of ``found``.
        flag: that names another file in its place.

    Raises:
        InputError: naming both, and what would fit.
    """
    from face4d.mesh.triangles import difference, same_topology

    if found.vertices != wanted.vertices:
        helps = f"give {flag} of {wanted.name} or a generator of {found.name}"
        raise InputError(
            other,
            f"one for {wanted}, whose landmarks {generator} was trained on ({helps})",
            f"one that {makes} {found}",
        )
    if found.faces is not None and wanted.faces is not None and not same_topology(found.faces, wanted.faces):
        helps = f"give another {flag}, or --flame DIR or --landmark-embedding FILE"
        expected = f"one for the triangles that the landmarks of {generator} lie on ({helps})"
        raise InputError(other, expected, f"one that {makes} {difference(found.faces, wanted.faces)}")
