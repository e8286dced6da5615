"""The cells of a grid of training runs: which runs they are, where they are written, which are finished, and how one is trained."""

from __future__ import annotations

import argparse
import copy
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Sequence
from dataclasses import dataclass, fields
from pathlib import Path
from typing import Any

import torch

from face4d.commands.data_flags import data_source
from face4d.datasets.flags import TrainingTask, training_split
from face4d.datasets.entry import DATASETS
from face4d.datasets.own import find_dataset
from face4d.datasets.source import DataSource
from face4d.errors import InputError
from face4d.runtime.config import TrainingConfig
from face4d.runtime.device import keep_freed_memory
from face4d.runtime.grid import Grid, Lease, Settings, expand, read_grid
from face4d.runtime.interrupt import interrupted_when
from face4d.runtime.fields import METRICS, described, mapping, plain, record, text, told
from face4d.runtime.json_file import read_json
from face4d.runtime.names import require_name
from face4d.runtime.training import Run

THESIS = "thesis"
_OF_THE_THESIS = [name for name, entry in DATASETS.items() if entry.thesis_name]
_IN_RUN_NAME = {"loss", "lr", "hidden_size", "layers"}


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        dataset: its data set.
        settings: what the grid varies, as configured.
        config: its whole configuration.
        source: where its data is.
        held_out: training subjects that do not train.
        run: where it is written and how it is carried out.
    """

    dataset: str
    settings: Settings
    config: TrainingConfig
    source: DataSource
    held_out: tuple[str, ...]
    run: Run

    @property
    def name(self) -> str:
        return self.run.name

    def progress(self) -> float:
        """Share 0..1 of its epochs that were trained."""
        return self.run.folder.last_epoch() / self.config.epochs

    def metrics(self) -> dict[str, Any] | None:
        """Its scores, None where it is not finished."""
        if not (self.run.checkpoint.is_file() and self.run.folder.metrics_path.is_file()):
            return None
        return read_json(self.run.folder.metrics_path, METRICS)

    def discard(self) -> None:
        """Remove what an earlier run of this name has written."""
        self.run.folder.clear()
        for path in (self.run.checkpoint, self.run.last, self.run.folder.path / "config.json"):
            path.unlink(missing_ok=True)


@dataclass(frozen=True)
class CellJob:
    """A cell on its way to a worker.

    Attributes:
        train: as in :class:`face4d.datasets.flags.TrainingTask`.
        threads: CPU threads of torch.
        lease: it trains while this is held.
    """

    cell: Cell
    train: Callable[..., dict[str, Any]]
    threads: int
    lease: Lease


def grid_name(args: Namespace, kind: str, preset: str, select: str) -> str:
    """Folder of a grid's runs below ``models`` and ``runs``: ``--run``, or ``generators_thesis_validation``."""
    return require_name("--run", "a name of a grid's folder,", args.run or "_".join(dict.fromkeys((kind, Path(args.grid).stem, preset, select))))


def grid_folders(args: Namespace, name: str, dataset: str) -> tuple[Path, Path]:
    """Folders of the checkpoints and of the records of a grid."""
    defaults = find_dataset(dataset)
    return (args.models or defaults.models) / name, (args.runs or defaults.runs) / name


def present_datasets(args: Namespace) -> tuple[list[str], list[str]]:
    """Data sets of a grid: that of ``--dataset``, or those of the thesis whose landmark folders exist; and those that are missing.

    Raises:
        InputError: none exists, or flags that fit one data set only.
    """
    if args.dataset:
        return [args.dataset], []
    for flag, given in (("--landmarks", args.landmarks), ("--actors", args.actors), ("--test-subjects", args.test_subjects)):
        if given:
            raise InputError(flag, "--dataset with it", "a grid over all data sets")
    found = [name for name in _OF_THE_THESIS if DATASETS[name].landmarks.is_dir()]
    missing = [f"{name} ({DATASETS[name].landmarks})" for name in _OF_THE_THESIS if name not in found]
    if not found:
        raise InputError("--grid", "a landmark folder of step 3", f"none of {', '.join(missing)} (--dataset and --landmarks name another)")
    return found, missing


def grid_settings(args: Namespace, task: TrainingTask, preset: str, dataset: str) -> list[Settings]:
    """What the cells vary, as ``--grid`` says.

    The default preset has a learning rate schedule of its own, so with it the thesis' grid varies no learning rate.

    Raises:
        InputError: a bad grid file, or a flag that the grid varies.
    """
    if args.grid == THESIS:
        grids: Sequence[Grid] = [{k: v for k, v in task.thesis_grids[find_dataset(dataset).grid].items() if k != "lr" or preset == THESIS}]
    else:
        allowed = described(type(task.presets[preset]))
        grids = read_grid(args.grid, {name: allowed[name] for name in sorted(allowed.keys() & vars(args).keys() - {"select"})})
    for name in (name for grid in grids for name in grid):
        if name != "seed" and getattr(args, name) is not None:
            raise InputError(f"--{name.replace('_', '-')}", f"no such flag with --grid {args.grid}, which varies it", str(getattr(args, name)))
    return expand(grids)


def grid_cells(parser: ArgumentParser, args: Namespace, task: TrainingTask, preset: str, select: str, datasets: Sequence[str]) -> list[Cell]:
    """All cells of a grid, checked: what is on disk under their names belongs to them.

    Args:
        select: ``last``, ``validation`` or ``test``: what chooses the run, and the weights of runs whose preset chooses any.

    Raises:
        InputError: bad data or settings, or another run under the name of a cell (without ``--overwrite``).
    """
    name = grid_name(args, task.kind, preset, select)
    cells: dict[Path, Cell] = {}
    for dataset in datasets:
        source = data_source(Namespace(**{**vars(args), "dataset": dataset}))
        held_out = held_out_subjects(args, source) if select == "validation" else ()
        data_digest = training_split(source, held_out).digest()
        models, runs = grid_folders(args, name, dataset)
        for settings in grid_settings(args, task, preset, dataset):
            config = cell_config(parser, args, settings, task.presets[preset], select)
            settings = {key: getattr(config, key) for key in settings}
            extra = "".join(f"_{key}_{value}" for key, value in settings.items() if key not in _IN_RUN_NAME)
            run_name = task.run_name(dataset, preset, config) + extra
            run = Run(run_name, models, runs, resume=True, checkpoint_seconds=args.checkpoint_seconds, quiet=True)
            cell = Cell(dataset, settings, config, source, held_out, run)
            if not args.overwrite:
                require_own(cell, data_digest)
            cells.setdefault(run.folder.path, cell)
    return list(cells.values())


def cell_config(parser: ArgumentParser, args: Namespace, settings: Settings, preset: TrainingConfig, select: str) -> TrainingConfig:
    """The preset with the flags given and a cell's settings, which are checked as flags are.

    Raises:
        InputError: a value that the flag does not take.
    """
    words = []
    for key, value in settings.items():
        flag = key.replace("_", "-")
        words.append(f"--{'' if value else 'no-'}{flag}" if isinstance(value, bool) else f"--{flag}={value}")
    parser.exit_on_error = False
    try:
        given, unknown = parser.parse_known_args(words, copy.copy(args))
    except argparse.ArgumentError as error:
        raise InputError(args.grid, "values that their flags take", str(error)) from None
    if unknown:
        raise InputError(args.grid, "values that their flags take", unknown[0])
    flags = {field.name: getattr(given, field.name, None) for field in fields(preset)}
    # A preset that chooses no weights keeps the last ones in a grid too.
    return preset.with_flags({**flags, "select": "last" if preset.select == "last" else select})


def held_out_subjects(args: Namespace, source: DataSource) -> tuple[str, ...]:
    """Training subjects that choose: those of ``--validation-subjects``, else the last fifth of the sorted ones, at least one."""
    if args.validation_subjects:
        return tuple(args.validation_subjects)
    subjects = sorted({sequence.subject for sequence in source.load().train})
    return tuple(subjects[-max(1, len(subjects) // 5) :])


def require_own(cell: Cell, data_digest: str) -> None:
    """Refuse to go on in the folder of a run with another configuration or other data.

    Raises:
        InputError: naming the first difference.
    """
    path = cell.run.folder.path / "config.json"
    if not path.is_file():
        return
    found = read_json(path, record({"config": mapping(plain), "data_digest": text}))
    wanted = {**cell.config.as_dict(), "data": data_digest[:12]}
    there = {**found["config"], "data": found["data_digest"][:12]}
    for key, value in wanted.items():
        if there.get(key) != value:
            raise InputError(path, f"a run with {key} = {value} (another --run NAME, or --overwrite)", f"{key} = {told(there.get(key))}")


def train_cell(job: CellJob) -> dict[str, Any] | InputError | None:
    """Train a cell, or what is left of it.

    Returns:
        Its metrics; what was wrong; None when it was interrupted, with a checkpoint to go on from.
    """
    cell = job.cell
    if not job.lease.held():
        return None
    keep_freed_memory()
    torch.set_num_threads(job.threads)
    if cell.run.device.type == "cuda":
        torch.cuda.set_device(cell.run.device)
    try:
        split = training_split(cell.source, cell.held_out)
        with interrupted_when(lambda: not job.lease.held()):
            return job.train(split, cell.config, cell.run)
    except KeyboardInterrupt:
        job.lease.release()
        return None
    except InputError as error:
        return error
