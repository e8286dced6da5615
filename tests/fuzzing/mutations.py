"""Damage to file contents of any format: bytes flipped, cut, repeated, spliced; numbers, words and lines replaced."""

from __future__ import annotations

import re
import struct
from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from hypothesis import strategies as st
from hypothesis.strategies import DrawFn, SearchStrategy

# Written numbers that readers trip over: beyond every type, no number, no integer, other spellings, digits of another
# script.
NUMBERS = (
    b"0", b"-0", b"-1", b"1", b"3", b"0.5", b"3.0", b"+2", b"01", b"255", b"256", b"65536", b"2147483647",
    b"2147483648", b"-2147483649", b"9223372036854775808", b"1" + b"0" * 12, b"1" + b"0" * 30, b"9" * 400, b"1e39",
    b"-1e39", b"1e308", b"1e400", b"-1e400", b"1e-400", b"nan", b"-nan", b"inf", b"-Infinity", b"NaN", b"1_0", b"0x10",
    b"1e", b"e5", b".", b"-", b"", b"true", b"null", b"\xd9\xa3", b"\xef\xbc\x93",
)  # fmt: skip
_BYTES = (
    b"\0", b"\n", b"\r", b"\r\n", b"\t", b" ", b"\x0b", b"\x0c", b"\x1b[31m", b"\x1c", b"\x85", b"\xa0", b"\xff",
    b"\xe2\x80\xa8", b"\xef\xbb\xbf", b"/", b"\\", b"../", b"#", b"\"", b"{", b"[", b",", b";", b"%s", b"\x80",
)  # fmt: skip
_INTEGERS = (
    0,
    1,
    2,
    3,
    4,
    7,
    0x7F,
    0x80,
    0xFF,
    0x7FFF,
    0x8000,
    0xFFFF,
    0x7FFFFFFF,
    0x80000000,
    0xFFFFFFFF,
    1 << 20,
    1 << 32,
    1 << 40,
    (1 << 63) - 1,
    1 << 63,
    -1,
)
_FLOATS = tuple(float(text) for text in ("0", "-0", "nan", "inf", "-inf", "1e-45", "1e38", "-1e38", "0.5", "1e20"))
_NUMBER = re.compile(rb"[-+]?\d+(?:\.\d*)?(?:[eE][-+]?\d+)?")
_WORD = re.compile(rb"[^\s]+")


class _Drawn:
    """The two methods of :class:`random.Random` that damage needs, drawn by hypothesis (so that it can make examples
    shorter)."""

    def __init__(self, draw: DrawFn) -> None:
        self._draw = draw

    def randint(self, lowest: int, highest: int) -> int:
        return self._draw(st.integers(lowest, highest))

    def choice(self, options: Sequence[Any]) -> Any:
        return self._draw(st.sampled_from(options))


@st.composite
def mutated(draw: DrawFn, files: SearchStrategy[bytes], words: tuple[bytes, ...] = (), most: int = 4) -> bytes:
    """Contents of ``files`` after up to ``most`` kinds of damage, often none.

    Args:
        words: of the format, put in the place of others.
    """
    data, other = draw(files), b""
    choices = _Drawn(draw)
    for _ in range(draw(st.integers(0, most))):
        mutation = choices.choice(_MUTATIONS)
        if mutation is _splice:
            other = draw(files)
        data = mutation(choices, data, other, words)
    return data


def damaged(random: Random, data: bytes, other: bytes) -> bytes:
    """Content after one to three kinds of damage, chosen by a generator: many times faster than hypothesis."""
    for _ in range(random.randint(1, 3)):
        data = random.choice(_MUTATIONS)(random, data, other, ())
    return data


def _slice(random: Random | _Drawn, data: bytes, longest: int = 64) -> tuple[int, int]:
    begin = random.randint(0, len(data))
    return begin, min(len(data), begin + random.randint(0, longest))


def _flip(random: Random | _Drawn, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    if not data:
        return data
    place = random.randint(0, len(data) - 1)
    return data[:place] + bytes([random.randint(0, 255)]) + data[place + 1 :]


def _cut(random: Random | _Drawn, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    return data[: random.randint(0, len(data))]


def _drop(random: Random | _Drawn, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    begin, end = _slice(random, data)
    return data[:begin] + data[end:]


def _repeat(random: Random | _Drawn, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    begin, end = _slice(random, data)
    return data[:end] + data[begin:end] * random.choice((1, 1, 2, 50)) + data[end:]


def _insert(random: Random | _Drawn, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    place = random.randint(0, len(data))
    return data[:place] + random.choice(_BYTES + words) + data[place:]


def _splice(random: Random | _Drawn, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    return data[: random.randint(0, len(data))] + other[random.randint(0, len(other)) :]


def _replace(random: Random | _Drawn, data: bytes, pattern: re.Pattern[bytes], values: tuple[bytes, ...]) -> bytes:
    places = [match.span() for match in pattern.finditer(data)]
    if not places:
        return data
    begin, end = random.choice(places)
    return data[:begin] + random.choice(values) + data[end:]


def _number(random: Random | _Drawn, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    return _replace(random, data, _NUMBER, NUMBERS)


def _word(random: Random | _Drawn, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    return _replace(random, data, _WORD, words or NUMBERS)


def _binary_number(random: Random | _Drawn, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    order, kind = random.choice("<>"), random.choice("BHIQfd")
    if kind in "fd":
        packed = struct.pack(order + kind, random.choice(_FLOATS))
    else:
        packed = struct.pack(order + kind, random.choice(_INTEGERS) % (1 << 8 * struct.calcsize(order + kind)))
    place = random.randint(0, len(data))
    return data[:place] + packed + data[place + len(packed) :]


def _line(random: Random | _Drawn, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    lines = data.split(b"\n")
    place, action = random.randint(0, len(lines) - 1), random.choice(("repeat", "drop", "move"))
    line = lines[place]
    if action == "repeat":
        lines.insert(place, line)
    else:
        del lines[place]
        if action == "move":
            lines.insert(random.randint(0, len(lines)), line)
    return b"\n".join(lines)


def _line_ends(random: Random | _Drawn, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    return data.replace(b"\n", random.choice((b"\r\n", b"\r", b"\n\n", b" \n", b"\n ")))


def _spaces(random: Random | _Drawn, data: bytes, other: bytes, words: tuple[bytes, ...]) -> bytes:
    begin = random.randint(0, len(data))
    return data[:begin] + data[begin:].replace(b" ", random.choice((b"\t", b"  ", b"\n", b" \t ")))


_MUTATIONS: tuple[Callable[[Random | _Drawn, bytes, bytes, tuple[bytes, ...]], bytes], ...] = (
    _flip, _cut, _drop, _repeat, _insert, _splice, _number, _number, _word, _binary_number, _line, _line_ends, _spaces,
)  # fmt: skip
