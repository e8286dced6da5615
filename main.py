"""Step 4: train the LSTMCell generator on landmark sequences.

    python main.py --dataset demo
    python main.py --dataset florence --landmarks Landmark_dataset_flame_aligned
    python main.py --dataset florence --loss l1
    python main.py --dataset coma --preset thesis --loss l2 --lr 1e-5 --hidden-size 2048
    python main.py --dataset coma --preset thesis --resume        # goes on where a run was stopped
    torchrun --nproc-per-node 8 main.py --dataset florence --preset thesis         # a run over 8 processes; docs/scaling.md
    python main.py --grid thesis --workers 4                      # the thesis' 40 runs, 4 at a time; run again, it goes on
    python main.py --grid thesis --preset default --dataset florence --select last
    python main.py --grid mine.json --dataset florence            # {"loss": ["l1", "l2"], "hidden-size": [128, 256]}
    tensorboard --logdir runs

Writes models/<run>.pt (the weights kept), models/<run>.last.pt (to continue) and runs/<run>/ (config.json, metrics.json,
curves.csv, TensorBoard curves). A grid writes the same into models/<grid>/ and runs/<grid>/, and a table of its runs.
docs/training.md lists and compares the presets, docs/figures.md explains grids.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from face4d.datasets import flags
from face4d.runtime import cli


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    flags.add_data_flags(parser, training=True)
    training = parser.add_argument_group("training", "every flag defaults to the preset's value")
    flags.add_preset_flags(training, thesis="the thesis' network and schedule exactly")
    training.add_argument("--network", choices=("coefficients", "thesis"), help="what is fed back: principal coefficients or coordinates")
    training.add_argument("--loss", choices=("l1", "l2"), help="default: l2; thesis: l1")
    training.add_argument("--hidden-size", type=cli.positive_int, metavar="H", help="default: 128; thesis: 512 (grid 128 256 512 1024 2048)")
    training.add_argument("--components", type=cli.positive_int, metavar="K", help="principal coefficients of network coefficients; default: 16")
    training.add_argument("--start-frames", choices=("first", "every"), help="generate from frame 0, or one step from each frame; thesis: every")
    training.add_argument("--warps", type=int, metavar="M", help="time-warped targets per sequence and step, 0 = none; default: 8; thesis: 0")
    flags.add_training_flags(training)
    flags.add_output_flags(parser, run="<dataset>_<preset>_<loss>_<lr>_<hidden size>")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)

    from face4d.generation.config import PRESETS, THESIS_GRIDS
    from face4d.generation.train import train

    task = flags.TrainingTask(
        "generators",
        PRESETS,
        train,
        run_name=lambda dataset, preset, config: f"{dataset}_{preset}_{config.loss}_{config.lr:g}_{config.hidden_size}",
        one_thread_up_to=256,
        summary=lambda metrics: (
            f"test set: mse {metrics['mse']:.3g} m2, l1 {metrics['l1']:.4g} m, {metrics['mm']:.3f} mm (std {metrics['mm_std']:.3f}); "
            f"weights of epoch {metrics['epoch']}, {metrics['seconds']:.0f} s of training"
        ),
        thesis_grids=THESIS_GRIDS,
    )
    if args.grid:
        from face4d.evaluation.grids import run_grid

        run_grid(parser, args, task)
    else:
        flags.run_training(args, task)


if __name__ == "__main__":
    cli.run(main)
