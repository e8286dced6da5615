"""Damage to file contents of any format: bytes flipped, cut, repeated, spliced; numbers, words and lines replaced."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

# Written numbers that readers trip over: beyond every type, no number, no integer, other spellings, digits of another script.
NUMBERS = (
    b"0", b"-0", b"-1", b"1", b"3", b"0.5", b"3.0", b"+2", b"01", b"255", b"256", b"65536", b"2147483647", b"2147483648", b"-2147483649",
    b"9223372036854775808", b"1" + b"0" * 12, b"1" + b"0" * 30, b"9" * 400, b"1e39", b"-1e39", b"1e308", b"1e400", b"-1e400", b"1e-400", b"nan", b"-nan",
    b"inf", b"-Infinity", b"NaN", b"1_0", b"0x10", b"1e", b"e5", b".", b"-", b"", b"true", b"null", b"\xd9\xa3", b"\xef\xbc\x93",
)  # fmt: skip
_BYTES = (
    b"\0", b"\n", b"\r", b"\r\n", b"\t", b" ", b"\x0b", b"\x0c", b"\x1b[31m", b"\x1c", b"\x85", b"\xa0", b"\xff", b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"/", b"\\",
    b"../", b"#", b"\"", b"{", b"[", b",", b";", b"%s", b"\x80",
)  # fmt: skip
_INTEGERS = (0, 1, 2, 3, 4, 7, 0x7F, 0x80, 0xFF, 0x7FFF, 0x8000, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 1 << 20, 1 << 32, 1 << 40, (1 << 63) - 1, 1 << 63, -1)
_FLOATS = tuple(float(text) for text in ("0", "-0", "nan", "inf", "-inf", "1e-45", "1e38", "-1e38", "1e300", "0.5", "1e20"))
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[^\s]+")


@st.composite
def mutated(draw: DrawFn, files: SearchStrategy[bytes], words: tuple[bytes, ...] = (), most: int = 4) -> bytes:
    """Contents of ``files`` after up to ``most`` kinds of damage, often none.

    Args:
        words: of the format, put in the place of others.
    """
    data = draw(files)
    for _ in range(draw(st.integers(0, most))):
        mutation = draw(st.sampled_from(_MUTATIONS))
        data = mutation(draw, data, files, words)
    return data


def _slice(draw: DrawFn, data: bytes, longest: int = 64) -> tuple[int, int]:
    begin = draw(st.integers(0, len(data)))
    return begin, min(len(data), begin + draw(st.integers(0, longest)))


def _flip(draw: DrawFn, data: bytes, files: object, words: object) -> bytes:
    if not data:
        return data
    place = draw(st.integers(0, len(data) - 1))
    return data[:place] + bytes([draw(st.integers(0, 255))]) + data[place + 1 :]


def _cut(draw: DrawFn, data: bytes, files: object, words: object) -> bytes:
    return data[: draw(st.integers(0, len(data)))]


def _drop(draw: DrawFn, data: bytes, files: object, words: object) -> bytes:
    begin, end = _slice(draw, data)
    return data[:begin] + data[end:]


def _repeat(draw: DrawFn, data: bytes, files: object, words: object) -> bytes:
    begin, end = _slice(draw, data)
    return data[:end] + data[begin:end] * draw(st.sampled_from((1, 1, 2, 50))) + data[end:]


def _insert(draw: DrawFn, data: bytes, files: object, words: tuple[bytes, ...]) -> bytes:
    place = draw(st.integers(0, len(data)))
    return data[:place] + draw(st.sampled_from(_BYTES + words)) + data[place:]


def _splice(draw: DrawFn, data: bytes, files: SearchStrategy[bytes], words: object) -> bytes:
    other = draw(files)
    return data[: draw(st.integers(0, len(data)))] + other[draw(st.integers(0, len(other))) :]


def _replace(draw: DrawFn, data: bytes, pattern: re.Pattern[bytes], values: tuple[bytes, ...]) -> bytes:
    places = [match.span() for match in pattern.finditer(data)]
    if not places:
        return data
    begin, end = draw(st.sampled_from(places))
    return data[:begin] + draw(st.sampled_from(values)) + data[end:]


def _number(draw: DrawFn, data: bytes, files: object, words: object) -> bytes:
    return _replace(draw, data, _NUMBER, NUMBERS)


def _word(draw: DrawFn, data: bytes, files: object, words: tuple[bytes, ...]) -> bytes:
    return _replace(draw, data, _WORD, words or NUMBERS)


def _binary_number(draw: DrawFn, data: bytes, files: object, words: object) -> bytes:
    order, kind = draw(st.sampled_from("<>")), draw(st.sampled_from("BHIQfd"))
    if kind in "fd":
        value = draw(st.sampled_from(_FLOATS))
        packed = struct.pack(order + kind, value if kind == "d" or abs(value) < 3e38 or value != value else float("inf"))
    else:
        packed = struct.pack(order + kind, draw(st.sampled_from(_INTEGERS)) % (1 << 8 * struct.calcsize(order + kind)))
    place = draw(st.integers(0, len(data)))
    return data[:place] + packed + data[place + len(packed) :]


def _line(draw: DrawFn, data: bytes, files: object, words: object) -> bytes:
    lines = data.split(b"\n")
    place, action = draw(st.integers(0, len(lines) - 1)), draw(st.sampled_from(("repeat", "drop", "move")))
    line = lines[place]
    if action == "repeat":
        lines.insert(place, line)
    else:
        del lines[place]
        if action == "move":
            lines.insert(draw(st.integers(0, len(lines))), line)
    return b"\n".join(lines)


def _line_ends(draw: DrawFn, data: bytes, files: object, words: object) -> bytes:
    return data.replace(b"\n", draw(st.sampled_from((b"\r\n", b"\r", b"\n\n", b" \n", b"\n "))))


def _spaces(draw: DrawFn, data: bytes, files: object, words: object) -> bytes:
    begin = draw(st.integers(0, len(data)))
    return data[:begin] + data[begin:].replace(b" ", draw(st.sampled_from((b"\t", b"  ", b"\n", b" \t "))))


_MUTATIONS: tuple[Callable[[DrawFn, bytes, SearchStrategy[bytes], tuple[bytes, ...]], bytes], ...] = (
    _flip, _cut, _drop, _repeat, _insert, _splice, _number, _number, _word, _binary_number, _line, _line_ends, _spaces,
)  # fmt: skip
