"""Step 6: train the classifier that scores generated expressions, on real landmark sequences.

    python Classification/main.py --dataset demo
    python Classification/main.py --dataset florence --landmarks Landmark_dataset_flame_aligned
    python Classification/main.py --dataset florence --labels all
    python Classification/main.py --dataset coma --preset thesis --layers 3 --lr 1e-5 --hidden-size 256
    python Classification/main.py --dataset coma --preset thesis --resume      # goes on where a run was stopped
    torchrun --nproc-per-node 8 Classification/main.py --dataset florence     # a run over 8 processes; docs/scaling.md
    tensorboard --logdir runs

Writes models/<run>.pt (the weights kept), models/<run>.last.pt (to continue) and runs/<run>/ (config.json, metrics.json,
TensorBoard curves). docs/evaluation.md lists and compares the presets.
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
    training.add_argument("--preset", choices=("default", "thesis"), default="default", help="thesis = the thesis' schedule")
    training.add_argument("--hidden-size", type=cli.positive_int, metavar="H", help="LSTM states per direction; default: 64; thesis: 128 (grid 128 256 512 1024)")
    training.add_argument("--layers", type=cli.positive_int, metavar="N", help="LSTM layers; default: 1; thesis: 2 (grid 1 2 3)")
    cli.add_switch(training, "scale-input", None, "divide displacements by their root mean square; default: yes; thesis: no")
    cli.add_switch(training, "augment", None, "train on random timings, intensities and mixtures; default: yes; thesis: no")
    flags.add_training_flags(training)
    flags.add_output_flags(parser, run="classifier_<dataset>_<preset>_<layers>_<lr>_<hidden size>")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    from face4d.classification.config import PRESETS
    from face4d.classification.train import train
    from face4d.runtime import distributed
    from face4d.runtime.device import limit_threads, resolve_device

    distributed.init_from_environment()
    with distributed.agreement():
        config = flags.training_config(args, PRESETS[args.preset])
        device = distributed.local_device(resolve_device(args.device))
        limit_threads(args.threads, small=config.hidden_size <= 128)
        source = flags.DataSource.from_flags(args)
        split, held_out = flags.training_sets(args, source)
        name = f"classifier_{args.dataset}_{args.preset}_{config.layers}_{config.lr:g}_{config.hidden_size}"
        places = flags.training_places(args, source, name)
    plan = f"{places.run.path.name}: {split.describe(held_out)}, {config.epochs} epochs on {distributed.describe(device)}"
    if args.dry_run:
        if distributed.is_main():
            print(f"would train {plan}\n{config}")
        distributed.leave()
        return
    if distributed.is_main() and not args.quiet:
        print(plan)
    metrics = train(
        split,
        config,
        places,
        held_out=held_out,
        device=device,
        source=source.as_dict(),
        resume=args.resume,
        checkpoint_seconds=args.checkpoint_seconds,
        quiet=args.quiet,
    )
    is_main = distributed.is_main()
    distributed.leave()
    if not is_main:
        return
    print(
        f"accuracy: test set {metrics['test_accuracy']:.1%}, training set {metrics['train_accuracy']:.1%}; "
        f"weights of epoch {metrics['epoch']}, {metrics['seconds']:.1f} s of training"
    )
    if config.select == "test":
        print("the weights were chosen on the test set, as in the thesis: its accuracy is not that of unseen data")
    cli.report_written([places.checkpoint, places.run.path])


if __name__ == "__main__":
    cli.run(main)
