"""PLY files: plain ones as face data sets have them, and any header with a body that fits it."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn

from tests.fuzzing import Reader
from tests.fuzzing.mutations import mutated

_TYPES = {
    "char": "i1",
    "uchar": "u1",
    "short": "i2",
    "ushort": "u2",
    "int": "i4",
    "uint": "u4",
    "float": "f4",
    "double": "f8",
}
WORDS = (
    b"ply", b"format", b"ascii", b"binary_little_endian", b"binary_big_endian", b"element", b"vertex", b"face",
    b"tristrips", b"property", b"list", b"uchar", b"int", b"float", b"double", b"x", b"vertex_indices", b"vertex_index",
    b"end_header", b"comment", b"obj_info", b"1.0", b"END_HEADER", b"\n",
)  # fmt: skip
_PLACES = np.array([[0, 0, 0], [1, 0, 0], [0, 1, 0], [0, 0, 1], [0.5, 0.25, -2], [1e-3, 3, 1e6]])


@st.composite
def files(draw: DrawFn) -> bytes:
    """Content of a valid file: any encoding, order of elements and properties, line end, number types."""
    order = {"ascii": "", "binary_little_endian": "<", "binary_big_endian": ">"}
    encoding = draw(st.sampled_from(sorted(order)))
    vertices = draw(st.integers(1, 6))
    header, bodies = ["ply", f"format {encoding} 1.0"], []
    elements = draw(
        st.permutations(
            ("vertex", *draw(st.sampled_from((("face",), ("face",), (), ("tristrips",), ("face", "other")))))
        )
    )
    for element in elements if draw(st.booleans()) else sorted(elements, reverse=True):
        count = {"vertex": vertices, "tristrips": 1}.get(element, draw(st.integers(0, 4)))
        header.append(f"element {element} {count}")
        names = ["x", "y", "z"] if element == "vertex" else ["vertex_indices"]
        extra = draw(st.sampled_from(((), (), ("red",), ("quality", "nx"), ("list tags",))))
        names = draw(st.permutations([*names, *extra])) if extra else names
        types = {name: draw(st.sampled_from(("float", "double") if name in "xyz" else tuple(_TYPES))) for name in names}
        for name in names:
            is_list = name in ("vertex_indices", "list tags")
            kind = draw(st.sampled_from(("uchar", "int", "uint", "ushort"))) if is_list else None
            types[name] = ("int" if name == "vertex_indices" else types[name], kind)
            header.append(
                f"property list {kind} {types[name][0]} {name.split()[-1]}"
                if is_list
                else f"property {types[name][0]} {name}"
            )
        for row in range(count):
            for name in names:
                if name in ("x", "y", "z"):
                    values = [_PLACES[row, "xyz".index(name)]]
                elif element == "tristrips" and name == "vertex_indices":
                    values = draw(st.lists(st.integers(-1, vertices - 1), min_size=3, max_size=8))
                elif name == "vertex_indices":
                    values = [(row + corner) % vertices for corner in range(draw(st.sampled_from((3, 3, 3, 4, 5))))]
                else:
                    values = [7] * draw(st.integers(0, 3)) if types[name][1] else [7]
                bodies.append(_encoded(values, *types[name], order[encoding]))
            bodies.append("" if order[encoding] else "\n")
    if draw(st.booleans()):
        header.insert(
            draw(st.integers(1, len(header))),
            draw(st.sampled_from(("comment made by hand", "obj_info n 3", "comment end_header", "comment \x85 x"))),
        )
    end = draw(st.sampled_from(("\n", "\n", "\r\n", "\r")))
    text = end.join([*header, "end_header", ""]).encode("latin1")
    if order[encoding]:
        return text + b"".join(body for body in bodies if body)
    return text + "".join(bodies).replace("\n", end).encode("ascii")


def _encoded(values: list[float], kind: str, count_kind: str | None, order: str) -> bytes | str:
    if not order:
        numbers = [f"{value:g}" if kind in ("float", "double") else str(int(value)) for value in values]
        return " ".join([str(len(values)), *numbers] if count_kind else numbers) + " "
    body = np.array(values).astype(order + _TYPES[kind]).tobytes()
    return (np.array(len(values)).astype(order + _TYPES[count_kind]).tobytes() if count_kind else b"") + body


def sane_mesh(vertices: np.ndarray, faces: np.ndarray) -> None:
    """Assert what every reader of meshes promises."""
    assert vertices.ndim == 2 and vertices.shape[1] == 3 and len(vertices) and np.isfinite(vertices).all(), vertices
    assert faces.dtype == np.int32 and faces.ndim == 2 and faces.shape[1] == 3, faces
    assert not len(faces) or 0 <= faces.min() <= faces.max() < len(vertices), faces


def _read(path: Path) -> None:
    from face4d.errors import InputError
    from face4d.mesh.ply import read_ply, read_ply_vertices

    try:
        vertices, faces = read_ply(path)
    except InputError:
        alone = read_ply_vertices(path)  # faces may be damaged: they are not always looked at
        assert alone.dtype == np.float32 and alone.ndim == 2 and np.isfinite(alone).all()
        raise
    assert vertices.dtype == np.float32
    sane_mesh(vertices, faces)
    try:
        alone = read_ply_vertices(path)
    except InputError as error:
        raise AssertionError(f"refused when read alone: {error}") from None
    assert np.array_equal(alone, vertices), (alone, vertices)


def _text(elements: str, body: str, encoding: str = "ascii") -> bytes:
    return f"ply\nformat {encoding} 1.0\n{elements}end_header\n{body}".encode("latin1")


_XYZ = "property float x\nproperty float y\nproperty float z\n"
_ONE, _THREE = (f"element vertex {count}\n{_XYZ}" for count in (1, 3))
_FACE = "element face 1\nproperty list int int vertex_indices\n"
_CORPUS = (
    _text(_ONE + "element face 1\nproperty list char int \0\n", "0 0 0\n3 0 0 0\n"),  # a control character in the error
    _text(_ONE + "property list " + 200 * "int " + "\n", ""),  # an error of a thousand characters
    _text(_ONE + "element s 1\nproperty char r\nelement vertex 6\n", " " * 60, "binary_little_endian"),  # a name twice
    _text("element f 10000000000000000000\nproperty list char char s\n" + _ONE, "", "binary_little_endian"),
    _text("element f 1000000000000\n" + _ONE, "0 0 0"),  # rows of nothing
    _text("element f 1000000000000\nproperty list char char s\n" + _ONE, "0 0 0"),
    *(_text(_THREE + _FACE, f"0 0 0 1 0 0 0 1 0 {length} 0 1 2\n") for length in ("1e400", "nan", "2.5", "-1")),
    *(_text(_THREE + _FACE, f"0 0 0 1 0 0 0 1 0 3 0 1 {index}\n") for index in ("nan", "inf", "1.5", "4294967298")),
    _text(_ONE, "0 1e308 0\n"),
    # a length beyond all types
    _text("element s 1\nproperty list int int s\n" + _ONE, "\xff\xff\xff\x7f" + 12 * "\0", "binary_little_endian"),
    # and below
    _text("element s 1\nproperty list int int s\n" + _ONE, "\xff\xff\xff\xff" + 12 * "\0", "binary_little_endian"),
    b"ply\rformat ascii 1.0\r",
)

READERS = (Reader("ply", ".ply", mutated(files(), WORDS), _read, _CORPUS),)
