"""Files and folders that are either whole or not there, and the removal of what a killed process was writing.

``.<name>.<process>-<machine>-<random>.<new or old><suffix>``: hidden, so that no reader takes one for a result; with
its owner, so that the next command can tell what nobody is writing any more; with the suffix, by which writers choose a
format.
"""

from __future__ import annotations

import io
import json
import os
import re
import shutil
import time
import uuid
import zlib
from collections.abc import Collection, Iterator, Mapping
from contextlib import contextmanager, suppress
from functools import lru_cache
from pathlib import Path
from typing import Any

import numpy as np

from face4d.errors import InputError
from face4d.runtime.files import is_hidden, walk

_PATTERN = re.compile(
    r"\.(?P<name>.+)\.(?P<process>\d{1,10})-(?P<machine>[0-9a-f]{6})-[0-9a-f]{8}\.(?P<kind>new|old)(?P<suffix>\.[^.]*)?"
)
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
            if (
                match
                and (name is None or f"{match['name']}.".startswith(f"{name}."))
                and not _is_written(Path(place, found), match)
            ):
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


@contextmanager
def replacing(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path in the target's folder; rename it over ``path`` when the block succeeds.

    The temporary keeps the suffix of ``path`` (writers choose formats by it). On any exception, Ctrl-C and a
    full disk included, it is removed and ``path`` stays as it was. Parent folders are made.
    """
    path = Path(path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path)
    try:
        yield temporary
        os.replace(temporary, path)
    except BaseException as error:
        temporary.unlink(missing_ok=True)
        if isinstance(error, OSError) and error.filename in (None, str(temporary)):
            error.filename = str(path)  # a full disk names no file by itself
        raise
    finally:
        forget(temporary)


@contextmanager
def replacing_folder(path: str | Path, made: Collection[str] | None = None) -> Iterator[Path]:
    """Like :func:`replacing` for a folder.

    It takes the place of an earlier one as a whole: readers see the old folder, for a moment none, then the new one,
    and never a mixture. A process killed in that moment leaves the old one beside its place, where
    :func:`face4d.runtime.atomic.remove_leftovers` puts it back.

    Args:
        made: names in an earlier folder that this program wrote, and that go with it (``()``: none); all others come
            along into the new one. None: there must be no earlier folder.

    Raises:
        FileExistsError: ``path`` exists, and ``made`` is None.
        InputError: the earlier folder has a file of a name that is to be written, and that this program did not write.
    """
    path = Path(path)
    if made is None and path.exists():
        raise FileExistsError(f"{path} exists")
    path = path.resolve()  # a link stays one, and what it leads to is replaced
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = temporary_name(path, is_folder=True)
    try:
        temporary.mkdir()
        yield temporary
        if path.exists():
            _keep_others(path, temporary, set(made or ()))
            aside = temporary_name(path, "old", is_folder=True)
            os.rename(path, aside)
            try:
                os.rename(temporary, path)
            except BaseException:
                os.rename(aside, path)
                raise
            shutil.rmtree(aside, ignore_errors=True)
            forget(aside)
        else:
            os.rename(temporary, path)
    except BaseException as error:
        shutil.rmtree(temporary, ignore_errors=True)
        if isinstance(error, OSError):
            error.filename = str(path)
        raise
    finally:
        forget(temporary)


def _keep_others(old: Path, new: Path, made: set[str]) -> None:
    """Bring what this program did not write from the old folder into the new one: the same files, under a second
    name.
    """
    for entry in sorted(old.iterdir()):
        if entry.name in made:
            continue
        target = new / entry.name
        if entry.is_dir() and not entry.is_symlink():
            target.mkdir(exist_ok=True)
            prefix = f"{entry.name}/"
            _keep_others(entry, target, {name.removeprefix(prefix) for name in made if name.startswith(prefix)})
            if not any(target.iterdir()) and any(entry.iterdir()):
                target.rmdir()  # all of it was made here
        elif target.exists():
            raise InputError(
                entry,
                "only files that this program wrote under the names it writes",
                "another one, which stays; choose another --output",
            )
        else:
            try:
                os.link(entry, target, follow_symlinks=False)
            except OSError:  # a file system without hard links
                shutil.copy2(entry, target, follow_symlinks=False)


def write_bytes(path: str | Path, data: bytes | memoryview) -> None:
    """Write ``data`` to ``path`` as a whole or not at all."""
    with replacing(path) as temporary:
        temporary.write_bytes(data)


def write_text(path: str | Path, text: str) -> None:
    r"""Write ``text`` (UTF-8, newlines as given) to ``path`` as a whole or not at all.

    Bytes of a file name that are no UTF-8 are spelled as JSON spells them (``\\udce9``), so such a path in a record
    comes back as it was.
    """
    write_bytes(path, text.encode("utf-8", "backslashreplace"))


def write_json(path: str | Path, value: object) -> None:
    """Write ``value`` as indented JSON, keys in their own order."""
    write_text(path, json.dumps(value, indent=2, ensure_ascii=False) + "\n")


def save_npz(path: str | Path, arrays: Mapping[str, Any]) -> None:
    """Write arrays as a compressed ``.npz``, whole or not at all."""
    with replacing(path) as temporary, open(temporary, "wb") as file:
        np.savez_compressed(file, **arrays)


def save_npy(path: str | Path, array: np.ndarray) -> None:
    """Write a numeric array as ``.npy`` (never a pickle)."""
    stream = io.BytesIO()  # numpy's own way into a file does not say that the disk is full
    np.save(stream, array, allow_pickle=False)
    write_bytes(path, stream.getbuffer())
