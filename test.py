"""Step 5: generate landmark sequences with a trained generator.

    python test.py --checkpoint demo/models/demo.pt                        # every sequence of the test set
    python test.py --checkpoint models/florence.pt --landmarks Landmark_dataset_flame_aligned
    python test.py --checkpoint models/florence.pt --actor neutral.ply --label Happy --frames 60 --intensity 1.2
    python test.py --checkpoint models/florence.pt --actor neutral.ply --label all

Writes Generated_Animation/<run>/<subject>_<label>/<label>_<subject>.npy, (frames + 1, 68, 3) absolute landmarks in metres with the
start frame first, and a GIF beside it (for the test set next to the ground truth). One's own face goes to Generated_Animation/<run>_own/.
"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from pathlib import Path

from face4d.datasets import flags
from face4d.datasets.layout import DATASETS
from face4d.runtime import cli


def build_parser() -> ArgumentParser:
    parser = cli.parser(__doc__)
    parser.add_argument("--checkpoint", type=Path, required=True, metavar="FILE", help="generator of main.py, models/<run>.pt")
    flags.add_data_flags(parser, training=False)
    own = parser.add_argument_group("one's own face")
    own.add_argument("--actor", type=Path, metavar="FILE", help="neutral mesh (PLY, OBJ) or its 68 landmarks (npy), metres")
    own.add_argument("--label", nargs="+", metavar="NAME", help="expression, or all")
    motion = parser.add_argument_group("motion")
    motion.add_argument("--frames", type=cli.positive_int, metavar="N", help="frames after the neutral one (default: as trained)")
    motion.add_argument("--intensity", type=float, default=1.0, metavar="X", help="factor on all displacements")
    motion.add_argument("--fps", type=cli.positive_float, default=25.0, help="of the GIF")
    parser.add_argument("--output", type=Path, metavar="DIR", help="default: Generated_Animation/<run>, for one's own face Generated_Animation/<run>_own")
    cli.add_switch(parser, "gif", True, "write a GIF beside every sequence")
    cli.add_run_flags(parser, "device", "overwrite", "dry-run", "quiet")
    return parser


def main(argv: Sequence[str] | None = None) -> None:
    parser = build_parser()
    args = parser.parse_args(argv)
    if (args.actor is None) != (args.label is None):
        parser.error("--actor and --label belong together")

    from face4d.generation.sample import load_generator
    from face4d.runtime.device import resolve_device

    generator = load_generator(args.checkpoint, device=resolve_device(args.device))
    source = flags.DataSource.from_flags(args, generator.source)
    # Own faces apart from the test set, which is scored as a whole.
    args.output = args.output or DATASETS[source.dataset].generated / (args.checkpoint.stem + ("_own" if args.actor else ""))
    written = animate_actor(args, generator, source) if args.actor else animate_test_set(args, generator, source)
    cli.report_written(written)


def animate_actor(args: Namespace, generator, source: flags.DataSource) -> list[Path]:
    """Generate the wanted labels on one neutral face."""
    import numpy as np

    from face4d.datasets.actors import neutral_landmarks, read_points

    points = args.actor.suffix == ".npy"
    neutral = read_points(args.actor) if points else neutral_landmarks(args.actor, source.embedding())  # (68, 3)
    labels = generator.labels if args.label == ["all"] else [generator.labels[generator.label_index(name)] for name in args.label]
    indices = np.array([generator.label_index(label) for label in labels])
    start = np.zeros((len(labels), *neutral.shape), np.float32)
    displacement = args.intensity * generator.generate(start, indices, args.frames)  # (B, T+1, 68, 3)
    items = [(label, args.actor.stem, neutral + moved, None) for label, moved in zip(labels, displacement)]
    return write_all(args, items)


def animate_test_set(args: Namespace, generator, source: flags.DataSource) -> list[Path]:
    """Generate every sequence of the test set from its own first frame."""
    import numpy as np

    from face4d.datasets.landmark_set import stack

    test = source.load(generator.labels).test
    real, indices = stack(test, generator.labels)
    displacement = args.intensity * generator.generate(real[:, 0], indices, args.frames)  # (N, T+1, 68, 3)
    items = []
    for sequence, moved in zip(test, displacement):
        comparable = len(moved) == len(sequence.landmarks)
        items.append((sequence.label, sequence.subject, sequence.neutral + moved, sequence.landmarks if comparable else None))
    write_all(args, items)
    return [args.output]


def write_all(args: Namespace, items) -> list[Path]:
    """Write (label, subject, landmarks, ground truth or None) items; refuse before anything is written."""
    from tqdm import tqdm

    from face4d.generation.sample import write_sequence
    from face4d.view.landmark_view import landmark_gif

    places = [args.output / f"{subject}_{label}" for label, subject, _, _ in items]
    for place in places:
        cli.refuse_overwrite(place, args.overwrite)
    if args.dry_run:
        print(f"would write {len(items)} sequences to {args.output}")
        return []
    for label, subject, landmarks, reference in tqdm(items, "generating", unit="sequence", disable=args.quiet, dynamic_ncols=True):
        def picture(path: Path) -> None:
            landmark_gif(path, landmarks, reference=reference, title=f"{label}, {subject}", fps=args.fps)

        write_sequence(args.output, label, subject, landmarks, picture=picture if args.gif else None)
    return places


if __name__ == "__main__":
    cli.run(main)
