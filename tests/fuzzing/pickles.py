"""Pickles: of plain values, of arrays by all protocols, of landmark embeddings, FLAME models and mesh hierarchies,
and programs of any instructions."""

from __future__ import annotations

import pickle
import struct
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.fuzzing import Reader
from tests.fuzzing.arrays import embedding_arrays, flame_arrays, npy, odd_arrays, read_flame, sane_embedding
from tests.fuzzing.mutations import mutated

_NAMES = (
    "numpy.core.multiarray _reconstruct", "numpy._core.multiarray scalar", "numpy ndarray", "numpy dtype",
    "numpy._core.numeric _frombuffer", "_codecs encode", "collections OrderedDict", "builtins set",
    "__builtin__ object", "copy_reg _reconstructor", "builtins bytes", "scipy.sparse._csc csc_matrix",
    "scipy.sparse._coo coo_matrix", "chumpy.ch Ch", "builtins print",
)  # fmt: skip
_GLOBALS = tuple(f"c{name.replace(' ', chr(10))}\n".encode() for name in _NAMES)
_VALUES = (
    b"N", b"K\x00", b"K\x01", b"J\xff\xff\xff\xff", b"\x88", b"]", b"}", b")", b"C\x08AAAAAAAA", b"X\x02\x00\x00\x00f8",
    b"X\x01\x00\x00\x00<", b"X\x02\x00\x00\x00O8",
    b"X\x06\x00\x00\x00latin1", b"X\x01\x00\x00\x00x", b"U\x01b", b"I-1\n", b"L1L\n", b"F1e400\n", b"S'ab'\n", b"Vab\n",
    b"\x8a\x01\xff", b"G" + struct.pack(">d", 0.5),
    b"\x96\x01\x00\x00\x00\x00\x00\x00\x00a", b"\x8f", b"K\x01\x85", b"K\x02K\x03\x86",
)  # fmt: skip
_STEPS = (b"(", b"t", b"l", b"d", b"e", b"u", b"a", b"s", b"R", b"b", b"\x81", b"0", b"1", b"2", b"\x85", b"\x86",
    b"\x87", b"\x94", b"h\x00", b"h\x01", b"q\x00", b"q\x01",
          b"p0\n", b"g0\n", b"r\xff\xff\xff\xff", b"j\x00\x00\x00\x00", b"\x90", b"\x91", b"\x93", b"\x95" + bytes(8),
          b"i", b"o", b"P1\n", b"Q", b"\x82\x01", b"\x97", b"\x92")  # fmt: skip
_WORDS = (*_GLOBALS, *_VALUES, *_STEPS)


def programs() -> SearchStrategy[bytes]:
    """Any instructions in any order."""
    parts = st.one_of(st.sampled_from(_VALUES), st.sampled_from(_STEPS), st.sampled_from(_GLOBALS), st.just(_dtype()))
    return st.lists(parts, max_size=40).map(lambda parts: b"\x80\x02" + b"".join(parts) + b".")


def _dtype(kind: str = "f8") -> bytes:
    """Instructions that leave a type on the stack."""
    return pickle.dumps(np.dtype(kind), protocol=2)[2:-1]


@cache
def _values() -> tuple[Any, ...]:
    from scipy import sparse

    shared: list[Any] = [1, 2]
    return (
        {"a": [1, -2.5, None, True, 2**70], "b": ("text", b"bytes", "\xe9\u0142")}, [shared, shared, (shared,)],
        np.arange(6.0).reshape(2, 3).T, np.float32(2.5), np.array(["ab", "c"]),
        np.array([1, "a", None, np.arange(2)], dtype=object), np.array(True), np.arange(3, dtype=">i2"),
        sparse.csc_matrix(np.eye(3)), sparse.csr_matrix(np.ones((2, 3))), sparse.coo_matrix(np.eye(2)),
        np.zeros((0, 4)), np.array([b"ab"]),
    )  # fmt: skip


@st.composite
def pickled(draw: DrawFn, values: SearchStrategy[Any]) -> bytes:
    return pickle.dumps(draw(values), protocol=draw(st.sampled_from((0, 1, 2, 2, 4, 5))))


def _read_pickle(path: Path) -> None:
    from face4d.runtime.safe_pickle import load_pickle

    _sane(load_pickle(path))


def _sane(value: Any) -> None:
    if isinstance(value, (list, tuple)):
        for entry in value:
            _sane(entry)
    elif isinstance(value, dict):
        assert all(type(key) in (str, int) for key in value)
        for entry in value.values():
            _sane(entry)
    elif isinstance(value, np.ndarray):
        assert value.dtype.kind in "biufcSUO" and value.dtype.fields is None
        for entry in value.ravel().tolist():
            if value.dtype == object:
                _sane(entry)
    elif type(value).__module__.startswith("scipy.sparse"):
        assert value.toarray().shape == value.shape if np.prod(value.shape) < 1e6 else True
        value.tocsr().check_format(full_check=True)
    else:
        assert value is None or type(value) in (bool, int, float, str, bytes) or isinstance(value, np.generic), type(
            value
        )


@st.composite
def _odd(draw: DrawFn, arrays: dict[str, Any]) -> dict[str, Any]:
    """The arrays, some of them odd."""
    content = {}
    for name, array in arrays.items():
        action = draw(st.sampled_from(("as it is",) * 8 + ("odd", "odd", "list", "left out", "value")))
        if action == "left out":
            continue
        if action == "value":
            array = draw(
                st.sampled_from(
                    (
                        None,
                        "text",
                        [],
                        [[1], 2],
                        {"a": 1},
                        3,
                        float("nan"),
                        [array, array],
                        (array,),
                        np.float64(3),
                        np.str_("a"),
                    )
                )
            )
        elif action == "list" and isinstance(array, np.ndarray):
            array = array.tolist()
        elif action == "odd" and isinstance(array, np.ndarray):
            array = draw(odd_arrays(array))
        content[name] = array
    return content


_STATIC = {"lmk_face_idx": np.arange(51, dtype=np.uint32) % 2, "lmk_b_coords": np.tile([0.5, 0.25, 0.25], (51, 1))}
_TEMPLATE = "v 0 0 0\nv 1 0 0\nv 0 1 0\nv 1 1 0\nf 1 2 3\nf 3 2 4\n"


def _dynamic() -> bytes:
    arrays = embedding_arrays()
    content = {"lmk_face_idx": arrays["contour_face_idx"], "lmk_b_coords": arrays["contour_bary"]}
    return npy(np.array(content, dtype=object))


def _read_static(path: Path) -> None:
    from face4d.landmarks import load_flame_embedding

    if not (path.parent / "template.obj").exists():
        (path.parent / "template.obj").write_text(_TEMPLATE)
        (path.parent / "flame_dynamic_embedding.npy").write_bytes(_dynamic())
    sane_embedding(load_flame_embedding(path.parent))


def _read_dynamic(path: Path) -> None:
    from face4d.landmarks import load_flame_embedding

    if not (path.parent / "template.obj").exists():
        (path.parent / "template.obj").write_text(_TEMPLATE)
        (path.parent / "flame_static_embedding.pkl").write_bytes(pickle.dumps(_STATIC, protocol=2))
    sane_embedding(load_flame_embedding(path.parent))


@st.composite
def _dynamic_files(draw: DrawFn) -> bytes:
    arrays = embedding_arrays()
    content = draw(_odd({"lmk_face_idx": arrays["contour_face_idx"][:, :17], "lmk_b_coords": arrays["contour_bary"]}))
    return npy(np.array(content, dtype=object))


@cache
def _hierarchy() -> dict[str, np.ndarray]:
    vertices = np.array([[1, 0, 0], [-1, 0, 0], [0, 1, 0], [0, -1, 0], [0, 0, 1], [0, 0, -1]], float)
    faces = np.array([[0, 2, 4], [2, 1, 4], [1, 3, 4], [3, 0, 4], [2, 0, 5], [1, 2, 5], [3, 1, 5], [0, 3, 5]])
    keep, mix = np.eye(4, 6), np.eye(6, 4)
    mix[4:, :3] = 1 / 3
    return {
        "v0": vertices,
        "f0": faces,
        "v1": vertices[[0, 1, 2, 4]],
        "f1": np.array([[0, 2, 3], [2, 1, 3], [1, 0, 3]]),
        "D": keep,
        "U": mix,
    }


@st.composite
def _hierarchies(draw: DrawFn) -> bytes:
    from scipy import sparse

    parts = draw(_odd(_hierarchy()))
    for name in ("D", "U"):
        matrix = parts.get(name)
        if isinstance(matrix, np.ndarray) and matrix.ndim == 2 and matrix.dtype.kind == "f" and draw(st.booleans()):
            parts[name] = draw(st.sampled_from((sparse.csc_matrix, sparse.csr_matrix, sparse.coo_matrix)))(
                matrix.astype(float)
            )
    meshes = [tuple(parts[name] for name in names if name in parts) for names in (("v0", "f0"), ("v1", "f1"))]
    content = {"M_verts_faces": meshes, "D": [parts.get("D")], "U": [parts.get("U")]}
    return pickle.dumps(content, protocol=draw(st.sampled_from((2, 4))))


def _read_hierarchy(path: Path) -> None:
    from face4d.dense.hierarchy import Hierarchy, read_downsampling_matrices

    hierarchy = read_downsampling_matrices(path, references=(0,))
    Hierarchy.from_arrays(hierarchy.arrays())
    for fine, step in zip(hierarchy.levels, hierarchy.steps):
        fine.vertices[step.kept]


def _mixed(files: SearchStrategy[bytes]) -> SearchStrategy[bytes]:
    return st.one_of(files, mutated(files, _WORDS))


# A crash (a type of objects that says it has none), hangs (lists that double), two gigabytes (a memo entry far away),
# numbers that are none, an error of many lines.
_CORPUS = (
    (b"\x80\x03cnumpy\nndarray\n((tcnumpy\ndtype\n(X\x02\x00\x00\x00V8\x89\x88tR(J\x03\x00\x00\x00X\x01\x00\x00\x00|"
     b"(cnumpy\ndtype\n(X\x02\x00\x00\x00O8\x89\x88tRK\x01ttbB\x08\x00\x00\x00AAAAAAAAtR."),
    b"\x80\x03(lq\x00" + b"".join(b"0(h%ch%clq%c" % (n, n, n + 1) for n in range(40)) + b".",
    b"Nr\xff\xff\xff\x07.", b"I1e308\n.", b"Finfinityq\n.", b"Nphello\n.", b"S'\\x4'\n.", b"ca\n\x1b[31mb\n.",
    b"cnumpy._core.numeric\n_frombuffer\n}b.", b"c__builtin__\nset\n.",
)  # fmt: skip

READERS = (
    Reader(
        "pickle",
        ".pkl",
        st.one_of(mutated(pickled(st.sampled_from(_values())), _WORDS), programs()),
        _read_pickle,
        corpus=_CORPUS,
    ),
    Reader("flame_static", "flame_static_embedding.pkl", _mixed(pickled(_odd(_STATIC))), _read_static),
    Reader("flame_dynamic", "flame_dynamic_embedding.npy", _mixed(_dynamic_files()), _read_dynamic),
    Reader("flame_pickle", ".pkl", _mixed(pickled(_odd(flame_arrays()))), read_flame),
    Reader("hierarchy", ".pkl", _mixed(_hierarchies()), _read_hierarchy),
)
