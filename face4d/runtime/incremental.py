"""Outputs that are written in parts: what is there and right is kept, what differs is refused, the rest is written.

One rule for all steps that write files; for folders that a command makes as a whole a record says how they were
made, and finished is what the record says, not what exists.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np

from face4d.errors import InputError
from face4d.runtime.atomic import replacing_folder, write_json
from face4d.runtime.fields import read_json
from face4d.runtime.files import open_file
from face4d.runtime.lock import sole_writer
from face4d.runtime.parallel import map_files

RECORD = "made.json"
_FORMAT_VERSION = 1

Settings = Mapping[str, Any]


def file_digest(path: str | Path) -> str:
    """A short digest of a file's content; raises :class:`InputError` for what is no regular file."""
    total = hashlib.sha256()
    with open(open_file(path, "a file"), "rb") as file:
        while part := file.read(1 << 20):
            total.update(part)
    return total.hexdigest()[:16]


def array_digest(*arrays: np.ndarray | None) -> str:
    """A short digest of arrays: shapes, types and numbers; None is one of its own."""
    total = hashlib.sha256()
    for array in arrays:
        if array is None:
            total.update(b"none")
        else:
            total.update(f"{array.shape} {array.dtype.str}".encode())
            total.update(np.ascontiguousarray(array).tobytes())
    return total.hexdigest()[:16]


@contextmanager
def making(folder: str | Path, settings: Settings) -> Iterator[Path]:
    """Yield a folder to write into; it becomes ``folder`` when the block succeeds, with the record ``made.json``.

    What an earlier call wrote goes with the earlier folder; other files in it come along.

    Args:
        settings: plain data that all of the content follows from; files as digests.
    """
    folder = Path(folder)
    replaced = {RECORD, *_read_record(folder).get("files", {})}
    with replacing_folder(folder, replaced) as temporary:
        yield temporary
        paths = sorted(path for path in temporary.rglob("*") if path.is_file())
        files = {path.relative_to(temporary).as_posix(): [path.stat().st_size, file_digest(path)] for path in paths}
        replaced.update(files)
        write_json(temporary / RECORD, {"format_version": _FORMAT_VERSION, "settings": settings, "files": files})


def difference(folder: str | Path, settings: Settings, *, compare: bool = False) -> str | None:
    """What keeps an existing folder from being what :func:`making` would make, in words; None where it is that.

    Args:
        compare: look at the content of its files, not only at their sizes.
    """
    folder = Path(folder)
    record = _read_record(folder)
    if "settings" not in record:
        return f"one without the record {RECORD}"
    wanted = json.loads(json.dumps(settings))
    for key in dict.fromkeys([*wanted, *record["settings"]]):
        made, now = record["settings"].get(key), wanted.get(key)
        if made != now:
            return (
                f"one made without {key}"
                if made is None
                else f"one made with {key} = {_short(made)}, not {_short(now)}"
            )
    for name, (size, digest) in record["files"].items():
        path = folder / name
        if not path.is_file():
            return f"one without {name}"
        if path.stat().st_size != size or (compare and file_digest(path) != digest):
            return f"one with another {name} than was written"
    return None


def choose_missing(wanted: Sequence[tuple[Path, Settings]], *, overwrite: bool) -> list[int]:
    """Numbers of the folders that are still to be made; with ``overwrite`` also of those that differ, by their content.

    Raises:
        InputError: a folder that differs, without ``overwrite``; nothing was changed then.
    """
    missing = []
    for number, (folder, settings) in enumerate(wanted):
        if folder.exists():
            found = difference(folder, settings, compare=overwrite)
            if found is None:
                continue
            if not overwrite:
                raise InputError(folder, "none there, or what this command makes (--overwrite replaces it)", found)
        missing.append(number)
    return missing


def _read_record(folder: Path) -> dict[str, Any]:
    """The record, {} where there is none that can be used."""
    try:
        record = read_json(folder / RECORD)
        usable = record["format_version"] == _FORMAT_VERSION and isinstance(record["settings"], dict)
        usable = usable and all(
            _is_inside(name) and isinstance(size, int) and isinstance(digest, str)
            for name, (size, digest) in record["files"].items()
        )
    except (ValueError, KeyError, TypeError, AttributeError):  # InputError is a ValueError
        return {}
    return record if usable else {}


def _is_inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _short(value: object) -> str:
    text = "without" if value is None else json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."


Job = TypeVar("Job")


@dataclass(frozen=True)
class WriteOptions:
    """How a step that writes many files is carried out.

    Attributes:
        overwrite: replace outputs of other content.
        dry_run: say what would be written, write nothing.
        workers: processes side by side, as yielded by :func:`face4d.runtime.parallel.cluster`.
        quiet: no progress bar.
    """

    overwrite: bool = False
    dry_run: bool = False
    workers: int = 1
    quiet: bool = False


USUAL = WriteOptions()


class State(NamedTuple):
    """What stands at the outputs of one job: how many are still missing, how many are right, the paths of those that
    differ; what is odd.
    """

    missing: int
    unchanged: int
    different: tuple[str, ...] = ()
    remarks: tuple[Any, ...] = ()


class Summary(NamedTuple):
    """Numbers of outputs: written now (dry run: still missing), kept as they were, and of other content (dry run
    only).
    """

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
    options: WriteOptions,
    *,
    description: str,
    remarks: list[Any] | None = None,
) -> Summary:
    """Look at all outputs first; refuse before anything is written; then write what is missing (with
    ``overwrite`` also what differs).

    A run that was stopped is continued by running it again: ``inspect`` finds what it had finished.

    Args:
        folder: of all outputs; no other command writes there meanwhile.
        jobs: independent pieces of work.
        inspect: state of a job's outputs.
        write: does a job, leaves right outputs alone, returns how many files it wrote, or that number and what is odd
            about them.
        description: of the work, for the progress bar.
        remarks: gets what is odd about the jobs, from this process or another.

    Raises:
        InputError: outputs of other content exist and ``overwrite`` is false; names the first. Or another command
            writes into ``folder``.
    """
    with sole_writer(folder, dry_run=options.dry_run) as writing:
        run = partial(map_files, workers=options.workers, quiet=options.quiet)
        states = list(run(inspect, jobs, description=f"{description}, checking"))
        if remarks is not None:
            remarks += [remark for state in states for remark in state.remarks]
        different = [path for state in states for path in state.different]
        unchanged = sum(state.unchanged for state in states)
        if different and not options.overwrite and not options.dry_run:
            more = f" (and {len(different) - 1} more)" if len(different) > 1 else ""
            raise InputError(
                different[0],
                "no output there, or the one this command writes (--overwrite replaces it)",
                f"another one{more}",
            )
        if options.dry_run:
            return Summary(sum(state.missing for state in states), unchanged, len(different))
        todo = [job for job, state in zip(jobs, states) if state.missing or state.different]
        if not todo:
            return Summary(0, unchanged)
        writing.begin()
        written = 0
        for result in run(write, todo, description=description):
            count, odd = result if isinstance(result, tuple) else (result, ())
            written += count
            if remarks is not None:
                remarks += odd
        return Summary(written, unchanged)
