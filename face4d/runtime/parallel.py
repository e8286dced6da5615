"""Parallel work over files, in order, with one progress bar."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import TypeVar

from joblib import Parallel, delayed
from tqdm import tqdm

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

    Results stream: nothing is kept but what is in flight. With one worker everything stays in this process. An exception in
    a worker (:class:`face4d.errors.InputError` included) ends the iteration and is raised here.
    """
    results: Iterator[Result]
    if workers == 1 or len(items) < 2:
        results = map(function, items)
    else:
        tasks = (delayed(function)(item) for item in items)
        results = Parallel(n_jobs=min(workers, len(items)), return_as="generator", batch_size="auto")(tasks)
    yield from tqdm(results, total=len(items), desc=description, disable=quiet, dynamic_ncols=True)
