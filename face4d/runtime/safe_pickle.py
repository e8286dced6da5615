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
}
for _package in ("numpy.core", "numpy._core"):
    _ALLOWED[(f"{_package}.multiarray", "_reconstruct")] = np._core.multiarray._reconstruct
    _ALLOWED[(f"{_package}.multiarray", "scalar")] = np._core.multiarray.scalar
    _ALLOWED[(f"{_package}.numeric", "_frombuffer")] = np._core.numeric._frombuffer


class _ArrayUnpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        try:
            return _ALLOWED[(module, name)]
        except KeyError:
            raise pickle.UnpicklingError(f"a reference to {module}.{name}") from None


def load_pickle(path: str | Path) -> Any:
    """Load a pickle that holds nothing but numbers, strings, containers and numpy arrays.

    Python 2 pickles are read as latin1. No other class or function is ever looked up, so nothing in the file can run.

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


def _unpickle(path: Path, data: bytes) -> Any:
    try:
        return _ArrayUnpickler(io.BytesIO(data), encoding="latin1").load()
    except InputError:
        raise
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise InputError(path, "a pickle of numpy arrays only", f"{error or type(error).__name__}") from None
