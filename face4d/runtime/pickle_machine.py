"""A stack machine for pickles that makes no call and looks up no name: it only writes down what a pickle asks for.

Python's own machine hands what the file says to constructors and ``__setstate__`` of numpy and scipy, which believe it:
a forged dtype makes them take bytes for pointers, and BUILD on a function rewrites its defaults. An allow-list of
functions is only as safe as the least careful of them. This machine has numbers, text, bytes, lists, tuples and
dictionaries, and records for the rest; :mod:`face4d.runtime.safe_pickle` makes values of the few records that it knows.
It hashes nothing, and takes time and memory in proportion to instructions (which are counted) and bytes.
"""

from __future__ import annotations

import codecs
import struct
from typing import Any, BinaryIO

MOST_INSTRUCTIONS = 250_000  # half a second; published models have a few thousand
MOST_INTEGER_BYTES = 16
MOST_NAME = 200  # characters of a number or a global name
PROTOCOLS = 5

_PYTHON_2 = {"__builtin__": "builtins", "copy_reg": "copyreg"}
SPARSE = ("csc", "csr", "coo")
_KINDS = {
    "numpy.ndarray": "ndarray",
    "numpy.dtype": "dtype",
    "_codecs.encode": "encode",
    "collections.OrderedDict": "dictionary",
    "builtins.set": "set",
    "builtins.bytes": "bytes",
    "builtins.object": "object",
    "copyreg._reconstructor": "reconstructor",
}
for _package in ("numpy.core", "numpy._core"):  # numpy 1 and numpy 2
    _KINDS |= {f"{_package}.multiarray._reconstruct": "array", f"{_package}.multiarray.scalar": "scalar"}
    _KINDS |= {f"{_package}.numeric._frombuffer": "buffer"}
_CLASSES = ("chumpy", *SPARSE)  # kinds of objects that are made empty and then given their state


class Refused(ValueError):
    """What a pickle holds that is not read."""


class Name:
    """A class or function that a pickle refers to; never looked up."""

    def __init__(self, module: str, name: str) -> None:
        module = _PYTHON_2.get(module, module)
        self.text = f"{module}.{name}"
        kind = _KINDS.get(self.text)
        if module.partition(".")[0] == "chumpy":
            kind = "chumpy"
        elif module.startswith("scipy.sparse") and name[:3] in SPARSE and name[3:] in ("_matrix", "_array"):
            kind = name[:3]
        if kind is None:
            raise Refused(f"a reference to {ascii(self.text)[1:-1]}")
        self.kind = kind


class Call:
    """A call or an object that a pickle asks for: what of, with which arguments, and the state it sets."""

    def __init__(self, kind: str, arguments: tuple[Any, ...] = ()) -> None:
        self.kind, self.arguments = kind, arguments
        self.state: Any = None


class Dictionary:
    """Keys and values in the order they come; hashed when all are known to be plain."""

    def __init__(self) -> None:
        self.items: list[tuple[Any, Any]] = []


class String:
    """A string of Python 2: the bytes of an array, or text as latin1."""

    def __init__(self, data: bytes) -> None:
        self.data = data


class Machine:
    """Runs the program of a pickle, up to its end, on records only."""

    def __init__(self, file: BinaryIO, size: int) -> None:
        self.file, self.left = file, size
        self.stack: list[Any] = []
        self.below: list[list[Any]] = []  # stacks under the marks
        self.memo: dict[int, Any] = {}

    def run(self) -> Any:
        for _ in range(MOST_INSTRUCTIONS):
            code = self.take(1)
            if code == b".":
                return self.pop()
            instruction = _INSTRUCTIONS.get(code)
            if instruction is None:
                raise Refused(f"the instruction {code!r}")
            instruction(self)
        raise Refused(f"more than {MOST_INSTRUCTIONS} instructions")

    def take(self, count: int) -> bytes:
        data = self.file.read(count) if 0 <= count <= self.left else b""
        if len(data) != count or count < 0:
            raise Refused("one that ends too early")
        self.left -= count
        return data

    def number(self, size: int, signed: bool = False) -> int:
        return int.from_bytes(self.take(size), "little", signed=signed)

    def line(self, most: int | None = MOST_NAME) -> bytes:
        data = self.file.readline(self.left if most is None else min(most, self.left))
        self.left -= len(data)
        if not data.endswith(b"\n"):
            raise Refused("a line that does not end")
        return data[:-1]

    def index(self, number: int) -> int:
        if not 0 <= number < MOST_INSTRUCTIONS:
            raise Refused(f"memo entry {number}")
        return number

    def pop(self) -> Any:
        if not self.stack:
            raise Refused("a value that is not there")
        return self.stack.pop()

    def top(self) -> Any:
        if not self.stack:
            raise Refused("a value that is not there")
        return self.stack[-1]

    def marked(self) -> list[Any]:
        if not self.below:
            raise Refused("a mark that is not there")
        values, self.stack = self.stack, self.below.pop()
        return values

    def push(self, value: Any) -> None:
        self.stack.append(value)

    # Instructions that are more than a line.

    def protocol(self) -> None:
        number = self.number(1)
        if number > PROTOCOLS:
            raise Refused(f"protocol {number}")

    def frame(self) -> None:
        if self.number(8) > self.left:
            raise Refused("one that ends too early")

    def mark(self) -> None:
        self.below.append(self.stack)
        self.stack = []

    def pop_or_unmark(self) -> None:
        if self.stack:
            self.stack.pop()
        else:
            self.marked()

    def put(self, index: int) -> None:
        self.memo[self.index(index)] = self.top()

    def get(self, index: int) -> None:
        if index not in self.memo:
            raise Refused(f"memo entry {index}")
        self.push(self.memo[index])

    def integer(self, data: bytes) -> None:
        if data in (b"00", b"01"):
            self.push(data == b"01")
            return
        if len(data) > 2 * MOST_INTEGER_BYTES:
            raise Refused(f"an integer of {len(data)} digits")
        self.push(int(data.removesuffix(b"L")))

    def long_integer(self, size: int) -> None:
        if size > MOST_INTEGER_BYTES:
            raise Refused(f"an integer of {size} bytes")
        self.push(self.number(size, signed=True))

    def quoted(self) -> None:
        data = self.line(None).strip()
        if len(data) < 2 or data[:1] != data[-1:] or data[:1] not in (b'"', b"'"):
            raise Refused("a string without quotes")
        self.push(String(codecs.escape_decode(data[1:-1])[0]))

    def text(self, data: bytes) -> None:
        self.push(data.decode("utf-8", "surrogatepass"))

    def append(self, values: list[Any]) -> None:
        target = self.top()
        if type(target) is not list:
            raise Refused("an entry appended to what is no list")
        target.extend(values)

    def set_items(self, values: list[Any]) -> None:
        target = self.top()
        if not isinstance(target, Dictionary) or len(values) % 2:
            raise Refused("an entry of what is no dictionary")
        target.items.extend(zip(values[::2], values[1::2]))

    def dictionary(self, values: list[Any]) -> None:
        self.push(Dictionary())
        self.set_items(values)

    def add_items(self) -> None:
        self.marked()
        if not (isinstance(self.top(), Call) and self.top().kind == "set"):
            raise Refused("an entry of what is no set")

    def name(self, module: Any, name: Any) -> None:
        if type(module) is not str or type(name) is not str or len(module) + len(name) > 2 * MOST_NAME:
            raise Refused("a name that is no text")
        self.push(Name(module, name))

    def stacked_name(self) -> None:
        name = self.pop()
        self.name(self.pop(), name)

    def tuple_of(self, count: int) -> None:
        values = [self.pop() for _ in range(count)]
        self.push(tuple(reversed(values)))

    def call(self) -> None:
        arguments, function = self.pop(), self.pop()
        if not isinstance(function, Name) or type(arguments) is not tuple:
            raise Refused("a call of what is no function")
        kind = function.kind
        if kind == "reconstructor":
            made = arguments[0] if arguments else None
            if not isinstance(made, Name) or made.kind not in _CLASSES:
                raise Refused(f"a reconstruction of {getattr(made, 'text', type(made).__name__)}")
            kind = made.kind
        elif kind == "dictionary":
            self.ordered(arguments)
            return
        elif kind in ("ndarray", "object"):
            raise Refused(f"a call of {function.text}")
        self.push(Call(kind, arguments))

    def ordered(self, arguments: tuple[Any, ...]) -> None:
        pairs = arguments[0] if arguments else []
        if (
            len(arguments) > 1
            or type(pairs) is not list
            or not all(type(pair) in (list, tuple) and len(pair) == 2 for pair in pairs)
        ):
            raise Refused("an OrderedDict that is no list of pairs")
        self.dictionary([part for pair in pairs for part in pair])

    def build(self) -> None:
        state, target = self.pop(), self.top()
        if not isinstance(target, Call) or target.state is not None:
            raise Refused("a state for what takes none")
        target.state = state


def _real(machine: Machine) -> None:
    machine.push(struct.unpack(">d", machine.take(8))[0])


_INSTRUCTIONS = {
    b"\x80": Machine.protocol,
    b"\x95": Machine.frame,
    b"(": Machine.mark,
    b"0": Machine.pop_or_unmark,
    b"1": Machine.marked,
    b"2": lambda m: m.push(m.top()),
    b"N": lambda m: m.push(None),
    b"\x88": lambda m: m.push(True),
    b"\x89": lambda m: m.push(False),
    b"I": lambda m: m.integer(m.line()),
    b"L": lambda m: m.integer(m.line()),
    b"K": lambda m: m.push(m.number(1)),
    b"M": lambda m: m.push(m.number(2)),
    b"J": lambda m: m.push(m.number(4, signed=True)),
    b"\x8a": lambda m: m.long_integer(m.number(1)),
    b"\x8b": lambda m: m.long_integer(m.number(4)),
    b"F": lambda m: m.push(float(m.line())),
    b"G": _real,
    b"S": Machine.quoted,
    b"T": lambda m: m.push(String(m.take(m.number(4)))),
    b"U": lambda m: m.push(String(m.take(m.number(1)))),
    b"V": lambda m: m.push(m.line(None).decode("raw-unicode-escape")),
    b"X": lambda m: m.text(m.take(m.number(4))),
    b"\x8c": lambda m: m.text(m.take(m.number(1))),
    b"\x8d": lambda m: m.text(m.take(m.number(8))),
    b"B": lambda m: m.push(m.take(m.number(4))),
    b"C": lambda m: m.push(m.take(m.number(1))),
    b"\x8e": lambda m: m.push(m.take(m.number(8))),
    b"\x96": lambda m: m.push(m.take(m.number(8))),  # BYTEARRAY8
    b"]": lambda m: m.push([]),
    b"l": lambda m: m.push(m.marked()),
    b"a": lambda m: m.append([m.pop()]),
    b"e": lambda m: m.append(m.marked()),
    b")": lambda m: m.push(()),
    b"t": lambda m: m.push(tuple(m.marked())),
    b"\x85": lambda m: m.tuple_of(1),
    b"\x86": lambda m: m.tuple_of(2),
    b"\x87": lambda m: m.tuple_of(3),
    b"}": lambda m: m.push(Dictionary()),
    b"d": lambda m: m.dictionary(m.marked()),
    b"s": lambda m: m.set_items([m.pop(), m.pop()][::-1]),
    b"u": lambda m: m.set_items(m.marked()),
    b"\x8f": lambda m: m.push(Call("set")),
    b"\x90": Machine.add_items,
    b"\x91": lambda m: m.push(Call("set", tuple(m.marked()))),
    b"c": lambda m: m.name(m.line().decode(), m.line().decode()),
    b"\x93": Machine.stacked_name,
    b"R": Machine.call,
    b"\x81": Machine.call,  # NEWOBJ: the same record
    b"b": Machine.build,
    b"p": lambda m: m.put(int(m.line())),
    b"q": lambda m: m.put(m.number(1)),
    b"r": lambda m: m.put(m.number(4)),
    b"\x94": lambda m: m.put(len(m.memo)),
    b"g": lambda m: m.get(int(m.line())),
    b"h": lambda m: m.get(m.number(1)),
    b"j": lambda m: m.get(m.number(4)),
}  # not INST and OBJ (old classes of Python 2), persistent ids, extension codes, NEWOBJ_EX, buffers beside the file
