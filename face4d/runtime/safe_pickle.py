"""Reading other people's pickles without running anything, theirs or ours, on their word.

:mod:`face4d.runtime.pickle_machine` writes down what a pickle asks for; here the records that are known (arrays, their
types, sparse matrices, chumpy's arrays) are checked field by field and made into values. What values may take is
bounded by the file's size, counted as often as they are referred to, so a refusal takes no longer than reading.
"""

from __future__ import annotations

import io
import os
from pathlib import Path
from typing import Any, BinaryIO

import numpy as np

from face4d.errors import InputError
from face4d.runtime.arrays import array_of, element_type, numbers, read_elements, read_npy_header, shape_size
from face4d.runtime.files import open_file
from face4d.runtime.pickle_machine import MOST_NAME, Call, Dictionary, Machine, Name, Refused, String

MOST_DEPTH = 50  # containers in containers
# what a file may unfold to, for each of its bytes: arrays are as large as in the file, a short number takes eight bytes
UNFOLDED_PER_BYTE = 16
UNFOLDED_FREE = 1 << 20

_EXPECTED = "a pickle of numpy arrays only"
_ORDERS = ("<", ">", "|", "=")
_OBJECTS = object()  # in place of the type of an array of objects


def load_pickle(path: str | Path) -> Any:
    """Load a pickle that holds nothing but numbers, text, bytes, lists, tuples, dictionaries, numpy arrays of numbers,
    of text or of all these, scipy sparse matrices and chumpy arrays.

    Python 2 pickles are read as latin1. Chumpy need not be there: its arrays become numpy arrays. An OrderedDict
    becomes a dictionary. Nothing in the file can run, nor decide what numpy or scipy do.

    Raises:
        InputError: the file is missing, damaged, or holds anything else.
    """
    with open(open_file(path, "a pickle of numpy arrays"), "rb") as file:
        return _read(path, file, os.fstat(file.fileno()).st_size)


def load_npy(path: str | Path, expected: str = "a .npy file") -> Any:
    """Load an ``.npy`` file; one that holds a pickled object (a 0-d object array) goes through :func:`load_pickle`'s
    rules.

    Returns:
        The array, or the object of a 0-d object array.

    Raises:
        InputError: the file is missing, damaged, or holds anything else.
    """
    with open(open_file(path, expected), "rb") as file:
        size = os.fstat(file.fileno()).st_size
        header = read_npy_header(file, size, path, expected)
        if header.type is not None:
            return array_of(file, header, path, expected)
        value = _read(path, file, size - file.tell())
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value


def _read(path: str | Path, file: BinaryIO, size: int) -> Any:
    try:
        return _Values(UNFOLDED_PER_BYTE * size + UNFOLDED_FREE).value(Machine(file, size).run())
    except ValueError as error:  # Refused, or a number or text that is none
        raise InputError(path, _EXPECTED, str(error)) from None


class _Values:
    """Makes the records of a program into values, each once.

    Args:
        most: bytes that the values may take, counted as often as they are referred to.
    """

    def __init__(self, most: int) -> None:
        self.most, self.made = most, 0
        self.known: dict[int, tuple[Any, int]] = {}  # by the record's id: value and bytes; records outlive this
        self.open: set[int] = set()

    def value(self, record: Any) -> Any:
        return self.weighed(record)[0]

    def weighed(self, record: Any) -> tuple[Any, int]:
        """A value and the bytes it unfolds to."""
        if record is None or type(record) in (bool, int, float):
            return record, 8
        if type(record) in (str, bytes):
            return record, 8 + len(record)
        key = id(record)
        if key not in self.known:
            if key in self.open:
                raise Refused("a container that contains itself")
            if len(self.open) >= MOST_DEPTH:
                raise Refused(f"containers more than {MOST_DEPTH} deep")
            self.open.add(key)
            value, weight = self._make(record)
            if weight > self.most:
                raise Refused("values that unfold to more than the file can hold")
            self.open.remove(key)
            self.known[key] = value, weight
        return self.known[key]

    def _make(self, record: Any) -> tuple[Any, int]:
        if type(record) is String:
            return self._spent(record.data.decode("latin1"), len(record.data))
        if type(record) in (list, tuple):
            parts = [self.weighed(entry) for entry in record]
            return type(record)(value for value, _ in parts), 8 + sum(weight for _, weight in parts)
        if isinstance(record, Dictionary):
            entries = [(self._key(key), *self.weighed(entry)) for key, entry in record.items]
            return {key: value for key, value, _ in entries}, 8 + sum(8 + weight for _, _, weight in entries)
        make = _MAKERS.get(record.kind) if isinstance(record, Call) else None
        if make is None:
            raise Refused(f"a {record.kind}" if isinstance(record, Call) else f"a reference to {record.text}")
        return make(self, record)

    def _key(self, record: Any) -> str | int:
        """Keys of text, or integers too short to be made to collide."""
        if type(record) in (str, String):
            return self.value(record)
        if type(record) is int and abs(record) < 1 << 32:
            return record
        raise Refused("a dictionary whose keys are not text")

    def _spent(self, value: Any, size: int) -> tuple[Any, int]:
        """A value of ``size`` bytes beside what the file holds, counted."""
        self.made += size
        if self.made > self.most:
            raise Refused("values that take more than the file can hold")
        return value, 8 + size

    def _raw(self, record: Any) -> bytes:
        """The bytes of an array."""
        if type(record) in (bytes, String):
            return record if type(record) is bytes else record.data
        if isinstance(record, Call) and record.state is None:
            if record.kind == "bytes" and not record.arguments:
                return b""
            is_text = record.kind == "encode" and len(record.arguments) == 2 and type(record.arguments[0]) is str
            if is_text and _text(record.arguments[1]) in ("latin1", "latin-1"):
                return record.arguments[0].encode("latin1")
        raise Refused("an array without its bytes")

    def _array(self, kind: Any, shape: Any, fortran: bool, content: Any) -> tuple[np.ndarray, int]:
        if type(shape) is not tuple:
            raise Refused("an array without a shape")
        if _type(kind) is not _OBJECTS:
            raw = self._raw(content)
            self._spent(None, len(raw))
            return self._weigh(_elements(raw, _type(kind), shape, fortran))
        size = shape_size(shape)
        if size is None or type(content) is not list or len(content) != size:
            raise Refused(f"an array of objects that are not {shape}")
        flat, weight = np.empty(size, dtype=object), 8
        for number, entry in enumerate(content):
            flat[number], more = self.weighed(entry)
            weight += more
        return flat.reshape(shape, order="F" if fortran else "C"), weight

    def _weigh(self, array: Any) -> tuple[Any, int]:
        return array, 8 + array.nbytes

    def _saved_array(self, record: Call) -> tuple[np.ndarray, int]:
        """``_reconstruct(ndarray, (0,), b"b")`` and the state (1, shape, dtype, is Fortran, bytes)."""
        kind, state = record.arguments[0] if record.arguments else None, record.state
        if not (
            isinstance(kind, Name)
            and kind.kind == "ndarray"
            and type(state) is tuple
            and len(state) == 5
            and state[0] == 1
        ):
            raise Refused("an array of another kind or without a state")
        return self._array(state[2], state[1], bool(state[3] in (1, True)), state[4])

    def _buffered_array(self, record: Call) -> tuple[np.ndarray, int]:
        """``_frombuffer(bytes, dtype, shape, order)`` of protocol 5; with the order K the axes follow, as they are to
        be turned.
        """
        if (
            len(record.arguments) not in (4, 5)
            or record.state is not None
            or record.arguments[3] not in ("C", "F", "K")
        ):
            raise Refused("an array of other arguments")
        raw, kind, shape, order, axes = (*record.arguments, None)[:5]
        array, weight = self._array(kind, shape, order == "F", raw)
        if order != "K":
            return array, weight
        if (
            type(axes) is not tuple
            or not all(type(axis) is int for axis in axes)
            or sorted(axes) != list(range(array.ndim))
        ):
            raise Refused("an array whose axes are others")
        return array.transpose(axes), weight

    def _scalar(self, record: Call) -> tuple[Any, int]:
        """``scalar(dtype, bytes)``."""
        if len(record.arguments) != 2 or record.state is not None or _type(record.arguments[0]) is _OBJECTS:
            raise Refused("a number of other arguments")
        return self._weigh(_elements(self._raw(record.arguments[1]), _type(record.arguments[0]), (), False)[()])

    def _bytes(self, record: Call) -> tuple[bytes, int]:
        raw = self._raw(record)
        return self._spent(raw, len(raw))

    def _sparse(self, record: Call) -> tuple[Any, int]:
        """A scipy sparse matrix of arrays that fit its shape: scipy would read memory at indices beyond it."""
        from scipy import sparse  # a tenth of a second that embeddings need not wait for

        fields = _fields(record)
        shape = self.value(fields.get("_shape", fields.get("shape")))
        if type(shape) is not tuple or len(shape) != 2 or shape_size(shape) is None:
            raise Refused("a sparse matrix without a shape")
        data = self._vector(fields, "data", "biufc")
        if record.kind == "coo":
            places = (
                self.value(fields["coords"])
                if "coords" in fields
                else tuple(self.value(fields.get(name)) for name in ("row", "col"))
            )
            if (
                type(places) is not tuple
                or len(places) != 2
                or not all(_is_vector(place, "iu", len(data)) for place in places)
            ):
                raise Refused("a sparse matrix without its places")
            if any(_beyond(place, length) for place, length in zip(places, shape)):
                raise Refused(f"a sparse matrix with entries beyond {shape}")
            return sparse.coo_matrix((data, places), shape=shape), 8 + 3 * data.nbytes
        indices, starts = self._vector(fields, "indices", "iu"), self._vector(fields, "indptr", "iu")
        rows, columns = shape if record.kind == "csr" else shape[::-1]
        fits = len(starts) == rows + 1 and len(indices) == len(data) and starts[0] == 0 and starts[-1] == len(data)
        if not fits or (starts[1:] < starts[:-1]).any() or _beyond(indices, columns):
            raise Refused(f"a sparse matrix whose entries do not fit {shape}")
        make = {"csc": sparse.csc_matrix, "csr": sparse.csr_matrix}[record.kind]
        return make((data, indices, starts), shape=shape), 8 + data.nbytes + indices.nbytes + starts.nbytes

    def _vector(self, fields: dict[str, Any], name: str, kinds: str) -> np.ndarray:
        value = self.value(fields.get(name))
        if not _is_vector(value, kinds):
            raise Refused(f"a sparse matrix without {name}")
        return value

    def _chumpy(self, record: Call) -> tuple[np.ndarray, int]:
        """An array of chumpy, the package FLAME was made with, or a selection of another's entries
        (``chumpy.reordering.Select``).
        """
        fields = _fields(record)
        if "x" in fields:
            value = self.value(fields["x"])
            if isinstance(value, np.ndarray) and value.dtype.kind in "biuf":
                return self._weigh(value)
        elif {"a", "idxs", "preferred_shape"} <= fields.keys():
            entries, places, shape = (self.value(fields[name]) for name in ("a", "idxs", "preferred_shape"))
            entries, places = numbers(entries), numbers(places)
            if entries is None or places is None or places.dtype.kind not in "iu" or type(shape) not in (tuple, list):
                raise Refused("a chumpy selection of other than numbers")
            if shape_size(shape) != places.size or _beyond(places, entries.size):
                raise Refused("a chumpy selection whose entries do not fit")
            self._spent(None, places.size * entries.itemsize)
            return self._weigh(entries.ravel()[places.ravel()].reshape(tuple(shape)))
        raise Refused(
            f"a chumpy expression of {', '.join(sorted(map(ascii, fields)))[:100] or 'nothing'}, not an array"
        )


_MAKERS = {
    "array": _Values._saved_array,
    "buffer": _Values._buffered_array,
    "scalar": _Values._scalar,
    "encode": _Values._bytes,
    "bytes": _Values._bytes,
    "csc": _Values._sparse,
    "csr": _Values._sparse,
    "coo": _Values._sparse,
    "chumpy": _Values._chumpy,
}


def _type(record: Any) -> Any:
    """The type of an array's elements from its arguments and state, all plain; ``_OBJECTS`` for objects."""
    if not (isinstance(record, Call) and record.kind == "dtype" and record.arguments):
        raise Refused("an array without a type")
    text, state = _text(record.arguments[0]), record.state
    if state is not None and (
        type(state) is not tuple
        or len(state) != 8
        or state[0] != 3
        or _text(state[1]) not in _ORDERS
        or state[2:5] != (None, None, None)
    ):
        raise Refused(f"an array of the type {ascii(text)[:40]} with fields")
    if text in ("O", "O4", "O8"):
        return _OBJECTS
    found = element_type(text if state is None else _text(state[1]) + text)
    if found is None:
        raise Refused(f"an array of the type {ascii(text)[:40]}")
    if state is not None and (
        state[5] not in (-1, found.itemsize) or state[7] not in ((0, 8) if found.kind == "U" else (0,))
    ):
        raise Refused(f"an array of the type {found} with another state")
    return found


def _elements(raw: bytes, kind: np.dtype, shape: tuple[int, ...], fortran: bool) -> np.ndarray:
    size = shape_size(shape)
    if size is None or size * kind.itemsize != len(raw):
        raise Refused(f"an array {str(shape)[:60]} of {kind} in {len(raw)} bytes")
    array = read_elements(io.BytesIO(raw), kind, shape, fortran)
    if array is None:
        raise Refused("an array of what is no text")
    return array


def _text(record: Any) -> str:
    if type(record) is String and len(record.data) <= MOST_NAME:
        return record.data.decode("latin1")
    if type(record) is str and len(record) <= MOST_NAME:
        return record
    raise Refused("a name that is no text")


def _fields(record: Call) -> dict[str, Any]:
    """Entries of the state of an object, by name."""
    if not isinstance(record.state, Dictionary):
        raise Refused(f"a {record.kind} without a state")
    return {_text(key): entry for key, entry in record.state.items if type(key) in (str, String)}


def _is_vector(value: Any, kinds: str, length: int | None = None) -> bool:
    return (
        isinstance(value, np.ndarray) and value.ndim == 1 and value.dtype.kind in kinds and length in (None, len(value))
    )


def _beyond(places: np.ndarray, length: int) -> bool:
    """Whether indices lie outside 0 to ``length`` - 1."""
    return bool(places.size) and not (0 <= int(places.min()) and int(places.max()) < length)
