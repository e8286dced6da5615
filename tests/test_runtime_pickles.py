"""Pickles of strangers: what is read, what is refused, and that a refusal takes neither time nor memory nor runs
anything."""

import pickle
import struct
import time

import numpy as np
import pytest
from scipy import sparse

from face4d.errors import InputError
from face4d.runtime.pickle_machine import MOST_INSTRUCTIONS
from face4d.runtime.safe_pickle import load_npy, load_pickle


def load(tmp_path, data):
    (tmp_path / "a.pkl").write_bytes(data)
    return load_pickle(tmp_path / "a.pkl")


def same(one, other):
    if sparse.issparse(other):
        return type(one).__name__[:3] == type(other).__name__[:3] and np.array_equal(one.toarray(), other.toarray())
    if isinstance(other, np.ndarray) and other.dtype != object:
        return (
            isinstance(one, np.ndarray)
            and one.dtype == other.dtype
            and np.array_equal(one, other)
            and one.flags.writeable
        )
    if isinstance(other, (list, tuple, np.ndarray)):
        return type(one) is type(other) and len(one) == len(other) and all(map(same, one, other))
    if isinstance(other, dict):
        return type(one) is dict and list(one) == list(other) and all(map(same, one.values(), other.values()))
    return type(one) is type(other) and one == other


SHARED = [1, 2]
VALUES = [
    [None, True, False, 0, -1, 300, 2**31, -(2**70), 0.5, "text", "\xe9\u0142\n\\", b"", b"bytes\x00\xff", (), [], (1,),
    (1, 2, 3, 4), {"a": [1], 2: "b"}],
    [SHARED, SHARED, (SHARED,)],
    *(np.arange(6).astype(kind).reshape(2, 3)
      for kind in ("i1", "u1", "<i4", ">i8", "u8", "f2", "<f4", ">f8", "c16", "?", "S3", "U3", ">U2")),
    np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1), np.asfortranarray(np.arange(6.0).reshape(2, 3)), np.array(2.5),
    np.zeros((0, 3)), np.float32(1.5), np.int64(3),
    np.bool_(True), np.array([1, "a", None, [2, {"b": np.arange(2)}]], dtype=object), np.array(["ab", "c"]),
    sparse.csc_matrix(np.eye(3, 4)), sparse.csr_matrix(np.ones((2, 3))), sparse.coo_matrix(np.eye(2)),
    sparse.csc_array(np.eye(2)),
]  # fmt: skip


@pytest.mark.parametrize("protocol", range(6))
def test_plain_values_and_arrays_are_read_in_every_protocol(tmp_path, protocol):
    for value in VALUES:
        assert same(load(tmp_path, pickle.dumps(value, protocol=protocol)), value), value


def test_strings_of_python_2_are_text_and_the_bytes_of_arrays(tmp_path):
    kind = b"cnumpy\ndtype\n(U\x02f8K\x00K\x01tR(K\x03U\x01<NNNJ\xff\xff\xff\xffJ\xff\xff\xff\xffK\x00tb"
    raw = np.array([0.5, -2.0]).tobytes()
    array = (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tU\x01btR(K\x01(K\x02t"
        + kind
        + b"\x89T"
        + struct.pack("<i", len(raw))
        + raw
        + b"tb"
    )
    loaded = load(tmp_path, b"\x80\x02}(U\x01x" + array + b"U\x01yU\x02\xe9au.")
    assert loaded["x"].tolist() == [0.5, -2.0] and loaded["y"] == "\xe9a"


def test_shared_values_are_made_once(tmp_path):
    array = np.arange(3.0)
    one, other, lists = load(tmp_path, pickle.dumps((array, array, [SHARED, SHARED])))
    assert one is other and lists[0] is lists[1]


def op(*parts):
    return b"\x80\x03" + b"".join(parts) + b"."


def text(value):
    return b"X" + struct.pack("<i", len(value)) + value.encode()


def kind(name, order="<", *, fields=b"NNN", size=-1, flags=0, version=3):
    """A type with its state, as the file likes it."""
    state = (
        b"("
        + struct.pack("<cBc", b"K", version, b"X")
        + struct.pack("<i", len(order))
        + order.encode()
        + fields
        + struct.pack("<cicicB", b"J", size, b"J", size, b"K", flags)
        + b"t"
    )
    return b"cnumpy\ndtype\n(" + text(name) + b"\x89\x88tR" + state + b"b"


def array(shape, element, content):
    shape = b"(" + b"".join(b"\x8a\x09" + n.to_bytes(9, "little", signed=True) for n in shape) + b"t"
    return (
        b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR(K\x01"
        + shape
        + element
        + b"\x89"
        + content
        + b"tb"
    )


EIGHT = b"C\x08AAAAAAAA"
FORGED = kind(
    "V8", "|", fields=b"N(" + text("a") + b"t}" + text("a") + kind("O8", "|", flags=63) + b"K\x00\x86s", size=8
)
NESTED_LISTS = b"](lq\x00" + b"".join(
    b"(" + b"h" + bytes([n]) + b"h" + bytes([n]) + b"lq" + bytes([n + 1]) for n in range(40)
)
SPARSE = b"cscipy.sparse._csc\ncsc_matrix\n)\x81}("


def sparse_state(indices, starts, data=2, shape=b"K\x02K\x02\x86"):
    def vector(values, name="<i4"):
        raw = np.array(values, name).tobytes()
        return array([len(values)], kind(name[1:]), b"C" + bytes([len(raw)]) + raw)

    return op(
        SPARSE,
        text("_shape"),
        shape,
        text("data"),
        vector([1.0] * data, "<f8"),
        text("indices"),
        vector(indices),
        text("indptr"),
        vector(starts),
        b"ub",
    )


REFUSED = {
    "a type with a field of objects that says it has none": op(array([1], FORGED, EIGHT)),
    "bytes as objects": op(array([1], kind("O8", "|", flags=63), EIGHT)),
    "objects with the flag off": op(array([1], kind("O8", "|"), EIGHT)),
    "an object as a number": op(b"cnumpy.core.multiarray\nscalar\n(", kind("O8", "|", flags=63), EIGHT, b"tR"),
    "numbers with the flag of objects": op(array([1], kind("f8", flags=63), EIGHT)),
    "another size of elements": op(array([1], kind("f8", size=1), EIGHT)),
    "a subarray": op(array([1], kind("f8", fields=kind("f8") + b"K\x02\x85\x86NN"), EIGHT)),
    "raw bytes": op(array([1], kind("V8", "|", size=8), EIGHT)),
    "dates": op(array([1], kind("M8"), EIGHT)),
    "text without a length": op(array([2**40], kind("U0", size=0), b"C\x00")),
    "text that is none": op(array([2], kind("U1", size=4), b"C\x08" + b"\xff" * 8)),
    "an order that is none": op(array([1], kind("f8", "x"), EIGHT)),
    "an order that is ignored": op(array([1], kind("f8", "|"), EIGHT)),
    "a negative shape": op(array([-1, -1], kind("f8"), EIGHT)),
    "a shape that overflows": op(array([2**62, 4], kind("f8"), b"C\x00")),
    "a shape of nothing and too much": op(array([0, 2**62, 2**62], kind("f8"), b"C\x00")),
    "too many dimensions": op(array([1] * 70, kind("f8"), EIGHT)),
    "axes that are others": pickle.dumps(np.arange(24.0).reshape(2, 3, 4).transpose(2, 0, 1),
    protocol=5).replace(b"K\x02K\x00K\x01\x87", b"K\x02K\x00K\x02\x87"),
    "more bytes than numbers": op(array([1], kind("f4"), EIGHT)),
    "BUILD on a function": op(b"cnumpy._core.numeric\n_frombuffer\n}X\x0c\x00\x00\x00__defaults__Nsb"),
    "BUILD on a type": op(b"cnumpy\ndtype\n}b"),
    "BUILD on a list": op(b"]}b"),
    "BUILD twice": op(kind("f8"), b"Nb", b"}b}b"),
    "a call of an array's type": op(b"cnumpy\nndarray\n((t", kind("f8"), b"tR"),
    "a reference as a value": op(b"cnumpy\nndarray\n"),
    "a set": op(b"cbuiltins\nset\n(](K\x01etR"),
    "a set of protocol 4": op(b"\x8f(K\x01\x90"),
    "another codec": op(b"c_codecs\nencode\n(", text("a"), text("punycode"), b"tR"),
    "bytes of a size": op(b"cbuiltins\nbytes\n(J\xff\xff\xff\x7ftR"),
    "a reconstruction of an array": op(b"ccopyreg\n_reconstructor\n(cnumpy\nndarray\ncbuiltins\nobject\nNtR"),
    "a class of Python 2": op(b"(icollections\nOrderedDict\n"),
    "an object instruction": op(b"(cnumpy\nndarray\no"),
    "a persistent id": op(b"K\x01Q"),
    "an extension": op(b"\x82\x01"),
    "a buffer beside the file": op(b"\x97"),
    "NEWOBJ_EX": op(b"cnumpy\nndarray\n)}\x92"),
    "a name that is no text": op(b"K\x01K\x02\x93"),
    "another package": op(b"cnumpy.testing\nrun\n"),
    "a name within": op(b"cnumpy\nndarray.tofile\n"),
    "lists that double": b"\x80\x03" + NESTED_LISTS + b".",
    "a list in itself": op(b"]q\x00h\x00a"),
    "a dictionary in itself": op(b"}q\x00K\x01h\x00s"),
    "tuples in tuples": b"\x80\x03)" + b"\x85" * 100_000 + b".",
    "marks": b"\x80\x03" + b"(" * 200_000 + b".",
    "more instructions than bounded": b"\x80\x03" + b"N0" * MOST_INSTRUCTIONS + b"N.",
    "keys that are lists": op(b"}]K\x01s"),
    "keys that collide": op(b"}", b"".join(b"J\xff\xff\xff\xffJ\xfe\xff\xff\xff\x86K\x01s" for _ in range(3))),
    "long integers as keys": op(b"}\x8a\x09" + b"\x01" * 9 + b"K\x01s"),
    "a memo entry far away": op(b"]r\xff\xff\xff\x7f"),
    "a memo entry in digits": op(b"]p1000000000000\n"),
    "a memo entry that is not there": op(b"h\x07"),
    "an integer of a gigabyte": op(b"\x8b\x00\x00\x00\x40"),
    "an integer of many digits": op(b"I" + b"9" * 1_000_000 + b"\n"),
    "a number of letters": op(b"Fabc\n"),
    "text of an exabyte": op(b"\x8d\x00\x00\x00\x00\x00\x00\x00\x10"),
    "text that is not UTF-8": op(b"X\x01\x00\x00\x00\xff"),
    "bytes beyond the end": op(b"B\xff\xff\xff\x7fab"),
    "a negative string": op(b"T\xff\xff\xff\xffab"),
    "a string without quotes": op(b"Sabc\n"),
    "a string with half an escape": op(b"S'\\x4'\n"),
    "a frame beyond the end": op(b"\x95\xff\xff\xff\xff\xff\xff\xff\x7fN"),
    "another protocol": b"\x80\x09N.",
    "an empty stack": op(b"0"),
    "no end": b"\x80\x03N",
    "nothing": b"",
    "entries of no list": op(b"}K\x01a"),
    "an odd number of entries": op(b"(K\x01d"),
    "an ordered dictionary of numbers": op(b"ccollections\nOrderedDict\n(](K\x01etR"),
    "a sparse matrix whose columns end early": sparse_state([0, 1], [0, 1]),
    "a sparse matrix whose columns overlap": sparse_state([0, 1], [0, 5, 2]),
    "a sparse matrix with rows beyond": sparse_state([0, 7], [0, 1, 2]),
    "a sparse matrix with negative rows": sparse_state([0, -1], [0, 1, 2]),
    "a sparse matrix of another length": sparse_state([0, 1], [0, 1, 2], data=1),
    "a sparse matrix of one dimension": sparse_state([0, 1], [0, 1, 2], shape=b"K\x02\x85"),
    "a sparse matrix without a state": op(b"cscipy.sparse._csc\ncsc_matrix\n)\x81"),
    "a sparse matrix of text": op(SPARSE, text("_shape"), text("ab"), b"ub"),
    "an expression of chumpy": op(b"cchumpy.ch\nadd\n)\x81}", text("a"), b"K\x01sb"),
    "a selection of chumpy beyond": op(b"cchumpy.reordering\nSelect\n)\x81}(", text("a"), array([1], kind("f8"), EIGHT),
    text("idxs"), array([1], kind("i8"), EIGHT), text("preferred_shape"), b"K\x01\x85ub"),
}  # fmt: skip


@pytest.mark.parametrize("name", REFUSED)
def test_refused_in_one_line_at_once(tmp_path, name, capsys):
    begun = time.process_time()
    with pytest.raises(InputError, match="expected a pickle of numpy arrays only, found") as error:
        load(tmp_path, REFUSED[name])
    assert time.process_time() - begun < 5 and len(str(error.value)) < 400  # a busy machine takes more than 1
    assert capsys.readouterr().out == ""


def test_arrays_that_one_text_would_unfold_to_are_counted(tmp_path):
    """One text of 30 KB, encoded again and again for 3000 arrays: 90 MB of a file of 200 KB."""
    raw = b"X" + struct.pack("<i", 30_000) + b"a" * 30_000 + b"q\x00"
    begin = raw + b"0" + kind("i1", "|") + b"q\x01" + b"0]("
    one = b"cnumpy.core.multiarray\n_reconstruct\n(cnumpy\nndarray\n(K\x00tC\x01btR(K\x01M\x30\x75\x85h\x01\x89"
    one += b"c_codecs\nencode\n(h\x00X\x06\x00\x00\x00latin1tRtb"
    with pytest.raises(InputError, match="more than the file can hold"):
        load(tmp_path, op(begin, one * 600, b"e"))


def test_nothing_of_numpy_is_changed_by_a_pickle(tmp_path):
    before = np._core.numeric._frombuffer.__defaults__, np.dtype("f8").str
    for data in REFUSED.values():
        with pytest.raises(InputError):
            load(tmp_path, data)
    assert (np._core.numeric._frombuffer.__defaults__, np.dtype("f8").str) == before


def test_files_that_are_no_pickle(tmp_path):
    for data in (b"PK\x03\x04", b"hello\n", b"\x93NUMPY\x01\x00", bytes(1000)):
        with pytest.raises(InputError, match="a pickle of numpy arrays only"):
            load(tmp_path, data)
    with pytest.raises(InputError, match="no such file"):
        load_pickle(tmp_path / "none.pkl")
    with pytest.raises(InputError, match="a folder"):
        load_pickle(tmp_path)


def test_objects_in_npy_files_go_the_same_way(tmp_path):
    np.save(tmp_path / "a.npy", np.array({"a": {1, 2}}, dtype=object), allow_pickle=True)
    with pytest.raises(InputError, match="found a set"):
        load_npy(tmp_path / "a.npy")
