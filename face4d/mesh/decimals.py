"""Plain decimal numbers ("-0.012345") from text, a whole block at a time.

A decimal m / 10^n with m < 2^53 and n <= 22 is rounded once by the division, so the result is the float64 that ``float()`` gives.
Digits are combined eight at a time inside 64-bit words (D. Lemire, "Number Parsing at a Gigabyte per Second", 2021, section 4).
"""

from __future__ import annotations

import numpy as np

_MINUS, _DOT, _NEWLINE = ord("-"), ord("."), ord("\n")
_PIECE = 1 << 17  # bytes of text at a time: temporaries stay in the cache and are not handed back to the system each time
_PAD = b" " * 8  # words are read up to eight bytes before and after a number
_ZEROS = np.uint64(0x3030303030303030)
_ONES = np.uint64(0xFFFFFFFFFFFFFFFF)
# Neighbouring digits, then pairs, then fours become one number: mask, multiplier, shift.
_STEPS = tuple(
    (np.uint64(mask), np.uint64(factor), np.uint64(bits))
    for mask, factor, bits in (
        (0x0F0F0F0F0F0F0F0F, 2561, 8),
        (0x00FF00FF00FF00FF, 6553601, 16),
        (0x0000FFFF0000FFFF, 42949672960001, 32),
    )
)
_POWERS = 10 ** np.arange(9, dtype=np.uint64)


def parse_lines(block: bytes, prefix: bytes, numbers: int) -> np.ndarray | None:
    """Numbers of lines that all look alike: ``prefix``, then decimals with one space before each.

    Args:
        block: whole lines, each ended by ``\\n``.
        prefix: first word of every line (``b"v"``), one character.
        numbers: how many numbers to return of each line; further ones are checked for their form only.

    Returns:
        (lines, numbers) float64, or None when any line differs from this form (other spacing, exponents, more than eight decimals or
        seven digits before the point); read it with a slower parser then.
    """
    pieces, start = [], 0
    while start < len(block):
        stop = block.rfind(b"\n", start, start + _PIECE) + 1
        values = _parse_piece(block[start:stop], prefix, numbers) if stop > start else None
        if values is None:
            return None
        pieces.append(values)
        start = stop
    return np.concatenate(pieces) if pieces else None


def _parse_piece(block: bytes, prefix: bytes, numbers: int) -> np.ndarray | None:
    padded = _PAD + block + _PAD
    text = np.frombuffer(padded, np.uint8)
    spaces = np.flatnonzero(text[: 8 + len(block)] <= 32)[8:]
    words = block[: block.find(b"\n") + 1].count(b" ") + 1
    if words <= numbers or len(spaces) % words or not len(spaces):
        return None
    spaces = spaces.reshape(-1, words)
    starts = np.concatenate([[8], spaces[:-1, -1] + 1])
    if (text[spaces[:, -1]] != _NEWLINE).any() or (text[starts] != prefix[0]).any() or (spaces[:, 0] != starts + 1).any():
        return None
    if np.count_nonzero(text < 32) != len(spaces):  # control characters besides the line ends are no blanks
        return None
    first, end = spaces[:, :-1] + 1, spaces[:, 1:]  # of each number
    dots = _points(text, block, end)
    if dots is None:
        return None
    return _decimals(padded, text, first[:, :numbers], dots[:, :numbers], end[:, :numbers])


def _points(text: np.ndarray, block: bytes, end: np.ndarray) -> np.ndarray | None:
    """Where the decimal point of every number is; None unless each has just one."""
    decimals = block.find(b" ", block.find(b".")) - block.find(b".") - 1
    dots = end - (decimals + 1)
    if decimals > 0 and (text[dots] == _DOT).all():  # all as long as the first one
        return dots
    dots = np.flatnonzero(text == _DOT)
    return dots.reshape(end.shape) if len(dots) == end.size else None


def _decimals(padded: bytes, text: np.ndarray, first: np.ndarray, dots: np.ndarray, end: np.ndarray) -> np.ndarray | None:
    """Values of the numbers at ``first``..``end`` with their points at ``dots``; all (lines, numbers)."""
    windows = np.ndarray((len(padded) - 7,), "<u8", padded, strides=(1,))  # eight bytes from every position
    negative = text[first] == _MINUS
    before = _common(dots - first - negative)
    after = _common(end - dots - 1)
    if np.min(before) < 1 or np.max(before) > 7 or np.min(after) < 1 or np.max(after) > 8:
        return None
    whole = _digits(windows[dots - 8], before)
    fraction = _digits(windows[dots + 1] << _blank_bits(after), after)
    if whole is None or fraction is None:
        return None
    scale = _POWERS[after]
    whole *= scale
    whole += fraction
    values = whole.astype(np.float64)
    values /= scale
    return np.negative(values, out=values, where=negative)


def _common(lengths: np.ndarray) -> np.ndarray | int:
    """The one length that all have, or the lengths as they are; a single one saves half of the work."""
    return int(lengths.flat[0]) if lengths.min() == lengths.max() else lengths


def _blank_bits(count: np.ndarray | int) -> np.ndarray | np.uint64:
    """Bits of an eight-byte word beside ``count`` digits."""
    return (np.uint64(64) - (np.asarray(count).astype(np.uint64) << np.uint64(3)))[()]


def _digits(words: np.ndarray, count: np.ndarray | int) -> np.ndarray | None:
    """Integers written in the last ``count`` bytes of each little-endian word (overwritten); None when one of these is no digit."""
    kept = _ONES << _blank_bits(count)
    words &= kept
    words |= _ZEROS & ~kept
    high = np.uint64(0xF0F0F0F0F0F0F0F0)
    wrong = words + np.uint64(0x0606060606060606)  # of a digit d, d + 6 has the upper half 3 too; of : to ? it has not
    wrong &= words
    wrong ^= _ZEROS
    wrong &= high
    if wrong.any():
        return None
    for mask, factor, bits in _STEPS:
        words &= mask
        words *= factor
        words >>= bits
    return words
