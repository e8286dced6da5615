"""Ctrl-C that waits for a safe moment."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager

STARTED_BY = "FACE4D_STARTED_BY"
"""Environment variable of a process that another one watches over: the number of that one."""


def orphaned() -> bool:
    """Whether the process that watched over this one is gone, however it ended."""
    parent = os.environ.get(STARTED_BY)
    return parent is not None and parent != str(os.getppid())


@contextmanager
def deferred_interrupt(on_press: Callable[[], object] = lambda: None) -> Iterator[Callable[[], bool]]:
    """Yield a function that says whether Ctrl-C was pressed, or nobody is left who could; a second Ctrl-C interrupts at
    once.

    Outside the main thread signals cannot be caught.

    Args:
        on_press: called at the first Ctrl-C, for those who wait where they cannot ask.
    """
    pressed = False

    def remember(number: int, frame: object) -> None:
        nonlocal pressed
        if pressed:
            raise KeyboardInterrupt
        pressed = True
        on_press()

    if threading.current_thread() is not threading.main_thread():
        yield orphaned
        return
    previous = signal.signal(signal.SIGINT, remember)
    try:
        yield lambda: pressed or orphaned()
    finally:
        signal.signal(signal.SIGINT, previous)
