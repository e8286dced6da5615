"""Step 8: train the volume network (VRN), on rendered heads by default; needs no photos.

    python Reconstruction/vrn_train.py  # rendered demo heads, an eighth of the width, on a CPU
    python Reconstruction/vrn_train.py --data demo/vrn --width 0.25 --epochs 20 --run vrn_quarter
    python Reconstruction/vrn_train.py --data vrn_photos --width 1 --phases 16 --lr 1e-4 --epochs 40 --run vrn_photos
    python Reconstruction/vrn_train.py --resume                          # goes on where a run was stopped
    tensorboard --logdir runs

Writes models/<run>.pt (for Reconstruction/vrn_demo.py), models/<run>.last.pt (to continue) and runs/<run>/. Prints the
intersection over union of the test volumes beside that of the mean volume. docs/vrn.md has the measures.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli
from face4d.datasets import flags
from face4d.vrn.config import VolumeConfig

DEFAULT_SET, HEADS, HELD_OUT = Path("demo/vrn"), 640, 64


def build_parser() -> ArgumentParser:
    parser, default = cli.parser(__doc__), VolumeConfig()
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help=f"set of vrn_dataset.py (default: {DEFAULT_SET}, {HEADS} rendered heads, made if missing)",
    )
    training = parser.add_argument_group("training")
    training.add_argument(
        "--width",
        type=cli.number(0, 16, above=True),
        default=default.width,
        metavar="SHARE",
        help="of the published network's channels",
    )
    training.add_argument(
        "--lr",
        type=cli.number(0, 10, above=True),
        default=default.lr,
        help="learning rate of RMSprop; peak of a one-cycle schedule",
    )
    training.add_argument(
        "--lr-schedule",
        choices=("constant", "one-cycle"),
        default=default.lr_schedule,
        help="learning rate over all steps",
    )
    training.add_argument(
        "--epochs", type=cli.integer(1, 1_000_000), default=default.epochs, help="passes over the training samples"
    )
    training.add_argument(
        "--batch-size", type=cli.integer(1, 65_536), default=default.batch_size, metavar="B", help="pictures per step"
    )
    training.add_argument(
        "--phases",
        type=cli.integer(1, 16),
        default=default.phases,
        metavar="N",
        help="of the volume's 16 interleaved parts that a step looks at",
    )
    cli.add_switch(training, "mirror", default.mirror, "mirror every other picture and its volume")
    training.add_argument(
        "--disguised",
        type=cli.number(0, 1),
        default=default.disguised,
        metavar="SHARE",
        help="of the pictures get other colours, shadows, things in front",
    )
    training.add_argument(
        "--grad-clip",
        type=cli.number(0, 1e6),
        default=default.grad_clip,
        metavar="NORM",
        help="largest gradient norm, 0 = off",
    )
    training.add_argument(
        "--validate-every",
        type=cli.integer(1, 1_000_000),
        default=default.validate_every,
        metavar="N",
        help="epochs between validations",
    )
    training.add_argument(
        "--precision", choices=("fp32", "tf32", "bf16"), default=default.precision, help="of the products in training"
    )
    flags.add_output_flags(parser, run="vrn_demo", grid=False)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    from face4d.deca.face_model import load_face_model
    from face4d.runtime.device import describe, keep_freed_memory, limit_threads, resolve_device
    from face4d.runtime.progress import compared, share
    from face4d.vrn.train import train
    from face4d.vrn.volume_set import open_volume_set, write_rendered_set

    keep_freed_memory()
    config = VolumeConfig().with_flags(vars(args))
    limit_threads(args.threads, small=False)
    device = resolve_device(args.device)
    run = flags.training_run(args, args.run or "vrn_demo", device)
    plan = (
        f"{run.name}: {args.data or DEFAULT_SET}, width {config.width:g}, {config.epochs} epochs on {describe(device)}"
    )
    if args.dry_run:
        print(f"would train {plan}\n{config}")
        return
    data = open_volume_set(args.data) if args.data else None
    with flags.claimed(args, run):
        if data is None:
            data = write_rendered_set(DEFAULT_SET, load_face_model("demo"), HEADS, HELD_OUT, seed=27, quiet=args.quiet)
        if not args.quiet:
            print(f"{plan}; {len(data.training)} training and {len(data.testing)} test samples")
        before = {run: run.finished_at}
        scores = train(data, config, run)
    print(
        f"{scores['test_samples']} test samples: IoU {scores['iou']:.3f} (mean volume "
        f"{scores['mean_volume_iou']:.3f}; 1 - IoU "
        f"{compared(1 - scores['iou'], 1 - scores['mean_volume_iou'])}), "
        f"NME {share(scores['nme'])} (mean volume {share(scores['mean_volume_nme'])}); "
        f"{scores['seconds']:.0f} s"
    )
    flags.report_runs(before)
    cli.suggest_next(args, "Reconstruction/vrn_demo.py", "photo.jpg", "--checkpoint", run.checkpoint)


if __name__ == "__main__":
    cli.run(main)
