"""Files of ``torch.save`` read without torch's unpickler: tensors and plain data, and nothing larger than the file
says.

Such a file is a pickle that refers to storages, and their bytes: beside it in a zip archive, or behind it in files from
before torch 1.6. The pickle is read with stand-ins that record what it says; tensors are made afterwards, from a short
list of types, within the bytes that are there. The archive holds a CRC-32 of each of its members, which is compared, so
that no bit of a weight changes unnoticed.
"""

from __future__ import annotations

import io
import math
import os
import pickle
import pickletools
import struct
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import IO, Any

import numpy as np
import torch
from torch import Tensor

from face4d.errors import InputError
from face4d.runtime.files import open_file

_MOST_PICKLE = 64 << 20  # bytes
_MOST_OPCODES = 1_000_000
_MOST_DEPTH = 64  # containers in containers
_MAGIC = b"\x80\x02\x8a\nl\xfc\x9cF\xf9 j\xa8P\x19."  # the pickled number at the head of files from before torch 1.6
_TYPES = {
    "FloatStorage": torch.float32,
    "DoubleStorage": torch.float64,
    "HalfStorage": torch.float16,
    "BFloat16Storage": torch.bfloat16,
    "LongStorage": torch.int64,
    "IntStorage": torch.int32,
    "ShortStorage": torch.int16,
    "CharStorage": torch.int8,
    "ByteStorage": torch.uint8,
    "BoolStorage": torch.bool,
}
_NUMBERS = {f"{kind}{size}" for kind in "fiu" for size in (1, 2, 4, 8)} - {"f1"} | {"b1"}  # numpy's names
# What torch.save writes. NEWOBJ, of a saved module, finds no class to make: those are all stand-ins.
_OPCODES = frozenset(
    [
        "PROTO",
        "STOP",
        "MARK",
        "POP",
        "POP_MARK",
        "DUP",
        "NONE",
        "NEWTRUE",
        "NEWFALSE",
        "INT",
        "BININT",
        "BININT1",
        "BININT2",
        "LONG",
        "LONG1",
        "FLOAT",
        "BINFLOAT",
        "STRING",
        "BINSTRING",
        "SHORT_BINSTRING",
        "UNICODE",
        "BINUNICODE",
        "SHORT_BINUNICODE",
        "BINBYTES",
        "SHORT_BINBYTES",
        "EMPTY_LIST",
        "LIST",
        "APPEND",
        "APPENDS",
        "EMPTY_TUPLE",
        "TUPLE",
        "TUPLE1",
        "TUPLE2",
        "TUPLE3",
        "EMPTY_DICT",
        "DICT",
        "SETITEM",
        "SETITEMS",
        "PUT",
        "BINPUT",
        "LONG_BINPUT",
        "GET",
        "BINGET",
        "LONG_BINGET",
        "MEMOIZE",
        "FRAME",
        "GLOBAL",
        "STACK_GLOBAL",
        "REDUCE",
        "NEWOBJ",
        "BUILD",
        "BINPERSID",
    ]
)


class _Refused(Exception):
    """What is wrong with a file, for people."""


class _StandIn:
    """In place of what a pickle names or makes; its BUILD, which sets attributes, is refused."""

    def __setstate__(self, state: Any) -> None:
        raise _Refused("a change of what it names")


class _Named(_StandIn):
    """In place of a class or function that a pickle names: calling it records what it was called with."""

    def __init__(self, make: Callable[..., Any]) -> None:
        self.make = make

    def __call__(self, *args: Any) -> Any:
        return self.make(*args)


class _StorageType(_StandIn):
    """In place of ``torch.FloatStorage`` and the like."""

    def __init__(self, kind: torch.dtype) -> None:
        self.kind = kind


class _Dictionary(dict):
    """An ``OrderedDict``, whose attributes (``_metadata`` of a state dict) are passed over."""

    def __init__(self, entries: Any = ()) -> None:
        super().__init__(tuple(entry) for entry in entries)

    def __setstate__(self, state: Any) -> None:
        pass


class _NumberType:
    """A numpy dtype: one of a few names, and the byte order."""

    def __init__(self, name: Any, *_: Any) -> None:
        if name not in _NUMBERS:
            raise _Refused("a numpy type that is no number")
        self.name, self.order = name, "="

    def __setstate__(self, state: Any) -> None:
        if not isinstance(state, tuple) or len(state) < 2 or state[1] not in ("<", ">", "|", "="):
            raise _Refused("a numpy type that is no number")
        self.order = state[1]

    def number(self, data: Any) -> bool | int | float:
        """The one number in so many bytes."""
        kind = np.dtype(self.name).newbyteorder(self.order)
        if not isinstance(data, bytes) or len(data) != kind.itemsize:
            raise _Refused("a numpy number of another size than its type")
        return np.frombuffer(data, kind)[0].item()


class _Storage(_StandIn):
    """Numbers that tensors lie in.

    Args:
        kind: of the numbers.
        count: how many.
    """

    def __init__(self, kind: torch.dtype, count: Any) -> None:
        if type(count) is not int or not 0 <= count < 2**40:
            raise _Refused("a storage of no size")
        self.kind, self.count = kind, count
        self.values: Tensor | None = None

    @property
    def num_bytes(self) -> int:
        return self.count * self.kind.itemsize


class _View(_StandIn):
    """A tensor that is not made yet: what of a storage it shows."""

    def __init__(self, storage: Any, offset: Any, size: Any, stride: Any, *_: Any) -> None:
        numbers = (
            [offset, *size, *stride]
            if isinstance(size, tuple) and isinstance(stride, tuple) and len(size) == len(stride)
            else [-1]
        )
        if (
            not isinstance(storage, _Storage)
            or len(numbers) > 65
            or not all(type(n) is int and 0 <= n < 2**40 for n in numbers)
        ):
            raise _Refused("a tensor that is none")
        last = offset + sum((n - 1) * step for n, step in zip(size, stride)) if 0 not in size else -1
        if last >= storage.count or math.prod(size) > storage.count:
            raise _Refused(f"a tensor of the shape {size} in a storage of {storage.count} numbers")
        self.storage, self.offset, self.size, self.stride = storage, offset, size, stride

    def tensor(self) -> Tensor:
        assert self.storage.values is not None  # read before any tensor is made
        return self.storage.values.as_strided(self.size, self.stride, self.offset)


def _encoded(value: Any, codec: Any = None) -> bytes:
    """Bytes as protocol 2 writes them."""
    if not isinstance(value, str) or codec != "latin1":
        raise _Refused("an encoded text that is no bytes")
    return value.encode("latin1")


def _tuple(entries: Any = ()) -> tuple[Any, ...]:
    if not isinstance(entries, (list, tuple)):
        raise _Refused("a size that is none")
    return tuple(entries)


def _scalar(kind: Any, data: Any) -> bool | int | float:
    if not isinstance(kind, _NumberType):
        raise _Refused("a numpy number without a type")
    return kind.number(data)


_KNOWN: dict[str, Any] = {
    "collections.OrderedDict": _Named(_Dictionary),
    "torch._utils._rebuild_tensor": _Named(_View),
    "torch._utils._rebuild_tensor_v2": _Named(_View),
    "torch._utils._rebuild_parameter": _Named(lambda value, *_: value),
    "torch.Size": _Named(_tuple),
    "torch.device": _Named(lambda *parts: ":".join(map(str, parts))[:20]),
    "_codecs.encode": _Named(_encoded),
    "numpy.dtype": _Named(_NumberType),
    "numpy.core.multiarray.scalar": _Named(_scalar),
    "numpy._core.multiarray.scalar": _Named(_scalar),
    **{f"torch.{name}": _StorageType(kind) for name, kind in _TYPES.items()},
    **{f"torch.{str(kind).removeprefix('torch.')}": str(kind).removeprefix("torch.") for kind in _TYPES.values()},
}


class _Unpickler(pickle.Unpickler):
    def __init__(self, data: bytes, storage_of: Callable[[Any], _Storage]) -> None:
        super().__init__(io.BytesIO(data), encoding="latin1")
        self.storage_of = storage_of

    def find_class(self, module: str, name: str) -> Any:
        if f"{module}.{name}" not in _KNOWN:
            raise _Refused(f"a reference to {module}.{name}"[:100] + ", which is neither a tensor nor plain data")
        return _KNOWN[f"{module}.{name}"]

    def persistent_load(self, identity: Any) -> _Storage:
        return self.storage_of(identity)


def read_torch_file(path: str | Path, expected: str) -> Any:
    """What :func:`torch.save` wrote, one's own or others': tensors on the CPU and plain data. Nothing in the file is
    run.

    Numpy numbers become Python's, ordered dictionaries plain ones.

    Args:
        expected: what the file should be, for the error.

    Raises:
        InputError: unreadable, or with anything else in it.
    """
    with os.fdopen(open_file(path, expected), "rb") as file:
        try:
            return _read(file)
        except _Refused as error:
            raise InputError(path, expected, f"an unreadable file ({error})") from None
        except OSError as error:
            raise InputError(path, expected, f"an unreadable file ({error.strerror or error})") from None


def _read(file: IO[bytes]) -> Any:
    head = file.read(len(_MAGIC))
    size = file.seek(0, os.SEEK_END)
    file.seek(0)
    if head.startswith(b"PK"):
        return _read_archive(file, size)
    if head == _MAGIC:
        return _read_old(file, size)
    if not head:
        raise _Refused("it is empty")
    file.seek(257)
    raise _Refused(
        "a tar archive of another program" if file.read(5) == b"ustar" else "not from torch.save, or damaged"
    )


def _read_archive(file: IO[bytes], size: int) -> Any:
    try:
        archive = zipfile.ZipFile(file)
        members = {info.filename.partition("/")[2]: info for info in archive.infolist()}
    except Exception as error:  # damaged archives raise nearly anything
        raise _Refused(f"damaged or cut: {str(error)[:60] or type(error).__name__}") from None
    if "constants.pkl" in members or any(name.startswith("code/") for name in members):
        raise _Refused("a TorchScript program (its state_dict, saved with torch.save, is wanted)")
    if "data.pkl" not in members:
        raise _Refused("a zip archive that torch.save did not write")
    if any(
        info.compress_type or info.flag_bits & 1 or info.file_size != info.compress_size for info in members.values()
    ):
        raise _Refused("a compressed or encrypted archive, as torch.save does not write")
    if sum(info.file_size for info in members.values()) > size:
        raise _Refused("members that are larger than the file")
    if "byteorder" in members and _member(file, members["byteorder"]).numpy().tobytes() != b"little":
        raise _Refused("numbers with the high byte first")
    if members["data.pkl"].file_size > _MOST_PICKLE:
        raise _Refused(f"{members['data.pkl'].file_size >> 20} MB beside the tensors")
    storages: dict[str, _Storage] = {}

    def storage_of(identity: Any) -> _Storage:
        kind, key, count = _storage_identity(identity)
        if key not in storages:
            storages[key] = _Storage(kind, count)
            info = members.get(f"data/{key}")
            if info is None or info.file_size != storages[key].num_bytes:
                raise _Refused(f"{'no' if info is None else info.file_size} bytes for the {count} numbers of a tensor")
            storages[key].values = _member(file, info).view(kind)
        if (storages[key].kind, storages[key].count) != (kind, count):
            raise _Refused("one storage of two types")
        return storages[key]

    return _plain(_unpickled(_member(file, members["data.pkl"]).numpy().tobytes(), storage_of))


def _member(file: IO[bytes], info: zipfile.ZipInfo) -> Tensor:
    """A stored member's bytes (n,) uint8, in memory of their own; its checksum is compared."""
    file.seek(info.header_offset)
    header = file.read(30)
    if len(header) < 30 or header[:4] != b"PK\x03\x04":
        raise _Refused("damaged")
    file.seek(sum(struct.unpack("<HH", header[26:30])), os.SEEK_CUR)
    data = torch.empty(info.file_size, dtype=torch.uint8)
    _fill(file, data)
    if zlib.crc32(data.numpy().data) != info.CRC:
        raise _Refused(f"damaged: the checksum of {info.filename[:60]} does not agree")
    return data


def _fill(file: IO[bytes], data: Tensor) -> None:
    if len(data) and file.readinto(data.numpy().data) != len(data):  # type: ignore[attr-defined]
        raise _Refused("it ends early")


def _read_old(file: IO[bytes], size: int) -> Any:
    """Files from before torch 1.6: five pickles one after the other, then the storages in the order of the last one."""
    storages: dict[str, _Storage] = {}

    def storage_of(identity: Any) -> _Storage:
        kind, key, count = _storage_identity(identity)
        return storages.setdefault(key, _Storage(kind, count))

    pickles = io.BytesIO(file.read(_MOST_PICKLE))
    _, version, system = (_unpickled(_next_pickle(pickles), storage_of) for _ in range(3))
    if version != 1001 or not isinstance(system, dict) or not system.get("little_endian"):
        raise _Refused("another protocol than torch's 1001")
    content = _unpickled(_next_pickle(pickles), storage_of)
    keys = _unpickled(_next_pickle(pickles), storage_of)
    file.seek(pickles.tell())
    if not isinstance(keys, list) or sorted(map(str, keys)) != sorted(storages):
        raise _Refused("other storages than its tensors lie in")
    if sum(storage.num_bytes for storage in storages.values()) > size:
        raise _Refused("tensors that are larger than the file")
    for key in keys:
        storage = storages[key]
        if file.read(8) != struct.pack("<q", storage.count):
            raise _Refused("damaged, or it ends early")
        data = torch.empty(storage.num_bytes, dtype=torch.uint8)
        _fill(file, data)
        storage.values = data.view(storage.kind)
    return _plain(content)


def _storage_identity(identity: Any) -> tuple[torch.dtype, str, int]:
    if not isinstance(identity, tuple) or len(identity) not in (5, 6) or identity[0] != "storage":
        raise _Refused("a reference that is no storage")
    kind, key, _, count = identity[1:5]
    if (
        not isinstance(kind, _StorageType)
        or not isinstance(key, str)
        or (len(identity) == 6 and identity[5] is not None)
    ):
        raise _Refused("a storage of a type that no weights have")
    return kind.kind, key, count


def _next_pickle(file: io.BytesIO) -> bytes:
    """The bytes of the pickle that begins here."""
    start = file.tell()
    _check_opcodes(file)
    data_size = file.tell() - start
    file.seek(start)
    return file.read(data_size)


def _check_opcodes(file: io.BytesIO) -> None:
    """Read a pickle to its end, opcode by opcode; nothing is made of it.

    Memo places are those of a writer that counts, so that the unpickler need not make room for others.
    """
    count = 0
    try:
        for opcode, argument, _ in pickletools.genops(file):
            count += 1
            if opcode.name not in _OPCODES:
                raise _Refused(f"the opcode {opcode.name}, which torch.save does not write")
            if count > _MOST_OPCODES or (opcode.name.endswith("PUT") and int(argument or 0) > count):
                raise _Refused("more entries than any checkpoint has")
    except (ValueError, IndexError, struct.error, AttributeError) as error:
        raise _Refused(f"damaged: {str(error)[:60] or type(error).__name__}") from None


def _unpickled(data: bytes, storage_of: Callable[[Any], _Storage]) -> Any:
    _check_opcodes(io.BytesIO(data))
    try:
        return _Unpickler(data, storage_of).load()
    except (_Refused, OSError):
        raise
    except Exception as error:  # a damaged pickle may raise nearly anything
        raise _Refused(f"damaged: {str(error)[:60] or type(error).__name__}") from None


def _plain(value: Any, made: dict[int, Any] | None = None, depth: int = 0) -> Any:
    """The content with every stand-in, at any depth, turned into what it stands for; what is shared stays shared, and
    is visited once.

    Args:
        made: what was turned before, by identity.
        depth: of containers around the value.
    """
    made = {} if made is None else made  # no closure: it would hold itself, and all tensors until the next collection
    if isinstance(value, _View):
        if id(value) not in made:
            made[id(value)] = value.tensor()
        return made[id(value)]
    if value is None or type(value) in (bool, int, float, str, bytes):
        return value
    if type(value) not in (dict, _Dictionary, list, tuple):
        raise _Refused("something that is neither a tensor nor plain data")
    if depth > _MOST_DEPTH:
        raise _Refused(f"containers nested more than {_MOST_DEPTH} times")
    if id(value) not in made:
        if isinstance(value, dict):
            if not all(type(key) in (str, int, float, bool) for key in value):
                raise _Refused("a dictionary whose keys are no text")
            made[id(value)] = {key: _plain(entry, made, depth + 1) for key, entry in value.items()}
        else:
            made[id(value)] = type(value)(_plain(entry, made, depth + 1) for entry in value)
    return made[id(value)]
