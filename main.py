"""Step 4: train a generator on landmark sequences: the LSTMCell generator or, with more than one answer to a label, a
flow or Motion3DGAN.

    python main.py --dataset demo
    python main.py --dataset florence --landmarks Landmark_dataset_flame_aligned
    python main.py --dataset florence --loss l1
    python main.py --dataset florence --controls --run controlled  # docs/controls.md: when, how long, how strong
    python main.py --dataset coma --preset thesis --loss l2 --lr 1e-5 --hidden-size 2048
    python main.py --dataset coma --preset thesis --engine plain  # torch's LSTMCell in place of the hand-written unroll
    python main.py --dataset coma --preset thesis --resume        # goes on where a run was stopped
    python main.py --model flow --dataset florence --run flow     # docs/flow.md: many answers, gaps filled in
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

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from face4d.commands import cli, data_flags, training_flags
from face4d.errors import InputError
from face4d.generation.config import CHECKPOINT_KIND, PRESETS, THESIS_GRIDS, GeneratorConfig
from face4d.generation.flow.config import PRESETS as FLOW_PRESETS
from face4d.generation.flow.config import FlowConfig
from face4d.generation.motion3dgan.config import PRESETS as GAN_PRESETS
from face4d.generation.motion3dgan.config import MotionGANConfig

# Models with more than one answer to a label.
SAMPLED: dict[str, Mapping[str, FlowConfig | MotionGANConfig]] = {"flow": FLOW_PRESETS, "motion3dgan": GAN_PRESETS}

if TYPE_CHECKING:  # these load torch, and parsing flags must not
    from torch import Tensor

    from face4d.datasets.landmark_set import LandmarkSplit
    from face4d.runtime.run_folder import Run


def train(split: LandmarkSplit, config: GeneratorConfig, run: Run) -> dict[str, Any]:
    """Train an LSTMCell generator: data, network, optimiser, loop.

    What depends on the data, and the configuration leaves open, the training sequences choose in closed form: the
    number of coefficients, and the motions of labels that are learnt in place of the sequences.

    Args:
        split: sequences of one length; those held out are scored as the test set is, and choose the weights with
            ``--select validation``.

    Returns:
        What metrics.json holds: ``mse`` (m^2), ``l1`` (m), ``mm``, ``mm_std`` of each set for the weights kept, epoch,
            seconds.
    """
    from itertools import chain

    import torch

    from face4d.controls import Controls, as_ratios
    from face4d.datasets.augmentation import other_controls, retimed
    from face4d.datasets.landmark_set import tensors
    from face4d.generation.controlled import ControlledGenerator, controls_of
    from face4d.generation.label_motions import fit_label_motions
    from face4d.generation.lstm import CoefficientGenerator, build_network
    from face4d.generation.recurrence import sufficient_components
    from face4d.generation.sample import sequence_errors
    from face4d.runtime.device import adam, graphed, seed_everything
    from face4d.runtime.session import Session, Task, learning_rate, set_learning_rate, tagged

    device = run.device
    # displacements (N, T + 1, L, 3) in metres, class indices (N,)
    data, labels = tensors(split.train, split.labels, device)
    scored: dict[str, tuple[Tensor, ...]] = {"test": tensors(split.test, split.labels, device)}
    if split.held_out or config.select == "validation":
        scored["validation"] = tensors(split.held_out, split.labels, device)
    choice: dict[str, Any] = {}  # by the training sequences
    if config.network != "thesis":
        choice["components"] = config.components or sufficient_components(data.cpu().flatten(0, 1))
    motions = None
    if config.learns_motions:
        subjects = [sequence.subject for sequence in split.train]
        motions = fit_label_motions(data.cpu(), labels.cpu(), subjects).to(device)
        choice["timing"] = motions.timing.item()
    identity = split.identity(num_landmarks=data.shape[2])
    session = Session(
        run, Task(CHECKPOINT_KIND, config, identity, split.record() | ({"choice": choice} if choice else {}))
    )
    if session.metrics is not None:
        return session.metrics  # trained already

    random = seed_everything(config.seed)
    network = build_network(config.with_settings(choice), len(split.labels), data.shape[2])
    if isinstance(network, CoefficientGenerator):
        network.fit_basis(data.cpu().flatten(0, 1))
        if motions is not None and network.residual:
            network.fit_motion(motions.mean[:, 1:].unflatten(2, data.shape[2:]).cpu(), motions.stays[1:].cpu())
    given: tuple[Tensor, ...] = ()  # what a network gets beside start frame and label
    if isinstance(network, ControlledGenerator):
        directions = network.fit(data.cpu(), labels.cpu(), config.seed)
        found = controls_of(data, labels, directions)  # (N, 5)
        ratios = torch.from_numpy(as_ratios(Controls.of(found.cpu().numpy()), data.shape[1] - 1))
        scored = {
            name: (*sequences, controls_of(sequences[0], sequences[1], directions))
            for name, sequences in scored.items()
        }
    network.to(device)
    optimizer = adam(network, config.lr, device)
    session.start(network, optimizer, random)
    if motions is not None and not session.quiet:
        print(
            f"chosen by the training sequences: {choice.get('components', 'no')} coefficients, "
            f"{choice['timing']:.0%} of a label's motion moved to the apex times of all"
        )

    last = data.shape[1] - 1
    # a step for every horizon, or from frame 0
    starts = range(last - 1, -1, -1) if config.start_frames == "every" else (0,)
    scale = data.square().mean().sqrt() if config.normalise_loss else 1.0

    @graphed(device)  # on a GPU a step is recorded once for every start frame, then replayed
    def train_step(targets: Tensor, labels: Tensor, *given: Tensor, key: int) -> Tensor:
        """One optimiser step: the frames after frame ``key``, generated from it, against (M, B, T + 1, L, 3)
        targets.
        """
        optimizer.zero_grad()
        with session.precision():
            difference = (network(targets[0, :, key], labels, last - key, *given) - targets[:, :, key + 1 :]) / scale
            loss = difference.abs().mean() if config.loss == "l1" else difference.square().mean()
        loss = session.backward(loss)
        optimizer.step()
        return loss

    # an epoch: the sequences once or, where they are few for all labels, three times each label
    count, rounds = (len(data), 1) if motions is None else (len(split.labels), 3)
    num_batches = -(-count // config.batch_size) * rounds
    steps_per_epoch = num_batches * len(starts)
    for epoch in session.epochs():
        total, step = torch.zeros((), device=device), (epoch - 1) * steps_per_epoch
        for chosen in chain.from_iterable(session.batches(count) for _ in range(rounds)):
            own = session.rows
            if motions is not None:  # the label does not say when the apex comes
                of_label = chosen
                targets = motions.draw(of_label, config.warps * (config.loss == "l1"), random, own)
            else:
                of_label, targets = labels[chosen], data[chosen]
                if config.controlled:
                    others = other_controls(found[chosen], ratios, last, random)
                    targets, given = retimed(targets, found[chosen], others), (others[own],)
                targets = targets[None, own]  # (1, B, T + 1, L, 3)
            for start in starts:
                step += 1
                set_learning_rate(optimizer, learning_rate(config, step / (config.epochs * steps_per_epoch)))
                total += train_step(targets, of_label[own], *given, key=start)
        session.log({"train/loss": total.item() / num_batches})  # summed over start frames: the number the thesis logs
        if session.validates:
            errors = {name: sequence_errors(network, *sequences) for name, sequences in scored.items()}
            deciding = errors["validation" if config.select == "validation" else "test"]
            session.validated(tagged(errors), rank=(deciding.mse if config.loss == "l2" else deciding.l1,))
    kept = session.kept()
    return session.finish(tagged({name: sequence_errors(kept, *sequences) for name, sequences in scored.items()}))


def train_sampled(plan: training_flags.Plan[Any]) -> dict[str, Any]:
    """Train a model with more than one answer to a label; what metrics.json holds."""
    if isinstance(plan.config, FlowConfig):
        from face4d.generation.flow.train import train as train_flow

        return train_flow(plan.split, plan.config, plan.run)
    from face4d.generation.motion3dgan.train import train as train_motion3dgan

    return train_motion3dgan(plan.split, plan.config, plan.run)


def build_parser() -> cli.Parser:
    parser = cli.parser(__doc__)
    data_flags.add_data_flags(parser, training=True)
    training = parser.add_argument_group("training", "every flag defaults to the preset's value")
    training.add_argument("--model", choices=("lstm", *SAMPLED), default="lstm", help="default: lstm")
    published = "the thesis' network and schedule exactly, published = Motion3DGAN's"
    training_flags.add_preset_flags(training, thesis=published, others=("published",))
    training_flags.add_setting_flags(
        training,
        {
            **PRESETS,
            "motion3dgan": GAN_PRESETS["default"],
            "published": GAN_PRESETS["published"],
            "flow": FLOW_PRESETS["default"],
        },
    )
    gan = parser.add_argument_group("motion3dgan", "every flag defaults to the preset's value")
    training_flags.add_setting_flags(gan, {**GAN_PRESETS, "flow": FLOW_PRESETS["default"]})
    flow = parser.add_argument_group("flow", "every flag defaults to the preset's value")
    training_flags.add_setting_flags(flow, FLOW_PRESETS)
    training_flags.add_output_flags(parser, run="<dataset>_<preset>_<loss>_<lr>_<hidden size>")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if args.grid:
        if args.model != "lstm":
            raise InputError("--grid", "--model lstm with it", args.model)
        from face4d.commands import grid
        from face4d.evaluation.choice import GENERATORS

        grid.run(parser, args, grid.Script("main.py", "generators", PRESETS, THESIS_GRIDS, GENERATORS))
    elif args.model in SAMPLED:
        presets = SAMPLED[args.model]
        others = (PRESETS, *(other for model, other in SAMPLED.items() if model != args.model))
        with training_flags.planned(args, presets, *(other["default"] for other in others)) as plan:
            if args.dry_run:
                return
            metrics = train_sampled(plan)
            scored = "test" if "test/mm" in metrics else "train"  # curves without faces have no test set
            summary = (
                f"{scored} set: one draw {metrics[f'{scored}/mm']:.3f} mm (std {metrics[f'{scored}/mm_std']:.3f}), "
                f"the nearest of ten {metrics[f'{scored}/mm_best']:.3f} mm, "
                f"between two draws {metrics[f'{scored}/multimodality_mm']:.3f} mm; "
                f"weights of epoch {metrics['epoch']}, {metrics['seconds']:.0f} s of training"
            )
            training_flags.report(
                args, plan, summary, "test.py", "--checkpoint", plan.run.checkpoint, "--samples", "10"
            )
    else:
        with training_flags.planned(args, PRESETS, *(presets["default"] for presets in SAMPLED.values())) as plan:
            if args.dry_run:
                return
            metrics = train(plan.split, plan.config, plan.run)
            known = " with the controls of the real sequences" if plan.config.controlled else ""
            summary = (
                f"test set{known}: mse {metrics['test/mse']:.3g} m2, l1 {metrics['test/l1']:.4g} m, "
                f"{metrics['test/mm']:.3f} mm (std {metrics['test/mm_std']:.3f}); "
                f"weights of epoch {metrics['epoch']}, {metrics['seconds']:.0f} s of training"
            )
            training_flags.report(args, plan, summary, "test.py", "--checkpoint", plan.run.checkpoint)


if __name__ == "__main__":
    cli.run(main)
