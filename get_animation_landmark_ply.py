"""Step 3, CoMA_Florence: extract 68 landmarks of every frame and split the sequences by subject as in the thesis.

    python get_animation_landmark_ply.py                    # Dataset_FLAME_Aligned -> Landmark_dataset_flame_aligned
    python get_animation_landmark_ply.py --dataset demo
    python get_animation_landmark_ply.py --input MyMeshes --output MyLandmarks --test-subjects S05 S06
    python get_animation_landmark_ply.py --landmark-embedding my_topology.npz       # npz with face_idx, bary, faces
    python get_animation_landmark_ply.py --plot                 # also a GIF of every sequence

Reads PLY sequences <subject>/<label>/*.ply at any depth, writes <output>/dataset_training and
<output>/dataset_testing with <label>_<subject>.npy, (frames, 68, 3) in metres. Files that exist with the same content
are kept.
"""

from __future__ import annotations

import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path

from face4d.commands import cli, data_flags


def parse_arguments(argv: Sequence[str] | None) -> Namespace:
    """Command line."""
    parser = cli.parser(__doc__)
    paths = parser.add_argument_group("data")
    data_flags.add_dataset_flag(paths, "picks defaults for all of these", "default: florence")
    paths.add_argument(
        "--input", type=Path, metavar="DIR", help="folder with PLY sequences (default: Dataset_FLAME_Aligned)"
    )
    paths.add_argument(
        "--output", type=Path, metavar="DIR", help="landmark folder (default: Landmark_dataset_flame_aligned)"
    )
    paths.add_argument(
        "--labels", nargs="+", metavar="LABEL", help="only these expressions, or all (default: the thesis' ten)"
    )
    paths.add_argument("--test-subjects", nargs="+", metavar="NAME", help="test set (default: CH01 CH02)")
    data_flags.add_extraction_flags(parser)
    cli.add_run_flags(parser, "workers", "backend", "overwrite", "dry-run", "quiet")
    return parser.parse_args(argv)


def main(argv: Sequence[str] | None = None) -> int:
    arguments = parse_arguments(argv)
    from face4d.datasets.extraction import plan_landmarks, write_landmarks
    from face4d.datasets.sampling import Resampling
    from face4d.runtime.parallel import cluster

    dataset = data_flags.chosen_dataset(arguments, "florence")
    meshes = dataset.to_use_as_they_are()
    labels = arguments.labels or data_flags.usual_labels(arguments, dataset)
    output = arguments.output or meshes.landmarks
    train, test = plan_landmarks(
        arguments.input or meshes.folder,
        output,
        labels=labels,
        strict_labels=arguments.labels is not None,
        test_subjects=arguments.test_subjects or data_flags.usual_test_subjects(dataset),
        strict_subjects=arguments.test_subjects is not None,
    )
    embedding = dataset.landmark_embedding(arguments.flame, arguments.landmark_embedding, arguments.contour_angle)
    with cluster(arguments.backend, arguments.scheduler, arguments.workers) as workers:
        options = data_flags.write_options(arguments, workers)
        summary = write_landmarks(train + test, embedding, Resampling(skip_gaps=arguments.skip_gaps), options)
        previews = 0
        if arguments.plot and not arguments.dry_run:
            from face4d.datasets.extraction import write_previews

            previews = write_previews(train + test, options, fps=30).written
    if arguments.dry_run or not arguments.quiet:
        print(
            f"{len(train)} training and {len(test)} test sequences: "
            f"{summary.sentence('landmark files', arguments.dry_run)} in {output}"
        )
    if arguments.dry_run:
        return 0
    cli.report_written(([output] if summary.written else []) + ([output / "previews"] if previews else []))
    cli.suggest_next(arguments, "main.py", *data_flags.words_of_landmarks(arguments, dataset, output))
    return 0


if __name__ == "__main__":
    cli.run(main, sys.argv[1:])
