"""npy, npz and MATLAB files: what numpy, scipy and MATLAB write is read, what does not fit its own bytes is one
line."""

import io
import struct
import zipfile
import zlib

import numpy as np
import pytest
from scipy.io import loadmat, savemat

from face4d.errors import InputError
from face4d.runtime.arrays import load_npz, load_numbers, numbers
from face4d.runtime.mat import read_mat
from tests.fuzzing.arrays import mat, npy, npz


def header(text, data=b"", version=(1, 0)):
    text = text.ljust(100).encode("latin1") + b"\n"
    return b"\x93NUMPY" + bytes(version) + len(text).to_bytes(2 if version == (1, 0) else 4, "little") + text + data


@pytest.mark.parametrize("version", [(1, 0), (2, 0), (3, 0)])
def test_numbers_come_back(tmp_path, version):
    path = tmp_path / "a.npy"
    for kind in ("<f4", ">f8", "<f2", "<i8", ">i2", "|u1"):
        for array in (
            np.arange(12).reshape(3, 4),
            np.arange(12).reshape(3, 4).T,
            np.array(7),
            np.zeros((0, 3)),
            np.arange(2),
        ):
            with open(path, "wb") as file:
                np.lib.format.write_array(file, array.astype(kind), version)
            loaded = load_numbers(path, "numbers")
            np.testing.assert_array_equal(loaded, array)
            assert loaded.dtype == np.dtype(kind) and loaded.flags.writeable


def test_headers_of_other_programs_are_read(tmp_path):
    data = np.arange(3.0).tobytes()
    for text in (
        "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }",
        '{"descr":"<f8","fortran_order":False,"shape":(3,)}', "{'shape': (3L,), 'fortran_order': True, 'descr': 'f8'}",
        "{'descr': '<f8', 'fortran_order': False, 'shape': (1, 3)}",
    ):  # fmt: skip
        (tmp_path / "a.npy").write_bytes(header(text, data))
        assert load_numbers(tmp_path / "a.npy", "numbers").ravel().tolist() == [0, 1, 2]


GOOD = "{'descr': '<f8', 'fortran_order': False, 'shape': (3,), }"
NPY = {
    "nothing": (b"", "an empty file"),
    "text": (b"1 2 3\n", "no array"),
    "an archive": (npz({"a": npy(np.arange(3))}), r"an archive of arrays \(.npz\)"),
    "half a header": (header(GOOD)[:40], "a cut or damaged header"),
    "a header of 4 GB": (b"\x93NUMPY\x02\x00\xff\xff\xff\xff", "a cut or damaged header"),
    "another version": (header(GOOD, version=(9, 0)), "format 9"),
    "cut": (header(GOOD, bytes(23)), r"23 bytes for float64 \(3,\)"),
    "more": (header(GOOD, bytes(25)), r"25 bytes for float64 \(3,\)"),
    "terabytes": (header(GOOD.replace("(3,)", "(1000000, 1000000)"), bytes(24)), "24 bytes for float64"),
    "overflow": (header(GOOD.replace("(3,)", f"({2**62}, 4)"), b""), "0 bytes for float64"),
    "nothing of too much": (header(GOOD.replace("(3,)", f"(0, {2**62}, {2**62})"), b""), "0 bytes for float64"),
    "negative": (header(GOOD.replace("(3,)", "(-3,)"), bytes(24)), "header|bytes for"),
    "many dimensions": (header(GOOD.replace("(3,)", str((1,) * 40)), bytes(8)), "40 dimensions|header"),
    "fields": (header(GOOD.replace("'<f8'", "[('a', '<f8')]"), bytes(24)), "other than numbers"),
    "void": (header(GOOD.replace("<f8", "|V8"), bytes(24)), "other than numbers"),
    "dates": (header(GOOD.replace("<f8", "<M8[ns]"), bytes(24)), "other than numbers"),
    "code": (header("__import__('os').system('true')"), "other than numbers"),
    "brackets": (header("(" * 9000), "other than numbers"),
    "objects": (npy(np.array([print], dtype=object)), "pickled objects"),
    "letters": (npy(np.array(["a"])), "not numbers"),
    "complex": (npy(np.array([1j])), "not numbers"),
}


@pytest.mark.parametrize("name", NPY)
def test_other_npy_files_are_one_line(tmp_path, name):
    content, found = NPY[name]
    (tmp_path / "a.npy").write_bytes(content)
    with pytest.raises(InputError, match=f"a.npy: expected numbers, found .*({found})"):
        load_numbers(tmp_path / "a.npy", "numbers")


def test_archives_come_back(tmp_path):
    arrays = {
        "a": np.arange(12.0).reshape(3, 4).T,
        "b/c": np.array(["x", "yz"]),
        "d": np.array(True),
        "e": np.zeros((0, 2)),
        "f": np.random.default_rng(0).random(100_000),
    }
    for save in (np.savez, np.savez_compressed):
        save(tmp_path / "a.npz", **arrays)
        loaded = load_npz(tmp_path / "a.npz", "arrays")
        assert list(loaded) == list(arrays)
        for name, array in arrays.items():
            np.testing.assert_array_equal(loaded[name], array)
            assert loaded[name].dtype == array.dtype and type(loaded[name]) is np.ndarray
        assert list(load_npz(tmp_path / "a.npz", "arrays", ("d",), ("a", "z"))) == ["a", "d"]
        with pytest.raises(InputError, match="a.npz: expected arrays, found no y, z$"):
            load_npz(tmp_path / "a.npz", "arrays", ("a", "y", "z"))


def changed(data, place, value):
    return data[:place] + value + data[place + len(value) :]


def bomb():
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", zipfile.ZIP_DEFLATED) as archive:
        archive.writestr("a.npy", npy(np.zeros(100_000_000, np.uint8)))
    return stream.getvalue()


def twice():
    stream = io.BytesIO()
    with pytest.warns(UserWarning), zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("a.npy", npy(np.arange(3)))
        archive.writestr("a.npy", npy(np.arange(4)))
    return stream.getvalue()


def packed_by(method):
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w", method) as archive:
        archive.writestr("a.npy", npy(np.arange(3)))
    return stream.getvalue()


WHOLE = npz({"a": npy(np.arange(100.0)), "b": npy(np.arange(3))}, packed=True)
PLAIN = npz({"a": npy(np.arange(100.0))})
ENTRY, END = WHOLE.index(b"PK\1\2"), WHOLE.index(b"PK\5\6")
NPZ = {
    "nothing": (b"", "no archive"),
    "text": (b"hello\n" * 20, "no archive"),
    "a single array": (npy(np.arange(3)), r"a single array \(.npy\)"),
    "cut": (WHOLE[:-30], "a cut archive"),
    "cut within": (WHOLE[: len(WHOLE) // 2], "a cut archive"),
    "a flipped bit": (changed(PLAIN, 300, b"\x7f"), "a checksum differs"),
    "damaged packing": (changed(WHOLE, 60, b"\xff" * 20), "damaged"),
    "a password": (changed(WHOLE, ENTRY + 8, b"\1"), "with a password"),
    "another packing": (packed_by(zipfile.ZIP_BZIP2), "packed by method 12"),
    "a bomb": (bomb, "unpacks to"),
    "two of one name": (twice, "two members"),
    "more than four GB": (changed(WHOLE, ENTRY + 24, b"\xff" * 4), "of 4 GB or more"),
    "a size of two GB": (changed(WHOLE, ENTRY + 24, b"\xff\xff\xff\x7f"), "unpacks to"),
    "a start beyond": (changed(WHOLE, ENTRY + 42, b"\xff\xff\xff\x7f"), "damaged"),
    "a directory elsewhere": (changed(WHOLE, END + 16, b"\1\0\0\0"), "damaged"),
    "more members than there are": (changed(WHOLE, END + 8, b"\7\0\7\0"), "damaged"),
    "many members": (changed(WHOLE, END + 8, b"\0\xf0\0\xf0"), "members"),
    "another disk": (changed(WHOLE, END + 4, b"\1\0"), "damaged"),
    "objects": (npz({"a": npy(np.array([print], dtype=object))}), "pickled objects"),
    "a member that is no array": (npz({"a": b"hello"}), "no array"),
    "a member of another size": (npz({"a": npy(np.arange(3))[:-1]}), "23 bytes for int64"),
}


@pytest.mark.parametrize("name", NPZ)
def test_other_archives_are_one_line(tmp_path, name):
    content, found = NPZ[name]
    (tmp_path / "a.npz").write_bytes(content() if callable(content) else content)
    with pytest.raises(InputError, match=f"a.npz.*: expected arrays, found an unreadable file .*{found}"):
        load_npz(tmp_path / "a.npz", "arrays")


def test_an_end_record_within_the_tail_does_not_hang(tmp_path):
    (tmp_path / "a.npz").write_bytes(b"PK\5\6" * 5000)
    with pytest.raises(InputError, match="a cut archive"):
        load_npz(tmp_path / "a.npz", "arrays")


def test_numbers_from_lists():
    assert numbers([[1, 2.5], [3, np.float32(4)]]).tolist() == [[1, 2.5], [3, 4]]
    assert numbers(3).shape == () and numbers(np.float64(2)).shape == ()
    for value in (
        "a",
        None,
        ["a"],
        [[1], [2, 3]],
        [None],
        {"a": 1},
        [1, "2"],
        2**70,
        np.array(["a"]),
        np.array([None]),
        [{}],
    ):
        assert numbers(value) is None


@pytest.mark.parametrize("packed", [False, True])
def test_what_scipy_writes_of_numbers_is_read(tmp_path, packed):
    path = tmp_path / "a.mat"
    for array in (
        np.random.default_rng(0).random((8, 204, 30)),
        np.arange(6, dtype=np.uint8).reshape(2, 3),
        np.float32([[1, 2]]),
        np.zeros((0, 3)),
        np.array([[-2]], "i2"),
    ):
        savemat(path, {"before": {"a": [1, "b"]}, "x_test": array, "after": np.array([1j])}, do_compression=packed)
        loaded = read_mat(path, "x_test", "numbers")
        np.testing.assert_array_equal(loaded, loadmat(path)["x_test"])
        assert loaded.dtype == array.dtype


@pytest.mark.parametrize("order", ["<", ">"])
def test_both_byte_orders_and_short_storage(tmp_path, order):
    for packed in (False, True):
        for shape in ((3, 4), (2, 1), (2, 3, 4)):
            for kind in ("f8", "u1", "i2"):
                (tmp_path / "a.mat").write_bytes(mat(order, packed, shape, kind=kind))
                loaded = read_mat(tmp_path / "a.mat", "x_test", "numbers")
                assert (
                    loaded.dtype == np.float64
                    and loaded.shape == shape
                    and loaded.ravel(order="F").tolist() == list(range(int(np.prod(shape))))
                )


def deep():
    data = b""
    for _ in range(300):
        data = struct.pack("<2L", 15, len(data)) + data
    return mat()[:128] + data


PLACE = mat().index(b"x_test") - 24  # of the dimensions
MAT = {
    "nothing": (b"", "no MATLAB file"),
    "text": (b"x_test = [1 2 3];\n" * 20, "no MATLAB file"),
    "version 4": (struct.pack("<5l", 0, 1, 1, 0, 7) + b"x_test\0" + bytes(200), "no MATLAB file"),
    "version 7.3": (b"MATLAB 7.3 MAT-file".ljust(512) + b"\x89HDF\r\n\x1a\n", "save it with -v7"),
    "cut": (mat()[:-9], "cut"),
    "cut when packed": (mat(packed=True)[:-9], "cut"),
    "damaged packing": (mat()[:128] + struct.pack("<2L", 15, 20) + b"\xff" * 20, "damaged compressed"),
    "a bomb": (
        lambda: (
            mat()[:128]
            + (lambda data: struct.pack("<2L", 15, len(data)) + data)(
                zlib.compress(struct.pack("<2L", 14, 200_000_000) + bytes(200_000_000))
            )
        ),
        "unpacks to",
    ),
    "packed within packed": (deep(), "damaged"),
    "another name": (mat(name=b"y"), "no x_test"),
    "text as numbers": (mat(number_class=4), "not full, real numbers"),
    "a cell": (mat(number_class=1), "not full, real numbers"),
    "a sparse matrix": (mat(number_class=5), "not full, real numbers"),
    "an unknown class": (mat(number_class=56), "not full, real numbers"),
    "an element beyond": (changed(mat(), 132, b"\xff\xff\xff\x7f"), "cut"),
    "other dimensions": (changed(mat(), PLACE + 8, struct.pack("<2l", 3, 5)), r"96 bytes for \(3, 5\)"),
    "negative dimensions": (changed(mat(), PLACE + 8, struct.pack("<2l", -3, -4)), r"for \(-3, -4\)"),
}


@pytest.mark.parametrize("name", MAT)
def test_other_matlab_files_are_one_line(tmp_path, name):
    content, found = MAT[name]
    (tmp_path / "a.mat").write_bytes(content() if callable(content) else content)
    with pytest.raises(InputError, match=f"a.mat: expected numbers, found .*{found}"):
        read_mat(tmp_path / "a.mat", "x_test", "numbers")
