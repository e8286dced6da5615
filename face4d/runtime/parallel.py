"""Independent work in parallel, in order, with one progress bar: processes of this machine, or a cluster's workers
through joblib.
"""

from __future__ import annotations

import importlib
import logging
import os
import socket
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from functools import partial
from types import ModuleType
from typing import TypeVar

from joblib import Parallel, delayed, parallel_config

from face4d.errors import InputError, reason
from face4d.runtime.progress import track

# Work that is done sooner than worker processes have started is never handed to them.
_ALONE_SECONDS = 0.5
# A batch job's workers may start a minute after their scheduler.
_CONNECT_SECONDS = 120

_ITEMS_PER_LIST = 1000

_backend: ContextVar[str] = ContextVar("backend", default="loky")

Item = TypeVar("Item")
Result = TypeVar("Result")


@contextmanager
def cluster(backend: str = "loky", scheduler: str | None = None, workers: int | None = None) -> Iterator[int]:
    """Within the block :func:`map_files` uses the chosen workers; yields their number.

    All workers have to see the files under the same paths (a shared file system) and to have this package installed.

    Args:
        backend: ``loky`` (processes of this machine), ``dask`` or ``ray``.
        scheduler: address of a running cluster, for dask also its ``--scheduler-file`` (``.json``); None = workers of
            this machine.
        workers: processes on this machine; None = one per core.

    Raises:
        InputError: the backend's package is not installed, the cluster does not answer, or the arguments contradict
            each other.
    """
    if scheduler is not None and backend == "loky":
        raise InputError("--scheduler", "--backend dask or ray", "--backend loky, which stays on this machine")
    if scheduler is not None and workers is not None:
        raise InputError("--workers", "none with --scheduler: the cluster's workers are used", str(workers))
    local = workers or os.cpu_count() or 1
    if backend == "loky":
        yield local
        return
    with (_dask if backend == "dask" else _ray)(scheduler, local) as (number, arguments):
        token = _backend.set(backend)
        try:
            with parallel_config(backend, n_jobs=-1, **arguments):
                yield number
        finally:
            _backend.reset(token)


@contextmanager
def _dask(scheduler: str | None, workers: int) -> Iterator[tuple[int, dict[str, object]]]:
    distributed = _optional("distributed", "dask")
    logging.getLogger("distributed").setLevel(logging.ERROR)
    if scheduler is None:
        place = distributed.LocalCluster(
            n_workers=workers, threads_per_worker=1, dashboard_address=":0", silence_logs=logging.ERROR
        )
        with place, distributed.Client(place, set_as_default=False) as client:
            client.wait_for_workers(workers, timeout=_CONNECT_SECONDS)
            yield workers, {"client": client}
        return
    try:
        target = {"address": scheduler}
        if scheduler.endswith(".json"):
            _wait_for_file(scheduler)  # without it the client waits for ever
            target = {"scheduler_file": scheduler}
        client = distributed.Client(**target, set_as_default=False, timeout=_CONNECT_SECONDS)
    except (OSError, ValueError) as error:
        raise InputError("--scheduler", "a dask scheduler that answers", f"{scheduler}: {reason(error)}") from None
    with client:
        try:
            client.wait_for_workers(1, timeout=_CONNECT_SECONDS)
        except OSError:
            raise InputError("--scheduler", "a dask scheduler with workers", f"none at {scheduler}") from None
        yield sum(client.ncores().values()), {"client": client}


def _wait_for_file(path: str) -> None:
    deadline = time.monotonic() + _CONNECT_SECONDS
    while not os.path.exists(path):
        if time.monotonic() > deadline:
            raise FileNotFoundError(f"no such file after {_CONNECT_SECONDS} s")
        time.sleep(0.1)


@contextmanager
def _ray(scheduler: str | None, workers: int) -> Iterator[tuple[int, dict[str, object]]]:
    ray = _optional("ray", "ray")
    _optional("ray.util.joblib", "ray").register_ray()
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR}
    if scheduler is None:
        ray.init(num_cpus=workers, include_dashboard=False, **quiet)
    else:
        try:
            ray.init(address=scheduler, **quiet)
        except (OSError, ValueError, RuntimeError) as error:
            raise InputError("--scheduler", "a ray cluster that answers", f"{scheduler}: {reason(error)}") from None
    try:
        yield int(ray.cluster_resources().get("CPU", 1)), {}
    finally:
        ray.shutdown()


def _optional(module: str, extra: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ImportError:
        raise InputError(
            f"--backend {extra}", f"the package {extra} (pip install 'face4d[{extra}]')", "none installed"
        ) from None


def map_files(
    function: Callable[[Item], Result],
    items: Sequence[Item],
    *,
    workers: int = 1,
    description: str = "",
    quiet: bool = False,
) -> Iterator[Result]:
    """Yield ``function(item)`` for all items in order, ``workers`` processes at a time.

    Results stream: nothing is kept but what is in flight. With one worker everything stays in this process, and so does
    the work of the first half second; within :func:`cluster` of dask or ray everything goes to the cluster, unless it
    has a single worker, which joblib leaves out. An exception in a worker (:class:`face4d.errors.InputError` included)
    ends the iteration and is raised here.

    Args:
        function, items: independent, and able to travel to another process.
        workers: as yielded by :func:`cluster`.
    """
    yield from track(description, _results(function, items, workers), total=len(items), unit="item", quiet=quiet)


def as_finished(
    function: Callable[[Item], Result], items: Sequence[Item], *, workers: int = 1
) -> Iterator[tuple[int, Result]]:
    """Yield (number, ``function(item)``) as items get done, for few and long items that start programs of their own:
    each is handed over alone.

    On this machine threads wait for them; ray hands back everything at its end.

    Args:
        function, items, workers: as for :func:`map_files`.
    """
    if _backend.get() == "loky":
        workers = min(workers, len(items))
        if workers <= 1:
            yield from (_numbered(function, number, item) for number, item in enumerate(items))
        else:
            tasks = [delayed(_numbered)(function, number, item) for number, item in enumerate(items)]
            yield from Parallel(n_jobs=workers, backend="threading", return_as="generator_unordered", batch_size=1)(
                tasks
            )
        return
    tasks = [
        delayed(_in_folder)(os.getcwd(), partial(_numbered, function, number), item)
        for number, item in enumerate(items)
    ]
    if _backend.get() == "dask":
        yield from Parallel(return_as="generator_unordered", batch_size=1)(tasks)
    else:
        yield from Parallel(batch_size=1)(tasks)


def _numbered(function: Callable[[Item], Result], number: int, item: Item) -> tuple[int, Result]:
    return number, function(item)


def _results(function: Callable[[Item], Result], items: Sequence[Item], workers: int) -> Iterator[Result]:
    there = partial(_in_folder, os.getcwd(), function)  # relative paths mean the same everywhere
    if _backend.get() != "loky":
        if _backend.get() == "dask":
            yield from Parallel(return_as="generator", batch_size="auto")(delayed(there)(item) for item in items)
            return
        with Parallel(batch_size="auto") as pool:  # ray's backend returns lists only
            for begin in range(0, len(items), _ITEMS_PER_LIST):
                yield from pool(delayed(there)(item) for item in items[begin : begin + _ITEMS_PER_LIST])
        return
    done, deadline = 0, time.monotonic() + _ALONE_SECONDS
    while done < len(items) and (workers == 1 or time.monotonic() < deadline):
        yield function(items[done])
        done += 1
    rest = items[done:]
    if len(rest) == 1:
        yield function(rest[0])
    elif rest:
        tasks = (delayed(there)(item) for item in rest)
        yield from Parallel(n_jobs=min(workers, len(rest)), return_as="generator", batch_size="auto")(tasks)


def _in_folder(folder: str, function: Callable[[Item], Result], item: Item) -> Result:
    """``function(item)`` with ``folder`` as the working folder of this worker."""
    try:
        os.chdir(folder)
    except FileNotFoundError:
        raise InputError(
            folder, "this folder on every worker (a shared file system)", f"none on {socket.gethostname()}"
        ) from None
    return function(item)
