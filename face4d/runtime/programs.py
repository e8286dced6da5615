"""Long programs side by side, on this machine or on a cluster's workers: started, watched by what they write, stopped
together.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import tempfile
import threading
import uuid
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path

from face4d.runtime.atomic import write_text
from face4d.runtime.interrupt import STARTED_BY, deferred_interrupt
from face4d.runtime.parallel import as_finished
from face4d.runtime.progress import track

_LOOK_SECONDS = 0.2


@dataclass(frozen=True)
class Lease:
    """The right to run programs that write into a folder, held by one command at a time.

    Whoever waits for a program asks :meth:`held` meanwhile, here or on another machine, so programs end when their
    command is interrupted, and when another one takes over.

    Attributes:
        path: file that says who holds it; all workers must see it.
        holder: who asks.
    """

    path: Path
    holder: str = field(default_factory=lambda: uuid.uuid4().hex)

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
        """Give it up; what runs under it is stopped."""
        if self.held():
            self.path.unlink(missing_ok=True)


@dataclass(frozen=True)
class Program:
    """A program of this Python.

    Attributes:
        words: what follows ``python`` on its command line.
        environment: variables that it sees besides those of the worker that starts it.
    """

    words: tuple[str, ...]
    environment: Mapping[str, str] = field(default_factory=dict)


def run_program(program: Program, lease: Lease) -> str | None:
    """Run a program for as long as the lease is held; then Ctrl-C is pressed for it, and its end awaited.

    A training ends too, after its epoch, where the process that started it is killed; see
    :mod:`face4d.runtime.interrupt`.

    Returns:
        Its one-line error, the last line it wrote; None where it ended well or was interrupted.
    """
    if not lease.held():
        return None
    with tempfile.TemporaryFile() as errors:
        process = subprocess.Popen(  # in a session of its own: Ctrl-C in the terminal reaches it once, from here
            [sys.executable, *program.words],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=errors,
            env={**os.environ, STARTED_BY: str(os.getpid()), **program.environment},
            start_new_session=True,
        )
        try:
            while lease.held():
                with suppress(subprocess.TimeoutExpired):
                    process.wait(_LOOK_SECONDS)
                    break
            else:
                process.send_signal(signal.SIGINT)
            code = process.wait()
        except BaseException:
            process.send_signal(signal.SIGINT)
            raise
        if code == 0 or not lease.held():
            return None
        errors.seek(0)
        lines = [line for line in errors.read().decode("utf-8", "replace").splitlines() if line.strip()]
    if code < 0:
        return f"ended by {signal.Signals(-code).name}"
    return lines[-1].strip().removeprefix("error: ") if lines else f"exit code {code}"


def run_side_by_side(
    programs: Sequence[Program],
    lease: Lease,
    *,
    workers: int,
    progress: Callable[[int], float],
    description: str,
    finished: int = 0,
    quiet: bool = False,
) -> list[str | None]:
    """Run programs, ``workers`` at a time, below a bar that counts them and moves with what they write.

    Args:
        lease: to be taken; nobody else holds it meanwhile.
        workers: as yielded by :func:`face4d.runtime.parallel.cluster`, which says where they run.
        progress: share 0..1 of the program of a number that is done, read from its files.
        finished: programs done before.

    Returns:
        What :func:`run_program` returned, in the order of ``programs``.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once all programs have ended; a second Ctrl-C does not wait.
    """
    results: dict[int, str | None] = {}
    stop = threading.Event()
    total = finished + len(programs)
    look = "{desc}: {percentage:3.0f}%|{bar}| {n:.2f}/{total} runs [{elapsed}<{remaining}]{postfix}"
    with track(description, total=total, initial=finished, unit="run", quiet=quiet, bar_format=look) as bar:

        def watch() -> None:
            while not stop.wait(_LOOK_SECONDS):
                done = (1.0 if number in results else progress(number) for number in range(len(programs)))
                bar.n = max(bar.n, finished + sum(done))
                bar.refresh()

        watcher = threading.Thread(target=watch, daemon=True)
        lease.take()
        with deferred_interrupt(lease.release) as interrupted:
            if not quiet:
                watcher.start()
            try:
                results.update(as_finished(partial(run_program, lease=lease), programs, workers=workers))
            except Exception as error:
                if (
                    interrupted()
                ):  # Ctrl-C reaches the workers of a cluster on this machine too, and ends those that are idle
                    raise KeyboardInterrupt from error
                raise
            finally:
                stop.set()
                stopped = interrupted() or not lease.held()
                lease.release()
                if watcher.is_alive():
                    watcher.join()
        if stopped:
            raise KeyboardInterrupt
        bar.n = total
        bar.refresh()
    return [results[number] for number in range(len(programs))]
