"""Grids of training runs from the command line to one table: train what is missing, choose a run, tell."""

from __future__ import annotations

import os
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

import torch

from face4d.datasets.flags import TrainingTask
from face4d.datasets.training_grid import THESIS, Cell, CellJob, grid_cells, grid_folders, grid_name, present_datasets, train_cell
from face4d.errors import InputError
from face4d.evaluation.tables import Column, Row, text_table, write_table
from face4d.runtime import cli
from face4d.runtime.atomic import write_json
from face4d.runtime.device import resolve_device
from face4d.runtime.fields import check, number, record, score
from face4d.runtime.grid import Lease, run_side_by_side
from face4d.runtime.lock import sole_writer
from face4d.runtime.parallel import cluster

PROCESSES_PER_GPU = 4


@dataclass(frozen=True)
class Contest:
    """What runs of one kind are compared by.

    Attributes:
        columns: of the table of a grid; those of ``validation_...`` are left out where nothing was held out.
        compared: names of the scores below, which have to be there.
        rank: smaller for better runs, from metrics.json and the prefix of the set that chooses (``validation_``, or that of the test set).
        test_prefix: prefix of the test set's metrics.
        told: a run's scores as a sentence, by prefix.
    """

    columns: tuple[Column, ...]
    compared: tuple[str, ...]
    rank: Callable[[Mapping[str, Any], str], tuple[float, ...]]
    test_prefix: str
    told: Callable[[Mapping[str, Any], str], str]


CONTESTS = {
    "generators": Contest(
        columns=(
            Column("validation_mm", "validation mean (mm)", ".3f", best="min"),
            Column("validation_mm_std", "validation std (mm)", ".3f", best="min"),
            Column("mm", "test mean (mm)", ".3f", best="min"),
            Column("mm_std", "test std (mm)", ".3f", best="min"),
            Column("mse", "test MSE (m²)", ".3e", best="min"),
            Column("l1", "test L1 (m)", ".3e", best="min"),
        ),
        compared=("mm", "mm_std"),
        rank=lambda metrics, prefix: (metrics[prefix + "mm"] + metrics[prefix + "mm_std"],),  # [T]
        test_prefix="",
        told=lambda metrics, prefix: f"{metrics[prefix + 'mm']:.3f} mm (std {metrics[prefix + 'mm_std']:.3f})",
    ),
    "classifiers": Contest(
        columns=(
            Column("validation_accuracy", "validation accuracy", ".1%", best="max"),
            Column("validation_loss", "validation loss", ".4f", best="min"),
            Column("test_accuracy", "test accuracy", ".1%", best="max"),
            Column("test_loss", "test loss", ".4f", best="min"),
            Column("train_accuracy", "training accuracy", ".1%"),
        ),
        compared=("accuracy", "loss"),
        rank=lambda metrics, prefix: (-metrics[prefix + "accuracy"], metrics[prefix + "loss"]),
        test_prefix="test_",
        told=lambda metrics, prefix: f"{metrics[prefix + 'accuracy']:.1%} (loss {metrics[prefix + 'loss']:.4f})",
    ),
}
SETTING_TITLES = {"hidden_size": "H"}


def run_grid(parser: ArgumentParser, args: Namespace, task: TrainingTask) -> None:
    """What ``--grid`` does: train the cells that are not finished, write and print the table, tell which run is chosen.

    Raises:
        InputError: bad flags, data or settings; at the end, the first cell that could not be trained.
        KeyboardInterrupt: after Ctrl-C; the same command goes on.
    """
    if int(os.environ.get("WORLD_SIZE", "1")) > 1:
        raise InputError("--grid", "one process (--workers N trains runs side by side)", "torchrun")
    preset = args.preset or ("thesis" if args.grid == THESIS else "default")
    select = args.select or "validation"
    if args.validation_subjects and select != "validation":
        raise InputError("--validation-subjects", "--select validation", f"--select {select}")
    datasets, missing = present_datasets(args)
    cells = grid_cells(parser, args, task, preset, select, datasets)
    done = {cell.name for cell in cells if cell.metrics() is not None and not args.overwrite}
    told = f"{len(cells)} {task.kind} of {' and '.join(datasets)}, preset {preset}, {len(done)} finished"
    held_out = "; ".join(f"{cell.dataset}: held out {', '.join(cell.held_out)}" for cell in first_of_each(cells) if cell.held_out)
    if not args.quiet:
        print("\n".join([told, *(f"left out, no landmark folder: {name}" for name in missing), *([held_out] if held_out else [])]))
    if args.dry_run:
        states = [{"run": cell.name, "state": state(cell, args.overwrite)} for cell in cells]
        print(text_table([Column("run", "run"), Column("state", "state")], states))
        return
    name = grid_name(args, task.kind, preset, select)
    models, runs = grid_folders(args, name, datasets[0])
    with sole_writer(runs), sole_writer(models):
        if args.overwrite:
            for cell in cells:
                cell.discard()
        problems = train_missing(args, task, [cell for cell in cells if cell.name not in done], Lease(runs / "running"), len(done))

        rows = [row_of(cell, problems.get(cell.name)) for cell in cells]
        chosen = choose_runs(CONTESTS[task.kind], cells, select)
        for row in rows:
            row["chosen"] = "yes" if row["run"] in chosen.values() else None
        columns = table_columns(task.kind, cells, rows, choice=select != "last")
        written = []
        for dataset in datasets:  # best values are bold: only what saw the same data competes
            written += write_table(runs / f"grid_{dataset}", columns, [row for row in rows if row["dataset"] == dataset])
        record = {"kind": task.kind, "grid": args.grid, "preset": preset, "select": select, "chosen": chosen}
        write_json(runs / "grid.json", {**record, "held_out": {cell.dataset: list(cell.held_out) for cell in cells}, "runs": rows})
        print(text_table(columns, rows))
        for sentence in sentences(CONTESTS[task.kind], cells, chosen, select):
            print(sentence)
        cli.report_written([models], kept=len(done) == len(cells))
        cli.report_written([runs, *written])
        for problem in problems.values():
            raise problem


def train_missing(args: Namespace, task: TrainingTask, cells: Sequence[Cell], lease: Lease, finished: int) -> dict[str, InputError]:
    """Train cells side by side; returns what was wrong, by run."""
    if not cells:
        return {}
    device = resolve_device(args.device)
    gpus = torch.cuda.device_count() if device.type == "cuda" else 0
    wanted = args.workers
    if gpus and wanted is None and args.scheduler is None:
        wanted = PROCESSES_PER_GPU * gpus
    cells = sorted(cells, key=lambda cell: -cell.config.hidden_size)  # the longest first, so that none is left alone at the end
    all_threads = torch.get_num_threads()
    with cluster(args.backend, args.scheduler, wanted) as workers:
        jobs = []
        for number, cell in enumerate(cells):
            one = workers > 1 or cell.config.hidden_size <= task.one_thread_up_to
            run = replace(cell.run, device=torch.device(f"cuda:{number % gpus}" if gpus else device.type))
            jobs.append(CellJob(replace(cell, run=run), task.train, args.threads or (1 if one else all_threads), lease))
        results = run_side_by_side(
            train_cell,
            jobs,
            lease,
            workers=min(workers, len(jobs)),
            progress=lambda job: job.cell.progress(),
            finished=finished,
            description=task.kind,
            quiet=args.quiet,
        )
    return {job.cell.name: result for job, result in zip(jobs, results) if isinstance(result, InputError)}


def state(cell: Cell, overwrite: bool) -> str:
    """``finished``, ``epoch 12 of 1200`` or ``new``, for people."""
    if overwrite or not cell.run.folder.path.exists():
        return "new"
    if cell.metrics() is not None:
        return "finished"
    return f"epoch {cell.run.folder.last_epoch()} of {cell.config.epochs}"


def first_of_each(cells: Sequence[Cell]) -> list[Cell]:
    """The first cell of each data set."""
    return list({cell.dataset: cell for cell in reversed(cells)}.values())[::-1]


def row_of(cell: Cell, problem: InputError | None = None) -> dict[str, Any]:
    """A cell's row of the table."""
    metrics = cell.metrics() if problem is None else None
    return {"run": cell.name, "dataset": cell.dataset, **cell.settings, **(metrics or {"problem": f"{problem.found}" if problem else "unfinished"})}


def table_columns(kind: str, cells: Sequence[Cell], rows: Sequence[Row], *, choice: bool) -> list[Column]:
    """Columns of a grid's table: what it varies, the scores there are, time."""
    settings = dict.fromkeys(key for cell in cells for key in cell.settings)
    columns = [Column("dataset", "data"), *(Column(key, SETTING_TITLES.get(key, key.replace("_", " "))) for key in settings)]
    columns += [*CONTESTS[kind].columns, Column("epoch", "epoch"), Column("seconds", "time (s)", ".0f"), Column("problem", "problem")]
    columns += [Column("chosen", "chosen")] if choice else []
    return [column for column in columns if any(row.get(column.key) is not None for row in rows)]


def scores_of(contest: Contest, cell: Cell, *prefixes: str) -> dict[str, Any] | None:
    """A finished cell's metrics, in which what it is compared by is there and finite; None where it is not finished."""
    metrics = cell.metrics()
    wanted = record({prefix + name: number() for prefix in prefixes for name in contest.compared}, others=score)
    return None if metrics is None else check(f"metrics.json of {cell.name}", metrics, wanted)


def choose_runs(contest: Contest, cells: Sequence[Cell], select: str) -> dict[str, str]:
    """Name of the best run of each data set, by the set that chooses; none with ``last``."""
    if select == "last":
        return {}
    prefix = "validation_" if select == "validation" else contest.test_prefix
    chosen = {}
    for dataset in dict.fromkeys(cell.dataset for cell in cells):
        own = [cell for cell in cells if cell.dataset == dataset]
        ranked = [(contest.rank(metrics, prefix), cell.name) for cell in own if (metrics := scores_of(contest, cell, prefix))]
        if ranked:
            chosen[dataset] = min(ranked, key=lambda entry: entry[0])[1]
    return chosen


def sentences(contest: Contest, cells: Sequence[Cell], chosen: Mapping[str, str], select: str) -> list[str]:
    """The choice in words."""
    lines = []
    for cell in cells:
        prefixes = (contest.test_prefix, *["validation_"] * (select == "validation"))
        if chosen.get(cell.dataset) == cell.name and (metrics := scores_of(contest, cell, *prefixes)):
            by = f"on {', '.join(cell.held_out)}, which did not train: {contest.told(metrics, 'validation_')}; " if select == "validation" else ""
            lines.append(f"{cell.dataset}: chosen {cell.name}; {by}test set: {contest.told(metrics, contest.test_prefix)}")
    if chosen and select == "test":
        lines.append("chosen on the test set, as in the thesis: its scores are not those of unseen data")
    return lines
