"""Reading other people's pickles without running other people's code."""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import numpy as np

from face4d.errors import InputError

# Array constructors under the names that numpy 1 and numpy 2 pickle them with, and the codec that latin1 pickles call.
_ALLOWED: dict[tuple[str, str], Any] = {
    ("numpy", "ndarray"): np.ndarray,
    ("numpy", "dtype"): np.dtype,
    ("_codecs", "encode"): __import__("_codecs").encode,
    ("collections", "OrderedDict"): __import__("collections").OrderedDict,
    ("builtins", "set"): set,
    ("builtins", "object"): object,
}
for _package in ("numpy.core", "numpy._core"):
    _ALLOWED[(f"{_package}.multiarray", "_reconstruct")] = np._core.multiarray._reconstruct
    _ALLOWED[(f"{_package}.multiarray", "scalar")] = np._core.multiarray.scalar
    _ALLOWED[(f"{_package}.numeric", "_frombuffer")] = np._core.numeric._frombuffer


_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}


class _Recorded:
    """In place of an object of another package: takes the state the pickle sets, runs nothing of that package."""

    def __new__(cls, *args: Any) -> _Recorded:
        return super().__new__(cls)

    def __init__(self, *args: Any) -> None:
        pass

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, dict):
            raise pickle.UnpicklingError(f"the state of a {type(self).__name__} of the type {type(state).__name__}")
        self.__dict__.update(state)


class _Chumpy(_Recorded):
    """An array of chumpy, the package FLAME was made with, or a selection of another's entries (``chumpy.reordering.Select``)."""

    def value(self) -> np.ndarray:
        state = vars(self)
        if isinstance(state.get("x"), np.ndarray):
            return state["x"]
        if {"a", "idxs", "preferred_shape"} <= state.keys():
            entries = np.asarray(_plain(state["a"])).ravel()[np.asarray(_plain(state["idxs"]))]
            return entries.reshape(tuple(state["preferred_shape"]))
        raise pickle.UnpicklingError(f"a chumpy expression of {', '.join(sorted(map(str, state))) or 'nothing'}, not an array")


class _Sparse(_Recorded):
    """A scipy sparse matrix; rebuilt by scipy from its checked arrays."""

    format = ""

    def value(self) -> Any:
        from scipy import sparse  # a tenth of a second that embeddings need not wait for

        state = vars(self)
        shape = tuple(int(n) for n in state.get("_shape", state.get("shape")))
        if self.format == "coo":
            row, col = state["coords"] if "coords" in state else (state["row"], state["col"])
            matrix = sparse.coo_matrix((state["data"], (row, col)), shape=shape)
        else:
            make = {"csc": sparse.csc_matrix, "csr": sparse.csr_matrix}[self.format]
            matrix = make((state["data"], state["indices"], state["indptr"]), shape=shape)
            matrix.check_format(full_check=True)  # indices beyond the shape would be read from memory that is not the matrix's
        return matrix


_SPARSE = {f"{name}_{kind}": type(name, (_Sparse,), {"format": name}) for name in ("csc", "csr", "coo") for kind in ("matrix", "array")}


def _reconstructor(kind: type, base: type, state: Any) -> _Recorded:
    """``copyreg._reconstructor`` for stand-ins only."""
    if not (isinstance(kind, type) and issubclass(kind, _Recorded) and base is object):
        raise pickle.UnpicklingError(f"a reconstruction of {kind!r}")
    return kind()


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        module = _PYTHON_2.get(module, module)
        if module.partition(".")[0] == "chumpy":
            return _Chumpy
        if module.startswith("scipy.sparse") and name in _SPARSE:
            return _SPARSE[name]
        if (module, name) == ("copyreg", "_reconstructor"):
            return _reconstructor
        try:
            return _ALLOWED[(module, name)]
        except KeyError:
            raise pickle.UnpicklingError(f"a reference to {module}.{name}") from None


def _plain(value: Any) -> Any:
    """The value with every stand-in, at any depth of dicts, lists and tuples, turned into what it stands for."""
    if isinstance(value, _Recorded):
        return value.value()
    if isinstance(value, dict):
        return type(value)((key, _plain(entry)) for key, entry in value.items())
    if type(value) in (list, tuple):
        return type(value)(_plain(entry) for entry in value)
    return value


def load_pickle(path: str | Path) -> Any:
    """Load a pickle that holds nothing but numbers, strings, containers, numpy arrays, scipy sparse matrices and chumpy arrays.

    Python 2 pickles are read as latin1. Chumpy need not be there: its arrays become numpy arrays. No other class or function is ever
    looked up, so nothing in the file can run.

    Raises:
        InputError: the file is missing, damaged, or refers to anything else.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "a pickle of numpy arrays", "no such file")
    return _unpickle(path, path.read_bytes())


def load_npy(path: str | Path) -> Any:
    """Load an ``.npy`` file; one that holds a pickled object (a 0-d object array) goes through :func:`load_pickle`'s rules.

    Returns:
        The array, or the object of a 0-d object array.
    """
    path = Path(path)
    if not path.is_file():
        raise InputError(path, "a .npy file", "no such file")
    data = path.read_bytes()
    stream = io.BytesIO(data)
    try:
        version = np.lib.format.read_magic(stream)
        read_header = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        _, _, dtype = read_header(stream)
        if not dtype.hasobject:
            return np.load(io.BytesIO(data), allow_pickle=False)
    except (ValueError, EOFError, OSError) as error:
        raise InputError(path, "a .npy file", f"{error}") from None
    value = _unpickle(path, data[stream.tell() :])
    return value[()] if isinstance(value, np.ndarray) and value.ndim == 0 else value


def load_numbers(path: str | Path, expected: str) -> np.ndarray:
    """Load an ``.npy`` file of numbers.

    Args:
        expected: what the file should hold, for the errors.

    Raises:
        InputError: it is missing, damaged, an archive, or holds anything else.
    """
    try:
        array = np.load(path, allow_pickle=False)
    except FileNotFoundError:
        raise InputError(path, expected, "no such file") from None
    except Exception as error:  # damaged files raise nearly anything
        raise InputError(path, expected, f"an unreadable file ({error or type(error).__name__})") from None
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "fiu":
        raise InputError(path, expected, "something that is not numbers")
    return array


def _unpickle(path: Path, data: bytes) -> Any:
    try:
        return _plain(_ArrayUnpickler(io.BytesIO(data), encoding="latin1").load())
    except InputError:
        raise
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise InputError(path, "a pickle of numpy arrays only", f"{error or type(error).__name__}") from None
