"""Step 6: train the classifier that scores generated expressions, on real landmark sequences.

    python Classification/main.py --dataset demo
    python Classification/main.py --dataset florence --landmarks Landmark_dataset_flame_aligned
    python Classification/main.py --dataset florence --labels all
    python Classification/main.py --dataset coma --preset thesis --layers 3 --lr 1e-5 --hidden-size 256
    python Classification/main.py --dataset coma --preset thesis --resume      # goes on where a run was stopped
    torchrun --nproc-per-node 8 -- Classification/main.py --dataset florence  # a run over 8 processes; docs/scaling.md
    python Classification/main.py --grid thesis --workers 4  # the thesis' 40 runs, 4 at a time; run again, it goes on
    python Classification/main.py --grid mine.json --dataset coma  # {"layers": [1, 2], "hidden-size": [64, 128]}
    tensorboard --logdir runs

Writes models/<run>.pt (the weights kept), models/<run>.last.pt (to continue) and runs/<run>/ (config.json,
metrics.json, curves.csv, TensorBoard curves). A grid writes the same into models/<grid>/ and runs/<grid>/, and a table
of its runs. docs/evaluation.md lists and compares the presets, docs/figures.md explains grids.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence

from face4d.commands import cli, data_flags
from face4d.datasets import flags

RUN_NAME = "classifier_{dataset}_{preset}_{layers}_{lr:g}_{hidden_size}"


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    data_flags.add_data_flags(parser, training=True)
    training = parser.add_argument_group("training", "every flag defaults to the preset's value")
    flags.add_preset_flags(training, thesis="the thesis' schedule")
    training.add_argument(
        "--hidden-size",
        type=cli.integer(1, 8192),
        metavar="H",
        help="LSTM states per direction; in the thesis' grid 128 256 512 1024",
    )
    training.add_argument(
        "--layers", type=cli.integer(1, 16), metavar="N", help="LSTM layers; in the thesis' grid 1 2 3"
    )
    cli.add_switch(training, "scale-input", None, "divide displacements by their root mean square")
    cli.add_switch(training, "augment", None, "train on random timings, intensities and mixtures")
    flags.add_training_flags(training)
    flags.add_output_flags(parser, run="classifier_<dataset>_<preset>_<layers>_<lr>_<hidden size>")
    from face4d.classification.config import PRESETS

    flags.tell_defaults(parser, PRESETS)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)

    from face4d.classification.config import PRESETS, THESIS_GRIDS
    from face4d.classification.train import train

    task = flags.TrainingTask(
        "classifiers",
        PRESETS,
        train,
        run_name=lambda dataset, preset, config: RUN_NAME.format(dataset=dataset, preset=preset, **config.as_dict()),
        one_thread_up_to=128,
        summary=lambda metrics: (
            f"accuracy: test set {metrics['test_accuracy']:.1%}, training set {metrics['train_accuracy']:.1%}; "
            f"weights of epoch {metrics['epoch']}, {metrics['seconds']:.1f} s of training"
        ),
        thesis_grids=THESIS_GRIDS,
        following=lambda checkpoint, dataset: (
            "Classification/test.py",
            "--checkpoint",
            str(checkpoint),
            "--generated",
            str(flags.newest_generated(dataset)),
        ),
    )
    if args.grid:
        from face4d.commands import grid
        from face4d.evaluation.choice import CLASSIFIERS

        grid.run(
            parser,
            args,
            grid.Script("Classification/main.py", "classifiers", PRESETS, THESIS_GRIDS, RUN_NAME, CLASSIFIERS),
        )
    else:
        flags.run_training(args, task)


if __name__ == "__main__":
    cli.run(main)
