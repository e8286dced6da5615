"""Step 4: train a generator on landmark sequences: the LSTMCell generator or, with more than one answer to a label,
Motion3DGAN.

    python main.py --dataset demo
    python main.py --dataset florence --landmarks Landmark_dataset_flame_aligned
    python main.py --dataset florence --loss l1
    python main.py --dataset coma --preset thesis --loss l2 --lr 1e-5 --hidden-size 2048
    python main.py --dataset coma --preset thesis --resume        # goes on where a run was stopped
    python main.py --model motion3dgan --dataset florence         # docs/motion3dgan.md
    python main.py --model motion3dgan --landmarks motion3dgan_samples     # <label>.mat with SRVF curves
    python main.py --model motion3dgan --preset published --width 0.0625
    torchrun --nproc-per-node 8 -- main.py --dataset florence --preset thesis  # a run over 8 processes; docs/scaling.md
    python main.py --grid thesis --workers 4  # the thesis' 40 runs, 4 at a time; run again, it goes on
    python main.py --grid thesis --preset default --dataset florence --select last
    python main.py --grid mine.json --dataset florence            # {"loss": ["l1", "l2"], "hidden-size": [128, 256]}
    tensorboard --logdir runs

Writes models/<run>.pt (the weights kept), models/<run>.last.pt (to continue) and runs/<run>/ (config.json,
metrics.json, curves.csv, TensorBoard curves). A grid writes the same into models/<grid>/ and runs/<grid>/, and a table
of its runs. docs/training.md lists and compares the presets, docs/figures.md explains grids.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Mapping, Sequence
from dataclasses import fields
from typing import TYPE_CHECKING

from face4d.commands import cli, data_flags
from face4d.datasets import flags
from face4d.errors import InputError

if TYPE_CHECKING:
    from face4d.runtime.config import Config

RUN_NAME = "{dataset}_{preset}_{loss}_{lr:g}_{hidden_size}"
NETWORKS = {"lstm": ("coefficients", "thesis"), "motion3dgan": ("coefficients", "convolution")}


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    data_flags.add_data_flags(parser, training=True)
    training = parser.add_argument_group("training", "every flag defaults to the preset's value")
    training.add_argument("--model", choices=NETWORKS, default="lstm", help="default: lstm")
    flags.add_preset_flags(
        training, thesis="the thesis' network and schedule exactly, published = Motion3DGAN's", others=("published",)
    )
    training.add_argument(
        "--network",
        choices=sorted({name for names in NETWORKS.values() for name in names}),
        help="lstm feeds back coefficients or coordinates (thesis), "
        "motion3dgan makes coefficients or maps (convolution)",
    )
    training.add_argument("--loss", choices=("l1", "l2"), help="distance to the real motion")
    training.add_argument(
        "--hidden-size",
        type=cli.integer(1, 8192),
        metavar="H",
        help="width of the network; in the thesis' grid 128 to 2048",
    )
    training.add_argument("--components", type=cli.integer(1, 10_000), metavar="K", help="principal coefficients")
    training.add_argument(
        "--start-frames", choices=("first", "every"), help="generate from frame 0, or one step from each frame"
    )
    training.add_argument("--warps", type=cli.integer(0, 1000), metavar="M", help="time warps per sequence, 0 = none")
    add_motion3dgan_flags(parser)
    flags.add_training_flags(training)
    flags.add_output_flags(parser, run="<dataset>_<preset>_<loss>_<lr>_<hidden size>")
    flags.tell_defaults(parser, all_presets())
    return parser


def all_presets() -> dict[str, Config]:
    """The presets of both models by the flag that picks them, for the help."""
    from face4d.generation import config as lstm
    from face4d.generation.motion3dgan import config as motion3dgan

    return {
        **lstm.PRESETS,
        "motion3dgan": motion3dgan.PRESETS["default"],
        "published": motion3dgan.PRESETS["published"],
    }


def add_motion3dgan_flags(parser: ArgumentParser) -> None:
    """Add the flags of ``--model motion3dgan`` alone."""
    group = parser.add_argument_group("motion3dgan", "every flag defaults to the preset's value")
    group.add_argument(
        "--width", type=cli.number(0, 16, above=True), metavar="X", help="factor on the channels of convolutions"
    )
    group.add_argument("--noise-size", type=cli.integer(1, 4096), metavar="Z", help="random numbers per motion")
    group.add_argument("--points", type=cli.integer(3, 10_000), metavar="N", help="velocities per motion")
    group.add_argument("--parameter", choices=("time", "arc-length"), help="what the points are equally spaced in")
    group.add_argument("--critic-steps", type=cli.integer(1, 1000), metavar="N", help="per generator step")
    group.add_argument("--critic-norm", choices=("layer", "batch", "none"), help="how the critic normalises")
    group.add_argument("--penalty", type=cli.number(0, 1e6), metavar="X", help="weight of the gradient penalty")
    group.add_argument(
        "--tangent-weight", type=cli.number(0, 1e6), metavar="X", help="of the L1 distance to a real motion"
    )
    group.add_argument("--geodesic-weight", type=cli.number(0, 1e6), metavar="X", help="of the angle to a real motion")
    group.add_argument(
        "--averaging", type=cli.number(0, 0.999999), metavar="X", help="decay of averaged weights, 0 = none"
    )
    group.add_argument(
        "--steps-per-epoch", type=cli.integer(1, 1_000_000), metavar="N", help="generator steps that count as an epoch"
    )


def require_own_flags(args: Namespace, presets: Mapping[str, object]) -> None:
    """Refuse a preset, a network or a flag that belongs to the other model.

    Raises:
        InputError: naming it.
    """
    preset = args.preset or "default"
    if preset not in presets:
        raise InputError("--preset", f"{' or '.join(presets)} with --model {args.model}", preset)
    if args.network and args.network not in NETWORKS[args.model]:
        raise InputError("--network", f"{' or '.join(NETWORKS[args.model])} with --model {args.model}", args.network)
    own = {field.name for field in fields(presets[preset])}
    of_models = ("loss", "start_frames", "width", "noise_size", "points", "parameter", "critic_steps", "critic_norm")
    for name in (*of_models, "penalty", "tangent_weight", "geodesic_weight", "averaging", "steps_per_epoch"):
        if getattr(args, name) is not None and name not in own:
            raise InputError(
                "--" + name.replace("_", "-"), f"only flags of --model {args.model}", str(getattr(args, name))
            )


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)

    task = motion3dgan_task() if args.model == "motion3dgan" else lstm_task()
    require_own_flags(args, task.presets)
    if args.grid and args.model != "lstm":
        raise InputError("--grid", "--model lstm with it", args.model)
    if args.grid:
        from face4d.commands import grid
        from face4d.evaluation.choice import GENERATORS
        from face4d.generation.config import PRESETS, THESIS_GRIDS

        grid.run(parser, args, grid.Script("main.py", "generators", PRESETS, THESIS_GRIDS, RUN_NAME, GENERATORS))
    else:
        flags.run_training(args, task)


def lstm_task() -> flags.TrainingTask:
    """The LSTMCell generators."""
    from face4d.generation.config import PRESETS, THESIS_GRIDS
    from face4d.generation.train import train

    return flags.TrainingTask(
        "generators",
        PRESETS,
        train,
        run_name=lambda dataset, preset, config: RUN_NAME.format(dataset=dataset, preset=preset, **config.as_dict()),
        one_thread_up_to=256,
        summary=lambda metrics: (
            f"test set: mse {metrics['mse']:.3g} m2, l1 {metrics['l1']:.4g} m, "
            f"{metrics['mm']:.3f} mm (std {metrics['mm_std']:.3f}); "
            f"weights of epoch {metrics['epoch']}, {metrics['seconds']:.0f} s of training"
        ),
        thesis_grids=THESIS_GRIDS,
        following=lambda checkpoint, dataset: ("test.py", "--checkpoint", str(checkpoint)),
    )


def motion3dgan_task() -> flags.TrainingTask:
    """Motion3DGAN."""
    from face4d.generation.motion3dgan.config import PRESETS
    from face4d.generation.motion3dgan.train import train

    return flags.TrainingTask(
        "generators",
        PRESETS,
        train,
        run_name=lambda dataset, preset, config: f"{dataset}_motion3dgan_{preset}_{config.lr:g}",
        one_thread_up_to=256,
        summary=lambda metrics: (
            f"{metrics['scored_on']} set: one draw {metrics['mm']:.3f} mm (std {metrics['mm_std']:.3f}), "
            f"the nearest of ten {metrics['mm_best']:.3f} mm, between two draws {metrics['multimodality_mm']:.3f} mm; "
            f"weights of epoch {metrics['epoch']}, {metrics['seconds']:.0f} s of training"
        ),
        thesis_grids={},
        following=lambda checkpoint, dataset: ("test.py", "--checkpoint", str(checkpoint), "--samples", "10"),
    )


if __name__ == "__main__":
    cli.run(main)
