"""Names of files and folders that are still being written, and their removal where the process that wrote them was killed.

``.<name>.<process>-<machine>-<random>.<new or old><suffix>``: hidden, so that no reader takes one for a result; with its owner, so that the next
command can tell what nobody is writing any more; with the suffix, by which writers choose a format.
"""

from __future__ import annotations

import os
import re
import shutil
import time
import uuid
import zlib
from contextlib import suppress
from functools import lru_cache
from pathlib import Path

from face4d.runtime.files import is_hidden, walk

_PATTERN = re.compile(r"\.(?P<name>.+)\.(?P<process>\d{1,10})-(?P<machine>[0-9a-f]{6})-[0-9a-f]{8}\.(?P<kind>new|old)(?P<suffix>\.[^.]*)?")
_FOREIGN_SECONDS = 24 * 3600  # after that a temporary of another machine counts as left over
_mine: set[str] = set()  # names that this process is writing


@lru_cache(maxsize=1)
def _machine() -> str:
    return f"{zlib.crc32(os.uname().nodename.encode()):08x}"[:6]


def temporary_name(path: Path, kind: str = "new", *, is_folder: bool = False) -> Path:
    """A name beside ``path`` for what becomes it (``new``) or what it was (``old``).

    It counts as being written until :func:`forget`.
    """
    stem, suffix = (path.name, "") if is_folder else (path.stem, path.suffix)
    name = f".{stem}.{os.getpid()}-{_machine()}-{uuid.uuid4().hex[:8]}.{kind}{suffix}"
    _mine.add(name)
    return path.with_name(name)


def forget(temporary: Path) -> None:
    """Nothing is written under this name any more."""
    _mine.discard(temporary.name)


def remove_leftovers(folder: Path, name: str | None = None) -> None:
    """Remove what killed processes were writing in ``folder``; nothing else.

    A folder that was moved aside, and whose successor never came, gets its place back.

    Args:
        name: only in ``folder`` itself, of files whose names begin with this; None = at any depth.
    """
    for place, folders, files in walk(folder):
        for found in [entry for entry in (*folders, *files) if is_hidden(entry)]:
            match = _PATTERN.fullmatch(found)
            if match and (name is None or f"{match['name']}.".startswith(f"{name}.")) and not _is_written(Path(place, found), match):
                _clear(Path(place, found), Path(place, match["name"] + (match["suffix"] or "")), match["kind"])
        if name is not None:
            return


def _is_written(path: Path, match: re.Match[str]) -> bool:
    """Whether a living process may be writing a temporary."""
    if match["machine"] != _machine():
        try:
            return time.time() - path.lstat().st_mtime < _FOREIGN_SECONDS
        except OSError:
            return True
    process = int(match["process"])
    if process == os.getpid():
        return path.name in _mine
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except (PermissionError, OverflowError):
        return True
    return True


def _clear(path: Path, target: Path, kind: str) -> None:
    with suppress(OSError):  # what cannot be removed is in nobody's way
        if kind == "old" and not target.exists():
            os.rename(path, target)
        elif path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink()
