"""Command-line flags of training runs, shared by the scripts of steps 4 to 8."""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any

from face4d.commands import cli
from face4d.commands.data_flags import data_source
from face4d.datasets.layout import choose
from face4d.datasets.own import find_dataset
from face4d.datasets.source import DataSource
from face4d.errors import InputError
from face4d.runtime.atomic import remove_leftovers
from face4d.runtime.files import require_name
from face4d.runtime.lock import sole_writer

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    import torch

    from face4d.datasets.landmark_set import LandmarkSplit
    from face4d.runtime.config import Config
    from face4d.runtime.training import Run


def add_preset_flags(group: argparse._ArgumentGroup, *, thesis: str, others: Sequence[str] = ()) -> None:
    """Add ``--preset`` and ``--grid``.

    Args:
        thesis: what the preset thesis is, for the help.
        others: further presets.
    """
    group.add_argument(
        "--preset",
        choices=("default", "thesis", *others),
        help=f"thesis = {thesis} (default: default, with --grid thesis: thesis)",
    )
    group.add_argument(
        "--grid",
        metavar="GRID",
        help="train a grid of runs side by side: thesis, or a JSON file of lists by flag; run again, it goes on",
    )


def tell_defaults(parser: ArgumentParser, presets: Mapping[str, Config]) -> None:
    """End the help of every flag that a preset decides with what it decides: the first preset's value, and those of
    others that differ.
    """
    for action in parser._actions:
        told = {
            name: _told(getattr(preset, action.dest))
            for name, preset in presets.items()
            if hasattr(preset, action.dest)
        }
        if told and action.default is None:
            first = next(iter(told.values()))
            differing = [f"{name}: {value}" for name, value in list(told.items())[1:] if value != first]
            action.help = f"{action.help} ({'; '.join([f'default: {first}', *differing])})"


def _told(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


def add_training_flags(group: argparse._ArgumentGroup) -> None:
    """Add the flags of :class:`face4d.runtime.config.TrainingConfig`; their defaults are the preset's."""
    group.add_argument(
        "--lr", type=cli.number(0, 10, above=True), help="learning rate of Adam; peak of a one-cycle schedule"
    )
    group.add_argument("--lr-schedule", choices=("constant", "one-cycle"), help="learning rate over all steps")
    group.add_argument("--epochs", type=cli.integer(1, 1_000_000), help="passes over the training sequences")
    group.add_argument("--batch-size", type=cli.integer(1, 65_536), metavar="B", help="sequences per batch")
    group.add_argument("--grad-clip", type=cli.number(0, 1e6), metavar="NORM", help="largest gradient norm, 0 = off")
    group.add_argument(
        "--select",
        choices=("last", "validation", "test"),
        help="weights kept, and in a grid (there: validation, if not told) the run chosen; "
        "test = best on the test set, as in the thesis",
    )
    group.add_argument(
        "--validate-every", type=cli.integer(1, 1_000_000), metavar="EPOCHS", help="epochs between validations"
    )
    group.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16"),
        help="of the products in training; tf32: on GPUs; docs/performance.md",
    )
    group.add_argument(
        "--patience",
        type=cli.integer(0, 1_000_000),
        metavar="N",
        help="stop after N validations without improvement, 0 = never",
    )


def add_output_flags(
    parser: ArgumentParser, *, run: str, seed: int = 27, checkpoint_seconds: float = 30.0, grid: bool = True
) -> None:
    """Add the flags that say where a training run is written.

    Args:
        run: how the default name of a run is made, for the help.
        seed, checkpoint_seconds: defaults of these flags.
        grid: the script trains grids of runs too.
    """
    group = parser.add_argument_group("output")
    group.add_argument("--run", metavar="NAME", help=f"default: {run}" + "; of a grid, the folder of its runs" * grid)
    group.add_argument("--models", type=Path, metavar="DIR", help="folder of checkpoints (default: models)")
    group.add_argument("--runs", type=Path, metavar="DIR", help="folder of run records (default: runs)")
    group.add_argument(
        "--resume", action="store_true", help="continue the run from its last checkpoint, if there is one"
    )
    group.add_argument(
        "--checkpoint-seconds",
        type=cli.number(0, 1e6),
        default=checkpoint_seconds,
        metavar="S",
        help="time between last checkpoints, 0 = every epoch",
    )
    grid_flags = ("workers", "backend") if grid else ()
    cli.add_run_flags(parser, "seed", "device", "threads", *grid_flags, "overwrite", "dry-run", "quiet", seed=seed)


@dataclass(frozen=True)
class TrainingTask:
    """What a training script trains.

    Attributes:
        kind: ``generators`` or ``classifiers``.
        presets: configurations by ``--preset``.
        train: :func:`face4d.generation.train.train` or :func:`face4d.classification.train.train`.
        run_name: name of a run by data set, preset and configuration.
        one_thread_up_to: hidden size up to which one CPU thread is the fastest.
        summary: the sentence about the metrics.
        thesis_grids: what ``--grid thesis`` varies, by data set.
        following: script and further words of the command that uses a checkpoint (path, data set).
    """

    kind: str
    presets: Mapping[str, Config]
    train: Callable[..., dict[str, Any]]
    run_name: Callable[[str, str, Config], str]
    one_thread_up_to: int
    summary: Callable[[dict[str, Any]], str]
    thesis_grids: Mapping[str, Mapping[str, Sequence[Any]]]
    following: Callable[[Path, str], Sequence[str]]


def run_training(args: Namespace, task: TrainingTask) -> None:
    """What both training scripts do with their flags: data, places, training, and what is told at the end; by one or
    several processes.

    Raises:
        InputError: also for flags that only a grid understands.
    """
    from face4d.runtime import distributed
    from face4d.runtime.device import keep_freed_memory, limit_threads, resolve_device

    keep_freed_memory()
    preset = args.preset or "default"
    distributed.init_from_environment()
    with ExitStack() as held, distributed.agreement():
        for flag, given in (
            ("--workers", args.workers),
            ("--scheduler", args.scheduler),
            ("--backend", args.backend != "loky"),
        ):
            if given:
                raise InputError(flag, "--grid with it (one run over several processes: torchrun)", "no --grid")
        config = training_config(args, task.presets[preset])
        device = distributed.local_device(resolve_device(args.device))
        limit_threads(args.threads, small=config.hidden_size <= task.one_thread_up_to)
        source = data_source(args)
        split = training_split(source, args.validation_subjects)
        run = training_run(args, args.run or task.run_name(source.dataset, preset, config), device, source.dataset)
        held.enter_context(claimed(args, run))
        claim = held.pop_all()  # beyond the agreement
    plan = f"{run.name}: {split.describe()}, {config.epochs} epochs on {distributed.describe(device)}"
    if distributed.is_main() and args.dry_run:
        print(f"would train {plan}\n{config}")
    elif distributed.is_main() and not args.quiet:
        print(plan)
    with claim:
        if not args.dry_run:
            before = {run: run.finished_at}
            metrics = task.train(split, config, run)
            if distributed.is_main():
                print(task.summary(metrics))
                if config.select == "test":
                    print(
                        "the weights were chosen on the test set, as in the thesis: "
                        "its scores are not those of unseen data"
                    )
                report_runs(before)
                cli.suggest_next(args, *task.following(run.checkpoint, source.dataset))
    distributed.leave()


def newest_generated(dataset: str) -> Path:
    """The test set generated last with a data set's default folders; where there is none, the folder that its usual
    generator would write.
    """
    folder = find_dataset(dataset).generated
    found = [path for path in folder.glob("[!.]*") if path.is_dir() and not path.name.endswith(("_own", "_meshes"))]
    return max(found, key=lambda path: path.stat().st_mtime, default=folder / dataset)


def training_config(args: Namespace, preset: Config) -> Config:
    """The preset with the flags that were given.

    Raises:
        InputError: weights to be chosen on held-out subjects, and none named.
    """
    flags = {field.name: getattr(args, field.name, None) for field in fields(preset)}
    if args.validation_subjects and args.select is None:
        flags["select"] = "validation"
    config = preset.with_flags(flags)
    if config.select == "validation" and not args.validation_subjects:
        raise InputError("--select validation", "--validation-subjects", "none")
    return config


def training_split(source: DataSource, held_out: Sequence[str]) -> LandmarkSplit:
    """The data, with the sequences of some training subjects held out."""
    from face4d.datasets.landmark_set import hold_out

    split = source.load()
    subjects = {sequence.subject for sequence in split.train}
    return hold_out(split, choose(held_out, subjects, "training subjects", source.landmarks))


def training_run(args: Namespace, name: str, device: torch.device, dataset: str = "florence") -> Run:
    """The run of a name that the flags of :func:`add_output_flags` describe; folders that they leave open are those of
    the data set.
    """
    from face4d.runtime.training import Run

    require_name("--run", "the name of a run", name)
    defaults = find_dataset(dataset)
    how = {flag: getattr(args, flag) for flag in ("resume", "checkpoint_seconds", "quiet")}
    return Run(name, args.models or defaults.models, args.runs or defaults.runs, device, **how)


@contextmanager
def claimed(args: Namespace, *runs: Run) -> Iterator[None]:
    """Hold training runs for this command alone; of several processes the first does. With ``--overwrite`` an earlier
    run begins anew.

    Raises:
        InputError: another command trains one of them, or one exists and neither ``--resume`` nor ``--overwrite`` is
            given.
    """
    from face4d.runtime import distributed

    if args.dry_run or not distributed.is_main():
        yield
        return
    with ExitStack() as held:
        for run in runs:
            goes_on = f"with --resume it goes on from {run.last}"
            for path in (run.checkpoint, run.folder.path):
                held.enter_context(sole_writer(path.parent, path.name.removesuffix(".pt"), goes_on=goes_on))
            remove_leftovers(run.folder.path)
        for path in (path for run in runs for path in (run.checkpoint, run.last, run.folder.path)):
            if path.exists() and not (args.resume or args.overwrite):
                choice = "--resume goes on where it was stopped, --run NAME trains another, --overwrite begins anew"
                raise InputError(path, "no run of that name", f"one ({choice})")
        for run in runs if not args.resume else ():
            run.folder.clear()
            run.last.unlink(missing_ok=True)  # else --resume would go on with the earlier run
        yield


def report_runs(before: Mapping[Run, int | None]) -> None:
    """Print the paths of training runs, a script's last lines: written, or kept where the run was finished already.

    Args:
        before: by run, its ``finished_at`` before it was carried out.
    """
    for run, finished_at in before.items():
        cli.report_written([run.checkpoint, run.folder.path], kept=run.finished_at == finished_at)
