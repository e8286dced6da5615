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
from typing import TYPE_CHECKING, Any

from face4d.commands import cli, training_flags
from face4d.deca.config import EncoderConfig

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    from face4d.deca.face_model import FaceModel
    from face4d.runtime.run_folder import Run

PREVIEWED, PREVIEW_SIZE = 8, 160  # faces; pixels a side of each picture
# of all steps; the last ones learn details from pictures as they are (as Ge et al., "YOLOX", 2021, end without mosaics)
AUGMENTED_UNTIL = 0.6


def train(face: FaceModel, config: EncoderConfig, run: Run) -> dict[str, Any]:
    """Train an encoder: faces, network, optimiser, loop.

    The faces are rendered first, once, and kept as bytes: 8,000 pictures of 112 x 112 are 300 MB.

    Returns:
        What metrics.json holds: of the held-out faces :class:`face4d.deca.train.EncoderErrors`, epoch, seconds.
    """
    import torch

    from face4d.deca import train as part
    from face4d.deca.checkpoints import CHECKPOINT_KIND
    from face4d.deca.networks import PointEncoder
    from face4d.deca.rendered_faces import render_faces
    from face4d.runtime.device import channels_last, seed_everything
    from face4d.runtime.session import Session, Task, learning_rate, set_learning_rate, tagged
    from face4d.synthetic.augmentation import augment
    from face4d.synthetic.faces import SyntheticFaces

    layout, device = part.code_layout(face), run.device
    faces = render_faces(face, layout, config.faces, config.image_size, config.seed, device, quiet=run.quiet)
    held_out = part.render_held_out(face, config, device)
    data_digest = f"{faces.digest()} {held_out.digest()}"
    identity = {"layout": layout.as_dict(), "face_fingerprint": list(face.fingerprint), "data_digest": data_digest}
    session = Session(run, Task(CHECKPOINT_KIND, config, identity, {"source": {"face_model": face.source}}))
    if session.metrics is not None:
        return session.metrics  # trained already

    random = seed_everything(config.seed)
    network = channels_last(part.build_network(layout, config)).to(device)
    if isinstance(network, PointEncoder):
        network.vertices.copy_(torch.as_tensor(part.face_vertices(face)))
        points = part.true_points(face, faces, network.vertices)
        network.fit_scale(faces.codes, points)
    else:
        network.fit_scale(faces.codes)
    undrawn = SyntheticFaces(face.layer, config.seed + part.UNDRAWN_SEED, size=8)
    losses = part.EncoderLoss(face, config, layout, network.code_scale)
    optimizer = torch.optim.AdamW(network.parameters(), lr=config.lr, weight_decay=1e-2)
    session.start(network, optimizer, random)

    num_batches = len(faces) // config.batch_size or 1
    num_steps = config.epochs * num_batches
    for epoch in session.epochs():
        network.train()
        step = (epoch - 1) * num_batches
        sums: dict[str, Any] = {}
        for chosen in session.batches(len(faces), whole=True):
            step += 1
            set_learning_rate(optimizer, learning_rate(config, step / num_steps))
            batch = part.moved(faces.rows(chosen), config.image_size * part.SHIFT // 112, random)
            true = part.true_points(face, batch, network.vertices) if isinstance(network, PointEncoder) else None
            augmented = config.augmented if step <= AUGMENTED_UNTIL * num_steps else 0.0
            pictures = augment(batch.pictures(), augmented, random)  # (B, 3, S, S)
            noise = torch.randn(pictures.shape, generator=random) * config.noise * torch.rand((), generator=random)
            pictures = (pictures + noise.to(device)).contiguous(memory_format=torch.channels_last)
            with session.precision():
                codes, found = network.codes_and_points(pictures)
            loss, parts = losses(codes, batch, found, true)
            if isinstance(network, PointEncoder):
                # of every step's own seed, so that a resumed run draws the same
                undrawn.generator.manual_seed(config.seed + part.UNDRAWN_SEED + step)
                apart = losses.weighted(part.undrawn_loss(layout, network, losses, undrawn, config))
                # Codes are learned from the mean over all faces of the step: the few that are drawn would drown the
                # many with their noise.
                share = len(chosen) / (len(chosen) + config.undrawn_faces)
                drawn = losses.weighted({name: parts[name] for name in ("code", "vertices", "landmarks")})
                loss, parts["undrawn"] = loss + (1 - share) * (apart - drawn), apart
            optimizer.zero_grad()
            parts["total"] = session.backward(loss)
            optimizer.step()
            sums = {name: sums.get(name, 0.0) + value.detach() for name, value in parts.items()}
        network.eval()
        means = {name: total.item() / num_batches for name, total in sums.items()}
        session.log({"train/loss": means.pop("total"), **{f"train/{name}_loss": mean for name, mean in means.items()}})
        if session.validates:
            errors = part.evaluate(network, face, layout, held_out)
            shown = ("neutral_mm", "expressive_mm", "landmarks_percent", "light")
            session.validated({f"test/{name}": getattr(errors, name) for name in shown}, rank=(errors.neutral_mm,))
    return session.finish(tagged({"test": part.evaluate(session.kept().eval(), face, layout, held_out)}))


def build_parser() -> ArgumentParser:
    parser, presets = cli.parser(__doc__), {"default": EncoderConfig()}
    data = parser.add_argument_group("faces")
    data.add_argument(
        "--flame", default="demo", metavar="DIR", help="face model: demo, or a folder such as models/flame"
    )
    training_flags.add_setting_flags(data, presets, "faces", "held_out", "image_size")
    training_flags.add_setting_flags(parser.add_argument_group("network"), presets, "backbone", "hidden")
    training = parser.add_argument_group("training")
    training_flags.add_setting_flags(
        training, presets, "lr", "lr_schedule", "epochs", "batch_size", "grad_clip", "precision", "validate_every"
    )
    weights = [f"weight_{loss}" for loss in ("code", "vertices", "landmarks", "points", "light", "photometric")]
    training_flags.add_setting_flags(training, presets, *weights, "augmented", "photometric_faces")
    training_flags.add_output_flags(parser, run="deca_<face model>", checkpoint_seconds=60.0, grid=False)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    from face4d.deca.face_model import load_face_model
    from face4d.runtime.device import describe, keep_freed_memory, limit_threads, resolve_device
    from face4d.runtime.progress import compared
    from face4d.runtime.run_folder import claimed

    keep_freed_memory()
    config = training_flags.configure(args, EncoderConfig())
    limit_threads(args.threads, small=False)
    device = resolve_device(args.device)
    run = training_flags.training_run(args, args.run or f"deca_{Path(args.flame).stem}", device)
    face = load_face_model(args.flame, device=device)
    plan = f"{run.name}: {config.faces} faces of {args.flame}, {config.backbone} at {config.image_size} pixels, "
    plan += f"{config.epochs} epochs on {describe(device)}"
    if args.dry_run:
        print(f"would train {plan}\n{config}")
        return
    if not args.quiet:
        print(plan)
    with claimed(run):
        before = {run: run.finished_at}
        scores = train(face, config, run)
        write_preview(run, config, args.flame)
    neutral, mean_face = scores["test/neutral_mm"], scores["test/mean_face_mm"]
    print(
        f"{scores['test/faces']} held-out renders, vertices after scaled rigid alignment: "
        f"neutral face {neutral:.2f} mm (mean face {mean_face:.2f}, {compared(neutral, mean_face)}), "
        f"with expression {scores['test/expressive_mm']:.2f} mm "
        f"(mean face {scores['test/mean_face_expressive_mm']:.2f}); "
        f"landmarks {scores['test/landmarks_percent']:.2f} % of the picture; "
        f"{scores['seconds']:.0f} s"
    )
    training_flags.report_runs(before)
    cli.suggest_next(args, "Reconstruction/deca.py", "photo.jpg", "--checkpoint", run.checkpoint)


def write_preview(run: Run, config: EncoderConfig, flame: str) -> None:
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
