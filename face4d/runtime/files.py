"""Which files of a folder are meant and opening them, and names from files that become parts of paths.

One rule for suffixes, hidden files and what is no file at all.
"""

from __future__ import annotations

import errno
import logging
import os
import stat
from collections.abc import Collection, Iterable, Iterator
from pathlib import Path

from face4d.errors import InputError

log = logging.getLogger(__name__)

# characters; with a second name and a suffix a file name stays below the 255 bytes that file systems take
MAX_NAME = 100
_MARKS = frozenset("-_. ")


def is_name(text: object) -> bool:
    """Whether a value is a name: letters and digits of any script, ``-``, ``_``, ``.`` and spaces; not blank, no
    leading dot, no space at an end.
    """
    return (
        isinstance(text, str)
        and 0 < len(text) <= MAX_NAME
        and text == text.strip()
        and not text.startswith(".")
        and all(letter.isalnum() or letter in _MARKS for letter in text)
    )


def require_name(path: str | Path, what: str, text: object) -> str:
    """The name itself.

    Args:
        path: file or flag that the name is from, for the error.
        what: what it names (``a label``).

    Raises:
        InputError: not a name as :func:`is_name` has it: it could lead out of the folder it belongs in, or be no file
            name at all.
    """
    if not isinstance(text, str) or not is_name(text):
        raise InputError(path, f"{what} of letters, digits, - _ . and spaces", ascii(text)[:60])
    return text


_READING = os.O_RDONLY | getattr(os, "O_BINARY", 0) | getattr(os, "O_NONBLOCK", 0)
_NAMED = 3  # of the files passed over


def open_file(path: str | Path, expected: str) -> int:
    """Open a regular file for reading; never waits, as opening a FIFO would.

    Args:
        expected: what the file should be, for the error.

    Returns:
        A file descriptor.

    Raises:
        InputError: nothing of that name, a broken link or links in a circle, a folder, a FIFO, socket or device, no
            permission.
    """
    return open_sized(path, expected)[0]


def open_sized(path: str | Path, expected: str) -> tuple[int, int]:
    """:func:`open_file`, and the file's size in bytes, which is then known already."""
    try:
        descriptor = os.open(path, _READING)
    except OSError as error:
        raise InputError(path, expected, _why_not_open(path, error)) from None
    except ValueError:
        raise InputError(repr(str(path)), expected, "a name with a zero byte") from None
    status = os.fstat(descriptor)
    if not stat.S_ISREG(status.st_mode):
        os.close(descriptor)
        raise InputError(path, expected, "a folder" if stat.S_ISDIR(status.st_mode) else "a pipe, socket or device")
    return descriptor, status.st_size


def _why_not_open(path: str | Path, error: OSError) -> str:
    if error.errno == errno.ENOENT:
        return "a link to nothing" if os.path.islink(path) else "no such file"
    if error.errno == errno.ELOOP:
        return "links in a circle"
    if error.errno == errno.ENXIO:
        return "a pipe, socket or device"
    return os.strerror(error.errno) if error.errno else str(error)


def read_bytes(path: str | Path, expected: str, most: int | None = None) -> bytes:
    """Content of a regular file.

    Args:
        most: bytes that such a file may have at most.

    Raises:
        InputError: see :func:`open_file`; also a file that cannot be read to its end, or a larger one.
    """
    descriptor, size = open_sized(path, expected)
    try:
        if most is not None and size > most:
            raise InputError(path, f"{expected} of at most {most / 2**20:.0f} MB", f"{size / 2**20:.0f} MB")
        data = os.read(descriptor, size + 1)
        if len(data) == size:
            return data
        parts = [data]  # larger than one read gives (2 GiB), or still growing
        while part := os.read(descriptor, 1 << 30):
            parts.append(part)
        return b"".join(parts)
    except OSError as error:
        raise InputError(path, expected, error.strerror or str(error)) from None
    finally:
        os.close(descriptor)


def is_hidden(name: str) -> bool:
    """Whether a file or folder name is not meant for programs that list a folder: ``.DS_Store``, AppleDouble's
    ``._photo.jpg``.
    """
    return name.startswith(".")


def is_visible(path: Path, folder: str | Path) -> bool:
    """Whether neither a file nor any folder between it and ``folder`` is hidden."""
    return not any(is_hidden(part) for part in path.relative_to(folder).parts)


def has_suffix(name: str | Path, suffixes: Collection[str]) -> bool:
    """Whether a file's name ends in one of ``suffixes`` (lower case, with the dot), in small or capital letters."""
    return os.fspath(name).lower().endswith(tuple(suffixes))


def matching(names: Iterable[str], suffixes: Collection[str]) -> list[str]:
    """Names, in their order, that are not hidden and end in one of ``suffixes``."""
    return [name for name in names if not is_hidden(name) and has_suffix(name, suffixes)]


def beside(folder: str | Path, stem: str, suffixes: Iterable[str]) -> Path | None:
    """The file ``<stem><suffix>`` of a folder, its suffix in small or capital letters; of several the one whose suffix
    comes first; or None.
    """
    for suffix in suffixes:
        for spelled in (suffix, suffix.upper()):
            if (file := Path(folder, stem + spelled)).is_file():
                return file
    return None


def walk(root: str | Path) -> Iterator[tuple[str, list[str], list[str]]]:
    """Folders at any depth, ``root`` first: path, names of all folders and of all files in it.

    Links to folders are followed, so that links in a circle end, each folder is met once; hidden folders are named, but
    not entered.
    """
    seen: set[str] = set()
    for place, folders, names in os.walk(root, followlinks=True):
        real = os.path.realpath(place)
        if real in seen:
            folders[:] = []
            continue
        seen.add(real)
        named = list(folders)
        folders[:] = sorted(name for name in folders if not is_hidden(name))
        yield place, named, names


def report_passed_over(folder: str | Path, names: Iterable[str], expected: str) -> None:
    """Log one line that counts and names files of a folder that are not read; nothing where there are none.

    Args:
        names: visible files that are passed over.
        expected: what is read there (``photos (.jpg, .png)``).
    """
    names = sorted(names)
    if names:
        more = f" and {len(names) - _NAMED} more" if len(names) > _NAMED else ""
        log.warning(
            "note: %s: %d passed over, no %s: %s%s", folder, len(names), expected, ", ".join(names[:_NAMED]), more
        )


def require_outside(output: str | Path, *inputs: str | Path | None) -> None:
    """Refuse an output that is one of the inputs or lies inside one, where the next run would read it.

    Raises:
        InputError: naming both.
    """
    place = Path(output).resolve()
    for source in inputs:
        if source is not None and (place == Path(source).resolve() or Path(source).resolve() in place.parents):
            where = "the same folder" if place == Path(source).resolve() else "one inside it"
            raise InputError(output, f"an output outside the input {source}", where)
