"""How far long work has come (a bar in a terminal, a line per tenth in a log), and numbers in sentences."""

from __future__ import annotations

import math
import sys
import time
from collections.abc import Iterable, Iterator, Sized
from typing import Any, TypeVar, overload

from tqdm import tqdm

Item = TypeVar("Item")

_SECONDS = 1.0  # between two lines, so that short work is one


@overload
def track(
    description: str,
    items: Iterable[Item],
    *,
    unit: str,
    total: float | None = None,
    initial: float = 0,
    quiet: bool = False,
    **look: Any,
) -> tqdm[Item] | Lines[Item]: ...


@overload
def track(
    description: str, *, unit: str, total: float | None = None, initial: float = 0, quiet: bool = False, **look: Any
) -> tqdm[Any] | Lines[Any]: ...


def track(
    description: str,
    items: Iterable[Any] | None = None,
    *,
    unit: str,
    total: float | None = None,
    initial: float = 0,
    quiet: bool = False,
    **look: Any,
) -> tqdm[Any] | Lines[Any]:
    """Tell how far work has come: through ``items``, or as ``update()`` counts up to ``total``. A context manager
    either way.

    Args:
        description: what is done.
        unit: what is counted, one of them.
        initial: done before.
        quiet: neither bar nor lines.
        look: more arguments of tqdm, for a terminal.
    """
    if quiet or sys.stderr.isatty():
        return tqdm(
            items, description, total=total, initial=initial, unit=unit, disable=quiet, dynamic_ncols=True, **look
        )
    if total is None and isinstance(items, Sized):
        total = len(items)
    return Lines(items, description, unit, total, initial)


class Lines(Iterable[Item]):
    """What a batch job's log gets in place of a bar: a line on stderr for every tenth, with the methods of tqdm that
    are used here.

    Without a total there is one line, at the end.

    Attributes:
        n: what is done.
        total: of how much, None = not known.
    """

    def __init__(
        self, items: Iterable[Item] | None, description: str, unit: str, total: float | None, initial: float
    ) -> None:
        self.n, self.total = initial, total
        self._items, self._description, self._unit = items, description, unit
        self._told = self._tenth()
        self._begun = time.monotonic()
        self._last = self._begun
        self._state = ""

    def __iter__(self) -> Iterator[Item]:
        for item in self._items or ():
            yield item
            self.update()
        self.close()

    def __enter__(self) -> Lines[Item]:
        return self

    def __exit__(self, kind: object, *_: object) -> None:
        if kind is None:
            self.close()

    def update(self, count: float = 1) -> None:
        """Count what was done."""
        self.n += count
        self.refresh()

    def refresh(self) -> None:
        """Write a line if another tenth is done."""
        if (
            self.total
            and self._tenth() > self._told
            and (self.n >= self.total or time.monotonic() - self._last >= _SECONDS)
        ):
            self._told, self._last = self._tenth(), time.monotonic()
            self._line(f"{100 * self.n / self.total:.0f} %, {round(self.n, 2):g} of {self.total:g} {self._unit}s")

    def close(self) -> None:
        """The end; the one line of work whose total was not known."""
        if self.total is None and self._told == 0:
            self._told = 1
            self._line(f"{self.n:g} {self._unit}s")

    def set_postfix(self, *, refresh: bool = True, **values: str) -> None:
        """What the next line ends with."""
        self._state = ", ".join(f"{name} {value}" for name, value in values.items())

    def set_postfix_str(self, text: str, *, refresh: bool = True) -> None:
        """What the next line ends with."""
        self._state = text

    def _tenth(self) -> int:
        return int(10 * self.n / self.total) if self.total else 0

    def _line(self, done: str) -> None:
        parts = [done, f"{time.monotonic() - self._begun:.0f} s", *([self._state] if self._state else [])]
        print(f"{self._description}: {', '.join(parts)}", file=sys.stderr, flush=True)


def counted(number: int, noun: str) -> str:
    """A number of things.

    >>> counted(1, "sequence"), counted(12, "sequence")
    ('1 sequence', '12 sequences')
    """
    return f"{number} {noun}" if number == 1 else f"{number} {noun}s"


def share(value: float) -> str:
    """A ratio in percent; one that is not finite stands for something that was not found.

    >>> share(0.1234), share(float("inf"))
    ('12.34 %', 'none found')
    """
    return f"{100 * value:.2f} %" if math.isfinite(value) else "none found"


def compared(own: float, other: float) -> str:
    """An error beside another's, the smaller the better.

    >>> compared(1.0, 2.0), compared(2.0, 1.0), compared(1.0, 1.01)
    ('2.0 times better', '2.0 times worse', 'no better')
    """
    if not (math.isfinite(own) and math.isfinite(other)) or max(own, other) <= 1.05 * min(own, other):
        return "no better"
    better, small, large = own < other, min(own, other), max(own, other)
    return f"{f'{large / small:.1f} times ' if small > 0 else 'far '}{'better' if better else 'worse'}"
