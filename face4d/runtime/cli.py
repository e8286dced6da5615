"""What all scripts share on the command line: flags, the one-line error, the last line."""

from __future__ import annotations

import argparse
import errno
import logging
import os
import sys
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path

from face4d.errors import InputError


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Examples keep their line breaks; every flag tells its default unless it is None or already told."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, [], ()) or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


def parser(description: str | None) -> argparse.ArgumentParser:
    """Argument parser whose description is a script's docstring (with copyable commands)."""
    return argparse.ArgumentParser(description=description, formatter_class=_Help, allow_abbrev=False)


def positive_int(text: str) -> int:
    """argparse type: an integer above zero."""
    value = int(text)
    if value <= 0:
        raise argparse.ArgumentTypeError(f"expected an integer above 0, found {text}")
    return value


def positive_float(text: str) -> float:
    """argparse type: a finite number above zero."""
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"expected a number above 0, found {text}")
    return value


def add_switch(target: argparse._ActionsContainer, name: str, default: bool, help: str) -> None:
    """Add ``--name`` and ``--no-name``."""
    target.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=default, help=help)


def add_run_flags(target: argparse.ArgumentParser, *names: str, seed: int = 27) -> None:
    """Add the flags all scripts spell alike.

    Args:
        names: any of ``seed device threads workers backend overwrite dry-run quiet``; ``backend`` adds ``--backend`` and ``--scheduler``.
        seed: default of ``--seed`` (27, as in the thesis).
    """
    group = target.add_argument_group("run")
    known = {
        "seed": lambda: group.add_argument("--seed", type=int, default=seed, help="seed of every random number"),
        "device": lambda: group.add_argument(
            "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes CUDA when there is one"
        ),
        "threads": lambda: group.add_argument(
            "--threads", type=positive_int, metavar="N", help="CPU threads of torch (default: 1 for small networks, else all cores)"
        ),
        "workers": lambda: group.add_argument(
            "--workers", type=positive_int, metavar="N", help="parallel processes on this machine (default: one per core)"
        ),
        "backend": lambda: _add_backend_flags(group),
        "overwrite": lambda: add_switch(group, "overwrite", False, "replace outputs that exist"),
        "dry-run": lambda: add_switch(group, "dry-run", False, "say what would be done, write nothing"),
        "quiet": lambda: add_switch(group, "quiet", False, "no progress bars, only errors and the last line"),
    }
    for name in names:
        known[name]()


def _add_backend_flags(group: argparse._ArgumentGroup) -> None:
    group.add_argument(
        "--backend", choices=("loky", "dask", "ray"), default="loky", help="who does the work: processes here, or a cluster's (docs/scaling.md)"
    )
    group.add_argument(
        "--scheduler", metavar="ADDRESS", help="running dask or ray cluster, or dask's scheduler file (default: a local cluster of --workers)"
    )


def refuse_overwrite(path: str | Path, overwrite: bool) -> None:
    """Raise :class:`InputError` when ``path`` exists and ``--overwrite`` was not given."""
    if not overwrite and Path(path).exists():
        raise InputError(path, "no file or folder of that name (or --overwrite)", "one that exists")


def report_written(paths: Iterable[str | Path], *, kept: bool = False) -> None:
    """Print the paths a script has written, its last lines; or those it has ``kept``, since all was there already."""
    for path in paths:
        print(f"{'kept' if kept else 'wrote'} {path}")


def run(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> None:
    """Run a script's ``main`` and leave the process with its exit code.

    0 success, 2 bad input (one line on stderr), 130 interrupted. Bad input and an unusable disk never show a
    traceback; anything else is a defect of this program and does.
    """
    logging.basicConfig(level=logging.WARNING, format="%(message)s", stream=sys.stderr)
    logging.getLogger("face4d").setLevel(logging.INFO)  # other packages have much to say
    try:
        code = main(argv)
    except InputError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt:
        _fail("interrupted", 130)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        if error.errno in (errno.ENOSPC, errno.EFBIG):
            _fail(f"{error.filename or 'output'}: expected room on the disk, found it full", 2)
        if error.errno in (errno.EACCES, errno.EPERM, errno.EROFS, errno.EDQUOT, errno.ENOTDIR, errno.EEXIST, errno.EISDIR, errno.ENAMETOOLONG):
            _fail(f"{error.filename or 'output'}: expected a place to write and read, found: {error.strerror}", 2)
        raise
    sys.exit(code or 0)


def _fail(message: str, code: int) -> None:
    print(f"error: {' '.join(message.split())}", file=sys.stderr)
    sys.exit(code)
