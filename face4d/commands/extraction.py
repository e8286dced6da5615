"""Step 3 for every data set: landmarks of mesh sequences, split by subject, written, drawn, reported."""

from __future__ import annotations

from argparse import Namespace
from pathlib import Path
from typing import TYPE_CHECKING

from face4d.commands import cli, data_flags

if TYPE_CHECKING:
    from face4d.datasets.entry import Dataset
    from face4d.datasets.sampling import Resampling


def extract_landmarks(
    args: Namespace, dataset: Dataset, source: Path, output: Path, resampling: Resampling, *, fps: float
) -> None:
    """Write the landmarks of all sequences of a folder, with ``--plot`` a GIF of each, and print what was written.

    Args:
        args: command line with the flags of :func:`face4d.commands.data_flags.add_extraction_flags`.
        source: folder of mesh sequences.
        output: folder of the landmarks.
        resampling: of the sequences on the way.
        fps: frames per second of the GIFs.

    Raises:
        InputError: no sequences, unknown labels or subjects, meshes that cannot be read.
    """
    from face4d.datasets.extraction import plan_landmarks, write_landmarks, write_previews
    from face4d.runtime.parallel import cluster

    train, test = plan_landmarks(
        source,
        output,
        labels=args.labels or data_flags.usual_labels(args, dataset),
        strict_labels=args.labels is not None,
        test_subjects=args.test_subjects or data_flags.usual_test_subjects(dataset),
        strict_subjects=args.test_subjects is not None,
    )
    embedding = dataset.landmark_embedding(args.flame, args.landmark_embedding, args.contour_angle)
    with cluster(args.backend, args.scheduler, args.workers) as workers:
        options = data_flags.write_options(args, workers)
        summary = write_landmarks(train + test, embedding, resampling, options)
        drawn = write_previews(train + test, options, fps=fps).written if args.plot and not args.dry_run else 0
    if args.dry_run or not args.quiet:
        print(
            f"{len(train)} training and {len(test)} test sequences: "
            f"{summary.sentence('landmark files', args.dry_run)} in {output}"
        )
    if not args.dry_run:
        cli.report_written(([output] if summary.written else []) + ([output / "previews"] if drawn else []))
        cli.suggest_next(args, "main.py", *data_flags.words_of_landmarks(args, dataset, output))
