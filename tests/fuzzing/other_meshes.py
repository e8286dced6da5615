"""OFF and STL files, which trimesh reads: text and binary."""

from __future__ import annotations

import struct
from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.fuzzing import Reader
from tests.fuzzing.mutations import mutated
from tests.fuzzing.ply import sane_mesh

WORDS = (
    b"OFF",
    b"COFF",
    b"solid",
    b"facet normal",
    b"outer loop",
    b"vertex",
    b"endsolid",
    b"nan",
    b"-1",
    b"99999999",
    b"#",
)
_PLACES = ((0, 0, 0), (1, 0, 0), (0, 1, 0), (0, 0, 1))


@st.composite
def off_files(draw: DrawFn) -> bytes:
    """Content of a valid file: triangles and quads."""
    faces = draw(st.lists(st.permutations(range(4)), min_size=1, max_size=4))
    rows = [face[: draw(st.sampled_from((3, 4)))] for face in faces]
    lines = ["OFF", f"4 {len(rows)} 0", *(" ".join(map(str, place)) for place in _PLACES)]
    lines += [f"{len(row)} {' '.join(map(str, row))}" for row in rows]
    if draw(st.booleans()):
        lines.insert(1, "# by hand")
    return "\n".join([*lines, ""]).encode()


@st.composite
def stl_files(draw: DrawFn) -> bytes:
    """Content of a valid file, text or binary."""
    rows = draw(st.lists(st.permutations(_PLACES), min_size=1, max_size=4))
    if draw(st.booleans()):
        head = b"by hand".ljust(80) + struct.pack("<I", len(rows))
        return head + b"".join(struct.pack("<12fH", 0, 0, 1, *np.ravel(row[:3]), 0) for row in rows)
    loops = ["\n".join(f"vertex {x} {y} {z}" for x, y, z in row[:3]) for row in rows]
    facets = [f"facet normal 0 0 1\nouter loop\n{loop}\nendloop\nendfacet" for loop in loops]
    return "\n".join(["solid a", *facets, "endsolid a", ""]).encode()


def _read(path: Path) -> None:
    from face4d.mesh.sequence import read_mesh

    vertices, faces = read_mesh(path)
    sane_mesh(vertices, faces)
    assert len(faces)


_CORPUS = (b"solidvertex0 0 1 0 92354775808 0\nvertex0 1 0\nendsolid",)

READERS = (
    Reader("off", ".off", mutated(off_files(), WORDS), _read),
    Reader("stl", ".stl", mutated(stl_files(), WORDS), _read, _CORPUS),
)
