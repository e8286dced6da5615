"""Step 6: train the classifier that scores generated expressions, on real landmark sequences.

    python Classification/main.py --dataset demo
    python Classification/main.py --dataset florence --landmarks Landmark_dataset_flame_aligned
    python Classification/main.py --dataset florence --labels all
    python Classification/main.py --dataset coma --preset thesis --layers 3 --lr 1e-5 --hidden-size 256
    python Classification/main.py --dataset coma --preset thesis --resume      # goes on where a run was stopped
    tensorboard --logdir runs

Writes models/<run>.pt (the weights kept), models/<run>.last.pt (to continue) and runs/<run>/ (config.json, metrics.json,
TensorBoard curves). docs/evaluation.md compares the presets.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from dataclasses import fields
from pathlib import Path

from face4d.datasets.layout import DATASETS, choose
from face4d.errors import InputError
from face4d.runtime import cli


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument("--dataset", choices=DATASETS, default="florence", help="picks the defaults of all flags of this group")
    data.add_argument("--landmarks", type=Path, metavar="DIR", help="landmark folder of step 3; with dataset_training and dataset_testing, or plain")
    data.add_argument("--labels", nargs="+", metavar="NAME", help="expressions to learn, or all (default: the thesis' labels)")
    data.add_argument("--test-subjects", nargs="+", metavar="NAME", help="test set of a plain folder (default: the thesis' subjects)")
    data.add_argument("--validation-subjects", nargs="+", default=[], metavar="NAME", help="training subjects held out to choose weights and stopping")
    data.add_argument("--actors", type=Path, metavar="DIR", help="<subject>.ply neutral meshes (default: frame 0 of each sequence is its neutral)")
    data.add_argument("--flame", type=Path, metavar="DIR", help="landmark embedding files, used with --actors (default: models/flame)")
    data.add_argument("--landmark-embedding", type=Path, metavar="FILE", help="one's own topology, npz with face_idx, bary, faces; used with --actors")

    training = parser.add_argument_group("training", "every flag defaults to the preset's value")
    training.add_argument("--preset", choices=("default", "thesis"), default="default", help="thesis = the thesis' schedule")
    training.add_argument("--hidden-size", type=cli.positive_int, metavar="H", help="LSTM states per direction; default: 64; thesis: 128 (grid 128 256 512 1024)")
    training.add_argument("--layers", type=cli.positive_int, metavar="N", help="LSTM layers; default: 1; thesis: 2 (grid 1 2 3)")
    training.add_argument("--lr", type=cli.positive_float, help="learning rate of Adam, peak of a one-cycle schedule; default: 1e-2; thesis: 1e-4 (grid 1e-4 1e-5)")
    training.add_argument("--lr-schedule", choices=("constant", "one-cycle"), help="default: one-cycle; thesis: constant")
    training.add_argument("--epochs", type=cli.positive_int, help="passes over the training sequences; default: 60; thesis: 2000")
    training.add_argument("--batch-size", type=cli.positive_int, metavar="B", help="sequences; default: 25; thesis: 25")
    cli.add_switch(training, "scale-input", None, "divide displacements by their root mean square; default: yes; thesis: no")
    cli.add_switch(training, "augment", None, "train on random timings, intensities and mixtures; default: yes; thesis: no")
    training.add_argument("--grad-clip", type=float, metavar="NORM", help="largest gradient norm, 0 = off; default: 1; thesis: 0")
    training.add_argument("--select", choices=("last", "validation", "test"), help="weights kept; default: last; thesis: test (best on the test set)")
    training.add_argument("--validate-every", type=cli.positive_int, metavar="EPOCHS", help="default: 10; thesis: 50")
    training.add_argument("--patience", type=int, metavar="N", help="stop after N validations without improvement, 0 = never; default: 0")

    output = parser.add_argument_group("output")
    output.add_argument("--run", metavar="NAME", help="default: classifier_<dataset>_<preset>_<layers>_<lr>_<hidden size>")
    output.add_argument("--models", type=Path, metavar="DIR", help="folder of checkpoints (default: models)")
    output.add_argument("--runs", type=Path, metavar="DIR", help="folder of run records (default: runs)")
    output.add_argument("--resume", action="store_true", help="continue the run from its last checkpoint, if there is one")
    output.add_argument("--checkpoint-seconds", type=float, default=30.0, metavar="S", help="time between last checkpoints, 0 = every epoch")
    cli.add_run_flags(parser, "seed", "device", "threads", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)
    defaults = DATASETS[args.dataset]
    landmarks = args.landmarks or defaults.landmarks
    labels = args.labels or defaults.labels
    test_subjects = tuple(args.test_subjects or defaults.test_subjects)

    from face4d.classification.config import PRESETS
    from face4d.classification.train import train
    from face4d.datasets.landmark_set import hold_out, load_split
    from face4d.runtime.device import limit_threads, resolve_device
    from face4d.runtime.run_folder import RunFolder

    preset = PRESETS[args.preset]
    flags = {field.name: getattr(args, field.name, None) for field in fields(preset)}
    if args.validation_subjects and args.select is None:
        flags["select"] = "validation"
    config = preset.with_flags(flags)
    if config.select == "validation" and not args.validation_subjects:
        raise InputError("--select validation", "--validation-subjects", "none")
    device = resolve_device(args.device)
    limit_threads(args.threads, small=config.hidden_size <= 128)

    neutrals = None
    if args.actors:
        from face4d.datasets.actors import load_actors
        from face4d.landmarks import load_embedding, load_flame_embedding

        own = args.landmark_embedding
        neutrals = load_actors(args.actors, load_embedding(own) if own else load_flame_embedding(args.flame or defaults.flame))
    split = load_split(landmarks, labels=labels, test_subjects=test_subjects, neutrals=neutrals)
    split, held_out = hold_out(split, choose(args.validation_subjects, {s.subject for s in split.train}, "training subjects", landmarks))

    name = args.run or f"classifier_{args.dataset}_{args.preset}_{config.layers}_{config.lr:g}_{config.hidden_size}"
    checkpoint = (args.models or defaults.models) / f"{name}.pt"
    run = RunFolder((args.runs or defaults.runs) / name)
    plan = f"{len(split.train)} training, {len(held_out)} validation, {len(split.test)} test sequences of {len(split.labels)} labels"
    if args.dry_run:
        print(f"would train {name} on {plan}: {config}")
        return
    if not args.resume:
        for path in (checkpoint, checkpoint.with_name(f"{name}.last.pt"), run.path):
            cli.refuse_overwrite(path, args.overwrite)
        run.clear_curves()
    if not args.quiet:
        print(f"{name}: {plan}, {config.epochs} epochs on {device}")
    source = {"dataset": args.dataset, "landmarks": landmarks, "labels": split.labels, "test_subjects": test_subjects}
    source |= {"actors": args.actors, "flame": args.flame or defaults.flame, "landmark_embedding": args.landmark_embedding}
    metrics = train(
        split,
        config,
        run,
        checkpoint,
        held_out=held_out,
        device=device,
        resume=args.resume,
        checkpoint_seconds=args.checkpoint_seconds,
        quiet=args.quiet,
        source={key: list(value) if isinstance(value, tuple) else value and str(value) for key, value in source.items()},
    )
    print(
        f"accuracy: test set {metrics['test_accuracy']:.1%}, training set {metrics['train_accuracy']:.1%}; "
        f"weights of epoch {metrics['epoch']}, {metrics['seconds']:.1f} s of training"
    )
    if config.select == "test":
        print("The weights were chosen on the test set, as in the thesis: its accuracy is not that of unseen data.")
    cli.report_written([checkpoint, run.path])


if __name__ == "__main__":
    cli.run(main)
