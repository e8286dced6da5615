"""Parallel work over files, in order, with one progress bar."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from joblib import Parallel, delayed
from tqdm import tqdm

# Work that is done sooner than worker processes have started is never handed to them.
_ALONE_SECONDS = 0.5

Item = TypeVar("Item")
Result = TypeVar("Result")


def map_files(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int = 1,
    description: str = "",
    quiet: bool = False,
) -> Iterator[Result]:
    """Yield ``function(item)`` for all items in order, ``workers`` processes at a time.

    Results stream: nothing is kept but what is in flight. With one worker everything stays in this process, and so does the work of
    the first half second. An exception in a worker (:class:`face4d.errors.InputError` included) ends the iteration and is raised here.
    """
    yield from tqdm(_results(function, items, workers), total=len(items), desc=description, disable=quiet, dynamic_ncols=True)


def _results(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    done, deadline = 0, time.monotonic() + _ALONE_SECONDS
    while done < len(items) and (workers == 1 or time.monotonic() < deadline):
        yield function(items[done])
        done += 1
    rest = items[done:]
    if len(rest) == 1:
        yield function(rest[0])
    elif rest:
        tasks = (delayed(function)(item) for item in rest)
        yield from Parallel(n_jobs=min(workers, len(rest)), return_as="generator", batch_size="auto")(tasks)
