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
from typing import TYPE_CHECKING, Any

from face4d.commands import cli, training_flags
from face4d.errors import InputError
from face4d.vrn.config import CHECKPOINT_KIND, VolumeConfig

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    from face4d.runtime.run_folder import Run
    from face4d.vrn.volume_set import VolumeSet

DEFAULT_SET, HEADS, HELD_OUT = Path("demo/vrn"), 640, 64


def train(data: VolumeSet, config: VolumeConfig, run: Run) -> dict[str, Any]:
    """Train a volume network: data, network, optimiser, loop.

    Loss: binary cross-entropy per voxel (Jackson et al. 2017, eq. 1), of ``config.phases`` of 16 interleaved parts of
    the volume per step.

    Returns:
        What metrics.json holds: of the test samples :class:`face4d.vrn.train.VolumeScores`, epoch, seconds.

    Raises:
        InputError: a set without test samples, or with fewer training samples than a batch.
    """
    import torch

    from face4d.runtime.device import channels_last, seed_everything
    from face4d.runtime.session import Session, Task, learning_rate, set_learning_rate, tagged
    from face4d.vrn import train as part
    from face4d.vrn.network import UPSAMPLING, VolumeNetwork, volume_loss

    if len(data.training) < config.batch_size or not data.testing:
        wanted = f"at least {config.batch_size} training samples and one for testing"
        raise InputError(data.path, wanted, f"{len(data.training)} and {len(data.testing)}")
    origin = {"source": {"data": str(data.path), **data.source}}
    session = Session(run, Task(CHECKPOINT_KIND, config, {"grid": vars(data.grid), "data_digest": data.digest}, origin))
    if session.metrics is not None:
        return session.metrics  # trained already

    device = run.device
    random = seed_everything(config.seed)
    network = VolumeNetwork(config.width)
    network.set_prior(torch.from_numpy(part.occupancy(data)))
    channels_last(network).to(device)
    optimizer = torch.optim.RMSprop(network.parameters(), lr=config.lr)
    session.start(network, optimizer, random)

    num_batches = len(data.training) // config.batch_size
    for epoch in session.epochs():
        network.train()
        total, step = torch.zeros((), device=device), (epoch - 1) * num_batches
        for chosen in session.batches(len(data.training), whole=True):
            step += 1
            set_learning_rate(optimizer, learning_rate(config, step / (config.epochs * num_batches)))
            samples = [data.read("training", data.training[index]) for index in chosen.tolist()]
            pictures, bits = part.vary(samples, config, random)
            phases = torch.randperm(UPSAMPLING**2, generator=random)[: config.phases].tolist()
            with session.precision():
                coarse = network.coarse_logits(pictures.to(device))  # (B, 200, 48, 48)
            loss = torch.zeros((), device=device)
            for phase in phases:
                true = part.phase_of(bits, phase, data.grid).to(device)  # (B, 200, 48, 48)
                loss = loss + volume_loss(coarse.float(), true, *divmod(phase, UPSAMPLING))
            optimizer.zero_grad()
            total += session.backward(loss / len(phases))
            optimizer.step()
        network.eval()
        session.log({"train/loss": total.item() / num_batches})
        if session.validates:
            iou = part.mean_iou(network, data)
            session.validated({"test/iou": iou}, rank=(-iou,))
    return session.finish(tagged({"test": part.evaluate(session.kept().eval(), data)}))


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    data = parser.add_argument_group("data")
    data.add_argument(
        "--data",
        type=Path,
        metavar="DIR",
        help=f"set of vrn_dataset.py (default: {DEFAULT_SET}, {HEADS} rendered heads, made if missing)",
    )
    settings = (
        "width",
        "lr",
        "lr_schedule",
        "epochs",
        "batch_size",
        "phases",
        "mirror",
        "augmented",
        "grad_clip",
        "validate_every",
        "precision",
    )
    training_flags.add_setting_flags(parser.add_argument_group("training"), {"default": VolumeConfig()}, *settings)
    training_flags.add_output_flags(parser, run="vrn_demo", grid=False)
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    args = build_parser().parse_args(argv)

    from face4d.deca.face_model import load_face_model
    from face4d.runtime.device import describe, keep_freed_memory, limit_threads, resolve_device
    from face4d.runtime.progress import compared, share
    from face4d.runtime.run_folder import claimed
    from face4d.vrn.volume_set import open_volume_set, write_rendered_set

    keep_freed_memory()
    config = training_flags.configure(args, VolumeConfig())
    limit_threads(args.threads, small=False)
    device = resolve_device(args.device)
    run = training_flags.training_run(args, args.run or "vrn_demo", device)
    plan = (
        f"{run.name}: {args.data or DEFAULT_SET}, width {config.width:g}, {config.epochs} epochs on {describe(device)}"
    )
    if args.dry_run:
        print(f"would train {plan}\n{config}")
        return
    data = open_volume_set(args.data) if args.data else None
    with claimed(run):
        if data is None:
            data = write_rendered_set(DEFAULT_SET, load_face_model("demo"), HEADS, HELD_OUT, seed=27, quiet=args.quiet)
        if not args.quiet:
            print(f"{plan}; {len(data.training)} training and {len(data.testing)} test samples")
        before = {run: run.finished_at}
        scores = train(data, config, run)
    own, flat = scores["test/iou"], scores["test/mean_volume_iou"]
    print(
        f"{scores['test/samples']} test samples: IoU {own:.3f} "
        f"(mean volume {flat:.3f}; 1 - IoU {compared(1 - own, 1 - flat)}), NME {share(scores['test/nme'])} "
        f"(mean volume {share(scores['test/mean_volume_nme'])}); {scores['seconds']:.0f} s"
    )
    training_flags.report_runs(before)
    cli.suggest_next(args, "Reconstruction/vrn_demo.py", "photo.jpg", "--checkpoint", run.checkpoint)


if __name__ == "__main__":
    cli.run(main)
