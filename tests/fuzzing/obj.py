"""OBJ files: the usual block of ``v`` and block of ``f`` lines, and lines of all kinds in any order."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.fuzzing import Reader
from tests.fuzzing.mutations import mutated
from tests.fuzzing.ply import sane_mesh

WORDS = (
    b"v",
    b"f",
    b"vt",
    b"vn",
    b"o",
    b"g",
    b"s",
    b"l",
    b"usemtl",
    b"\\\n",
    b"\n",
    b"\nv\t",
    b"\nf\t",
    b"\n v ",
    b"\n f ",
    b"# f ",
    b"-1",
    b"1//1",
    b"1/1",
    b"1/",
)
_OTHERS = (
    "# by hand",
    "mtllib a.mtl",
    "o face",
    "g skin",
    "s off",
    "usemtl skin",
    "vt 0 0.5",
    "vn 0 0 1",
    "",
    "l 1 2",
    "p 1",
    "vp 0 0",
)


@st.composite
def files(draw: DrawFn) -> bytes:
    """Content of a valid file."""
    vertices = draw(st.integers(3, 8))
    decimals = draw(st.sampled_from((1, 6, 6, 8, 9)))
    colours = draw(st.sampled_from(("", "", " 0.5 0.25 1.0", " 1.0")))
    places = [
        f"v {k / 4:.{decimals}f} {-k * k / 8:.{decimals}f} {(k % 3) / 2:.{decimals}f}{colours}" for k in range(vertices)
    ]
    corner = draw(st.sampled_from(("{0}", "{0}", "{0}/1", "{0}//1", "{0}/1/1", "{1}")))
    corners = [
        [(row + k) % vertices + 1 for k in range(draw(st.sampled_from((3, 3, 3, 4, 6))))]
        for row in range(draw(st.integers(1, 5)))
    ]
    faces = ["f " + " ".join(corner.format(k, k - 1 - vertices) for k in row) for row in corners]
    textures = ["vt 0 0.5", "vt 1 0.25"] * (draw(st.booleans()) and "/" in corner)
    lines = [*places, *textures, *faces]
    if draw(st.booleans()):
        for _ in range(draw(st.integers(1, 4))):
            lines.insert(draw(st.integers(0, len(lines))), draw(st.sampled_from(_OTHERS)))
    end = draw(st.sampled_from(("\n", "\n", "\r\n", "\r")))
    return (end.join(lines) + draw(st.sampled_from((end, end, "")))).encode("ascii")


def _read(path: Path) -> None:
    from face4d.mesh.obj import read_obj

    vertices, faces = read_obj(path)
    assert vertices.dtype == np.float64
    sane_mesh(vertices, faces)
    assert len(faces)


def _read_layout(path: Path) -> None:
    from face4d.render.texture import read_layout

    layout = read_layout(path)
    if layout is not None:
        assert np.isfinite(layout.points).all() and layout.points.shape[1] == 2
        assert layout.faces.shape == layout.mesh_faces.shape
        assert 0 <= layout.faces.min() <= layout.faces.max() < len(layout.points)
        layout.vertex_of_point()


_BLOCK = b"v 0.0 0.0 0.0\nv 1.0 0.0 0.0\nv 0.0 1.0 0.0\n"
_CORPUS = (
    _BLOCK + b"f 1 2 3\nv",
    _BLOCK + b"f 1 2 3\nv\t0.0 0.0 1.0\nf 1 2 4\n",
    _BLOCK + b"f\t1 2 3\nf 1 2 3\n",
    _BLOCK + b"f 1 /2 3 4\n",
    _BLOCK + b"f 1 2 3 4\nf 1 2 1" + 30 * b"0" + b"\n",
    _BLOCK + b"v 0.0\x010.0 0.0\nf 1 2 3\n",
    _BLOCK + b"f 1/9999999999999999999 2/1 3/1\nvt 0 0\n",
    _BLOCK + b"vt nan 0\nf 1/1 2/1 3/1\n",
    _BLOCK + b"vt 0 0\nf 1/2 2/1 3/1\n",
    b"\xef\xbb\xbf" + _BLOCK + b"f 1 2 3\n",
)

READERS = (
    Reader("obj", ".obj", mutated(files(), WORDS), _read, _CORPUS),
    Reader("texture_layout", ".obj", mutated(files(), WORDS), _read_layout, _CORPUS),
)
