"""Grids of training runs: cells from lists of settings, and their runs side by side, stopped and resumed together."""

from __future__ import annotations

import math
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from itertools import product
from pathlib import Path
from typing import Any, TypeVar


from face4d.errors import InputError
from face4d.runtime.atomic import write_text
from face4d.runtime.fields import Check, check, list_of, told
from face4d.runtime.interrupt import deferred_interrupt
from face4d.runtime.parallel import as_finished
from face4d.runtime.progress import track
from face4d.runtime.json_file import read_json

Grid = Mapping[str, Sequence[Any]]
Settings = dict[str, Any]
Job = TypeVar("Job")
Result = TypeVar("Result")

MOST_CELLS = 1000  # of a grid of one's own
_LOOK_SECONDS = 1.0


def expand(grids: Sequence[Grid]) -> list[Settings]:
    """All combinations of the lists of each grid, the last list running fastest; a combination met before is left out.

    >>> expand([{"loss": ["l1", "l2"], "hidden_size": [128]}])
    [{'loss': 'l1', 'hidden_size': 128}, {'loss': 'l2', 'hidden_size': 128}]
    """
    cells: dict[frozenset[tuple[str, Any]], Settings] = {}
    for grid in grids:
        for values in product(*grid.values()):
            cells.setdefault(frozenset(zip(grid, values)), dict(zip(grid, values)))
    return list(cells.values())


def read_grid(path: str | Path, allowed: Mapping[str, Check]) -> list[Grid]:
    """Read a grid of one's own: a JSON object of lists by flag name (``{"loss": ["l1", "l2"], "hidden-size": [128]}``), or a list of such.

    Args:
        allowed: what values each setting takes, by its name with underscores; the file may spell names with dashes.

    Raises:
        InputError: another content, a name that is not allowed, a value that its flag does not take, or more than 1000 combinations.
    """
    content = read_json(path)
    grids = []
    for grid in content if isinstance(content, list) else [content]:
        if not isinstance(grid, dict) or not grid:
            raise InputError(path, 'a JSON object of lists by flag name, {"loss": ["l1", "l2"]}, or a list of such', told(grid))
        for name, values in grid.items():
            if name.replace("-", "_") not in allowed:
                raise InputError(path, f"flags among {', '.join(allowed)}", name[:60])
            if not isinstance(values, list) or not values:
                raise InputError(path, f"a list of values of {name}", told(values))
        settings = {name.replace("-", "_"): values for name, values in grid.items()}
        if len(settings) < len(grid):
            raise InputError(path, "every flag once", f"two spellings of one: {', '.join(grid)}")
        grids.append({name: check(path, values, list_of(allowed[name]), name) for name, values in settings.items()})
    if not grids:
        raise InputError(path, "at least one grid", "an empty list")
    count = sum(math.prod(map(len, grid.values())) for grid in grids)
    if count > MOST_CELLS:
        raise InputError(path, f"a grid of at most {MOST_CELLS} runs", f"{count} combinations")
    return grids


class Lease:
    """The right to train the runs of a folder, held by one command at a time.

    Workers elsewhere ask :meth:`held` before each epoch, so they stop when the command is interrupted, and when another one takes over.

    Args:
        path: file that tells who holds it; all workers must see it.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self.holder = uuid.uuid4().hex

    def take(self) -> None:
        """Become the holder, whoever it was before."""
        write_text(self.path, self.holder)

    def held(self) -> bool:
        """Whether it is still ours; a file system that does not answer changes nothing."""
        try:
            return self.path.read_text(encoding="utf-8") == self.holder
        except FileNotFoundError:
            return False
        except OSError:
            return True

    def release(self) -> None:
        """Give it up; what runs under it stops after its epoch."""
        if self.held():
            self.path.unlink(missing_ok=True)


def run_side_by_side(
    function: Callable[[Job], Result],
    jobs: Sequence[Job],
    lease: Lease,
    *,
    workers: int,
    progress: Callable[[Job], float],
    finished: int = 0,
    description: str = "",
    quiet: bool = False,
) -> list[Result]:
    """``function(job)`` for all jobs, ``workers`` at a time, below a bar that counts runs.

    Args:
        function: trains a run for as long as ``lease`` is held; travels to other processes.
        progress: share 0..1 of a job that is done, read from its files: work in other processes and machines moves the bar too.
        finished: runs done before.

    Returns:
        Results in the order of ``jobs``.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once the running epochs are finished and saved; a second Ctrl-C does not wait.
    """
    results: dict[int, Result] = {}
    stop = threading.Event()
    bar = track(
        description,
        total=finished + len(jobs),
        initial=finished,
        unit="run",
        quiet=quiet,
        bar_format="{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total} runs [{elapsed}<{remaining}]{postfix}",
    )

    def look() -> None:
        while not stop.wait(_LOOK_SECONDS):
            bar.n = max(bar.n, finished + sum(1.0 if number in results else progress(job) for number, job in enumerate(jobs)))
            bar.refresh()

    watcher = threading.Thread(target=look, daemon=True)
    lease.take()
    with bar, deferred_interrupt(lease.release) as interrupted:
        if not quiet:
            watcher.start()
        try:
            for number, result in as_finished(function, jobs, workers=workers):
                results[number] = result
        except Exception as error:
            if interrupted():  # Ctrl-C reaches local workers too, and ends those that are idle
                raise KeyboardInterrupt from error
            raise
        finally:
            stop.set()
            stopped = interrupted() or not lease.held()
            lease.release()
            if watcher.is_alive():
                watcher.join()
        if not stopped:
            bar.n = bar.total
            bar.refresh()
    if stopped:
        raise KeyboardInterrupt
    return [results[number] for number in range(len(jobs))]
