"""Grids of training runs: every cell is the command one would type, ``python main.py --loss l1 --hidden-size 128 ...``.

A grid makes the commands from lists of settings, runs those that are not finished side by side, and writes one table.
What a cell trains is known to its script alone; here it is words, a run folder and the scores in it.
"""

from __future__ import annotations

import argparse
import copy
import math
import os
import shlex
from argparse import Namespace
from collections.abc import Mapping, Sequence
from dataclasses import MISSING, dataclass, fields
from itertools import product
from pathlib import Path
from typing import Any

from face4d.commands import cli
from face4d.commands.data_flags import data_source
from face4d.commands.training_flags import configure, training_split
from face4d.datasets.entry import DATASETS, OWN
from face4d.datasets.layout import last_fifth
from face4d.datasets.own import find_dataset
from face4d.datasets.source import DataSource
from face4d.errors import InputError
from face4d.evaluation.choice import Contest, choose_runs, sentences
from face4d.evaluation.tables import Column, Row, filled, text_table, write_table
from face4d.runtime.atomic import write_json
from face4d.runtime.config import TrainingConfig
from face4d.runtime.environment import REPOSITORY, typed_python, typed_script
from face4d.runtime.fields import (
    METRICS,
    Check,
    check,
    described,
    list_of,
    mapping,
    plain,
    read_json,
    record,
    shown,
    text,
)
from face4d.runtime.files import require_name
from face4d.runtime.lock import sole_writer
from face4d.runtime.parallel import cluster
from face4d.runtime.programs import Lease, Program, run_side_by_side
from face4d.runtime.run_folder import RunFolder

Grid = Mapping[str, Sequence[Any]]
Settings = dict[str, Any]

THESIS = "thesis"
MOST_CELLS = 1000  # of a grid of one's own
PROCESSES_PER_GPU = 4
_OF_THE_THESIS = [name for name, entry in DATASETS.items() if entry.thesis_name]
# Flags that a cell has otherwise, or not at all.
_PLACES = {"grid", "run", "models", "runs", "resume", "overwrite", "select"}
_OF_GRIDS = _PLACES | {"workers", "backend", "scheduler", "threads", "dry_run", "quiet"}


@dataclass(frozen=True)
class Script:
    """A training script, as far as a grid has to know it.

    Attributes:
        path: from the top of the repository, ``main.py``.
        kind: what it trains, in the plural.
        presets: configurations by ``--preset``.
        thesis: what ``--grid thesis`` varies, by data set.
        contest: what runs are compared by.
        cost: the setting by which a run takes longer.
    """

    path: str
    kind: str
    presets: Mapping[str, TrainingConfig]
    thesis: Mapping[str, Grid]
    contest: Contest
    cost: str = "hidden_size"


@dataclass(frozen=True)
class Cell:
    """One run of a grid.

    Attributes:
        name: of its files.
        dataset: its data set.
        settings: what the grid varies, as configured.
        script: path of its script from the top of the repository.
        words: of its command, after the script.
        config: its whole configuration.
        held_out: training subjects that do not train.
        models, runs: folders of the grid's checkpoints and records.
    """

    name: str
    dataset: str
    settings: Settings
    script: str
    words: tuple[str, ...]
    config: TrainingConfig
    held_out: tuple[str, ...]
    models: Path
    runs: Path

    @property
    def folder(self) -> RunFolder:
        """Its record."""
        return RunFolder(self.runs / self.name)

    @property
    def command(self) -> str:
        """What one types to train it alone, or what is left of it."""
        return f"{typed_python()} {shlex.join([typed_script(self.script), *self.words])}"

    def progress(self) -> float:
        """Share 0..1 of its epochs that were trained."""
        return self.folder.last_epoch() / self.config.epochs

    def metrics(self) -> dict[str, Any] | None:
        """Its scores, None where it is not finished."""
        if not ((self.models / f"{self.name}.pt").is_file() and self.folder.metrics_path.is_file()):
            return None
        return read_json(self.folder.metrics_path, METRICS)

    def state(self) -> str:
        """``finished``, ``epoch 12 of 1200`` or ``new``."""
        if not self.folder.path.exists():
            return "new"
        return "finished" if self.metrics() is not None else f"epoch {self.folder.last_epoch()} of {self.config.epochs}"

    def discard(self) -> None:
        """Remove what an earlier run of this name has written."""
        self.folder.clear()
        checkpoints = (self.models / f"{self.name}{end}" for end in (".pt", ".last.pt"))
        for path in (*checkpoints, self.folder.path / "config.json"):
            path.unlink(missing_ok=True)

    def require_own(self, data_digest: str) -> None:
        """Refuse to go on in the folder of a run with another configuration or other data.

        A field that the record does not have is one that came later: the run was trained as its default says.

        Raises:
            InputError: naming the first difference.
        """
        path = self.folder.path / "config.json"
        if not path.is_file():
            return
        found = read_json(path, record({"config": mapping(plain), "data_digest": text}))
        defaults = {field.name: field.default for field in fields(self.config) if field.default is not MISSING}
        there = {**defaults, **found["config"], "data": found["data_digest"][:12]}
        for key, value in {**self.config.as_dict(), "data": data_digest[:12]}.items():
            if there.get(key) != value:
                expected = f"a run with {key} = {value} (another --run NAME, or --overwrite)"
                raise InputError(path, expected, f"{key} = {shown(there.get(key))}")


@dataclass(frozen=True)
class Request:
    """What a grid was asked for.

    Attributes:
        name: folder of its runs below ``models`` and ``runs``.
        preset: of all cells.
        select: ``last``, ``validation`` or ``test``: what chooses the run, and the weights of runs whose preset chooses
            any.
    """

    name: str
    preset: str
    select: str

    @classmethod
    def of(cls, args: Namespace, kind: str) -> Request:
        """What the flags ask for; ``generators_thesis_validation`` is the name of the thesis' grid.

        Raises:
            InputError: flags that do not go together.
        """
        if int(os.environ.get("WORLD_SIZE", "1")) > 1:
            raise InputError("--grid", "one process (--workers N trains runs side by side)", "torchrun")
        preset = args.preset or (THESIS if args.grid == THESIS else "default")
        select = args.select or "validation"
        if args.validation_subjects and select != "validation":
            raise InputError("--validation-subjects", "--select validation", f"--select {select}")
        name = args.run or "_".join(dict.fromkeys((kind, Path(args.grid).stem, preset, select)))
        return cls(require_name("--run", "a name of a grid's folder,", name), preset, select)


def run(parser: cli.Parser, args: Namespace, script: Script) -> None:
    """What ``--grid`` does: train the cells that are not finished, write and print the table, tell which run is chosen.

    Raises:
        InputError: bad flags, data or settings; at the end, the first cell that could not be trained.
        KeyboardInterrupt: after Ctrl-C; the same command goes on.
    """
    asked = Request.of(args, script.kind)
    datasets, missing = present_datasets(args)
    cells = [cell for dataset in datasets for cell in cells_of(parser, args, script, asked, dataset)]
    done = {cell.name for cell in cells if cell.metrics() is not None and not args.overwrite}
    held_out = {cell.dataset: list(cell.held_out) for cell in cells}
    if not args.quiet:
        print(f"{len(cells)} {script.kind} of {' and '.join(datasets)}, preset {asked.preset}, {len(done)} finished")
        for left_out in missing:
            print(f"left out, no landmark folder: {left_out}")
        if any(held_out.values()):
            print("; ".join(f"{dataset}: held out {', '.join(subjects)}" for dataset, subjects in held_out.items()))
    if args.dry_run:
        states = [{"run": cell.name, "state": "new" if args.overwrite else cell.state()} for cell in cells]
        print(text_table([Column("run", "run"), Column("state", "state")], states))
        print("\n".join(cell.command for cell in cells))
        return
    models, runs = cells[0].models, cells[0].runs
    with sole_writer(runs), sole_writer(models):
        if args.overwrite:
            for cell in cells:
                cell.discard()
        left = [cell for cell in cells if cell.name not in done]
        left.sort(
            key=lambda cell: -getattr(cell.config, script.cost)
        )  # the longest first: none is left alone at the end
        problems = train(args, script.kind, left, len(done))

        rows = [row_of(cell, problems.get(cell.name)) for cell in cells]
        chosen = choose_runs(script.contest, cells, asked.select)
        for row in rows:
            row["chosen"] = "yes" if row["run"] in chosen.values() else None
        columns = table_columns(script.contest, cells, rows)
        written = []
        for dataset in datasets:  # best values are bold: only what saw the same data competes
            own = [row for row in rows if row["dataset"] == dataset]
            written += write_table(runs / f"grid_{dataset}", columns, own)
        what = {"kind": script.kind, "grid": args.grid, "preset": asked.preset, "select": asked.select}
        write_json(runs / "grid.json", {**what, "chosen": chosen, "held_out": held_out, "runs": rows})
        print(text_table(columns, rows))
        winners = [cell for cell in cells if cell.name in chosen.values()]
        for sentence in sentences(script.contest, winners, held_out, asked.select):
            print(sentence)
        cli.report_written([models], kept=len(done) == len(cells))
        cli.report_written([runs, *written])
        for failed, problem in problems.items():
            raise InputError(runs / failed, "a run that ends well", problem)


def row_of(cell: Cell, problem: str | None = None) -> dict[str, Any]:
    """A cell's row of the table."""
    metrics = cell.metrics() if problem is None else None
    scores = metrics or {"problem": problem or "unfinished"}
    return {"run": cell.name, "dataset": cell.dataset, **cell.settings, **scores, "command": cell.command}


def table_columns(contest: Contest, cells: Sequence[Cell], rows: Sequence[Row]) -> list[Column]:
    """Columns of a grid's table that have a value: what it varies, the scores, time, the command of each run."""
    settings = dict.fromkeys(key for cell in cells for key in cell.settings)
    columns = [
        Column("dataset", "data"),
        *(Column(key, contest.titles.get(key, key.replace("_", " "))) for key in settings),
    ]
    columns += [
        *contest.columns,
        Column("epoch", "epoch"),
        Column("seconds", "time (s)", ".0f"),
        Column("problem", "problem"),
    ]
    return filled([*columns, Column("chosen", "chosen"), Column("command", "command", long=True)], rows)


# Cells


def expand(grids: Sequence[Grid]) -> list[Settings]:
    """All combinations of the lists of each grid, the last list running fastest; a combination met before is left out.

    >>> expand([{"loss": ["l1", "l2"], "hidden_size": [128]}])
    [{'loss': 'l1', 'hidden_size': 128}, {'loss': 'l2', 'hidden_size': 128}]
    """
    cells: dict[frozenset[tuple[str, Any]], Settings] = {}
    for grid in grids:
        for values in product(*grid.values()):
            cells.setdefault(frozenset(zip(grid, values)), dict(zip(grid, values)))
    return list(cells.values())


def read_grid(path: str | Path, allowed: Mapping[str, Check]) -> list[Grid]:
    """Read a grid of one's own: a JSON object of lists by flag name (``{"loss": ["l1", "l2"], "hidden-size": [128]}``),
    or a list of such.

    Args:
        allowed: what values each setting takes, by its name with underscores; the file may spell names with dashes.

    Raises:
        InputError: another content, a name that is not allowed, a value that its flag does not take, or more than 1000
            combinations.
    """
    content = read_json(path)
    grids: list[Grid] = []
    for grid in content if isinstance(content, list) else [content]:
        if not isinstance(grid, dict) or not grid:
            raise InputError(
                path, 'a JSON object of lists by flag name, {"loss": ["l1", "l2"]}, or a list of such', shown(grid)
            )
        for name, values in grid.items():
            if name.replace("-", "_") not in allowed:
                raise InputError(path, f"flags among {', '.join(allowed)}", name[:60])
            if not isinstance(values, list) or not values:
                raise InputError(path, f"a list of values of {name}", shown(values))
        settings = {name.replace("-", "_"): values for name, values in grid.items()}
        if len(settings) < len(grid):
            raise InputError(path, "every flag once", f"two spellings of one: {', '.join(grid)}")
        grids.append({name: check(path, values, list_of(allowed[name]), name) for name, values in settings.items()})
    if not grids:
        raise InputError(path, "at least one grid", "an empty list")
    count = sum(math.prod(map(len, grid.values())) for grid in grids)
    if count > MOST_CELLS:
        raise InputError(path, f"a grid of at most {MOST_CELLS} runs", f"{count} combinations")
    return grids


def present_datasets(args: Namespace) -> tuple[list[str], list[str]]:
    """Data sets of a grid: that of ``--dataset``, or those of the thesis whose landmark folders exist; and those that
    are missing.

    Raises:
        InputError: none exists, or flags that fit one data set only.
    """
    if args.dataset or args.landmarks:
        return [args.dataset or OWN], []
    for flag, given in (("--actors", args.actors), ("--test-subjects", args.test_subjects)):
        if given:
            raise InputError(flag, "--dataset with it", "a grid over all data sets")
    places = {name: DATASETS[name].landmarks for name in _OF_THE_THESIS}
    found = [name for name, place in places.items() if place is not None and place.is_dir()]
    missing = [f"{name} ({DATASETS[name].landmarks})" for name in _OF_THE_THESIS if name not in found]
    if not found:
        raise InputError(
            "--grid",
            "a landmark folder of step 3",
            f"none of {', '.join(missing)} (--dataset and --landmarks name another)",
        )
    return found, missing


def settings_of(args: Namespace, script: Script, dataset: str, preset: str) -> list[Settings]:
    """What the cells of a data set vary, as ``--grid`` says.

    The default preset has a learning rate schedule of its own, so with it the thesis' grid varies no learning rate.

    Raises:
        InputError: a bad grid file, or a flag that the grid varies.
    """
    if args.grid == THESIS:
        varied = script.thesis[find_dataset(dataset).grid]
        grids: Sequence[Grid] = [{key: varied[key] for key in varied if key != "lr" or preset == THESIS}]
    else:
        kind: type = type(script.presets[preset])
        allowed = described(kind)
        names = sorted(allowed.keys() & vars(args).keys() - {"select"})
        grids = read_grid(args.grid, {name: allowed[name] for name in names})
    for name in (name for grid in grids for name in grid):
        if name != "seed" and getattr(args, name) is not None:
            expected = f"no such flag with --grid {args.grid}, which varies it"
            raise InputError(f"--{name.replace('_', '-')}", expected, str(getattr(args, name)))
    return expand(grids)


def cells_of(parser: cli.Parser, args: Namespace, script: Script, asked: Request, dataset: str) -> list[Cell]:
    """The cells of a data set, checked: what is on disk under their names belongs to them.

    Raises:
        InputError: bad data or settings, or another run under the name of a cell (without ``--overwrite``).
    """
    preset, entry = script.presets[asked.preset], find_dataset(dataset)
    models, runs = (args.models or entry.models) / asked.name, (args.runs or entry.runs) / asked.name
    given = {key: value for key, value in vars(args).items() if key not in _OF_GRIDS}
    given |= {"dataset": dataset, "preset": asked.preset, "resume": True, "quiet": True}
    given["threads"] = args.threads or (None if args.workers == 1 else 1)
    # A preset that chooses no weights chooses none in a grid.
    given["select"] = "last" if preset.select == "last" else asked.select
    source = data_source(parser.parse_args(parser.words(given)))
    held_out = held_out_subjects(args.validation_subjects, source) if asked.select == "validation" else ()
    given["validation_subjects"] = held_out
    data_digest = training_split(source, held_out).digest()
    cells: dict[str, Cell] = {}
    for wanted in settings_of(args, script, dataset, asked.preset):
        config = configure(parsed(parser, {**given, **wanted}, args.grid), preset)
        settings = {key: getattr(config, key) for key in wanted}
        unnamed = [key for key in settings if f"{{{key}" not in config.name_format]
        name = "_".join([config.run_name(dataset, asked.preset), *(f"{key}_{settings[key]}" for key in unnamed)])
        places = {"run": name, "models": models, "runs": runs}
        words = tuple(parser.words({**given, **settings, **places}))
        cell = Cell(name, dataset, settings, script.path, words, config, held_out, models, runs)
        if not args.overwrite:
            cell.require_own(data_digest)
        cells.setdefault(name, cell)
    return list(cells.values())


def parsed(parser: cli.Parser, values: Mapping[str, Any], grid: str) -> Namespace:
    """A cell's flags, checked as typed ones are.

    Raises:
        InputError: a value that its flag does not take.
    """
    parser = copy.copy(parser)
    parser.exit_on_error = False
    try:
        return parser.parse_args(parser.words(values))
    except argparse.ArgumentError as error:
        raise InputError(grid, "values that their flags take", str(error)) from None


def held_out_subjects(wanted: Sequence[str], source: DataSource) -> tuple[str, ...]:
    """Training subjects that choose: the wanted ones, else the last fifth of the sorted ones, at least one."""
    if wanted:
        return tuple(wanted)
    return last_fifth(sequence.subject for sequence in source.load().train)


def train(args: Namespace, kind: str, cells: Sequence[Cell], finished: int) -> dict[str, str]:
    """Train cells side by side; returns the one-line errors by run."""
    if not cells:
        return {}
    gpus, workers = visible_gpus(args.device), args.workers
    if gpus and workers is None and args.scheduler is None:
        workers = PROCESSES_PER_GPU * len(gpus)
    seen = [{"CUDA_VISIBLE_DEVICES": gpus[number % len(gpus)]} if gpus else {} for number in range(len(cells))]
    programs = [
        Program((str(REPOSITORY / cell.script), *cell.words), gpu) for cell, gpu in zip(cells, seen, strict=True)
    ]
    with cluster(args.backend, args.scheduler, workers) as number_of:
        problems = run_side_by_side(
            programs,
            Lease(cells[0].runs / "running"),
            workers=number_of,
            progress=lambda number: cells[number].progress(),
            description=kind,
            finished=finished,
            quiet=args.quiet,
        )
    return {cell.name: problem for cell, problem in zip(cells, problems, strict=True) if problem is not None}


def visible_gpus(device: str) -> list[str]:
    """Names of the GPUs that ``--device`` may use, as ``CUDA_VISIBLE_DEVICES`` spells them; none for the CPU.

    Raises:
        InputError: ``cuda`` was asked for and is not usable.
    """
    import torch

    from face4d.runtime.device import resolve_device

    if resolve_device(device).type != "cuda":
        return []
    named = [name for name in os.environ.get("CUDA_VISIBLE_DEVICES", "").split(",") if name]
    return named or [str(number) for number in range(torch.cuda.device_count())]
