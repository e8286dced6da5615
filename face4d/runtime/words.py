"""Numbers in the sentences that programs print."""

from __future__ import annotations

import math


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
