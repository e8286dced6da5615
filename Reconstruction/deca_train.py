r"""Step 8: train the encoder of photos on faces rendered from a FLAME-format model; needs no photos.

    python Reconstruction/deca_train.py                                  # the demo head, on a CPU
    python Reconstruction/deca_train.py --flame models/flame --backbone resnet50 --image-size 224 --faces 50000 \
        --epochs 40
    python Reconstruction/deca_train.py --resume                         # goes on where a run was stopped
    tensorboard --logdir runs

Writes models/deca_<face model>.pt (for Reconstruction/deca.py), models/deca_<face model>.last.pt (to continue) and
runs/deca_<face model>/. Prints the vertex error of held-out renders in mm beside that of the mean face, and draws some
of them: runs/deca_<face model>/held_out.png.
"""

from __future__ import annotations

from argparse import ArgumentParser
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli
from face4d.datasets import flags
from face4d.deca.config import EncoderConfig

PREVIEWED, PREVIEW_SIZE = 8, 160  # faces; pixels a side of each picture
BACKBONES = ("small", "resnet18", "resnet50")  # of face4d.deca.networks, which loads torch


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    data = parser.add_argument_group("faces")
    data.add_argument(
        "--flame", default="demo", metavar="DIR", help="face model: demo, or a folder such as models/flame"
    )
    data.add_argument("--faces", type=cli.integer(1, 1_000_000), metavar="N", help="rendered for training")
    data.add_argument("--held-out", type=cli.integer(1, 100_000), metavar="N", help="rendered for the scores")
    data.add_argument(
        "--image-size", type=cli.integer(16, 1024), metavar="PIXELS", help="side of what the encoder sees"
    )
    network = parser.add_argument_group("network")
    network.add_argument("--backbone", choices=BACKBONES, help="resnet50 is DECA's")
    network.add_argument(
        "--hidden", type=cli.integer(1, 16_384), metavar="H", help="numbers between the last two layers"
    )
    training = parser.add_argument_group("training")
    training.add_argument("--lr", type=cli.number(0, 10, above=True), help="peak of the one-cycle schedule of AdamW")
    training.add_argument("--epochs", type=cli.integer(1, 1_000_000), help="passes over the faces")
    training.add_argument("--batch-size", type=cli.integer(1, 65_536), metavar="B", help="faces per step")
    training.add_argument(
        "--precision",
        choices=("fp32", "tf32", "bf16"),
        help="of the network's products; bf16 doubles the speed of CPUs with AMX",
    )
    for loss in ("code", "vertices", "landmarks", "points", "light", "photometric"):
        training.add_argument(
            f"--weight-{loss}", type=cli.number(0, 1e6), metavar="X", help=f"weight of the loss on {loss}"
        )
    training.add_argument(
        "--disguised",
        type=cli.number(0, 1),
        metavar="SHARE",
        help="of the pictures get other colours, shadows, things in front, in the first 60 %% of the steps",
    )
    training.add_argument(
        "--photometric-faces", type=cli.integer(0, 65_536), metavar="N", help="faces per batch drawn again as predicted"
    )
    flags.add_output_flags(parser, run="deca_<face model>", checkpoint_seconds=60.0, grid=False)
    flags.tell_defaults(parser, {"default": EncoderConfig()})
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    from face4d.deca.face_model import load_face_model
    from face4d.deca.train import train
    from face4d.runtime.device import describe, keep_freed_memory, limit_threads, resolve_device
    from face4d.runtime.progress import compared

    keep_freed_memory()
    config = EncoderConfig().with_flags(vars(args))
    limit_threads(args.threads, small=False)
    device = resolve_device(args.device)
    run = flags.training_run(args, args.run or f"deca_{Path(args.flame).stem}", device)
    face = load_face_model(args.flame, device=device)
    plan = f"{run.name}: {config.faces} faces of {args.flame}, {config.backbone} at {config.image_size} pixels, "
    plan += f"{config.epochs} epochs on {describe(device)}"
    if args.dry_run:
        print(f"would train {plan}\n{config}")
        return
    if not args.quiet:
        print(plan)
    with flags.claimed(args, run):
        before = {run: run.finished_at}
        scores = train(face, config, run)
        write_preview(run, config, args.flame)
    print(
        f"{scores['faces']} held-out renders, vertices after scaled rigid alignment: "
        f"neutral face {scores['neutral_mm']:.2f} mm "
        f"(mean face {scores['mean_face_mm']:.2f}, {compared(scores['neutral_mm'], scores['mean_face_mm'])}), "
        f"with expression {scores['expressive_mm']:.2f} mm "
        f"(mean face {scores['mean_face_expressive_mm']:.2f}); landmarks {scores['landmarks_percent']:.2f} % "
        "of the picture; "
        f"{scores['seconds']:.0f} s"
    )
    flags.report_runs(before)
    cli.suggest_next(args, "Reconstruction/deca.py", "photo.jpg", "--checkpoint", run.checkpoint)


def write_preview(run, config, flame: str) -> None:
    """Draw the first held-out faces beside what the weights kept make of them, into the run's folder."""
    from PIL import Image

    from face4d.deca.reconstruction import Reconstructor
    from face4d.deca.rendered_faces import preview
    from face4d.deca.train import render_held_out
    from face4d.runtime.atomic import replacing

    reconstructor = Reconstructor.load(run.checkpoint, flame, run.device)
    faces = render_held_out(
        reconstructor.face, config, run.device, count=min(PREVIEWED, config.held_out), size=PREVIEW_SIZE
    )
    with replacing(run.folder.path / "held_out.png") as temporary:
        Image.fromarray(preview(reconstructor, faces)).save(temporary, format="PNG")


if __name__ == "__main__":
    cli.run(main)
