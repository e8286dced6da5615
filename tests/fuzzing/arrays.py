"""Files of arrays: npy, npz, landmark embeddings and FLAME models in npz, MATLAB files."""

from __future__ import annotations

import io
import struct
import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

from tests.fuzzing import Reader
from tests.fuzzing.mutations import mutated

HEADER_WORDS = (b"'<f8'", b"'>f4'", b"'|O'", b"'|b1'", b"'<U3'", b"'|V8'", b"'<M8[ns]'", b"[('a', '<f8')]", b"True",
    b"False", b"None", b"(3,)", b"()", b"(0, 3)",
                b"(-1,)", b"(4611686018427387904, 4)", b"'descr'", b"'shape'", b"{", b"}", b"(", b")",
                b"\x93NUMPY\x01\x00v\x00")  # fmt: skip
_TYPES = ("<f4", "<f8", ">f8", "<i8", "<u4", "|u1", "|b1", "<c16", "<f2", "<U3", "|S4")
_ODD = (
    np.array(np.nan), np.array(-1), np.array("x"), np.array(2.5), np.array(2**40), np.array([]), np.zeros((0, 3)),
    np.array([{}], dtype=object), np.zeros((2, 2, 2, 2)), np.array(True), np.array(1j), np.array([b"abc"]),
    np.zeros(3, dtype="V8"), np.zeros(2, dtype="M8[s]"),
)  # fmt: skip


def npy(array: np.ndarray) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array, allow_pickle=True)
    return stream.getvalue()


def npz(members: dict[str, bytes], packed: bool = False) -> bytes:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED if packed else zipfile.ZIP_STORED) as archive:
        for name, content in members.items():
            archive.writestr(zipfile.ZipInfo(f"{name}.npy"), content, archive.compression)
    return stream.getvalue()


@st.composite
def odd_arrays(draw: DrawFn, array: np.ndarray) -> np.ndarray:
    """The array with an entry, its type or its shape replaced, or another array."""
    kind = draw(st.sampled_from(("other", "entry", "entry", "type", "shape", "transposed")))
    if kind == "other":
        return draw(st.sampled_from(_ODD))
    if array.dtype.kind not in "fiu":
        return array[:0]
    if kind == "type":
        with np.errstate(all="ignore"):
            return array.astype(draw(st.sampled_from(_TYPES)))
    if kind == "shape":
        return array.reshape(-1)[: draw(st.integers(0, array.size))].copy()
    if kind == "transposed":
        return array.T
    changed = array.copy()
    values = (
        (np.nan, np.inf, -1.0, 1e300, -1e-9)
        if array.dtype.kind == "f"
        else (2**31 - 1, array.max(initial=0), 1000, 2**62, -1, -(2**31))
    )
    with np.errstate(all="ignore"):
        if changed.size:
            changed.reshape(-1)[draw(st.integers(0, changed.size - 1))] = np.array(
                draw(st.sampled_from(values))
            ).astype(changed.dtype)
    return changed


@st.composite
def archives(draw: DrawFn, arrays: dict[str, np.ndarray]) -> bytes:
    """An npz of the arrays, some of them odd, damaged inside or left out, then perhaps damaged as a whole."""
    members = {}
    for name, array in arrays.items():
        action = draw(st.sampled_from(("as it is",) * 8 + ("odd", "odd", "damaged", "left out")))
        if action == "left out":
            continue
        content = npy(draw(odd_arrays(array)) if action == "odd" else array)
        members[name] = draw(mutated(st.just(content), HEADER_WORDS)) if action == "damaged" else content
    return npz(members, draw(st.booleans()))


@st.composite
def _npy_files(draw: DrawFn) -> bytes:
    shape = draw(st.sampled_from(((2, 68, 3), (7,), (), (0, 3), (3, 4))))
    array = np.arange(int(np.prod(shape)), dtype=np.float64).reshape(shape).astype(draw(st.sampled_from(_TYPES)))
    return npy(np.asfortranarray(array) if draw(st.booleans()) else array)


def _read_npy(path: Path) -> None:
    from face4d.runtime.arrays import load_numbers

    array = load_numbers(path, "numbers")
    assert array.dtype.kind in "fiu" and array.nbytes <= path.stat().st_size
    np.isfinite(array).all()


def _read_npz(path: Path) -> None:
    from face4d.runtime.arrays import load_npz

    for array in load_npz(path, "arrays").values():
        assert array.dtype.kind in "biufcSU", array.dtype
        array.tolist()


def embedding_arrays() -> dict[str, np.ndarray]:
    corners = np.tile([0.5, 0.25, 0.25], (79, 17, 1))
    faces = np.array([[0, 1, 2], [2, 1, 3]], np.int32)
    places = {
        "face_idx": np.arange(68) % 2,
        "bary": corners.reshape(-1, 3)[:68],
        "faces": faces,
        "num_vertices": np.array(4),
    }
    return places | {"contour_face_idx": np.zeros((79, 17), np.int64), "contour_bary": corners}


def sane_embedding(embedding: Any) -> None:
    assert (
        type(embedding.num_vertices) is int
        and embedding.corners.max() < embedding.num_vertices
        and embedding.corners.min() >= 0
    )
    assert (
        np.isfinite(embedding.bary).all()
        and np.allclose(embedding.bary.sum(axis=-1), 1, atol=2e-3)
        and embedding.bary.min() > -0.01
    )


def _read_embedding(path: Path) -> None:
    from face4d.landmarks import load_embedding

    embedding = load_embedding(path)
    sane_embedding(embedding)
    if embedding.contour_bary is not None:
        sane_embedding(embedding.at_contour_angle(39))


def flame_arrays() -> dict[str, np.ndarray]:
    random = np.random.default_rng(0)
    arrays = {
        name: random.random(shape)
        for name, shape in (("v_template", (6, 3)), ("shapedirs", (6, 3, 5)), ("posedirs", (6, 3, 36)))
    }
    faces, parents = np.array([[0, 1, 2], [3, 4, 5]], np.uint32), np.array([[2**32 - 1, 0, 1, 1, 1], range(5)])
    return arrays | {
        "J_regressor": random.random((5, 6)),
        "weights": np.full((6, 5), 0.2),
        "kintree_table": parents,
        "f": faces,
        "num_shape": np.array(3),
    }


def read_flame(path: Path) -> None:
    from face4d.flame.model import load_flame_model

    model = load_flame_model(path)
    count = model.num_vertices
    assert model.faces.dtype == np.int32 and 0 <= model.faces.min() and model.faces.max() < count
    for array, shape in (
        (model.template, (count, 3)),
        (model.pose_directions, (count, 3, 36)),
        (model.joint_regressor, (5, count)),
        (model.skin_weights, (count, 5)),
    ):
        assert array.shape == shape and array.dtype.kind == "f" and np.isfinite(array.astype(np.float32)).all()
    for array in (model.shape_directions, model.expression_directions):
        assert array.shape[:2] == (count, 3) and np.isfinite(array.astype(np.float32)).all()


def mat_element(order: str, kind: int, data: bytes, short: bool = False) -> bytes:
    if short and len(data) <= 4:
        return struct.pack(f"{order}L", len(data) << 16 | kind) + data.ljust(4, b"\0")
    return struct.pack(f"{order}2L", kind, len(data)) + data + bytes(-len(data) % 8)


def mat(
    order: str = "<",
    packed: bool = False,
    shape: tuple[int, ...] = (3, 4),
    name: bytes = b"x_test",
    number_class: int = 6,
    kind: str = "f8",
) -> bytes:
    """A MATLAB file of one matrix, made by hand to have both byte orders."""
    values = np.arange(int(np.prod(shape)), dtype=order + kind).tobytes()
    code = {"f8": 9, "u1": 2, "i2": 3}[kind]
    parts = mat_element(order, 6, struct.pack(f"{order}2L", number_class, 0)) + mat_element(
        order, 5, struct.pack(f"{order}{len(shape)}l", *shape)
    )
    matrix = mat_element(
        order, 14, parts + mat_element(order, 1, name, short=True) + mat_element(order, code, values, short=True)
    )
    if packed:
        data = zlib.compress(matrix)
        matrix = struct.pack(f"{order}2L", 15, len(data)) + data
    return b"MATLAB 5.0 MAT-file".ljust(124) + (b"\x00\x01IM" if order == "<" else b"\x01\x00MI") + matrix


@st.composite
def _mat_files(draw: DrawFn) -> bytes:
    order, packed = draw(st.sampled_from("<>")), draw(st.booleans())
    shape = draw(st.sampled_from(((3, 4), (2, 3, 4), (1, 1), (0, 3))))
    parts = [
        mat(
            order,
            packed,
            shape,
            draw(st.sampled_from((b"x_test", b"x_test", b"y"))),
            draw(st.sampled_from((6, 6, 7, 9, 1))),
            draw(st.sampled_from(("f8", "u1", "i2"))),
        )
    ]
    parts += [mat(order, draw(st.booleans()))[128:] for _ in range(draw(st.integers(0, 1)))]
    return b"".join(parts)


@st.composite
def _packed_mat_files(draw: DrawFn) -> bytes:
    """Compressed variables whose content is damaged."""
    content = draw(mutated(st.just(mat()[128:])))
    data = zlib.compress(content)
    return mat()[:128] + struct.pack("<2L", 15, len(data)) + data


def _read_mat(path: Path) -> None:
    from face4d.runtime.mat import read_mat

    array = read_mat(path, "x_test", "numbers")
    assert array.dtype.kind in "fiu" and array.ndim >= 2 and array.dtype.isnative
    np.isfinite(array).all()


def _with_damage(files: SearchStrategy[bytes], words: tuple[bytes, ...] = ()) -> SearchStrategy[bytes]:
    return st.one_of(files, mutated(files, words))


_ZIP_WORDS = (b"PK\1\2", b"PK\3\4", b"PK\5\6", b"PK\6\6", b"PK\6\7", b"\xff\xff\xff\xff", b"faces.npy", b"../x.npy")
_MAT_CORPUS = (
    mat(number_class=56),
    mat(number_class=5),
    mat()[:192],
    mat(number_class=7).replace(bytes(8), b"\xff" * 7 + b"\x7f"),
    mat()[:128] + mat_element("<", 14, b""),
)
READERS = (
    Reader("npy", ".npy", mutated(_npy_files(), HEADER_WORDS), _read_npy),
    Reader(
        "npz",
        ".npz",
        _with_damage(archives({"a": np.arange(6.0).reshape(2, 3), "b": np.array(["x", "yz"])}), _ZIP_WORDS),
        _read_npz,
        corpus=(b"PK\5\6" * 20, npz({"a": npy(np.array([None]))}), npy(np.arange(3))),
    ),
    Reader("embedding", ".npz", _with_damage(archives(embedding_arrays()), _ZIP_WORDS), _read_embedding),
    Reader("flame_npz", ".npz", _with_damage(archives(flame_arrays()), _ZIP_WORDS), read_flame),
    Reader("mat", ".mat", st.one_of(mutated(_mat_files()), _packed_mat_files()), _read_mat, corpus=_MAT_CORPUS),
)
