"""Ctrl-C that waits for a safe moment."""

from __future__ import annotations

import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar

_condition: ContextVar[Callable[[], bool]] = ContextVar("condition", default=lambda: False)


@contextmanager
def interrupted_when(condition: Callable[[], bool]) -> Iterator[None]:
    """Within the block :func:`deferred_interrupt` also says yes where ``condition()`` holds: Ctrl-C that was pressed elsewhere."""
    token = _condition.set(condition)
    try:
        yield
    finally:
        _condition.reset(token)


@contextmanager
def deferred_interrupt(on_press: Callable[[], object] = lambda: None) -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C was pressed; a second Ctrl-C interrupts at once.

    Outside the main thread signals cannot be caught.

    Args:
        on_press: called at the first Ctrl-C, for those who wait where they cannot ask.
    """
    pressed = False
    condition = _condition.get()

    def remember(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        on_press()

    if threading.current_thread() is not threading.main_thread():
        yield condition
        return
    previous = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: pressed or condition()
    finally:
        signal.signal(signal.SIGINT, previous)
