"""One rule for all steps that write files: what is already right is kept, what differs is refused, the rest is written."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

from face4d.errors import InputError
from face4d.runtime.lock import sole_writer
from face4d.runtime.parallel import map_files

Job = TypeVar("Job")


class State(NamedTuple):
    """What stands at the outputs of one job: how many are still missing, how many are right, the paths of those that differ; what is odd."""

    missing: int
    unchanged: int
    different: tuple[str, ...] = ()
    remarks: tuple[Any, ...] = ()


class Summary(NamedTuple):
    """Numbers of outputs: written now (dry run: still missing), kept as they were, and of other content (dry run only)."""

    written: int
    unchanged: int
    different: int = 0

    def sentence(self, what: str, dry_run: bool = False) -> str:
        """``41 frames written, 82 unchanged``, or what a dry run found."""
        if not dry_run:
            return f"{self.written} {what} written, {self.unchanged} unchanged"
        refused = f", {self.different} outputs that differ (--overwrite would replace them)" if self.different else ""
        return f"dry run: would write {self.written} {what}, {self.unchanged} unchanged{refused}"


def write_missing(
    folder: str | Path,
    jobs: Sequence[Job],
    inspect: Callable[[Job], State],
    write: Callable[[Job], int | tuple[int, tuple[Any, ...]]],
    *,
    overwrite: bool,
    dry_run: bool,
    workers: int,
    description: str,
    quiet: bool,
    remarks: list[Any] | None = None,
) -> Summary:
    """Look at all outputs first; refuse before anything is written; then write what is missing (with ``overwrite`` also what differs).

    A run that was stopped is continued by running it again: ``inspect`` finds what it had finished.

    Args:
        folder: of all outputs; no other command writes there meanwhile.
        jobs: independent pieces of work.
        inspect: state of a job's outputs.
        write: does a job, leaves right outputs alone, returns how many files it wrote, or that number and what is odd about them.
        remarks: gets what is odd about the jobs, from this process or another.

    Raises:
        InputError: outputs of other content exist and ``overwrite`` is false; names the first. Or another command writes into ``folder``.
    """
    with sole_writer(folder, dry_run=dry_run) as writing:
        states = list(map_files(inspect, jobs, workers=workers, description=f"{description}, checking", quiet=quiet))
        if remarks is not None:
            remarks += [remark for state in states for remark in state.remarks]
        different = [path for state in states for path in state.different]
        unchanged = sum(state.unchanged for state in states)
        if different and not overwrite and not dry_run:
            more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
            raise InputError(different[0], "no output there, or the one this command writes (--overwrite replaces it)", f"another one{more}")
        if dry_run:
            return Summary(sum(state.missing for state in states), unchanged, len(different))
        todo = [job for job, state in zip(jobs, states) if state.missing or state.different]
        if not todo:
            return Summary(0, unchanged)
        writing.begin()
        written = 0
        for result in map_files(write, todo, workers=workers, description=description, quiet=quiet):
            count, odd = result if isinstance(result, tuple) else (result, ())
            written += count
            if remarks is not None:
                remarks += odd
        return Summary(written, unchanged)
