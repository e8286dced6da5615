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

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from face4d.classification.config import PRESETS, THESIS_GRIDS, ClassifierConfig
from face4d.commands import cli, data_flags, training_flags

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    from face4d.datasets.landmark_set import LandmarkSplit
    from face4d.runtime.run_folder import Run


def train(split: LandmarkSplit, config: ClassifierConfig, run: Run) -> dict[str, Any]:
    """Train a classifier on frames 0..T: data, network, optimiser, loop.

    Args:
        split: sequences of one length; those held out are scored as the test set is, and choose the weights with
            ``--select validation``.

    Returns:
        What metrics.json holds: ``accuracy`` and ``loss`` of each set for the weights kept, epoch, seconds.
    """
    import torch
    from torch.nn.functional import cross_entropy

    from face4d.classification.classifier import CHECKPOINT_KIND, recognition
    from face4d.classification.model import ExpressionClassifier
    from face4d.datasets.augmentation import vary
    from face4d.datasets.landmark_set import tensors
    from face4d.runtime import distributed
    from face4d.runtime.device import seed_everything
    from face4d.runtime.session import Session, Task, learning_rate, set_learning_rate, tagged

    device = run.device
    # displacements (N, T + 1, L, 3) in metres, class indices (N,)
    data, labels = tensors(split.train, split.labels, device)
    scored = {"test": tensors(split.test, split.labels, device)}
    if split.held_out or config.select == "validation":
        scored["validation"] = tensors(split.held_out, split.labels, device)
    rms = data.square().mean().sqrt().item()
    input_scale = 1 / rms if config.scale_input and rms > 0 else 1.0
    size: dict[str, Any] = {
        "hidden_size": config.hidden_size,
        "layers": config.layers,
        "input_scale": input_scale,
        "num_landmarks": data.shape[2],
    }
    session = Session(run, Task(CHECKPOINT_KIND, config, split.identity(network=size), split.record()))
    if session.metrics is not None:
        return session.metrics  # trained already

    random = seed_everything(config.seed)
    model = ExpressionClassifier(len(split.labels), **size).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=config.lr, fused=True)
    session.start(model, optimizer, random)

    num_batches = -(-len(data) // config.batch_size)
    for epoch in session.epochs():
        total, correct = torch.zeros(2, device=device)
        step = (epoch - 1) * num_batches
        for chosen in session.batches(len(data)):
            own = session.rows
            batch = vary(data, labels, chosen, random, own) if config.augment else data[chosen][own]  # (B, T + 1, L, 3)
            step += 1
            set_learning_rate(optimizer, learning_rate(config, step / (config.epochs * num_batches)))
            with session.precision():
                logits = model(batch)  # (B, C)
            optimizer.zero_grad()
            loss = session.backward(cross_entropy(logits.float(), labels[chosen][own]))
            optimizer.step()
            total += loss * len(chosen)
            correct += session.counted((logits.detach().argmax(1) == labels[chosen][own]).sum())
        session.log(
            {"train/loss": total.item() / len(data), "train/accuracy": distributed.total(correct).item() / len(data)}
        )
        if session.validates:
            found = {name: recognition(model, *sequences) for name, sequences in scored.items()}
            deciding = found["validation" if config.select == "validation" else "test"]
            # Accuracies of few sequences tie often; among equals the smaller loss is the better classifier.
            session.validated(tagged(found), rank=(-deciding.accuracy, deciding.loss))
    kept, scored["train"] = session.kept(), (data, labels)
    return session.finish(tagged({name: recognition(kept, *sequences) for name, sequences in scored.items()}))


def build_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    data_flags.add_data_flags(parser, training=True)
    training = parser.add_argument_group("training", "every flag defaults to the preset's value")
    training_flags.add_preset_flags(training, thesis="the thesis' schedule")
    training_flags.add_setting_flags(training, PRESETS)
    training_flags.add_output_flags(parser, run="classifier_<dataset>_<preset>_<layers>_<lr>_<hidden size>")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.grid:
        from face4d.commands import grid
        from face4d.evaluation.choice import CLASSIFIERS

        grid.run(parser, args, grid.Script("Classification/main.py", "classifiers", PRESETS, THESIS_GRIDS, CLASSIFIERS))
        return
    with training_flags.planned(args, PRESETS) as plan:
        if args.dry_run:
            return
        metrics = train(plan.split, plan.config, plan.run)
        summary = (
            f"accuracy: test set {metrics['test/accuracy']:.1%}, training set {metrics['train/accuracy']:.1%}; "
            f"weights of epoch {metrics['epoch']}, {metrics['seconds']:.1f} s of training"
        )
        generated = training_flags.newest_generated(plan.source.dataset)
        following = ("Classification/test.py", "--checkpoint", plan.run.checkpoint, "--generated", generated)
        training_flags.report(args, plan, summary, *following)


if __name__ == "__main__":
    cli.run(main)
