"""Folders that a command makes as a whole, with a record of how: what is there and right is kept, and finished is what the record says, not what exists."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np

from face4d.errors import InputError
from face4d.runtime.atomic import replacing_folder, write_json
from face4d.runtime.json_file import read_json
from face4d.runtime.files import open_file

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
        if record["settings"].get(key) != wanted.get(key):
            return f"one made with {key} = {_short(record['settings'].get(key))}, not {_short(wanted.get(key))}"
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
        usable = usable and all(_is_inside(name) and isinstance(size, int) and isinstance(digest, str) for name, (size, digest) in record["files"].items())
    except (ValueError, KeyError, TypeError, AttributeError):  # InputError is a ValueError
        return {}
    return record if usable else {}


def _is_inside(name: str) -> bool:
    return not Path(name).is_absolute() and ".." not in Path(name).parts


def _short(value: object) -> str:
    text = json.dumps(value)
    return text if len(text) <= 60 else text[:57] + "..."
