"""What all scripts share on the command line: flags, the one-line error, the last line."""

from __future__ import annotations

import argparse
import errno
import io
import logging
import os
import re
import shlex
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NoReturn

from face4d.errors import InputError, nearest, printable, shortened
from face4d.runtime.environment import missing_package, typed_python, typed_script

# Bounds of flags that many scripts have; what is beyond them is a slip, or ends in a lack of memory or a crash.
LARGEST_SEED = 2**32 - 1  # what numpy and torch both take everywhere
MOST_AT_ONCE = max(64, 4 * (os.cpu_count() or 1))  # threads, processes
MOST_FRAMES = 10_000  # of one sequence: 400 s at 25 a second

# What numpy says of a file that took a part of an array, with no error number.
_PARTLY_WRITTEN = re.compile(r"(\d+) requested and (\d+) written")
# torch (but on GPUs) and joblib report a lack of memory as a plain RuntimeError.
_NO_MEMORY = re.compile(r"can't allocate memory|out of memory|bad_alloc|excessive memory usage", re.IGNORECASE)


class _Help(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Examples keep their line breaks; every flag tells its default unless it is None or already named."""

    def _get_help_string(self, action: argparse.Action) -> str | None:
        if action.default in (None, [], ()) or "default" in (action.help or ""):
            return action.help
        return super()._get_help_string(action)


class Parser(argparse.ArgumentParser):
    """Argument parser whose complaint is one line in the words of :class:`InputError`, with the nearest right flag or
    value.
    """

    _words: Sequence[str] = ()

    def parse_known_args(self, args: Any = None, namespace: Any = None) -> Any:
        self._words = sys.argv[1:] if args is None else list(args)
        return super().parse_known_args(args, namespace)

    def _check_value(self, action: argparse.Action, value: object) -> None:
        if action.choices is not None and value not in action.choices:
            known = [str(choice) for choice in action.choices]
            expected = f"{', '.join(known[:-1])} or {known[-1]}" if known[1:] else known[0]
            raise argparse.ArgumentError(action, f"expected {expected}, found {value}{nearest(str(value), known)}")

    def _get_value(self, action: argparse.Action, text: str) -> Any:
        try:
            return super()._get_value(action, text)
        except argparse.ArgumentError as error:
            if error.message.startswith("invalid "):  # of a type that says nothing itself, as int
                kind: Any = action.type
                error.message = f"expected {_TYPES.get(kind, 'another value')}, found {text}"
            raise

    def words(self, values: Mapping[str, Any]) -> list[str]:
        """What one types for flags of these values, by destination; what a flag takes without being typed is left out.

        Raises:
            KeyError: of a value that no flag has.
        """
        left = dict(values)
        words: list[str] = []
        for action in self._actions:
            value = left.pop(action.dest, action.default)
            if value == action.default or value is None:
                continue
            flag = action.option_strings[0]
            if isinstance(action, argparse.BooleanOptionalAction):
                words.append(flag if value else f"--no-{flag.removeprefix('--')}")
            elif action.nargs == 0 or (action.nargs == "?" and value is action.const):
                words.append(flag)
            elif isinstance(value, (list, tuple)) and action.nargs is None:
                words += [flag, ",".join(value)]  # of some_of
            elif isinstance(value, (list, tuple)):
                words += [flag, *map(str, value)] if value else []
            else:
                words += [f"{flag}={value}"] if str(value).startswith("-") else [flag, str(value)]
        for name in left:
            raise KeyError(name)
        return words

    def error(self, message: str) -> NoReturn:
        """Leave with exit code 2 and one line; a flag that does not exist is named before all that follows from it."""
        words = self._words[: self._words.index("--")] if "--" in self._words else self._words
        flags = [word.partition("=")[0] for word in words if re.match(r"--?[A-Za-z]", word)]
        unknown = next((flag for flag in flags if flag not in self._option_string_actions), None)
        if unknown is not None:
            known = [flag for flag in self._option_string_actions if flag.startswith("--")]
            message = (
                f"{unknown}: expected a flag that exists, "
                f"found none of that name{nearest('--' + unknown.lstrip('-'), known)}"
            )
        message = re.sub(r"^argument ", "", message)
        message = re.sub(r"^the following arguments are required: (.*)", r"\1: expected a value, found none", message)
        message = re.sub(r"expected one argument$", "expected a value after it, found none", message)
        message = re.sub(r"^unrecognized arguments: (.*)", r"\1: expected a flag before it, found none", message)
        more = f"{self.prog} --help lists all flags"
        if "TORCHELASTIC_RUN_ID" in os.environ:
            more += "; torchrun takes flags for its own that no -- stands before: torchrun ... -- SCRIPT FLAGS"
            if os.environ.get("RANK", "0") != "0":
                self.exit(2)  # said by rank 0
        self.exit(2, f"error: {printable(message)} ({more})\n")


_TYPES = {int: "a whole number", float: "a number"}


def command() -> str:
    """How this program was started, to be typed again: ``python Classification/main.py``, ``python -m face4d fit``."""
    return f"{typed_python()} {sys.argv[0]}"


def parser(description: str | None) -> Parser:
    """Argument parser whose description is a script's docstring (with copyable commands)."""
    return Parser(command(), description=description, formatter_class=_Help, allow_abbrev=False)


@dataclass(frozen=True)
class Range:
    """argparse type: a finite number between two bounds that both belong to it, but for ``low`` with ``above``."""

    kind: type[int] | type[float]
    low: float
    high: float
    above: bool = False

    def __call__(self, text: str) -> int | float:
        try:
            value = self.kind(text)
        except ValueError:
            value = None
        if value is None or not self.low <= value <= self.high or (self.above and value == self.low):
            raise argparse.ArgumentTypeError(f"expected {self}, found {shortened(text)}")
        return value

    def __str__(self) -> str:
        what = "a whole number" if self.kind is int else "a number"
        low, high = (bound if self.kind is int else f"{bound:g}" for bound in (self.low, self.high))
        return f"{what} above {low}, at most {high}" if self.above else f"{what} from {low} to {high}"


def integer(low: int, high: int) -> Range:
    """argparse type: a whole number from ``low`` to ``high``."""
    return Range(int, low, high)


def number(low: float, high: float, *, above: bool = False) -> Range:
    """argparse type: a number from ``low`` to ``high``, or ``above`` ``low``."""
    return Range(float, low, high, above)


share = number(0, 1, above=True)
"""argparse type: a part of something that is not none of it."""


def some_of(names: Iterable[str]) -> Callable[[str], tuple[str, ...]]:
    """argparse type: some of the names, with commas between."""

    def parse(text: str) -> tuple[str, ...]:
        found = tuple(dict.fromkeys(name.strip().lower() for name in text.split(",") if name.strip()))
        if not found or not set(found) <= set(names):
            raise argparse.ArgumentTypeError(f"expected some of {','.join(names)} with commas between, found {text}")
        return found

    return parse


def add_box_flag(target: argparse._ActionsContainer, help: str) -> None:
    """Add ``--box LEFT TOP RIGHT BOTTOM``, pixels of photos."""
    target.add_argument("--box", nargs=4, type=number(-1e6, 1e6), metavar=("LEFT", "TOP", "RIGHT", "BOTTOM"), help=help)


def add_switch(target: argparse._ActionsContainer, name: str, default: bool | None, help: str) -> None:
    """Add ``--name`` and ``--no-name``."""
    target.add_argument(f"--{name}", action=argparse.BooleanOptionalAction, default=default, help=help)


def add_run_flags(target: argparse.ArgumentParser, *names: str, seed: int = 27) -> None:
    """Add the flags all scripts spell alike.

    Args:
        names: any of ``seed device threads workers backend overwrite dry-run quiet``; ``backend`` adds ``--backend``
            and ``--scheduler``.
        seed: default of ``--seed`` (27, as in the thesis).
    """
    group = target.add_argument_group("run")
    known = {
        "seed": lambda: group.add_argument(
            "--seed", type=integer(0, LARGEST_SEED), default=seed, help="seed of every random number"
        ),
        "device": lambda: group.add_argument(
            "--device", choices=("auto", "cpu", "cuda"), default="auto", help="auto takes CUDA when there is one"
        ),
        "threads": lambda: group.add_argument(
            "--threads",
            type=integer(1, MOST_AT_ONCE),
            metavar="N",
            help="CPU threads (default: 1 for small networks, else all cores)",
        ),
        "workers": lambda: group.add_argument(
            "--workers",
            type=integer(1, MOST_AT_ONCE),
            metavar="N",
            help="parallel processes on this machine (default: one per core)",
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
        "--backend",
        choices=("loky", "dask", "ray"),
        default="loky",
        help="who does the work: processes here, or a cluster's (docs/scaling.md)",
    )
    group.add_argument(
        "--scheduler",
        metavar="ADDRESS",
        help="running dask or ray cluster, or dask's scheduler file (default: a local cluster of --workers)",
    )


def refuse_overwrite(path: str | Path, overwrite: bool) -> None:
    """Raise :class:`InputError` when ``path`` exists and ``--overwrite`` was not given."""
    if not overwrite and Path(path).exists():
        raise InputError(path, "no file or folder of that name (or --overwrite)", "one that exists")


def report_written(paths: Iterable[str | Path], *, kept: bool = False) -> None:
    """Print the paths a script has written, its last lines; or those it has ``kept``, since all was there already."""
    for path in paths:
        print(f"{'kept' if kept else 'wrote'} {path}")


def suggest_next(args: argparse.Namespace, script: str, *words: object) -> None:
    """Print the next command to type, the end of a script: ``next: python test.py --checkpoint models/florence.pt``
    (``-m`` and the module's name for a module).

    On stderr, so that stdout ends with the paths written. Not with ``--quiet``, nor where ``FACE4D_NEXT=no`` says that
    the next command is known (run.sh).
    """
    if not args.quiet and os.environ.get("FACE4D_NEXT") != "no":
        sys.stdout.flush()
        program = script if script == "-m" else typed_script(script)
        print(f"next: {typed_python()} {shlex.join([program, *map(str, words)])}", file=sys.stderr)


def run(main: Callable[[Sequence[str] | None], int | None], argv: Sequence[str] | None = None) -> None:
    """Run a script's ``main`` and leave the process with its exit code.

    0 success, 2 bad input (one line on stderr), 130 interrupted. Bad input, an unusable disk and a lack of memory never
    show a traceback; anything else is a defect of this program and does.
    """
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            stream.reconfigure(errors="backslashreplace")  # names of files need not be text in the terminal's encoding
    handler = _LogHandler(sys.stderr)
    handler.setFormatter(_LogFormatter("%(message)s"))
    logging.basicConfig(level=logging.WARNING, handlers=[handler])
    logging.getLogger("face4d").setLevel(logging.INFO)  # other packages have much to say
    try:
        code = main(argv)
    except InputError as error:
        _fail(str(error), 2)
    except KeyboardInterrupt as interrupt:
        _fail("; ".join(("interrupted", *map(str, interrupt.args))), 130)
    except ModuleNotFoundError as error:
        if str(error.name).startswith("face4d"):
            raise
        _fail(missing_package(str(error.name)), 2)
    except BrokenPipeError:
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        sys.exit(1)
    except OSError as error:
        _fail(_unusable(error), 2)
    except UnicodeError as error:
        _fail(_unspellable(error), 2)
    except (MemoryError, RuntimeError) as error:
        if not isinstance(error, MemoryError) and not _NO_MEMORY.search(str(error)):
            raise
        _fail(
            "memory: expected room for what was asked, found too little: "
            f"{str(error).partition(chr(10))[0] or 'no more to be had'}",
            2,
        )
    sys.exit(code or 0)


class _LogFormatter(logging.Formatter):
    """Every record as one printable line: names of files from anywhere are in them."""

    def format(self, record: logging.LogRecord) -> str:
        return "\n".join(printable(line) for line in super().format(record).splitlines())


class _LogHandler(logging.StreamHandler):
    """Writes above a progress bar, not into it."""

    def emit(self, record: logging.LogRecord) -> None:
        bars = sys.modules.get("tqdm")
        with bars.tqdm.external_write_mode(self.stream) if bars else nullcontext():
            super().emit(record)


def _unusable(error: OSError) -> str:
    """The line about a file, folder or connection that the system refused."""
    path = (
        error.filename
        if error.filename is not None
        else "connection"
        if isinstance(error, (ConnectionError, TimeoutError))
        else "output"
    )
    path = os.fsdecode(path) if isinstance(path, (str, bytes, os.PathLike)) else str(path)
    partly = _PARTLY_WRITTEN.search(str(error))
    if partly or error.errno in (errno.ENOSPC, errno.EFBIG, errno.EDQUOT):
        found = f"only {partly[2]} of {partly[1]} values written" if partly else "it full"
        return f"{path}: expected room on the disk, found {found}"
    expected = "an answer" if path == "connection" else "a place to write and read"
    return f"{path}: expected {expected}, found: {error.strerror or str(error) or type(error).__name__}"


def _unspellable(error: UnicodeError) -> str:
    """The line about a name or text that an encoding does not have."""
    if isinstance(error, (UnicodeEncodeError, UnicodeDecodeError)):
        return (
            f"{error.object[:200]!r}: expected text that {error.encoding} can spell, "
            f"found {error.reason} at character {error.start + 1}"
        )
    return f"text: expected characters, found {error}"


def _fail(message: str, code: int) -> NoReturn:
    print(f"error: {printable(message)}", file=sys.stderr)
    sys.exit(code)
