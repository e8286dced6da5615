"""Where a training run is written: its checkpoints, and the record of it, which is configuration, curves and
metrics.
"""

from __future__ import annotations

import os
import platform
import socket
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from importlib import metadata
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any

from face4d import __version__
from face4d.errors import InputError
from face4d.runtime.atomic import remove_leftovers, write_json, write_text
from face4d.runtime.fields import current_tag
from face4d.runtime.files import read_bytes, require_name
from face4d.runtime.lock import sole_writer

if TYPE_CHECKING:  # figures read runs without torch
    import torch

CURVES_HEADER = "epoch,tag,value\n"
_MOST_CURVES = 128 << 20  # bytes
_MOST_EPOCHS = 10**9


def package_versions() -> dict[str, str]:
    """Versions that can change a number: python, face4d, torch, numpy, scipy."""
    versions = {name: metadata.version(name) for name in ("torch", "numpy", "scipy")}
    return {"python": platform.python_version(), "face4d": __version__, **versions}


class RunFolder:
    """``runs/<run>/``: config.json, metrics.json, curves.csv (``epoch,tag,value``) and the same curves as TensorBoard
    event files.

    Args:
        path: the folder; made when the first file is written.
    """

    def __init__(self, path: str | Path) -> None:
        self.path = Path(path)
        self._events: _EventFile | None = None
        self._rows: IO[str] | None = None

    def write_config(self, config: dict[str, Any]) -> None:
        """Write config.json: the full configuration, with package versions and the platform."""
        write_json(
            self.path / "config.json", {**config, "versions": package_versions(), "platform": platform.platform()}
        )

    def write_metrics(self, metrics: dict[str, Any]) -> None:
        """Write metrics.json."""
        write_json(self.path / "metrics.json", metrics)

    @property
    def curves_path(self) -> Path:
        return self.path / "curves.csv"

    @property
    def metrics_path(self) -> Path:
        return self.path / "metrics.json"

    def clear(self) -> None:
        """Remove the curves and metrics of an earlier run of this name; nothing else."""
        for path in (*self._event_files(), self.curves_path, self.metrics_path):
            path.unlink(missing_ok=True)

    def _event_files(self) -> list[Path]:
        return list(self.path.glob("events.out.tfevents.*"))

    def open_curves(self, first_step: int = 0) -> None:
        """Start writing curves; points at or after ``first_step`` of an earlier, interrupted run are dropped.

        TensorBoard would show what two event files have in common twice, so a new one is made of the points in
        curves.csv.
        """
        self.close()
        kept = [row for row in _rows_of(self.curves_path) if row[0] < first_step] if first_step else []
        write_text(
            self.curves_path, CURVES_HEADER + "".join(f"{epoch},{tag},{value!r}\n" for epoch, tag, value in kept)
        )
        self._rows = open(self.curves_path, "a", encoding="utf-8")
        for path in self._event_files():
            path.unlink(missing_ok=True)
        self._events = _EventFile(self.path)
        for epoch, tag, value in kept:
            self._events.add({tag: value}, epoch)

    def scalars(self, values: dict[str, float], step: int) -> None:
        """Add one point to each curve."""
        assert self._rows is not None and self._events is not None  # opened by open_curves
        try:
            self._rows.write("".join(f"{step},{tag},{float(value)!r}\n" for tag, value in values.items()))
            self._rows.flush()
            self._events.add(values, step)
        except OSError as error:
            error.filename = str(self.path)  # a full disk names no file by itself
            raise

    def read_curves(self) -> dict[str, tuple[list[int], list[float]]]:
        """Epochs and values by tag; empty where nothing was written."""
        curves: dict[str, tuple[list[int], list[float]]] = {}
        for epoch, tag, value in _rows_of(self.curves_path):
            epochs, values = curves.setdefault(tag, ([], []))
            epochs.append(epoch)
            values.append(value)
        return curves

    def last_epoch(self) -> int:
        """Epochs trained so far, read from the end of curves.csv."""
        try:
            with open(self.curves_path, "rb") as file:
                file.seek(max(0, file.seek(0, 2) - 400))
                lines = file.read().split(b"\n")[:-1]  # what follows the last line break is still being written
            return max(0, int(lines[-1].split(b",")[0]))
        except (OSError, IndexError, ValueError):
            return 0

    def close(self) -> None:
        """Close the curves."""
        for stream in (self._events, self._rows):
            if stream is not None:
                stream.close()
        self._events = self._rows = None


def _cpu() -> torch.device:
    import torch

    return torch.device("cpu")


@dataclass(frozen=True)
class Run:
    """Where a training run is written and how it is carried out; what is trained is a
    :class:`face4d.runtime.session.Task`.

    Attributes:
        name: of its files.
        models: folder of its checkpoints.
        runs: folder of its record.
        device: that it trains on.
        resume: continue from the last checkpoint if there is one.
        overwrite: begin anew where there is an earlier run of the name.
        checkpoint_seconds: time between last checkpoints; 0 = after every epoch.
        quiet: no progress bar and no line per validation.

    Raises:
        InputError: a name that cannot be that of a file.
    """

    name: str
    models: Path
    runs: Path
    device: torch.device = field(default_factory=_cpu)
    resume: bool = False
    overwrite: bool = False
    checkpoint_seconds: float = 30.0
    quiet: bool = False

    def __post_init__(self) -> None:
        require_name("--run", "the name of a run", self.name)

    @property
    def checkpoint(self) -> Path:
        """The weights kept."""
        return self.models / f"{self.name}.pt"

    @property
    def last(self) -> Path:
        """The state to continue from."""
        return self.models / f"{self.name}.last.pt"

    @property
    def folder(self) -> RunFolder:
        """Its record."""
        return RunFolder(self.runs / self.name)

    @property
    def finished_at(self) -> int | None:
        """When the weights kept were written, nanoseconds; None = not yet. A run that is finished and resumed keeps
        them.
        """
        return self.checkpoint.stat().st_mtime_ns if self.checkpoint.is_file() else None


@contextmanager
def claimed(*runs: Run) -> Iterator[None]:
    """Hold training runs for this program alone; of several processes the first does.

    Raises:
        InputError: another program trains one of them, or one exists and is neither to be resumed nor overwritten.
    """
    from face4d.runtime import distributed

    if not distributed.is_main():
        yield
        return
    with ExitStack() as held:
        for run in runs:
            goes_on = f"with --resume it goes on from {run.last}"
            for path in (run.checkpoint, run.folder.path):
                held.enter_context(sole_writer(path.parent, path.name.removesuffix(".pt"), goes_on=goes_on))
            remove_leftovers(run.folder.path)
        for run in runs:
            for path in (run.checkpoint, run.last, run.folder.path):
                if path.exists() and not (run.resume or run.overwrite):
                    choice = "--resume goes on where it was stopped, --run NAME trains another, --overwrite begins anew"
                    raise InputError(path, "no run of that name", f"one ({choice})")
        for run in runs:
            if not run.resume:
                run.folder.clear()
                run.last.unlink(missing_ok=True)  # else --resume would go on with the earlier run
        yield


class _EventFile:
    """Curves as TensorBoard reads them, each point on disk at once; torch's writer has a thread of its own, which a
    full disk ends unheard.
    """

    def __init__(self, folder: Path) -> None:
        from tensorboard.compat.proto.event_pb2 import Event  # needed by training only
        from tensorboard.compat.proto.summary_pb2 import Summary
        from tensorboard.summary.writer.record_writer import RecordWriter

        self._event, self._summary = Event, Summary
        name = f"events.out.tfevents.{int(time.time())}.{socket.gethostname()}.{os.getpid()}"
        self._file = open(folder / name, "wb", buffering=0)
        self._records = RecordWriter(self._file)
        self._write(file_version="brain.Event:2")

    def add(self, values: dict[str, float], step: int) -> None:
        """Add one point to each curve."""
        points = [self._summary.Value(tag=tag, simple_value=value) for tag, value in values.items()]
        self._write(step=step, summary=self._summary(value=points))

    def _write(self, **content: Any) -> None:
        self._records.write(self._event(wall_time=time.time(), **content).SerializeToString())

    def close(self) -> None:
        self._file.close()


def _rows_of(path: Path) -> list[tuple[int, str, float]]:
    """Rows of curves.csv; a last line that a killed run left incomplete is not one.

    Raises:
        InputError: another content.
    """
    expected = "curves (epoch,tag,value)"
    if not path.exists():
        return []
    try:
        lines = read_bytes(path, expected, most=_MOST_CURVES).decode("utf-8").split("\n")
    except UnicodeDecodeError as error:
        raise InputError(path, expected, str(error)) from None
    rows = []
    for number, line in enumerate(lines[1:-1], start=2):
        try:
            epoch, tag, value = line.split(",")
            if not 0 <= (step := int(epoch)) < _MOST_EPOCHS or not tag.isprintable():
                raise ValueError
            rows.append((step, current_tag(tag), float(value)))
        except ValueError:
            raise InputError(path, f"epoch,tag,value in line {number}", repr(line.strip()[:60])) from None
    return rows
