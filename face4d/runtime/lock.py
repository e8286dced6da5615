"""One writer per output: a lock that names its owner, ends with it, and leaves a mark where the owner did not finish.

``flock`` on a small hidden file in the output folder. The kernel gives the lock up when its owner ends, however it
ends; over NFS the server does when the machine is gone. The commands take it; worker processes, here or on other
machines, write under the lock of their command.
"""

from __future__ import annotations

import errno
import fcntl
import json
import logging
import os
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from face4d.errors import InputError
from face4d.runtime.atomic import remove_leftovers
from face4d.runtime.fields import read_json

log = logging.getLogger(__name__)

NAME = "face4d"
_COMMAND_LENGTH = 100
_UNABLE = {errno.ENOLCK, errno.ENOTSUP, errno.EOPNOTSUPP, errno.ENOSYS, errno.EINVAL}  # a file system without locks
_CLOSED = {errno.EROFS, errno.EACCES, errno.EPERM}
_held: set[Path] = set()  # locks of this process


class Writing:
    """The right to write an output, see :func:`sole_writer`.

    Attributes:
        begun: the output has changed and is not finished.
        goes_on: an earlier command did not finish it.
    """

    def __init__(self, descriptor: int | None = None, goes_on: bool = False) -> None:
        self._descriptor = descriptor
        self.begun = self.goes_on = goes_on
        with suppress(OSError):  # of a full disk the one who writes will tell
            self._tell()

    def begin(self) -> None:
        """From here on the output changes: until the block ends well it counts as unfinished, see
        :func:`require_finished`.
        """
        if not self.begun:
            self.begun = True
            self._tell()

    def _tell(self) -> None:
        if self._descriptor is not None:
            owner = {"owner": _this_command(), "unfinished": self.begun}
            os.ftruncate(self._descriptor, 0)
            os.pwrite(self._descriptor, json.dumps(owner).encode(), 0)


@contextmanager
def sole_writer(
    folder: str | Path, name: str = NAME, *, dry_run: bool = False, goes_on: str = "the same command goes on"
) -> Iterator[Writing]:
    """Within the block no other command writes there, and what a killed one left half written has been removed.

    The folder is made, and removed again where nothing came into it. Where nothing can be written there is nothing to
    lock.

    Args:
        folder: the output.
        name: of one output among several in ``folder`` (a run among others); by default all of it is one output.
        dry_run: nothing will be written, so nothing is locked.
        goes_on: what to do after Ctrl-C.

    Raises:
        InputError: another command is writing there, names it; or a file stands there, or above it.
        KeyboardInterrupt: with ``goes_on`` as its text, where it came without one.
    """
    folder = Path(folder)
    _require_folder(folder)
    if dry_run:
        yield Writing()
        return
    path = folder / f".{name}.lock"
    if path.absolute() in _held:  # this command has it already
        yield Writing()
        return
    made = _make(folder)
    try:
        descriptor = _acquire(path, folder)
    except OSError as error:
        if error.errno not in _CLOSED:
            _remove_empty(made)
            raise
        yield Writing()
        return
    except InputError:
        _remove_empty(made)
        raise
    _held.add(path.absolute())
    # it stays unfinished until this command has finished it
    writing = Writing(descriptor, _owner(path).get("unfinished") is True)
    try:
        remove_leftovers(folder, None if name == NAME else name)
        yield writing
        writing.begun = False
    except KeyboardInterrupt as interrupt:
        raise (interrupt if interrupt.args else KeyboardInterrupt(goes_on)) from None
    finally:
        _held.discard(path.absolute())
        if not writing.begun:
            path.unlink(missing_ok=True)  # while it is held: nobody else can hold a file of that name
        os.close(descriptor)
        if not writing.begun:
            _remove_empty(made)


def require_finished(folder: str | Path) -> None:
    """Refuse to read a folder that another command is writing, or was stopped while it wrote it or a folder around it.

    Raises:
        InputError: naming the command, and what to do.
    """
    place = Path(folder).absolute()
    for path in (around / f".{NAME}.lock" for around in (place, *place.parents)):
        content = _owner(path)
        if content.get("unfinished") is True and path not in _held:
            found = f"one that {content.get('owner')} {'is writing' if _is_held(path) else 'did not finish'}"
            raise InputError(
                path.parent,
                "a finished folder",
                f"{found} (run that again, it goes on; to use what is there remove {path.name} from it)",
            )


def _acquire(path: Path, folder: Path) -> int:
    while True:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | getattr(os, "O_NOFOLLOW", 0), 0o666)
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(descriptor)
            raise InputError(
                folder, "no other run writing here", str(_owner(path).get("owner") or "one that has just begun")
            ) from None
        except OSError as error:
            if error.errno not in _UNABLE:
                os.close(descriptor)
                raise
            log.warning(
                "note: %s: its file system has no locks, so see to it that one command at a time writes there", folder
            )
        with suppress(FileNotFoundError):
            if os.path.samestat(os.fstat(descriptor), os.stat(path)):
                return descriptor
        os.close(descriptor)  # its owner removed it between our two calls


def _is_held(path: Path) -> bool:
    try:
        descriptor = os.open(path, os.O_RDWR)
    except OSError:
        return False
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return True
    finally:
        os.close(descriptor)
    return False


def _owner(path: Path) -> dict[str, object]:
    try:
        content = read_json(path)
    except InputError:
        return {}
    return content if isinstance(content, dict) else {}


def _this_command() -> str:
    command = " ".join(["python", *sys.argv])
    command = command if len(command) <= _COMMAND_LENGTH else command[: _COMMAND_LENGTH - 3] + "..."
    return f"{command} (process {os.getpid()} on {os.uname().nodename}, since {time.strftime('%Y-%m-%d %H:%M:%S')})"


def _require_folder(folder: Path) -> None:
    """Refuse an output that cannot be a folder, since a file is in its place or above it."""
    place = next((place for place in (folder, *folder.parents) if os.path.lexists(place)), folder)
    if os.path.lexists(place) and not place.is_dir():
        raise InputError(place, "a folder, or nothing yet", "a file" if place.exists() else "a link to nothing")


def _make(folder: Path) -> list[Path]:
    """Make a folder; returns those that did not exist, the deepest first."""
    missing = [place for place in (folder, *folder.parents) if not place.exists()]
    with suppress(FileExistsError):
        folder.mkdir(parents=True, exist_ok=True)
    return missing


def _remove_empty(folders: list[Path]) -> None:
    for folder in folders:
        try:
            folder.rmdir()
        except OSError:
            return
