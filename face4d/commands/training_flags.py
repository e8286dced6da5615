"""Flags of training runs, shared by the scripts that train, and what they make of them: a configuration, data, a place
to write.
"""

from __future__ import annotations

import argparse
from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from pathlib import Path
from typing import TYPE_CHECKING, Any, Generic

from face4d.commands import cli
from face4d.commands.data_flags import data_source
from face4d.datasets.entry import OWN
from face4d.datasets.layout import choose
from face4d.datasets.own import find_dataset
from face4d.datasets.source import DataSource
from face4d.errors import InputError
from face4d.runtime import fields as field
from face4d.runtime.config import Config, TrainingConfig
from face4d.runtime.fields import Integer, Number, OneOf, described

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    import torch

    from face4d.datasets.landmark_set import LandmarkSplit
    from face4d.runtime.run_folder import Run


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


def add_setting_flags(group: argparse._ArgumentGroup, presets: Mapping[str, TrainingConfig], *names: str) -> None:
    """Add a flag for every setting of a configuration (:func:`face4d.runtime.config.setting`) that has none yet.

    Args:
        presets: by name, the first one the default: the help of a flag ends with its value, and those of others that
            use the setting and differ.
        names: only these settings.
    """
    first = next(iter(presets.values()))
    kind: type = type(first)
    checks, there = described(kind), {action.dest: action for action in group._actions}
    for key in fields(first):
        if "help" not in key.metadata or (names and key.name not in names):
            continue
        check = checks[key.name]
        if key.name in there:  # of another configuration: the flag takes what either takes
            if isinstance(check, OneOf):
                there[key.name].choices = list(dict.fromkeys((*(there[key.name].choices or ()), *check.values)))
            continue
        users = {name: preset for name, preset in presets.items() if hasattr(preset, key.name)}
        if key.name not in first.unused():  # else its value is of no use, unless another flag is given too
            users = {name: preset for name, preset in users.items() if key.name not in preset.unused()}
        default, *others = ((name, _shown(getattr(preset, key.name))) for name, preset in users.items())
        differing = [f"{name}: {value}" for name, value in others if value != default[1]]
        defaults = "; ".join([f"default: {default[1]}", *differing]) if default[1] != "None" else ""
        help = (key.metadata["help"] + (f" ({defaults})" if defaults else "")).replace("%", "%%")
        flag, *former = (
            f"--{name.replace('_', '-')}" for name in (key.name, key.metadata["former"]) if name is not None
        )
        if isinstance(check, OneOf):
            group.add_argument(flag, *former, choices=list(check.values), help=help)
        elif isinstance(check, Integer):
            group.add_argument(
                flag, *former, type=cli.integer(check.low, check.high), metavar=key.metadata["metavar"], help=help
            )
        elif isinstance(check, Number):
            number = cli.number(check.low, check.high, above=check.above)
            group.add_argument(flag, *former, type=number, metavar=key.metadata["metavar"], help=help)
        elif check is field.flag:
            cli.add_switch(group, flag.removeprefix("--"), None, help)
        else:
            group.add_argument(flag, *former, metavar=key.metadata["metavar"], help=help)


def _shown(value: object) -> str:
    if isinstance(value, bool):
        return "yes" if value else "no"
    return f"{value:g}" if isinstance(value, float) else str(value)


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


def configure(args: Namespace, preset: Config, *others: TrainingConfig) -> Config:
    """The preset with the flags that were given.

    Args:
        others: configurations of the script's other models, whose flags do not fit this one.

    Raises:
        InputError: see :func:`refuse_ignored`; values that do not fit each other; weights to be chosen on held-out
            subjects, and none named.
    """
    settings = {name: getattr(args, name, None) for name in ("seed", *setting_names(preset))}
    held_out = getattr(args, "validation_subjects", ())
    if held_out and settings["select"] is None:
        settings["select"] = "validation"
    config = preset.with_settings(settings)
    refuse_ignored(args, [config], others)
    if config.select == "validation" and not held_out:
        raise InputError("--select validation", "--validation-subjects", "none")
    return config


def setting_names(config: TrainingConfig) -> list[str]:
    """Names of the settings of a configuration, each a flag."""
    return [key.name for key in fields(config) if "help" in key.metadata]


def refuse_ignored(args: Namespace, chosen: Sequence[TrainingConfig], others: Sequence[TrainingConfig] = ()) -> None:
    """Refuse flags that none of the chosen configurations uses.

    Args:
        others: that were not chosen.

    Raises:
        InputError: naming the flag, and what would use it.
    """
    wanted = {name: f"--{config.chosen_by}" for config in others for name in setting_names(config)}
    for config in chosen:
        wanted |= config.unused()
    used = {name for config in chosen for name in setting_names(config) if name not in config.unused()}
    for name, use in wanted.items():
        if name not in used and (value := getattr(args, name, None)) is not None:
            raise InputError(f"--{name.replace('_', '-')}", f"{use} with it", str(value))


def training_run(args: Namespace, name: str, device: torch.device, dataset: str = OWN) -> Run:
    """The run of a name that the flags of :func:`add_output_flags` describe; folders that they leave open are those of
    the data set.

    Raises:
        InputError: a run that is to go on and to begin anew.
    """
    from face4d.runtime.run_folder import Run

    if args.resume and args.overwrite:
        raise InputError("--overwrite", "it or --resume: a run begins anew or goes on", "both")
    defaults = find_dataset(dataset)
    how = {flag: getattr(args, flag) for flag in ("resume", "overwrite", "checkpoint_seconds", "quiet")}
    return Run(name, args.models or defaults.models, args.runs or defaults.runs, device, **how)


@dataclass(frozen=True)
class Plan(Generic[Config]):
    """What a training script was asked for.

    Attributes:
        config: network and training.
        source: where the data is.
        split: training, held-out and test sequences.
        run: where it is written.
        finished_at: when an earlier run of the name was finished (:attr:`face4d.runtime.run_folder.Run.finished_at`).
    """

    config: Config
    source: DataSource
    split: LandmarkSplit
    run: Run
    finished_at: int | None


@contextmanager
def planned(args: Namespace, presets: Mapping[str, Config], *others: TrainingConfig) -> Iterator[Plan[Config]]:
    """What the flags ask for, its data read, its run held for this command, the plan printed; by one or several
    processes.

    Args:
        presets: by ``--preset``.
        others: see :func:`configure`.

    Raises:
        InputError: also for flags that only a grid understands.
    """
    from face4d.runtime import distributed
    from face4d.runtime.device import keep_freed_memory, limit_threads, resolve_device
    from face4d.runtime.run_folder import claimed

    keep_freed_memory()
    preset = args.preset or "default"
    distributed.init_from_environment()
    with ExitStack() as held:
        with distributed.agreement():
            for flag, given in (
                ("--workers", args.workers),
                ("--scheduler", args.scheduler),
                ("--backend", args.backend != "loky"),
            ):
                if given:
                    raise InputError(flag, "--grid with it (one run over several processes: torchrun)", "no --grid")
            if preset not in presets:
                model = presets["default"].chosen_by
                raise InputError("--preset", f"{' or '.join(presets)} with --{model}", preset)
            config = configure(args, presets[preset], *others)
            device = distributed.local_device(resolve_device(args.device))
            limit_threads(args.threads, small=config.small)
            source = data_source(args)
            split = training_split(source, args.validation_subjects)
            run = training_run(args, args.run or config.run_name(source.dataset, preset), device, source.dataset)
            plan = Plan(config, source, split, run, run.finished_at)
            if not args.dry_run:
                held.enter_context(claimed(run))
        sentence = f"{run.name}: {split.describe()}, {config.epochs} epochs on {distributed.describe(device)}"
        if distributed.is_main() and args.dry_run:
            print(f"would train {sentence}\n{config}")
        elif distributed.is_main() and not args.quiet:
            print(sentence)
        yield plan
    distributed.leave()


def training_split(source: DataSource, held_out: Sequence[str]) -> LandmarkSplit:
    """The data, with the sequences of some training subjects held out."""
    from face4d.datasets.landmark_set import hold_out

    split = source.load()
    subjects = {sequence.subject for sequence in split.train}
    return hold_out(split, choose(held_out, subjects, "training subjects", source.landmarks))


def report(args: Namespace, plan: Plan[Any], summary: str, *following: object) -> None:
    """Print the end of a training script: scores, paths, the next command. Of several processes the first prints.

    Args:
        summary: the scores as a sentence.
        following: script and further words of the command that uses the checkpoint.
    """
    from face4d.runtime import distributed

    if not distributed.is_main():
        return
    print(summary)
    if plan.config.select == "test":
        print("the weights were chosen on the test set, as in the thesis: its scores are not those of unseen data")
    report_runs({plan.run: plan.finished_at})
    cli.suggest_next(args, *map(str, following))


def report_runs(before: Mapping[Run, int | None]) -> None:
    """Print the paths of training runs, a script's last lines: written, or kept where the run was finished already.

    Args:
        before: by run, its ``finished_at`` before it was carried out.
    """
    for run, finished_at in before.items():
        cli.report_written([run.checkpoint, run.folder.path], kept=run.finished_at == finished_at)


def newest_generated(dataset: str) -> Path:
    """The test set generated last with a data set's default folders; where there is none, the folder that its usual
    generator would write.
    """
    folder = find_dataset(dataset).generated
    found = [path for path in folder.glob("[!.]*") if path.is_dir() and not path.name.endswith(("_own", "_meshes"))]
    return max(found, key=lambda path: path.stat().st_mtime, default=folder / dataset)
