"""Fuzzing of everything that reads a file from outside.

Each module here whose name is not in ``_HARNESS`` describes one or more readers in a tuple ``READERS``; that is all it
takes to add one:

    @st.composite
    def _files(draw): ...                       # content of a whole, valid file, made in code

    def _read(path): ...                        # calls the reader, asserts that what it returns is sane

    READERS = (Reader("ply", ".ply", mutated(_files(), words=(b"list", b"end_header")), _read, corpus=(b"ply\n...",)),)

``tests/test_fuzzing.py`` then tries every input of the corpus and 200 examples, always the same ones;
``python benchmarks/fuzz.py --reader ply --executions 200000`` tries many, at random, in processes that may crash. What
the latter finds is made short there and goes into the corpus. Strategies may be hypothesis code of any kind;
:func:`mutated` damages what they make. What takes long to import is imported inside ``_read``.
"""

from __future__ import annotations

import contextlib
import importlib
import pkgutil
import resource
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

from hypothesis.strategies import SearchStrategy

from face4d.errors import InputError

_HARNESS = ("campaign", "mutations")


@dataclass(frozen=True)
class Reader:
    """A reader of files from outside.

    Attributes:
        name: as on the command line.
        suffix: of the files, with the dot; a name without a dot in front becomes the whole file name
            (``evaluate.json``).
        files: strategy of file contents, valid and damaged.
        read: reads the file of a path and asserts that the result is sane.
        corpus: inputs that were once read wrongly, kept short.
        megabytes: room that one execution may take on top of what the process has.
        seconds: CPU time that one execution may take.
    """

    name: str
    suffix: str
    files: SearchStrategy[bytes]
    read: Callable[[Path], object]
    corpus: tuple[bytes, ...] = ()
    megabytes: int = 300
    seconds: float = 1.0

    def path(self, folder: Path) -> Path:
        """Where its input lies in a folder."""
        return folder / (f"input{self.suffix}" if self.suffix.startswith(".") else self.suffix)


def readers() -> dict[str, Reader]:
    """All readers by name."""
    found: dict[str, Reader] = {}
    for module in sorted(module.name for module in pkgutil.iter_modules(__path__)):
        if module not in _HARNESS:
            for reader in importlib.import_module(f"{__name__}.{module}").READERS:
                assert reader.name not in found, f"two readers named {reader.name}"
                found[reader.name] = reader
    return found


def check(reader: Reader, path: Path) -> None:
    """The property: a sane value, or an :class:`InputError` of one printable line, within the bounds; all else is
    raised."""
    begun = time.process_time()
    with _more_memory(reader.megabytes):
        try:
            reader.read(path)
        except InputError as error:
            text = str(error)
            assert text.isprintable(), f"an error that is not one printable line: {text[:200]!r}"
            assert len(text) < 1000 + len(str(path)), f"an error of {len(text)} characters: {text[:200]!r}"
    taken = time.process_time() - begun
    assert taken < reader.seconds, f"slow: {taken:.1f} s"


@contextlib.contextmanager
def _more_memory(megabytes: int) -> Iterator[None]:
    """Let the process take that much more address space, where the system can tell how much it has (Linux)."""
    try:
        pages = int(Path("/proc/self/statm").read_text().split()[0])
    except OSError:
        yield
        return
    soft, hard = resource.getrlimit(resource.RLIMIT_AS)
    resource.setrlimit(resource.RLIMIT_AS, (pages * resource.getpagesize() + megabytes * 2**20, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_AS, (soft, hard))
